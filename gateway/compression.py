"""Packed data in and out: gzip, bzip2, xz, zstd, and compress(1), which is what old neighbours mean by "crsmtp".

``unpacked(stream)`` looks at the first bytes and gives a stream of what is behind them, the stream itself if it is not
packed.  ``packed(blocks, kind)`` packs blocks as they come.  Broken or cut-off data raises PackError, and so does more
than ``limit`` bytes of result: a small message must not fill the disk.  Nor may it fill the memory: the windows that xz
and zstd announce are limited.

zstd is Python's own from 3.14 on, before that the package backports.zstd; where neither is there, NoLibrary is raised.

compress(1)'s format: the bytes 1F 9D, a byte with the largest code width (at most 16 bits) and bit 80 for "block mode"
(code 256 forgets the table), then codes of growing width, lowest bit first; at each change of width, the rest of a
group of eight codes is skipped.
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

KINDS = ("none", "compress", "gzip", "bzip2", "xz", "zstd")

BLOCK = 65536
_FIRST_BYTES = {
    b"\x1f\x9d": "compress", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd",
}
_WINDOW_LOG = 27
"""128 MB, which is what `xz -9` and `zstd --ultra -22` want at most."""
_CLEAR, _FIRST_FREE, _WIDEST, _NARROWEST = 256, 257, 16, 9


class PackError(ValueError):
    """The data is not what it says, or too much."""


class NoLibrary(Exception):
    """What packs and unpacks a kind is not installed."""


def require(kind: str) -> None:
    """Raises NoLibrary if that kind cannot be packed and unpacked here."""
    if kind == "zstd":
        _zstd()


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise NoLibrary("zstd wants Python 3.14, or the Python package backports.zstd")


class Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


# --- unpacking -----------------------------------------------------------------------------------------------------


def unpacked(stream: Readable, limit: int = 0) -> io.BufferedReader:
    """The data behind ``stream``; reading raises PackError.  ``limit``: bytes of result, 0 = none."""
    start = stream.read(BLOCK)
    kind = next((kind for mark, kind in _FIRST_BYTES.items() if start.startswith(mark)), "none")
    blocks = _UNPACKERS[kind](_blocks(start, stream))
    return io.BufferedReader(_Blocks(_limited(blocks, limit)), BLOCK)


def _blocks(start: bytes, stream: Readable) -> Iterator[bytes]:
    while start:
        yield start
        start = stream.read(BLOCK)


def _limited(blocks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if 0 < limit < size:
            raise PackError(f"more than {limit} bytes when unpacked")
        yield block


class _Blocks(io.RawIOBase):
    """Blocks as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _by_library(make: Callable[[], Any]) -> Callable[..., Iterator[bytes]]:
    """An unpacker of the standard library's; several packed streams may follow one another."""

    def unpack(blocks: Iterable[bytes]) -> Iterator[bytes]:
        machine = make()
        for block in blocks:
            while block:
                if machine.eof:
                    machine = make()
                yield from _pieces(machine, block)
                block = machine.unused_data
        if not machine.eof:
            raise PackError("packed data that is cut off")

    return unpack


def _pieces(machine: Any, block: bytes) -> Iterator[bytes]:
    """What a block unpacks to, in pieces: a thousandfold of it must not lie in memory."""
    piece = _unpack(machine, block)
    while piece:
        yield piece
        if machine.eof:
            return
        piece = _unpack(machine, getattr(machine, "unconsumed_tail", b""))


def _unpack(machine: Any, block: bytes) -> bytes:
    try:
        piece: bytes = machine.decompress(block, BLOCK)
    except MemoryError:
        raise
    except Exception as error:  # each library has its own
        raise PackError(f"broken packed data: {error}") from None
    return piece


