"""Jobs are remembered, followed and told of; limits hold before."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gateway.config import Service, Settings
from gateway.interfaces import BOUNCED, DEFERRED, SENT, IDescribes, ITransport, Result
from gateway.log import MemoryLog
from tests.transports.support import Contents, request
from tests.transports.test_uucp_service import USER
from transports.following import Register
from transports.uucp.keeper import UucpKeeper
from transports.uucp.service import UucpService
from transports.uucp.shelf import key_of

NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
MESSAGE = b"Subject: x\n\nbody\n"


class Queues:
    """In the service's place: says job after job, for the neighbour asked."""

    def __init__(self) -> None:
        self.count = 0
        self.result = SENT
        self.shrunk = ""
        self.stopped = False

    async def deliver(self, one: Any) -> list[Result]:
        self.count += 1
        site = one.nexthop.partition("!")[0]
        details = {"action": "relayed"} | ({"uucp_size": self.shrunk} if self.shrunk else {})
        if self.result == SENT:
            details |= {"uucp_job": f"{site}.N{self.count}", "uucp_site": site, "uucp_data": f"D.{self.count:04}"}
        return [Result(self.result, "2.0.0", "text", details=details)] * len(one.indexes)

    async def describe(self, one: Any) -> list[str]:
        return ["runs uux"]

    async def stop(self) -> None:
        self.stopped = True


class Told:
    """In the place of notices."""

    def __init__(self) -> None:
        self.notices: list[tuple[str, str, str, str]] = []

    async def _note(self, kind: str, entry: Any, indexes: Any) -> None:
        state = entry.states[0]
        assert len(indexes) == len(entry.envelope.recipients) == len(entry.states)
        self.notices.append((kind, entry.id, state.dsn, state.reason))

    async def bounce(self, entry: Any, indexes: Any, attached: Any) -> None:
        await self._note("bounce", entry, indexes)

    async def delayed(self, entry: Any, indexes: Any) -> None:
        await self._note("delayed", entry, indexes)

    async def success(self, entry: Any, indexes: Any, attached: Any) -> None:
        await self._note("success", entry, indexes)


def in_thread(function: Any, *arguments: Any) -> Any:
    return maybeDeferred(function, *arguments)


class World:
    def __init__(self, folder: Path, *words: str, **values: str) -> None:
        self.folder, self.log, self.clock, self.queues, self.told = folder, MemoryLog(), Clock(), Queues(), Told()
        self.clock.advance(NOON)
        self.register = Register(folder / "uucp", in_thread)
        service = Service("uucp", "unix", command="uucp", arguments=[f"user={USER}", *words])
        settings = Settings({"queue_directory": "/", "mail_owner": "postfix-test", **values})
        self.jobs: dict[str, str] = {}
        self.busy: list[str] = []
        self.states: dict[str, str] = {}
        self.traces: dict[str, tuple[float, bool]] = {}
        self.asked: list[dict[str, Any]] = []
        self.trouble: Exception | None = None
        self.keeper = UucpKeeper(
            UucpService.from_service(service, settings, {}), self.queues, self.ask, self.register,
            Contents({"ID": MESSAGE, "LARGE": b"Subject: y\n\n" + b"x" * 999}), self.told, self.log, self.clock,
            in_thread, keep=100,
        )

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        if self.trouble:
            raise self.trouble
        if question["do"] == "list":
            return {"jobs": self.jobs, "busy": self.busy, "states": self.states}
        if question["do"] == "kill":
            return {"killed": self.jobs.pop(question["job"], None) is not None}
        return {"found": [self.traces.get(data, (0, False)) for _, data, _ in question["jobs"]]}

    async def deliver(self, *to: str, id: str = "ID", nexthop: str = "beta", **facts: Any) -> list[Result]:
        one = request(*(to or ("u@b",)), nexthop=nexthop, service="uucp", arrival=self.clock.seconds(), **facts)
        one.entry.id = id
        results = list(await self.keeper.deliver(one))
        self.jobs = {record.job: record.peer for record in self.register.records.values()}
        return results


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@ensureDeferred
async def test_a_job_is_on_record_before_the_result_is_given(world: World) -> None:
    verifyObject(ITransport, world.keeper)
    verifyObject(IDescribes, world.keeper)
    results = await world.deliver("u@b", "v@b", size=17)
    assert [result.details for result in results] == [{"action": "relayed"}] * 2
    again = Register(world.folder / "uucp", in_thread)
    assert await again.load() == []
    (record,) = again.records.values()
    assert (record.job, record.peer, record.mark, record.id, record.size) == ("beta.N1", "beta", "D.0001", "ID", 17)
    assert [one["address"] for one in record.recipients] == ["u@b", "v@b"]
    assert await again.content(record) == MESSAGE
    assert again.folder.stat().st_mode & 0o777 == 0o700


