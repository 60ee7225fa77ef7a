"""The *_tempfail_action parameters: what a restriction does that could not get an answer."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import Settings
from gateway.policy.verdict import Verdict, defer_if_permit, refuse


def tempfail(settings: Settings, name: str) -> Callable[[int, str, str], Verdict]:
    """defer_if_permit (default): refuse only what would be permitted; defer: refuse at once."""
    action = settings.text(name).strip().lower()
    if action == "defer_if_permit":
        return defer_if_permit
    if action == "defer":
        return refuse
    raise settings.error(name, f"bad configuration: {name} = {action}", "give defer or defer_if_permit")
