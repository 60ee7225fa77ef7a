"""Accounts: what is kept, and what is not taken for absence."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from transports import accounts
from transports.accounts import KEEP, Accounts, AccountsAway


@ensureDeferred
async def test_what_was_found_serves_for_a_while() -> None:
    asked = 0

    def in_thread(work: Callable[[], Any]) -> Deferred[Any]:
        nonlocal asked
        asked += 1
        return succeed(work())

    clock = Clock()
    here = Accounts(in_thread, clock.seconds)
    for _ in range(2):
        user = await here.find("root")
        assert user is not None and (user.identity.uid, user.home) == (0, "/root")
        assert await here.look_at("/") is not None
    assert asked == 2
    clock.advance(KEEP)
    await here.find("root")
    assert asked == 3
    for _ in range(2):
        assert await here.find("no-such-user") is None
    assert asked == 5


@ensureDeferred
async def test_who_asks_for_the_same_at_a_time_shares_the_answer() -> None:
    looks: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def in_thread(work: Callable[[], Any]) -> Deferred[Any]:
        looks.append((work, Deferred()))
        return looks[-1][1]

    here = Accounts(in_thread, Clock().seconds)
    first, second, other = (Deferred.fromCoroutine(here.first_present([path])) for path in ("/dev", "/dev", "/proc"))
    assert len(looks) == 2
    for work, answer in looks:
        answer.callback(work())
    assert [await first, await second, await other] == ["/dev", "/dev", "/proc"]
    trouble = [Deferred.fromCoroutine(here.find("root")) for _ in range(2)]
    looks[2][1].errback(AccountsAway("no answer"))
    for one in trouble:
        with pytest.raises(AccountsAway):
            await one


@ensureDeferred
async def test_nobody_at_all() -> None:
    here = Accounts(lambda work: succeed(work()))
    for name in ("", "a/b", "a\0b", "\udcff", "no-such-user"):
        assert await here.find(name) is None
    assert await here.of_uid(3_999_999_999) is None
    found = await here.of_uid(0)
    assert found is not None and found.name == "root"


@ensureDeferred
async def test_a_directory_service_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's pwd raises KeyError for that, too."""
    class Library:
        def getpwnam_r(self, *arguments: Any) -> int:
            return errno.EIO

    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    with pytest.raises(AccountsAway, match=os.strerror(errno.EIO)):
        accounts._by_name("no-such-user")
