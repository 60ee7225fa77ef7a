"""The process in which patterns are tried that may take long; gateway.tables.matcher starts it and talks to it.

A program of its own: it imports nothing of the gateway, so that it starts fast, and holds nothing that a pattern could
fill.  Lines of JSON on a socket, its standard input:

    {"table": N, "rules": [[pattern, flags, negated, end, slow], …]}  →  {"ready": N}
    {"ask": N, "key": KEY, "seconds": S}    →  {"at": index} before each slow rule; {"rule": index or -1, "groups": […]}
    {"forget": N}

The kernel ends it by SIGALRM when a question takes longer than its seconds: nothing else stops Python's re.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
from typing import Any

MEMORY = 1 << 29


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = socket.socket(fileno=0)
    tables: dict[int, list[Any]] = {}

    def say(**message: Any) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    for line in connection.makefile("rb"):
        message = json.loads(line)
        if "rules" in message:
            tables[message["table"]] = [
                (re.compile(pattern, flags), negated, end, slow)
                for pattern, flags, negated, end, slow in message["rules"]
            ]
            say(ready=message["table"])
        elif "forget" in message:
            tables.pop(message["forget"], None)
        else:
            signal.setitimer(signal.ITIMER_REAL, message["seconds"])
            index, groups = search(tables[message["ask"]], message["key"], lambda at: say(at=at))
            signal.setitimer(signal.ITIMER_REAL, 0)
            say(rule=index, groups=groups)


def search(rules: list[Any], key: str, trying: Any) -> tuple[int, list[str | None]]:
    """As gateway.tables.rules.first_match: an "if" that does not match is left at its end."""
    at = 0
    by_bytes = key if key.isascii() else as_bytes(key)
    while at < len(rules):
        pattern, negated, end, slow = rules[at]
        if slow:
            trying(at)
        is_ascii = pattern.flags & re.ASCII
        match = pattern.search(by_bytes if is_ascii else key)
        if (match is None) is not negated:
            at = end if end >= 0 else at + 1
        elif end >= 0:
            at += 1
        else:
            found = [] if match is None else [match.group(), *match.groups()]
            return at, [text and from_bytes(text) for text in found] if is_ascii else found
    return -1, []


def as_bytes(key: str) -> str:
    """The bytes of a key, each as one character."""
    return key.encode("utf-8", "surrogateescape").decode("latin-1")


def from_bytes(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


if __name__ == "__main__":
    main()
