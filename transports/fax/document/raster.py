"""The pages as dots: PDF to TIFF-F by pdfium, and page one as a small picture.

A line has 1728 dots at 204 an inch, a page 196 or 98 lines an inch (ITU-T T.4; RFC 2306, RFC 3949): paper keeps its
true size, centred on the line.  ``black_and_white`` dithers what is grey (Floyd and Steinberg), and cuts the soft edges
of letters and lines in two, so that they are not frayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageFilter

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
EDGE = 160
"""At the edge of a letter all that is darker is black: a little fat, for thin strokes to stay."""
BLOCK = 4
"""Dots: a grey field is larger than that, the edge of a letter narrower."""
LIGHT, ALMOST_WHITE, GRAIN = 180, 250, 24
"""What may be the ground of a scanned page, and how much it varies."""
_CURVE = [min(255, max(0, round((shade - BLACK) * 255 / (WHITE - BLACK)))) for shade in range(256)]
_IS_GREY = [255 if BLACK < shade < WHITE else 0 for shade in range(256)]
_IS_LIGHT = [255 if shade > EDGE else 0 for shade in range(256)]
_ALL_BUT_ONE = [255 if part > 235 else 0 for part in range(256)]


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
                yield black_and_white(self.render(at))
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
        frame.paste(black_and_white(strip), (0, 0))
        return frame

    def _thumbnail(self, path: Path) -> None:
        image = self.render(0)
        height = round(image.height * DOTS / self._lines * THUMBNAIL_WIDTH / image.width)
        image = image.resize((THUMBNAIL_WIDTH, height), Image.Resampling.LANCZOS)
        image.save(path, "PNG", optimize=True)


def black_and_white(page: Image.Image) -> Image.Image:
    """Of shades of grey."""
    page = _on_white(page)
    sharp = page.point(_IS_LIGHT)
    # Where all dots of a block but one are grey, and around it, is a picture or a grey ground.
    fields = page.point(_IS_GREY).reduce(BLOCK).point(_ALL_BUT_ONE).filter(ImageFilter.MaxFilter(3))
    if fields.getbbox():
        area = fields.resize((fields.width * BLOCK, fields.height * BLOCK), Image.Resampling.NEAREST).crop(
            (0, 0, *page.size)
        )
        sharp.paste(page.point(_CURVE).convert("1").convert("L"), (0, 0), area)
    return sharp.convert("1", dither=Image.Dither.NONE)


def _on_white(page: Image.Image) -> Image.Image:
    """Scanned paper is grey, and takes ten times as long to send as white: if most of what is not white is one light
    shade, that is the ground, and made white."""
    counts = page.histogram()[:ALMOST_WHITE]
    ground = max(range(ALMOST_WHITE), key=lambda shade: counts[shade])
    if ground < LIGHT or sum(counts[ground - GRAIN :]) < 0.6 * sum(counts):
        return page
    return page.point([min(255, round(shade * 255 / (ground - GRAIN))) for shade in range(256)])
