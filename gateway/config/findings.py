"""What is wrong with a configuration: one clear line each, with the place and the cure.

A Finding is a value (check gathers them); a ConfigError is raised where going on makes no sense.
"""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that ``mailgateway check`` has to say."""

    severity: str
    """ERROR: mail is refused, deferred or lost by it; WARNING: probably not what was meant; NOTE: only with -v."""
    file: str
    """Path of the file in question; "" when it is no file's fault."""
    line: int
    """1 = the first; 0 = the file as a whole."""
    what: str
    mend: str = ""
    """What to do about it; "" when ``what`` says it."""

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.what}: {self.mend}" if self.mend else f"{place}{self.what}"


class ConfigError(Exception):
    """The configuration cannot be used.  str() is one line, "FILE, line N: what is wrong: how to mend"."""

    def __init__(self, what: str, mend: str = "", *, file: str = "", line: int = 0) -> None:
        self.finding = Finding(ERROR, file, line, what, mend)
        super().__init__(str(self.finding))
