"""A failed resolution is not tried again at once."""

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.addresses.patience import REST, PatientRouter
from gateway.interfaces import AddressClass, IRouter, Route, TableError
from tests.gateway.addresses.support import now


@implementer(IRouter)
class Broken:
    def __init__(self) -> None:
        self.away = {"a@x"}
        self.asked: list[str] = []

    async def resolve(self, sender: str, recipient: str) -> Route:
        self.asked.append(recipient)
        if recipient in self.away:
            raise TableError("tcp:t: refused")
        return Route("smtp", "x", recipient, AddressClass.DEFAULT)

    async def address_class(self, recipient: str) -> AddressClass:
        return AddressClass.RELAY


def test_a_failure_is_remembered_for_a_while() -> None:
    clock, broken = Clock(), Broken()
    router = PatientRouter(broken, clock)
    assert verifyObject(IRouter, router)
    assert now(router.address_class("a@x")) is AddressClass.RELAY
    for _ in range(2):
        with pytest.raises(TableError, match="tcp:t: refused"):
            now(router.resolve("s@x", "a@x"))
    assert broken.asked == ["a@x"]
    broken.away.clear()
    assert now(router.resolve("other@x", "a@x")).transport == "smtp"
    assert now(router.resolve("s@x", "a@x")).transport == "smtp"


def test_and_forgotten() -> None:
    clock, broken = Clock(), Broken()
    router = PatientRouter(broken, clock)
    with pytest.raises(TableError):
        now(router.resolve("s@x", "a@x"))
    broken.away.clear()
    clock.advance(REST - 1)
    with pytest.raises(TableError):
        now(router.resolve("s@x", "a@x"))
    clock.advance(1)
    assert now(router.resolve("s@x", "a@x")).transport == "smtp"


def test_another_recipient_takes_its_place() -> None:
    broken = Broken()
    router = PatientRouter(broken, Clock())
    with pytest.raises(TableError):
        now(router.resolve("s@x", "a@x"))
    now(router.resolve("s@x", "b@x"))
    with pytest.raises(TableError):
        now(router.resolve("s@x", "a@x"))
    assert broken.asked == ["a@x", "b@x", "a@x"]
