"""What administrators' commands ask for, as the control socket hands it on."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.administration import Administration
from gateway.config.settings import Settings
from gateway.content import submission
from gateway.content.submission import Submission
from gateway.control import Refused
from gateway.log import MemoryLog
from gateway.tables.registry import Tables
from spool.envelope import Envelope, Recipient
from spool.memory import MemorySpool


class Scheduler:
    """Counts how often it is asked."""

    def __init__(self):
        self.flushed = []

    async def flush(self, queue_ids=None):
        self.flushed.append(queue_ids)
        return len(queue_ids)


def test_a_domain_is_flushed_in_one_change(tmp_path: Path):
    clock = Clock()
    clock.advance(1_000_000)
    spool, scheduler, log = MemorySpool(reactor=clock), Scheduler(), MemoryLog()
    tables = Tables(clock=clock, log=log, reactor=clock, resolver=None)
    made = Administration(
        Settings({"fast_flush_domains": "far.example, nowhere.example"}, directory=tmp_path),
        spool, scheduler, None, tables, log, in_thread=None, request=None,
    )
    wanted = []
    for address in ("a@far.example", "b@near.example", "c@FAR.example"):
        draft = spool.draft(Envelope("s@x", [Recipient(address)], clock.seconds()))
        Deferred.fromCoroutine(draft.commit())
        Deferred.fromCoroutine(spool.claim(1))
        Deferred.fromCoroutine(spool.release(draft.id, clock.seconds() + 100))
        if "far" in address.lower():
            wanted.append(draft.id)
        clock.advance(1)
    found = []
    for site in ("Far.Example", "nowhere.example", "near.example"):
        Deferred.fromCoroutine(made.flush_site(site)).addCallback(found.append)
    assert (found, scheduler.flushed) == ([True, True, False], [wanted])
    with pytest.raises(Refused, match='^Flush service is not configured for destination "near.example"$'):
        made._flush_site(0, {"site": "near.example"}).send(None)


class Jobs:
    def __init__(self):
        self.cancelled = []

    async def cancel(self, ids):
        self.cancelled.append(ids)
        return ["JOB"] if ids is None or "JOB" in ids else []


def test_deleting_keeps_to_the_queues_that_are_named(tmp_path: Path):
    clock = Clock()
    spool, log, jobs = MemorySpool(reactor=clock), MemoryLog(), Jobs()
    tables = Tables(clock=clock, log=log, reactor=clock, resolver=None)
    made = Administration(
        Settings(directory=tmp_path), spool, SimpleNamespace(forget=print, look_soon=print), None, tables, log,
        in_thread=None, request=None, jobs=jobs,
    )
    draft = spool.draft(Envelope("s@x", [Recipient("a@b")], clock.seconds()))
    Deferred.fromCoroutine(draft.commit())

    def delete(**arguments):
        found = []
        Deferred.fromCoroutine(made._changing("delete")(0, arguments)).addCallback(found.append)
        return found[0]

    everywhere = ["hold", "incoming", "active", "deferred"]
    assert delete(ids=None, queues=[]) == delete(ids=["JOB"], queues=["deferred"]) == {"count": 0, "ids": []}
    assert jobs.cancelled == []
    assert delete(ids=["JOB", draft.id], queues=everywhere) == {"count": 2, "ids": [draft.id, "JOB"]}
    assert delete(ids=None, queues=everywhere) == {"count": 1, "ids": []}
    assert jobs.cancelled == [{"JOB", draft.id}, None]


def test_names_in_the_maildrop_folder_are_told_to_nobody(tmp_path: Path):
    """Everybody may ask for the list, and who knows such a name can read that file."""

    async def in_thread(function, *arguments):
        return function(*arguments)

    async def listed():
        return [item async for item in made._listed()]

    clock, log = Clock(), MemoryLog()
    settings = Settings({"queue_directory": str(tmp_path)}, directory=tmp_path)
    tables = Tables(clock=clock, log=log, reactor=clock, resolver=None)
    made = Administration(
        settings, MemorySpool(reactor=clock), None, None, tables, log, in_thread=in_thread, request=None
    )
    submission.prepare(tmp_path)
    name = submission.drop(tmp_path, Submission("a@b", ["c@d"]), [b"Subject: secret\n\n"])
    found = []
    Deferred.fromCoroutine(listed()).addCallback(found.extend)
    assert [item["queue_id"] for item in found] == [name[:12]]
