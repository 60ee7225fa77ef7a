"""Which guard goes with which program (see transports.guard)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from transports import fax, uucp
from transports.guard import Guard

InThread = Callable[[Callable[[], None]], Awaitable[None]]


class Guards:
    """Chooses a guard for a command.  ``in_thread``: runs a function in a thread pool (for syncing to disk)."""

    def __init__(self, in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._syncs: dict[str, uucp.GroupSync] = {}

    def choose(self, argv: Sequence[str]) -> Guard:
        """``argv``: the words of the command as configured."""
        return fax.guard_for(argv) or uucp.guard_for(argv, self._sync) or Guard()

    def uux(self, spool: str) -> uucp.UuxGuard:
        """The guard for uux with that spool folder, whatever the command line says."""
        return uucp.UuxGuard(self._sync(spool))

    def _sync(self, folder: str) -> uucp.GroupSync:
        """One for each folder, so that services which share it share its syncs."""
        if folder not in self._syncs:
            self._syncs[folder] = uucp.GroupSync(folder, self._in_thread)
        return self._syncs[folder]
