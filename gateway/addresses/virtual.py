"""Virtual aliases: one recipient becomes one, many, or stays; virtual(5), cleanup(8).

Each result is looked up again, until it is not in the tables or is one that was there before: an address may expand
into itself.  Limits (virtual_alias_recursion_limit, virtual_alias_expansion_limit,
virtual_alias_address_length_limit) stop what has no end: then the message is not accepted, try again later.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.addresses.mapping import AddressMap
from gateway.config import Settings
from gateway.interfaces import TableError


class ExpansionError(TableError):
    """The expansion has no reasonable end.  The text is for the log; ``reply`` for the client, who is to try later."""

    reply = "4.6.0 Alias expansion error"


@dataclass(frozen=True, slots=True)
class Limits:
    recursion: int = 1000
    expansion: int = 1000
    length: int = 1000

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            settings.number("virtual_alias_recursion_limit"),
            settings.number("virtual_alias_expansion_limit"),
            settings.number("virtual_alias_address_length_limit"),
        )


class VirtualAliases:
    """Expands recipients.  ``title``: the parameter, for messages."""

    def __init__(
        self, aliases: AddressMap, limits: Limits, title: str = "virtual_alias_maps", empty: str = "MAILER-DAEMON"
    ) -> None:
        """``empty``: who stands for the empty address."""
        self._empty = empty
        self._aliases = aliases
        self._limits = limits
        self._title = title

    async def expand(self, address: str) -> list[str]:
        """The recipients in its place, in external form, [address] if it is no alias."""
        if not self._aliases:
            return [address]
        results = [address]
        settled: set[str] = set()
        at = 0
        while at < len(results):
            if len(results) > self._limits.expansion:
                raise self._error(f"unreasonable {self._title} map expansion size for {address}")
            await self._settle(results, at, settled, address)
            at += 1
        return results

    async def _settle(self, results: list[str], at: int, settled: set[str], first: str) -> None:
        """Expand one of the results to its end, in place; further members go to the end of the list."""
        count = 0
        while results[at].lower() not in settled:
            if count >= self._limits.recursion:
                raise self._error(f"unreasonable {self._title} map nesting for {first}")
            count += 1
            alias = results[at]
            members = await self._aliases.map(alias)
            if members is None:
                return
            members = [member or self._empty for member in members]
            for member in members:
                if len(member) > self._limits.length:
                    raise self._error(f"unreasonable {self._title} result {member[:300]}... for {first}")
            if any(member.lower() == alias.lower() for member in members):
                settled.add(alias.lower())
            results[at] = members[0]
            results.extend(members[1:])

    @staticmethod
    def _error(what: str) -> ExpansionError:
        return ExpansionError(f"{what} -- message not accepted, try again later")
