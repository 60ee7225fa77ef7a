"""permit_mx_backup, which is known by name and not effective: whoever has it in a list must not become more open by it.

It lets the next restriction decide, and is warned of once, when the list is compiled.
"""

from __future__ import annotations

from gateway.interfaces import IRestriction
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Plain, Toolbox, restriction
from gateway.policy.verdict import DUNNO

NAME = "permit_mx_backup"


@restriction(NAME)
def mx_backup(tools: Toolbox, arguments: Arguments) -> IRestriction:
    tools.log.warning(PROGRAM, f'{arguments.list_name}: restriction "{NAME}" is not effective yet and is passed over')
    return Plain(NAME, lambda session: DUNNO)
