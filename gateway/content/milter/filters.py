"""What cleanup needs of milters: an inspection for each message that is to have one.

Mail by SMTP brings the milters of its session along (IntakeOptions.chain).  For other mail a session with
non_smtpd_milters is played: from localhost, with our own name for HELO.  Mail of the gateway's own making is looked at
only if internal_mail_filter_classes says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.addresses.basis import Tables
from gateway.config import Settings
from gateway.content.checks import PROGRAM, Checker, Checks
from gateway.content.milter import config
from gateway.content.milter.chain import Chain
from gateway.content.milter.client import Verdict
from gateway.content.milter.message import Inspection
from gateway.content.options import IntakeOptions
from gateway.interfaces import Log
from gateway.tables.requests import Network
from spool.envelope import Envelope

LOCAL_NAME, LOCAL_ADDRESS = "localhost", "127.0.0.1"


class Filters:
    """Raises ConfigError."""

    def __init__(self, settings: Settings, tables: Tables, network: Network, log: Log) -> None:
        self._host = settings.text("myhostname")
        self._size_limit = settings.number("message_size_limit")
        self._milters = config.milters(settings, "non_smtpd_milters")
        self._values = config.MacroValues.of(settings)
        self._internal = frozenset(settings.words("internal_mail_filter_classes"))
        self._network = network
        self._log = log
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

    async def inspect(self, intake: Any, draft: Any, options: IntakeOptions, *, ours: bool) -> list[str]:
        """Have a message looked at.  Addresses that were added to its recipients.  Raises Rejected, SpoolError,
        TableError."""
        chain: Any = options.chain
        verdict: Verdict | None = None
        if chain is None:
            chain = Chain(self._milters, self._values, lambda name: "", self._network, self._log, PROGRAM)
        inspection = Inspection(
            chain, intake, draft, self._log, self._header_check(intake), ours=ours, size_limit=self._size_limit
        )
        try:
            if options.chain is None:
                chain.with_facts(_facts(intake))
                verdict = await self._play(chain, intake.envelope)
            await inspection.run(verdict)
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

    async def _play(self, chain: Chain, envelope: Envelope) -> Verdict | None:
        """The session that the message did not come by."""
        events: Sequence[Callable[[], Awaitable[Verdict | None]]] = [
            lambda: chain.connect(LOCAL_NAME, LOCAL_ADDRESS, 0),
            lambda: chain.helo(self._host),
            lambda: chain.mail([f"<{envelope.sender}>"]),
            *[_rcpt(chain, recipient.address) for recipient in envelope.recipients],
            chain.data,
        ]
        held: Verdict | None = None
        for event in events:
            verdict = await event()
            if verdict is not None and verdict.ends:
                return verdict
            held = held or verdict
        return held


def _rcpt(chain: Chain, address: str) -> Callable[[], Awaitable[Verdict | None]]:
    return lambda: chain.rcpt([f"<{address}>"])


def _facts(intake: Any) -> Callable[[str], str]:
    values = {
        "i": intake.id, "_": f"{LOCAL_NAME} [{LOCAL_ADDRESS}]", "{client_name}": LOCAL_NAME,
        "{client_addr}": LOCAL_ADDRESS, "{client_port}": "0", "{client_ptr}": LOCAL_NAME,
        "{mail_addr}": intake.envelope.sender,
    }
    return lambda name: values.get(name, "")
