"""master.cf: the services; master(5)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Service:
    """One service of master.cf."""

    name: str
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
    """Without the -o options, braces around an argument taken off."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Raw values of the -o options."""
    line: int = 0
    path: str = ""
