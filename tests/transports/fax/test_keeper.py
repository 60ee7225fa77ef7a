"""No fax twice, whatever is interrupted; and everybody hears how it ended."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gateway.interfaces import BOUNCED, DEFERRED, SENT, IDescribes, ITransport, Result
from gateway.log import MemoryLog
from spool.envelope import NOTIFY_NEVER, NOTIFY_SUCCESS, Client, Recipient
from tests.transports.fax.test_rules import NOON, service_of
from tests.transports.support import Contents, request
from tests.transports.test_uucp_keeper import Told, in_thread
from transports.fax.keeper import ORPHANED, REMEMBERED, FaxKeeper
from transports.fax.line import DONE, FAILED, SENDS, WAITS, Job, Uncertain
from transports.fax.rules import Rules
from transports.following import Register

MESSAGE = b"Subject: x\nX-FAX-Dialstring: 666\n\nbody\n"
PICTURE = base64.b64encode(b"png").decode()
ANN = Client(name="c", address="192.0.2.1", protocol="ESMTP", sasl_username="ann")


class Line:
    """In the place of fax server and executor: what was drawn, and what it has."""

    def __init__(self) -> None:
        self.pages, self.result = 2, Result(SENT, "2.0.0", "drawn", "fax")
        self.jobs: dict[str, Job] = {}
        self.asked: list[dict[str, Any]] = []
        self.drawn: list[list[str]] = []
        self.dropped: list[str] = []
        self.answer: Any = None
        self.lost = False
        """The answer to the next submission is lost, behind it."""
        self.away: Exception | None = None
        self.stopped = False

    async def deliver(self, one: Any) -> list[Result]:
        self.drawn.append(list(one.addresses))
        found = []
        for at, _ in enumerate(one.indexes):
            details = {"fax_draft": f"d{len(self.drawn)}-{at}", "fax_pages": str(self.pages)}
            found.append(Result(self.result.status, self.result.dsn, self.result.reason, "fax", details=(
                details if self.result.status == SENT else {})))
        return found

    async def describe(self, one: Any) -> list[str]:
        return ["dials"]

    async def stop(self) -> None:
        self.stopped = True

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        json.dumps(question)
        self.asked.append(question)
        what = question["do"]
        if what == "drop":
            self.dropped += question["drafts"]
            return {}
        if self.away:
            raise self.away
        if what == "picture":
            return {"picture": PICTURE}
        if what == "look":
            tags = {tag for _, tag in question["jobs"]}
            return {"jobs": [asdict(job) for job in self.jobs.values() if job.tag in tags]}
        if what == "kill":
            return {"killed": self.jobs.pop(question["job"], None) is not None}
        if self.answer is not None:
            return self.answer
        number = str(len(self.jobs) + 1)
        self.jobs[number] = Job(number, question["fax"]["tag"], WAITS)
        if self.lost:
            self.lost = False
            raise Uncertain("connection is gone")
        return {"job": number}

    @property
    def faxes(self) -> list[dict[str, Any]]:
        return [one["fax"] for one in self.asked if one["do"] == "submit"]

    def end(self, job: str, state: str, **facts: Any) -> None:
        self.jobs[job] = Job(job, self.jobs[job].tag, state, **facts)


class Attached(Told):
    """Keeps what goes along, too."""

    def __init__(self) -> None:
        super().__init__()
        self.attached: list[list[str]] = []
        self.details: list[dict[str, str]] = []
        self.notify: list[int] = []

    async def bounce(self, entry: Any, indexes: Any, attached: Any) -> None:
        await self._all(entry, attached)
        await super().bounce(entry, indexes, attached)

    async def success(self, entry: Any, indexes: Any, attached: Any) -> None:
        await self._all(entry, attached)
        await super().success(entry, indexes, attached)

    async def _all(self, entry: Any, attached: Any) -> None:
        self.attached.append([one.data for one in attached])
        self.details.append(entry.states[0].details)
        self.notify.append(entry.envelope.recipients[0].notify)


class World:
    def __init__(self, folder: Path, *words: str, line: Line | None = None) -> None:
        self.log, self.clock, self.line, self.told = MemoryLog(), Clock(), line or Line(), Attached()
        self.clock.advance(NOON)
        self.register = Register(folder / "fax", in_thread)
        service = service_of("extensions=[2-9]00", *words)
        self.keeper = FaxKeeper(
            service, Rules(service), self.line, self.line.ask, self.register, Contents({"ID": MESSAGE, "NEW": MESSAGE}),
            self.told, self.log, self.clock, in_thread,
        )

    async def deliver(self, *to: str | Recipient, id: str = "ID", **facts: Any) -> list[Result]:
        given = {"arrival": NOON, "client": ANN, "service": "fax", **facts}
        one = request(*(to or ("200@fax",)), **given)
        one.entry.id = id
        return list(await self.keeper.deliver(one))

    @property
    def warnings(self) -> str:
        return self.log.text


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@ensureDeferred
async def test_each_number_becomes_a_job(world: World) -> None:
    verifyObject(ITransport, world.keeper)
    verifyObject(IDescribes, world.keeper)
    both = '"/FAX=+49-30-123456/FAX=200/T33S=7/PRIO=high/"@fax'
    first, second, third = await world.deliver(both, "300@fax", "nobody@fax", sender="ann@b")
    assert (first.status, first.reason) == (SENT, "queued for +4930123456 as job 1, 200 as job 2, 2 pages")
    assert first.details == second.details == {"action": "passed"}
    assert (second.reason, third.status, third.dsn) == ("queued for 300 as job 3, 2 pages", BOUNCED, "5.1.3")
    assert [(fax["dial"], fax["subaddress"], fax["priority"]) for fax in world.line.faxes] == [
        ("+4930123456", "", "high"), ("200", "7", "high"), ("300", "", "normal")]
    assert {fax["sender"] for fax in world.line.faxes} == {"ann@b"}
    assert world.line.drawn == [[both, "300@fax"]] and sorted(world.line.dropped) == ["d1-0", "d1-1"]
    again = Register(world.register.folder, in_thread)
    assert await again.load() == []
    assert sorted((one.job, one.peer, one.id) for one in again.records.values()) == [
        ("1", "+4930123456", "ID"), ("2", "200", "ID"), ("3", "300", "ID")]
    assert {one.mark for one in again.records.values()} == {job.tag for job in world.line.jobs.values()}


@ensureDeferred
async def test_it_is_on_record_before_it_is_handed_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    seen: list[int] = []
    submit = world.line.ask

    async def look_first(question: dict[str, Any]) -> dict[str, Any]:
        if question["do"] == "submit":
            again = Register(tmp_path / "fax", in_thread)
            await again.load()
            seen.append(sum(one.mark == question["fax"]["tag"] and not one.job for one in again.records.values()))
        return await submit(question)

    world.keeper._ask = look_first
    await world.deliver("200@fax", "300@fax")
    assert seen == [1, 1]


@ensureDeferred
async def test_an_answer_that_was_lost_costs_a_question(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.line.lost = True
    (result,) = await world.deliver()
    assert (result.status, result.dsn) == (DEFERRED, "4.4.2")
    # The process dies, and another one tries the message again; perhaps under another queue ID (postsuper -r).
    other = World(tmp_path, line=world.line)
    other.keeper.start()
    (result,) = await other.deliver(id="NEW")
    assert (result.status, result.reason) == (SENT, "queued for 200 as job 1")
    assert len(world.line.faxes) == len(world.line.drawn) == 1
    (result,) = await other.deliver(id="NEW")
    assert result.status == SENT and len(world.line.faxes) == 1
    await other.keeper.stop()
    assert world.line.stopped


@ensureDeferred
async def test_a_fax_that_has_ended_meanwhile_is_not_sent_again(tmp_path: Path) -> None:
    """The queue's copy did not go: the gateway died before it could be."""
    world = World(tmp_path, "sender_faxes=2")
    await world.deliver('"/FAX=200/FAX=300/"@fax')
    world.line.end("1", DONE, pages_sent=2, pages=2)
    world.line.end("2", FAILED, reason="busy")
    await world.keeper.look()
    assert world.register.records == {}
    other = World(tmp_path, "sender_faxes=2", line=world.line)
    (result,) = await other.deliver('"/FAX=200/FAX=300/"@fax', id="NEW")
    assert (result.status, len(world.line.faxes), len(world.line.drawn)) == (SENT, 2, 1)
    assert result.reason == "queued for 200, and has ended there, 300, and has ended there"
    (result,) = await other.deliver('"/FAX=200/FAX=300/"@fax', arrival=NOON + 1)
    assert result.status == DEFERRED  # that is another message, and the budget is used up
    assert (tmp_path / "fax" / "sent").stat().st_mode & 0o777 == 0o600
    other.clock.advance(11 * 86400)
    other = World(tmp_path, line=world.line)
    other.clock.advance(11 * 86400)
    await other.keeper.ready()
    assert (tmp_path / "fax" / "sent").read_text() == ""


