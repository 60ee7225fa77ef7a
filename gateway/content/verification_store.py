"""Where the results of probes are kept: address_verify_map.

An LMDB file in the place that the parameter names, whatever its type says; in memory if it is empty or the file cannot
be used.  It is a cache: what a power cut takes is asked for again, and so nothing waits for the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import lmdb

from gateway.config import Settings
from gateway.interfaces import Log

SIZE = 1 << 30
"""That the file may grow to; it takes what is in it."""


class Store(MutableMapping[bytes, bytes]):
    """Raises lmdb.Error at first only; a full or broken file loses what it cannot take."""

    def __init__(self, path: Path) -> None:
        self._environment = lmdb.open(
            str(path), map_size=SIZE, subdir=False, sync=False, metasync=False, mode=0o600, max_readers=16
        )

    def __getitem__(self, key: bytes) -> bytes:
        with self._environment.begin() as transaction:
            value = transaction.get(key)
        if value is None:
            raise KeyError(key)
        return bytes(value)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        try:
            with self._environment.begin(write=True) as transaction:
                transaction.put(key, value)
        except lmdb.Error:
            return

    def __delitem__(self, key: bytes) -> None:
        with self._environment.begin(write=True) as transaction:
            if not transaction.delete(key):
                raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        with self._environment.begin() as transaction:
            yield from [bytes(key) for key in transaction.cursor().iternext(values=False)]

    def __len__(self) -> int:
        return int(self._environment.stat()["entries"])

    def close(self) -> None:
        self._environment.close()


def open_store(settings: Settings, log: Log) -> MutableMapping[bytes, bytes]:
    name = settings.text("address_verify_map").strip()
    if not name:
        return {}
    path = Path(name.partition(":")[2] or name)
    path = path.with_name(path.name + ".lmdb")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return Store(path)
    except (OSError, lmdb.Error) as problem:
        log.warning("verify", f"address_verify_map: {path}: {problem}; results are kept in memory")
        return {}