@ensureDeferred
async def test_of_a_large_message_the_header_is_kept(world: World) -> None:
    await world.deliver(id="LARGE")
    (record,) = world.register.records.values()
    assert await world.register.content(record) == b"Subject: y\n"


@ensureDeferred
async def test_a_record_that_cannot_be_written_does_not_stop_the_mail(world: World) -> None:
    (world.folder / "uucp").write_text("no folder")
    (result,) = await world.deliver()
    assert result.status == SENT
    assert "ID: job beta.N1 will not be followed" in world.log.text


@ensureDeferred
async def test_while_it_waits_nothing_is_told(world: World) -> None:
    await world.deliver()
    world.states = {"beta": "Dial failed"}
    await world.keeper.look()
    assert world.told.notices == []
    (item,) = world.keeper.listing()
    assert item["queue_id"] == "ID" and item["recipients"][0]["delay_reason"] == (
        "waits for UUCP neighbour beta since 2026-11-24 12:00:00, job beta.N1: Dial failed"
    )
    assert await world.keeper.describe(request("u@b", nexthop="beta")) == [
        "runs uux", "1 messages, 0 bytes, wait for beta, the first since 2026-11-24 12:00:00",
    ]


@ensureDeferred
async def test_a_job_that_has_left(world: World) -> None:
    await world.deliver()
    world.jobs, world.traces = {}, {"D.0001": (NOON + 5, True)}
    world.busy = ["beta"]
    await world.keeper.look()
    assert len(world.register.records) == 1  # the call goes on
    world.busy = []
    await world.keeper.look()
    assert world.told.notices == [("success", "ID", "2.0.0", "job beta.N1 was sent to beta at 2026-11-24 12:00:05")]
    assert world.register.records == {} and os.listdir(world.register.folder) == []


@ensureDeferred
async def test_a_job_that_somebody_removed(world: World) -> None:
    await world.deliver()
    world.jobs, world.traces = {}, {"D.0001": (0, True)}
    await world.keeper.look()
    assert world.told.notices == [
        ("bounce", "ID", "5.3.0", "job beta.N1 for beta was removed from UUCP's queue unsent"),
    ]
    assert "ID: to=<u@b>, relay=uucp, dsn=5.3.0, status=bounced (job beta.N1" in world.log.text
    assert world.register.records == {}


@ensureDeferred
async def test_a_job_of_which_nobody_can_tell(world: World) -> None:
    await world.deliver()
    world.jobs = {}
    await world.keeper.look()
    assert world.told.notices == [] and world.register.records == {}
    assert "job beta.N1 for beta is gone; UUCP's log does not tell how" in world.log.text


@ensureDeferred
async def test_delay_and_expiry(tmp_path: Path) -> None:
    world = World(tmp_path, "lifetime=2d", delay_warning_time="1h")
    await world.deliver()
    world.clock.advance(3601)
    await world.keeper.look()
    await world.keeper.look()
    reason = "job beta.N1 waits for beta since 2026-11-24 12:00:00"
    assert world.told.notices == [("delayed", "ID", "4.4.1", reason)]
    again = Register(tmp_path / "uucp", in_thread)
    await again.load()
    (record,) = again.records.values()
    assert record.warned and await again.content(record) == MESSAGE
    world.clock.advance(2 * 86400)
    await world.keeper.look()
    assert world.told.notices[1:] == [("bounce", "ID", "5.4.7", f"{reason}, and was taken back")]
    assert world.jobs == {} and world.register.records == {}


@ensureDeferred
async def test_uucp_cannot_be_asked(world: World) -> None:
    await world.deliver()
    world.trouble = ConnectionError("the executor is away")
    await world.keeper.look()
    await world.keeper.look()
    assert len(world.register.records) == 1
    assert [text for kind, text in world.log.lines] == [
        "warning: service uucp: jobs cannot be followed: ConnectionError: the executor is away",
    ]


@ensureDeferred
async def test_it_looks_every_minute_and_takes_up_what_it_finds(world: World) -> None:
    await world.deliver()
    other = World(world.folder)
    other.jobs, other.traces = {}, {"D.0001": (NOON, True)}
    (world.folder / "uucp" / "broken.job").write_text("nonsense\n")
    other.keeper.start()
    assert "a job's record cannot be read" in other.log.text
    other.clock.advance(60)
    assert [kind for kind, *_ in other.told.notices] == ["success"]
    await other.keeper.stop()
    assert other.queues.stopped and other.clock.getDelayedCalls() == []