@ensureDeferred
async def test_nothing_is_sent_before_the_records_are_read(tmp_path: Path) -> None:
    await World(tmp_path).deliver()
    world, reading = World(tmp_path), Deferred[None]()

    async def slowly(function: Any, *arguments: Any) -> Any:
        await reading
        return function(*arguments)

    world.register._in_thread = slowly
    world.keeper.start()
    pending = Deferred.fromCoroutine(world.deliver())
    assert world.line.faxes == [] and not pending.called
    reading.callback(None)
    (result,) = await pending
    assert result.status == SENT and world.line.faxes == []
    await world.keeper.stop()


@ensureDeferred
async def test_nor_while_they_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "fax" / "sent").mkdir(parents=True)
    world = World(tmp_path)
    (result,) = await world.deliver()
    assert (result.status, result.reason) == (DEFERRED, "the records of faxes cannot be read")
    (tmp_path / "fax" / "sent").rmdir()
    (result,) = await world.deliver()
    assert result.status == SENT


@ensureDeferred
async def test_what_never_came_there_is_sent_again(world: World) -> None:
    world.line.lost = True
    await world.deliver()
    world.line.jobs.clear()
    (result,) = await world.deliver()
    assert (result.status, len(world.line.faxes), len(world.register.records)) == (SENT, 2, 1)
    assert world.keeper.published()["use"]["ann"] == (1, 2, 0.0)  # counted once


