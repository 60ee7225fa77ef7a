"""A router that gives a table which is away a rest, as Postfix's clients of trivial-rewrite(8) do.

The last recipient that could not be resolved is not asked for again within REST seconds, as long as no other has been
resolved since: a message that is tried again and again meanwhile waits, without a look-up that must end the same way.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gateway.interfaces import AddressClass, IRouter, Route, TableError

REST = 30.0


@implementer(IRouter)
class PatientRouter:
    def __init__(self, router: IRouter, clock: IReactorTime) -> None:
        self._router = router
        self._clock = clock
        self._failed: tuple[str, str] | None = None
        self._text = ""
        self._until = 0.0

    async def resolve(self, sender: str, recipient: str) -> Route:
        if self._failed == (sender, recipient) and self._clock.seconds() < self._until:
            raise TableError(f"{self._text} (remembered)")
        try:
            route: Route = await self._router.resolve(sender, recipient)
        except TableError as error:
            self._failed, self._text = (sender, recipient), str(error)
            self._until = self._clock.seconds() + REST
            raise
        self._failed = None
        return route

    async def address_class(self, recipient: str) -> AddressClass:
        found: AddressClass = await self._router.address_class(recipient)
        return found
