"""text/plain; format=flowed (RFC 3676): lines that end with a space go on in the next."""

from __future__ import annotations

import re

_QUOTES = re.compile(">*")


def unflow(text: str, delsp: bool = False) -> str:
    """The text with its paragraphs on one line each, whatever their length; quotes keep their marks, one "> " for each
    level.  ``delsp``: the space at the end of a line is no space of the text."""
    lines: list[str] = []
    open_depth: int | None = None
    """The level of a paragraph that goes on."""
    for line in text.split("\n"):
        depth = len(_QUOTES.match(line).group())  # type: ignore[union-attr]
        line = line[depth:].removeprefix(" ")  # space-stuffing
        signature = line == "-- "
        flows = line.endswith(" ") and not signature
        if flows and delsp:
            line = line[:-1]
        if open_depth == depth and not signature:
            lines[-1] += line
        else:
            lines.append("> " * depth + line)
        open_depth = depth if flows else None
    return "\n".join(lines)
