"""Logins that the gateway checks itself: each mechanism, the file of passwords, checkers of other packages."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from gateway import plugins
from gateway.commands import passwd
from gateway.config import ConfigError
from gateway.credentials import IBearerToken
from gateway.policy.session import Tls
from gateway.smtpd.sasl_passwords import PasswordsError, line_for, parse
from gateway.smtpd.sasl_scram import Keys, Scram, ScramError
from tests.gateway.smtpd.rig import Client, Rig

GOOD = "235 2.7.0 Authentication successful"
BAD = "535 5.7.8 Error: authentication failed: authentication failure"


def b64(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "logins"
    lines = [line_for("joe", "secret"), line_for("ann@gw.test", "pässword", plain=True)]
    made.write_text("# ours\n\n" + "\n".join(lines) + "\n")
    return made


def with_file(file: Path, **settings: str) -> Rig:
    login = {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "file", "smtpd_sasl_path": str(file)}
    return Rig(**{**login, **settings})


def hello(rig: Rig, *, tls: bool = False) -> Client:
    client = rig.connect()
    client.say("EHLO x")
    if tls:
        session = conversation(client).session
        session.tls = Tls("TLSv1.3", "x")
    return client


def conversation(client: Client) -> Any:
    """What is behind the channel, for what only a real handshake could do otherwise."""
    return client.protocol._conversation.cr_frame.f_locals["self"]


def offered(client: Client) -> set[str]:
    line = next((line for line in client.say("EHLO x")[0].split("\n") if line[4:9] == "AUTH "), "")
    return set(line[9:].split())


# --- PLAIN, LOGIN, CRAM-MD5 --------------------------------------------------------------------------------------


def test_what_is_offered(file: Path) -> None:
    client = hello(with_file(file))
    assert offered(client) == {"SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"}
    assert offered(hello(with_file(file, smtpd_sasl_security_options="noanonymous, noplaintext"))) == {
        "SCRAM-SHA-256", "CRAM-MD5"
    }  # fmt: skip
    assert offered(hello(with_file(file, smtpd_tls_auth_only="yes"))) == set()
    file.write_text(line_for("joe", "secret") + "\n")
    assert offered(hello(with_file(file))) == {"SCRAM-SHA-256", "PLAIN", "LOGIN"}
    assert "SCRAM-SHA-256-PLUS" in offered(hello(with_file(file), tls=True))


@pytest.mark.parametrize(
    "user, password, answer",
    [
        ("joe", "secret", GOOD), ("joe", "wrong", BAD), ("nobody", "secret", BAD), ("ann@gw.test", "pässword", GOOD),
        ("ann", "pässword", GOOD), ("joe", "", "535 5.7.8 Error: authentication failed: bad protocol / cancel"),
    ],
)
def test_plain_and_login(file: Path, user: str, password: str, answer: str) -> None:
    rig = with_file(file, smtpd_sasl_local_domain="gw.test")
    assert hello(rig).say("AUTH PLAIN " + b64(f"\0{user}\0{password}"))[0] == answer
    assert hello(rig).say("AUTH PLAIN", b64(f"{user}\0{user}\0{password}")) == ["334 ", answer]
    asked = hello(rig).say("AUTH LOGIN", b64(user), b64(password))
    assert asked == ["334 " + b64("Username:"), "334 " + b64("Password:"), answer]
    assert hello(rig).say("AUTH LOGIN " + b64(user), b64(password))[1] == answer
    assert not any("secret" in line or "ssword" in line for line in rig.lines)


def test_nobody_acts_for_somebody_else(file: Path) -> None:
    answer = hello(with_file(file)).say("AUTH PLAIN " + b64("ann\0joe\0secret"))[0]
    assert answer == "535 5.7.8 Error: authentication failed: nobody may act for somebody else"


def test_the_log_of_a_failure(file: Path) -> None:
    rig = with_file(file)
    hello(rig).say("AUTH PLAIN " + b64("\0joe\0wrong"))
    line = "warning: unknown[192.0.2.7]: SASL PLAIN authentication failed: authentication failure, sasl_username=joe"
    assert line in rig.lines


@pytest.mark.parametrize("user, password, answer", [("ann@gw.test", "pässword", GOOD), ("ann@gw.test", "x", BAD),
                                                    ("joe", "secret", BAD), ("nobody", "x", BAD)])  # fmt: skip
def test_cram_md5(file: Path, user: str, password: str, answer: str) -> None:
    client = hello(with_file(file))
    challenge = b64decode(client.say("AUTH CRAM-MD5")[0][4:])
    digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
    assert client.say(b64(f"{user} {digest}"))[0] == answer


def test_a_new_file_is_used_and_a_broken_one_is_a_temporary_failure(file: Path) -> None:
    rig = with_file(file)
    client = hello(rig)
    file.write_text(line_for("new", "word") + "\n")
    os.utime(file, (1, 1))
    rig.clock.advance(2)
    assert client.say("AUTH PLAIN " + b64("\0new\0word"))[0] == GOOD
    file.unlink()
    rig.clock.advance(2)
    assert hello(rig).say("AUTH PLAIN " + b64("\0new\0word"))[0].startswith("454 4.7.0 Temporary")


# --- SCRAM -------------------------------------------------------------------------------------------------------


class ScramClient:
    """RFC 5802, the other side."""

    def __init__(self, user: str, password: str, binding: str = "", data: bytes = b"", flag: str = "n") -> None:
        self.header = f"p={binding},,".encode() if binding else f"{flag},,".encode()
        self.bare = f"n={user},r=abc".encode()
        self.password, self.data = password, data

    def first(self) -> bytes:
        return self.header + self.bare

    def final(self, challenge: bytes) -> bytes:
        fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), b64decode(fields[b"s"]), int(fields[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        unproven = b"c=" + b64encode(self.header + self.data) + b",r=" + fields[b"r"]
        whole = b",".join((self.bare, challenge, unproven))
        signature = hmac.digest(hashlib.sha256(key).digest(), whole, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.server_proof = b"v=" + b64encode(hmac.digest(server_key, whole, "sha256"))
        return unproven + b",p=" + b64encode(proof)


def by_scram(client: Client, scram: ScramClient, name: str = "SCRAM-SHA-256") -> str:
    challenge = client.say(f"AUTH {name} {b64(scram.first())}")[0]
    if not challenge.startswith("334 "):
        return challenge
    answer = client.say(b64(scram.final(b64decode(challenge[4:]))))[0]
    if not answer.startswith("334 "):
        return answer
    assert b64decode(answer[4:]) == scram.server_proof
    return client.say("")[0]


def test_the_example_of_rfc_7677() -> None:
    scram = Scram(plus=False, offered=False, binding=lambda kind: None, nonce=lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert scram.begin(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == "user"
    keys = Keys.of("pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert scram.challenge(keys) == b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert scram.finish(final) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize(
    "user, password, answer",
    [("joe", "secret", GOOD), ("joe", "wrong", BAD), ("nobody", "x", BAD), ("ann@gw.test", "pässword", GOOD)],
)
def test_scram(file: Path, user: str, password: str, answer: str) -> None:
    assert by_scram(hello(with_file(file)), ScramClient(user, password)) == answer


def test_the_salt_of_nobody_is_always_the_same(file: Path) -> None:
    rig = with_file(file)
    salts = {hello(rig).say("AUTH SCRAM-SHA-256 " + b64("n,,n=nobody,r=x"))[0].split(",")[0][-1:] for _ in range(2)}
    challenges = [
        b64decode(hello(rig).say("AUTH SCRAM-SHA-256 " + b64("n,,n=nobody,r=x"))[0][4:]).split(b",")[1]
        for _ in range(2)
    ]
    assert challenges[0] == challenges[1] and salts


def test_channel_binding(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.smtpd.tls.channel_binding", lambda transport, kind: b"B" if kind in KNOWN else None)
    rig = with_file(file)
    plus = "SCRAM-SHA-256-PLUS"
    assert by_scram(hello(rig, tls=True), ScramClient("joe", "secret", "tls-exporter", b"B"), plus) == GOOD
    wrong = by_scram(hello(rig, tls=True), ScramClient("joe", "secret", "tls-exporter", b"C"), plus)
    assert wrong.endswith("channel binding or nonce does not match")
    unknown = by_scram(hello(rig, tls=True), ScramClient("joe", "secret", "tls-unique", b"B"), plus)
    assert unknown.endswith("unsupported channel binding")
    assert by_scram(hello(rig, tls=True), ScramClient("joe", "secret")) == GOOD
    downgraded = by_scram(hello(rig, tls=True), ScramClient("joe", "secret", flag="y"))
    assert downgraded.endswith("channel binding was on offer")
    assert by_scram(hello(rig), ScramClient("joe", "secret", flag="y")) == GOOD
    assert by_scram(hello(rig), ScramClient("joe", "secret", "tls-exporter", b"B"), plus).endswith(
        "Invalid authentication mechanism"
    )


KNOWN = ("tls-exporter", "tls-server-end-point")


@given(st.binary(max_size=80) | st.text("nyp=,ra:;x", max_size=30).map(str.encode))
def test_scram_takes_anything(data: bytes) -> None:
    scram = Scram(plus=False, offered=False, binding=lambda kind: None, nonce=lambda: "x")
    try:
        scram.begin(data)
    except ScramError:
        return
    scram.challenge(Keys.of("x", b"salt", 1))
    try:
        assert scram.finish(data) is None
    except ScramError:
        pass


def test_abandoned(file: Path) -> None:
    rig = with_file(file)
    client = hello(rig)
    assert client.say("AUTH LOGIN", "*")[1] == "501 5.7.0 Authentication aborted"
    client.say("AUTH LOGIN")
    client.go_away()
    assert rig.factory.service.login.server._open == {}


# --- checkers ----------------------------------------------------------------------------------------------------


@implementer(ICredentialsChecker)
class Tokens:
    credentialInterfaces = (IBearerToken,)

    def requestAvatarId(self, credentials: Any) -> Any:
        if credentials.token == "broken":
            raise RuntimeError("no connection")
        if credentials.token != "good":
            raise UnauthorizedLogin
        return b"joe@gw.test"


class Plugin:
    kind = ICredentialsChecker

    def __init__(self, name: str, make: Any) -> None:
        self.name = name
        self.make = lambda settings, argument: make()


def with_checker(monkeypatch: pytest.MonkeyPatch, make: Any) -> Rig:
    monkeypatch.setattr(plugins, "getPlugins", lambda interface: [Plugin("ours", make)])
    return Rig(smtpd_sasl_auth_enable="yes", smtpd_sasl_type="python", smtpd_sasl_path="ours:argument")


def test_any_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = with_checker(monkeypatch, lambda: InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret"))
    assert offered(hello(rig)) == {"PLAIN", "LOGIN", "CRAM-MD5"}
    assert hello(rig).say("AUTH PLAIN " + b64("\0joe\0secret"))[0] == GOOD
    assert hello(rig).say("AUTH PLAIN " + b64("\0joe\0wrong"))[0] == BAD
    client = hello(rig)
    challenge = b64decode(client.say("AUTH CRAM-MD5")[0][4:])
    assert client.say(b64("joe " + hmac.new(b"secret", challenge, "md5").hexdigest()))[0] == GOOD


def test_bearer_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = with_checker(monkeypatch, Tokens)
    assert offered(hello(rig)) == {"OAUTHBEARER", "XOAUTH2"}
    bearer = "n,a=joe@gw.test,\1host=h\1port=587\1auth=Bearer {}\1\1"
    assert hello(rig).say("AUTH OAUTHBEARER " + b64(bearer.format("good")))[0] == GOOD
    client = hello(rig)
    problem, last = client.say("AUTH OAUTHBEARER " + b64(bearer.format("bad")), b64("\1"))
    assert b64decode(problem[4:]) == b'{"status":"invalid_token"}' and last == BAD
    assert hello(rig).say("AUTH OAUTHBEARER " + b64("rubbish"), "AQ==")[1].startswith("535 ")
    assert hello(rig).say("AUTH XOAUTH2", b64("user=joe\1auth=Bearer good\1\1"))[1] == GOOD
    assert hello(rig).say("AUTH XOAUTH2 " + b64("user=joe\1auth=Bearer broken\1\1"))[0].startswith("454 4.7.0")
    assert "warning: SASL authentication problem: RuntimeError: no connection" in rig.lines


def test_what_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in ({"smtpd_sasl_type": "file"}, {"smtpd_sasl_type": "python", "smtpd_sasl_path": "none"}):
        with pytest.raises(ConfigError):
            Rig(smtpd_sasl_auth_enable="yes", **settings)
    with pytest.raises(ConfigError):
        with_checker(monkeypatch, object)


# --- the file and its command ------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["joe", "joe:secret", "joe:{MD5}x", "joe:{SCRAM-SHA-256}x", "joe:{PLAIN}"])
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(PasswordsError, match="logins, line 1: "):
        parse([line + "\n"], "logins")


@pytest.mark.parametrize(
    "user, password", [("a:b", "x"), ("", "x"), (" a", "x"), ("#a", "x"), ("a", ""), ("a", "x\ny")]
)
def test_what_cannot_stand_in_the_file(user: str, password: str) -> None:
    with pytest.raises(ValueError):
        line_for(user, password)


def run(monkeypatch: pytest.MonkeyPatch, password: str, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    return passwd.main(list(arguments), None)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "logins"
    (tmp_path / "main.cf").write_text("smtpd_sasl_type = file\nsmtpd_sasl_path = logins\nmail_owner = nobody\n")
    there = ("-c", str(tmp_path))
    assert run(monkeypatch, "one", *there, "joe") == run(monkeypatch, "two", *there, "--plain", "ann") == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("# kept\n" + file.read_text())
    assert run(monkeypatch, "three", *there, "joe") == 0
    known = parse(file.read_text().splitlines(), "logins")
    assert known["joe"].check("three") and not known["joe"].check("one") and known["ann"].plain == "two"
    assert file.read_text().startswith("# kept\n")
    assert run(monkeypatch, "", *there, "--list") == 0 and capsys.readouterr().out == "ann\njoe\n"
    assert run(monkeypatch, "", *there, "--delete", "ann") == 0 and run(monkeypatch, "", *there, "--delete", "ann") == 1
    assert run(monkeypatch, "", *there, "joe") == passwd.EX_DATAERR
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert run(monkeypatch, "x", "joe") == passwd.EX_USAGE
