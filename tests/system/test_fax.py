"""Mail to fax: the example fax with a real faxmail and a real HylaFAX server, and once with two software modems."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.fax import FaxServer
from tests.system.gateway import CHECKOUT, environment, poll

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.programs("faxmail", package="hylafax-client"),
    pytest.mark.programs("hfaxd", "faxq", package="hylafax-server"),
]

TEXT = "From: joe@x.example\nTo: someone\nSubject: an offer\n\nFrom us to you.\n"


@pytest.fixture
def server(folder):
    with FaxServer(folder / "fax") as running:
        yield running


@pytest.fixture
def gateway(make_gateway, server):
    made = make_gateway("fax")
    made.set(export_environment=f"HOME={server.home}", minimal_backoff_time="1s", queue_run_delay="1s")
    made.start()
    return made


def test_a_mail_becomes_a_job_with_the_number_as_its_address(gateway, server):
    gateway.send(["5551234@fax.your.domain", "+49-30-5556789@fax.your.domain"], TEXT, "joe@x.example")
    gateway.wait_until_empty()
    jobs = server.jobs().values()
    assert sorted(job["external"] for job in jobs) == ["+49-30-5556789", "5551234"]
    assert {job["mailaddr"] for job in jobs} == {"joe@x.example"}
    assert all("From us to you." in job["text"] for job in jobs)
    numbers = re.findall(r"status=sent \(delivered via fax service \(.*request id is (\d+) ", gateway.log)
    assert sorted(numbers) == sorted(server.jobs())


HOSTILE = """\
X-FAX-Dialstring: 666
x-fax-dialstring:667
Subject: orders
X-Fax-Host: 127.0.0.9
X-FAX-MIMEConverters:
 /usr
X-FAX-PrologFile: /etc/passwd
From: joe@x.example
"""


HEADER_ENDS = {
    "901": "\n",
    "902": "no colon\nX-FAX-Dialstring: 668\n\n",
    "903": " \nX-FAX-Dialstring: 669\n\n",
}


def test_orders_to_faxmail_never_reach_it(gateway, server):
    gateway.set(header_checks="")  # the guard alone
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    for number, end in HEADER_ENDS.items():
        mail = f"{HOSTILE}{end}Text\n"
        gateway.run("sendmail", "-f", "joe@x.example", f"{number}@fax.your.domain", stdin=mail, check=True)
    gateway.wait_until_empty()
    jobs = server.jobs().values()
    assert sorted(job["external"] for job in jobs) == sorted(job["number"] for job in jobs) == sorted(HEADER_ENDS)
    assert not any("root:" in job["text"] for job in jobs)
    assert len(re.findall("X-FAX header fields? taken out", gateway.log)) == len(HEADER_ENDS)


def test_who_may_send_and_what_is_no_number(gateway, server):
    gateway.set(mynetworks="127.0.0.2")
    gateway.run("reload", check=True)
    poll(lambda: _answer(gateway, "127.0.0.3", "5551234@fax.your.domain") == 554, "strangers are refused")
    numbers = {"5551234": 250, "0900123": 554, "+49-900-1": 554, "secretary": 554, '"555 1234;id"': 554, "-n": 501}
    for number, code in numbers.items():
        assert (number, _answer(gateway, "127.0.0.2", f"{number}@fax.your.domain")) == (number, code)
    gateway.run("sendmail", "-f", "root", "secretary@fax.your.domain", stdin=TEXT, check=True)
    gateway.wait_for(r"to=<secretary@fax\.your\.domain>, relay=fax")


def _answer(gateway, source, recipient):
    with gateway.client(source) as client:
        client.docmd("MAIL FROM:<joe@x.example>")
        return client.docmd(f"RCPT TO:<{recipient}>")[0]


def test_a_fax_server_that_is_down_defers_the_mail(gateway, server):
    server.stop()
    gateway.send("5551234@fax.your.domain", TEXT, "joe@x.example")
    gateway.wait_for(r"to=<5551234@fax\.your\.domain>, relay=fax, .*status=deferred \(.*[Cc]an ?not reach service")
    server.start()
    gateway.run("postqueue", "-f", check=True)
    gateway.wait_until_empty()
    assert [job["external"] for job in server.jobs().values()] == ["5551234"]


RIG = CHECKOUT.parent / "shared" / "rigs" / "fax_line.py"


@pytest.mark.skipif(not RIG.exists(), reason="the rig with the software modems is not here")
@pytest.mark.programs("iaxmodem", package="iaxmodem")
@pytest.mark.programs("gs", package="ghostscript")
def test_a_page_arrives_at_the_other_end_of_the_line(make_gateway, folder):
    line = folder / "line"
    rig = subprocess.Popen(
        ["/usr/bin/python3", RIG, line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(),
        start_new_session=True,
    )
    try:
        ready = rig.stdout.readline().decode()
        if not ready.startswith("READY"):
            pytest.skip("the fax line is in use by somebody else")
        gateway = make_gateway("fax")
        gateway.start()
        gateway.send("200@fax.your.domain", TEXT, "joe@x.example")
        gateway.wait_for(r"to=<200@fax\.your\.domain>, relay=fax, .*status=sent \(.*request id is 1 ")
        _dial(line)
        done = line / "spool" / "doneq" / "q1"
        poll(done.exists, lambda: _state_of(line), 120)
        fields = dict(one.split(":", 1) for one in done.read_text().splitlines() if ":" in one)
        assert (fields["state"], fields["npages"], fields["totpages"], fields["status"]) == ("7", "1", "1", "")
        (page,) = poll(lambda: list((line / "spool" / "recvq").glob("fax*.tif")), "the page")
        assert page.read_bytes()[:2] in (b"II", b"MM") and page.stat().st_size > 1000
    finally:
        os.kill(rig.pid, signal.SIGTERM)
        rig.wait(30)


def _dial(line: Path) -> None:
    """Wait until the job is on its way.  Now and then faxq misses that a modem is ready when both start together;
    it is told once more then."""
    spool = line / "spool"
    for _ in range(6):
        try:
            poll(lambda: not _is_waiting(spool / "sendq" / "q1"), "the call", 10)
            return
        except AssertionError:
            for state in ("busy", "ready"):
                subprocess.run(["faxstate", "-q", spool, "-s", state, "ttyIAX0"], check=True, env=environment())


def _is_waiting(job: Path) -> bool:
    try:
        return "\nstate:5\n" in job.read_text()
    except FileNotFoundError:  # done already
        return False


def _state_of(line: Path) -> str:
    """What the line's programs say of themselves."""
    said = [*line.glob("*.log"), *(line / "spool" / "sendq").glob("q*"), *(line / "spool" / "status").iterdir()]
    said += (path for path in (line / "spool" / "log").iterdir() if path.is_file())
    return "the fax is sent\n" + "\n".join(f"{one}: {one.read_text(errors='replace')[-1500:]}" for one in said)
