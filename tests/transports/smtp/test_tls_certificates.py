"""Which certificates are believed, with real handshakes; what the log says of them; sessions that are resumed."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from pytest_twisted import ensureDeferred

from gateway.interfaces import DEFERRED, SENT
from tests.transports.smtp.certificates import FOR_CLIENTS, Certificate
from tests.transports.smtp.tls_site import Site

NOT_VERIFIED = "Server certificate not verified"


@ensureDeferred
async def test_names(site: Site) -> None:
    for level, nexthop, values in (
        ("verify", "mx.test", {}), ("secure", "mx.test", {}),
        ("secure", "hop.test", {"smtp_tls_secure_cert_match": "dot-nexthop"}),
        ("secure", "other.test", {"smtp_tls_secure_cert_match": "mx.test"}),
        ("verify", "other.test", {"smtp_tls_verify_cert_match": "nexthop, MX.test"}),
    ):  # fmt: skip
        assert (await site.send(level, nexthop, smtp_tls_loglevel="1", **values)).status == SENT
    assert site.log.text.count("Verified TLS connection established to ") == 5
    assert not [line for line in site.lines(False) if line.startswith(b"MAIL")]
    for level in ("verify", "secure"):
        result = await site.send(level, "other.test")
        assert (result.status, result.dsn, result.reason) == (DEFERRED, "4.7.5", NOT_VERIFIED)
        assert result.destination_down
        await site.hears(True, b"QUIT")
        site.factory.lines.clear()
        named = f"server certificate verification failed for {result.relay}: num=62:hostname mismatch"
        assert named in site.log.text


def kinds() -> dict[str, Any]:
    """Of certificates, with what the log says of them."""
    root, other = Certificate("Test Root", authority=True), Certificate("Other Root", authority=True)
    middle = Certificate("Middle", issuer=root, authority=True)
    stale = Certificate("Stale", issuer=root, authority=True, days=(-20, -10))
    mx = "mx.test", ["mx.test"]
    whose, is_not = "server certificate verification failed for {}", "certificate verification failed for {}"
    return {
        "good": (root, Certificate(*mx, root), [], ""),
        "RSA": (root, Certificate(*mx, root, kind="rsa"), [], ""),
        "Ed25519": (root, Certificate(*mx, root, kind="ed25519"), [], ""),
        "over another authority": (root, Certificate(*mx, middle), [middle], ""),
        "only a common name": (root, Certificate("mx.test", [], root), [], ""),
        "chain incomplete": (root, Certificate(*mx, middle), [], f"{is_not}: untrusted issuer /CN=Middle"),
        "chain expired": (root, Certificate(*mx, stale), [stale], f"CA {is_not}: certificate has expired"),
        "expired": (root, Certificate(*mx, root, days=(-9, -1)), [], f"{whose}: certificate has expired"),
        "future": (root, Certificate(*mx, root, days=(1, 9)), [], f"{whose}: certificate not yet valid"),
        "self-signed": (root, Certificate(*mx), [], f"{is_not}: self-signed certificate"),
        "other root": (root, Certificate(*mx, other), [], f"{is_not}: untrusted issuer /CN=Other Root"),
        "no name": (root, Certificate("", ["a.test"], root), [], f"{whose}: num=62:hostname mismatch"),
        "expired, other name": (
            root, Certificate("a.test", ["a.test"], root, days=(-9, -1)), [], f"{whose}: num=62:hostname mismatch",
        ),
        "a client's": (
            root, Certificate(*mx, root, usage=FOR_CLIENTS), [],
            f"{is_not}: not designated for use as a server certificate",
        ),
    }  # fmt: skip


@ensureDeferred
async def test_trust(site: Site) -> None:
    for kind, (root, certificate, chain, complaint) in kinds().items():
        root.write(site.ca, key=False)
        site.shows(certificate, *chain)
        site.log.lines.clear()
        result = await site.send("secure", smtp_tls_loglevel="1")
        expected = (SENT, "4.7.5") if not complaint else (DEFERRED, "4.7.5")
        assert result.status == expected[0], kind
        trust = "Untrusted" if complaint else "Verified"
        assert f"{trust} TLS connection established to {result.relay}: TLSv1.3 with cipher TLS_" in site.log.text, kind
        if complaint:
            assert result.reason == NOT_VERIFIED and complaint.format(result.relay) in site.log.text, kind
        else:
            assert "verification failed" not in site.log.text, kind


@ensureDeferred
async def test_certificates_that_nobody_can_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.shows(Certificate("mx.test", [], site.authority, broken=True))
    for level in ("0", "1", "2"):
        assert (await site.send("may", smtp_tls_loglevel=level)).status == SENT
        assert (await site.send("secure", smtp_tls_loglevel=level)).reason == NOT_VERIFIED
    for broken in ("OpenSSL.crypto.X509.to_cryptography", "transports.smtp.tls_report.summary"):
        monkeypatch.setattr(broken, lambda *arguments, **options: 1 / 0)
        for level in ("0", "1", "2"):
            assert (await site.send("may", smtp_tls_loglevel=level, smtp_tls_CAfile="")).status == SENT
            assert (await site.send("secure", smtp_tls_loglevel=level)).reason == NOT_VERIFIED
    assert "Untrusted TLS connection established" in site.log.text


@ensureDeferred
async def test_how_long_a_chain_may_be(site: Site) -> None:
    middle = Certificate("Middle", issuer=site.authority, authority=True)
    site.shows(Certificate("mx.test", ["mx.test"], middle), middle)
    assert (await site.send("verify", smtp_tls_scert_verifydepth="2")).status == SENT
    result = await site.send("verify", smtp_tls_scert_verifydepth="1")
    assert result.reason == NOT_VERIFIED
    assert f"failed for {result.relay}: certificate chain longer than limit(1)" in site.log.text


@ensureDeferred
async def test_fingerprints(site: Site) -> None:
    certificate = site.shows(Certificate("anybody"))
    right, wrong = certificate.fingerprint(), "00:" * 31 + "00"
    for policy in (f"fingerprint match={right}", f"fingerprint match={wrong}|{certificate.key_fingerprint()}",
                   f"fingerprint match={wrong} match={right.upper()}"):
        result = await site.send(policy=policy, smtp_tls_fingerprint_digest="sha256", smtp_tls_loglevel="1")
        assert result.status == SENT
    assert "Verified TLS connection established to" in site.log.text
    result = await site.send(
        "fingerprint", smtp_tls_fingerprint_cert_match=certificate.fingerprint("md5"), smtp_tls_fingerprint_digest="md5"
    )
    assert result.status == SENT
    result = await site.send("fingerprint", smtp_tls_fingerprint_cert_match=wrong, smtp_tls_fingerprint_digest="sha256")
    assert result.reason == NOT_VERIFIED
    assert "num=65:no matching DANE TLSA records" in site.log.text


@ensureDeferred
async def test_trust_anchors(site: Site) -> None:
    """They may be in the middle, at the end, or bare keys; the usual authorities do not count then."""
    root, other = site.authority, Certificate("Other", authority=True)
    middle = Certificate("Middle", issuer=root, authority=True, days=(-9, -1))
    below_middle = Certificate("mx.test", ["mx.test"], middle)
    direct, alone = Certificate("mx.test", ["mx.test"], root), Certificate("mx.test", ["mx.test"])
    for number, (certificate, chain, anchor, status) in enumerate([
        (direct, [], root.pem, SENT), (direct, [], root.public_pem, SENT), (direct, [], direct.pem, SENT),
        (direct, [], other.pem, DEFERRED), (direct, [], other.pem + root.pem, SENT),
        (below_middle, [middle], middle.public_pem, SENT), (below_middle, [], middle.pem, SENT),
        (below_middle, [middle], root.pem, DEFERRED), (alone, [], alone.public_pem, SENT),
        (Certificate("mx.test", ["mx.test"], other), [other], root.pem, DEFERRED),
        (Certificate("mx.test", ["mx.test"], root, days=(-9, -1)), [], root.pem, DEFERRED),
        (Certificate("x.test", ["x.test"], root), [], root.pem, DEFERRED),
    ]):  # fmt: skip
        file = site.folder / f"anchor{number}.pem"
        file.write_bytes(anchor)
        site.shows(certificate, *chain)
        result = await site.send("secure", policy=f"secure tafile={file}")
        assert result.status == status, number
        assert (await site.send("secure", smtp_tls_trust_anchor_file=str(file))).status == status, number


@ensureDeferred
async def test_a_trust_anchor_that_is_not_there(site: Site) -> None:
    result = await site.send(policy="secure tafile=/nonexistent")
    assert (result.status, result.dsn, result.reason) == (DEFERRED, "4.7.5", "client TLS configuration problem")
    assert "warning: error opening trust anchor file: /nonexistent: No such file or directory" in site.log.text
    assert not site.factory.connections


@ensureDeferred
async def test_the_log_says_more_at_level_2(site: Site) -> None:
    result = await site.send("secure", smtp_tls_loglevel="2", smtp_tls_fingerprint_digest="sha256")
    server = result.relay
    assert f"setting up TLS connection to {server}" in site.log.text
    assert f'{server}: TLS cipher list "aNULL:-aNULL:HIGH:MEDIUM:' in site.log.text
    assert f"{server}: depth=0 verify=1 subject=/CN=mx.test" in site.log.text
    assert f"{server}: matched peername: mx.test" in site.log.text
    assert f"{server}: subject_CN=mx.test, issuer_CN=Test Root, fingerprint=" in site.log.text


@ensureDeferred
async def test_what_the_server_is_asked_for(site: Site) -> None:
    for values, name in (
        ({}, None), ({"smtp_tls_servername": "hostname"}, b"mx.test"), ({"smtp_tls_servername": "nexthop"}, b"mx.test"),
        ({"smtp_tls_servername": "a.example"}, b"a.example"), ({"policy": "may servername=b.example"}, b"b.example"),
    ):  # fmt: skip
        await site.send("encrypt", **values)
        assert site.factory.contexts.names[-1:] == [name]


@ensureDeferred
async def test_versions_and_ciphers(site: Site) -> None:
    site.shows(Certificate("mx.test", ["mx.test"], site.authority, kind="rsa"))
    for policy, found in (
        ("encrypt protocols=TLSv1.2", "TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits)"),
        ("encrypt protocols=<=TLSv1.2 exclude=AES256:CHACHA20", "TLSv1.2 with cipher ECDHE-RSA-AES128-GCM-SHA256"),
        ("encrypt protocols=TLSv1.3", "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange "),
    ):  # fmt: skip
        result = await site.send(policy=policy, smtp_tls_loglevel="1")
        assert result.status == SENT, site.log.text
        assert found in site.log.text
    result = await site.send("encrypt", smtp_tls_mandatory_protocols="TLSv1.2", smtp_tls_exclude_ciphers="AESGCM",
                             smtp_tls_mandatory_exclude_ciphers="CHACHA20", smtp_tls_loglevel="1")
    assert result.status == SENT and "TLSv1.2 with cipher ECDHE-RSA-" in site.log.text.splitlines()[-1]
    assert "GCM" not in site.log.text.splitlines()[-1]


@ensureDeferred
async def test_an_old_server_may_be_talked_to_where_anybody_may(site: Site) -> None:
    contexts = site.factory.contexts
    contexts.context.set_cipher_list(b"ALL:@SECLEVEL=0")
    contexts.context.set_max_proto_version(SSL.TLS1_VERSION)
    contexts.context.set_min_proto_version(SSL.TLS1_VERSION)
    assert (await site.send("may", smtp_tls_loglevel="1")).status == SENT
    assert ": TLSv1 with cipher " in site.log.text and site.lines(True)
    assert (await site.send("secure")).reason == "Cannot start TLS: handshake failure"


@pytest.mark.parametrize("parameters", [("cert_file", "key_file"), ("eccert_file", "eckey_file"), ("chain_files",)])
@ensureDeferred
async def test_our_own_certificate(site: Site, parameters: tuple[str, ...]) -> None:
    own = Certificate("gw.test", ["gw.test"], site.authority, usage=FOR_CLIENTS)
    site.shows(Certificate("mx.test", ["mx.test"], site.authority), ask=True)
    file = str(own.write(site.folder / "own.pem"))
    await site.send("encrypt", **{f"smtp_tls_{name}": file for name in parameters})
    await site.send("encrypt")
    shown = [each and each.get_subject().CN for each in site.factory.certificates]
    assert shown == ["gw.test", None]


@ensureDeferred
async def test_a_key_that_only_root_may_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read at start; later, when we are not root any more, a file that cannot be looked at counts as the same."""
    monkeypatch.setattr("transports.smtp.tls.LOOK_EVERY", 0)
    site.shows(Certificate("mx.test", ["mx.test"], site.authority), ask=True)
    file = Certificate("gw.test", [], site.authority, usage=FOR_CLIENTS).write(site.folder / "own.pem")
    values = {"smtp_tls_policy_maps": "static:secure", "smtp_tls_chain_files": str(file)}
    site.transport = site.transport_with("smtp_", values)
    file.unlink()
    for _ in range(2):
        assert (await site.send(again=True)).status == SENT
    assert all(site.factory.certificates) and len(site.factory.certificates) == 2
    assert "warning" not in site.log.text


