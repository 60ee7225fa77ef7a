"""An Evaluator from a service's settings: the lists of main.cf, compiled, and the implicit checks.

Raises RestrictionError for a list that cannot be understood (the text is one line, in Postfix's words).
"""

from __future__ import annotations

from gateway.config import Settings
from gateway.interfaces import IRestriction
from gateway.policy import (
    access,
    basic,
    certificates,
    clients,
    dns_lists,
    host_access,
    links,
    mail_addresses,
    mx_backup,
    sender_logins,
    service,
    verification,
)
from gateway.policy.evaluator import Evaluator, Item, Lists
from gateway.policy.mail_addresses import unlisted_recipient, unlisted_sender
from gateway.policy.registry import Arguments, Maker, RestrictionError, Toolbox, compile_list

PROVIDERS = (
    access, basic, certificates, clients, dns_lists, host_access, links, mail_addresses, mx_backup, sender_logins,
    service, verification,
)  # fmt: skip
"""The modules that register restrictions; importing them is what counts."""

_DEFAULT_ACCESS = {
    "client": "check_client_access",
    "helo": "check_helo_access",
    "sender": "check_sender_access",
    "relay": "check_recipient_access",
    "recipient": "check_recipient_access",
    "data": "",
    "end_of_data": "",
    "etrn": "check_etrn_access",
}

_GUARDS = ("reject", "defer", "defer_if_permit", "reject_unauth_destination", "defer_unauth_destination")


def make_evaluator(tools: Toolbox, *, program: str = "smtpd") -> Evaluator:
    settings = tools.settings
    compiled = {stage: _list(tools, stage, default) for stage, default in _DEFAULT_ACCESS.items()}
    lists = Lists(
        **compiled,
        unlisted_recipient=_implicit(tools, "smtpd_reject_unlisted_recipient", unlisted_recipient),
        unlisted_sender=_implicit(tools, "smtpd_reject_unlisted_sender", unlisted_sender),
        delay=settings.flag("smtpd_delay_reject"),
        relay_first=settings.flag("smtpd_relay_before_recipient_restrictions"),
        logged_permits=tools.tables.string_list("smtpd_log_access_permit_actions", settings) or None,
    )
    _demand_guard(settings)
    return Evaluator(lists, tools.log, soft_bounce=settings.flag("soft_bounce"), program=program)


def _list(tools: Toolbox, stage: str, default: str) -> list[Item]:
    name = f"smtpd_{stage}_restrictions"
    return compile_list(tools, tools.settings.words(name), name, default)


def _implicit(tools: Toolbox, name: str, maker: Maker) -> IRestriction | None:
    return maker(tools, Arguments((), name)) if tools.settings.flag(name) else None


def _demand_guard(settings: Settings) -> None:
    """Nobody becomes an open relay by an empty list: one of the guards has to stand in front of every recipient."""
    words = settings.words("smtpd_relay_restrictions") + settings.words("smtpd_recipient_restrictions")
    for name in settings.words("smtpd_restriction_classes"):
        if name in words and settings.is_set(name):
            words += settings.words(name)
    if not any(word.lower() in _GUARDS for word in words):
        raise RestrictionError(
            "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working "
            f"instance of: {', '.join(_GUARDS)}"
        )
