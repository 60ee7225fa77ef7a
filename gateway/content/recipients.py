"""Envelope addresses on their way in: rewriting, expansion, blind copies, duplicates; cleanup(8).

Takes the envelope as received and changes it into what is stored.  Every recipient keeps its form before rewriting
(``original``).  Mail that comes by several addresses to the same one is delivered as often, with each of them in
X-Original-To:, or with enable_original_recipient = no once.  A recipient without a DSN original recipient (RFC 3461
4.2) has not come by SMTP; it gets the address after rewriting, before virtual aliases are expanded.  Raises TableError
when a table is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.addresses.forms import unquote
from gateway.config import Settings
from spool.envelope import NOTIFY_NEVER, NOTIFY_SUCCESS, Envelope, Recipient, note_expanded

AT_ONCE = 500
"""Recipients that are worked on in one turn of the reactor: a user's mail may have tens of thousands."""

BlindCopies = Callable[[str], Awaitable[str | None]]


class Rewriting(Protocol):
    """What cleanup needs of gateway.addresses (an ordered list of rewriters stands behind each)."""

    async def envelope_sender(self, address: str) -> str: ...

    async def envelope_recipient(self, address: str) -> str: ...

    async def expand(self, address: str) -> list[str]: ...

    async def header(self, name: str, value: bytes, context: str) -> bytes:
        """The value of an address header with its addresses rewritten; the same object if nothing changes."""
        ...

    def without_mappings(self) -> Rewriting:
        """Only what makes addresses complete (receive_override_options = no_address_mappings)."""
        ...


@dataclass(frozen=True, slots=True)
class EnvelopeRules:
    """The parameters for it, read once."""

    always_bcc: str = ""
    tell_originals_apart: bool = True
    duplicate_limit: int = 1000

    @classmethod
    def of(cls, settings: Settings) -> EnvelopeRules:
        return cls(
            always_bcc=settings.text("always_bcc"),
            tell_originals_apart=settings.flag("enable_original_recipient"),
            duplicate_limit=settings.number("duplicate_filter_limit"),
        )


class EnvelopeRewriter:
    """``sender_bcc`` and ``recipient_bcc`` answer with an address for a blind copy, or None."""

    def __init__(
        self,
        rules: EnvelopeRules,
        rewriting: Rewriting,
        sender_bcc: BlindCopies | None = None,
        recipient_bcc: BlindCopies | None = None,
    ) -> None:
        self._rules = rules
        self._rewriting = rewriting
        self._sender_bcc = sender_bcc
        self._recipient_bcc = recipient_bcc

    async def rewrite(
        self, envelope: Envelope, next_turn: Callable[[], Awaitable[None]], *, copies: bool = True
    ) -> None:
        """Change ``envelope`` in place.  ``next_turn``: lets others have a turn; ``copies`` false: no blind copies."""
        if envelope.sender:
            envelope.sender = await self._rewriting.envelope_sender(envelope.sender)
        out = _Gathered(self._rules, envelope)
        if not envelope.recipients:
            return
        if copies and self._sender_bcc and envelope.sender and (copy := await self._sender_bcc(envelope.sender)):
            await self._add_copy(copy, out)
        for count, recipient in enumerate(envelope.recipients):
            if count % AT_ONCE == AT_ONCE - 1:
                await next_turn()
            address = await self._add(recipient, out)
            if copies and self._recipient_bcc is not None and (copy := await self._recipient_bcc(address)):
                await self._add_copy(copy, out)
        if copies and self._rules.always_bcc:
            await self._add_copy(self._rules.always_bcc, out)
        envelope.recipients = out.recipients

    async def amend(self, envelope: Envelope, copies: Sequence[str], added: Sequence[Recipient] = ()) -> None:
        """Carry out what inspection decided: ``copies`` go to these, too, ``added`` are new recipients (milters), of
        whom the sender hears as of others, and ``envelope.redirect`` takes the place of all (access(5),
        header_checks(5): BCC, REDIRECT).  As the last word it is made complete, but neither mapped nor
        expanded, and it stands for the recipient that the scheduler would have come to first."""
        if envelope.redirect and envelope.recipients:
            first = min([*envelope.recipients, *map(Recipient, copies), *added], key=_delivery_order)
            address = await self._rewriting.without_mappings().envelope_recipient(envelope.redirect)
            orcpt = first.orcpt or _original_recipient(first.address)
            envelope.recipients = [Recipient(address, first.original or first.address, orcpt, first.notify)]
            envelope.redirect = ""
            return
        out = _Gathered(self._rules, envelope)
        for recipient in envelope.recipients:
            out.add(recipient)
        for copy in copies:
            await self._add_copy(copy, out)
        for recipient in added:
            await self._add_copy(recipient.address, out, recipient.orcpt, recipient.notify)
        envelope.recipients = out.recipients

    async def _add_copy(self, address: str, out: _Gathered, orcpt: str = "", notify: int = NOTIFY_NEVER) -> None:
        """The sender has not asked for it, so there is no original recipient to tell of but one that is given."""
        address = await self._rewriting.envelope_recipient(address)
        await self._expand(Recipient(address, address, orcpt, notify), out)

    async def _add(self, recipient: Recipient, out: _Gathered) -> str:
        address = await self._rewriting.envelope_recipient(recipient.address)
        original = recipient.original or recipient.address
        orcpt = recipient.orcpt or _original_recipient(address)
        await self._expand(Recipient(address, original, orcpt, recipient.notify), out)
        return address

    async def _expand(self, recipient: Recipient, out: _Gathered) -> None:
        address, notify = recipient.address, recipient.notify
        expanded = await self._rewriting.expand(address)
        if notify & NOTIFY_SUCCESS and expanded != [address]:
            # RFC 3461 5.2.7.1 (c): the sender hears of the list, and not of its members.
            note_expanded(out.envelope, recipient)
            notify = notify & ~NOTIFY_SUCCESS or NOTIFY_NEVER
        for member in expanded:
            out.add(Recipient(member, recipient.original, recipient.orcpt, notify))


def _delivery_order(recipient: Recipient) -> tuple[str, str]:
    """By domain, then by name: the order in which recipients of one message are taken for delivery."""
    local, _, domain = recipient.address.lower().rpartition("@")
    return domain, local


def _original_recipient(address: str) -> str:
    """RFC 3461 4.2, RFC 6533 3; without quotes, as Postfix has it."""
    return f"{'rfc822' if address.isascii() else 'utf-8'};{unquote(address)}"


class _Gathered:
    """Recipients without duplicates: equal in address and, if that is wanted, in what would be told of them."""

    def __init__(self, rules: EnvelopeRules, envelope: Envelope) -> None:
        self.envelope = envelope
        self.recipients: list[Recipient] = []
        self._rules = rules
        self._seen: set[tuple[str | int, ...]] = set()

    def add(self, recipient: Recipient) -> None:
        key: tuple[str | int, ...] = (recipient.address.lower(),)
        if self._rules.tell_originals_apart:
            key += (recipient.original.lower(), recipient.orcpt.lower(), recipient.notify)
        if key in self._seen:
            return
        limit = self._rules.duplicate_limit
        if not limit or len(self._seen) < limit:
            self._seen.add(key)
        self.recipients.append(recipient)
