"""A fax that came in, as HylaFAX keeps it (TIFF): what is known of the call, and its pages as PDF.

HylaFAX writes what it knows into TIFF's own fields: the sender's identification and what the exchange told of the call
into ImageDescription, a line each; sub-address and seconds into private ones (34909, 34910).  The pages go into the PDF
dot by dot, each as large as it was on paper.  Raises BadFax for what is no such file, Missing where Pillow is not
installed.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_PAGES = 1000
MOST_DOTS = 2500 * 30_000
"""Of a page: a roll of nearly four metres, finely resolved."""
UNKNOWN = frozenset({"", "<NONE>", "<UNKNOWN>", "<UNSPECIFIED>"})

_DESCRIPTION, _DATE, _X, _Y, _SUBADDRESS, _SECONDS = 270, 306, 282, 283, 34909, 34910
_STRIPS, _PHOTOMETRIC = 273, 262
_UNSAFE = re.compile(r"[^ -~]")
_QUALITIES = ((150.0, "normal"), (300.0, "fine"))


class BadFax(Exception):
    """One line."""


class Missing(Exception):
    """One line."""


@dataclass(slots=True, frozen=True)
class Received:
    sender: str
    """What its machine says; "" = nothing."""
    calls: tuple[str, ...]
    """What the exchange says: usually the caller's number, his name, what he has called."""
    subaddress: str
    date: str
    """YYYY-MM-DD HH:MM:SS, local time."""
    pages: int
    seconds: int
    quality: str
    pdf: bytes


def read(path: Path) -> Received:
    try:
        from PIL import Image
    except ImportError:
        raise Missing("package Pillow is not installed: pip install mailgateway[fax]") from None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=["TIFF"]) as image:
            pages = int(getattr(image, "n_frames", 1))
            if pages > MOST_PAGES:
                raise BadFax(f"{pages} pages")
            tags: Any = getattr(image, "tag_v2", {})
            told = [_line(text) for text in str(tags.get(_DESCRIPTION, "")).split("\n")]
            lines = float(tags.get(_Y, 0.0))
            quality = next((name for most, name in _QUALITIES if lines < most), "superfine")
            return Received(
                sender=told[0], calls=tuple(told[1:]), subaddress=_line(str(tags.get(_SUBADDRESS, ""))),
                date=re.sub(r"^([0-9]{4}):([0-9]{2}):", r"\1-\2-", _line(str(tags.get(_DATE, "")))),
                pages=pages, seconds=_number(tags.get(_SECONDS)), quality=quality, pdf=_pdf(list(_pages(image))),
            )
    except BadFax:
        raise
    except Exception as error:  # what a broken picture does to who reads it, nobody can list
        raise BadFax(f"{path.name} cannot be read: {type(error).__name__}: {_line(str(error))}") from None


def _line(text: str) -> str:
    text = _UNSAFE.sub("?", text.strip())[:100]
    return "" if text in UNKNOWN else text


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


# --- pages --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class _Page:
    columns: int
    rows: int
    width: float
    height: float
    """Points."""
    data: bytes
    """Group 4."""
    inverted: bool


def _pages(image: Any) -> Iterator[_Page]:
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        columns, rows = image.size
        if columns * rows > MOST_DOTS:
            raise BadFax(f"page {number + 1} has {columns} × {rows} dots")
        x, y = (float(image.tag_v2.get(tag, 0.0)) or 204.0 for tag in (_X, _Y))
        file = io.BytesIO()
        image.convert("1").save(file, "TIFF", compression="group4", tiffinfo={278: rows})
        yield _Page(columns, rows, columns * 72 / x, rows * 72 / y, *_strip(file))


def _strip(file: io.BytesIO) -> tuple[bytes, bool]:
    """The data of a TIFF that we have made, and whether black is white in it."""
    from PIL import Image

    file.seek(0)
    with Image.open(file, formats=["TIFF"]) as image:
        tags: Any = getattr(image, "tag_v2", {})
        whole = file.getvalue()
        data = b"".join(whole[at : at + size] for at, size in zip(tags[_STRIPS], tags[279], strict=True))
        return data, tags[_PHOTOMETRIC] == 1


def _pdf(pages: list[_Page]) -> bytes:
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % (3 + 3 * at) for at in range(len(pages)))),
    ]
    for at, page in enumerate(pages):
        first = 3 + 3 * at
        box = b"%.2f %.2f" % (page.width, page.height)
        drawn = b"q %.2f 0 0 %.2f 0 0 cm /I Do Q" % (page.width, page.height)
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %s] /Contents %d 0 R "
            b"/Resources << /XObject << /I %d 0 R >> >> >>"
            % (box, first + 1, first + 2),
            _stream(b"", drawn),
            _stream(
                b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 1 /ColorSpace /DeviceGray "
                b"/Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns %d /Rows %d >>%s"
                % (page.columns, page.rows, page.columns, page.rows, b" /Decode [1 0]" * page.inverted),
                page.data,
            ),
        ]
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _stream(attributes: bytes, data: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (attributes, len(data), data)
