"""Which milters there are: smtpd_milters, smtpd_milter_maps, non_smtpd_milters and the milter_* parameters.

A milter is "inet:HOST:PORT" or "unix:PATH" (below queue_directory, if relative), alone or in braces with parameters of
its own: ``{ inet:host:port, connect_timeout=10s, default_action=accept }``.  Raises ConfigError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.config import Settings
from gateway.config.settings import split_service
from gateway.content.milter import protocol
from gateway.tables.requests import Place, service_place

ACCEPT, REJECT, TEMPFAIL, QUARANTINE, SHUTDOWN = "accept", "reject", "tempfail", "quarantine", "shutdown"
DEFAULT_ACTIONS = (ACCEPT, REJECT, TEMPFAIL, QUARANTINE, SHUTDOWN)

DISABLE = "DISABLE"
"""In smtpd_milter_maps: no milters for that client."""

_MACROS = {
    protocol.CONNECT: "milter_connect_macros", protocol.HELO: "milter_helo_macros",
    protocol.MAIL: "milter_mail_macros", protocol.RCPT: "milter_rcpt_macros", protocol.DATA: "milter_data_macros",
    protocol.END_OF_HEADER: "milter_end_of_header_macros", protocol.END: "milter_end_of_data_macros",
    protocol.UNKNOWN: "milter_unknown_command_macros",
}  # fmt: skip
_OWN = ("connect_timeout", "command_timeout", "content_timeout", "default_action", "protocol")


@dataclass(frozen=True, slots=True)
class MilterConfig:
    name: str
    """As configured, for the log."""
    place: Place
    connect_timeout: float
    command_timeout: float
    content_timeout: float
    default_action: str
    version: int
    macros: Mapping[bytes, tuple[str, ...]]
    """By command, as packets have them: braces around names of more than one character."""


@dataclass(frozen=True, slots=True)
class MacroValues:
    """Values of macros that the configuration alone decides."""

    fixed: Mapping[str, str]
    defaults: Mapping[str, str]
    """milter_macro_defaults: where there is no other value."""

    @classmethod
    def of(cls, settings: Settings) -> MacroValues:
        fixed = {
            "j": settings.text("myhostname"),
            "v": settings.text("milter_macro_v"),
            "{daemon_name}": settings.text("milter_macro_daemon_name"),
        }
        defaults = {}
        for word in settings.words("milter_macro_defaults"):
            name, equals, value = word.partition("=")
            name = name.strip().removeprefix("{").removesuffix("}")
            if not equals:
                parameter = "milter_macro_defaults"
                raise settings.error(parameter, f"{parameter}: {word}: no '='", "give name=value")
            defaults[name] = defaults[f"{{{name}}}"] = value.strip()
        return cls(fixed, defaults)


def braced(name: str) -> str:
    return name if len(name) == 1 or name.startswith("{") else f"{{{name}}}"


def milters(settings: Settings, parameter: str) -> list[MilterConfig]:
    """The milters of smtpd_milters or non_smtpd_milters."""
    return parse(settings, parameter, settings.words(parameter))


def parse(settings: Settings, parameter: str, words: Iterable[str]) -> list[MilterConfig]:
    try:
        return [_milter(settings, word) for word in words]
    except ValueError as error:
        raise settings.error(parameter, f"{parameter}: {error}", "give inet:host:port or unix:path") from None


def _milter(settings: Settings, word: str) -> MilterConfig:
    name, own = _taken_apart(word)
    if own:
        settings = settings.with_overrides(own)
    action = settings.text("milter_default_action").strip().lower()
    if action not in DEFAULT_ACTIONS:
        raise ValueError(f"bad default action {action}: choose from {', '.join(DEFAULT_ACTIONS)}")
    version = settings.number("milter_protocol")
    if version not in protocol.OFFERED:
        raise ValueError(f"unknown protocol version {version}: choose from {', '.join(map(str, protocol.OFFERED))}")
    return MilterConfig(
        name=name,
        place=service_place(name, settings),
        connect_timeout=settings.seconds("milter_connect_timeout"),
        command_timeout=settings.seconds("milter_command_timeout"),
        content_timeout=settings.seconds("milter_content_timeout"),
        default_action=action,
        version=version,
        macros={
            command: tuple(braced(macro) for macro in settings.words(parameter))
            for command, parameter in _MACROS.items()
        },
    )


def _taken_apart(word: str) -> tuple[str, dict[str, str]]:
    """The milter, and the parameters that are set for it."""
    server, options = split_service(word)
    own: dict[str, str] = {}
    for option, name, value in options:
        if value is None or name not in _OWN:
            raise ValueError(f'bad attribute "{option}" (choose from {", ".join(_OWN)})')
        own[f"milter_{name}"] = value
    if not server:
        raise ValueError("an empty pair of braces")
    return server, own
