"""How settings and services are written out: the columns, braces and folds of postconf(1)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config.master_cf import Service

WIDTH = 80
INDENT = "    "

FIELDS = ("service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command")
"""Names of the eight columns of master.cf."""
_COLUMNS = (0, 11, 17, 25, 33, 41, 49, 57)


def setting(name: str, value: str, *, fold: bool = False) -> str:
    """"name = value"; runs of blanks count as one.  An empty name or value leaves out the "=" as well."""
    words = value.split()
    head = f"{name} =" if name else ""
    if not fold:
        return " ".join([head, *words] if head else words)
    return _fold(head, words)


def service(entry: Service, *, fold: bool = False) -> str:
    """A line of master.cf; folded, each -o stands on a line of its own."""
    line = ""
    for goal, column in zip(_COLUMNS, entry.columns, strict=True):
        line = (line + " ").ljust(goal) + column if line else column
    return _with_words(line, entry, fold)


def command(entry: Service, *, fold: bool = False, label: str = "") -> str:
    """The last column and everything behind it, with ``label`` in front."""
    return _with_words(label + entry.columns[-1], entry, fold)


def _with_words(line: str, entry: Service, fold: bool) -> str:
    groups = [[f"-{letter}", _braced(text)] if text else [f"-{letter}"] for letter, text in entry.options]
    arguments = [_braced(argument) for argument in entry.arguments]
    if arguments and arguments[0].startswith("-"):
        groups.append(["--"])
    if not fold:
        return " ".join([line, *(word for group in groups for word in group), *arguments])
    lines = [line]
    fresh = False  # whether the next word starts a line of its own
    for group in groups:
        if group[0] == "-o":
            lines.append(INDENT + " ".join(group))
            fresh = True
            continue
        for word in group:
            _add(lines, word, fresh)
            fresh = False
    for word in arguments:
        _add(lines, word, fresh)
        fresh = False
    return "\n".join(lines)


def _braced(word: str) -> str:
    return f"{{{word}}}" if any(blank in word for blank in " \t") or not word else word


def _add(lines: list[str], word: str, fresh: bool) -> None:
    if fresh or len(lines[-1]) + len(word) >= WIDTH:
        lines.append(INDENT + word)
    else:
        lines[-1] += " " + word


def _fold(head: str, words: Sequence[str]) -> str:
    lines = [head or words[0]] if head or words else [""]
    for word in words if head else words[1:]:
        _add(lines, word, False)
    return "\n".join(lines)
