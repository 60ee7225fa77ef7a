"""Mail to fax by the classic recipe: the example fax with a real faxmail and a real HylaFAX server."""

from __future__ import annotations

import re

import pytest

from tests.system.fax import FaxServer
from tests.system.gateway import poll

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
