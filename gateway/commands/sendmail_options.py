"""The command line of sendmail(1): letters as getopt takes them, joined or apart, up to the first that is none.

``parse`` gives Options or raises UsageError.  Options stop at the first recipient: an address that begins with "-"
behind it is no option, and no recipient either (the caller refuses it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS

_WITH_VALUE = frozenset("ABCFLNORVXbefhopr")
_FLAGS = frozenset("GIUcimnstvx")

_MODES = {
    "m": "mail", "v": "mail", "s": "smtp", "p": "queue", "i": "aliases", "d": "daemon", "l": "daemon",
    "h": "mail", "H": "mail",
}  # fmt: skip
_NOTIFY = {"success": NOTIFY_SUCCESS, "failure": NOTIFY_FAILURE, "delay": NOTIFY_DELAY, "never": NOTIFY_NEVER}


class UsageError(Exception):
    """A command line that makes no sense; the text says what."""


@dataclass(slots=True)
class Options:
    mode: str = "mail"
    """"mail", "smtp" (-bs), "queue" (-bp), "aliases" (-bi, -I), "daemon" (-bd), "flush" (-q …)."""
    recipients: list[str] = field(default_factory=list)
    sender: str | None = None
    """As given, in internal or external form, with or without <>; None = not given."""
    full_name: str | None = None
    from_header: bool = False
    ignore_dots: bool = False
    gateway: bool = False
    notify: int = 0
    ret: str = ""
    envid: str = ""
    encoding: str = ""
    verp: str = ""
    trace: str = ""
    flush: list[str] = field(default_factory=list)
    """Arguments of postqueue."""
    alias_files: list[str] = field(default_factory=list)
    directory: Path | None = None
    verbose: int = 0


def parse(arguments: list[str]) -> Options:
    options = Options()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        _take_word(options, word[1:], rest)
    options.recipients = rest
    if options.verbose and not options.trace:
        options.trace = "record"
    return options


def _take_word(options: Options, letters: str, rest: list[str]) -> None:
    """One word of options; ``rest`` gives the value if it is not attached."""
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter == "q":
            _flush(options, letters)
            return
        if letter in _WITH_VALUE:
            if not letters and not rest:
                raise UsageError(f"option -{letter} needs a value; usage: sendmail [options]")
            _take_value(options, letter, letters or rest.pop(0))
            return
        if letter not in _FLAGS:
            raise UsageError(f"unknown option -{letter}; usage: sendmail [options]")
        _take_flag(options, letter)


def _take_flag(options: Options, letter: str) -> None:
    if letter == "G":
        options.gateway = True
    elif letter == "I":
        options.mode = "aliases"
    elif letter == "i":
        options.ignore_dots = True
    elif letter == "t":
        options.from_header = True
    elif letter == "v":
        options.verbose += 1


def _take_value(options: Options, letter: str, value: str) -> None:
    if letter == "b":
        _mode(options, value)
    elif letter in "fr":
        options.sender = value
    elif letter == "F":
        options.full_name = value
    elif letter == "B":
        options.encoding = {"8bitmime": "8bit", "7bit": "7bit"}.get(value.lower(), "")
        if not options.encoding:
            raise UsageError(f"-B option needs 7BIT or 8BITMIME, not {value}")
    elif letter == "C":
        path = Path(value)
        options.directory = path.parent if path.name == "main.cf" else path
    elif letter == "N":
        options.notify = _notify(value)
    elif letter == "R":
        options.ret = {"full": "FULL", "hdrs": "HDRS"}.get(value.lower(), "")
        if not options.ret:
            raise UsageError(f"-R option needs full or hdrs, not {value}")
    elif letter == "V":
        _envid(options, value)
    elif letter == "X" and value.startswith("V"):
        _verp(options, value[1:])
    elif letter == "o":
        _old_option(options, value)


def _mode(options: Options, value: str) -> None:
    if value not in _MODES:
        raise UsageError(f"unsupported: -b{value}")
    options.mode = _MODES[value]
    if value == "v":
        options.trace = "verify"


def _old_option(options: Options, value: str) -> None:
    if value == "i":
        options.ignore_dots = True
    elif value.startswith("A") and len(value) > 1:
        options.alias_files.append(value[1:])


def _flush(options: Options, value: str) -> None:
    """-q alone, -qIID, -qRSITE; -qINTERVAL asks a daemon for something that ours does by itself."""
    if not value:
        options.mode, options.flush = "flush", ["-f"]
    elif value[0] == "I" and len(value) > 1:
        options.mode, options.flush = "flush", ["-i", value[1:]]
    elif value[0] == "R" and len(value) > 1:
        options.mode, options.flush = "flush", ["-s", value[1:]]
    elif not value[0].isdigit():
        raise UsageError(f"-q{value}: unknown queue selection")


def _notify(value: str) -> int:
    bits = 0
    for word in value.lower().replace(",", " ").split():
        if word not in _NOTIFY:
            raise UsageError(f"-N option needs never, or success, failure, delay, not {value}")
        bits |= _NOTIFY[word]
    if not bits or bits & NOTIFY_NEVER and bits != NOTIFY_NEVER:
        raise UsageError(f"-N option needs never, or success, failure, delay, not {value}")
    return bits


def _envid(options: Options, value: str) -> None:
    if not value.isascii() or not value.isprintable() or not 0 < len(value) <= 100:
        raise UsageError("-V option needs an envelope ID of 1 to 100 printable characters")
    options.envid = value


def _verp(options: Options, value: str) -> None:
    if value and (len(value) != 2 or not value.isascii() or value.isalnum()):
        raise UsageError(f"-XV needs two delimiter characters or none, not {value}")
    options.verp = value or "+="
