"""What the SMTP server asks about addresses: well-formed? where to? does such a user exist?

A user is known who is in one of canonical_maps, recipient_canonical_maps (of senders: sender_canonical_maps, too) or
virtual_alias_maps.  Else mail for "error" and "retry" is refused with their text (so are addresses of virtual alias
domains, users that have moved, and what transport_maps says), and the tables of the address class decide:

    local                local_recipient_maps; postmaster, mailer-daemon and double-bounce always exist
    virtual mailbox      virtual_mailbox_maps
    relay                relay_recipient_maps

A parameter that is empty knows everybody.  Addresses are in external form.  Raises TableError when a table is away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.addresses.basis import Basis, Tables
from gateway.addresses.find import AddressFinder
from gateway.addresses.forms import unquote
from gateway.addresses.resolve import Router
from gateway.config import Settings
from gateway.interfaces import AddressClass, Log, TableError

PROGRAM = "smtpd"

_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")
AS_SENDER = {
    "1.1": "1.7", "1.2": "1.8", "1.3": "1.7", "1.4": "1.7", "1.5": "1.0", "1.6": "1.7", "1.9": "1.0", "1.10": "1.0",
}  # fmt: skip
AS_RECIPIENT = {"1.7": "1.3", "1.8": "1.2", "1.9": "1.0", "1.10": "1.0"}
"""Details of status codes in a reply that is about a sender or recipient, where they would not fit; RFC 3463 3.2."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an address leads: what trivial-rewrite(8) says of it."""

    address: str
    """In standard form, lower case, internal (unquoted)."""
    address_class: AddressClass
    transport: str = ""
    nexthop: str = ""
    routed: bool = False
    """Its local part holds another route ("%", "!", "@"), so that where it ends is uncertain."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A user who does not exist: the parts of the reply; ``text`` follows "Recipient address rejected: "."""

    code: int
    dsn: str
    text: str


class _ClassTables:
    """The tables of one address class."""

    def __init__(self, basis: Basis, parameter: str, code: str, name: str) -> None:
        self.finder: AddressFinder | None = basis.finder(parameter, PROGRAM)
        if not self.finder:
            self.finder = None
        self.code = basis.settings.number(code)
        with_name = basis.settings.flag("show_user_unknown_table_name")
        self.text = f"User unknown in {name} table" if with_name else "User unknown"


class Recipients:
    """Answers the SMTP server and its restrictions."""

    def __init__(self, basis: Basis, router: Router) -> None:
        settings = basis.settings
        self._router = router
        self._qualify = basis.qualify
        aliases = [
            basis.finder(parameter, PROGRAM)
            for parameter in ("recipient_canonical_maps", "canonical_maps", "virtual_alias_maps")
        ]
        self._aliases = [finder for finder in aliases if finder]
        self._sender_canonical = basis.finder("sender_canonical_maps", PROGRAM)
        self._alias_code = settings.number("unknown_virtual_alias_reject_code")
        self._tables = {
            AddressClass.LOCAL: _ClassTables(
                basis, "local_recipient_maps", "unknown_local_recipient_reject_code", "local recipient"
            ),
            AddressClass.VIRTUAL_MAILBOX: _ClassTables(
                basis, "virtual_mailbox_maps", "unknown_virtual_mailbox_reject_code", "virtual mailbox"
            ),
            AddressClass.RELAY: _ClassTables(
                basis, "relay_recipient_maps", "unknown_relay_recipient_reject_code", "relay recipient"
            ),
        }
        self._always = frozenset(("postmaster", "mailer-daemon", settings.text("double_bounce_sender").lower()))

    @classmethod
    def from_settings(
        cls, settings: Settings, tables: Tables, own_addresses: Iterable[str] = (), log: Log | None = None
    ) -> Recipients:
        basis = Basis.of(settings, tables, own_addresses)
        return cls(basis, Router(basis, log))

    async def acceptable(self, address: str, utf8: bool = True) -> bool:
        """Whether it is an address at all, for MAIL and RCPT: else 501 5.1.7 or 5.1.3 "Bad … address syntax".
        ``utf8``: the client may use all characters in domains (it has said SMTPUTF8).  Where a table is away that it
        takes to say so, it is: who needs the table will meet the same trouble."""
        try:
            return not address or await self._router.acceptable(address, utf8)
        except TableError:
            return True

    async def destination(self, address: str, sender: str = "") -> Destination:
        found = await self._router.explain(sender, self._qualify(address))
        route = found.route
        return Destination(
            unquote(route.recipient).lower(), route.address_class, route.transport, route.nexthop, found.routed
        )

    async def unknown_recipient(self, address: str) -> str | None:
        """The text for a recipient who does not exist, such as "User unknown in local recipient table"."""
        unknown = await self.unknown_user(await self.destination(address), False)
        return unknown.text if unknown else None

    async def unknown_user(self, destination: Destination, sender: bool) -> Unknown | None:
        """Why nobody of that name exists; None: someone does, or it cannot be known.  ``sender``: it is the sender's
        address that is asked about."""
        address = destination.address
        for finder in (*self._aliases, self._sender_canonical) if sender else self._aliases:
            if finder and await finder.find(address) is not None:
                return None
        kind = destination.address_class
        if destination.transport in ("error", "retry"):
            return self._undeliverable(destination, sender)
        tables = self._tables.get(kind)
        if tables is None or tables.finder is None:
            return None
        if kind is AddressClass.LOCAL and address.rpartition("@")[0] in self._always:
            return None
        if await tables.finder.find(address) is not None:
            return None
        return Unknown(tables.code, _status("5.1.0" if sender else "5.1.1", tables.code, sender), tables.text)

    def _undeliverable(self, destination: Destination, sender: bool) -> Unknown:
        if destination.transport == "retry":
            code, status = 450, "4.1.0" if sender else "4.1.1"
        else:
            code, status = 550, "5.1.0" if sender else "5.1.1"
            if destination.address_class is AddressClass.VIRTUAL_ALIAS:
                code = self._alias_code
        text = destination.nexthop
        if given := _STATUS.match(text):
            status, text = given[1], text[given.end() :]
        return Unknown(code, _status(status, code, sender), text)


def _status(status: str, code: int, sender: bool) -> str:
    """An enhanced status code that agrees with the reply's code, and with whose address it is about; RFC 3463 3.2."""
    detail = status.partition(".")[2]
    detail = (AS_SENDER if sender else AS_RECIPIENT).get(detail, detail)
    return f"{code // 100}.{detail}"
