"""How often a client comes: connections now; connections, messages, recipients, TLS sessions in a time unit; anvil(8).

Clients are counted by network: smtpd_client_ipv4_prefix_length (32) and …ipv6… (84), else one owner of an IPv6 network
had as many counters as he likes.  One object serves all smtpd services of a process; services count apart.  Rates start
anew each ``anvil_rate_time_unit``.  What nobody uses any more is forgotten, so that memory follows the clients of one
time unit.  The methods count the event and give the new number.

Several processes that serve the same clients (receivers) count apart, and ask each other only about a client who may be
beyond a limit: if all together count more than that, one of them counts more than its share of it.  Whoever has been
asked about a client asks in turn, at each event until the time unit is over, so that the limit is exact: a round trip
is spent on clients near their limit only.  (Open connections: a client who keeps as many as it may to one receiver, and
comes to nobody for a time unit, may then have a share with another one.)

Room is about all clients together: what a process can carry, so that it says no in time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.smtpd.peaks import Peaks

_SWEEP_AT = 1000

CONNECTIONS, MESSAGES, RECIPIENTS, TLS_SESSIONS, LOGINS = "connections", "messages", "recipients", "tls", "logins"
OPEN = "open"
"""Connections now."""
SIZE = "size"
"""Clients that are known now."""

Together = Callable[[str, str, str], Awaitable[int]]
"""What all processes count of a service, a network and an event."""


COMPLAIN_EVERY = 10.0
"""Seconds between two lines in the log that say the same of an overload."""


@dataclass(slots=True)
class Room:
    """What the smtpd services of a process can carry together, and what they carry now.  0 = any number."""

    most_clients: int = 0
    most_messages: int = 0
    """That are being received: each has memory and may have a file."""
    clients: int = 0
    messages: int = 0
    pause: float = 0.0
    """Seconds that each new message waits, because more comes in than goes out (in_flow_delay)."""
    _complained: dict[str, float] = field(default_factory=dict)

    def is_full(self) -> bool:
        """No room for another client."""
        return 0 < self.most_clients <= self.clients

    def complains(self, what: str, now: float) -> bool:
        """Whether it is time to say again that there is too much of something."""
        if now - self._complained.get(what, -COMPLAIN_EVERY) < COMPLAIN_EVERY:
            return False
        self._complained[what] = now
        return True


@dataclass(slots=True)
class _Client:
    open: int = 0
    since: float = 0.0
    rates: dict[str, int] = field(default_factory=dict)
    watched: dict[str, float] = field(default_factory=dict)
    """Events that others have asked about, and when."""


class ClientLimits:
    """``processes`` that count, with this one; ``together`` asks them all.  ``peaks`` hears of what is counted."""

    def __init__(
        self,
        seconds: Callable[[], float],
        unit: float = 60.0,
        ipv4_prefix: int = 32,
        ipv6_prefix: int = 84,
        *,
        processes: int = 1,
        together: Together | None = None,
        peaks: Peaks | None = None,
    ) -> None:
        self._peaks = peaks
        self._processes = processes
        self._together = together
        self._seconds = seconds
        self._unit = unit
        self._prefixes = {4: ipv4_prefix, 6: ipv6_prefix}
        self._clients: dict[tuple[str, str], _Client] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._clients)

    def network(self, address: str) -> str:
        """What an address is counted under."""
        if ":" not in address and self._prefixes[4] >= 32:
            return address
        try:
            number = ipaddress.ip_address(address)
        except ValueError:
            return address
        prefix = self._prefixes[number.version]
        if prefix >= number.max_prefixlen:
            return address
        return str(ipaddress.ip_network((number, prefix), strict=False))

    def connect(self, service: str, network: str) -> tuple[int, int]:
        """(open connections, connections in this time unit), this one included."""
        client = self._client(service, network)
        client.open += 1
        rate = self._count(client, CONNECTIONS)
        if self._peaks is not None:
            self._peaks.note(CONNECTIONS, rate, service, network)
            self._peaks.note(OPEN, client.open, service, network)
            self._peaks.note(SIZE, len(self._clients))
        return client.open, rate

    def disconnect(self, service: str, network: str) -> None:
        client = self._clients.get((service, network))
        if client is not None:
            client.open = max(0, client.open - 1)
            if not client.open and self._is_old(client, self._seconds()):
                del self._clients[service, network]

    def event(self, service: str, network: str, what: str, by: int = 1) -> int:
        count = self._count(self._client(service, network), what, by)
        if self._peaks is not None:
            self._peaks.note(what, count, service, network)
        return count

    async def in_all(self, service: str, network: str, what: str, count: int, limit: int) -> int:
        """What all processes count, this one's ``count`` included; as far as it can matter for ``limit``."""
        if self._together is None or count > limit:
            return count
        if count * self._processes <= limit and not self._is_watched(service, network, what):
            return count
        try:
            return max(count, await self._together(service, network, what))
        except Exception:  # whoever is away does not count, nor who has not reached the others yet after a start
            return count

    def _is_watched(self, service: str, network: str, what: str) -> bool:
        client = self._clients.get((service, network))
        asked = client.watched.get(what) if client is not None else None
        return asked is not None and self._seconds() - asked < self._unit

    def counted(self, service: str, network: str, what: str) -> int:
        """For the other processes.  Who is asked about is near a limit, and will be asked about from here as well."""
        client, now = self._client(service, network), self._seconds()
        client.watched[what] = now
        if what == OPEN:
            return client.open
        return client.rates.get(what, 0) if now - client.since < self._unit else 0

    def _client(self, service: str, network: str) -> _Client:
        client = self._clients.get((service, network))
        if client is None:
            if len(self._clients) >= self._sweep_at:
                self._sweep()
            client = self._clients[service, network] = _Client(since=self._seconds())
        return client

    def _count(self, client: _Client, what: str, by: int = 1) -> int:
        now = self._seconds()
        if now - client.since >= self._unit:
            client.since = now
            client.rates.clear()
        client.rates[what] = client.rates.get(what, 0) + by
        return client.rates[what]

    def _is_old(self, client: _Client, now: float) -> bool:
        return now - max([client.since, *client.watched.values()]) >= self._unit

    def _sweep(self) -> None:
        now = self._seconds()
        for key, client in list(self._clients.items()):
            if not client.open and self._is_old(client, now):
                del self._clients[key]
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._clients))
