"""HTML to PDF by WeasyPrint: real shaping (Pango, HarfBuzz), no scripts, no network, no files.

Images come from the message itself (cid:, Content-Location, data:) and pass through transports.fax.document.images;
everything else that a page asks for is refused, and its alternative text shown.  What is printed is for a line of black
and white: text and borders are black, backgrounds are left out.  A page that is wider than the paper is drawn on a
wider sheet, which is made smaller afterwards.  Characters without a glyph: transports.fax.document.fonts.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, unquote_to_bytes
from xml.etree.ElementTree import Element

import weasyprint
from weasyprint.urls import URLFetcher, URLFetcherResponse

from transports.fax.document import images
from transports.fax.document.fonts import Fonts
from transports.fax.document.markup import direction
from transports.fax.document.wish import Paper

SIZES = {"a4": (210.0, 297.0), "letter": (215.9, 279.4)}
"""Millimetres."""
MARGINS = (16.0, 18.0)
"""Above and below, beside the text."""
WIDEST = 2.5
"""How many times wider than the paper a sheet may get: what is made smaller still cannot be read."""
LETTERS_A_PAGE = 20_000
"""No page has more, so a text that is too long is known before it is drawn."""

_DOTS = 25.4 / 96
"""Millimetres of a CSS px."""
_GONE = {"script", "noscript", "iframe", "object", "embed", "applet", "base", "link", "frame", "frameset", "template",
         "audio", "video", "source", "track"}
_LONG_WORD, _SOME_LETTERS = re.compile("[!-~]{40,}"), re.compile(".{20}")
_UNSEEN = {"style", "title", "head", "meta"}
_STYLE = """
html { font: 10.5pt/1.3 "DejaVu Sans", sans-serif; hyphens: manual }
body { margin: 0 !important; padding: 0 !important; overflow-wrap: break-word; width: auto !important }
* { color: #000 !important; background: none !important; border-color: #000 !important; box-shadow: none !important;
    text-shadow: none !important; opacity: 1 !important; page: auto !important }
img, svg { max-width: 100%; max-height: 240mm }
pre { font: 10pt/1.25 "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0;
      tab-size: 8 }
