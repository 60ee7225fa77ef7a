"""Pictures: read with limits, and made ready for black and white.

``open_image`` takes PNG, JPEG, GIF, WebP, BMP and TIFF, the frames of a TIFF one by one, no more than MOST_PIXELS each
(a bomb of 10,000 × 10,000 dots is refused by its header).  ``grey`` turns them as their EXIF says, puts transparent
ones on white, and makes them no larger than a page has dots.  Raises BadImage with a reason for people.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

MOST_PIXELS = 50_000_000
LONGEST_SIDE = 3000
"""Dots; a page of a fax has 1728 × 2292."""
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
FAX_WIDTH = 1728
_FAX_LINES = {"fine": (190, 202), "normal": (95, 101)}
"""Lines an inch that are taken for the one or the other."""
_SVG = re.compile(rb"\s*(<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>|\s)*<svg[\s>]", re.DOTALL | re.IGNORECASE)

warnings.simplefilter("ignore", Image.DecompressionBombWarning)
Image.MAX_IMAGE_PIXELS = None  # open_image looks itself, and says so in its own words


class BadImage(Exception):
    """A reason for people."""


def open_image(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check(image)
        return image
    except BadImage:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for broken files
        raise BadImage(_reason(error)) from None


def frames(image: Image.Image) -> Iterator[Image.Image]:
    """A TIFF's pages; the first picture of anything that moves."""
    try:
        if image.format != "TIFF":
            yield image
            return
        for frame in ImageSequence.Iterator(image):
            _check(frame)
            yield frame
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow raises a dozen kinds for broken files
        raise BadImage(_reason(error)) from None


def grey(image: Image.Image, side: int = LONGEST_SIDE) -> Image.Image:
    """In shades of grey, upright, on white, no longer than ``side``."""
    try:
        if image.format == "JPEG":
            image.draft("L", (side, side))
        if image.mode.startswith("I") or image.mode == "F":
            image = _of_many_bits(image)
        image = ImageOps.exif_transpose(image)
        if image.mode != "1" and max(image.size) > side:
            if image.mode == "P":
                image = image.convert("RGBA")
            image.thumbnail((side, side))
        if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("L")
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow raises a dozen kinds for broken files
        raise BadImage(_reason(error)) from None


def as_png(data: bytes) -> bytes:
    """For a page to show."""
    result = io.BytesIO()
    grey(open_image(data), FAX_WIDTH).save(result, "PNG", compress_level=1)
    return result.getvalue()


def is_svg(data: bytes) -> bool:
    return _SVG.match(data[:4096]) is not None


def dots_an_inch(image: Image.Image) -> float:
    """Across, as the file says; 0 if it doesn't, or cannot be right."""
    try:
        dots = float(image.info.get("dpi", (0, 0))[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 0
    return dots if 50 <= dots <= 2400 else 0


def fax_resolution(image: Image.Image) -> str:
    """"fine" or "normal" if this is a page of TIFF-F as a fax machine sends it, else ""."""
    if image.format not in ("TIFF", None) or image.mode != "1" or image.width != FAX_WIDTH:
        return ""
    try:
        lines = float(image.info["dpi"][1])
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return ""
    return next((name for name, (least, most) in _FAX_LINES.items() if least <= lines <= most), "")


def _of_many_bits(image: Image.Image) -> Image.Image:
    """16 or 32 bits a dot, whose range nothing tells: from the darkest to the lightest."""
    least, most = image.convert("F").getextrema()
    span = float(most) - float(least) or 1.0  # type: ignore[arg-type]
    return image.convert("F").point(lambda value: value * (255 / span) - float(least) * 255 / span).convert("L")  # type: ignore[arg-type]


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadImage(f"it has {width} × {height} dots, more than {MOST_PIXELS // 1_000_000} million")
    if not width or not height:
        raise BadImage("it has no dots")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or no picture of a kind that is known"
    return f"it is damaged ({str(error) or type(error).__name__})"
