"""Restrictions of Postfix that are known by name and not effective yet.

A site that has one configured must not become more open by it: one that could refuse answers 451 4.3.5, one that could
only permit lets the next restriction decide.  Both are warned of once, when the list is compiled.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.interfaces import IRestriction
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Plain, Toolbox, restriction
from gateway.policy.verdict import DUNNO, misconfigured

_PERMITTING = {
    "permit_mx_backup": 0,
}
_REFUSING = {
    "reject_unverified_recipient": 0,
    "reject_unverified_sender": 0,
}
"""Name → how many words belong to it."""


def _placeholder(name: str, words: int, permits: bool) -> Callable[[Toolbox, Arguments], IRestriction]:
    verdict = DUNNO if permits else misconfigured()

    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        for _ in range(words):
            arguments.need(name, "an argument")
        effect = "is passed over" if permits else "answers 451 4.3.5"
        tools.log.warning(PROGRAM, f'{arguments.list_name}: restriction "{name}" is not effective yet and {effect}')
        return Plain(name, lambda session: verdict)

    return make


for _names, _permits in ((_PERMITTING, True), (_REFUSING, False)):
    for _name, _words in _names.items():
        restriction(_name)(_placeholder(_name, _words, _permits))
