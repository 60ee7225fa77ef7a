"""Indexes of text tables: NAME.lmdb beside NAME, made by postmap and postalias; lmdb_table(5).

All indexed types share this one engine, and the file is as Postfix's lmdb: tables are, with or without the terminating
null of -N, so that either can read what the other has made.  An Index maps the file into memory: roles that look into
the same million entries share the pages, and none of them holds the table.

Here an index is never changed, but made anew beside it and renamed into place, so that a reader sees the old one or the
new one.  But others may write into the file, or cut it off; whoever reads behind its end in memory is killed (SIGBUS).
So its size is compared with what its header says, before it is read and again at each look-up.

Keys longer than LMDB takes are stored under their digest.  Raises IndexProblem (a ValueError) for a file that is no
index, OSError for one that cannot be opened or written.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import lmdb

from gateway.tables.text import Block, Problem, blocks, duplicate, note, parse_block, simple_pairs

SUFFIX = ".lmdb"
_MAX_KEY = 510
"""LMDB's limit, but for a terminating null."""
_LONG = b"\0\0"
"""No key of a text table begins so: the digest of a long one does."""
_ROOM = 1 << 26
_GROWTH = 16
"""How much larger than the text an index may become: with the shortest entries, and pages half full."""


_META = struct.Struct("=16xIIQQI92xQQ")
"""LMDB's header, which stands in each of the first two pages; the newer one counts."""
_MAGIC = 0xBEEFC0DE


class IndexProblem(ValueError):
    """The file is no index, or a damaged one."""


