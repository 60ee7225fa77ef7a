"""Logins that the gateway checks itself: the exchanges, on top of a Backend; see sasl_types.Authenticator.

A mechanism runs as a coroutine that rests while the client is asked.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from gateway.interfaces import Log
from gateway.smtpd.sasl_mechanisms import MECHANISMS, RUN, Backend, Denied, Exchange, Unavailable
from gateway.smtpd.sasl_types import Facts, Outcome, Step
from gateway.tables.requests import NoAnswer


def new_nonce() -> str:
    return secrets.token_urlsafe(24)


class OwnServer:
    """``backend``: who knows the users."""

    def __init__(
        self, backend: Backend, hostname: str, log: Log, program: str, nonce: Callable[[], str] = new_nonce
    ) -> None:
        self._backend = backend
        self._hostname = hostname
        self._log = log
        self._program = program
        self._nonce = nonce
        self._numbers = 0
        self._open: dict[int, _Dialogue] = {}

    async def mechanisms(self) -> dict[str, frozenset[str]]:
        try:
            known = self._backend.mechanisms()
        except Unavailable as problem:
            raise NoAnswer(str(problem), str(problem)) from None
        return {name: properties for name, properties in MECHANISMS.items() if name in known}

    async def first(self, mechanism: str, response: bytes | None, facts: Facts) -> Step:
        self._numbers += 1
        if mechanism.endswith("-PLUS") and not facts.secured:
            return Step(Outcome.FAILED, self._numbers, "Invalid authentication mechanism")
        dialogue = self._open[self._numbers] = _Dialogue(self._numbers)
        first = None if response is None else b64decode(response)
        exchange = Exchange(
            self._backend, first, dialogue.ask, self._nonce, self._hostname, facts.secured, facts.binding
        )
        dialogue.start(self._run(mechanism, exchange, self._numbers))
        return await self._step(dialogue)

    async def more(self, number: int, response: bytes) -> Step:
        dialogue = self._open.get(number)
        if dialogue is None:
            return Step(Outcome.TEMPORARY, number, "the exchange is over")
        dialogue.answer(b64decode(response))
        return await self._step(dialogue)

    def forget(self, number: int) -> None:
        dialogue = self._open.pop(number, None)
        if dialogue is not None:
            dialogue.cancel()

    async def _step(self, dialogue: _Dialogue) -> Step:
        step = await dialogue.next()
        if step.outcome is not Outcome.MORE:
            self._open.pop(dialogue.number, None)
        return step

    async def _run(self, mechanism: str, exchange: Exchange, number: int) -> Step:
        try:
            return Step(Outcome.DONE, number, "", await RUN[mechanism](exchange))
        except Denied as denied:
            return Step(Outcome.FAILED, number, denied.reason, denied.user)
        except Unavailable as problem:
            self._log.warning(self._program, f"SASL authentication problem: {problem}")
            return Step(Outcome.TEMPORARY, number, "authentication server is away")


class _Dialogue:
    """Between a mechanism and the client: what each waits for from the other."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._steps: list[Any] = []
        self._wanted: Deferred[Step] | None = None
        self._client: Deferred[bytes] | None = None
        self._running: Deferred[Step] | None = None

    def start(self, work: Any) -> None:
        self._running = Deferred.fromCoroutine(work)
        self._running.addCallbacks(self._give, self._fail)

    async def ask(self, challenge: bytes) -> bytes:
        """For the mechanism."""
        self._client = Deferred()
        self._give(Step(Outcome.MORE, self.number, b64encode(challenge).decode()))
        return await self._client

    def answer(self, response: bytes) -> None:
        waiting, self._client = self._client, None
        if waiting is not None:
            waiting.callback(response)

    def next(self) -> Deferred[Step]:
        wanted = self._wanted = Deferred()
        self._hand_over()
        return wanted

    def cancel(self) -> None:
        self._wanted = None
        if self._running is not None:
            self._running.cancel()

    def _give(self, step: Step) -> None:
        self._steps.append(step)
        self._hand_over()

    def _fail(self, failure: Any) -> None:
        if failure.check(CancelledError):
            return
        self._steps.append(failure)
        self._hand_over()

    def _hand_over(self) -> None:
        wanted = self._wanted
        if wanted is not None and self._steps and not wanted.called:
            self._wanted = None
            step = self._steps.pop(0)
            if isinstance(step, Step):
                wanted.callback(step)
            else:
                wanted.errback(step)
