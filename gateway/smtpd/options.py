"""The parameters of one smtpd service, read once; smtpd(8)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.addresses.verp import Delimiters
from gateway.config import Settings


@dataclass(frozen=True, slots=True)
class Options:
    hostname: str
    banner: str
    mail_name: str
    timeout: float
    starttls_timeout: float
    per_request_deadline: bool
    min_data_rate: int
    line_length_limit: int
    message_size_limit: int
    queue_minfree: int
    delay_open: bool
    """A message has no queue ID before it has a recipient."""
    recipient_limit: int
    recipient_overshoot: int
    soft_errors: int
    hard_errors: int
    junk_commands: int
    error_sleep: float
    helo_required: bool
    disable_vrfy: bool
    strict_envelopes: bool
    smtputf8: bool
    peername_lookup: bool
    port_logging: bool
    discard_keywords: frozenset[str]
    noop_commands: tuple[str, ...]
    command_filter: str
    forbid_pipelining: bool
    bare_newline: str
    """"no", "normalize" or "reject"."""
    bare_newline_code: int
    replace_stray_cr: bool
    soft_bounce: bool
    verp: Delimiters
    content_filter: str
    notify_classes: frozenset[str]
    history_limit: int
    strict_smtputf8: bool
    received_tls: bool
    received_sasl: bool
    hide_client: bool
    tls_level: str
    """"none", "may" or "encrypt"."""
    tls_wrapper: bool
    proxy_protocol: str
    """"haproxy" or ""."""
    proxy_timeout: float

    @classmethod
    def of(cls, settings: Settings) -> Options:
        text, number, flag = settings.text, settings.number, settings.flag
        discard = {word.lower() for word in settings.words("smtpd_discard_ehlo_keywords")}
        return cls(
            hostname=text("myhostname"),
            banner=text("smtpd_banner"),
            mail_name=text("mail_name"),
            timeout=settings.seconds("smtpd_timeout"),
            starttls_timeout=settings.seconds("smtpd_starttls_timeout"),
            per_request_deadline=flag("smtpd_per_request_deadline"),
            min_data_rate=max(1, number("smtpd_min_data_rate")),
            line_length_limit=max(12, number("line_length_limit")),
            message_size_limit=number("message_size_limit"),
            queue_minfree=number("queue_minfree"),
            delay_open=flag("smtpd_delay_open_until_valid_rcpt"),
            recipient_limit=number("smtpd_recipient_limit"),
            recipient_overshoot=number("smtpd_recipient_overshoot_limit"),
            soft_errors=number("smtpd_soft_error_limit"),
            hard_errors=number("smtpd_hard_error_limit"),
            junk_commands=number("smtpd_junk_command_limit"),
            error_sleep=settings.seconds("smtpd_error_sleep_time"),
            helo_required=flag("smtpd_helo_required"),
            disable_vrfy=flag("disable_vrfy_command"),
            strict_envelopes=flag("strict_rfc821_envelopes"),
            smtputf8=flag("smtputf8_enable"),
            peername_lookup=flag("smtpd_peername_lookup"),
            port_logging=flag("smtpd_client_port_logging"),
            discard_keywords=frozenset(discard),
            noop_commands=tuple(word.upper() for word in settings.words("smtpd_noop_commands")),
            command_filter=text("smtpd_command_filter"),
            forbid_pipelining=flag("smtpd_forbid_unauth_pipelining"),
            bare_newline=_bare_newline(settings),
            bare_newline_code=number("smtpd_forbid_bare_newline_reject_code"),
            replace_stray_cr=flag("cleanup_replace_stray_cr_lf"),
            soft_bounce=flag("soft_bounce"),
            verp=Delimiters.of(settings),
            content_filter=text("content_filter"),
            notify_classes=frozenset(word.lower() for word in settings.words("notify_classes")),
            history_limit=number("smtpd_history_flush_threshold"),
            strict_smtputf8=flag("strict_smtputf8"),
            received_tls=flag("smtpd_tls_received_header"),
            received_sasl=flag("smtpd_sasl_authenticated_header"),
            hide_client=flag("smtpd_hide_client_session"),
            tls_level=_tls_level(settings),
            tls_wrapper=flag("smtpd_tls_wrappermode"),
            proxy_protocol=_proxy_protocol(settings),
            proxy_timeout=settings.seconds("smtpd_upstream_proxy_timeout"),
        )


def _bare_newline(settings: Settings) -> str:
    name = "smtpd_forbid_bare_newline"
    value = settings.text(name).strip().lower()
    if value == "yes":
        return "normalize"
    if value in ("no", "normalize", "reject"):
        return value
    raise settings.error(name, f"bad configuration: {name} = {value}", "give normalize, reject, yes or no")


def _proxy_protocol(settings: Settings) -> str:
    name = "smtpd_upstream_proxy_protocol"
    protocol = settings.text(name).strip().lower()
    if protocol not in ("", "haproxy"):
        raise settings.error(name, f"unsupported {name} value: {protocol}", "give haproxy, or nothing")
    return protocol


def _tls_level(settings: Settings) -> str:
    name = "smtpd_tls_security_level"
    level = settings.text(name).strip().lower()
    if not level:
        if settings.flag("smtpd_enforce_tls"):
            return "encrypt"
        return "may" if settings.flag("smtpd_use_tls") else "none"
    if level in ("none", "may", "encrypt"):
        return level
    if level in ("fingerprint", "dane", "dane-only", "verify", "secure"):
        return "encrypt"
    raise settings.error(name, f'Invalid TLS level "{level}"', "give none, may or encrypt")
