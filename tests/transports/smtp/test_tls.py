"""STARTTLS with real handshakes over loopback sockets: levels, and what follows a failure."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from gateway.config import ConfigError
from gateway.interfaces import BOUNCED, DEFERRED, SENT
from tests.transports.smtp.certificates import Certificate
from tests.transports.smtp.tls_site import Site
from tests.transports.smtp.world import World


@ensureDeferred
async def test_may_uses_it_whoever_it_is(site: Site) -> None:
    result = await site.send("may", "other.test", smtp_tls_loglevel="1", smtp_tls_CAfile="")
    assert result.status == SENT
    assert b"MAIL FROM:<from@gw.test>" in site.lines(True) and site.lines(False) == [b"EHLO gw.test", b"STARTTLS"]
    assert "Untrusted TLS connection established to other.test[127.0.0.1]" in site.log.text
    assert "verification failed" not in site.log.text


@ensureDeferred
async def test_none_does_not(site: Site) -> None:
    assert (await site.send("none", smtp_tls_note_starttls_offer="yes")).status == SENT
    assert not site.lines(True)
    assert "Host offered STARTTLS: [mx.test]" in site.log.text


LATE = 400.0  # seconds: longer than minimal_backoff_time


@ensureDeferred
async def test_may_goes_on_in_clear_after_a_failure_when_the_message_has_waited(site: Site) -> None:
    site.factory.garbage = True
    result = await site.send("may")
    assert (result.status, result.dsn) == (DEFERRED, "4.7.5")
    assert result.reason == "Cannot start TLS: handshake failure"
    assert not result.destination_down and site.factory.connections == 1
    assert f"SSL_connect error to {result.relay}: -1" in site.log.text
    assert "warning: TLS library problem: error:SSL routines::wrong version number" in site.log.text
    result = await site.send("may", age=LATE)
    assert result.status == SENT and site.factory.connections == 3
    assert b"MAIL FROM:<from@gw.test>" in site.lines(False)
    assert "QID: Cannot start TLS: handshake failure" in site.log.text


@ensureDeferred
async def test_may_goes_on_in_clear_when_the_line_breaks_within_tls(site: Site) -> None:
    site.factory.hangs_up = True
    result = await site.send("may")
    assert (result.status, result.dsn) == (DEFERRED, "4.4.2")
    assert (await site.send("may", age=LATE)).status == SENT
    assert b"DATA" in site.lines(False) and site.factory.connections == 3


@ensureDeferred
async def test_not_with_a_password(site: Site) -> None:
    site.factory.garbage = True
    site.factory.clear_keywords = [b"AUTH PLAIN"]
    result = await site.send(
        "may", age=LATE, smtp_sasl_auth_enable="yes", smtp_sasl_security_options="noanonymous",
        smtp_sasl_password_maps="inline:{mx.test=u:p}",
    )  # fmt: skip
    assert result.status == DEFERRED and site.factory.connections == 1
    assert not [line for _, line in site.factory.lines if line.startswith((b"AUTH", b"MAIL"))]


@ensureDeferred
async def test_a_handshake_takes_its_time_only(site: Site) -> None:
    site.factory.silent = True
    result = await site.send("may", smtp_starttls_timeout="1s")
    assert (result.status, result.reason) == (DEFERRED, "Cannot start TLS: handshake failure")
    assert f"SSL_connect error to {result.relay}: Connection timed out" in site.log.text


@ensureDeferred
async def test_may_goes_on_in_the_same_session_after_a_refusal(site: Site) -> None:
    site.factory.answer = b"454 not now"
    assert (await site.send("may")).status == SENT
    assert site.factory.connections == 1


@ensureDeferred
async def test_encrypt_never_goes_on_in_clear(site: Site) -> None:
    site.factory.garbage = True
    result = await site.send("encrypt", age=LATE)
    assert (result.status, result.dsn, result.destination_down) == (DEFERRED, "4.7.5", True)
    assert result.reason == "Cannot start TLS: handshake failure"
    for answer, status in ((b"454 4.7.0 not now", DEFERRED), (b"500 5.5.1 what", BOUNCED)):
        site.factory.answer = answer
        result = await site.send("encrypt", age=LATE)
        assert (result.status, result.dsn) == (status, answer.split()[1].decode())
        assert result.reason == (
            f"TLS is required, but host mx.test[127.0.0.1] refused to start TLS: {answer.decode()}"
        )
    site.factory.offered = False
    result = await site.send("encrypt", age=LATE)
    assert (result.status, result.dsn) == (DEFERRED, "4.7.4")
    assert result.reason == "TLS is required, but was not offered by host mx.test[127.0.0.1]"
    assert not [line for line in site.lines(False) if line.startswith(b"MAIL")]


@ensureDeferred
async def test_what_comes_in_clear_behind_the_220_is_never_believed(site: Site) -> None:
    site.factory.behind = b"250-mx.test\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"
    for level in ("may", "encrypt"):
        result = await site.send(level)
        assert result.status == DEFERRED and "Protocol error" in result.reason
    assert not [line for _, line in site.factory.lines if line.startswith(b"MAIL")]


@ensureDeferred
async def test_wrapper_mode(site: Site) -> None:
    result = await site.send("encrypt", wrapped=True, smtp_tls_wrappermode="yes")
    assert result.status == SENT and not site.lines(False)


@ensureDeferred
async def test_wrapper_mode_wants_a_level(site: Site) -> None:
    result = await site.send("may", smtp_tls_wrappermode="yes")
    assert (result.status, result.dsn, result.relay) == (DEFERRED, "4.3.0", "none")
    assert result.reason == "server unavailable or unable to receive mail" and not site.factory.connections
    assert 'smtp_tls_wrappermode requires "smtp_tls_security_level = encrypt" (or stronger)' in site.log.text


@ensureDeferred
async def test_lmtp_likewise(site: Site) -> None:
    result = await site.send("verify", prefix="lmtp_", lmtp_tls_loglevel="1")
    assert result.status == SENT and site.lines(False) == [b"LHLO gw.test", b"STARTTLS"]
    assert "lmtp: Verified TLS connection established to mx.test[127.0.0.1]" in site.log.text
    result = await site.send("secure", "other.test", prefix="lmtp_")
    assert result.reason == "Server certificate not verified"


@ensureDeferred
async def test_connections_are_used_again_only_if_that_is_wanted(site: Site) -> None:
    for reuse, connections in (("no", 3), ("yes", 2)):
        site.factory.connections = 0
        for again in (False, True, True):
            result = await site.send("encrypt", again=again, smtp_tls_connection_reuse=reuse, smtp_tls_loglevel="1")
            assert result.status == SENT
        assert site.factory.connections == connections
    assert site.log.text.count("Trusted TLS connection reused to mx.test[127.0.0.1]") == 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"smtp_tls_security_level": "dane"}, "smtp_tls_security_level: dane is not supported"),
        ({"smtp_tls_security_level": "rubbish"}, "smtp_tls_security_level: rubbish is not supported"),
        ({"smtp_tls_security_level": "fingerprint"}, "with no fingerprints to match"),
        ({"smtp_tls_security_level": "may", "smtp_tls_ciphers": "best"}, "invalid cipher grade: best"),
        ({"smtp_tls_security_level": "may", "smtp_tls_protocols": "TLSv9"}, "unknown protocol TLSv9"),
        ({"smtp_tls_security_level": "may", "smtp_tls_protocols": "SSLv3"}, "leaves no protocol that is spoken"),
        ({"smtp_tls_security_level": "may", "smtp_tls_servername": "a..b"}, "specifies an invalid hostname"),
        ({"smtp_tls_fingerprint_digest": "rot13"}, "unknown digest rot13"),
        ({"smtp_tls_per_site": "hash:x"}, "write its entries into smtp_tls_policy_maps: MUST is verify"),
    ],
)
def test_mistakes_in_main_cf_are_told_at_start(values: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        World(**values)


@ensureDeferred
async def test_files_that_cannot_be_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Postfix: where mail may go without TLS it does, elsewhere it waits until they can be used."""
    monkeypatch.setattr("transports.smtp.tls.LOOK_EVERY", 0)
    file = site.folder / "own.pem"
    for parameter in ("smtp_tls_cert_file", "smtp_tls_chain_files", "smtp_tls_CAfile"):
        values = {parameter: str(file)}
        assert (await site.send("may", **values)).status == SENT
        assert not site.lines(True) and "disabling TLS support" in site.log.text
        result = await site.send("none", policy="verify", **values)
        assert (result.status, result.dsn) == (DEFERRED, "4.7.5")
        assert result.reason == "TLS is required, but our TLS engine is unavailable"
        result = await site.send("encrypt", smtp_tls_wrappermode="yes", **values)
        assert result.reason == "TLS is required, but our TLS engine is unavailable"
    assert (await site.send("may", smtp_tls_chain_files=str(file))).status == SENT
    Certificate("gw.test").write(file)
    assert (await site.send(again=True)).status == SENT and site.lines(True)