@ensureDeferred
async def test_taking_back(world: World) -> None:
    await world.deliver()
    await world.deliver(id="LARGE")
    assert await world.keeper.cancel({"ID", "OTHER"}) == ["ID"]
    assert list(world.jobs) == ["beta.N2"] and len(world.register.records) == 1
    assert world.told.notices == []


@ensureDeferred
async def test_a_job_with_others_stays(world: World) -> None:
    await world.deliver()
    world.queues.count = 0
    await world.deliver(id="LARGE")
    assert await world.keeper.cancel({"ID"}) == []
    assert "ID: stays: job beta.N1 carries other messages, too" in world.log.text
    assert sorted(await world.keeper.cancel({"ID", "LARGE"})) == ["ID", "LARGE"]


@ensureDeferred
async def test_what_waits_for_whom_and_all_taken_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    for id, nexthop in (("ID", "beta"), ("LARGE", "gamma!x"), ("ID", "gamma")):
        await world.deliver(id=id, nexthop=nexthop, size=100)
        world.clock.advance(1)
    world.jobs, world.states = {f"x.N{number}": "x" for number in (1, 2, 3)}, {"gamma": "Dial failed"}
    world.jobs = {record.job: record.peer for record in world.register.records.values()}
    await world.keeper.look()
    assert world.keeper.waiting() == {
        "beta": {"messages": 1, "bytes": 100, "since": NOON, "state": ""},
        "gamma": {"messages": 2, "bytes": 200, "since": NOON + 1, "state": "Dial failed"},
    }
    assert sorted(await world.keeper.cancel(None)) == ["ID", "ID", "LARGE"]
    assert world.keeper.waiting() == {} and world.jobs == {}


# --- limits -------------------------------------------------------------------------------------------------------


def published(world: World) -> Any:
    return json.loads((world.folder / "uucp" / "limits").read_text())["uucp"]


@ensureDeferred
async def test_what_is_too_large_bounces(tmp_path: Path) -> None:
    world = World(tmp_path, "size=500", "daily=1k")
    (result,) = await world.deliver(size=600)
    assert (result.status, result.dsn, result.reason) == (
        BOUNCED, "5.3.4", "message size 600 exceeds the limit of the link to beta: 500")
    assert world.queues.count == 0


@ensureDeferred
async def test_the_bytes_of_a_day(tmp_path: Path) -> None:
    world = World(tmp_path, "daily=1k")
    await world.deliver(size=700)
    (result,) = await world.deliver(size=400)
    assert (result.status, result.dsn) == (DEFERRED, "4.4.5")
    assert result.reason == "the link to beta has used up the 1000 bytes of today"
    assert (await world.deliver(size=400, nexthop="gamma"))[0].status == SENT
    assert published(world)["left"] == {"beta": 300, "gamma": 600}
    again = World(tmp_path, "daily=1k")
    again.keeper.start()
    assert (await again.deliver(id="LARGE", size=400))[0].status == DEFERRED
    again.clock.advance(86400)
    assert (await again.deliver(id="LARGE", size=400))[0].status == SENT


@ensureDeferred
async def test_what_waits_for_a_neighbour(tmp_path: Path) -> None:
    world = World(tmp_path, "queued=1k")
    await world.deliver(size=1000)
    (result,) = await world.deliver(size=10)
    assert (result.status, result.reason) == (DEFERRED, "1000 bytes wait for beta already, of 1000")
    assert published(world)["sites"] == {"beta": ["1000 bytes wait for beta already, of 1000", 0]}
    world.jobs, world.traces = {}, {"D.0001": (NOON, True)}
    await world.keeper.look()
    assert published(world)["sites"] == {}
    assert (await world.deliver(size=10))[0].status == SENT


@ensureDeferred
async def test_what_was_not_queued_does_not_count(tmp_path: Path) -> None:
    world = World(tmp_path, "daily=1k", "queued=1k")
    world.queues.result = DEFERRED
    await world.deliver(size=900)
    world.queues.result = SENT
    assert (await world.deliver(size=900))[0].status == SENT


