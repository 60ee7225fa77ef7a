"""Logging in to servers: mechanisms, passwords by sender, host and next hop, and what goes wrong."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pytest
from twisted.internet.task import Clock

from gateway.config import ConfigError, Settings
from gateway.interfaces import BOUNCED, DEFERRED, SENT
from gateway.log import MemoryLog
from gateway.tables import Tables
from tests.transports.smtp.world import Host, World
from transports.smtp.login import Login, Logins
from transports.smtp.sasl import Credentials, SaslError, choose

# --- mechanisms


def test_cram_md5() -> None:
    """RFC 2195 2."""
    name, mechanism = choose(["PLAIN", "CRAM-MD5"], Credentials("tim", "tanstaaftanstaaf"), lambda: "", plaintext=True)
    assert name == "CRAM-MD5" and mechanism.first() is None
    answer = mechanism.next(b"<1896.697170952@postoffice.reston.mci.net>")
    assert answer == b"tim b913a602c7eda7a495b4e6e7334d3890"
    with pytest.raises(SaslError, match="another step"):
        mechanism.next(b"")


SCRAM = [
    ("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL",  # RFC 5802 5
     b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
     b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
     b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="),
    ("SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO",  # RFC 7677 3
     b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
     b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
     b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
]  # fmt: skip


@pytest.mark.parametrize(("name", "nonce", "challenge", "proof", "end"), SCRAM)
def test_scram(name: str, nonce: str, challenge: bytes, proof: bytes, end: bytes) -> None:
    def begin() -> Any:
        found, mechanism = choose([name, "CRAM-MD5"], Credentials("user", "pencil"), lambda: nonce, plaintext=False)
        assert found == name and mechanism.first() == f"n,,n=user,r={nonce}".encode()
        return mechanism

    mechanism = begin()
    assert mechanism.next(challenge) == proof
    assert mechanism.next(end) == b""
    with pytest.raises(SaslError, match="another step"):
        mechanism.next(b"")
    mechanism = begin()
    mechanism.next(challenge)
    for wrong in (b"v=" + b64encode(b"x"), b"v=!", b"e=other-error"):
        with pytest.raises(SaslError, match="does not know the password|another step"):
            mechanism.next(wrong)


@pytest.mark.parametrize(
    "challenge",
    [
        b"", b"r=other,s=QUFB,i=4096", b"r=nonce,s=QUFB,i=4096", b"r=nonce1,s=,i=4096", b"r=nonce1,s=!,i=4096",
        b"r=nonce1,s=QUFB,i=0", b"r=nonce1,s=QUFB,i=x", b"r=nonce1,s=QUFB,i=99999999", b"m=x,r=nonce1,s=QUFB,i=1",
        b"\xff",
    ],
)  # fmt: skip
def test_bad_scram_challenges(challenge: bytes) -> None:
    _, mechanism = choose(["SCRAM-SHA-1"], Credentials("a=b,c", "x"), lambda: "nonce", plaintext=False)
    assert mechanism.first() == b"n,,n=a=3Db=2Cc,r=nonce"
    with pytest.raises(SaslError, match="bad SCRAM challenge"):
        mechanism.next(challenge)


def test_the_order_and_what_is_forbidden() -> None:
    credentials = Credentials("u", "p")
    for offered, plaintext, name in (
        (["LOGIN", "PLAIN"], True, "PLAIN"), (["LOGIN"], True, "LOGIN"), (["PLAIN", "CRAM-MD5"], False, "CRAM-MD5"),
    ):  # fmt: skip
        assert choose(offered, credentials, str, plaintext=plaintext)[0] == name
    for offered, plaintext in ((["GSSAPI"], True), (["PLAIN", "LOGIN"], False), ([], True)):
        with pytest.raises(SaslError, match="no mechanism available"):
            choose(offered, credentials, str, plaintext=plaintext)


# --- sessions


def world_with_host(auth: str = "PLAIN LOGIN CRAM-MD5", **values: Any) -> tuple[World, Host]:
    world = World(
        smtp_sasl_auth_enable="yes",
        **{
            "smtp_sasl_password_maps": "inline:{ {x.test = u:se:cret}, {joe@gw.test = joe:own} }",
            "smtp_sasl_security_options": "noanonymous",
            **values,
        },
    )
    world.names.hosts["x.test"] = ["192.0.2.1"]
    keyword = f"250-AUTH {auth}\n" if auth else ""
    return world, world.host("192.0.2.1", EHLO=f"250-mx\n{keyword}250 PIPELINING", AUTH="235 2.7.0 ok")


def test_plain() -> None:
    world, host = world_with_host("PLAIN LOGIN", smtp_send_dummy_mail_auth="yes")
    assert world.send("x.test")[0].status == SENT
    assert host.commands[1:3] == ["AUTH PLAIN AHUAc2U6Y3JldA==", "MAIL FROM:<from@gw.test> AUTH=<>"]
    assert "c2U6Y3JldA" not in world.log.text and "se:cret" not in world.log.text


def test_a_dialogue() -> None:
    world, host = world_with_host(smtp_sasl_mechanism_filter="login, gssapi")
    host.replies |= {"AUTH": "334 VXNlcm5hbWU6", "DQ==": "334-more\n334 UGFzc3dvcmQ6", "C2U6Y3JLDA==": "235 ok"}
    assert world.send("x.test")[0].status == SENT
    assert host.commands[1:4] == ["AUTH LOGIN", "dQ==", "c2U6Y3JldA=="]


def test_no_password_is_shown_by_default() -> None:
    world, host = world_with_host(smtp_sasl_security_options="noplaintext, noanonymous")
    host.replies["AUTH"] = f"334 {b64encode(b'<1@x>').decode()}"
    world.send("x.test")
    assert host.commands[1] == "AUTH CRAM-MD5" and b64decode(host.commands[2]).startswith(b"u ")
    world, host = world_with_host("PLAIN", smtp_sasl_security_options="noplaintext")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn, result.destination_down) == (DEFERRED, "4.7.0", True)
    assert result.reason == (
        "SASL authentication failed; cannot authenticate to server x.test[192.0.2.1]: no mechanism available"
    )
    assert host.commands == ["EHLO gw.test", "QUIT"]


def test_tls_makes_a_difference() -> None:
    values = {
        "smtp_sasl_auth_enable": "yes", "smtp_sasl_password_maps": "inline:{x.test=u:p}",
        "smtp_sasl_tls_security_options": "noplaintext", "smtp_sasl_tls_verified_security_options": "noanonymous",
    }  # fmt: skip
    settings = Settings(values)
    logins = Logins.of(settings, Tables(clock=Clock(), log=MemoryLog()), str)
    assert logins is not None
    login = Login(Credentials("u", "p"), logins)
    assert login.begin(["PLAIN"], secure=True, verified=True)[0] == "PLAIN"
    for secure in (False, True):
        with pytest.raises(SaslError, match="no mechanism available"):
            login.begin(["PLAIN"], secure=secure, verified=False)


def test_strangers() -> None:
    """A server that does not ask for it, and one that we have no password for."""
    for auth, nexthop in (("", "x.test"), ("PLAIN", "[192.0.2.1]")):
        world, host = world_with_host(auth)
        assert world.send(nexthop)[0].status == SENT
        assert not any(command.startswith("AUTH") for command in host.commands)


@pytest.mark.parametrize(
    ("key", "sender", "dependent", "login"),
    [
        ("[x.test]:2525", "a@b", "no", b"\0u\0p"),
        ("x.test", "joe@gw.test", "no", b"\0u\0p"),
        ("x.test", "joe@gw.test", "yes", b"\0joe\0own"),
        ("x.test", "ann@gw.test", "yes", b"\0u\0p"),
        ("x.test", "", "yes", b"\0u\0p"),
    ],
)
def test_whose_password(key: str, sender: str, dependent: str, login: bytes) -> None:
    world, host = world_with_host(
        smtp_sasl_password_maps=f"inline:{{ {{{key} = u:p}}, {{joe@gw.test = joe:own}} }}",
        smtp_sender_dependent_authentication=dependent, smtp_sasl_mechanism_filter="plain",
    )  # fmt: skip
    world.net.hosts["192.0.2.1", 2525] = host
    assert world.send("[x.test]:2525", sender=sender)[0].status == SENT
    assert b64decode(host.commands[1].removeprefix("AUTH PLAIN ")) == login


def test_a_session_is_for_one_login_only() -> None:
    for dependent, sessions in (("no", 2), ("yes", 3)):
        world, host = world_with_host(smtp_sender_dependent_authentication=dependent)
        for sender in ("ann@gw.test", "ann@gw.test", "ann@gw.test", "joe@gw.test", "ann@gw.test", "joe@gw.test"):
            assert world.send("x.test", sender=sender)[0].status == SENT
        assert len(host.sessions) == sessions
    world, host = world_with_host()
    for nexthop in ("x.test", "x.test", "[192.0.2.1]"):
        world.send(nexthop)
    assert len(host.sessions) == 3, "a stranger does not get a session that is logged in"


@pytest.mark.parametrize(
    ("replies", "soft", "status", "dsn", "reason"),
    [
        ("535 5.7.8 bad login", "yes", DEFERRED, "4.7.8",
         "SASL authentication failed; server x.test[192.0.2.1] said: 535 5.7.8 bad login"),
        ("535 5.7.8 bad login", "no", BOUNCED, "5.7.8",
         "SASL authentication failed; server x.test[192.0.2.1] said: 535 5.7.8 bad login"),
        ("454 4.7.0 later", "no", DEFERRED, "4.7.0",
         "SASL authentication failed; server x.test[192.0.2.1] said: 454 4.7.0 later"),
        ("334 QUFB", "yes", DEFERRED, "4.7.0", "SASL authentication failed; cannot authenticate to server "
         "x.test[192.0.2.1]: another step is needed in authentication"),
        ("334 !", "yes", DEFERRED, "4.7.0", "SASL authentication failed; cannot authenticate to server "
         "x.test[192.0.2.1]: Only base64 data is allowed"),
        ("CLOSE", "yes", DEFERRED, "4.4.2",
         "lost connection with x.test[192.0.2.1] while performing the EHLO handshake"),
    ],
)  # fmt: skip
def test_what_goes_wrong(replies: str, soft: str, status: str, dsn: str, reason: str) -> None:
    world, host = world_with_host("PLAIN", smtp_sasl_auth_soft_bounce=soft)
    host.replies["AUTH"] = replies
    (result,) = world.send("x.test")
    assert (result.status, result.dsn, result.reason) == (status, dsn, reason)
    assert [command[:4] for command in host.commands] == ["EHLO", "AUTH", "QUIT"][: 2 if replies == "CLOSE" else 3]


def test_nothing_in_common() -> None:
    world, host = world_with_host("GSSAPI NTLM", smtp_sasl_mechanism_filter="plain")
    (result,) = world.send("x.test")
    assert (result.dsn, result.reason) == (
        "4.7.0", "SASL authentication failed: server x.test[192.0.2.1] offered no compatible authentication "
        "mechanisms for this type of connection security",
    )  # fmt: skip
    assert "warning: x.test[192.0.2.1]:25 offered no supported AUTH mechanisms: 'GSSAPI NTLM'" in world.log.text


@pytest.mark.parametrize(
    ("words", "used"),
    [
        ("!plain, static:all", "LOGIN"), ("login", "LOGIN"), ("!login !cram-md5 plain", "PLAIN"),
        ("inline:{login=x}", "LOGIN"),
    ],
)
def test_filters(words: str, used: str) -> None:
    world, host = world_with_host("PLAIN LOGIN", smtp_sasl_mechanism_filter=words)
    assert world.send("x.test")[0].status == SENT
    assert host.commands[1].startswith(f"AUTH {used}")


def test_a_filter_that_cannot_be_read() -> None:
    world, _ = world_with_host("PLAIN", smtp_sasl_mechanism_filter="/nonexistent")
    (result,) = world.send("x.test")
    assert result.status == DEFERRED and result.dsn.startswith("4.")


def test_a_server_that_offers_nothing() -> None:
    world, host = world_with_host(" ")
    (result,) = world.send("x.test")
    assert result.dsn == "4.7.0" and "offered no compatible authentication mechanisms" in result.reason
    assert "warning: x.test[192.0.2.1]:25 offered null AUTH mechanism list" in world.log.text


def test_what_a_server_has_refused_is_not_tried_again() -> None:
    for known in ("", "proxy:btree:x"):
        world, host = world_with_host("PLAIN", smtp_sasl_auth_cache_name=known, smtp_sasl_auth_cache_time="1h")
        host.replies["AUTH"] = "535 5.7.8 no"
        (first,), (second,) = world.send("x.test"), world.send("x.test")
        tried = [command for command in host.commands if command.startswith("AUTH")]
        assert (first.dsn, second.dsn, len(tried)) == ("4.7.8", "4.7.8", 1 if known else 2)
    assert second.reason == "SASL [CACHED] authentication failed; server x.test said: 535 5.7.8 no"
    world.net.advance(3601)
    host.replies["AUTH"] = "235 ok"
    assert world.send("x.test")[0].status == SENT
    assert "cret" not in repr(Credentials("u", "se:cret"))


def test_only_a_refusal_with_535_of_the_same_password_counts() -> None:
    world, host = world_with_host("PLAIN", smtp_sasl_auth_cache_name="x", smtp_sender_dependent_authentication="yes")
    host.replies["AUTH"] = ["454 4.7.0 later", "535 5.7.8 no", "235 ok"]
    for sender, status in (("a@b", DEFERRED), ("a@b", DEFERRED), ("a@b", DEFERRED), ("joe@gw.test", SENT)):
        assert world.send("x.test", sender=sender)[0].status == status
    assert len([command for command in host.commands if command.startswith("AUTH")]) == 3


def test_passwords_that_are_away() -> None:
    world, host = world_with_host(smtp_sasl_password_maps="fail:away")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn) == (DEFERRED, "4.3.0")
    assert result.reason == "local data error while talking to x.test[192.0.2.1]" and not host.sessions
    assert "warning: QID: smtp_sasl_password_maps lookup error" in world.log.text


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"smtp_sasl_password_maps": ""}, "specify a password table via the `smtp_sasl_password_maps' configuration"),
        ({"smtp_sasl_security_options": "nothing"}, "smtp_sasl_security_options: unknown option nothing"),
    ],
)
def test_mistakes_are_told_at_start(values: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        world_with_host(**values)
