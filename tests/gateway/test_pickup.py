"""From the maildrop folder into the spool."""

import os
import pwd
import socket

import pytest
from twisted.internet.defer import Deferred

from gateway.addresses.login_senders import LoginSenders
from gateway.content import submission
from gateway.content.submission import Submission, SubmissionError
from gateway.interfaces import Rejected
from gateway.listeners import bind_unix
from gateway.pickup import ABANDONED, BLOCK, INTERVAL, Pickup, Pokes, authorized_users
from gateway.policy.session import Decisions
from gateway.uucp.neighbours import Judgement
from spool.interfaces import SpoolError
from tests.gateway.content.support import NOW, Way, now


async def in_thread(function, *arguments):
    return function(*arguments)


class Place:
    def __init__(self, folder, **parameters):
        self.queue = folder
        submission.prepare(folder)
        self.folder = folder / "maildrop"
        parameters, self.options = parameters.get("parameters", {}), parameters.get("options", {})
        self.way = Way(**parameters)
        self.pickup = Pickup(
            self.way.settings, folder, self.way.cleanup, self.way.log, self.way.clock, in_thread, **self.options
        )

    def drop(self, *to, content=b"Subject: x\n\ny\n", sender="joe", **facts):
        return submission.drop(self.queue, Submission(sender, list(to), **facts), [content])

    @property
    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    @property
    def stored(self):
        return list(self.way.spool.stored.values())


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_message_is_taken_in(place):
    place.drop("ann", "b@c.example", full_name="Joe", notify=2, envid="e", ret="HDRS", encoding="8bit", trace="record")
    place.pickup.poke()
    assert place.names == []
    (draft,) = place.stored
    envelope = draft.envelope
    by = f"gw.my.domain (Postfix, from userid {os.getuid()})"
    assert draft.data.startswith(f"Received: by {by}\n\tid QID1; ".encode())
    assert b"\nFrom: Joe <joe@gw.my.domain>\n\ny\n" in draft.data
    assert [(one.address, one.original, one.notify) for one in envelope.recipients] == [
        ("ann@gw.my.domain", "ann", 2), ("b@c.example", "b@c.example", 2),
    ]
    assert (envelope.envid, envelope.ret, envelope.eight_bit, envelope.trace) == ("e", "HDRS", True, "record")
    assert envelope.client.name == "" and envelope.client.rewrite_context == "local"
    assert f"pickup: QID1: uid={os.getuid()} from=<joe>" in place.way.log.text
    assert place.way.notified == ["QID1"]


def test_what_is_said_of_each_recipient(place):
    place.drop("a@b", "c@d", notifies=[1, 0], orcpts=["rfc822;x@y", ""])
    place.pickup.poke()
    told = [(one.address, one.notify, one.orcpt) for one in place.stored[0].envelope.recipients]
    assert told == [("a@b", 1, "rfc822;x@y"), ("c@d", 0, "rfc822;c@d")]


def test_it_looks_at_start_and_every_minute(place):
    place.drop("a@b")
    place.pickup.start()
    assert len(place.stored) == 1
    place.drop("a@b")
    place.way.clock.advance(INTERVAL - 1)
    assert len(place.stored) == 1
    place.way.clock.advance(1)
    assert len(place.stored) == 2
    assert place.pickup.stop().called
    place.drop("a@b")
    place.way.clock.advance(INTERVAL)
    place.pickup.poke()
    assert len(place.stored) == 2


def test_the_gateways_own_parameters_apply(tmp_path):
    place = Place(tmp_path, parameters={"content_filter": "scan:[127.0.0.1]:10025"})
    place.drop("a@b.example", remote=True)
    place.pickup.poke()
    assert place.stored[0].envelope.content_filter == "scan:[127.0.0.1]:10025"
    assert b"Message-Id" not in place.stored[0].data


def test_a_large_message(place):
    content = b"Subject: x\n\n" + b"y" * BLOCK + b"\n" + b"z" * BLOCK + b"\n"
    place.drop("a@b.example", content=content)
    place.pickup.poke()
    assert place.stored[0].data.endswith(content[12:])


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    """Its owner may have made it of holes, as large as files can be."""
    reads = []

    async def in_thread(function, *arguments):
        if function.__name__ == "read":
            reads.append(arguments)
        return function(*arguments)

    async def refused(queue_id, envelope, content, why):
        notices.append((envelope.sender, str(why), content.read()))

    notices = []
    monkeypatch.setitem(Place.__init__.__globals__, "in_thread", in_thread)
    place = Place(tmp_path, parameters={"message_size_limit": str(2 * BLOCK)}, options={"refused": refused})
    path = place.folder / place.drop("a@b.example", content=b"Subject: x\n\n")
    size, whole = 1000 * BLOCK, path.read_bytes()
    path.write_bytes(whole.replace(f" {12:020d} ".encode(), f" {size:020d} ".encode()))
    os.truncate(path, len(whole) - 12 + size)
    place.pickup.poke()
    assert place.names == [] and len(reads) <= 3
    ((sender, why, returned),) = notices
    assert sender == "joe@gw.my.domain" and "message file too big" in why and b"\nSubject: x\n" in returned