hr.page { break-after: page; visibility: hidden; margin: 0 }
blockquote { border-left: 1pt solid #000; margin: 0 0 0 2mm !important; padding-left: 3mm !important }
.mail-heading { border-bottom: 1pt solid; margin-bottom: 5mm; padding-bottom: 2mm; width: 100% }
.mail-heading th { text-align: left; vertical-align: top; padding: 0 3mm 0 0; width: 1%; white-space: nowrap }
.mail-heading td { padding: 0 }
"""
_HEADER_STYLE = """
section { break-after: page; font: 8pt "DejaVu Sans", sans-serif; white-space: pre; overflow: hidden }
section:last-child { break-after: auto }
"""

logging.getLogger("weasyprint").disabled = True
logging.getLogger("fontTools").disabled = True


class Fetcher(URLFetcher):
    """What a page may show: what came with it."""

    def __init__(self, own: Mapping[str, bytes]) -> None:
        super().__init__(allowed_protocols=())
        self._own = {key.lower(): data for key, data in own.items()}
        self.trouble: images.BadImage | None = None
        """What is wrong with a picture that came along."""

    def fetch(self, url: str, headers: object = None) -> URLFetcherResponse:
        """Raises ValueError: WeasyPrint goes on without the picture then."""
        data = _unpack(url) if url[:5].lower() == "data:" else self._own.get(unquote(url).lower())
        if data is None:
            raise ValueError("nothing is fetched from elsewhere")
        if images.is_svg(data):
            return URLFetcherResponse(url, data, {"Content-Type": "image/svg+xml"})
        try:
            return URLFetcherResponse(url, images.as_png(data), {"Content-Type": "image/png"})
        except images.BadImage as error:
            if url[:5].lower() != "data:":  # those are ornaments, and dots that count readers
                self.trouble = images.BadImage(f"a picture in it: {error}")
            raise ValueError("it is damaged") from None


class Press:
    """Draws for one paper."""

    def __init__(self, paper: Paper, fonts: Fonts) -> None:
        self._width, self._height = SIZES[paper]
        self._fonts = fonts

    def draw(self, markup: str, own: Mapping[str, bytes], *, top: str = "", language: str = "") -> bytes:
        """``markup`` as a PDF, with ``top`` (markup of ours) in front.  Raises NoFont, BadImage, RecursionError."""
        fetcher = Fetcher(own)
        source = weasyprint.HTML(string=markup, url_fetcher=fetcher, base_url="none:")
        self._prepare(source.etree_element, top, language)
        document = self._render(source, 1.0)
        needed = self._width_needed(document)
        if needed > 1.0:
            document = self._render(source, needed)
        pdf = bytes(document.write_pdf())
        if fetcher.trouble:
            raise fetcher.trouble
        return pdf

    def header_lines(self, markup: str) -> bytes:
        """A PDF with the header line of each page at its top."""
        sheet = f"@page {{ size: {self._width}mm {self._height}mm; margin: 4mm 10mm 0 10mm }} {_HEADER_STYLE}"
        source = weasyprint.HTML(string=self._fonts.legible(markup), url_fetcher=Fetcher({}), base_url="none:")
        return bytes(source.write_pdf(stylesheets=[weasyprint.CSS(string=sheet)]))

    def _render(self, source: weasyprint.HTML, scale: float) -> weasyprint.Document:
        """On a sheet so many times larger than the paper."""
        above, beside = (one * scale for one in MARGINS)
        page = f"size: {self._width * scale}mm {self._height * scale}mm !important"
        style = f"@page {{ {page}; margin: {above}mm {beside}mm !important }} {_STYLE}"
        sheet = weasyprint.CSS(string=f"{style} .mail-heading {{ font-size: {10 * scale}pt }}")
        return source.render(stylesheets=[sheet], presentational_hints=True)

    def _width_needed(self, document: weasyprint.Document) -> float:
        """Which scale would have room for the widest thing on the pages."""
        right = (self._width - MARGINS[1]) / _DOTS
        widest = right
        for page in document.pages:
            for box in page._page_box.descendants():
                if getattr(box, "text", "").strip() or hasattr(box, "replacement"):
                    widest = max(widest, box.position_x + box.width)
        return min(widest / right * 1.02, WIDEST) if widest > right * 1.01 else 1.0

    def _prepare(self, root: Element, top: str, language: str) -> None:
        for parent in list(root.iter()):
            for child in list(parent):
                if _tag(child) in _GONE:
                    _remove(parent, child)
        for element in root.iter():
            if not isinstance(element.tag, str):
                continue  # a comment
            if _tag(element) not in _UNSEEN and element.text:
                element.text = self._legible(element.text)
            if element.tail:
                element.tail = self._legible(element.tail)
            if element.get("alt"):
                element.set("alt", self._fonts.legible(element.get("alt", "")))
            if element.get("dir", "").lower() == "auto":
                element.set("dir", direction("".join(element.itertext())) or "ltr")
        if language and not root.get("lang"):
            root.set("lang", language)
        body = next((one for one in root.iter() if _tag(one) == "body"), None)
        if top and body is not None:
            heading = weasyprint.HTML(string=self._fonts.legible(top)).etree_element
            front = next(one for one in heading.iter() if _tag(one) == "body")[0]
            front.tail, body.text = body.text, None
            body.insert(0, front)


    def _legible(self, text: str) -> str:
        """With places to break in words (addresses of pages, mostly) that would make a table wider than the paper."""
        return _LONG_WORD.sub(lambda word: _SOME_LETTERS.sub("\\g<0>\u200b", word[0]), self._fonts.legible(text))


def visible(markup: str) -> bool:
    """Whether there is anything to see without what would come from elsewhere."""
    if re.search(r"<(img|svg|image)\b[^>]*?(cid:|data:|<)|<svg\b", markup, re.IGNORECASE):
        return True
    return any(text.strip() for text in _texts(weasyprint.HTML(string=markup, base_url="none:").etree_element))


def _texts(element: Element) -> Iterator[str]:
    if not isinstance(element.tag, str) or _tag(element) in _GONE | _UNSEEN - {"head"}:
        return
    yield element.text or ""
    for child in element:
        yield from _texts(child)
        yield child.tail or ""


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _remove(parent: Element, child: Element) -> None:
    """With its tail kept."""
    at = list(parent).index(child)
    if child.tail:
        if at:
            parent[at - 1].tail = (parent[at - 1].tail or "") + child.tail
        else:
            parent.text = (parent.text or "") + child.tail
    parent.remove(child)


def _unpack(url: str) -> bytes | None:
    """RFC 2397."""
    facts, comma, content = url[5:].partition(",")
    if not comma:
        return None
    if facts.lower().rstrip().endswith(";base64"):
        try:
            return base64.b64decode("".join(unquote(content).split()) + "==")
        except binascii.Error:
            return None
    return unquote_to_bytes(content)
