"""The example "submission": both ports, each with its own way into TLS; who may log in, and write as whom."""

from __future__ import annotations

import smtplib
import ssl

import pytest

from tests.gateway.smtpd.certificates import Certified
from tests.system.gateway import free_port

pytestmark = pytest.mark.system


@pytest.fixture
def gateway(either, make_sink):
    made = either("submission")
    made.sink = make_sink()
    made.wrapped = free_port()
    made.replace("master.cf", "\nsubmissions ", f"\n127.0.0.1:{made.wrapped} ")
    made.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}")
    Certified("mail.my.domain").write(made.directory / "chain.pem").chmod(0o644)
    made.run("passwd", "joe", stdin="secret\n", user="root" if made.split else made.user, check=True)
    made.start()
    return made


def unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def send(client: smtplib.SMTP, sender: str) -> None:
    client.sendmail(sender, ["you@far.example"], f"From: {sender}\nSubject: x\n\nHello.\n")


def test_both_ports(gateway):
    with gateway.client() as client:
        assert not client.has_extn("auth")
        assert client.docmd("MAIL FROM:<joe@my.domain>")[0] == 530
        client.starttls(context=unchecked())
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(client, "stranger@my.domain")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("joe", "wrong")
        client.login("joe", "secret")
        send(client, "joe@my.domain")
    with smtplib.SMTP_SSL("127.0.0.1", gateway.wrapped, context=unchecked(), timeout=30) as client:
        client.login("joe", "secret")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            send(client, "ann@my.domain")
        assert caught.value.recipients["you@far.example"][0] == 553
        send(client, "office@my.domain")
    received = gateway.sink.wait(2)
    assert {one.sender for one in received} == {"joe@my.domain", "office@my.domain"}
    assert all(b"using TLSv1.3" in one.data for one in received)
    gateway.wait_for("submission/smtpd.*: Anonymous TLS connection established from .*: TLSv1.3 with cipher")
