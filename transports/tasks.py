"""What a worker is asked for (transports.worker), and how it says that it cannot be done.

A task's arguments (``spec``) and its answer are JSON-able.  The answer of a delivery is ``{"at": …}``, where in the
file the message begins, or ``{"dsn": …, "text": …}`` with what went wrong.  Standard library only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
Answer = dict[str, Any]

BLOCK = 65536

_DSN = {
    errno.EFBIG: "5.2.2",
    errno.EDQUOT: "5.2.2",
    errno.ENOSPC: "4.3.0",
}
"""A full mailbox is the recipient's affair, a full disk ours; whatever else goes wrong may go away."""

LASTING = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
"""Why a file cannot be opened now nor later; for anything else the disk or a file server may be to blame."""


class Refused(Exception):
    """Not done, for a reason that has no errno."""

    def __init__(self, dsn: str, text: str) -> None:
        super().__init__(text)
        self.dsn, self.text = dsn, text

    @property
    def answer(self) -> Answer:
        return {"dsn": self.dsn, "text": self.text}


@dataclass(slots=True)
class Task:
    kind: str
    spec: Spec
    message: Iterable[bytes] = ()
    """Ready to be stored, in blocks; if it is cut short, taking the next one raises Refused."""
    answer: Answer = field(default_factory=dict)
    data: list[bytes] = field(default_factory=list)
    """What was read."""

    def refuse(self, refusal: Refused) -> None:
        self.answer = refusal.answer


def trouble(what: str, error: OSError) -> Refused:
    return Refused(_DSN.get(error.errno or 0, "4.2.0"), f"{what}: {error.strerror}")


def copy(descriptor: int, message: Iterable[bytes], room: int | None) -> int:
    """Write the message to a file; the number of bytes.  Raises Refused, also for OSErrors of the file."""
    count = 0
    for block in message:
        count += len(block)
        if room is not None and count > room:
            raise trouble("error writing message", OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
        try:
            _write(descriptor, block)
        except OSError as error:
            raise trouble("error writing message", error) from None
    return count


def _write(descriptor: int, data: bytes) -> None:
    done = os.write(descriptor, data)
    if done < len(data):
        view = memoryview(data)[done:]
        while view:
            view = view[os.write(descriptor, view) :]
