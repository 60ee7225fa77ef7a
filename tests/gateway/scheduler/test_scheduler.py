"""What the scheduler does with messages, on a memory spool, with transports that answer when told."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from gateway.interfaces import AddressClass, Result, Route, TableError
from gateway.log import MemoryLog
from gateway.scheduler.backoff import RetryTimes
from gateway.scheduler.destination import Feedback, Limits
from gateway.scheduler.scheduler import Policy, Scheduler
from gateway.scheduler.transport_queue import TransportQueue
from spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_SUCCESS, Envelope, Recipient, note_expanded
from spool.interfaces import SpoolError
from spool.memory import MemorySpool


class FakeRouter:
    def __init__(self):
        self.broken = set()

    async def resolve(self, sender, recipient):
        if recipient in self.broken:
            raise TableError("table away")
        local, _, domain = recipient.partition("@")
        if domain == "here":
            return Route("local", domain, recipient, AddressClass.LOCAL)
        transport = "fax" if domain == "fax" else "nosuch" if domain == "nosuch" else "smtp"
        return Route(transport, domain, recipient, AddressClass.DEFAULT)


class ProbeRouter(FakeRouter):
    async def resolve(self, sender, recipient):
        return Route("fax", "probes", recipient, AddressClass.DEFAULT)


class FakeTransport:
    """Keeps requests until the test answers them."""

    program = "smtp"

    def __init__(self):
        self.requests = []

    def deliver(self, request):
        answer = Deferred()
        self.requests.append((request, answer))
        return answer

    def take(self, nexthop=None):
        for number, (request, answer) in enumerate(self.requests):
            if nexthop is None or request.nexthop == nexthop:
                del self.requests[number]
                return request, answer
        raise AssertionError(f"no request for {nexthop}")

    def answer(self, status="sent", dsn="2.0.0", reason="250 Ok", nexthop=None, **more):
        request, answer = self.take(nexthop)
        answer.callback([Result(status, dsn, reason, "host", **more) for _ in request.indexes])
        return request


class FakeNotices:
    def __init__(self):
        self.sent = []
        self.broken = False

    def __getattr__(self, name):
        async def notice(entry, indexes):
            if self.broken:
                raise OSError("disk full")
            self.sent.append((name, entry.id, list(indexes)))

        return notice


def limits(**changes):
    values = {"initial_concurrency": 2, "concurrency": 2, "recipients": 3, "failed_cohorts": 1,
              "positive": Feedback(1, 0), "negative": Feedback(1, 0)}
    return Limits(**{**values, **changes})


class World:
    def __init__(
        self, process_limit=100, active_limit=100, defer=(), confirm=False, soft=False, filter_nexthop="", **changes
    ):
        self.clock, self.log = Clock(), MemoryLog()
        self.clock.advance(1_000_000)
        self.spool = MemorySpool(reactor=self.clock)
        self.router, self.notices = FakeRouter(), FakeNotices()
        self.smtp, self.fax = FakeTransport(), FakeTransport()

        def queues(done):
            return {
                name: TransportQueue(name, transport, limits(**changes), process_limit=process_limit, retry_time=300,
                                     clock=self.clock, log=self.log, done=done)
                for name, transport in (("smtp", self.smtp), ("fax", self.fax))
            }

        times = RetryTimes(300, 4000, 5000, 5000, 1000)
        policy = Policy(times, active_limit, 300, frozenset(defer), confirm, soft, "double-bounce", filter_nexthop)
        self.resubmitted = []
        self.scheduler = Scheduler(
            self.spool, self.router, self.notices, policy, self.clock, self.log, queues, self.resubmit,
            ProbeRouter(), lambda envelope: envelope.sender == "probe@here",
        )

    async def resubmit(self, entry):
        self.resubmitted.append(entry.id)
        return "NEWID"

    def store(self, *recipients, sender="joe@here", **more):
        envelope = Envelope(sender, [one if isinstance(one, Recipient) else Recipient(one) for one in recipients],
                            arrival=self.clock.seconds(), **more)
        draft = self.spool.draft(envelope)
        draft.write(b"Subject: x\n\nx\n")
        Deferred.fromCoroutine(draft.commit())
        return draft.id, envelope

    def send(self, *recipients, **more):
        queue_id, envelope = self.store(*recipients, **more)
        self.scheduler.announce(queue_id, envelope)
        return queue_id

    def flush(self, queue_id=None):
        Deferred.fromCoroutine(self.scheduler.flush(None if queue_id is None else [queue_id]))

    def queue(self):
        kept = []
        Deferred.fromCoroutine(self.spool.listing()).addCallback(kept.extend)
        return {one.id: one for one in kept}


def test_a_message_is_delivered_logged_and_removed():
    world = World()
    queue_id = world.send("ann@there")
    world.smtp.answer()
    assert world.queue() == {}
    lines = [text for _, text in world.log.lines]
    assert lines[0] == f"{queue_id}: from=<joe@here>, size=14, nrcpt=1 (queue active)"
    assert f"{queue_id}: to=<ann@there>, relay=host, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 Ok)" in lines
    assert lines[-1] == f"{queue_id}: removed"


def test_recipients_of_one_next_hop_go_together_up_to_the_limit():
    world = World()
    world.send("a@there", "b@there", "c@there", "d@there", "e@elsewhere")
    sizes = sorted((request.nexthop, len(request.indexes)) for request, _ in world.smtp.requests)
    assert sizes == [("elsewhere", 1), ("there", 1), ("there", 3)]


def test_with_soft_bounce_nothing_is_returned():
    world = World(soft=True)
    queue_id = world.send("a@there", "b@nosuch")
    world.smtp.answer("bounced", "5.1.1", "no such user", others=(Result("bounced", "5.2.2", "full"),))
    assert world.notices.sent == []
    assert [(one.dsn, one.reason) for one in world.queue()[queue_id].states] == [
        ("4.1.1", "no such user"), ("4.3.0", "mail transport unavailable"),
    ]
    assert "dsn=4.1.1, status=SOFTBOUNCE (no such user)" in world.log.text
    assert "dsn=4.2.2, status=SOFTBOUNCE (full)" in world.log.text
    assert "status=deferred (mail transport unavailable)" in world.log.text


def test_a_question_is_answered_without_softness():
    world = World(soft=True)
    world.send("a@there", trace="verify")
    world.smtp.answer("bounced", "5.1.1", "no such user")
    assert "status=undeliverable (no such user)" in world.log.text


def test_mail_to_the_sender_of_notices_is_thrown_away():
    world = World()
    world.send("Double-Bounce@here")
    assert "relay=none, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (undeliverable postmaster" in world.log.text
    assert world.queue() == {} and world.smtp.requests == []
    world.send("double-bounce@there", "double-bounce2@there")
    assert len(world.smtp.requests) == 1


def test_with_verp_each_recipient_gets_the_mail_from_a_sender_of_his_own():
    world = World()
    queue_id = world.send("a@there", Recipient("b@there", "List@here"), "c@elsewhere", sender="own@here", verp="-=")
    taken = [world.smtp.answer(nexthop="there"), world.smtp.answer(nexthop="there"), world.smtp.answer()]
    assert [(request.entry.id, request.addresses, request.entry.envelope.sender) for request in taken] == [
        (queue_id, ["a@there"], "own-a=there@here"),
        (queue_id, ["b@there"], "own-List=here@here"),
        (queue_id, ["c@elsewhere"], "own-c=elsewhere@here"),
    ]
    assert world.queue() == {}


def test_mail_of_nobody_has_no_verp():
    world = World()
    world.send("a@there", sender="", verp="-=")
    assert world.smtp.answer().entry.envelope.sender == ""


def test_a_deferred_recipient_is_tried_again_and_the_others_are_not():
    world = World()
    queue_id = world.send("ann@there", "bob@elsewhere")
    world.smtp.answer(nexthop="there")
    world.smtp.answer("deferred", "4.2.0", "450 later", nexthop="elsewhere")
    listed = world.queue()[queue_id]
    assert [(one.status, one.done) for one in listed.states] == [("sent", True), ("deferred", False)]
    assert listed.states[1].reason == "450 later"
    world.clock.advance(299)
    assert world.smtp.requests == []
    world.clock.advance(2)
    assert world.smtp.answer().addresses == ["bob@elsewhere"]
    assert world.queue() == {}


def test_what_failed_is_returned_and_then_removed():
    world = World()
    queue_id = world.send("ann@there")
    world.smtp.answer("bounced", "5.1.1", "550 unknown")
    assert world.notices.sent == [("bounce", queue_id, [0])]
    assert world.queue() == {}


def test_mail_stays_when_its_bounce_cannot_be_queued_and_is_not_delivered_again():
    world = World()
    queue_id = world.send("ann@there")
    world.notices.broken = True
    world.smtp.answer("bounced", "5.1.1", "550 unknown")
    assert queue_id in world.queue()
    world.notices.broken = False
    world.clock.advance(301)
    assert world.smtp.requests == []
    assert world.notices.sent == [("bounce", queue_id, [0])]
    assert world.queue() == {}


def test_too_old_a_message_is_returned():
    world = World()
    queue_id = world.send("ann@there")
    for _ in range(10):
        if not world.smtp.requests:
            break
        world.smtp.answer("deferred", "4.4.1", "timed out")
        world.clock.advance(4001)
    assert ("bounce", queue_id, [0]) in world.notices.sent
    assert f"{queue_id}: from=<joe@here>, status=expired, returned to sender" in world.log.text
    assert world.queue() == {}


def test_one_delay_warning():
    world = World()
    queue_id = world.send("ann@there")
    for _ in range(4):
        world.smtp.answer("deferred", "4.4.1", "timed out")
        world.clock.advance(500)
        world.flush()
    assert [one for one in world.notices.sent if one[0] == "delayed"] == [("delayed", queue_id, [0])]


def test_success_is_told_to_who_asked_for_it():
    world = World()
    queue_id = world.send(Recipient("ann@there", notify=NOTIFY_SUCCESS), "bob@there")
    world.smtp.answer()
    assert world.notices.sent == [("success", queue_id, [0])]


def test_success_is_told_when_it_comes_and_once():
    world = World()
    queue_id = world.send(*(Recipient(f"ann@{name}", notify=NOTIFY_SUCCESS) for name in ("one", "two", "three")))
    world.smtp.answer(nexthop="one")
    world.smtp.answer("bounced", "5.1.1", "no", nexthop="two")
    world.smtp.answer("deferred", "4.2.0", "later", nexthop="three")
    assert world.notices.sent == [("bounce", queue_id, [1]), ("success", queue_id, [0, 1])]
    world.flush()
    world.smtp.answer(nexthop="three")
    assert world.notices.sent[2:] == [("success", queue_id, [2])]


def test_who_was_told_of_a_delay_hears_that_it_is_over():
    world = World(confirm=True)
    queue_id = world.send(
        "early@one", Recipient("a@two", notify=NOTIFY_DELAY), "b@two", Recipient("c@two", notify=NOTIFY_FAILURE),
        "d@three",
    )
    world.smtp.answer(nexthop="one")
    for _ in range(2):
        world.smtp.answer("deferred", "4.1.1", "later", nexthop="two")
        world.smtp.answer("deferred", "4.1.1", "later", nexthop="three")
        world.clock.advance(1200)
    assert world.notices.sent == [("delayed", queue_id, [1, 2, 3, 4])]
    world.smtp.answer(nexthop="two")
    world.smtp.answer("deferred", "4.1.1", "later", nexthop="three")
    assert world.notices.sent[1:] == [("success", queue_id, [1, 2])]
    world.clock.advance(2500)
    world.smtp.answer()
    assert world.notices.sent[2:] == [("success", queue_id, [4])]


def test_the_sender_hears_once_that_an_alias_was_expanded():
    world = World()
    expanded = Envelope("x@y")
    note_expanded(expanded, Recipient("list@here", notify=NOTIFY_SUCCESS))
    queue_id = world.send("ann@there", expanded=expanded.expanded)
    world.smtp.answer("deferred", "4.2.0", "later")
    assert world.notices.sent == [("success", queue_id, [])]
    assert world.queue()[queue_id].envelope.expanded == ""
    world.flush()
    world.smtp.answer()
    assert world.notices.sent[1:] == [] and world.queue() == {}


def test_a_transport_that_crashes_or_miscounts_defers():
    world = World()
    world.send("ann@there")
    world.smtp.take()[1].errback(ZeroDivisionError("oops"))
    world.send("bob@there")
    world.smtp.take()[1].callback([])
    assert [one.states[0].reason for one in world.queue().values()] == ["unknown mail transport error"] * 2
    assert "transport smtp failure: ZeroDivisionError: oops" in world.log.text


def test_an_unknown_transport_or_a_table_that_is_away_defers():
    world = World()
    world.router.broken.add("ann@away")
    world.send("ann@away", "bob@nosuch")
    (listed,) = world.queue().values()
    assert [one.reason for one in listed.states] == ["address resolver failure", "mail transport unavailable"]


def test_deferred_transports_wait_until_they_are_flushed():
    world = World(defer=["smtp"])
    world.send("ann@there")
    assert world.smtp.requests == []
    (listed,) = world.queue().values()
    assert (listed.states[0].dsn, listed.states[0].reason) == ("4.3.2", "deferred transport")
    world.flush()
    world.smtp.answer()
    assert world.queue() == {}


def test_a_dead_destination_puts_its_mail_off_and_holds_nobody_else_up():
    world = World()
    for _ in range(6):
        world.send("ann@dead")
    world.send("bob@alive")
    for _ in range(2):
        world.smtp.answer("deferred", "4.4.1", "refused", nexthop="dead", destination_down=True)
    waiting = [request.nexthop for request, _ in world.smtp.requests]
    assert waiting == ["alive"]
    reasons = [one.states[0].reason for one in world.queue().values() if one.states[0].status]
    assert reasons.count("refused") == 2
    assert reasons.count("delivery temporarily suspended: refused") == 4


def test_no_more_deliveries_than_processes_and_destinations_take_turns():
    world = World(process_limit=2, concurrency=0, initial_concurrency=10)
    for number in range(4):
        world.send(f"a{number}@one")
    world.send("b@two")
    assert [request.nexthop for request, _ in world.smtp.requests] == ["one", "one"]
    world.smtp.answer()
    world.smtp.answer()
    assert [request.nexthop for request, _ in world.smtp.requests] == ["one", "two"]


def test_messages_take_turns_within_a_destination():
    world = World(process_limit=1)
    big = world.send(*(f"a{number}@there" for number in range(30)))
    small = world.send("b@there")
    order = []
    while world.smtp.requests:
        order.append(world.smtp.answer().entry.id)
    assert order.index(small) <= 2
    assert order.count(big) == 10


def test_the_active_set_is_bounded_and_the_rest_is_read_later():
    world = World(active_limit=2, process_limit=2)
    for number in range(7):
        world.send(f"a{number}@there")
    assert world.scheduler.status()["active"] == 2
    delivered = 0
    while world.smtp.requests:
        world.smtp.answer()
        world.clock.advance(0)
        delivered += 1
    assert delivered == 7
    assert world.queue() == {}


def test_what_is_in_the_spool_at_the_start_is_taken_up():
    world = World()
    world.store("ann@there")
    world.scheduler.start()
    world.smtp.answer()
    assert world.queue() == {}


def test_stop_waits_for_what_is_in_flight_and_records_it():
    world = World()
    world.send("ann@there")
    stopped = world.scheduler.stop()
    assert not stopped.called
    world.smtp.answer()
    assert stopped.called
    assert world.queue() == {}
    late = world.send("bob@there")
    assert world.smtp.requests == []
    assert late in world.queue()


def test_a_message_that_is_removed_while_it_is_delivered_leaves_no_trace():
    world = World()
    queue_id = world.send("ann@there")
    Deferred.fromCoroutine(world.spool.delete(queue_id))
    world.scheduler.forget(queue_id)
    world.smtp.answer("bounced", "5.1.1", "550 unknown")
    assert world.notices.sent == []
    assert world.queue() == {}


def test_the_content_filter_comes_before_routing():
    world = World()
    world.send("ann@there", "bob@elsewhere", content_filter="fax:scanner")
    assert world.fax.answer().nexthop == "scanner"
    assert world.smtp.requests == []


def test_a_content_filter_is_not_asked_what_would_be_delivered():
    world = World()
    world.send("ann@there", content_filter="fax:scanner", trace="verify")
    world.smtp.answer()
    assert world.fax.requests == []


@pytest.mark.parametrize(("nexthop", "expected"), [("", "there"), ("scanner", "scanner")])
def test_a_content_filter_without_a_next_hop(nexthop, expected):
    world = World(filter_nexthop=nexthop)
    world.send("ann@there", content_filter="fax:")
    assert world.fax.answer().nexthop == expected


def test_probes_may_go_other_ways_than_mail():
    world = World()
    world.send("ann@there", sender="probe@here", trace="verify")
    assert world.fax.answer().nexthop == "probes"
    world.send("ann@there", sender="joe@here", trace="verify")
    world.send("ann@there", sender="probe@here")
    assert [world.smtp.answer().nexthop for _ in range(2)] == ["there", "there"]


@pytest.mark.parametrize(("status", "dsn"), [("bounced", "5.1.1"), ("deferred", "4.4.1")])
def test_who_asks_gets_the_transports_answers_and_no_other_notice(status, dsn):
    world = World()
    queue_id = world.send("ann@there", "bob@elsewhere", trace="verify")
    assert world.smtp.answer(reason="delivers", nexthop="there").entry.envelope.trace == "verify"
    world.smtp.answer(status, dsn, "no", nexthop="elsewhere")
    assert "to=<ann@there>, relay=host, delay=0, delays=0/0/0/0, dsn=2.0.0, status=deliverable (delivers)" \
        in world.log.text
    assert f"dsn={dsn}, status=undeliverable (no)" in world.log.text
    assert world.notices.sent == [("verify", queue_id, [0, 1])]
    assert world.queue() == {}


def test_the_report_on_a_watched_message_comes_once():
    world = World()
    queue_id = world.send("ann@there", trace="record")
    for _ in range(2):
        world.smtp.answer("deferred", "4.2.0", "450 later")
        assert world.queue()[queue_id].envelope.trace == ""
        world.flush()
    assert world.notices.sent == [("verify", queue_id, [0])]


def test_members_of_an_alias_are_logged_and_kept_on_record():
    world = World()
    queue_id = world.send(Recipient("team@there", "team"))
    member = Recipient("ann@there", "team", "rfc822;team@there")
    others = (Result("sent", "2.0.0", "delivered", "host", recipient=member), Result("expanded", "2.0.0", "by alias"))
    world.smtp.answer("deferred", "4.2.0", "later", others=others)
    assert "to=<team@there>, orig_to=<team>, relay=host" in world.log.text
    assert "to=<ann@there>, orig_to=<team>, relay=host, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered)" \
        in world.log.text
    assert "by alias" not in world.log.text
    (state,) = world.queue()[queue_id].states
    assert [(one.status, one.recipient) for one in state.others] == [("sent", member), ("expanded", None)]
    world.flush()
    world.smtp.answer()
    assert world.queue() == {}


def test_the_log_says_of_a_member_what_is_known_of_it_and_not_of_the_list():
    world = World()
    world.send(Recipient("list@there", "list"))
    world.smtp.answer(recipient=Recipient("ann@there"))
    assert "to=<ann@there>, relay=host" in world.log.text


def test_an_expired_message_goes_back_at_the_next_attempt():
    world = World()
    queue_id = world.send("ann@there")
    world.smtp.answer("deferred", "4.2.0", "later")
    Deferred.fromCoroutine(world.spool.expire(queue_id))
    world.flush()
    assert world.smtp.requests == []
    assert "status=force-expired, returned to sender" in world.log.text
    assert "administratively" not in world.log.text
    assert world.notices.sent == [("bounce", queue_id, [0])]


def test_an_expired_message_that_was_never_tried():
    world = World()
    queue_id, envelope = world.store("ann@there")
    Deferred.fromCoroutine(world.spool.expire(queue_id))
    world.scheduler.start()
    assert world.smtp.requests == []
    assert "dsn=4.7.0, status=deferred (message is administratively expired)" in world.log.text
    assert world.notices.sent == [("bounce", queue_id, [0])]


def test_a_requeued_message_goes_through_cleanup_within_a_minute():
    world = World()
    queue_id = world.send("ann@there")
    world.smtp.answer("deferred", "4.2.0", "later")
    Deferred.fromCoroutine(world.spool.requeue(queue_id))
    world.scheduler.look_soon()
    world.clock.advance(59)
    assert world.resubmitted == []
    world.clock.pump([1, 1])
    assert world.resubmitted == [queue_id]
    assert world.queue() == {}
    assert world.smtp.requests == []


def test_a_requeued_message_goes_with_the_next_flush():
    world = World(defer=["smtp"])
    queue_id = world.send("ann@there")
    Deferred.fromCoroutine(world.spool.requeue(queue_id))
    world.flush()
    assert world.resubmitted == [queue_id]


def test_a_message_that_is_requeued_while_it_is_delivered_goes_through_cleanup_at_once():
    world = World()
    queue_id = world.send("ann@there")
    Deferred.fromCoroutine(world.spool.requeue(queue_id))
    world.smtp.answer("deferred", "4.2.0", "later")
    world.clock.advance(1)
    assert world.resubmitted == [queue_id]


def test_a_message_that_cannot_be_requeued_stays():
    world = World()
    queue_id = world.send("ann@there")
    world.smtp.answer("deferred", "4.2.0", "later")

    async def full(entry):
        raise SpoolError("no room", no_room=True)

    world.scheduler._resubmit = full
    Deferred.fromCoroutine(world.spool.requeue(queue_id))
    world.flush()
    assert queue_id in world.queue()


def test_recipients_are_taken_in_the_order_of_their_addresses():
    world = World()
    world.send('"x y"@there', "c@there", "a@there", "b@elsewhere")
    assert world.smtp.take("there")[0].addresses == ["a@there", "c@there", '"x y"@there']


def test_the_log_and_notices_have_the_recipient_as_it_was_resolved():
    world = World()

    async def resolve(sender, recipient):
        return Route("smtp", "there", "x@far", AddressClass.DEFAULT)

    world.router.resolve = resolve
    queue_id = world.send(Recipient("x%far@here", "x%far@here", notify=NOTIFY_DELAY))
    world.smtp.answer("deferred", "4.0.0", "later")
    assert "to=<x@far>" in world.log.text
    assert world.queue()[queue_id].states[0].recipient == Recipient("x@far", "x%far@here", notify=NOTIFY_DELAY)


def test_what_was_delivered_of_a_held_message_is_on_record_and_told():
    world = World()
    queue_id = world.send("ann@there", "bob@elsewhere")
    Deferred.fromCoroutine(world.spool.hold(queue_id))
    world.scheduler.forget(queue_id)
    world.smtp.answer(nexthop="there")
    assert world.queue()[queue_id].queue == "hold"
    assert [state.done for state in world.queue()[queue_id].states] == [True, False]
    assert "to=<ann@there>" in world.log.text and "status=sent" in world.log.text


def test_putting_off_is_recorded_with_the_release_and_nothing_else():
    world = World()
    recorded, released = [], []
    progress, release = world.spool.progress, world.spool.release

    async def note(queue_id, results):
        if results:
            recorded.append([one.index for one in results])
        await progress(queue_id, results)

    async def give_back(queue_id, not_before, results=()):
        released.append([(one.index, one.state.reason) for one in results])
        return await release(queue_id, not_before)

    world.spool.progress, world.spool.release = note, give_back
    world.send("ann@there", "bob@elsewhere")
    world.smtp.answer(nexthop="there")
    world.smtp.answer("deferred", "4.2.0", "busy", nexthop="elsewhere")
    assert (recorded, released) == ([[0]], [[(1, "busy")]])


def test_what_somebody_put_into_the_spool_is_found_within_half_a_minute():
    world = World()
    world.scheduler.start()
    world.store("ann@there")
    world.clock.advance(30)
    assert len(world.smtp.requests) == 1


def test_new_mail_is_asked_to_wait_while_the_active_set_is_full():
    world = World(active_limit=5)
    told = []
    world.scheduler.on_crowd = told.append
    world.scheduler.start()
    for _ in range(5):
        world.send("ann@there")
    assert told == []
    world.send("ann@there")
    world.send("ann@there")
    assert told == [True] and world.scheduler.status()["crowded"]
    world.clock.advance(5)
    assert told == [True, True]  # whoever has come meanwhile hears of it, too
    while world.smtp.requests:
        world.smtp.answer()
    world.clock.advance(5)
    assert told == [True, True, False] and not world.scheduler.status()["crowded"]
    world.clock.advance(5)
    assert told == [True, True, False]


# --- one scheduler takes another one's place ---------------------------------------------------------------------


class Handover:
    """What a scheduler gave to the next one."""

    def __init__(self, scheduler):
        self.freed, self.kept = [], None
        done = Deferred.fromCoroutine(scheduler.hand_over(lambda *what: self.freed.append(what)))
        done.addCallback(lambda kept: setattr(self, "kept", kept))


def test_only_messages_with_running_deliveries_are_kept():
    world = World(process_limit=1)
    running, waiting = world.send("ann@there"), world.send("bob@there")
    handover = Handover(world.scheduler)
    assert handover.kept == [running]
    assert not world.scheduler.is_active(waiting)
    assert world.spool.let_go(waiting) == ""
    world.smtp.answer()
    assert handover.freed == [(running, "")]
    assert world.smtp.requests == []
    assert list(world.queue()) == [waiting]


def test_a_message_that_is_put_off_is_given_back_with_where_it_is():
    world = World()
    queue_id = world.send("ann@there")
    handover = Handover(world.scheduler)
    world.smtp.answer("deferred", "4.2.0", "later")
    assert handover.freed == [(queue_id, queue_id)]
    assert world.queue()[queue_id].states[0].reason == "later"


def test_a_message_that_is_only_begun_is_given_back_with_its_results():
    world = World(process_limit=1)
    queue_id = world.send("ann@there", "bob@elsewhere")
    handover = Handover(world.scheduler)
    assert handover.kept == [queue_id]
    world.smtp.answer(nexthop="there")
    assert handover.freed == [(queue_id, queue_id)]
    assert sorted(state.done for state in world.queue()[queue_id].states) == [False, True]
    assert world.smtp.requests == []


def test_what_is_resolved_during_the_handover_is_left_to_the_next_one():
    world = World()
    answer = Deferred()

    async def slowly(sender, recipient):
        return await answer

    world.scheduler._router.resolve = slowly
    queue_id = world.send("ann@nosuch")
    handover = Handover(world.scheduler)
    assert handover.kept == []
    answer.callback(Route("nosuch", "nosuch", "ann@nosuch", AddressClass.DEFAULT))
    assert world.queue()[queue_id].states[0].status == ""
    assert world.queue()[queue_id].queue == "incoming"


def test_what_is_claimed_during_the_handover_is_let_go():
    world = World()
    entries, claim = Deferred(), world.spool.claim

    async def slowly(limit):
        await entries
        return await claim(limit)

    world.spool.claim = slowly
    world.scheduler.start()
    queue_id, _ = world.store("ann@there")
    handover = Handover(world.scheduler)
    assert handover.kept is None
    entries.callback(None)
    assert handover.kept == []
    assert world.smtp.requests == []
    assert world.spool.let_go(queue_id) == ""


def test_messages_for_one_destination_go_in_a_bundle_that_counts_as_one_delivery():
    world = World(concurrency=1, recipients=1, together=3)
    for name in ("first", "a", "b", "c", "d"):
        world.send("ann@there", sender=f"{name}@here")

    def waiting():
        return [(request.entry.envelope.sender, request.bundle) for request, _ in world.smtp.requests]

    assert waiting() == [("first@here", 0)]
    world.smtp.answer()
    (_, number), *_ = waiting()
    assert number and waiting() == [("a@here", number), ("b@here", number), ("c@here", number)]
    world.smtp.answer("deferred", "4.2.0", "450 later")
    world.smtp.answer()
    assert waiting() == [("c@here", number)]
    world.smtp.answer()
    assert waiting() == [("d@here", 0)]


def test_a_pause_after_each_delivery_leaves_no_room_for_bundles():
    world = World(recipients=1, together=3, rate_delay=10)
    for _ in range(3):
        world.send("ann@there")
    assert [request.bundle for request, _ in world.smtp.requests] == [0]


def test_a_long_queue_for_a_transport_that_answers_at_once():
    """As when the role that delivers has just died."""
    world = World(process_limit=1, active_limit=3000, recipients=1)
    for number in range(2000):
        world.send(f"u{number}@there")
    world.smtp.deliver = lambda request: succeed([Result("sent", "2.0.0", "ok") for _ in request.indexes])
    world.smtp.answer()
    assert world.queue() == {}
    assert not [text for _, text in world.log.lines if "internal" in text]
