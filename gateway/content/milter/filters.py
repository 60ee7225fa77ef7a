"""What cleanup needs of milters: an inspection for each message that is to have one.

Mail by SMTP brings the milters of its session along (IntakeOptions.chain).  For other mail a session with
non_smtpd_milters is played: from localhost, to the recipients as they were before aliases were looked up, and as in
Postfix without angle brackets around addresses.  Mail of the gateway's own making is looked at
only if internal_mail_filter_classes says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock

from gateway.addresses.basis import Tables
from gateway.addresses.forms import unquote
from gateway.config import Settings
from gateway.content.checks import PROGRAM, Checker, Checks
from gateway.content.milter import config
from gateway.content.milter.chain import Chain
from gateway.content.milter.client import Verdict
from gateway.content.milter.message import Inspection
from gateway.content.options import IntakeOptions
from gateway.interfaces import Log
from gateway.tables.requests import Network
from spool.envelope import Envelope, Recipient

LOCAL_NAME, LOCAL_ADDRESS = "localhost", "127.0.0.1"


class Filters:
    """Raises ConfigError."""

    def __init__(self, settings: Settings, tables: Tables, network: Network, log: Log) -> None:
        self._size_limit = settings.number("message_size_limit")
        self._milters = config.milters(settings, "non_smtpd_milters")
        self._values = config.MacroValues.of(settings)
        self._internal = frozenset(settings.words("internal_mail_filter_classes"))
        self._network = network
        self._log = log
        self._large = DeferredLock()
        words = settings.words("milter_header_checks")
        self._maps: Any = None
        if words:
            self._maps = tables.maps(words, settings, title="milter_header_checks", program=PROGRAM)

    def wanted(self, service: str, options: IntakeOptions) -> bool:
        if options.chain is not None:
            return True
        if not self._milters or not options.milters or service == "smtpd":
            return False
        return not options.internal or options.internal_class in self._internal

    async def inspect(
        self, intake: Any, draft: Any, options: IntakeOptions, next_turn: Callable[[], Awaitable[None]], *, ours: bool
    ) -> list[Recipient]:
        """Have a message looked at.  Those who were added to its recipients.  Raises Rejected, SpoolError,
        TableError."""
        chain: Any = options.chain
        verdict, where = None, ""
        if chain is None:
            chain = Chain(self._milters, self._values, lambda name: "", self._network, self._log, PROGRAM)
        inspection = Inspection(
            chain, intake, draft, self._log, self._header_check(intake), next_turn, self._large,
            ours=ours, size_limit=self._size_limit,
        )
        try:
            if options.chain is None:
                values = _facts(intake)
                chain.with_facts(lambda name: values.get(name, ""))
                verdict, where = await self._play(chain, intake.envelope, values)
            await inspection.run(verdict, where)
        finally:
            if options.chain is None:
                chain.close()
        return inspection.new_recipients

    def _header_check(self, intake: Any) -> Callable[[bytes], Awaitable[list[bytes]]] | None:
        maps = self._maps
        if maps is None:
            return None

        async def find(line: str) -> str | None:
            match = await maps.find(line)
            return match.value if match else None

        checker = Checker(Checks(), intake, self._log)
        return lambda raw: checker.milter_header(find, raw)

    async def _play(self, chain: Chain, envelope: Envelope, values: dict[str, str]) -> tuple[Verdict | None, str]:
        """The session that the message did not come by: what is said of it, and where."""
        events: Sequence[tuple[str, Callable[[], Awaitable[Verdict | None]]]] = [
            ("CONNECT", lambda: chain.connect(LOCAL_NAME, LOCAL_ADDRESS, 0)),
            ("HELO", lambda: chain.helo(LOCAL_NAME)),
            ("MAIL", lambda: chain.mail([unquote(envelope.sender)])),
            *[("RCPT", _rcpt(chain, address, values)) for address in _recipients(envelope)],
            ("DATA", chain.data),
        ]
        held: Verdict | None = None
        for where, event in events:
            verdict = await event()
            if verdict is not None and verdict.ends:
                return verdict, where
            held = held or verdict
        return held, ""


def _recipients(envelope: Envelope) -> list[str]:
    """Blind copies have no original recipient."""
    originals = [recipient.orcpt.partition(";")[2] for recipient in envelope.recipients]
    return list(dict.fromkeys(filter(None, originals)))


def _rcpt(chain: Chain, address: str, values: dict[str, str]) -> Callable[[], Awaitable[Verdict | None]]:
    def tell() -> Awaitable[Verdict | None]:
        values["{rcpt_addr}"] = address
        return chain.rcpt([address])

    return tell


def _facts(intake: Any) -> dict[str, str]:
    return {
        "i": intake.id, "_": f"{LOCAL_NAME} [{LOCAL_ADDRESS}]", "{client_name}": LOCAL_NAME,
        "{client_addr}": LOCAL_ADDRESS, "{client_port}": "0", "{client_ptr}": LOCAL_NAME,
        "{mail_addr}": unquote(intake.envelope.sender),
    }
