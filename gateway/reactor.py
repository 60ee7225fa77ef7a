"""The reactor of the role processes: Twisted's epoll reactor without a log context for each event.

Twisted calls whatever is ready inside a context that names it, so that lines of Twisted's own log could say which
connection they are about.  Our log lines name their connection themselves and never look at that context; making it
costs as much as reading a command.  All else, errors in protocols among it, goes Twisted's way.
"""

from __future__ import annotations

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log


class PlainReactor(EPollReactor):
    """See the module."""

    def doPoll(self, timeout: float | None) -> None:
        events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        selectables, act = self._selectables, self._doReadOrWrite
        ready = [(descriptor, selectables.get(descriptor), event) for descriptor, event in events]
        for descriptor, selectable, event in ready:
            # What was done for others may have closed it, and another one may have got its number: the event, such as
            # that the other end has hung up, is not the new one's.
            if selectable is not None and selectables.get(descriptor) is selectable:
                try:
                    act(selectable, descriptor, event)
                except KeyboardInterrupt:
                    raise
                except BaseException:
                    log.err()

    doIteration = doPoll


def install() -> None:
    """As the reactor that ``from twisted.internet import reactor`` gives."""
    from twisted.internet.main import installReactor

    installReactor(PlainReactor())
