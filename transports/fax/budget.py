"""What was faxed today, by whom: faxes, pages and money, of each sender and in all.

``room`` says whether more is within a budget; ``take`` counts it, ``give_back`` counts it out again if nothing came of
it.  Days are local ones.  What is ``published`` (transports.following.published) is restored after a restart, and the
SMTP server reads it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from gateway.interfaces import BOUNCED, DEFERRED
from transports.fax.service import Budget
from transports.guard import Refusal

REFUSED = "5.7.1"
USED_UP = "4.7.1"
ALL = ""
"""The key of all senders together."""
MOST_SENDERS = 10_000


@dataclass(slots=True)
class Spent:
    faxes: int = 0
    pages: int = 0
    cost: float = 0.0


class Use:
    def __init__(self) -> None:
        self._day = ""
        self._spent: dict[str, Spent] = {}

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> Use:
        """Raises ValueError, TypeError, KeyError."""
        found = cls()
        if published:
            found._day = str(published["day"])
            for sender, (faxes, pages, cost) in published["use"].items():
                found._spent[str(sender)] = Spent(int(faxes), int(pages), float(cost))
        return found

    def published(self, now: float) -> dict[str, Any]:
        self._today(now)
        return {"day": self._day, "use": {sender: astuple(spent) for sender, spent in self._spent.items()}}

    def room(self, sender: str, each: Budget, all: Budget, more: Spent, now: float) -> Refusal | None:
        """Why ``more`` is too much; a refusal for good if it would be so on any day."""
        self._today(now)
        spent, together = self._spent.get(sender, Spent()), self._spent.get(ALL, Spent())
        for budget, used, whose in ((each, spent, "a sender"), (all, together, "all senders")):
            for what in ("faxes", "pages", "cost"):
                limit, wanted = getattr(budget, what), getattr(more, what)
                if not limit:
                    continue
                told = f"{limit:.2f} for calls" if what == "cost" else f"{limit} {what}"
                if wanted > limit:
                    return Refusal(REFUSED, f"fax is more than the {told} of a day for {whose}", BOUNCED)
                if getattr(used, what) + wanted > limit:
                    return Refusal(USED_UP, f"the {told} of today for {whose} are used up", DEFERRED)
        return None

    def take(self, sender: str, more: Spent, now: float) -> None:
        self._add(sender, more, 1, now)

    def give_back(self, sender: str, more: Spent, now: float) -> None:
        self._add(sender, more, -1, now)

    def _add(self, sender: str, more: Spent, sign: int, now: float) -> None:
        self._today(now)
        if sender not in self._spent and len(self._spent) >= MOST_SENDERS:
            sender = ALL
        for spent in {id(one): one for one in map(self._of, (sender, ALL))}.values():
            spent.faxes = max(0, spent.faxes + sign * more.faxes)
            spent.pages = max(0, spent.pages + sign * more.pages)
            spent.cost = max(0.0, spent.cost + sign * more.cost)

    def _of(self, sender: str) -> Spent:
        return self._spent.setdefault(sender, Spent())

    def _today(self, now: float) -> None:
        day = time.strftime("%Y-%m-%d", time.localtime(now))
        if day != self._day:
            self._day = day
            self._spent.clear()
