"""main.cf: "name = value", one setting a logical line; postconf(5).

``parse`` never fails: what is wrong goes into ``findings``, with the line.  An ERROR among them is what Postfix refuses
to start with (a line without "="); who needs the file to be sound calls gateway.config.configuration.load.
Of two settings of one name the later one counts, and the earlier is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config.findings import ERROR, WARNING, Finding
from gateway.config.lines import BLANKS, Line, logical_lines


@dataclass(slots=True, frozen=True)
class Entry:
    """One setting, raw."""

    name: str
    value: str
    first: int
    """Number of its first line; 1 = the file's first."""
    last: int


@dataclass(slots=True)
class MainFile:
    """A parsed main.cf."""

    path: str
    entries: dict[str, Entry] = field(default_factory=dict)
    """The settings that count, by name, in the order of the file."""
    findings: list[Finding] = field(default_factory=list)


def parse(text: str, path: str) -> MainFile:
    """``path`` is for messages only."""
    file = MainFile(path)
    for line in logical_lines(text):
        if line.text[0] in BLANKS:
            what = f'logical line must not start with whitespace: "{_clip(line.text)}"'
            file.findings.append(Finding(WARNING, path, line.first, what, "remove the blanks in front"))
            continue
        if "\0" in line.text:
            what = "the line holds a NUL character"
            file.findings.append(Finding(ERROR, path, line.first, what, "remove it"))
            continue
        entry = _entry(line, file)
        if entry is None:
            continue
        earlier = file.entries.pop(entry.name, None)
        if earlier is not None:
            what = f"overriding earlier entry: {entry.name}={earlier.value}"
            mend = f"remove this one or the one in line {earlier.first}"
            file.findings.append(Finding(WARNING, path, entry.first, what, mend))
        file.entries[entry.name] = entry
    return file


def split_setting(text: str) -> tuple[str, str] | str:
    """(name, value) of "name = value", or what is wrong with it."""
    name, equals, value = text.partition("=")
    name = name.strip(BLANKS)
    if equals and not name:
        return f'missing attribute name: "{_clip(text)}"'
    if not equals or any(blank in name for blank in BLANKS):
        return f"missing '=' after attribute name: \"{_clip(text)}\""
    return name, value.strip(BLANKS)


def _entry(line: Line, file: MainFile) -> Entry | None:
    setting = split_setting(line.text)
    if isinstance(setting, str):
        file.findings.append(Finding(ERROR, file.path, line.first, setting, "write it as name = value"))
        return None
    return Entry(setting[0], setting[1], line.first, line.last)


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."
