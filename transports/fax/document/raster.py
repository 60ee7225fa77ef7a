"""The pages as dots: PDF to TIFF-F by pdfium, and page one as a small picture.

A line has 1728 dots at 204 an inch, a page 196 or 98 lines an inch (ITU-T T.4; RFC 2306, RFC 3949): paper keeps its
true size, centred on the line.  Grey is dithered (Floyd and Steinberg) after a curve that makes dark text black and
light ground white, so that only pictures are dithered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from transports.fax.document.assemble import PICTURE, THUMBNAIL, TIFF
from transports.fax.document.binder import HEADER
from transports.fax.document.html import SIZES
from transports.fax.document.images import FAX_WIDTH, fax_resolution
from transports.fax.document.tiff import FaxTiff
from transports.fax.document.wish import Wish

DOTS = 204
LINES = {"fine": 196, "normal": 98}
LENGTHS = {"a4": 296, "letter": 279}
"""Millimetres that are sent, in whole ones as HylaFAX counts them: a page longer than that it converts again."""
THUMBNAIL_WIDTH = 360
"""Dots across."""
BLACK, WHITE = 88, 236
"""Shades that are taken for black and for white."""
_CURVE = [min(255, max(0, round((shade - BLACK) * 255 / (WHITE - BLACK)))) for shade in range(256)]


class Raster:
    """The pages of one PDF."""

    def __init__(self, pdf: Path, wish: Wish, frames: dict[int, Image.Image]) -> None:
        """``frames``: pages that come with their own dots."""
        self._pdf = pypdfium2.PdfDocument(pdf)
        self._wish = wish
        self._frames = frames
        width, height = SIZES[wish.paper]
        self._lines = LINES[wish.resolution]
        self._size = round(width / 25.4 * DOTS), round(height / 25.4 * self._lines)
        self._length = int(LENGTHS[wish.paper] / 25.4 * self._lines)

    def write(self, folder: Path) -> int:
        """The files in there; how many pages there are."""
        with (folder / TIFF).open("wb") as file:
            tiff = FaxTiff(file, len(self._pdf))
            for number, page in enumerate(self._pages(), 1):
                tiff.add(page, DOTS, self._lines)
                if self._wish.pictures:
                    page.save(folder / PICTURE.format(number), "PNG", dpi=(DOTS, self._lines))
        self._thumbnail(folder / THUMBNAIL)
        return len(self._pdf)

    def _pages(self) -> Iterator[Image.Image]:
        for at in range(len(self._pdf)):
            frame = self._frames.get(at)
            if frame is None:
                yield self.render(at).point(_CURVE).convert("1")
            elif self._wish.header_line:
                yield self._with_header(self._fit(frame), self.render(at))
            else:
                yield self._fit(frame)

    def render(self, at: int) -> Image.Image:
        """In grey, as wide as a line."""
        width, height = self._size
        page = self._pdf[at]
        bitmap = pypdfium2.PdfBitmap.new_native(FAX_WIDTH, self._length, pdfium.FPDFBitmap_Gray)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, FAX_WIDTH, self._length)
        left = (FAX_WIDTH - width) // 2
        flags = pdfium.FPDF_GRAYSCALE | pdfium.FPDF_PRINTING
        pdfium.FPDF_RenderPageBitmap(bitmap, page, left, 0, width, height, 0, flags)
        image = bitmap.to_pil().convert("L")
        page.close()
        return image

    def _fit(self, frame: Image.Image) -> Image.Image:
        """With as many lines an inch as are wished for."""
        theirs = fax_resolution(frame)
        if theirs == self._wish.resolution:
            return frame
        return frame.resize((FAX_WIDTH, round(frame.height * self._lines / LINES[theirs])))

    def _with_header(self, frame: Image.Image, page: Image.Image) -> Image.Image:
        strip = page.crop((0, 0, FAX_WIDTH, round((HEADER - 1) / 25.4 * self._lines)))
        frame = frame.copy()
        frame.paste(strip.point(_CURVE).convert("1"), (0, 0))
        return frame

    def _thumbnail(self, path: Path) -> None:
        image = self.render(0)
        height = round(image.height * DOTS / self._lines * THUMBNAIL_WIDTH / image.width)
        image = image.resize((THUMBNAIL_WIDTH, height), Image.Resampling.LANCZOS)
        image.save(path, "PNG", optimize=True)
