"""postqueue, mailq, postsuper, postcat: output and exit status as Postfix's, with the gateway running and without."""

import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from gateway.commands import mailq, postcat, postqueue, postsuper
from gateway.control import Refused, control_factory, listed_objects
from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import Progress, RecipientState
from spool.maildir import MaildirSpool
from tests.spool.test_contract import Reactor
from transports.following.register import Record, write

CONTENT = b"Subject: the first\nX-Long: a\n\tb\n\nFirst body\n.. dots\n"
LONG = "host remote.example[192.0.2.25] said: 450 4.1.1 " + "very " * 20 + "busy"


class Place:
    """A configuration with a spool."""

    def __init__(self, directory: Path) -> None:
        self.queue = directory / "queue"
        self.queue.mkdir()
        self.conf = directory / "conf"
        self.conf.mkdir()
        self.log = directory / "maillog"
        self.log.touch()
        (self.conf / "main.cf").write_text(
            f"queue_directory = {self.queue}\nmaillog_file = {self.log}\n"
            "syslog_name = postfix\nmyhostname = gw.example\n"
        )
        (self.conf / "master.cf").write_text("")
        self.reactor = Reactor()
        self.reactor.rightNow = time.time()
        self.spool = MaildirSpool(self.queue, reactor=self.reactor, threads=self.reactor)
        self.spool.start()

    def store(
        self, *recipients: str, sender: str = "joe@gw.example", hold: bool = False, reason: str = "", done: int = 0
    ) -> str:
        """A message; with a reason it is deferred because of that, with ``done`` recipients delivered."""
        envelope = Envelope(
            sender,
            [Recipient(one, one, f"rfc822;{one}") for one in recipients],
            self.reactor.seconds(),
            Client("host.example", "192.0.2.7", "4711", "host.example", "helo.example", "ESMTP"),
            "Joe",
        )
        draft = self.spool.draft(envelope)
        draft.write(CONTENT)
        self.reactor.run(draft.commit(hold))
        if reason:
            assert self.spool.adopt(draft.id, envelope)
            states = [RecipientState(True, "sent", "2.0.0", "ok")] * done
            states += [RecipientState(False, "deferred", "4.0.0", reason)] * (len(recipients) - done)
            self.reactor.run(self.spool.progress(draft.id, [Progress(*one) for one in enumerate(states)]))
            self.reactor.run(self.spool.release(draft.id, self.reactor.seconds() + 1000))
        self.reactor.advance(1)
        return draft.id

    def queues(self) -> dict[str, str]:
        return {one.id: one.queue for one in self.reactor.run(self.spool.listing())}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run(place: Place, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(command: Any, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = command.main(list(arguments), place.conf)
        return (status, *capsys.readouterr())

    return run


Run = Callable[..., tuple[int, str, str]]


# --- listing ------------------------------------------------------------------------------------------------------


def test_an_empty_queue(place: Place, run: Run) -> None:
    down = "postqueue: warning: Mail system is down -- accessing queue directly "
    reason = "(Connect to the gateway's control service: No such file or directory)\n"
    assert run(postqueue, "-p") == (0, "Mail queue is empty\n", down + reason)
    assert run(mailq) == (0, "Mail queue is empty\n", down + reason)
    assert run(postqueue, "-j") == (0, "", down + reason)


def test_the_list_as_postfix_prints_it(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    place.reactor.rightNow = 1795528477.0
    a = place.store("one@remote.example", reason="deferred transport")
    b = place.store("too@remote.example", "two@remote.example", sender="", reason="busy")
    c = place.store("held@remote.example", '"a b"@remote.example', hold=True)
    d = place.store("x@remote.example", "y@remote.example", reason=LONG, done=1)
    place.reactor.run(place.spool.expire(c))
    _, out, _ = run(postqueue, "-p")
    assert out == (
        "-----Queue ID------- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
        f"{a}        52 Tue Nov 24 13:54:37 joe@gw.example\n"
        "                                                          (deferred transport)\n"
        "                                                  one@remote.example\n"
        "\n"
        f"{b}        52 Tue Nov 24 13:54:38 MAILER-DAEMON\n"
        "                                                                        (busy)\n"
        "                                                  too@remote.example\n"
        "                                                  two@remote.example\n"
        "\n"
        f"{c}!#       52 Tue Nov 24 13:54:39 joe@gw.example\n"
        '                                                  "a b"@remote.example\n'
        "                                                  held@remote.example\n"
        "\n"
        f"{d}        52 Tue Nov 24 13:54:40 joe@gw.example\n"
        f"({LONG})\n"
        "                                                  y@remote.example\n"
        "\n"
        "-- 0 Kbytes in 4 Requests.\n"
    )


def test_recipients_are_listed_by_domain(place: Place, run: Run) -> None:
    place.store("z@b.example", "a@c.example", "B@B.example", "c@b.example", reason="busy")
    listed = json.loads(run(postqueue, "-j")[1])["recipients"]
    assert [one["address"] for one in listed] == ["B@B.example", "c@b.example", "z@b.example", "a@c.example"]


def test_a_deferral_without_words(place: Place, run: Run) -> None:
    """A program has said its status code and nothing else."""
    place.store("x@remote.example", reason=" ")
    assert json.loads(run(postqueue, "-j")[1])["recipients"][0]["delay_reason"] == "(description unavailable)"


def test_one_request(place: Place, run: Run) -> None:
    place.store("one@remote.example")
    assert run(mailq)[1].endswith("\n-- 0 Kbytes in 1 Request.\n")


def test_the_list_as_json(place: Place, run: Run) -> None:
    id = place.store("x@remote.example", "é\udcff\x1b@remote.example", reason="busy", done=1)
    _, out, _ = run(postqueue, "-j")
    assert out.count("\n") == 1
    assert re.sub(r'"arrival_time": \d+', '"arrival_time": 0', out) == (
        f'{{"queue_name": "deferred", "queue_id": "{id}", "arrival_time": 0, "message_size": 52, '
        '"forced_expire": false, "sender": "joe@gw.example", "recipients": '
        '[{"address": "é?\\u001b@remote.example", "delay_reason": "busy"}]}\n'
    )
    json.loads(out)


def test_a_terminal_gets_no_control_characters(place: Place, run: Run) -> None:
    place.store("x\x1b[2J@remote.example", sender="a\nb")
    _, out, _ = run(postqueue, "-p")
    assert "x?[2J@remote.example\n" in out


@pytest.mark.parametrize(
    "arguments", [[], ["-x"], ["-p", "-f"], ["-p", "foo"], ["-i"], ["foo"], ["-s", "a", "-f"]], ids=str
)
def test_postqueue_usage(run: Run, arguments: list[str]) -> None:
    status, out, err = run(postqueue, *arguments)
    assert (status, out) == (69, "")
    assert err.endswith(
        "postqueue: fatal: usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | "
        "postqueue -s site\n"
    )


def test_mailq_takes_no_recipient(run: Run) -> None:
    assert run(mailq, "foo") == (75, "", "mailq: fatal: display queue mode requires no recipient\n")
    assert run(mailq, "-v")[0] == 0


# --- flushing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["../../..", "", "a b"])
def test_flush_of_what_is_no_id(run: Run, id: str) -> None:
    assert run(postqueue, "-i", id) == (69, "", f'postqueue: fatal: Cannot flush queue ID - invalid name: "{id}"\n')


@pytest.mark.parametrize("site", ["a..b", "1.2.3.4", "@foo.bar", "", "a b"])
def test_flush_of_what_is_no_site(run: Run, site: str) -> None:
    expected = f'postqueue: fatal: Cannot flush mail queue - invalid destination: "{site}"\n'
    assert run(postqueue, "-s", site) == (69, "", expected)


@pytest.mark.parametrize("arguments", [["-f"], ["-i", "ABCDEF1234"], ["-s", "my.domain"]], ids=str)
def test_flush_while_the_gateway_is_down(run: Run, arguments: list[str]) -> None:
    assert run(postqueue, *arguments) == (69, "", "postqueue: fatal: Cannot flush mail queue - mail system is down\n")


# --- postsuper ---------------------------------------------------------------------------------------------------


def test_postsuper_on_single_messages(place: Place, run: Run) -> None:
    a, b, c = (place.store("x@y", reason="busy") for _ in range(3))
    assert run(postsuper, "-h", a, "-h", b) == (
        0, "",
        f"postsuper: {a}: placed on hold\npostsuper: {b}: placed on hold\npostsuper: Placed on hold: 2 messages\n",
    )
    assert run(postsuper, "-h", a)[2] == "postsuper: Placed on hold: 0 messages\n"
    assert place.queues() == {a: "hold", b: "hold", c: "deferred"}
    assert run(postsuper, "-e", a)[2] == f"postsuper: {a}: expired\npostsuper: Force-expired: 1 message\n"
    assert run(postsuper, "-f", a)[2] == (
        f"postsuper: {a}: released from hold\n"
        "postsuper: Force-expired: 0 messages\npostsuper: Released from hold: 1 message\n"
    )
    assert run(postsuper, "-f", b)[2] == (
        f"postsuper: {b}: expired\npostsuper: {b}: released from hold\n"
        "postsuper: Force-expired: 1 message\npostsuper: Released from hold: 1 message\n"
    )
    assert run(postsuper, "-d", b, "-r", c)[2] == (
        f"postsuper: {b}: removed\npostsuper: {c}: requeued\n"
        "postsuper: Requeued: 1 message\npostsuper: Deleted: 1 message\n"
    )
    assert place.queues() == {a: "deferred", c: "deferred"}
    assert run(postsuper, "-d", "NOSUCHID99") == (0, "", "postsuper: Deleted: 0 messages\n")
    log = place.log.read_text()
    assert re.search(rf"^\w+ +\d+ [\d:]+ gw postfix/postsuper\[\d+\]: {b}: removed$", log, re.MULTILINE)
    assert re.search(r"postfix/postsuper\[\d+\]: Deleted: 1 message$", log, re.MULTILINE)


def test_postsuper_on_all_messages(place: Place, run: Run) -> None:
    a, b = place.store("x@y", reason="busy"), place.store("x@y")
    assert run(postsuper, "-h", "ALL", "deferred")[2] == "postsuper: Placed on hold: 1 message\n"
    assert place.queues() == {a: "hold", b: "incoming"}
    assert run(postsuper, "-d", "ALL", "deferred")[2] == "postsuper: Deleted: 0 messages\n"
    assert run(postsuper, "-f", "ALL", "-h", b)[2] == (
        f"postsuper: {b}: placed on hold\n"
        "postsuper: Force-expired: 2 messages\npostsuper: Placed on hold: 1 message\n"
        "postsuper: Released from hold: 2 messages\n"
    )
    assert run(postsuper, "-d", "ALL")[2] == "postsuper: Deleted: 2 messages\n"
    assert place.queues() == {}


def test_jobs_that_wait_elsewhere(place: Place, run: Run) -> None:
    record = Record("uucp", "far", "far.N1", "D.1", "QID", 1e9, 1e9, 4711, "a@b", [{"address": "u@c"}])
    write(place.queue / "uucp", record, b"")
    status, out, _ = run(postqueue, "-j")
    (item,) = map(json.loads, out.splitlines())
    assert status == 0 and (item["queue_name"], item["queue_id"], item["message_size"]) == ("uucp", "QID", 4711)
    assert item["recipients"][0]["delay_reason"].startswith("waits for far since 2001-")
    assert "-- 4 Kbytes in 1 Request." in run(postqueue, "-p")[1]
    for what in ("QID", "ALL"):
        _, _, said = run(postsuper, "-d", what)
        assert "warning: 1 messages wait elsewhere: only a running gateway takes them back" in said


def test_postsuper_keeps_to_the_queues_it_is_told(place: Place, run: Run) -> None:
    a = place.store("x@y", reason="busy")
    assert run(postsuper, "-d", a, "hold", "incoming")[2] == "postsuper: Deleted: 0 messages\n"
    assert run(postsuper, "-d", "ALL", "maildrop")[2] == "postsuper: Deleted: 0 messages\n"
    assert run(postsuper, "-d", a, "deferred")[2] == f"postsuper: {a}: removed\npostsuper: Deleted: 1 message\n"


@pytest.mark.parametrize("bad", ["", "../..", "bad!id", "x junk"])
def test_postsuper_on_what_is_no_id(run: Run, bad: str) -> None:
    expected = f"postsuper: warning: invalid mail queue id: {bad}\npostsuper: Deleted: 0 messages\n"
    assert run(postsuper, "-d", bad) == (0, "", expected)


def test_postsuper_reads_ids_from_standard_input(
    place: Place, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = place.store("x@y"), place.store("x@y")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{a}\nbad!id\n\n{b}\n"))
    assert run(postsuper, "-d", "-") == (
        0, "",
        f"postsuper: {a}: removed\npostsuper: warning: invalid mail queue id: bad!id\n"
        f"postsuper: warning: invalid mail queue id: \npostsuper: {b}: removed\npostsuper: Deleted: 2 messages\n",
    )


def test_postsuper_usage(run: Run) -> None:
    assert run(postsuper, "-x")[0] == 1
    assert run(postsuper, "-d")[0] == 1
    for name in ("nosuchqueue", "saved"):
        assert run(postsuper, "-d", "ALL", name) == (1, "", f"postsuper: fatal: invalid directory name: {name}\n")


def test_postsuper_mends(place: Place, run: Run) -> None:
    id = place.store("x@y")
    (place.queue / "incoming/new/1.2").write_text("foo")
    (place.queue / f"incoming/new/{id}").chmod(0o644)
    old = place.queue / "incoming/tmp/left-over"
    old.write_text("x")
    assert run(postsuper) == (
        0, "",
        "postsuper: warning: incoming/new/1.2: not a message file of the gateway; moved to corrupt\n"
        "postsuper: Repaired: 2 files\n",
    )
    assert (place.queue / "corrupt/new/1.2").read_text() == "foo"
    assert (place.queue / f"incoming/new/{id}").stat().st_mode & 0o777 == 0o600
    assert old.exists()
    assert run(postsuper, "-s", "-S", "-p", "deferred") == (0, "", "")


def test_other_users_may_not(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    id = place.store("x@y")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    expected = "postsuper: fatal: use of this command is reserved for the superuser\n"
    assert run(postsuper, "-d", "ALL") == (1, "", expected)
    status, out, err = run(postqueue, "-p")
    assert (status, out) == (69, "")
    assert err.startswith("postqueue: fatal: Queue report unavailable - mail system is down (")
    assert place.queues() == {id: "incoming"}


# --- postcat ----------------------------------------------------------------------------------------------------


def test_postcat_shows_everything(place: Place, run: Run) -> None:
    id = place.store("ok@remote.example", "one@remote.example", reason="deferred transport", done=1)
    status, out, err = run(postcat, "-q", id)
    assert (status, err) == (0, "")
    out = re.sub(r"(?m)^(message_size|message_arrival_time|create_time): .*\n", "", out)
    assert out == (
        f"*** ENVELOPE RECORDS deferred/{id} ***\n"
        "named_attribute: rewrite_context=local\n"
        "named_attribute: log_client_name=host.example\n"
        "named_attribute: log_client_address=192.0.2.7\n"
        "named_attribute: log_client_port=4711\n"
        "named_attribute: log_message_origin=host.example[192.0.2.7]\n"
        "named_attribute: log_helo_name=helo.example\n"
        "named_attribute: log_protocol_name=ESMTP\n"
        "named_attribute: reverse_client_name=host.example\n"
        "sender_fullname: Joe\n"
        "sender: joe@gw.example\n"
        "named_attribute: dsn_orig_rcpt=rfc822;ok@remote.example\n"
        "original_recipient: ok@remote.example\n"
        "done_recipient: ok@remote.example\n"
        "named_attribute: dsn_orig_rcpt=rfc822;one@remote.example\n"
        "original_recipient: one@remote.example\n"
        "recipient: one@remote.example\n"
        "                                                          (deferred transport)\n"
        f"*** MESSAGE CONTENTS deferred/{id} ***\n" + CONTENT.decode() + f"*** HEADER EXTRACTED deferred/{id} ***\n"
        f"*** MESSAGE FILE END deferred/{id} ***\n"
    )


def test_postcat_parts(place: Place, run: Run) -> None:
    id = place.store("one@remote.example")
    header, body = "Subject: the first\nX-Long: a\n\tb\n", "\nFirst body\n.. dots\n"
    assert run(postcat, "-bh", "-q", id)[1] == header + body
    assert run(postcat, "-h", "-q", id)[1] == header
    assert run(postcat, "-b", "-q", id)[1] == body
    out = run(postcat, "-e", "-q", id)[1]
    assert f"*** MESSAGE CONTENTS incoming/{id} ***\n*** HEADER EXTRACTED" in out
    assert "regular_text: Subject: the first\n" in run(postcat, "-v", "-q", id)[1]
    assert re.search(r"(?m)^ +\d+ Subject: the first$", run(postcat, "-o", "-q", id)[1])
    path = place.queue / "incoming/new" / id
    assert run(postcat, str(path))[1].startswith(f"*** ENVELOPE RECORDS {path} ***\n")


def test_postcat_on_what_is_not_there(place: Place, run: Run, tmp_path: Path) -> None:
    expected = "postcat: fatal: open queue file NOSUCH1234: No such file or directory\n"
    assert run(postcat, "-q", "NOSUCH1234") == (1, "", expected)
    assert run(postcat, "-q", "../x") == (1, "", "postcat: fatal: bad mail queue ID: ../x\n")
    missing = tmp_path / "nonexistent"
    assert run(postcat, str(missing)) == (1, "", f"postcat: fatal: open {missing}: No such file or directory\n")
    other = tmp_path / "other"
    other.write_text("root:x:0:0:\n")
    expected = f"postcat: warning: {other}: input is not a valid queue file\n"
    assert run(postcat, str(other)) == (0, "", expected)
    assert run(postcat, "-x")[0] == 1


# --- with a running gateway -------------------------------------------------------------------------------------


@pytest.fixture
def running(place: Place) -> Iterator[tuple[Place, list[Any]]]:
    """A control service on the place's spool, with real threads; calls that are not the spool's are noted."""
    spool: Any = MaildirSpool(place.queue, reactor=reactor)
    spool.start()
    place.spool = spool
    asked: list[Any] = []

    def changer(action: str) -> Any:
        async def change(uid: int, arguments: dict[str, Any]) -> Any:
            asked.append((action, uid))
            changes = await spool.change(action, arguments["ids"], arguments["queues"])
            return {"count": changes.count, "ids": changes.ids}

        return change

    async def listing(uid: int, arguments: dict[str, Any]) -> Any:
        return listed_objects(spool.slices())

    async def flush(uid: int, arguments: dict[str, Any]) -> Any:
        asked.append(("flush", arguments))

    async def refuse(uid: int, arguments: dict[str, Any]) -> Any:
        raise Refused("Flush service is not configured for destination \"x.example\"")

    handlers = {name: changer(name) for name in ("delete", "hold", "release", "requeue", "expire")}
    handlers |= {"list": listing, "flush": flush, "flush-id": flush, "flush-site": refuse}
    (place.queue / "public").mkdir()
    port = reactor.listenUNIX(  # type: ignore[attr-defined]
        str(place.queue / "public/control"), control_factory(handlers, trouble=asked.append)
    )
    yield place, asked
    port.stopListening()
    spool._own_threads.stop()


async def call(run: Run, command: Any, *arguments: str) -> tuple[int, str, str]:
    return await deferToThread(run, command, *arguments)


@ensureDeferred
async def test_commands_ask_the_running_gateway(running: tuple[Place, list[Any]], run: Run) -> None:
    place, asked = running
    made = []
    for _ in range(3):
        draft = place.spool.draft(Envelope("a@b", [Recipient("c@d")], time.time()))
        draft.write(CONTENT)
        await draft.commit()
        made.append(draft.id)
    assert place.spool.adopt(made[0], Envelope("a@b", [Recipient("c@d")]))
    status, out, err = await call(run, postqueue, "-p")
    assert (status, err) == (0, "")
    assert f"\n{made[0]}*  " in out
    assert [json.loads(line)["queue_name"] for line in (await call(run, postqueue, "-j"))[1].splitlines()] == [
        "active", "incoming", "incoming",
    ]
    assert await call(run, postsuper, "-d", made[0], "deferred") == (0, "", "postsuper: Deleted: 0 messages\n")
    assert await call(run, postsuper, "-d", made[0], "-h", made[1]) == (
        0, "",
        f"postsuper: {made[0]}: removed\npostsuper: {made[1]}: placed on hold\n"
        "postsuper: Deleted: 1 message\npostsuper: Placed on hold: 1 message\n",
    )
    assert await call(run, postsuper, "-d", "ALL") == (0, "", "postsuper: Deleted: 2 messages\n")
    assert (await call(run, mailq))[1] == "Mail queue is empty\n"
    assert ("delete", os.getuid()) in asked


@ensureDeferred
async def test_flushing_asks_the_running_gateway(running: tuple[Place, list[Any]], run: Run) -> None:
    _, asked = running
    assert await call(run, postqueue, "-f") == (0, "", "")
    assert await call(run, postqueue, "-i", "ABCDEF1234") == (0, "", "")
    assert asked == [("flush", {}), ("flush", {"id": "ABCDEF1234"})]
    expected = 'postqueue: fatal: Flush service is not configured for destination "x.example"\n'
    assert await call(run, postqueue, "-s", "x.example") == (69, "", expected)
