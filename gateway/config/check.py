"""Everything that can be wrong with a configuration, before any mail suffers from it.

``check(configuration)`` gives findings: what was noticed while reading, then parameter by parameter, service by
service, and how they agree with each other and with the machine (accounts, files, owners).  It reads no table and
opens no connection.  Errors are what refuses, defers or loses mail; the rest are warnings, and notes for -v.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches

from gateway.config import check_files, check_services, parameters
from gateway.config.configuration import Configuration
from gateway.config.findings import ERROR, NOTE, WARNING, ConfigError, Finding
from gateway.config.known import KnownNames
from gateway.config.settings import Place, Settings

DEPRECATED = {
    "smtp_use_tls": "smtp_tls_security_level = may",
    "smtp_enforce_tls": "smtp_tls_security_level = encrypt",
    "smtp_tls_enforce_peername": "smtp_tls_security_level = verify",
    "smtp_tls_per_site": "smtp_tls_policy_maps",
    "lmtp_use_tls": "lmtp_tls_security_level = may",
    "lmtp_enforce_tls": "lmtp_tls_security_level = encrypt",
    "lmtp_tls_enforce_peername": "lmtp_tls_security_level = verify",
    "lmtp_tls_per_site": "lmtp_tls_policy_maps",
    "smtpd_use_tls": "smtpd_tls_security_level = may",
    "smtpd_enforce_tls": "smtpd_tls_security_level = encrypt",
    "postscreen_use_tls": "postscreen_tls_security_level = may",
    "postscreen_enforce_tls": "postscreen_tls_security_level = encrypt",
    "disable_dns_lookups": "smtp_dns_support_level = disabled and smtp_host_lookup = native",
    "permit_mx_backup_networks": "relay_domains with reject_unverified_recipient or relay_recipient_maps",
    "maps_rbl_domains": "reject_rbl_client DOMAIN in smtpd_recipient_restrictions",
    "fallback_relay": "smtp_fallback_relay",
    "authorized_verp_clients": "smtpd_authorized_verp_clients",
    "virtual_maps": "virtual_alias_maps",
    "lmtp_cache_connection": "lmtp_connection_cache_on_demand",
    "postscreen_whitelist_interfaces": "postscreen_allowlist_interfaces",
    "postscreen_blacklist_action": "postscreen_denylist_action",
    "postscreen_dnsbl_whitelist_threshold": "postscreen_dnsbl_allowlist_threshold",
    "postscreen_dnsbl_ttl": "postscreen_dnsbl_max_ttl",
    "smtpd_client_connection_limit_exceptions": "smtpd_client_event_limit_exceptions",
    "smtpd_tls_dh512_param_file": "nothing: export-grade cryptography is gone",
    "tls_export_cipherlist": "nothing: export-grade cryptography is gone",
    "tls_low_cipherlist": "nothing: low-grade cryptography is gone",
}
"""Old name → what to set instead."""

WITHDRAWN = {
    "check_relay_domains": "permit_mynetworks, reject_unauth_destination",
    "reject_maps_rbl": "reject_rbl_client DOMAIN",
    "permit_naked_ip_address": "permit_mynetworks or permit_sasl_authenticated",
    "permit_mx_backup": "relay_domains",
    "reject_unknown_client": "reject_unknown_client_hostname",
    "reject_unknown_hostname": "reject_unknown_helo_hostname",
    "reject_non_fqdn_hostname": "reject_non_fqdn_helo_hostname",
    "reject_invalid_hostname": "reject_invalid_helo_hostname",
}
"""Old restriction → its successor."""

_RESTRICTIONS = re.compile(r"smtpd_[a-z_]+_restrictions\Z")
_COMMENT = re.compile(r"(?:\A|[ \t])(#\S*)")

NEVER_WHY = {
    "paths-owners": "it names a place of the other program",
    "process-ipc": "there are no such processes here",
    "tlsproxy": "TLS needs no process of its own here",
    "tables": "no such database is used here",
    "smtpd-tls": "the cryptography or interface that it steers was withdrawn",
    "smtp-tls": "the cryptography or interface that it steers was withdrawn",
    "lmtp-tls": "the cryptography or interface that it steers was withdrawn",
    "tls-engine": "the TLS library decides this by itself",
    "multi-instance": "instances are configuration directories here",
    "qmqp": "this protocol is not spoken",
}
"""Family → why its "never" parameters have no effect."""

_LITERAL_CLASSES = (
    ("mydestination", "virtual_alias_domains"),
    ("mydestination", "virtual_mailbox_domains"),
    ("virtual_alias_domains", "virtual_mailbox_domains"),
    ("virtual_alias_domains", "relay_domains"),
    ("virtual_mailbox_domains", "relay_domains"),
)

_RELAY_GUARDS = {
    "reject_unauth_destination", "defer_unauth_destination", "reject", "defer", "defer_if_permit",
}  # fmt: skip


def check(configuration: Configuration, *, table_types: Collection[str] | None = None) -> list[Finding]:
    """All findings, in the order of files and lines.  ``table_types``: the types that lookup tables may have
    (gateway.tables knows them); None = any."""
    settings, services = configuration.settings, configuration.services
    known = KnownNames(settings, services)
    findings = list(configuration.findings)
    for name in settings.values:
        findings += _parameter(settings, name, known)
    findings += _domain_classes(settings)
    findings += _relay_guard(configuration)
    findings += check_services.check(configuration, lambda own, name: _parameter(own, name, known))
    findings += check_files.check(configuration, table_types)
    return _sorted(findings)


def _sorted(findings: list[Finding]) -> list[Finding]:
    """By file and line, each once."""
    files = list(dict.fromkeys(finding.file for finding in findings))
    return sorted(dict.fromkeys(findings), key=lambda finding: (files.index(finding.file), finding.line))


def _parameter(settings: Settings, name: str, known: KnownNames) -> Iterator[Finding]:
    """What is wrong with one setting of main.cf or of an -o."""
    place = settings.place(name)
    raw = settings.values[name]
    if name in DEPRECATED:
        yield Finding(WARNING, *place, f"{name} is deprecated", f"use {DEPRECATED[name]}")
    elif not known.used(name):
        yield _unknown(name, place)
        return
    comment = _COMMENT.search(raw)
    if comment and not name.endswith("_filter"):
        what = f"#comment after other text is not allowed: {name} = … {comment.group(1)}"
        yield Finding(WARNING, *place, what, "put the comment on a line of its own, with # first")
    parameter = parameters.find(name)
    if parameter is None or parameter.type != parameters.RAW:
        for other in known.undefined_in(raw, settings.values):
            what = f"undefined parameter: {other} (in the value of {name})"
            yield Finding(WARNING, *place, what, "define it, or remove the reference")
    if parameter is None:
        return
    yield from _effect(parameter, place)
    try:
        _value(settings, parameter)
    except ConfigError as error:
        yield error.finding
    if _RESTRICTIONS.match(name):
        yield from _withdrawn(name, raw, place)


def _unknown(name: str, place: Place) -> Finding:
    near = get_close_matches(name, parameters.table(), 1, 0.75)
    mend = f"did you mean {near[0]}?" if near else "remove it; nothing refers to it"
    return Finding(WARNING, *place, f"unused parameter: {name} (no such parameter, and no value refers to it)", mend)


def _effect(parameter: parameters.Parameter, place: Place) -> Iterator[Finding]:
    if parameter.effect == parameters.LATER:
        yield Finding(WARNING, *place, f"{parameter.name} is known but not yet effective", "do not rely on it")
    elif parameter.effect == parameters.NEVER and parameter.name not in DEPRECATED:
        why = NEVER_WHY.get(parameter.family, "nothing here corresponds to it")
        yield Finding(NOTE, *place, f"{parameter.name} has no effect: {why}", "keep it or remove it")


def _value(settings: Settings, parameter: parameters.Parameter) -> None:
    """Read it as what it is.  Raises ConfigError."""
    readers = {
        parameters.TEXT: settings.text,
        parameters.RAW: settings.raw,
        parameters.NUMBER: settings.number,
        parameters.SECONDS: settings.seconds,
        parameters.FLAG: settings.flag,
        parameters.WORDS: settings.words,
        parameters.TABLES: settings.words,
    }
    readers[parameter.type](parameter.name)
    if parameter.name == "compatibility_level":
        settings.expand("${{$compatibility_level} <level {0} ? {} : {}}")


def _withdrawn(name: str, raw: str, place: Place) -> Iterator[Finding]:
    for word in raw.replace(",", " ").split():
        if word in WITHDRAWN:
            yield Finding(WARNING, *place, f"{word} in {name} is deprecated", f"use {WITHDRAWN[word]}")


def _domain_classes(settings: Settings) -> Iterator[Finding]:
    """A domain belongs to one class only (ADDRESS_CLASS_README); mydestination within relay_domains is usual."""
    for first, second in _LITERAL_CLASSES:
        place = settings.place(second if settings.is_set(second) else first)
        for domain in sorted(_domains(settings, first) & _domains(settings, second)):
            what = f"do not list domain {domain} in BOTH {first} and {second}"
            yield Finding(WARNING, *place, what, f"remove it from {first} or from {second}")


def _domains(settings: Settings, name: str) -> set[str]:
    try:
        words = settings.words(name)
    except ConfigError:
        return set()
    return {word.lower() for word in words if not set(word) & set(":/!{") and "." in word}


def _relay_guard(configuration: Configuration) -> Iterator[Finding]:
    """A server that relays for anybody: Postfix refuses to serve it."""
    for service in configuration.services:
        if service.command.rpartition("/")[2] != "smtpd":
            continue
        settings = service.settings(configuration.settings)
        words: set[str] = set()
        for name in ("smtpd_relay_restrictions", "smtpd_recipient_restrictions"):
            try:
                words |= set(settings.words(name))
            except ConfigError:
                words |= _RELAY_GUARDS
        if not words & _RELAY_GUARDS:
            what = (
                f"service {service.name}: neither smtpd_relay_restrictions nor smtpd_recipient_restrictions has a "
                "working reject_unauth_destination, defer_unauth_destination, reject or defer"
            )
            yield Finding(ERROR, service.path, service.line, what, "add reject_unauth_destination")
