"""The server's TLS: protocols, ciphers, names, client certificates, renewed files, the log."""

from __future__ import annotations

import hashlib
import os
import ssl
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from gateway.config import ConfigError
from gateway.smtpd.sasl_passwords import line_for
from gateway.tls_words import allowed_versions
from tests.gateway.smtpd.certificates import Certified
from tests.gateway.smtpd.rig import Rig
from tests.gateway.smtpd.test_sasl import ScramClient
from tests.gateway.smtpd.test_server import Caller, served

AUTHORITY = Certified("Test CA", authority=True)


class Client(Caller):
    """``own``: a file with the client's key and certificate."""

    def __init__(self, port: int, *, name: str | None = None, own: Path | None = None, **options: Any) -> None:
        super().__init__(port)
        self.ask(b"")
        self.ask(b"EHLO x\r\n")
        self.ask(b"STARTTLS\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for option, value in options.items():
            setattr(context, option, value)
        if own is not None:
            context.load_cert_chain(own)
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    @property
    def server(self) -> str:
        """The common name of the certificate that the server has shown."""
        certificate = x509.load_der_x509_certificate(self.socket.getpeercert(True))
        return str(next(iter(certificate.subject)).value)


def tls_rig(folder: Path, level: str = "may", **settings: str) -> Rig:
    file = folder / "own.pem"
    if not file.exists():
        Certified("gw.test").write(file)
    return Rig(smtpd_tls_security_level=level, smtpd_tls_chain_files=str(file), **settings)


async def with_client(rig: Rig, talk: Any, **options: Any) -> Any:
    def run(port: int) -> Any:
        client = Client(port, **options)
        try:
            return talk(client)
        finally:
            client.socket.close()

    with served(rig) as port:
        return await deferToThread(run, port)


def mail(client: Client) -> list[bytes]:
    lines = (b"EHLO x", b"MAIL FROM:<a@b.test>", b"RCPT TO:<ann@far.test>")
    return [client.ask(line + b"\r\n") for line in lines]


@pytest.mark.parametrize(
    "words, versions",
    [
        (">=TLSv1.2", {"tlsv1.2", "tlsv1.3"}), ("!SSLv2, !SSLv3 !TLSv1 !TLSv1.1 !TLSv1.3", {"tlsv1.2"}),
        ("TLSv1.3", {"tlsv1.3"}), (">=TLSv1.1 <=TLSv1.2 !TLSv1.1", {"tlsv1.2"}), (">= TLSv1.3", {"tlsv1.3"}),
    ],
)
def test_lists_of_protocols(words: str, versions: set[str]) -> None:
    assert allowed_versions(words.replace(",", " ").split()) == versions


@pytest.mark.parametrize(
    "settings",
    [
        {"smtpd_tls_protocols": ">=TLSv9"}, {"smtpd_tls_protocols": "TLSv1.1"}, {"smtpd_tls_ciphers": "best"},
        {"smtpd_tls_fingerprint_digest": "md9"},
    ],
)
def test_what_cannot_be_understood(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        tls_rig(tmp_path, **settings)


@ensureDeferred
async def test_the_log_and_protocols(tmp_path: Path) -> None:
    rig = tls_rig(tmp_path, smtpd_tls_loglevel="1", smtpd_tls_protocols="!TLSv1.3")
    assert await with_client(rig, lambda client: client.socket.version()) == "TLSv1.2"
    line = "Anonymous TLS connection established from unknown[127.0.0.1]: TLSv1.2 with cipher ECDHE-"
    assert any(one.startswith(line) and one.endswith("/256 bits)") for one in rig.lines)
    with pytest.raises(ssl.SSLError):
        await with_client(rig, mail, minimum_version=ssl.TLSVersion.TLSv1_3)


@ensureDeferred
async def test_a_handshake_step_by_step(tmp_path: Path) -> None:
    rig = tls_rig(tmp_path, smtpd_tls_loglevel="2", smtpd_tls_protocols="TLSv1.2")
    assert await with_client(rig, lambda client: client.socket.version()) == "TLSv1.2"
    begin = rig.lines.index("setting up TLS connection from unknown[127.0.0.1]")
    assert rig.lines[begin + 1].startswith('unknown[127.0.0.1]: TLS cipher list "')
    assert "SSL_accept:SSLv3/TLS read client hello" in rig.lines[begin:]
    with pytest.raises(ssl.SSLError):
        await with_client(rig, mail, minimum_version=ssl.TLSVersion.TLSv1_3)
    assert "SSL3 alert write:fatal:protocol version" in rig.lines


@ensureDeferred
async def test_the_mandatory_parameters_count_where_tls_is_demanded(tmp_path: Path) -> None:
    settings = {"smtpd_tls_protocols": "TLSv1.2", "smtpd_tls_mandatory_protocols": ">=TLSv1.3"}
    rig = tls_rig(tmp_path, "encrypt", **settings)
    assert await with_client(rig, lambda client: client.socket.version()) == "TLSv1.3"


@ensureDeferred
async def test_excluded_ciphers(tmp_path: Path) -> None:
    rig = tls_rig(tmp_path, smtpd_tls_protocols="TLSv1.2", smtpd_tls_exclude_ciphers="AES128, AES256")
    assert "CHACHA20" in (await with_client(rig, lambda client: client.socket.cipher()))[0]


@ensureDeferred
async def test_two_kinds_of_keys(tmp_path: Path) -> None:
    middle = Certified("middle", AUTHORITY, authority=True)
    both = [Certified("with rsa", middle, kind="rsa"), Certified("with ec", middle)]
    (tmp_path / "own.pem").write_bytes(b"".join(one.key_pem + one.pem + middle.pem for one in both))
    rig = tls_rig(tmp_path, smtpd_tls_protocols="TLSv1.2")

    def named(client: Client) -> str:
        return client.server

    assert await with_client(rig, named) in ("with ec", "with rsa")
    (tmp_path / "rsa.key").write_bytes(both[0].key_pem)
    (tmp_path / "rsa.pem").write_bytes(both[0].pem + middle.pem)
    rig = Rig(
        smtpd_tls_security_level="may", smtpd_tls_cert_file=str(tmp_path / "rsa.pem"),
        smtpd_tls_key_file=str(tmp_path / "rsa.key"),
    )
    assert await with_client(rig, named) == "with rsa"


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(Certified("a").key_pem + Certified("b").pem)
    assert any("does not belong to the certificate" in line for line in tls_rig(tmp_path).lines)


@ensureDeferred
async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    rig = tls_rig(tmp_path)
    file = tmp_path / "own.pem"
    Certified("renewed").write(file)
    os.utime(file, (1, 1))
    assert await with_client(rig, lambda client: client.server) == "gw.test"
    rig.clock.advance(11)
    assert await with_client(rig, lambda client: client.server) == "renewed"
    file.write_bytes(b"half a fi")
    rig.clock.advance(11)
    assert await with_client(rig, lambda client: client.server) == "renewed"
    assert any("cannot be used, the old one stays: no private key" in line for line in rig.lines)


@ensureDeferred
async def test_certificates_by_name(tmp_path: Path) -> None:
    one, two = Certified("one").write(tmp_path / "1.pem"), Certified("two").write(tmp_path / "2.pem")
    maps = f"inline:{{mx.one.test={one}, {{.two.test={two}}}, bad.test=/nowhere}}"
    rig = tls_rig(tmp_path, tls_server_sni_maps=maps)
    named = {
        name: await with_client(rig, lambda client: client.server, name=name)
        for name in ("mx.one.test", "a.b.two.test", "other.test", "bad.test", None)
    }
    assert named == {
        "mx.one.test": "one", "a.b.two.test": "two", "other.test": "gw.test", "bad.test": "gw.test", None: "gw.test"
    }
    assert any("cannot load server certificate and key of bad.test" in line for line in rig.lines)


# --- certificates of clients -------------------------------------------------------------------------------------


def fingerprint(one: Certified, digest: str = "sha256") -> str:
    return hashlib.new(digest, one.certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def asking(folder: Path, **settings: str) -> Rig:
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    return tls_rig(
        folder, smtpd_tls_CAfile=str(folder / "ca.pem"), mynetworks="10.0.0.0/8", smtpd_tls_fingerprint_digest="sha256",
        **{"smtpd_tls_ask_ccert": "yes", "smtpd_tls_loglevel": "1", **settings},
    )  # fmt: skip


RELAY = "permit_tls_all_clientcerts, reject_unauth_destination"


@ensureDeferred
async def test_a_trusted_client(tmp_path: Path) -> None:
    known = Certified("client <1>", AUTHORITY)
    rig = asking(
        tmp_path, smtpd_relay_restrictions=RELAY, smtpd_tls_received_header="yes", smtpd_tls_loglevel="2"
    )  # fmt: skip

    def talk(client: Client) -> list[bytes]:
        return [*mail(client), client.ask(b"DATA\r\n"), client.ask(b"x\r\n.\r\n")]

    answers = await with_client(rig, talk, own=known.write(tmp_path / "client.pem"))
    assert answers[2] == b"250 2.1.5 Ok\r\n"
    names = f"subject_CN=client ?1?, issuer=Test CA, fingerprint={fingerprint(known)}, pkey_fingerprint="
    assert any(one.startswith(f"unknown[127.0.0.1]: {names}") for one in rig.lines)
    exchange = "X25519 server-signature ECDSA (prime256v1) server-digest SHA256"
    signed = "client-signature ECDSA (prime256v1) client-digest SHA256"
    (line,) = [one for one in rig.lines if one.startswith("Trusted TLS connection established from unknown[127.0.0.1]")]
    assert line.endswith(f" bits) key-exchange {exchange} {signed}")
    using, first, second, who = rig.cleanup.stored[0].received[1:5]
    assert using.startswith(b"\t(using TLSv1.3 with cipher TLS_") and using.endswith(b" bits)")
    assert [first, second] == [f"\t key-exchange {exchange}".encode(), f"\t {signed})".encode()]
    assert who == b'\t(Client CN "client ?1?", Issuer "Test CA" (verified OK))'


@ensureDeferred
async def test_untrusted_and_without(tmp_path: Path) -> None:
    rig = asking(tmp_path, smtpd_relay_restrictions=RELAY)
    own = Certified("stranger").write(tmp_path / "client.pem")
    assert (await with_client(rig, mail, own=own))[2].startswith(b"554 5.7.1")
    assert (await with_client(rig, mail))[2].startswith(b"554 5.7.1")
    assert any(one.startswith("Untrusted TLS connection established") for one in rig.lines)


@ensureDeferred
async def test_fingerprints(tmp_path: Path) -> None:
    known, other = Certified("known"), Certified("other")
    rig = asking(
        tmp_path, relay_clientcerts=f"inline:{{{{{fingerprint(known)}=known}}}}",
        smtpd_relay_restrictions="permit_tls_clientcerts, reject_unauth_destination",
    )
    assert (await with_client(rig, mail, own=known.write(tmp_path / "1.pem")))[2].startswith(b"250 ")
    assert (await with_client(rig, mail, own=other.write(tmp_path / "2.pem")))[2].startswith(b"554 ")
    table = f"inline:{{{{{fingerprint(other)}=REJECT}}}}"
    rig = asking(tmp_path, smtpd_client_restrictions=f"check_ccert_access {table}")
    refused = b"554 5.7.1 <other>: Client certificate rejected: Access denied\r\n"
    assert (await with_client(rig, mail, own=tmp_path / "2.pem"))[2] == refused


@ensureDeferred
async def test_what_of_a_certificate_is_looked_for(tmp_path: Path) -> None:
    known = Certified("known")
    own = known.write(tmp_path / "1.pem")
    table = f"inline:{{{{{fingerprint(known)}=REJECT}}}}"
    for order, reply in (("pubkey_fingerprint", b"454 "), ("pubkey_fingerprint, cert_fingerprint", b"554 ")):
        restriction = f"check_ccert_access {{ {table}, {{ search_order = {order} }} }}"
        rig = asking(tmp_path, smtpd_client_restrictions=restriction)
        assert (await with_client(rig, mail, own=own))[2].startswith(reply)


@ensureDeferred
async def test_a_certificate_is_demanded(tmp_path: Path) -> None:
    known = Certified("known", AUTHORITY).write(tmp_path / "1.pem")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    rig = tls_rig(tmp_path, "encrypt", smtpd_tls_CAfile=str(tmp_path / "ca.pem"), smtpd_tls_req_ccert="yes")
    assert (await with_client(rig, mail, own=known))[0].startswith(b"250")
    stranger = Certified("stranger").write(tmp_path / "2.pem")
    for own in (None, stranger):
        with pytest.raises((ssl.SSLError, OSError)):
            await with_client(rig, mail, own=own, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert any(one.startswith("SSL_accept error from unknown[127.0.0.1]") for one in rig.lines)
    assert "warning: Can't require client certs unless TLS is required" in tls_rig(
        tmp_path, smtpd_tls_req_ccert="yes"
    ).lines


@ensureDeferred
async def test_a_login_that_is_bound_to_the_channel(tmp_path: Path) -> None:
    (tmp_path / "logins").write_text(line_for("joe", "secret") + "\n")
    rig = tls_rig(
        tmp_path, smtpd_sasl_auth_enable="yes", smtpd_sasl_type="file", smtpd_sasl_path=str(tmp_path / "logins")
    )

    def talk(client: Client, data: bytes = b"") -> bytes:
        data = data or hashlib.sha256(client.socket.getpeercert(True)).digest()
        scram = ScramClient("joe", "secret", "tls-server-end-point", data)
        client.ask(b"EHLO x\r\n")
        challenge = client.ask(b"AUTH SCRAM-SHA-256-PLUS " + b64encode(scram.first()) + b"\r\n")
        answer = client.ask(b64encode(scram.final(b64decode(challenge[4:]))) + b"\r\n")
        return client.ask(b"\r\n") if answer.startswith(b"334 ") else answer

    assert (await with_client(rig, talk)).startswith(b"235 ")
    assert (await with_client(rig, lambda client: talk(client, b"another channel"))).startswith(b"535 ")


@ensureDeferred
async def test_new_sessions_are_limited(tmp_path: Path) -> None:
    rig = tls_rig(tmp_path, smtpd_client_new_tls_session_rate_limit="1")
    assert (await with_client(rig, mail))[0].startswith(b"250")

    def refused(port: int) -> bytes:
        caller = Caller(port)
        answers = [caller.ask(data) for data in (b"", b"EHLO x\r\n", b"STARTTLS\r\n")]
        caller.socket.close()
        return answers[-1]

    with served(rig) as port:
        answer = await deferToThread(refused, port)
    assert answer == b"454 4.7.0 Error: too many new TLS sessions from 127.0.0.1\r\n"
