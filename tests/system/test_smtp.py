"""The way out by SMTP, with TLS and a login: the example "relay-with-login" and our own server, a real Postfix."""

from __future__ import annotations

import os

import pytest

from tests.system.gateway import rewrite
from tests.system.postfix_server import PostfixServer
from tests.transports.smtp.certificates import FOR_CLIENTS, Certificate

pytestmark = pytest.mark.system


def write(path, *parts):
    path.write_bytes(b"".join(parts))
    path.chmod(0o644)
    return path


@pytest.fixture
def provider(make_gateway, make_sink):
    """A submission server whose certificate is for 127.0.0.1 and mail.provider.test; joe's password is "secret"."""
    made = make_gateway("submission", user="nobody")
    made.sink = make_sink()
    made.authority = Certificate("Test Root", authority=True)
    server = Certificate("mail.provider.test", ["mail.provider.test", "127.0.0.1"], made.authority)
    write(made.directory / "chain.pem", server.key_pem, server.pem)
    made.replace("master.cf", "\nsubmissions ", "\n#submissions ")
    text = (made.directory / "master.cf").read_text()
    at = text.index("\n#submissions ")
    rewrite(made.directory / "master.cf", text[:at] + text[at:].replace("\n  -o", "\n#  -o"))
    rewrite(made.directory / "senders", "@my.domain joe\n")
    made.set(transport_maps=f"static:smtp:[127.0.0.1]:{made.sink.port}")
    made.run("passwd", "joe", stdin="secret\n", user=made.user, check=True)
    made.start()
    return made


def test_relay_with_login(either, provider):
    gateway, port = either("relay-with-login"), provider.port
    hop, named, strict = f"[127.0.0.1]:{port}", f"[localhost]:{port}", f"localhost:{port}"
    gateway.set(
        relayhost=hop, smtp_tls_CAfile=str(write(gateway.directory / "ca.pem", provider.authority.pem)),
        disable_dns_lookups="yes",
    )
    rewrite(gateway.directory / "relayhosts", f"other@my.domain {named}\nstrict@my.domain {strict}\n")
    policies = f"{named} secure match=mail.provider.test\n{strict} secure match=elsewhere.test\n"
    rewrite(gateway.directory / "tls_policy", policies)
    rewrite(gateway.directory / "passwords", f"{hop} joe:secret\nbad@my.domain joe:wrong\nlocalhost joe:secret\n")
    own = Certificate("host.my.domain", [], provider.authority, usage=FOR_CLIENTS)
    write(gateway.directory / "own.pem", own.key_pem, own.pem)
    gateway.set(smtp_tls_chain_files=str(gateway.directory / "own.pem"))
    for name in ("passwords", "own.pem"):  # for root's eyes only, if root starts it
        (gateway.directory / name).chmod(0o600)
        os.chown(gateway.directory / name, *((0, 0) if gateway.split else (gateway.directory.stat().st_uid, -1)))
    gateway.start()
    for recipient, sender in (("one", "joe"), ("two", "bad"), ("three", "other"), ("four", "strict")):
        gateway.send(f"{recipient}@far.example", sender=f"{sender}@my.domain")
    server = r"127\.0\.0\.1\[127\.0\.0\.1\]"
    gateway.wait_for(rf"to=<one@far\.example>, relay={server}:{port}, .*dsn=2\.0\.0, status=sent")
    gateway.wait_for(rf"Verified TLS connection established to {server}:{port}: TLSv1\.3 with cipher ")
    gateway.wait_for(
        r"to=<two@far\.example>, .*dsn=4\.7\.8, status=deferred "
        rf"\(SASL authentication failed; server {server} said: 535 5\.7\.8 "
    )
    gateway.wait_for(rf"to=<three@far\.example>, relay=localhost\[127\.0\.0\.1\]:{port}, .*dsn=2\.0\.0, status=sent")
    gateway.wait_for(r"to=<four@far\.example>, .*dsn=4\.7\.5, status=deferred \(Server certificate not verified\)")
    gateway.wait_for(r"server certificate verification failed for localhost\[.*: num=62:hostname mismatch")
    assert {one.recipients for one in provider.sink.wait(2)} == {("one@far.example",), ("three@far.example",)}
    for text in (gateway.log, provider.log):
        assert "secret" not in text and "c2VjcmV0" not in text and "AGpvZQ" not in text
    gateway.stop()


@pytest.mark.root
@pytest.mark.programs("postfix", package="postfix")
def test_tls_with_postfix(folder, make_gateway):
    """Each level with a real Postfix; our certificate is seen by it, and a session is resumed."""
    authority = Certificate("Test Root", authority=True)
    server = Certificate("server.test", ["server.test", "127.0.0.1"], authority)
    own = Certificate("gw.test", ["gw.test"], authority, usage=FOR_CLIENTS)
    chain = write(folder / "server.pem", server.key_pem, server.pem)
    chain.chmod(0o600)
    ca = write(folder / "ca.pem", authority.pem)
    parameters = (
        f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {chain}\nsmtpd_tls_loglevel = 1\n"
        f"smtpd_tls_CAfile = {ca}\nsmtpd_tls_ask_ccert = yes\nsmtpd_tls_received_header = yes\n"
    )
    gateway = make_gateway("null-client", user="nobody")
    with PostfixServer(folder, parameters) as postfix:
        hop = f"[127.0.0.1]:{postfix.port}"
        gateway.set(
            transport_maps="inline:{ " + " ".join(
                f"{{ {level}.test = {level}:{hop} }}" for level in ("may", "secure", "fingerprint", "verify", "old")
            ) + " }", smtp_tls_loglevel="1", smtp_tls_CAfile=str(ca), smtp_tls_fingerprint_digest="sha256",
            smtp_tls_fingerprint_cert_match=server.fingerprint(), smtp_tls_security_level="may",
            smtp_tls_session_cache_database="btree:$data_directory/scache",
            smtp_tls_chain_files=str(write(gateway.directory / "own.pem", own.key_pem, own.pem)),
        )  # fmt: skip
        for level in ("may", "secure", "fingerprint", "verify"):
            gateway.append("master.cf", f"{level} unix - - n - - smtp -o smtp_tls_security_level={level}\n")
        gateway.append("master.cf", "old unix - - n - - smtp -o smtp_tls_protocols=TLSv1.2 -o smtp_tls_chain_files=\n")
        gateway.start()
        for sent in ("may", "secure", "fingerprint", "verify", "old", "secure"):
            gateway.run("sendmail", f"x@{sent}.test", stdin="Subject: x\n\nx\n", check=True)
            gateway.wait_for(rf"to=<x@{sent}\.test>, .*status=(sent|bounced)")
        for sent, trust in (("may", "Trusted"), ("secure", "Verified"), ("verify", "Verified"), ("old", "Trusted")):
            established = rf"{trust} TLS connection established to 127\.0\.0\.1"
            gateway.wait_for(rf"{established}.*\n.*to=<x@{sent}\.test>, .*status=sent")
        postfix.wait_for(r"Trusted TLS connection established from .*: TLSv1\.3 with cipher ")
        postfix.wait_for(r"Anonymous TLS connection established from .*: TLSv1\.2 with cipher ")
        resumed = r"Verified TLS connection established to .* key-exchange \w+\n.*to=<x@secure\.test>"
        gateway.wait_for(resumed)
    gateway.stop()