def _uncompress(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """compress(1)."""
    data = iter(blocks)
    buffer = bytearray()
    for block in data:
        buffer += block
        if len(buffer) >= 3:
            break
    if len(buffer) < 3 or not _NARROWEST <= buffer[2] & 0x1F <= _WIDEST:
        raise PackError("broken packed data: bad beginning")
    widest, block_mode = buffer[2] & 0x1F, bool(buffer[2] & 0x80)
    del buffer[:3]
    yield from _Uncompressing(widest, block_mode).run(buffer, data)


class _Uncompressing:
    def __init__(self, widest: int, block_mode: bool) -> None:
        self._widest, self._block_mode = widest, block_mode
        self._forget()

    def _forget(self) -> None:
        self._table: list[bytes] = [bytes((value,)) for value in range(256)]
        if self._block_mode:
            self._table.append(b"")
        self._width = _NARROWEST
        self._last = b""

    def run(self, buffer: bytearray, more: Iterator[bytes]) -> Iterator[bytes]:
        """Groups of eight codes of one width are ``width`` bytes long."""
        ended = False
        while not ended or buffer:
            while not ended and len(buffer) < _WIDEST:
                block = next(more, None)
                ended = block is None
                buffer += block or b""
            width = self._width
            group = bytes(buffer[:width])
            del buffer[:width]
            out = bytearray()
            bits, codes = int.from_bytes(group, "little"), len(group) * 8 // width
            for _ in range(codes):
                out += self._take(bits & ((1 << width) - 1))
                bits >>= width
                if self._width != width:
                    break
            if out:
                yield bytes(out)

    def _take(self, code: int) -> bytes:
        table, last = self._table, self._last
        if code == _CLEAR and self._block_mode:
            self._forget()
            return b""
        if code < len(table):
            word = table[code]
        elif code == len(table) and last:
            word = last + last[:1]
        else:
            raise PackError("broken packed data: a code that means nothing")
        if last and len(table) < 1 << self._widest:
            table.append(last + word[:1])
        if len(table) >= 1 << self._width and self._width < self._widest:
            self._width += 1
        self._last = word
        return word


_UNPACKERS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "none": lambda blocks: blocks,
    "compress": _uncompress,
    "gzip": _by_library(lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "bzip2": _by_library(bz2.BZ2Decompressor),
    "xz": _by_library(lambda: lzma.LZMADecompressor(memlimit=1 << _WINDOW_LOG)),
    "zstd": _by_library(lambda: _unzstd(_zstd())),
}


def _unzstd(library: Any) -> Any:
    return library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: _WINDOW_LOG})


# --- packing -------------------------------------------------------------------------------------------------------


def packed(blocks: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """``kind``: one of KINDS."""
    if kind == "none":
        yield from blocks
        return
    machine: Any = _PACKERS[kind]()
    for block in blocks:
        if piece := machine.compress(block):
            yield piece
    yield machine.flush()


class _Compressing:
    """compress(1) without block mode: the table, once full, stays as it is."""

    def __init__(self) -> None:
        self._table: dict[bytes, int] = {bytes((value,)): value for value in range(256)}
        self._next = 256
        self._width = _NARROWEST
        self._word = b""
        self._bits = self._count = self._in_group = 0
        self._out = bytearray(b"\x1f\x9d\x10")

    def compress(self, block: bytes) -> bytes:
        table = self._table
        word = self._word
        for at in range(len(block)):
            longer = word + block[at : at + 1]
            if longer in table:
                word = longer
                continue
            self._code(table[word])
            if self._next < 1 << _WIDEST:
                table[longer] = self._next
                self._next += 1
            word = block[at : at + 1]
        self._word = word
        return self._taken()

    def flush(self) -> bytes:
        if self._word:
            self._code(self._table[self._word], last=True)
        if self._count:
            self._out.append(self._bits & 0xFF)
        return self._taken()

    def _code(self, code: int, *, last: bool = False) -> None:
        self._bits |= code << self._count
        self._count += self._width
        self._in_group = (self._in_group + 1) % 8
        while self._count >= 8:
            self._out.append(self._bits & 0xFF)
            self._bits >>= 8
            self._count -= 8
        # The reader learns each word one code later than we, and then counts it.
        if not last and self._next >= 1 << self._width and self._width < _WIDEST:
            self._widen()

    def _widen(self) -> None:
        if self._count:
            self._out.append(self._bits & 0xFF)
        if self._in_group:
            used = (self._in_group * self._width + 7) // 8
            self._out += bytes(self._width - used)
        self._bits = self._count = self._in_group = 0
        self._width += 1

    def _taken(self) -> bytes:
        taken = bytes(self._out)
        self._out.clear()
        return taken


_PACKERS: dict[str, Callable[[], Any]] = {
    "compress": _Compressing,
    "gzip": lambda: zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16),
    "bzip2": bz2.BZ2Compressor,
    "xz": lzma.LZMACompressor,
    "zstd": lambda: _zstd().ZstdCompressor(level=19),
}
