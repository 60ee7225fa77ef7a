"""From what a transport answers to what is kept on record of a recipient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.interfaces import BOUNCED, DEFERRED, DELIVERABLE, EXPANDED, SENT, UNDELIVERABLE, Result
from spool.interfaces import RecipientState

_ANSWERS = {SENT: DELIVERABLE, EXPANDED: EXPANDED}


def keep(state: RecipientState, result: Result) -> None:
    """Put a result down as the recipient's state.  What may be tried again, or is to be returned, is not done."""
    state.done = result.status not in (DEFERRED, BOUNCED)
    state.status, state.dsn, state.reason = result.status, result.dsn, result.reason
    state.relay, state.details, state.recipient = result.relay, result.details, result.recipient
    state.others = tuple(map(_part, result.others)) if result.others else ()


def _part(result: Result) -> RecipientState:
    return RecipientState(
        True, result.status, result.dsn, result.reason, result.relay, result.details, result.recipient
    )


def softened(results: Sequence[Result]) -> list[Result]:
    """As soft_bounce has them: what would be returned is tried again."""
    return [
        replace(
            result, status=DEFERRED, dsn=f"4{result.dsn[1:]}", soft=True, others=tuple(softened(result.others)),
            details={**result.details, "action": "delayed"},
        )
        if result.status == BOUNCED else result
        for result in results
    ]


def answers(results: Sequence[Result]) -> list[Result]:
    """As results of a question (sendmail -bv): deliverable or not, and nothing is left to be tried."""
    return [
        replace(result, status=_ANSWERS.get(result.status, UNDELIVERABLE), others=tuple(answers(result.others)))
        for result in results
    ]
