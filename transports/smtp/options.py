"""What main.cf and master.cf say about one service, read once: the smtp_… parameters, or lmtp_… for LMTP; postconf(5).

``Options.of(settings, lmtp)`` raises gateway.config's ConfigError for values that cannot be used, and ValueError for a
host name that must not be sent.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config.ports import known_ports, tcp_port
from gateway.config.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]+")
NO_LIMIT = 0


@dataclass(slots=True, frozen=True)
class Times:
    """Seconds that a stage may take."""

    connect: float
    helo: float
    xforward: float
    starttls: float
    mail: float
    rcpt: float
    data_init: float
    data_xfer: float
    data_done: float
    rset: float
    quit: float


@dataclass(slots=True, frozen=True)
class Options:
    """``flags``: those of the service's line in master.cf, out of DORX."""

    lmtp: bool
    flags: str
    own_name: str
    """myhostname: for loop detection."""
    helo: bytes
    directory: str
    """queue_directory: what the path of a local socket is relative to."""
    port: int
    ports: Mapping[str, int]
    """Port numbers by name (known_tcp_ports)."""
    times: Times
    fallback: list[str]
    relayhost: str
    always_ehlo: bool
    never_ehlo: bool
    skip_5xx_greeting: bool
    skip_quit_response: bool
    discard_keywords: frozenset[str]
    line_limit: int
    convert_8bit: bool
    """Make quoted-printable of 8-bit text for a server without 8BITMIME (not disable_mime_output_conversion)."""
    utf8: bool
    xforward: bool
    dummy_auth: bool
    address_limit: int
    session_limit: int
    randomize: bool
    preference: str
    """smtp_address_preference: "any", "ipv4" or "ipv6"."""
    balance: bool
    defer_without_mx_address: bool
    ignore_mx_error: bool
    bind4: str
    bind6: str
    bind_enforced: bool
    cache_on_demand: bool
    cache_destinations: frozenset[str]
    cache_time: float
    reuse_count: int
    reuse_time: float
    pix_workarounds: tuple[str, ...]
    pix_threshold: float
    pix_delay: float
    note_starttls: bool
    probe_data: bool
    """smtp_address_verify_target: what the server says to DATA counts, too."""
    least_rate: int
    """Bytes a second that a server has to take of a message; 0 = any (smtp_per_request_deadline)."""
    plain_after: float
    """Seconds in the queue after which a failure of optional TLS is followed by a try without it."""

    @classmethod
    def of(cls, settings: Settings, lmtp: bool = False, flags: str = "") -> Options:
        prefix = "lmtp_" if lmtp else "smtp_"
        hello = "lhlo" if lmtp else "ehlo"
        parameter = "lmtp_lhlo_name" if lmtp else "smtp_helo_name"
        helo_name = settings.text(parameter)
        if not _NAME.fullmatch(helo_name):
            raise ValueError(f"{parameter}: not a host name: {helo_name!r}")
        ports = known_ports(settings)
        if strange := set(flags) - set("DORX"):
            raise ValueError(f'unknown flags={flags} value "{min(strange)}" in "{flags}"')
        if lmtp and settings.flag("lmtp_assume_final"):
            flags += "X"
        deadline = settings.flag(prefix + "per_request_deadline")
        return cls(
            lmtp=lmtp,
            flags=flags,
            own_name=settings.text("myhostname"),
            helo=helo_name.encode("ascii"),
            directory=settings.text("queue_directory"),
            port=_default_port(settings, prefix + "tcp_port", ports),
            ports=ports,
            times=_times(settings, prefix, lmtp),
            fallback=settings.words(prefix + "fallback_relay"),
            relayhost=settings.text("relayhost"),
            always_ehlo=lmtp or settings.flag("smtp_always_send_ehlo"),
            never_ehlo=not lmtp and settings.flag("smtp_never_send_ehlo"),
            skip_5xx_greeting=settings.flag(prefix + "skip_5xx_greeting"),
            skip_quit_response=settings.flag(prefix + "skip_quit_response"),
            discard_keywords=frozenset(word.upper() for word in settings.words(f"{prefix}discard_{hello}_keywords")),
            line_limit=settings.number(prefix + "line_length_limit"),
            convert_8bit=not settings.flag("disable_mime_output_conversion"),
            utf8=settings.flag("smtputf8_enable"),
            xforward=settings.flag(prefix + "send_xforward_command"),
            dummy_auth=settings.flag(prefix + "send_dummy_mail_auth"),
            address_limit=settings.number(prefix + "mx_address_limit"),
            session_limit=settings.number(prefix + "mx_session_limit"),
            randomize=settings.flag(prefix + "randomize_addresses"),
            preference=settings.text(prefix + "address_preference").lower(),
            balance=settings.flag(prefix + "balance_inet_protocols"),
            defer_without_mx_address=settings.flag(prefix + "defer_if_no_mx_address_found"),
            ignore_mx_error=settings.flag("ignore_mx_lookup_error"),
            bind4=_own_address(settings, prefix + "bind_address", 4),
            bind6=_own_address(settings, prefix + "bind_address6", 6),
            bind_enforced=settings.flag(prefix + "bind_address_enforce"),
            cache_on_demand=settings.flag(prefix + "connection_cache_on_demand"),
            cache_destinations=frozenset(settings.words(prefix + "connection_cache_destinations")),
            cache_time=settings.seconds(prefix + "connection_cache_time_limit"),
            reuse_count=settings.number(prefix + "connection_reuse_count_limit"),
            reuse_time=settings.seconds(prefix + "connection_reuse_time_limit"),
            pix_workarounds=tuple(settings.words(prefix + "pix_workarounds")),
            pix_threshold=settings.seconds(prefix + "pix_workaround_threshold_time"),
            pix_delay=settings.seconds(prefix + "pix_workaround_delay_time"),
            probe_data=_stage(settings, prefix + "address_verify_target"),
            least_rate=max(1, settings.number(prefix + "min_data_rate")) if deadline else 0,
            note_starttls=settings.flag(prefix + "tls_note_starttls_offer"),
            plain_after=settings.seconds("minimal_backoff_time"),
        )


def _times(settings: Settings, prefix: str, lmtp: bool) -> Times:
    def seconds(name: str) -> float:
        return settings.seconds(f"{prefix}{name}_timeout")

    return Times(
        connect=seconds("connect"),
        helo=seconds("lhlo" if lmtp else "helo"),
        xforward=seconds("xforward"),
        starttls=seconds("starttls"),
        mail=seconds("mail"),
        rcpt=seconds("rcpt"),
        data_init=seconds("data_init"),
        data_xfer=seconds("data_xfer"),
        data_done=seconds("data_done"),
        rset=seconds("rset"),
        quit=seconds("quit"),
    )


def _stage(settings: Settings, parameter: str) -> bool:
    text = settings.text(parameter).strip().lower()
    if text not in ("rcpt", "data"):
        raise settings.error(parameter, f"bad protocol stage: {parameter} = {text}", "use rcpt or data")
    return text == "data"


def _own_address(settings: Settings, parameter: str, version: int) -> str:
    text = settings.text(parameter).strip("[]")
    try:
        good = not text or ipaddress.ip_address(text).version == version
    except ValueError:
        good = False
    if not good:
        raise settings.error(parameter, f"{parameter}: {text} is no IPv{version} address")
    return text


def _default_port(settings: Settings, parameter: str, ports: Mapping[str, int]) -> int:
    try:
        return tcp_port(settings.text(parameter), ports)
    except ValueError as error:
        raise settings.error(parameter, f"{parameter}: {error}") from None