def index_path(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _stored_key(key: bytes, null: bytes) -> bytes:
    return (key if len(key) <= _MAX_KEY else _LONG + hashlib.sha256(key).digest()) + null


_opened: WeakValueDictionary[tuple[int, int], Index] = WeakValueDictionary()
"""By device and inode: LMDB does not open a file twice in a process, and tables of several names may have one index."""


def open_index(path: Path) -> Index:
    """Raises IndexProblem, OSError."""
    found = os.stat(path)
    index = _opened.get((found.st_dev, found.st_ino))
    if index is None:
        index = _opened[found.st_dev, found.st_ino] = Index(path)
    else:
        index.renew()
    return index


class Index:
    """An open index."""

    def __init__(self, path: Path, environment: lmdb.Environment | None = None) -> None:
        """``environment``: if it is open already, and nobody else has the file."""
        self.path = path
        self._environment = environment or _open(path, readonly=True)
        self._file = -1 if environment else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = 0
        self._begin()

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            os.close(self._file)

    @property
    def has_nulls(self) -> bool:
        """Keys and values end with a null."""
        return bool(self._null)

    def _begin(self) -> None:
        self._measure()
        try:
            self._transaction = self._environment.begin()
            with self._transaction.cursor() as cursor:
                self._null = b"\0" if cursor.first() and cursor.key().endswith(b"\0") else b""
        except lmdb.Error as error:
            raise IndexProblem(f"{self.path}: {error}") from None

    def _measure(self) -> None:
        if self._file >= 0:
            self._size = self._needed_size()
            self._refuse_stump()

    def _needed_size(self) -> int:
        """How long the file must be for all that its header speaks of."""
        newest, size, page = -1, 0, 0
        for _ in range(2):
            found = os.pread(self._file, _META.size, page)
            if len(found) < _META.size:
                raise IndexProblem(f"{self.path} is cut off")
            magic, _, _, _, page, last, transaction = _META.unpack(found)
            if magic != _MAGIC:
                raise IndexProblem(f"{self.path} is no index any more")
            if transaction > newest:
                newest, size = transaction, (last + 1) * page
        return size

    def _refuse_stump(self) -> None:
        if os.lseek(self._file, 0, os.SEEK_END) < self._size:
            raise IndexProblem(f"{self.path} is cut off")

    def get(self, key: str) -> str | None:
        """Raises IndexProblem."""
        if self._size:
            self._refuse_stump()
        null = self._null
        raw = key.encode("utf-8", "surrogateescape")
        try:
            value = self._transaction.get(raw + null if len(raw) <= _MAX_KEY else _stored_key(raw, null))
        except lmdb.BadValsizeError:
            return None
        except lmdb.Error as error:
            raise IndexProblem(f"{self.path}: {error}") from None
        if value is None:
            return None
        text = (value[:-1] if null and value.endswith(null) else value).decode("utf-8", "surrogateescape")
        return text.partition("\0")[2] if len(raw) > _MAX_KEY else text

    def items(self) -> Iterator[tuple[str, str]]:
        if self._size:
            self._refuse_stump()
        for stored, found in self._transaction.cursor():
            key, value = stored, found
            if self._null and value.endswith(self._null):
                value = value[:-1]
            if key.startswith(_LONG):
                key, _, value = value.partition(b"\0")
            elif self._null:
                key = key.removesuffix(self._null)
            yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")

    def renew(self) -> None:
        """Somebody else's command has changed the file in place: see what is in it now."""
        self._measure()
        self._transaction.abort()
        try:
            self._environment.set_mapsize(max(os.lseek(self._file, 0, os.SEEK_END), 1 << 20))
        except lmdb.Error as error:
            raise IndexProblem(f"{self.path}: {error}") from None
        self._begin()


class Writer:
    """An index being made.  ``replace``: the last entry with a key counts; else the first, and the others are told in
    ``problems``.  ``null``: -N."""

    def __init__(
        self,
        environment: lmdb.Environment,
        *,
        alias: bool = False,
        folding: bool = True,
        utf8: bool = True,
        replace: bool = False,
        null: bool = False,
        change: Callable[[str], str] | None = None,
    ) -> None:
        self._environment = environment
        self._alias, self._folding, self._utf8, self._replace = alias, folding, utf8, replace
        self._null = b"\0" if null else b""
        self._change = change
        self.problems: list[Problem] = []
        self._transaction = environment.begin(write=True)

    def add(self, text: BinaryIO) -> None:
        """Take in a whole file: fast, and once more line by line if that meets an entry which is there already.
        Raises IndexProblem.  ``change`` makes the value of what stands in the text; entries for which it raises OSError
        are left out."""
        try:
            self._transaction.commit()
            self._transaction = self._environment.begin(write=True)
            if not all(map(self._put_all, blocks(text))):
                self._transaction.abort()
                self._transaction = self._environment.begin(write=True)
                self.problems.clear()
                text.seek(0)
                for block in blocks(text):
                    self._put_each(block)
        except lmdb.Error as error:
            raise IndexProblem(str(error)) from None

    def _put_all(self, block: Block) -> bool:
        """False: there is an entry that must be looked at."""
        pairs = simple_pairs(block.data, alias=self._alias, folding=self._folding)
        if self._change or self._null or pairs is None or max((len(key) for key, _ in pairs), default=0) > _MAX_KEY:
            self._put_each(block)
            return True
        # Neighbours go to the same pages.  The order among equal keys stays.
        pairs.sort(key=itemgetter(0))
        _, added = self._transaction.cursor().putmulti(pairs, overwrite=self._replace)
        return self._replace or bool(added == len(pairs))

    def _put_each(self, block: Block) -> None:
        found = parse_block(block, self.problems, alias=self._alias, folding=self._folding, utf8=self._utf8)
        for line, key, value in found:
            if self._change is not None:
                try:
                    value = self._change(value)
                except OSError as error:
                    what = f"open {error.filename}: {error.strerror}: skipping this entry"
                    note(self.problems, line, what)
                    continue
            if not self._put(key, value):
                note(self.problems, line, duplicate(key))

    def _put(self, key: str, value: str) -> bool:
        raw, text = key.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")
        if len(raw) > _MAX_KEY:
            text = raw + b"\0" + text
        return self._transaction.put(_stored_key(raw, self._null), text + self._null, overwrite=self._replace)

    def delete(self, key: str) -> bool:
        raw = key.encode("utf-8", "surrogateescape")
        return self._transaction.delete(_stored_key(raw, self._null))

    def commit(self) -> None:
        try:
            self._transaction.commit()
        except lmdb.Error as error:
            raise IndexProblem(str(error)) from None


@contextmanager
def new_index(
    path: Path, *, size: int, mode: int, time_ns: int | None = None, base: Path | None = None, **options: Any
) -> Iterator[Writer]:
    """Makes the index of ``path`` anew; it is in its place when the block ends; nothing has happened when it raises.

    ``size``: of the text that will be added.  ``mode``: of the file.  ``time_ns``: its time of modification; an index
    counts if it is not older than its text, so that one made from the text takes the time which this had when it was
    read.  ``base``: an index to begin with.  ``options``: see Writer."""
    target = index_path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as made:
            os.fchmod(made.fileno(), 0o600)
        if base is None:
            temporary.unlink()
        else:
            shutil.copyfile(base, temporary)
            size += base.stat().st_size
        environment = _open(temporary, room=_ROOM + _GROWTH * size)
        try:
            writer = Writer(environment, **options)
            yield writer
            writer.commit()
        finally:
            environment.close()
        with open(temporary, "rb+") as file:
            os.fchmod(file.fileno(), mode)
            if time_ns is not None:
                os.utime(file.fileno(), ns=(time_ns, time_ns))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def private_index(text: BinaryIO, size: int, *, alias: bool, utf8: bool) -> tuple[Index, list[Problem]]:
    """The index of a large text that has none: in a file without a name, which goes away with the process.  Raises
    OSError, IndexProblem."""
    folder = tempfile.mkdtemp(prefix="mailgateway-")
    try:
        path = Path(folder) / "index"
        environment = _open(path, room=_ROOM + _GROWTH * size)
        writer = Writer(environment, alias=alias, utf8=utf8)
        writer.add(text)
        writer.commit()
        return Index(path, environment), writer.problems
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open(path: Path, *, readonly: bool = False, room: int = 0) -> lmdb.Environment:
    try:
        if readonly:
            os.stat(path)
            return lmdb.open(str(path), subdir=False, readonly=True, lock=False)
        return lmdb.open(str(path), subdir=False, lock=False, sync=False, map_size=room, mode=0o600)
    except lmdb.Error as error:
        if readonly:
            with open(path, "rb"):
                pass
        raise IndexProblem(f"{path} is no usable index: {error}".removesuffix(".")) from None
