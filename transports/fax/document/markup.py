"""Text, headings and cover pages as HTML, for transports.fax.document.html to draw.

Lines of plain text stay lines, in a font of one width, eighty to the page; each stretch runs in the direction of its
first letter, as HTML's dir="auto" has it.  A form feed begins a page.
"""

from __future__ import annotations

import html
import string
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from transports.fax.document.wish import Cover

LONGEST_BLOCK = 100
"""Lines: each change of the page costs time that grows with the block."""
_TEMPLATE = Path(__file__).with_name("cover.html")


def from_text(text: str) -> str:
    pages = text.replace("\r", "\n").strip("\n\f").split("\f")
    return "<hr class='page'>".join(
        "".join(f"<pre dir='{way}'>{html.escape(block)}\n</pre>" for way, block in _blocks(page)) for page in pages
    )


def from_heading(fields: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}:</th><td dir='{direction(value) or 'ltr'}'>{html.escape(value)}</td></tr>"
        for name, value in fields
    )
    return f"<table class='mail-heading'>{rows}</table>" if rows else ""


def from_cover(cover: Cover, pages: int) -> str:
    """Its template filled in.  What the template does not know stays as it is."""
    values = {name: getattr(cover, name) for name in ("to", "sender", "subject", "attn", "date", "comments")}
    values["pages"] = str(cover.pages if cover.pages is not None else pages)
    template = cover.template or _TEMPLATE.read_text("utf-8")
    safe = {name: html.escape(value).replace("\n", "<br>") for name, value in values.items()}
    return string.Template(template).safe_substitute(safe)


def from_header_line(line: str, pages: int) -> str:
    """As many pages with nothing but the line."""
    template = string.Template(line)
    return "".join(
        f"<section>{html.escape(template.safe_substitute(page=page, pages=pages))}</section>"
        for page in range(1, pages + 1)
    )


def direction(text: str) -> str:
    """"ltr", "rtl", or "" if there is no letter."""
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return ""


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Stretches of lines of one direction; lines without letters go with what stands before them."""
    way, lines = "", list[str]()
    for line in text.split("\n"):
        own = direction(line)
        if lines and (len(lines) == LONGEST_BLOCK or own and way and own != way):
            yield way or "ltr", "\n".join(lines)
            way, lines = "", []
        way = way or own
        lines.append(line)
    yield way or "ltr", "\n".join(lines)
