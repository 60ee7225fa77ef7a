"""swaks as the client, in clear and behind STARTTLS."""

from __future__ import annotations

import subprocess

import pytest

from tests.system.gateway import environment, hand_in

pytestmark = [pytest.mark.system, pytest.mark.programs("swaks", package="swaks")]


@pytest.fixture
def gateway(either, make_sink):
    made = either("twistd")
    made.sink = make_sink()
    made.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}")
    return made


def swaks(gateway, *arguments):
    words = ["swaks", "--server", f"127.0.0.1:{gateway.port}", "--from", "ann@b.example", "--to", "joe@far.example"]
    return subprocess.run([*words, *arguments], capture_output=True, text=True, env=environment(), timeout=60)


def test_in_clear(gateway):
    gateway.start()
    sent = swaks(gateway, "--header", "Subject: by swaks", "--body", "Hello.")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    (one,) = gateway.sink.wait(1)
    assert (one.sender, one.recipients) == ("ann@b.example", ("joe@far.example",))
    assert one.message["Subject"] == "by swaks" and "Hello." in one.message.get_payload()


@pytest.fixture
def certified(gateway):
    """The same with a certificate."""
    key, certificate = gateway.directory / "key.pem", gateway.directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=gateway.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    for path in (key, certificate):
        path.chmod(0o644)
    gateway.set(
        smtpd_tls_security_level="may", smtpd_tls_cert_file=str(certificate), smtpd_tls_key_file=str(key),
        smtpd_tls_received_header="yes",
    )
    gateway.start()
    return gateway


@pytest.mark.programs("openssl", package="openssl")
def test_behind_starttls(certified):
    with certified.client() as client:
        client.starttls()
        client.ehlo()
        hand_in(client, "ann@b.example", ["joe@far.example"], b"Subject: x\r\n\r\nHello.\r\n")
    (one,) = certified.sink.wait(1)
    assert "using TLSv1.3" in one.data.decode()


@pytest.mark.programs("openssl", package="openssl")
def test_swaks_behind_starttls(certified):
    supported = swaks(certified, "--support")
    if "*** TLS not available" in supported.stdout + supported.stderr:
        pytest.skip("this swaks has no TLS (package libnet-ssleay-perl)")
    sent = swaks(certified, "--tls", "--body", "Hello.")
    assert "TLS started with cipher TLSv1.3" in sent.stdout, sent.stdout + sent.stderr
    assert sent.returncode == 0, sent.stdout + sent.stderr
    certified.sink.wait(1)
