"""The command line of sendmail(1): letters as getopt takes them, joined or apart, up to the first that is none.

``parse`` gives Options or raises UsageError.  Options stop at the first recipient: a word that begins with "-" behind
it is no option.  What is wrong with a wish about notifications is said in ``warnings``, and the mail goes without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS

_WITH_VALUE = frozenset("ABCFLNORVXbefhopr")
_FLAGS = frozenset("GIUcimstvx")

_MODES = {
    "m": "mail", "v": "mail", "s": "smtp", "p": "queue", "i": "aliases", "d": "daemon", "l": "daemon",
    "h": "nothing", "H": "nothing",
}  # fmt: skip
_NOTIFY = {"success": NOTIFY_SUCCESS, "failure": NOTIFY_FAILURE, "delay": NOTIFY_DELAY, "never": NOTIFY_NEVER}


class UsageError(Exception):
    """A command line that makes no sense; the text says what."""


@dataclass(slots=True)
class Options:
    mode: str = "mail"
    """"mail", "smtp" (-bs), "queue" (-bp), "aliases" (-bi, -I), "daemon" (-bd), "flush" (-q …),
    "nothing" (-bh, -bH, -qINTERVAL)."""
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
    verp: str | None = None
    """The delimiters; "" = the usual ones; None = not wanted."""
    trace: str = ""
    flush: list[str] = field(default_factory=list)
    """Arguments of postqueue."""
    alias_files: list[str] = field(default_factory=list)
    directory: Path | None = None
    verbose: int = 0
    warnings: list[str] = field(default_factory=list)


def parse(arguments: list[str]) -> Options:
    options = Options()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        _take_word(options, _without_old_verp(options, word, rest)[1:], rest)
    options.recipients = rest
    if options.from_header and options.mode != "mail":
        raise UsageError("-t can be used only in delivery mode")
    if options.verbose == 1 and not options.trace:  # more of them ask for debugging output instead
        options.trace = "record"
    return options


def _without_old_verp(options: Options, word: str, rest: list[str]) -> str:
    """-V was -XV once: alone with two characters behind it, or with both delimiters."""
    if (word == "-V" and rest and len(rest[0]) == 2) or (word.startswith("-V") and len(word) == 4):
        options.warnings.append(f"option {word} is deprecated; specify -X{word[1:]} instead")
        return f"-X{word[1:]}"
    return word


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
        if letter == "n":
            raise UsageError("-n option not supported: aliases are always expanded")
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
        options.notify = _notify(options, value)
    elif letter == "R":
        options.ret = {"full": "FULL", "hdrs": "HDRS"}.get(value.lower(), "")
        if not options.ret:
            options.warnings.append("bad -R option value -- ignored")
    elif letter == "V":
        _envid(options, value)
    elif letter == "X":
        if not value.startswith("V"):
            raise UsageError(f"unsupported: -X{value[:1]}")
        options.verp = value[1:]
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
    elif options.mode == "mail":
        options.mode = "nothing"


def _notify(options: Options, value: str) -> int:
    """0 if it makes no sense."""
    words = value.lower().replace(",", " ").split()
    bits = 0
    for word in words:
        bits |= _NOTIFY.get(word, 0)
    if not set(words) <= set(_NOTIFY) or not bits or (bits & NOTIFY_NEVER and bits != NOTIFY_NEVER):
        options.warnings.append("bad -N option value -- ignored")
        return 0
    return bits


def _envid(options: Options, value: str) -> None:
    if len(value) > 100:
        options.warnings.append("too long -V option value -- ignored")
    elif not value.isascii() or not value.isprintable() or not value:
        options.warnings.append("bad syntax in -V option value -- ignored")
    else:
        options.envid = value