@ensureDeferred
async def test_while_nobody_can_be_asked_nothing_is_sent(world: World) -> None:
    world.line.lost = True
    await world.deliver()
    world.line.away = ConnectionError("the executor is away")
    (result,) = await world.deliver()
    assert result.status == DEFERRED and len(world.line.faxes) == 1
    assert "service fax: ConnectionError: the executor is away" in world.warnings


@ensureDeferred
async def test_what_the_line_may_have_forgotten_is_not_sent_again(world: World) -> None:
    world.line.lost = True
    await world.deliver()
    world.line.jobs.clear()
    world.clock.advance(REMEMBERED + 1)
    (result,) = await world.deliver()
    assert result.status == BOUNCED and "nobody can tell whether it was sent" in result.reason
    assert len(world.line.faxes) == 1 and world.register.records == {}


@ensureDeferred
async def test_another_message_is_another_fax(world: World) -> None:
    await world.deliver()
    await world.deliver(arrival=NOON + 1)
    assert len(world.line.faxes) == 2


@ensureDeferred
async def test_what_the_line_refuses(world: World) -> None:
    world.line.answer = {"refused": "fax server cannot be reached", "permanent": False}
    (result,) = await world.deliver()
    assert (result.status, result.dsn, result.destination_down) == (DEFERRED, "4.4.1", True)
    world.line.answer = {"refused": "fax server says: no", "permanent": True}
    (result,) = await world.deliver()
    assert (result.status, result.reason) == (BOUNCED, "fax server says: no")
    assert world.register.records == {} and world.keeper.published()["use"]["ann"] == (0, 0, 0.0)


@ensureDeferred
async def test_what_cannot_be_drawn(world: World) -> None:
    world.line.result = Result(BOUNCED, "5.6.1", "cannot be faxed: part 2 (x.zip): zip", "fax")
    (result,) = await world.deliver()
    assert result.reason == "cannot be faxed: part 2 (x.zip): zip" and world.line.faxes == []


