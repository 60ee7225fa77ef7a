"""Logins with a file of passwords, and with a real Dovecot, by swaks and smtplib; what a login may do."""

from __future__ import annotations

import smtplib
import subprocess

import pytest

from tests.system.dovecot import Dovecot
from tests.system.gateway import environment

pytestmark = pytest.mark.system


@pytest.fixture
def gateway(either, make_sink):
    made = either("twistd")
    made.sink = make_sink()
    made.set(
        transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}",
        mynetworks="192.0.2.1", smtpd_relay_restrictions="permit_sasl_authenticated, reject_unauth_destination",
        smtpd_sasl_auth_enable="yes", smtpd_sasl_type="file", smtpd_sasl_path="logins",
    )
    owner = "root" if made.split else made.user  # who keeps the configuration
    for name, options in (("ann", ["--plain"]), ("joe", [])):
        made.run("passwd", *options, name, stdin=f"secret of {name}\n", user=owner, check=True)
    return made


def swaks(gateway, *arguments):
    words = ["swaks", "--server", f"127.0.0.1:{gateway.port}", "--from", "ann@b.example", "--to", "joe@far.example"]
    return subprocess.run([*words, *arguments], capture_output=True, text=True, env=environment(), timeout=60)


@pytest.mark.programs("swaks", package="swaks")
def test_each_mechanism_of_swaks(gateway):
    gateway.start()
    supported = swaks(gateway, "--support").stdout
    done = 0
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
        if mechanism == "CRAM-MD5" and "*** CRAM-MD5 AUTH not available" in supported:
            continue
        sent = swaks(gateway, "--auth", mechanism, "--auth-user", "ann", "--auth-password", "secret of ann")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        gateway.wait_for(f"sasl_method={mechanism}, sasl_username=ann")
        done += 1
    gateway.sink.wait(done)
    wrong = swaks(gateway, "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "secret of joe")
    assert wrong.returncode == 28, wrong.stdout
    assert "secret of" not in gateway.log


def test_strangers_may_not_relay_and_nobody_logs_in_in_clear(gateway):
    gateway.set(smtpd_tls_auth_only="yes")
    gateway.start()
    with gateway.client() as client:
        assert not client.has_extn("auth")
        assert client.docmd("AUTH PLAIN AGpvZQBzZWNyZXQ=")[0] == 503
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@b.example", ["joe@far.example"], "Subject: x\n\nx\n")


@pytest.mark.programs("dovecot", package="dovecot-core")
def test_dovecot_says_who_may(gateway, folder):
    with Dovecot(folder / "dovecot") as dovecot:
        gateway.set(smtpd_sasl_type="dovecot", smtpd_sasl_path=str(dovecot.auth))
        gateway.start()
        for mechanism in ("CRAM-MD5", "PLAIN", "LOGIN"):
            with gateway.client() as client:
                assert {"SCRAM-SHA-256", mechanism} <= set(client.esmtp_features["auth"].split())
                client.esmtp_features["auth"] = mechanism
                client.login("joe", "secret")
                client.sendmail("joe@b.example", ["joe@far.example"], "Subject: x\n\nx\n")
            gateway.wait_for(f"sasl_method={mechanism}, sasl_username=joe")
        with gateway.client() as client, pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("joe", "wrong")
        gateway.sink.wait(3)
