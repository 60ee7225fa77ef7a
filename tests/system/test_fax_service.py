"""The fax service, with a real HylaFAX server: the example fax-bridge."""

from __future__ import annotations

import subprocess
from email.message import Message

import pytest
from PIL import Image

from tests.system.fax import FaxServer
from tests.system.gateway import BIN, as_user, environment, poll

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.programs("hfaxd", "faxq", package="hylafax-server"),
]

SENDER = "joe@your.domain"
MAIL = f"From: Joe <{SENDER}>\nTo: someone\nX-FAX-Dialstring: 666\nSubject: an offer\n\nFrom us to you.\n"
ARRIVED = {"state": "7", "npages": "1", "totpages": "1", "totdials": "1", "status": "", "statuscode": "0"}
FAILED = {"state": "8", "npages": "0", "totpages": "1", "totdials": "3", "statuscode": "333",
          "status": "No answer from remote; too many attempts to dial"}


@pytest.fixture
def server(folder):
    with FaxServer(folder / "fax") as running:
        yield running


@pytest.fixture
def sink(make_sink):
    return make_sink()


@pytest.fixture
def gateway(make_gateway, server, sink):
    made = make_gateway("fax-bridge")
    made.replace("master.cf", "host=localhost:4559", f"host=127.0.0.1:{server.port} follow=1s")
    made.set(minimal_backoff_time="1s", queue_run_delay="1s")
    made.append("transport", f"your.domain smtp:[127.0.0.1]:{sink.port}\n")
    made.start()
    return made


def waiting(server: FaxServer, count: int) -> dict[str, dict[str, str]]:
    return poll(lambda: len(jobs := server.jobs()) == count and jobs, lambda: f"{count} jobs: {server.jobs()}")


def told(sink, count: int = 1) -> tuple[str, Message]:
    """The last notice: its text without line breaks, and the whole."""
    notice = sink.wait(count)[-1]
    assert notice.sender == "" and notice.recipients == (SENDER,)
    return " ".join(notice.data.decode().split()), notice.message


def test_a_fax_that_arrives(gateway, server, sink):
    gateway.send(["/FAX=030-5556789/FAX=200/T33S=7/@fax.your.domain"], MAIL, SENDER)
    gateway.wait_for(r"status=sent \(queued")  # not before: the jobs' files are there, but not whole, a little earlier
    jobs = {job["external"]: (number, job) for number, job in waiting(server, 2).items()}
    assert sorted(jobs) == ["+49305556789", "200"]
    assert jobs["200"][1]["subaddr"] == "7" and jobs["+49305556789"][1]["number"] == "+49305556789"
    number, job = jobs["+49305556789"]
    assert (server.spool / job["tiff"]).read_bytes()[:2] in (b"II", b"MM")
    (item, _) = sorted(gateway.queue(), key=lambda one: one["recipients"][0]["delay_reason"])
    assert item["queue_name"] == "fax" and item["sender"] == SENDER
    assert "waits for fax number +49305556789 since" in item["recipients"][0]["delay_reason"]
    server.end(number, **ARRIVED)
    text, message = told(sink)
    assert f"fax to +49305556789, job {number}: 1 page arrived, 1 call" in text and "Action: delivered" in text
    pictures = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert [part.get_payload(decode=True)[:4] for part in pictures] == [b"\x89PNG"]
    gateway.wait_for(rf"fax to \+49305556789, job {number}: 1 page arrived.*relay=fax")
    server.end(jobs["200"][0], **ARRIVED)
    told(sink, 2)
    gateway.wait_until_empty()


def test_a_fax_that_fails_and_one_that_is_taken_back(gateway, server, sink):
    gateway.send("5556789@fax.your.domain", MAIL, SENDER)
    (number,) = waiting(server, 1)
    gateway.wait_for(r"to=<5556789@.*status=sent")
    server.end(number, **FAILED)
    text, message = told(sink)
    assert "Action: failed" in text and "Status: 5.4.1" in text
    assert "failed: No answer from remote; too many attempts to dial, 0 of 1 pages, 3 calls" in text
    assert "Diagnostic-Code: x-fax; No answer from remote" in text
    assert "From us to you." in text and "image/png" in text
    gateway.send("5556780@fax.your.domain", MAIL, SENDER)
    (number,) = waiting(server, 1)
    gateway.wait_for(r"to=<5556780@.*status=sent")
    (item,) = gateway.queue()
    assert "5556780@fax.your.domain" in gateway.run("mailq").stdout
    explained = gateway.run("explain", "5556780@fax.your.domain")
    assert "waits for +49305556780 as job" in explained.stdout, explained
    done = gateway.run("postsuper", "-d", item["queue_id"])
    assert "Deleted: 1 message" in done.stderr and gateway.queue() == []
    assert server.jobs() == {} and "Job aborted by request" in (server.spool / "doneq" / f"q{number}").read_text()
    assert len(sink.received) == 1


