"""What a server offers in its EHLO or LHLO reply (RFC 5321 4.1.1.1)."""

from __future__ import annotations

from collections.abc import Iterable

from transports.smtp.replies import Reply


class Features:
    """Keywords in upper case, each with its arguments."""

    __slots__ = ("dsn", "eight_bit", "keywords", "pipelining", "size", "starttls", "utf8", "xforward")

    def __init__(self, reply: Reply | None = None, ignored: Iterable[str] = ()) -> None:
        """``ignored``: smtp_discard_ehlo_keywords.  Without a reply: nothing is offered."""
        keywords: dict[str, list[str]] = {}
        for line in reply.lines[1:] if reply else ():
            words = line[4:].decode("ascii", "replace").upper().replace("=", " ").split()
            if words:
                keywords.setdefault(words[0], words[1:])
        for word in ignored:
            keywords.pop(word, None)
        self.keywords = keywords
        self.pipelining = "PIPELINING" in keywords
        self.eight_bit = "8BITMIME" in keywords
        self.dsn = "DSN" in keywords
        self.utf8 = "SMTPUTF8" in keywords
        self.starttls = "STARTTLS" in keywords
        self.xforward = frozenset(keywords.get("XFORWARD", ()))
        limit = keywords.get("SIZE")
        self.size: int | None = None
        """None = no SIZE extension; 0 = no limit told."""
        if limit is not None:
            self.size = int(limit[0][:18]) if limit and limit[0].isascii() and limit[0].isdigit() else 0
