"""What an administrator does to messages, on disk: postsuper(1).

    delete    it is gone
    hold      to "hold", under the same name
    release   from "hold" to "deferred", due now
    requeue   to "deferred", with the mark in its name that has it taken in anew at the next attempt, in REQUEUE_PAUSE
              seconds at the latest
    expire    the mark in its name that returns it to its sender at the next attempt
    flush     a deferred message becomes due now

Each is a rename or an unlink and durable when change() returns.  A message that is not there, or where there is
nothing to be done, is not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from spool.batch import Job, run
from spool.interfaces import SpoolError
from spool.jobs import Move, Remove
from spool.names import DEFERRED, HOLD, Place
from spool.store import QUEUES, SLICE, Store

REQUEUE_PAUSE = 60.0
"""As long as pickup(8) may sleep; a flush does not wait for it."""

ACTIONS = ("delete", "hold", "release", "requeue", "expire", "flush")


@dataclass(slots=True)
class Changed:
    """What a change came to."""

    count: int = 0
    places: dict[str, Place | None] = field(default_factory=dict)
    """Where those messages are now that were asked for by ID; None = gone."""
    error: SpoolError | None = None
    """The first of those that kept a message from being changed."""


def change(
    store: Store,
    action: str,
    wanted: Collection[str] | None,
    queues: Sequence[str] = QUEUES,
    known: Mapping[str, Place] | None = None,
    skip: Collection[str] = (),
) -> Changed:
    """Do one of ACTIONS to messages, or to all (``wanted`` None) but ``skip``, that are in these folders.  ``known``:
    where some messages are, so that they need not be looked for."""
    if action not in ACTIONS:
        raise ValueError(action)
    at = _Change(store, action, known or {})
    if wanted is None:
        for folder in queues:
            places = (place for place in store.scan(folder) if place.id not in skip)
            while some := list(islice(places, SLICE)):
                at.apply(some, keep=False)
        return at.changed
    left = set(wanted)
    some = [place for id, place in at.known.items() if id in left and place.folder in queues]
    for _ in range(3):  # a message may be moved on just now
        left -= at.apply(some)
        some = list(store.find(left, queues).values()) if left else []
        if not some:
            break
    return at.changed


class _Change:
    def __init__(self, store: Store, action: str, known: Mapping[str, Place]) -> None:
        self._store = store
        self._action = action
        self._now = int(store.clock())  # names hold whole seconds: due now, not within the next one
        self.known = known
        self.changed = Changed()

    def apply(self, places: Sequence[Place], keep: bool = True) -> set[str]:
        """Change these.  The IDs of messages that were dealt with; the others had gone elsewhere."""
        dealt = set()
        jobs: list[tuple[Place, Place | None, Job]] = []
        for place in places:
            moved = self._moved(place)
            if moved == place:
                dealt.add(place.id)
            else:
                jobs.append((place, moved, self._job(place, moved)))
        outcomes = run(self._store.files, [job for _, _, job in jobs])
        for (place, moved, job), error in zip(jobs, outcomes, strict=True):
            if error is not None:
                self.changed.error = self.changed.error or error
                dealt.add(place.id)
            elif job.result:
                self.changed.count += 1
                dealt.add(place.id)
                if keep:
                    self.changed.places[place.id] = moved
        return dealt

    def _job(self, place: Place, moved: Place | None) -> Job:
        store = self._store
        if moved is None:
            return Remove(store.path(place), store.journal(place.id))
        return Move(store.path(place), store.path(moved))

    def _moved(self, place: Place) -> Place | None:
        """Where the action brings a message to; the same place = nothing to be done."""
        action, now = self._action, self._now
        if action == "delete":
            return None
        if action == "hold":
            return place if place.folder == HOLD else place.moved(HOLD)
        if action == "release":
            return place.deferred(now, place.attempts) if place.folder == HOLD else place
        if action == "requeue":
            return place.requeued(now + REQUEUE_PAUSE)
        if action == "expire":
            return place if place.expire else place.expired()
        return place if place.folder != DEFERRED or place.due <= now else place.deferred(now, place.attempts)