@ensureDeferred
async def test_sessions_are_resumed(site: Site) -> None:
    """Not by who wants something else of the server; and what was found at first holds on."""
    cache = {"smtp_tls_session_cache_database": "btree:x", "smtp_tls_loglevel": "1"}
    for level, again in (("verify", False), ("verify", True)):
        assert (await site.send(level, again=again, **cache)).status == SENT
    first, second = [line for line in site.log.text.splitlines() if "Verified TLS connection established" in line]
    assert "server-signature" in first and "server-signature" not in second, "no certificate is shown again"
    site.log.lines.clear()
    assert (await site.send("verify", again=False)).status == SENT
    for again in (False, True):
        result = await site.send("secure", "other.test", again=again, **cache)
        assert result.reason == NOT_VERIFIED
    assert "re-using session" not in site.log.text, "one that was refused is not kept"


@ensureDeferred
async def test_no_session_is_kept_unless_asked_for(site: Site) -> None:
    for again in (False, True):
        await site.send("verify", again=again, smtp_tls_loglevel="1")
    assert site.log.text.count("server-signature") == 2


@ensureDeferred
async def test_files_are_read_again_when_they_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transports.smtp.tls.LOOK_EVERY", 0)
    assert (await site.send("verify")).status == SENT
    other = Certificate("Other", authority=True)
    site.shows(Certificate("mx.test", ["mx.test"], other))
    assert (await site.send("verify", again=True)).reason == NOT_VERIFIED
    other.write(site.ca, key=False)
    assert (await site.send("verify", again=True)).status == SENT
    site.ca.write_text("rubbish")
    assert (await site.send("verify", again=True)).status == SENT
    assert f"cannot use the TLS files {site.ca}: " in site.log.text and ": the old ones stay" in site.log.text
