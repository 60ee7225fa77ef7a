"""Each example is accepted by the check, started by the real twistd, and does its job.  UUCP, fax and procmail have
files of their own."""

from __future__ import annotations

import subprocess

import pytest

from tests.gateway.smtpd.certificates import Certified
from tests.system.gateway import EXAMPLES, as_user, environment

pytestmark = pytest.mark.system

CONFIGURATIONS = sorted(path.parent.name for path in EXAMPLES.glob("*/main.cf"))


@pytest.mark.parametrize("example", CONFIGURATIONS)
def test_the_check_finds_nothing(make_gateway, example):
    gateway = make_gateway(example)
    if example == "submission":
        Certified("mail.my.domain").write(gateway.directory / "chain.pem")
    found = gateway.run("check")
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("example", CONFIGURATIONS)
def test_each_has_a_page_that_names_its_start(example):
    page = (EXAMPLES / example / "README.md").read_text()
    assert "twistd --pidfile" in page and "## See it work" in page
    assert f"({example}/)" in (EXAMPLES / "README.md").read_text()


def test_twistd_delivers_into_its_own_folder(make_gateway):
    gateway = make_gateway("twistd", user="nobody")
    gateway.append("aliases", "joe: nobody\n")
    gateway.start()
    gateway.send(["nobody@localhost", "joe@localhost"], "Subject: one\n\nHello.\n")
    gateway.wait_for(r"to=<nobody@localhost>, .*status=sent \(delivered to maildir\)")
    gateway.wait_for(r"orig_to=<joe@localhost>, .*status=sent \(delivered to maildir\)")
    gateway.wait_until_empty()
    delivered = list((gateway.directory / "var" / "mail" / "nobody" / "new").iterdir())
    assert len(delivered) == 2
    assert all(path.read_text().endswith("\nHello.\n") for path in delivered)
    gateway.stop()


OUTSIDE, INSIDE = "127.0.0.3", "127.0.0.2"


def test_firewall(either, make_sink):
    gateway, inside, outside = either("firewall"), make_sink(), make_sink()
    gateway.replace("main.cf", "127.0.0.0/8, 12.34.56.0/24", INSIDE)
    gateway.replace("transport", "smtp:inside-gateway.domain.com", f"smtp:[127.0.0.1]:{inside.port}")
    for domain in (".domain.com", "far.example"):
        gateway.append("transport", f"{domain} smtp:[127.0.0.1]:{outside.port}\n")
    gateway.start()
    with gateway.client(OUTSIDE) as client:
        client.docmd("MAIL FROM:<someone@far.example>")
        known, others = ["joe@domain.com", "Jane@Domain.com"], ["joe@sub.domain.com", "x@far.example"]
        answers = {
            address: client.docmd(f"RCPT TO:<{address}>") for address in [*known, "nosuch@domain.com", *others]
        }
        assert client.data(b"Subject: from outside\r\n\r\nx\r\n")[0] == 250
    assert [code for code, _ in answers.values()] == [250, 250, 550, 554, 554]
    assert b"User unknown in local recipient table" in answers["nosuch@domain.com"][1]
    assert b"Relay access denied" in answers["joe@sub.domain.com"][1]
    (one,) = inside.wait(1)
    assert one.sender == "someone@far.example"
    assert sorted(one.recipients) == sorted(known)

    gateway.send(others, sender="joe@domain.com", source=INSIDE)
    with gateway.client(INSIDE) as client:
        client.docmd("MAIL FROM:<joe@domain.com>")
        assert client.docmd("RCPT TO:<nosuch@domain.com>")[0] == 550
    assert sorted(outside.wait(1)[0].recipients) == others
    gateway.run("sendmail", "root", stdin="Subject: report\n\nAll is well.\n", check=True)
    assert inside.wait(2)[1].recipients == ("root@domain.com",)
    gateway.wait_until_empty()
    gateway.stop()


def test_stand_alone_sends_by_mx_or_local_and_refuses_strangers(make_gateway, make_sink):
    gateway, sink = make_gateway("stand-alone", user="nobody"), make_sink()
    gateway.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{sink.port}}}", mynetworks=INSIDE)
    gateway.start()
    with gateway.client(OUTSIDE) as client:
        client.docmd("MAIL FROM:<someone@far.example>")
        assert client.docmd("RCPT TO:<x@far.example>")[0] == 554
    gateway.send("x@far.example", source=INSIDE)
    sink.wait(1)
    gateway.wait_until_empty()