@ensureDeferred
async def test_what_is_left_out_is_kept_for_a_while(tmp_path: Path) -> None:
    world = World(tmp_path, "attachments=1k", "size=1k", "daily=1k", "kept=7d")
    kept = tmp_path / "uucp" / "kept"
    world.queues.shrunk = "300"
    (result,) = await world.deliver(size=9000)
    assert result.details == {"action": "relayed"}
    key = key_of(tmp_path / "uucp", "ID")
    assert (kept / key).read_bytes() == MESSAGE and (kept / key).stat().st_mode & 0o777 == 0o600
    assert json.loads((kept / f"{key}.json").read_text()) == {"piece": 1000, "sites": ["beta"], "recipients": ["u@b"]}
    assert published(world)["left"] == {"beta": 700} and published(world)["size"] == 0
    (record,) = world.register.records.values()
    assert record.size == 300
    world.queues.shrunk = ""
    await world.deliver(id="LARGE", size=9000)  # has none: it has gone whole
    assert sorted(os.listdir(kept)) == [key, f"{key}.json"]
    (result,) = await world.deliver(id="LARGE", size=9000)
    assert result.status == DEFERRED
    for name in (key, f"{key}.json"):
        os.utime(kept / name, (NOON - 8 * 86400,) * 2)
    await world.keeper.look()
    assert os.listdir(kept) == []


@ensureDeferred
async def test_nothing_is_left_out_that_cannot_be_kept(tmp_path: Path) -> None:
    world = World(tmp_path, "attachments=1k")
    (tmp_path / "uucp").mkdir()
    (tmp_path / "uucp" / "kept").write_text("no folder")
    (result,) = await world.deliver(size=9000)
    assert (result.status, result.reason) == (DEFERRED, "large attachments cannot be kept here now")
    assert world.queues.count == 0


@ensureDeferred
async def test_others_may_have_it_who_get_a_note_later(tmp_path: Path) -> None:
    world = World(tmp_path, "attachments=1k", "batch_size=50k")
    world.queues.shrunk = "300"
    await world.deliver("u@b", size=9000)
    await world.deliver("v@b", "u@b", size=9000, nexthop="gamma!x")
    (path,) = (tmp_path / "uucp" / "kept").glob("*.json")
    assert json.loads(path.read_text()) == {"piece": 50_000, "sites": ["beta", "gamma"], "recipients": ["u@b", "v@b"]}


@pytest.mark.parametrize("call", ["yes", "allowed"])
@ensureDeferred
async def test_whoever_waits_is_called_again(call: str, tmp_path: Path) -> None:
    world = World(tmp_path, f"call={call}")
    await world.deliver()
    await world.deliver(id="LARGE", nexthop="gamma!x")
    world.jobs, world.busy = {"beta.N1": "beta", "gamma.N2": "gamma"}, ["gamma"]
    await world.keeper.look()
    assert [one for one in world.asked if one["do"] == "call"] == [{"do": "call", "site": "beta"}]
    world.trouble = OSError("no rights")
    await world.keeper.look()
    assert "cannot call beta: no rights" in world.log.text


@ensureDeferred
async def test_what_was_registered_before_a_crash_is_not_queued_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.deliver("u@b", "v@b")
    other = World(tmp_path)
    (first, second, third) = await other.deliver("w@b", "u@b", "v@b")
    assert other.queues.count == 1 and first.reason == "text"
    assert second.status == third.status == SENT and second.reason == "has been queued as beta.N1 before"
    assert second.details == {"action": "relayed"}
    (only,) = await other.deliver("u@b")
    assert other.queues.count == 1 and only.status == SENT
    (another,) = await other.deliver("u@b", id="LARGE")
    assert other.queues.count == 2 and another.reason == "text"


@ensureDeferred
async def test_a_message_that_was_not_taken_uses_up_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "attachments=1k", "daily=10k")
    world.queues.result = DEFERRED
    for _ in range(3):
        await world.deliver(size=9000)
    assert published(world)["left"].get("beta", 10_000) == 10_000


@ensureDeferred
async def test_verify_counts_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "daily=1k")
    await world.deliver(size=900, trace="verify")
    assert (await world.deliver(size=900))[0].status == SENT


def test_a_delivery_waits_for_the_service(tmp_path: Path) -> None:
    world = World(tmp_path, "queued=1k")
    pending: Deferred[Any] = Deferred()
    world.queues.deliver = lambda one: pending  # type: ignore[method-assign, assignment, return-value]
    first = Deferred.fromCoroutine(world.deliver(size=900))
    (second,) = Deferred.fromCoroutine(world.deliver(size=900)).result  # type: ignore[misc]
    assert second.status == DEFERRED and not first.called
