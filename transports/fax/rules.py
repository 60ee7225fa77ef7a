"""Who may fax, to which numbers, and what that may cost: asked by the SMTP server for each recipient, and once more
before anything is sent, since not all mail comes by SMTP.

senders=    tables, or "mynetworks"; asked with the login name of who has logged in, else with the sender's address, his
            @domain and the client's IP address.  Who has logged in, or submits on this machine, needs no entry.

                OK                                  may fax
                REJECT text                         may not
                faxes=9 pages=30 cost=5.00          may, with another budget a day
                numbers=!+4989,+49                  may, to numbers that begin so; the first that fits decides

zones=      tables; asked with a number (+4930123456), then with ever shorter beginnings of it (+493012345 … +4)

                0.02                                what a minute costs
                1.99 premium                        the same, and numbers of the expensive kinds are allowed, too
                REJECT text                         is not called

            What is in none of them is not called.  Without the setting numbers of the own country are called, those of
            other countries only with international=yes, and expensive ones never.

The null sender, whose mail is notices, never faxes.  Raises TableError when a table is away.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from gateway.interfaces import BOUNCED, ILookupTable, TableError
from transports.fax.address import Address, BadAddress, parse
from transports.fax.budget import REFUSED, Spent, Use
from transports.fax.numbers import EXTENSION, INTERNATIONAL, PREMIUM, Number
from transports.fax.service import Budget, FaxService
from transports.guard import Refusal

NETWORKS = "mynetworks"
BAD_NUMBER = "5.1.3"

InNetworks = Callable[[str], Awaitable[bool]]


@dataclass(slots=True, frozen=True)
class Caller:
    sender: str
    """Address, without quotes; "" = the null sender."""
    login: str = ""
    client: str = ""
    """IP address."""
    local: bool = False
    """Submitted on this machine, by no network."""

    @property
    def key(self) -> str:
        """Whom it is counted for."""
        return self.login or self.sender.lower()


@dataclass(slots=True, frozen=True)
class Terms:
    """What a sender may."""

    each: Budget
    numbers: tuple[str, ...] = ()
    """Beginnings; "!" forbids; () = all."""


@dataclass(slots=True, frozen=True)
class Call:
    number: Number
    price: float = 0.0
    """A minute."""

    def cost(self, pages: int, page_time: float) -> float:
        return self.price * max(1, math.ceil(pages * page_time / 60))


@dataclass(slots=True, frozen=True)
class Allowed:
    """An address that may be faxed to."""

    address: Address
    calls: tuple[Call, ...]
    terms: Terms

    def spending(self, pages: int, page_time: float) -> Spent:
        cost = sum(call.cost(pages, page_time) for call in self.calls)
        return Spent(len(self.calls), pages * len(self.calls), cost)


class Rules:
    """``senders``, ``zones``: open tables; ``in_networks``: if "mynetworks" may send."""

    def __init__(
        self,
        service: FaxService,
        senders: Sequence[ILookupTable] = (),
        zones: Sequence[ILookupTable] = (),
        in_networks: InNetworks | None = None,
    ) -> None:
        self._service = service
        self._senders = senders
        self._zones = zones
        self._in_networks = in_networks

    async def judge(
        self, local: str, caller: Caller, use: Use, now: float, done: Callable[[Number], bool] = lambda number: False
    ) -> Allowed | Refusal:
        """``local``: the recipient's local part, unquoted.  How many pages there will be is not known yet.  ``done``:
        for which numbers nothing has to be asked any more."""
        try:
            address = parse(local)
            read = {number.line: number for number in map(self._service.plan.read, address.numbers)}
        except BadAddress as error:
            return Refusal(BAD_NUMBER, str(error))
        left = [number for number in read.values() if not done(number)]
        if not left:
            return Allowed(address, (), Terms(self._service.each))
        terms = await self._terms(caller)
        if isinstance(terms, Refusal):
            return terms
        calls = []
        for number in left:
            call = await self._call(number, terms)
            if isinstance(call, Refusal):
                return call
            calls.append(call)
        allowed = Allowed(address, tuple(calls), terms)
        return self.affordable(allowed, caller, use, 1, now) or allowed

    def affordable(self, allowed: Allowed, caller: Caller, use: Use, pages: int, now: float) -> Refusal | None:
        service = self._service
        if service.fax_cost:
            for call in allowed.calls:
                cost = call.cost(pages, service.page_time)
                if cost > service.fax_cost:
                    text = f"fax to {call.number.name} costs some {cost:.2f}, more than {service.fax_cost:.2f}"
                    return Refusal(REFUSED, text)
        more = allowed.spending(pages, service.page_time)
        return use.room(caller.key, allowed.terms.each, service.all, more, now)

    # --- who ---------------------------------------------------------------------------------------------------------

    async def _terms(self, caller: Caller) -> Terms | Refusal:
        plain = Terms(self._service.each)
        if not caller.sender:
            return Refusal(REFUSED, "notices are not faxed")
        value = await self._listed(caller)
        if value is not None:
            return _terms(value, plain)
        if caller.login or caller.local:
            return plain
        if self._in_networks is not None and caller.client and await self._in_networks(caller.client):
            return plain
        return Refusal(REFUSED, "only who has logged in, or is listed, may send faxes")

    async def _listed(self, caller: Caller) -> str | None:
        domain = caller.sender.rpartition("@")[2]
        keys = [caller.login] if caller.login else [caller.sender, f"@{domain}", caller.client]
        for key in filter(None, keys):
            for table in self._senders:
                value = await table.lookup(key.lower() if table.folds_case else key)
                if value is not None and value.upper() != "DUNNO":
                    return str(value)
        return None

    # --- whither -----------------------------------------------------------------------------------------------------

    async def _call(self, number: Number, terms: Terms) -> Call | Refusal:
        name = number.name
        if terms.numbers and not _permitted(name, terms.numbers):
            return Refusal(REFUSED, f"this sender may not fax to {name}")
        if number.kind == EXTENSION:
            return Call(number)
        value = await self._zone(name)
        if value is None:
            if number.kind == PREMIUM:
                return Refusal(REFUSED, f"{name} is an expensive number")
            if self._zones or (number.kind == INTERNATIONAL and not self._service.international):
                return Refusal(REFUSED, f"{name} is in a zone that is not called")
            return Call(number)
        word, _, rest = value.strip().partition(" ")
        if word.upper() == "REJECT":
            return Refusal(REFUSED, rest.strip() or f"{name} is not called")
        try:
            price = float(word)
        except ValueError:
            raise TableError(f"zones: {name}: \"{value}\" is neither a price nor REJECT") from None
        if number.kind == PREMIUM and rest.strip() != "premium":
            return Refusal(REFUSED, f"{name} is an expensive number")
        return Call(number, price)

    async def _zone(self, name: str) -> str | None:
        for table in self._zones:
            lengths = [len(name)] if table.whole_keys else range(len(name), 1, -1)
            for length in lengths:
                value = await table.lookup(name[:length])
                if value is not None:
                    return str(value)
        return None


def _terms(value: str, plain: Terms) -> Terms | Refusal:
    word, _, rest = value.strip().partition(" ")
    if word.upper() == "REJECT":
        return Refusal(REFUSED, rest.strip() or "this sender may not send faxes", BOUNCED)
    if word.upper() == "OK":
        return plain
    found = plain
    for part in value.split():
        name, equals, text = part.partition("=")
        try:
            if name == "numbers" and equals:
                found = replace(found, numbers=tuple(text.split(",")))
            elif name in ("faxes", "pages") and equals:
                found = replace(found, each=replace(found.each, **{name: int(text)}))
            elif name == "cost" and equals:
                found = replace(found, each=replace(found.each, cost=float(text)))
            else:
                raise ValueError
        except ValueError:
            raise TableError(f'senders: "{part}" is not understood') from None
    return found


def _permitted(name: str, beginnings: Sequence[str]) -> bool:
    for beginning in beginnings:
        if name.startswith(beginning.removeprefix("!")):
            return not beginning.startswith("!")
    return False
