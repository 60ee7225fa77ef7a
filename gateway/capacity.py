"""How many files and connections this process may have open, and how many clients and messages that is enough for.

    room = capacity(raise_limit())              (clients, messages being received)

RLIMIT_NOFILE says it: each client takes a descriptor, and so does each large message on its way in.  A number of them
is kept back for the spool, look-ups and deliveries: without, accept() itself fails one day, and the client is turned
away without a word, or a message that was taken cannot be written.
"""

from __future__ import annotations

import resource

ENOUGH = 65_536
"""More is not asked for: what programs inherit of it makes some of them slow."""

FEW = 4_096
"""Fewer are worth a warning."""

KEPT_BACK = 200
"""Descriptors that no client gets: a hundred for the spool, others for look-ups and between the roles."""

FOR_DELIVERIES = 200
"""The same for outgoing connections and programs, where they are in this process too."""

MOST_MESSAGES = 500
"""Each takes up to half a megabyte of memory while it comes in."""


def raise_limit() -> int:
    """Use what the system allows us anyway (the hard limit), up to ENOUGH; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        return possible
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def capacity(descriptors: int, *, deliveries: bool = False) -> tuple[int, int]:
    """Clients, and messages that are being received, at a time.  ``deliveries``: there are some in this process."""
    left = max(descriptors - KEPT_BACK - FOR_DELIVERIES * deliveries, descriptors // 4, 8)
    messages = min(MOST_MESSAGES, left // 4)
    return left - messages, messages


def complaint(descriptors: int, clients: int) -> str:
    """What to tell the administrator of a small limit, or ""."""
    if descriptors >= FEW:
        return ""
    return (
        f"only {descriptors} files may be open (RLIMIT_NOFILE): no more than {clients} clients at a time in each "
        "receiver; allow more with LimitNOFILE= or ulimit -Hn"
    )
