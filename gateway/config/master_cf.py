"""master.cf: the services, one a logical line of eight columns; master(5).

``parse`` never fails: what is wrong goes into ``findings``, with the line.  Options in front of a command's arguments
are read as the daemons' getopt does: "-o name=value" (or "-o { name = value }") overrides a parameter, "-v" makes
verbose; the first word that is no option ends them, so that an "-o" within a pipe's argv= belongs to the program there.
Of two services of one name and type the later one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.config.findings import ERROR, WARNING, Finding
from gateway.config.lines import BLANKS, Line, logical_lines
from gateway.config.main_cf import split_setting
from gateway.config.settings import Place, Settings, split_words

TYPES = ("inet", "unix", "unix-dgram", "fifo", "pass")

_WITHOUT_ARGUMENT = "DdSVhluvz"
_FIELDS = ("private", "unprivileged", "chroot")


@dataclass(slots=True)
class Service:
    """One service of master.cf."""

    name: str
    """A path below the queue directory's private/ or public/, or [HOST:]PORT for inet."""
    type: str
    """inet, unix, unix-dgram, fifo or pass."""
    private: bool = True
    unpriv: bool = True
    chroot: bool = False
    wakeup: str = "0"
    """Seconds, with "?" behind it as written; "0" = never."""
    maxproc: int | None = None
    """None = default_process_limit; 0 = no limit."""
    command: str = ""
    arguments: list[str] = field(default_factory=list)
    """Without the options in front of them; braces around an argument are taken off."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Raw values of the -o options."""
    line: int = 0
    path: str = ""
    """The file, for messages."""
    verbose: int = 0
    """How many -v there are."""
    columns: list[str] = field(default_factory=list)
    """The first eight columns as written, for postconf."""
    options: list[tuple[str, str]] = field(default_factory=list)
    """The options in front of the arguments, in their order: ("v", ""), ("o", "name=value")."""

    def settings(self, settings: Settings) -> Settings:
        """The settings as this service sees them: with its overrides, $service_name and $process_name."""
        own = {"service_name": self.name, "process_name": self.command.rpartition("/")[2]}
        return settings.with_overrides(own | self.overrides, Place(self.path, self.line))


@dataclass(slots=True)
class MasterFile:
    """A parsed master.cf."""

    path: str
    services: list[Service] = field(default_factory=list)
    """In the order of the file, each name and type once."""
    findings: list[Finding] = field(default_factory=list)
    every: list[Service] = field(default_factory=list)
    """All entries, also those that a later one replaces."""


class _Bad(Exception):
    """A line that cannot be used: (what, how to mend)."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what, self.mend = what, mend


def parse(text: str, path: str) -> MasterFile:
    """``path`` is for messages only."""
    file = MasterFile(path)
    kept: dict[tuple[str, str], Service] = {}
    for line in logical_lines(text):
        if line.text[0] in BLANKS:
            what = f'logical line must not start with whitespace: "{line.text[:60]}"'
            file.findings.append(Finding(WARNING, path, line.first, what, "remove the blanks in front"))
            continue
        try:
            service = _service(line, file)
        except _Bad as bad:
            file.findings.append(Finding(ERROR, path, line.first, bad.what, bad.mend))
            continue
        file.every.append(service)
        earlier = kept.pop((service.name, service.type), None)
        if earlier is not None:
            what = f"duplicate service {service.name}/{service.type}"
            mend = f"remove this one or the one in line {earlier.line}"
            file.findings.append(Finding(WARNING, path, line.first, what, mend))
        kept[service.name, service.type] = service
    file.services = list(kept.values())
    return file


def _service(line: Line, file: MasterFile) -> Service:
    columns = line.text.split(None, 7)
    if len(columns) < 8:
        columns_are = "name type private unpriv chroot wakeup maxproc command"
        raise _Bad("bad field count", f"give all eight columns: {columns_are}")
    if "\0" in line.text:
        raise _Bad("the line holds a NUL character", "remove it")
    name, type, private, unpriv, chroot, wakeup, maxproc = columns[:7]
    if type not in TYPES:
        raise _Bad(f'invalid type field "{type}" in "{_clip(line.text)}"', f"give one of {', '.join(TYPES)}")
    for column, value in zip(_FIELDS, (private, unpriv, chroot), strict=True):
        if value not in ("y", "n", "-"):
            raise _Bad(f'invalid {column} field "{value}" in "{_clip(line.text)}"', "give y, n or -")
    if type == "inet" and private == "y":
        raise _Bad(f'invalid private field "{private}" in "{_clip(line.text)}"', "an inet service cannot be private: n")
    if wakeup != "-" and not wakeup.removesuffix("?").isdecimal():
        raise _Bad(f'invalid wakeup field "{wakeup}" in "{_clip(line.text)}"', "give seconds (with ? behind), 0 or -")
    if maxproc != "-" and not maxproc.isdecimal():
        raise _Bad(f'invalid process_limit field "{maxproc}" in "{_clip(line.text)}"', "give a number, 0 or -")
    words = _words(columns[7], line, file)
    service = Service(
        name=name,
        type=type,
        private=private != "n",
        unpriv=unpriv != "n",
        chroot=chroot == "y",
        wakeup="0" if wakeup == "-" else wakeup,
        maxproc=None if maxproc == "-" else int(maxproc),
        command=_bare(words[0]),
        line=line.first,
        path=file.path,
        columns=[*columns[:7], words[0]],
    )
    _read_options(service, words[1:])
    return service


def _words(text: str, line: Line, file: MasterFile) -> list[str]:
    """The command and its arguments, each as written; a broken brace is reported and closed at the end."""
    try:
        words = split_words(text, BLANKS)
    except ValueError as problem:
        file.findings.append(Finding(WARNING, file.path, line.first, str(problem), "balance the braces"))
        words = text.split()
    for word in words:
        if word.startswith("{") and not word.endswith("}"):
            what = f"syntax error after '}}' in \"{word}\""
            file.findings.append(Finding(WARNING, file.path, line.first, what, "put a blank behind the brace"))
    return words


def _read_options(service: Service, words: Sequence[str]) -> None:
    """Fill options, overrides, verbose and arguments; raise _Bad for an -o that sets nothing."""
    at = 0
    while at < len(words):
        word = words[at]
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "--":
            break
        for index, letter in enumerate(word[1:], 1):
            if letter in _WITHOUT_ARGUMENT:
                service.verbose += letter == "v"
                service.options.append((letter, ""))
                continue
            argument = word[index + 1 :]
            if not argument and at < len(words):
                argument = words[at]
                at += 1
            service.options.append((letter, _override(service, argument) if letter == "o" else _bare(argument)))
            break
    service.arguments = [_bare(word) for word in words[at:]]


def _override(service: Service, argument: str) -> str:
    """Note the setting; its text, without the blanks that don't count."""
    setting = split_setting(_bare(argument))
    if isinstance(setting, str):
        raise _Bad(f"option -o: {setting}", "write -o name=value or -o { name = value }")
    service.overrides[setting[0]] = setting[1]
    return f"{setting[0]}={setting[1]}"


def _bare(word: str) -> str:
    """An argument without the braces that kept it together."""
    if word.startswith("{") and word.endswith("}"):
        return word[1:-1].strip(BLANKS)
    return word


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."