REFUSED = {
    "+4930123456": (250, ""), "secretary": (550, "5.1.3"), "+49301": (550, "5.1.3"), "110": (550, "5.1.3"),
    "+12025550123": (250, ""), "+33142685300": (550, "5.7.1"), "fax=+49180512345": (550, "5.7.1"),
    "+19005550123": (550, "5.7.1"), "20*5": (550, "5.1.3"), "fax=+4930123456/FOO=1": (550, "5.1.3"),
}


def test_what_is_refused_in_the_dialogue(gateway, server):
    for number, (code, dsn) in REFUSED.items():
        assert (number, *answer(gateway, number)) == (number, code, dsn)
    assert answer(gateway, "+4930123456", source="127.0.0.9") == (550, "5.7.1")
    assert answer(gateway, "+4930123456", sender="") == (550, "5.7.1")
    gateway.replace("master.cf", "sender_faxes=50", "sender_faxes=2")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    gateway.send(["5556781@fax.your.domain", "5556782@fax.your.domain"], MAIL, SENDER)
    waiting(server, 2)
    poll(lambda: answer(gateway, "+4930123456") == (452, "4.7.1"), gateway.last_words)
    assert answer(gateway, "+4930123456", sender="boss@your.domain") == (250, "")
    gateway.run("sendmail", "-f", "ann@your.domain", "+33142685300@fax.your.domain", stdin=MAIL, check=True)
    gateway.wait_for(r"to=<\+33142685300@fax.your.domain>, .*dsn=5\.7\.1, status=bounced \(.*zone that is not called")


def answer(gateway, number: str, sender: str = SENDER, source: str = "127.0.0.1") -> tuple[int, str]:
    with gateway.client(source) as client:
        client.docmd(f"MAIL FROM:<{sender}>")
        code, text = client.docmd(f"RCPT TO:<{number}@fax.your.domain>")
        return code, text.decode().partition(" ")[0] if code != 250 else ""


DISPATCH = """\
if {mailgateway} fax-received -c {directory} --to office@your.domain \\
    --table inline:{{{{called:200=fax200@your.domain}}}} \\
    "$FILE" "$DEVICE" "$COMMID" "$MSG" "$CALLID1" "$CALLID2" "$CALLID3" "$CALLID4"
then NOTIFY_FAXMASTER=never
else SENDTO=FaxMaster
fi
"""


def test_a_fax_that_comes_in(gateway, server, sink):
    """HylaFAX's own bin/faxrcvd calls us, as its user."""
    received = server.spool / "recvq" / "fax000000007.tif"
    drawn = Image.new("1", (1728, 1100), 1)
    drawn.save(received, "TIFF", compression="group4", tiffinfo={270: "+49 89 1234\n\n\n\n200", 282: 204.0, 283: 98.0})
    received.chmod(0o644)
    dispatch = DISPATCH.format(mailgateway=BIN / "mailgateway", directory=gateway.directory)
    (server.spool / "etc" / "FaxDispatch").write_text(dispatch)
    done = subprocess.run(
        as_user("uucp", ["bin/faxrcvd", "recvq/fax000000007.tif", "ttyIAX1", "000000012", "", "", "", "", "200"]),
        cwd=server.spool, env=environment(), capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0 and "fax-received" not in done.stderr, done
    (mail,) = sink.wait(1)
    assert mail.recipients == ("fax200@your.domain",) and mail.sender == "FaxMaster@mail.your.domain"
    assert mail.message["Subject"] == "Fax from +49 89 1234, 1 page" and "call=000000012" in mail.message["Fax-Call"]
    assert mail.message.get_payload()[1].get_payload(decode=True).startswith(b"%PDF-")


def test_a_fax_server_that_is_down_and_a_gateway_that_dies(gateway, server):
    server.stop()
    numbers = [f"+4930555{one:04}" for one in range(4)]
    for number in numbers:
        gateway.send(f"{number}@fax.your.domain", MAIL, SENDER)
    gateway.wait_for(r"relay=fax, .*status=deferred \(fax server cannot be reached")
    server.start()
    gateway.run("postqueue", "-f", check=True)
    poll(server.jobs, "the first job")
    gateway.kill()
    gateway.start()
    gateway.run("postqueue", "-f", check=True)
    poll(lambda: [item["queue_name"] for item in gateway.queue()] == ["fax"] * len(numbers), gateway.last_words, 90)
    assert sorted(job["external"] for job in server.jobs().values()) == numbers