def test_delimiters_that_are_none_are_refused(place):
    """With them no sender can be made for a recipient: the mail could neither leave nor come back."""
    name = place.drop("a@b.example", verp="x")
    place.pickup.poke()
    assert place.names == [f"broken-{name}"] and "VERP delimiters" in place.way.log.text
    place.drop("a@b.example", verp="-=")
    place.pickup.poke()
    assert place.stored[0].envelope.verp == "-="


def test_many_messages_oldest_first(place):
    for number in range(25):
        name = place.drop(f"u{number}@b.example")
        os.utime(place.folder / name, (number, number))
    place.pickup.poke()
    assert [draft.envelope.recipients[0].address for draft in place.stored] == [f"u{n}@b.example" for n in range(25)]
    assert place.names == []


def broken(place, kind):
    path = place.folder / ("a" * 40)
    good = place.folder / place.drop("a@b.example")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "nonsense":
        path.write_bytes(os.urandom(200))
    elif kind == "cut off":
        path.write_bytes(good.read_bytes()[:-1])
    elif kind == "longer":
        path.write_bytes(good.read_bytes() + b"x")
    elif kind == "symbolic link":
        path.symlink_to("/etc/passwd")
    elif kind == "hard link":
        os.link(good, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "envelope":
        facts = b'{"sender": "a\\nb", "recipients": []}\n'
        path.write_bytes(b"mailgateway-submission 1 %020d %010d\n" % (0, len(facts)) + facts)
    if kind != "hard link":
        good.unlink()
    return path.name


@pytest.mark.parametrize(
    "kind", ["empty", "nonsense", "cut off", "longer", "symbolic link", "hard link", "folder", "pipe", "envelope"]
)
def test_what_is_no_submission_is_set_aside(place, kind):
    name = broken(place, kind)
    place.pickup.poke()
    assert not place.stored
    assert f"broken-{name}" in place.names and name not in place.names
    assert place.way.log.text.count(f"warning: maildrop/{name[:12]}*: ") == 1
    assert name not in place.way.log.text, "who knows it can read the file"
    lines = len(place.way.log.lines)
    place.pickup.poke()
    assert len(place.way.log.lines) == lines


@pytest.mark.parametrize(
    "facts",
    [
        '{"sender": 1}', "[]", '{"sender": "a", "recipients": ["\\u0000"]}', '{"sender": "a", "recipients": [1]}',
        '{"sender": "a", "recipients": [], "notify": true}', '{"sender": "a", "recipients": [], "ret": "x"}',
        '{"recipients": []}', '{"sender": "a"}', "[" * 100_000, '{"sender": "%s", "recipients": []}' % ("a" * 20_000),
        '{"sender": "a", "recipients": ["b"], "notifies": [1, 2]}', '{"sender": "a", "recipients": [], "notify": 16}',
        '{"sender": "\\ud800", "recipients": []}',
        '{"sender": "a", "recipients": [%s"b"]}' % ('"b",' * 100_000),
        '{"sender": "a", "recipients": [], "trace": "x"}', '{"sender": "a", "recipients": [], "encoding": "x"}',
    ],
)  # fmt: skip
def test_envelopes_that_are_none(tmp_path, facts):
    path = tmp_path / "x"
    path.write_bytes(f"mailgateway-submission 1 {0:020d} {len(facts):010d}\n{facts}".encode())
    with path.open("rb") as file, pytest.raises(SubmissionError, match="bad envelope"):
        submission.read_submission(file)


def test_bytes_that_are_no_utf8_survive(place):
    place.drop("\udce4@b.example")
    place.pickup.poke()
    assert place.stored[0].envelope.recipients[0].address == "\udce4@b.example"


def test_foreign_and_unfinished_files_stay(place):
    (place.folder / "notes.txt").write_text("x")
    (place.folder / f"tmp-{'b' * 40}").write_text("x")
    old = place.folder / f"tmp-{'c' * 40}"
    old.write_text("x")
    os.utime(old, (NOW - ABANDONED - 1, NOW - ABANDONED - 1))
    place.pickup.poke()
    assert place.names == ["notes.txt", f"tmp-{'b' * 40}"]


def test_trouble_here_leaves_the_file(place):
    name = place.drop("a@b.example")
    place.way.spool.trouble = SpoolError("disk full", no_room=True)
    place.pickup.poke()
    assert place.names == [name] and "stays for now" in place.way.log.text
    place.way.spool.trouble = None
    place.pickup.poke()
    assert place.names == [] and len(place.stored) == 1


def test_what_cleanup_refuses_goes_back(tmp_path):
    returned = []

    async def refused(queue_id, envelope, file, why):
        returned.append((queue_id, envelope.sender, file.read(), str(why)))

    place = Place(tmp_path, parameters={"hopcount_limit": "2"}, options={"refused": refused})
    place.drop("a@b.example", content=b"Received: from a\nReceived: from b\nTo: a\n\nx\n")
    place.pickup.poke()
    (queue_id, sender, header, why), = returned
    assert (queue_id, sender, why) == ("QID1", "joe@gw.my.domain", "554 5.4.0 Error: too many hops")
    names = [line.partition(b":")[0] for line in header.splitlines() if line[:1] != b"\t"]
    assert names == [b"Received", b"Received", b"Received", b"To", b"Message-Id", b"Date", b"From"]
    assert b"\nTo: a@gw.my.domain\n" in header
    assert place.names == [] and not place.stored


def test_the_header_of_what_is_refused_for_its_body_goes_back(tmp_path):
    returned = []

    async def refused(queue_id, envelope, file, why):
        returned.append((envelope.ret, envelope.size, file.read()))

    place = Place(tmp_path, parameters={"strict_8bitmime_body": "yes"}, options={"refused": refused})
    place.drop("a@b.example", content=b"Subject: x\n\n\xff\n")
    place.pickup.poke()
    (ret, size, header), = returned
    assert ret == "HDRS" and size == len(header) and b"\nSubject: x\nMessage-Id: " in header


def test_a_refused_message_that_cannot_go_back_stays(tmp_path):
    async def refused(*facts):
        raise Rejected(451, "4.3.0", "Error: queue file write error")

    place = Place(tmp_path, parameters={"hopcount_limit": "1"}, options={"refused": refused})
    name = place.drop("a@b.example")
    place.pickup.poke()
    assert place.names == [name]


def test_users_who_may_not_submit(tmp_path):
    async def authorized(uid):
        return uid != os.getuid()

    place = Place(tmp_path, options={"authorized": authorized})
    name = place.drop("a@b.example")
    place.pickup.poke()
    assert not place.stored and place.names == [f"broken-{name}"]


def test_senders_that_a_user_may_not_name(tmp_path):
    login = pwd.getpwuid(os.getuid()).pw_name
    way = Way(local_login_sender_maps=f"inline:{{ {{{login} = me@b.example}} }}")
    place = Place(tmp_path, options={"senders": LoginSenders.of(way.settings, way.tables, "pickup")})
    bad = place.drop("a@b.example", sender="you@b.example")
    place.drop("a@b.example", sender="Me@b.example")
    place.pickup.poke()
    assert len(place.stored) == 1 and place.names == [f"broken-{bad}"]
    assert f"{login} is not authorized to use sender='you@b.example'" in place.way.log.text


def test_authorized_submit_users(tmp_path):
    def ask(value, uid=0):
        way = Way(authorized_submit_users=value)
        authorized = authorized_users(way.settings, way.tables, in_thread)
        return authorized and now(authorized(uid))

    assert ask("static:anyone") is None
    assert ask("root, joe") and ask("!joe, static:all") and not ask("!root, static:all")
    assert ask("unknown", 999_999_999) and not ask("root", 999_999_999)


def test_without_the_folder_it_says_so(tmp_path):
    place = Place(tmp_path)
    place.folder.rmdir()
    place.pickup.poke()
    assert "pickup: warning: cannot read the maildrop folder" in place.way.log.text


def test_stop_waits_for_what_is_being_taken_in(tmp_path):
    waiting = []

    def later(function, *arguments):
        waiting.append(Deferred())
        return waiting[-1]

    place = Place(tmp_path)
    pickup = Pickup(place.way.settings, tmp_path, place.way.cleanup, place.way.log, place.way.clock, later)
    pickup.poke()
    stopped = pickup.stop()
    assert not stopped.called
    waiting[0].callback([])
    assert stopped.called


def test_pokes(tmp_path):
    """Anybody's datagram wakes it, however many there are."""
    folder = tmp_path / "queue"
    submission.prepare(folder)
    submission.poke(folder)  # nobody listens: nothing happens
    pokes, readers = [], []

    class Reactor:
        addReader = readers.append
        removeReader = readers.remove

    (folder / "public" / "pickup").write_text("left over from a crash")
    bound = bind_unix(folder / "public" / "pickup", mode=0o622, datagram=True)
    listener = Pokes(Reactor(), bound, lambda: pokes.append(1))
    assert readers == [listener]
    for _ in range(3):
        submission.poke(folder)
    listener.doRead()
    assert pokes == [1]
    with pytest.raises(BlockingIOError):
        socket.fromfd(listener.fileno(), socket.AF_UNIX, socket.SOCK_DGRAM).recv(1)
    listener.stop()
    assert readers == []


# --- UUCP --------------------------------------------------------------------------------------------------------


class Neighbourhood:
    """Refuses whoever is told; believes one user."""

    def __init__(self, believed, refused=(), **decisions):
        self.believed, self.refused, self.decisions = believed, refused, Decisions(**decisions)

    def believes(self, uid):
        return uid == self.believed

    async def judge(self, envelope):
        found = [(one, Rejected(554, "5.7.1", "no")) for one in envelope.recipients if one.address in self.refused]
        return Judgement(found, self.decisions)


def from_uucp(tmp_path, neighbours):
    returned = []

    async def refused(queue_id, envelope, file, why):
        returned.append((envelope.sender, [one.address for one in envelope.recipients], str(why), file.read()))

    return Place(tmp_path, options={"refused": refused, "neighbours": neighbours}), returned


def test_mail_from_a_uucp_neighbour(tmp_path):
    place, _ = from_uucp(tmp_path, Neighbourhood(os.getuid(), hold=True))
    place.drop("a@b.example", neighbour="alpha", remote=True)
    place.pickup.poke()
    (draft,) = place.way.spool.held.values()
    assert draft.data.startswith(b"Received: from alpha\n\tby gw.my.domain (Postfix) with UUCP\n\tid QID1; ")
    assert (draft.envelope.client.name, draft.envelope.client.protocol) == ("alpha", "UUCP")


def test_nobody_else_can_say_so(tmp_path):
    place, _ = from_uucp(tmp_path, Neighbourhood(-5, refused=["a@b.example"]))
    place.drop("a@b.example", neighbour="alpha")
    place.pickup.poke()
    assert place.stored[0].envelope.client.name == ""
    assert "not believed to be neighbour alpha" in place.way.log.text


def test_recipients_that_are_refused_go_back_and_the_others_on(tmp_path):
    place, returned = from_uucp(tmp_path, Neighbourhood(os.getuid(), refused=["no@b.example", "never@b.example"]))
    place.drop(
        "no@b.example", "yes@b.example", "never@b.example", neighbour="alpha", turned_away=["x?y"],
        reasons=["5.1.3 bad"],
    )
    place.pickup.poke()
    content = b"Subject: x\n\ny\n"
    assert returned == [
        ("joe", ["no@b.example", "never@b.example"], "554 5.7.1 no", content),
        ("joe", ["x?y"], "550 5.1.3 bad", content),
    ]
    (draft,) = place.stored
    assert [one.address for one in draft.envelope.recipients] == ["yes@b.example"]
    assert draft.data.endswith(content)
    assert place.names == []


def test_when_all_are_refused_nothing_is_queued(tmp_path):
    place, returned = from_uucp(tmp_path, Neighbourhood(os.getuid()))
    place.drop(neighbour="alpha", turned_away=["x"], reasons=["5.1.3 bad"])
    place.pickup.poke()
    assert len(returned) == 1 and place.stored == [] and place.names == []


def test_a_notice_is_sent_once_however_long_the_rest_waits(tmp_path):
    place, returned = from_uucp(tmp_path, Neighbourhood(os.getuid(), refused=["no@b.example"]))
    place.drop("no@b.example", "yes@b.example", neighbour="alpha")
    place.way.spool.trouble = SpoolError("full", no_room=True)
    place.pickup.poke()
    place.pickup.poke()
    assert len(returned) == 1 and place.stored == [] and len(place.names) == 1
    place.way.spool.trouble = None
    place.pickup.poke()
    assert len(returned) == 1 and place.names == []
    (draft,) = place.stored
    assert [one.address for one in draft.envelope.recipients] == ["yes@b.example"]
