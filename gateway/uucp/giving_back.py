"""A message of a neighbour's that is not taken goes back to its sender with a notice, and not to the neighbour's uuxqt:
that would put the job aside, where the sender does not hear of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.content.submission import Submission

TOO_LARGE = "5.3.4 the message is larger than the size limit of this site"
KEPT = 16384
"""Bytes of a message that go back."""


def turned_away(said: Submission, reason: str) -> Submission:
    """The same for nobody: all recipients are told of in a notice.  ``reason``: status code and text."""
    away = [*said.turned_away, *said.recipients]
    reasons = [*said.reasons, *[reason] * len(said.recipients)]
    return replace(said, recipients=[], notifies=[], orcpts=[], turned_away=away, reasons=reasons)


def remembered(blocks: Iterable[bytes], kept: bytearray) -> Iterator[bytes]:
    """The blocks, of which ``kept`` gets the beginning."""
    for block in blocks:
        kept += block[: KEPT - len(kept)]
        yield block
