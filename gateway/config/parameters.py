"""The one table of parameters: name, type, default, how far the gateway honours it, and what it means.

The table itself is ``parameters.tsv`` beside this module, one parameter a line; postconf, check, the manual page and
every reader of a setting are made from it.  Columns:

name      as in main.cf
default   as written, with its $names; "*" = worked out at run time (gateway.config.computed)
type      text     any text, $names replaced
          raw      any text, kept as it is: whoever uses it replaces names of its own
          number   an integer
          seconds  a time with a unit; without one, that of the default counts
          flag     yes or no
          words    a list, separated by commas and blanks
          tables   a list of type:name
class     must     honoured
          later    known and typed, not yet effective: check says so
          never    known and accepted, without any effect: check -v says so
family    the heading under which the manual page has it
meaning   one line

Families are settings that exist for every delivery service of master.cf: ``SERVICE_destination_recipient_limit`` and
the like (postconf(5), "transport_…").
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

COMPUTED = "*"

TEXT, RAW, NUMBER, SECONDS, FLAG, WORDS, TABLES = "text", "raw", "number", "seconds", "flag", "words", "tables"
MUST, LATER, NEVER = "must", "later", "never"

FAMILIES: dict[str, tuple[str, str]] = {
    "delivery_slot_cost": ("$default_delivery_slot_cost", NUMBER),
    "delivery_slot_discount": ("$default_delivery_slot_discount", NUMBER),
    "delivery_slot_loan": ("$default_delivery_slot_loan", NUMBER),
    "destination_concurrency_failed_cohort_limit": ("$default_destination_concurrency_failed_cohort_limit", NUMBER),
    "destination_concurrency_limit": ("$default_destination_concurrency_limit", NUMBER),
    "destination_concurrency_negative_feedback": ("$default_destination_concurrency_negative_feedback", TEXT),
    "destination_concurrency_positive_feedback": ("$default_destination_concurrency_positive_feedback", TEXT),
    "destination_rate_delay": ("$default_destination_rate_delay", SECONDS),
    "destination_recipient_limit": ("$default_destination_recipient_limit", NUMBER),
    "extra_recipient_limit": ("$default_extra_recipient_limit", NUMBER),
    "initial_destination_concurrency": ("$initial_destination_concurrency", NUMBER),
    "minimum_delivery_slots": ("$default_minimum_delivery_slots", NUMBER),
    "recipient_limit": ("$default_recipient_limit", NUMBER),
    "recipient_refill_delay": ("$default_recipient_refill_delay", SECONDS),
    "recipient_refill_limit": ("$default_recipient_refill_limit", NUMBER),
    "time_limit": ("$command_time_limit", SECONDS),
    "transport_rate_delay": ("$default_transport_rate_delay", SECONDS),
}
"""What follows SERVICE_ → (default, type)."""


class Parameter(NamedTuple):
    """One line of the table."""

    name: str
    default: str
    type: str
    effect: str
    family: str
    meaning: str


@cache
def table() -> dict[str, Parameter]:
    """All parameters by name, in alphabetical order; read once a process."""
    lines = Path(__file__).with_name("parameters.tsv").read_text("utf-8").split("\n")
    return {line[: line.index("\t")]: Parameter._make(line.split("\t")) for line in lines[1:] if line}


def family_member(service: str, suffix: str) -> Parameter:
    """``SERVICE_suffix``: the table's own line if it has one (local_destination_recipient_limit = 1), else the
    family's.  KeyError if there is no such family."""
    name = f"{service}_{suffix}"
    known = table().get(name)
    if known is not None:
        return known
    default, type = FAMILIES[suffix]
    return Parameter(name, default, type, MUST, "per-service", f"{suffix} of the service {service}")


def find(name: str) -> Parameter | None:
    """The parameter of that name, families included (whether or not master.cf has such a service)."""
    known = table().get(name)
    if known is not None:
        return known
    at = name.find("_")
    while at > 0:
        suffix = name[at + 1 :]
        if suffix in FAMILIES:
            return family_member(name[:at], suffix)
        at = name.find("_", at + 1)
    return None
