"""Writes TIFF for fax in its smallest common form (RFC 3949, Profile S; the minimum of RFC 2306's TIFF-F): Modified
Huffman (Group 3 in one dimension), 1728 dots a line, white is zero, lines' ends at bytes, bits from the lowest on, one
strip a page.  Any fax server sends it as it stands.

Pillow compresses; the file is written here because Pillow knows neither the order of bits nor the numbers of pages.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import Image, ImageChops, TiffImagePlugin

_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2
_FORMATS = {_SHORT: "H", _LONG: "I"}
_T4_OPTIONS, _ENDS_AT_BYTES = 292, 4
_SOFTWARE = b"mailgateway\0"
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class FaxTiff:
    """Pages into a file that can be sought in, one by one."""

    def __init__(self, file: BinaryIO, pages: int) -> None:
        self._file = file
        self._pages = pages
        self._written = 0
        file.write(b"II*\0" + bytes(4))
        self._link = 4
        """Where the place of the next page's directory goes."""

    def add(self, page: Image.Image, across: int, down: int) -> None:
        """A page of black and white; ``across`` and ``down``: dots an inch."""
        strip = _compressed(page)
        resolutions = self._put(struct.pack("<4I", across, 1, down, 1))
        software = self._put(_SOFTWARE)
        data = self._put(strip)
        directory = self._put(
            _directory(
                (254, _LONG, 2), (256, _SHORT, page.width), (257, _SHORT, page.height), (258, _SHORT, 1),
                (259, _SHORT, 3), (262, _SHORT, 0), (266, _SHORT, 2), (273, _LONG, data), (274, _SHORT, 1),
                (277, _SHORT, 1), (278, _SHORT, page.height), (279, _LONG, len(strip)), (282, _RATIONAL, resolutions),
                (283, _RATIONAL, resolutions + 8), (_T4_OPTIONS, _LONG, _ENDS_AT_BYTES), (296, _SHORT, 2),
                (297, _SHORT, self._written, self._pages), (305, _ASCII, software),
            )
        )
        self._file.seek(self._link)
        self._file.write(struct.pack("<I", directory))
        self._link = self._file.seek(0, io.SEEK_END) - 4
        self._written += 1

    def _put(self, data: bytes) -> int:
        """At the end of the file; the place."""
        place = self._file.seek(0, io.SEEK_END)
        self._file.write(data + b"\0" * (len(data) % 2))
        return place


def _directory(*entries: tuple[int, ...]) -> bytes:
    parts = [struct.pack("<H", len(entries))]
    for tag, kind, *values in entries:
        count = {_ASCII: len(_SOFTWARE)}.get(kind, len(values))
        value = b"".join(struct.pack("<" + _FORMATS.get(kind, "I"), one) for one in values)
        parts.append(struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0"))
    return b"".join(parts) + bytes(4)


def _compressed(page: Image.Image) -> bytes:
    """As one strip, a dot that is set being black."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[_T4_OPTIONS] = _ENDS_AT_BYTES
    file = io.BytesIO()
    # In Pillow's files of this mode a set dot is white.
    ImageChops.invert(page).save(file, "TIFF", compression="group3", strip_size=page.width * page.height, tiffinfo=tags)
    with Image.open(file) as made:
        (place,), (size,) = made.tag_v2[273], made.tag_v2[279]  # type: ignore[attr-defined]
    return file.getvalue()[place : place + size].translate(_REVERSED)
