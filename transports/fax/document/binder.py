"""Binds what was drawn into one PDF, a sheet of the wished paper for each page, and nothing else in it.

What comes in as PDF (our own or a stranger's) is put on new sheets as a picture of the page (a form XObject): made
smaller where it is larger than the paper, turned where it is wider than high, with the marks of forms and notes printed
into it.  So nothing that a PDF may do (JavaScript, actions, attachments, links) comes along.  Pages of TIFF-F are also
kept as they are, dot for dot, for the TIFF.  Raises BadPdf with a reason for people, TooMany for too many pages.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import pikepdf
from PIL import Image

from transports.fax.document.html import SIZES
from transports.fax.document.wish import Wish

HEADER = 9.0
"""Millimetres at the top of foreign pages that are left for the header line."""
_POINTS = 72 / 25.4
_MOST_ENLARGED = 96
"""Dots an inch of a picture that does not tell its size."""


class BadPdf(Exception):
    """A reason for people."""


class TooMany(Exception):
    """More pages than are wished for."""


class Binder:
    def __init__(self, wish: Wish) -> None:
        width, height = SIZES[wish.paper]
        self._width, self._height = width * _POINTS, height * _POINTS
        self._sheet = pikepdf.Rectangle(0, 0, self._width, self._height)
        self._most = wish.max_pages
        self._top = HEADER * _POINTS if wish.header_line else 0.0
        self._pdf = pikepdf.new()
        self.frames: dict[int, Image.Image] = {}
        """Pages, counted from 0, whose dots are to be sent as they are."""

    def __len__(self) -> int:
        return len(self._pdf.pages)

    def add_own(self, data: bytes) -> int:
        """A PDF with margins of its own.  How many pages it has."""
        return self._add(data, 0.0)

    def add_foreign(self, data: bytes) -> int:
        return self._add(data, self._top)

    def add_picture(self, picture: Image.Image, dots: float = 0) -> None:
        """In grey; ``dots`` an inch, 0 = that is not known.  Never enlarged, never larger than the paper."""
        scale = 72 / (dots or _MOST_ENLARGED)
        width, height = picture.width * scale, picture.height * scale
        margin = 24.0
        room_across, room_up = self._width - 2 * margin, self._height - 2 * margin - self._top
        fit = min(1.0, room_across / width, room_up / height)
        width, height = width * fit, height * fit
        self._paint(picture, (self._width - width) / 2, self._height - margin - self._top - height, width, height)

    def add_frame(self, frame: Image.Image) -> None:
        """A page of TIFF-F, over the whole width of a line of fax."""
        across = 1728 / 204 * 72
        up = frame.height / (196 if frame.info["dpi"][1] > 150 else 98) * 72
        self.frames[len(self)] = frame
        self._paint(frame, (self._width - across) / 2, self._height - up, across, up)

    def put_in_front(self, data: bytes) -> None:
        """The cover."""
        behind, self._pdf = self._pdf, pikepdf.new()
        count = self._add(data, 0.0)
        self._pdf.pages.extend(behind.pages)
        self.frames = {at + count: frame for at, frame in self.frames.items()}

    def cut(self, count: int) -> None:
        """Keep so many pages."""
        del self._pdf.pages[count:]
        self.frames = {at: frame for at, frame in self.frames.items() if at < count}

    def stamp(self, lines: bytes) -> None:
        """The header lines, one for each page."""
        with pikepdf.open(io.BytesIO(lines)) as pdf:
            for page, line in zip(self._pdf.pages, pdf.pages, strict=False):
                page.add_overlay(line, self._sheet)

    def save(self, path: Path) -> None:
        self._pdf.save(path, compress_streams=True, object_stream_mode=pikepdf.ObjectStreamMode.generate)

    def _add(self, data: bytes, top: float) -> int:
        try:
            with pikepdf.open(io.BytesIO(data), suppress_warnings=True) as pdf:
                count = len(pdf.pages)
                if not count:
                    raise BadPdf("it has no pages")
                if len(self) + count > self._most:
                    raise TooMany
                if "/AcroForm" in pdf.Root and not self._appearances(pdf):
                    raise BadPdf("it is a form of a kind (XFA) that only Adobe's programs show")
                pdf.flatten_annotations("print")
                for page in pdf.pages:
                    self._place(pikepdf.Page(page), top)
                return count
        except pikepdf.PasswordError:
            raise BadPdf("it is encrypted, and takes a password") from None
        except (pikepdf.PdfError, pikepdf.DataDecodingError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadPdf(f"it is damaged ({str(error) or type(error).__name__})") from None

    @staticmethod
    def _appearances(pdf: pikepdf.Pdf) -> bool:
        """Whether its pages are real: a form in XFA only has one that says "please wait"."""
        form = pdf.Root.AcroForm
        if "/XFA" in form and len(form.get("/Fields", [])) == 0 and "/NeedsRendering" in pdf.Root:
            return False
        if form.get("/NeedAppearances", False):
            pdf.generate_appearance_streams()
        return True

    def _place(self, page: pikepdf.Page, top: float) -> None:
        """On a new sheet, below ``top``."""
        left, bottom, right, upper = map(float, page.trimbox)
        across, up = right - left, upper - bottom
        if int(page.obj.get("/Rotate", 0)) % 180 == 90:
            across, up = up, across
        if across <= 0 or up <= 0:
            raise BadPdf("a page of it has no size")
        if across > up:
            page.rotate(90, relative=True)
            across, up = up, across
        fit = min(1.0, self._width / across, (self._height - top) / up)
        left = (self._width - across * fit) / 2
        bottom = (self._height - top - up * fit) / 2
        sheet = self._pdf.add_blank_page(page_size=(self._width, self._height))
        sheet.add_overlay(page, pikepdf.Rectangle(left, bottom, left + across * fit, bottom + up * fit))

    def _paint(self, picture: Image.Image, left: float, bottom: float, width: float, height: float) -> None:
        """A page with a picture, without loss."""
        if len(self) + 1 > self._most:
            raise TooMany
        bits = 1 if picture.mode == "1" else 8
        image = pikepdf.Stream(
            self._pdf, zlib.compress(picture.tobytes(), 6), Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image,
            Width=picture.width, Height=picture.height, ColorSpace=pikepdf.Name.DeviceGray, BitsPerComponent=bits,
            Filter=pikepdf.Name.FlateDecode,
        )
        sheet = self._pdf.add_blank_page(page_size=(self._width, self._height))
        name = sheet.add_resource(image, pikepdf.Name.XObject)
        sheet.contents_add(f"q {width:.4f} 0 0 {height:.4f} {left:.4f} {bottom:.4f} cm {name} Do Q".encode("ascii"))