@ensureDeferred
async def test_nothing_goes_unrecorded(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.keeper.ready()
    (tmp_path / "fax").write_text("no folder")
    (result,) = await world.deliver()
    assert (result.status, result.reason) == (DEFERRED, "the fax cannot be put on record now")
    assert world.line.faxes == []


@ensureDeferred
async def test_pages_count_once_they_are_known(tmp_path: Path) -> None:
    world = World(tmp_path, "sender_pages=5")
    assert [one.status for one in await world.deliver("200@fax", "300@fax", "400@fax")] == [SENT, SENT, DEFERRED]
    world.line.pages = 6
    (result,) = await world.deliver("500@fax")
    assert (result.status, result.reason) == (BOUNCED, "fax is more than the 5 pages of a day for a sender")
    assert len(world.line.faxes) == 2
    written = json.loads((tmp_path / "fax" / "limits").read_text())["fax"]["use"]
    assert written == {"ann": [2, 4, 0.0], "": [2, 4, 0.0]}
    other = World(tmp_path, "sender_pages=5")
    other.keeper.start()
    assert [one.status for one in await other.deliver("600@fax", arrival=NOON + 5)] == [DEFERRED]
    await other.keeper.stop()


@pytest.mark.parametrize("client, sender, status", [
    (ANN, "ann@b", SENT), (Client(), "joe@b", SENT), (Client(address="192.0.2.1", protocol="SMTP"), "ann@b", BOUNCED),
    (ANN, "", BOUNCED), (Client(protocol="UUCP", name="far"), "a@far", BOUNCED),
])
@ensureDeferred
async def test_the_rules_hold_for_mail_that_came_otherwise(
    world: World, client: Client, sender: str, status: str
) -> None:
    (result,) = await world.deliver(client=client, sender=sender)
    assert (result.status, len(world.line.faxes)) == (status, int(status == SENT))


@ensureDeferred
async def test_verify_sends_nothing(world: World) -> None:
    good, bad = await world.deliver("200@fax", "nobody@fax", trace="verify")
    assert (good.status, good.reason, bad.status) == (SENT, "would be faxed to 200", BOUNCED)
    assert world.line.asked == [] and world.line.drawn == []


# --- following ----------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_fax_that_arrived(world: World) -> None:
    await world.deliver(Recipient("200@fax", notify=NOTIFY_SUCCESS))
    world.line.end("1", SENDS)
    await world.keeper.look()
    assert world.told.notices == [] and world.keeper.state(world.keeper.own()[0]) == SENDS
    facts = {"duration": "0:48", "signal rate": "14400 bit/s"}
    world.line.end("1", DONE, pages_sent=2, pages=2, calls=1, facts=facts)
    await world.keeper.look()
    text = "fax to 200, job 1: 2 pages arrived, 1 call, duration 0:48, signal rate 14400 bit/s"
    assert world.told.notices == [("success", "ID", "2.0.0", text)]
    assert world.told.attached == [[PICTURE]] and world.told.details == [{"action": "delivered"}]
    assert world.register.records == {}


@pytest.mark.parametrize("facts, dsn, text", [
    ({"state": FAILED, "reason": "Busy signal detected", "calls": 3}, "5.4.1",
     "failed: Busy signal detected, 0 of 2 pages, 3 calls"),
    ({"state": FAILED, "reason": "Kill time expired", "pages": 2, "pages_sent": 1}, "5.4.7",
     "failed: Kill time expired, 1 of 2 pages"),
    ({"state": FAILED, "reason": "Job aborted by request"}, "5.3.0", "failed: Job aborted by request, 0 of 2 pages"),
    ({"state": FAILED, "reason": "RSPREC error"}, "5.4.2", "failed: RSPREC error, 0 of 2 pages"),
    ({"state": DONE, "pages_sent": 1, "pages": 1}, "5.4.2", "failed: not all pages arrived, 1 of 1 pages"),
])
@ensureDeferred
async def test_a_fax_that_failed(world: World, facts: dict[str, Any], dsn: str, text: str) -> None:
    await world.deliver()
    world.line.end("1", **facts)
    await world.keeper.look()
    assert world.told.notices == [("bounce", "ID", dsn, f"fax to 200, job 1 {text}")]
    assert world.told.attached == [[PICTURE]] and world.told.details[0]["diagnostic_type"] == "x-fax"


@ensureDeferred
async def test_a_fax_that_waits(tmp_path: Path) -> None:
    world = World(tmp_path, "warn=30m", "lifetime=2d")
    await world.deliver('"fax=200/TIME=1300"@fax')
    assert world.line.faxes[0]["when"] == NOON + 3600
    world.line.end("1", WAITS, reason="No local dialtone, 2 of 12 calls")
    world.clock.advance(3600 + 1700)
    await world.keeper.look()
    assert world.told.notices == []
    (item,) = world.keeper.listing()
    assert item["queue_name"] == "fax" and item["recipients"][0]["delay_reason"].endswith(
        "job 1: No local dialtone, 2 of 12 calls")
    world.clock.advance(200)
    await world.keeper.look()
    await world.keeper.look()
    assert [one[:3] for one in world.told.notices] == [("delayed", "ID", "4.4.1")]
    world.clock.advance(2 * 86400)
    await world.keeper.look()
    assert [one[:3] for one in world.told.notices[1:]] == [("bounce", "ID", "5.4.7")] and world.line.jobs == {}


@ensureDeferred
async def test_a_job_that_the_line_does_not_know_any_more(world: World) -> None:
    await world.deliver()
    world.line.jobs.clear()
    await world.keeper.look()
    assert world.told.notices == []  # it may just have been restarted
    await world.keeper.look()
    ((kind, _, dsn, text),) = world.told.notices
    assert (kind, dsn) == ("bounce", "5.4.0") and text.endswith("whether it arrived cannot be told")


@ensureDeferred
async def test_a_line_that_is_away_concludes_nothing(world: World) -> None:
    await world.deliver()
    world.line.away = Uncertain("no answer")
    for _ in range(3):
        await world.keeper.look()
    assert world.told.notices == [] and len(world.register.records) == 1
    assert world.warnings.count("jobs cannot be followed: Uncertain: no answer") == 1


@ensureDeferred
async def test_what_was_left_between(world: World) -> None:
    """Its message was deleted while nobody knew whether the fax server has it."""
    world.line.lost = True
    await world.deliver()
    await world.keeper.look()
    assert world.told.notices == []
    world.clock.advance(ORPHANED + 1)
    await world.keeper.look()
    assert [one.job for one in world.keeper.own()] == ["1"]
    world.line.end("1", DONE, pages_sent=2, pages=2)
    await world.keeper.look()
    assert [one[0] for one in world.told.notices] == ["delayed", "success"]
    world.line.lost = True
    await world.deliver(arrival=NOON + 9)
    world.line.jobs.clear()
    world.clock.advance(ORPHANED + 1)
    await world.keeper.look()
    assert "fax to 200 was not handed over" in world.warnings and world.register.records == {}


@ensureDeferred
async def test_taking_back(world: World) -> None:
    await world.deliver("200@fax")
    world.line.lost = True
    await world.deliver("300@fax", id="NEW", arrival=NOON + 1)
    assert await world.keeper.cancel({"NEW"}) == ["NEW"] and list(world.line.jobs) == ["1"]
    assert await world.keeper.cancel({"ID"}) == ["ID"] and world.line.jobs == {}
    assert world.register.records == {} and world.told.notices == []


@pytest.mark.parametrize("words, notify, told", [
    ([], 0, 0), (["confirm=always"], 0, NOTIFY_SUCCESS), (["confirm=always"], NOTIFY_NEVER, 0), ([], NOTIFY_SUCCESS, 2),
])
@ensureDeferred
async def test_confirmation(tmp_path: Path, words: list[str], notify: int, told: int) -> None:
    world = World(tmp_path, *words)
    await world.deliver(Recipient("200@fax", notify=notify))
    world.line.end("1", DONE, pages_sent=2, pages=2)
    await world.keeper.look()
    assert world.told.notify[0] & NOTIFY_SUCCESS == told


@ensureDeferred
async def test_what_is_explained(world: World) -> None:
    await world.deliver()
    lines = await world.keeper.describe(request("200@fax", "+12025550123@fax", sender=""))
    refused = "would be refused: +12025550123 is in a zone that is not called"
    assert lines == ["dials", "the fax of ID waits for 200 as job 1", refused]
