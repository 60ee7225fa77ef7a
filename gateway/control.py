"""How commands talk to a running gateway: a line of JSON each way, over a UNIX socket.

    → {"do":"delete","with":{"ids":["4jYkqr37zQzCkPq2Xv1b"],"queues":["deferred"]}}
    ← {"item":…}                   any number of lines, for what is long (the queue listing)
    ← {"done":{"count":1,"ids":["4jYkqr37zQzCkPq2Xv1b"]}}    or    {"error":"…"}

The socket is ``public/control`` below queue_directory and open to everybody; the server learns from the kernel who is
at the other end (SO_PEERCRED), and the handlers decide what that user may do.  Requests on a connection are answered
one after the other.

The client side (Control) uses plain sockets and loads nothing of Twisted, so that commands start fast; ControlFactory,
the server, imports it when it is made.

Requests: list, flush, flush-site {"site"}, flush-id {"id"}, poke, status, reload, restart, stop; delete, hold, release,
requeue, expire {"ids": [ID…] or null for all, "queues": [NAME…]} → {"count", "ids"} (see spool.interfaces.Changes);
neighbour {"site", "messages", "bytes"} → text (see gateway.uucp.door).
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spool.interfaces import Listed

SOCKET = "public/control"

LONGEST = 1 << 20
"""Bytes in one line."""

_TIMEOUT = 3600.0
"""Seconds for an answer: a change of a million messages takes a while."""

_CREDENTIALS = struct.Struct("3i")

Handler = Callable[[int, dict[str, Any]], Awaitable[Any]]
"""Takes the user ID at the other end and the arguments.  The result goes out as JSON; an asynchronous iterator gives
the items of an answer in lines.  Refused goes out as its text, any other exception as "internal error"."""


class Refused(Exception):
    """The request is not carried out; the text says why, to the one who asked."""


class Down(Exception):
    """Nobody listens: the gateway does not run.  The text is the system's reason."""


# --- client ------------------------------------------------------------------------------------------------------


class Control:
    """A connection to the gateway whose queue_directory this is.  Raises Down, or PermissionError."""

    def __init__(self, queue_directory: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT)
        try:
            _connect(self._socket, queue_directory)
        except PermissionError:
            self._socket.close()
            raise
        except OSError as error:
            self._socket.close()
            raise Down(error.strerror or str(error)) from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()
        self._socket.close()

    def call(self, name: str, **arguments: Any) -> Any:
        """The result of a request.  Raises Refused, Down."""
        return [value for is_item, value in self._answer(name, arguments) if not is_item][-1]

    def items(self, name: str, **arguments: Any) -> Iterator[Any]:
        """The items of an answer, as they come."""
        for is_item, value in self._answer(name, arguments):
            if is_item:
                yield value

    def _answer(self, name: str, arguments: dict[str, Any]) -> Iterator[tuple[bool, Any]]:
        try:
            self._socket.sendall(json.dumps({"do": name, "with": arguments}).encode("ascii") + b"\n")
            while True:
                line = self._lines.readline()
                if not line.endswith(b"\n"):
                    raise Down("connection closed")
                answer = json.loads(line)
                if not isinstance(answer, dict):
                    raise ValueError
                if "error" in answer:
                    raise Refused(answer["error"])
                if "item" not in answer:
                    yield False, answer.get("done")
                    return
                yield True, answer["item"]
        except OSError as error:
            raise Down(error.strerror or str(error)) from error
        except ValueError:
            raise Down("unintelligible answer") from None


def _connect(connection: socket.socket, queue_directory: str) -> None:
    path = os.path.join(queue_directory, SOCKET)
    if len(os.fsencode(path)) < 100:
        connection.connect(path)
        return
    # The kernel takes short names only.
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


# --- server --------------------------------------------------------------------------------------------------------


def peer_uid(transport: Any) -> int:
    """Who is at the other end of a UNIX socket."""
    raw = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def control_factory(
    handlers: Mapping[str, Handler],
    *,
    trouble: Callable[[str], None],
    uid_of: Callable[[Any], int] = peer_uid,
    most: int = 100,
) -> Any:
    """A Twisted Factory that answers requests.  ``trouble`` gets one line for each mistake of a handler; ``most``
    connections of one user are open at a time."""
    from gateway.control_server import ControlFactory

    return ControlFactory(handlers, trouble, uid_of, most)


# --- the queue as postqueue -j shows it ------------------------------------------------------------------------------


def _by_domain(recipient: dict[str, str]) -> tuple[str, str]:
    """By domain, then by name: the order in which Postfix takes the recipients of a message."""
    address = recipient["address"]
    return address.rpartition("@")[2].lower(), address


def listed_object(listed: Listed) -> dict[str, Any]:
    """A message of the queue, with the keys of postqueue(1) "JSON OBJECT FORMAT"."""
    recipients = []
    for recipient, state in zip(listed.envelope.recipients, listed.states, strict=True):
        if not state.done:
            one = {"address": recipient.address}
            if reason := state.reason.rstrip() or ("(description unavailable)" if state.status else ""):
                one["delay_reason"] = reason
            recipients.append(one)
    recipients.sort(key=_by_domain)
    return {
        "queue_name": listed.queue,
        "queue_id": listed.id,
        "arrival_time": int(listed.envelope.arrival),
        "message_size": listed.envelope.size,
        "forced_expire": listed.expire,
        "sender": listed.envelope.sender or "MAILER-DAEMON",
        "recipients": recipients,
    }


async def listed_objects(slices: AsyncIterator[list[Listed]]) -> AsyncIterator[dict[str, Any]]:
    """The answer to "list", from ISpool.slices()."""
    async for some in slices:
        for one in some:
            yield listed_object(one)
