"""All milters of one SMTP session, one after the other; of a message that comes otherwise, a session played for it.

The first that refuses or discards has the last word.  ``facts`` gives values of macros by name ("{client_addr}", "i"),
"" for what is not known; the configuration's own values and milter_macro_defaults come behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.content.milter import protocol
from gateway.content.milter.client import HOLD, Milter, Verdict
from gateway.content.milter.config import MacroValues, MilterConfig
from gateway.interfaces import Log
from gateway.tables.requests import Network

Facts = Callable[[str], str]


class Chain:
    def __init__(
        self,
        configured: Sequence[MilterConfig],
        values: MacroValues,
        facts: Facts,
        network: Network,
        log: Log,
        program: str,
    ) -> None:
        self.milters = [Milter(one, network, log, program) for one in configured]
        self._values = values
        self._facts = facts

    def macro(self, name: str) -> str:
        return self._values.fixed.get(name) or self._facts(name) or self._values.defaults.get(name, "")

    def with_facts(self, facts: Facts) -> None:
        self._facts = facts

    # --- the session ---------------------------------------------------------------------------------------------

    async def connect(self, name: str, address: str, port: int) -> Verdict | None:
        data = protocol.connect(name, address, port)
        return await self._each(lambda milter: milter.connect(data, self.macro))

    async def helo(self, name: str) -> Verdict | None:
        return await self._tell(protocol.HELO, protocol.text(name))

    async def mail(self, words: Sequence[str]) -> Verdict | None:
        """``words``: the address in angle brackets, and the parameters behind it."""
        return await self._tell(protocol.MAIL, b"".join(map(protocol.text, words)))

    async def rcpt(self, words: Sequence[str]) -> Verdict | None:
        return await self._tell(protocol.RCPT, b"".join(map(protocol.text, words)))

    async def rejected_rcpt(self, words: Sequence[str]) -> None:
        """A recipient that has been refused: for those who want to hear of such, too."""
        data = b"".join(map(protocol.text, words))
        for milter in self.milters:
            if milter.agreed.options & protocol.WANTS_REJECTED:
                await milter.event(protocol.RCPT, data, self.macro)

    async def data(self) -> Verdict | None:
        return await self._tell(protocol.DATA, b"")

    async def unknown(self, line: str) -> Verdict | None:
        return await self._tell(protocol.UNKNOWN, protocol.text(line))

    def abort(self) -> None:
        """The message, or what was said of one, is over."""
        for milter in self.milters:
            milter.abort()

    def close(self) -> None:
        for milter in self.milters:
            milter.close()

    async def _tell(self, command: bytes, data: bytes) -> Verdict | None:
        return await self._each(lambda milter: milter.event(command, data, self.macro))

    async def _each(self, ask: Callable[[Milter], Awaitable[Verdict | None]]) -> Verdict | None:
        """The first verdict that ends it; else whether somebody wants the message held."""
        held: Verdict | None = None
        for milter in self.milters:
            verdict = await ask(milter)
            if verdict is HOLD:
                held = HOLD
            elif verdict is not None:
                return verdict
        return held