@pytest.mark.root
def test_stand_alone_delivers_as_the_recipient(make_gateway):
    gateway = make_gateway("stand-alone")
    home = gateway.folder / "mailbox"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    gateway.replace("main.cf", "home_mailbox = Maildir/", f"mail_spool_directory = {home}/")
    gateway.replace("aliases", "#root:          you", "root: games")
    gateway.start()
    gateway.send(["games@localhost", "postmaster@localhost"])
    gateway.wait_until_empty()
    delivered = list((home / "games" / "new").iterdir())
    assert len(delivered) == 2
    assert {path.owner() for path in delivered} == {"games"}


def test_null_client(either, make_sink):
    gateway, relay = either("null-client"), make_sink()
    gateway.set(relayhost=f"[127.0.0.1]:{relay.port}")
    assert gateway.port == 0
    gateway.start()
    gateway.run("sendmail", "someone@far.example", "joe", user="games", stdin="Subject: x\n\nx\n", check=True)
    (one,) = relay.wait(1)
    assert one.sender.endswith("@my.domain")
    assert sorted(one.recipients) == ["joe@my.domain", "someone@far.example"]
    gateway.run("sendmail", "-f", "ann@far.example", "joe@host.my.domain", stdin="Subject: x\n\nx\n", check=True)
    notice = relay.wait(2)[1]
    assert notice.sender == "" and b"local delivery is disabled" in notice.data
    gateway.stop()


def test_intranet(make_gateway, make_sink):
    gateway, outside = make_gateway("intranet", user="nobody"), make_sink()
    gateway.replace("transport", "smtp:gateway.my.domain", f"smtp:[127.0.0.1]:{outside.port}")
    gateway.replace("main.cf", "#smtp_", "smtp_")  # no DNS here
    gateway.start()
    gateway.send(["x@far.example", "ann@pc.my.domain", "y@other.example"], sender="joe@far.example")
    outside.wait(2)
    assert [one.recipients for one in outside.received if one.sender] == [("x@far.example", "y@other.example")]
    gateway.wait_for(r"to=<ann@pc\.my\.domain>, relay=none, .*status=bounced .*host pc\.my\.domain")


def test_dial_up_waits_until_it_is_told(either, make_sink, folder):
    gateway, provider = either("dial-up"), make_sink(delay=0.5)
    gateway.set(relayhost=f"[127.0.0.1]:{provider.port}")
    gateway.start()
    gateway.send(["a@far.example", "b@other.example"])
    gateway.wait_for(r"to=<b@other\.example>, .*status=deferred \(deferred transport\)")
    assert provider.received == []
    bin = folder / "bin"
    gateway.run("install-links", str(bin), check=True, user="root")
    script = (EXAMPLES / "dial-up" / "send-queue").read_text().replace("sleep 5", "sleep 0.2")
    sent = subprocess.run(
        as_user(gateway.user, ["sh", "-c", script]), env={**environment(), "PATH": f"{bin}:/usr/bin:/bin"}, cwd="/",
        timeout=60, capture_output=True,
    )
    assert (sent.returncode, sent.stderr) == (0, b"")
    provider.wait(1)
    gateway.wait_until_empty()


def test_backup_mx(make_gateway, make_sink):
    gateway, first = make_gateway("backup-mx", user="nobody"), make_sink()
    gateway.replace("main.cf", "#transport_maps", "transport_maps")
    gateway.replace("transport", "relay:[their.mail.host.tld]", f"relay:[127.0.0.1]:{first.port}")
    gateway.replace("relay_recipients", "@the.backed-up.domain.tld       x\n", "")
    gateway.set(mynetworks=INSIDE)
    gateway.start()
    with gateway.client(OUTSIDE) as client:
        client.docmd("MAIL FROM:<someone@far.example>")
        assert client.docmd("RCPT TO:<joe@the.backed-up.domain.tld>")[0] == 250
        unknown = client.docmd("RCPT TO:<nosuch@the.backed-up.domain.tld>")
        assert unknown[0] == 550 and b"User unknown in relay recipient table" in unknown[1]
        assert client.docmd("RCPT TO:<x@far.example>")[0] == 554
        assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
    (one,) = first.wait(1)
    assert one.recipients == ("joe@the.backed-up.domain.tld",)
    gateway.wait_for(r"to=<joe@the\.backed-up\.domain\.tld>, .*status=sent")
