"""TLS for the client: contexts, handshakes, sessions that are resumed; TLS_README.

    tls = ClientTLS(settings, "smtp_", policies, log, "smtp", reactor.seconds)
    handshake = tls.handshake(policy, peer, "[mx.example.com]:25")      raises PolicyError; None: there is no TLS
    transport.startTLS(handshake)
    problem = handshake.judge(transport.getHandle())                    "" = it is whom we want to talk to

A context serves all policies that ask the same of it.  It is made when it is first needed, and anew when a file that
it comes from has changed; files that cannot be used then are told of, and the old ones stay.  Certificates are judged
here: the library reports what is wrong with the chain; names and fingerprints are compared in
transports.smtp.tls_match.  Trust anchors of a policy stand for their keys: whatever in the chain has such a key, or is
signed by one, is believed.

Sessions (smtp_tls_session_cache_database, whatever type and name it has) are kept in memory: one for each policy, next
hop, host, address, port, and name that the server gave itself.

Own certificates or authorities that cannot be used are no reason not to start, as with Postfix: the log says so, and
until they can be used there is no TLS, so that mail which may go without it does, and other mail waits.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from gateway.certificates import describe, reason, states, use
from gateway.config.settings import Settings
from gateway.interfaces import Log
from gateway.tls_trace import trace
from transports.smtp import tls_report as report
from transports.smtp.channel import Peer
from transports.smtp.tls_match import fingerprint_that_fits, key_bytes, name_that_fits, vouches, wanted_names
from transports.smtp.tls_policy import PROBLEM, Level, Policies, Policy, PolicyError, is_host
from transports.smtp.tls_report import Failure

LOOK_EVERY = 10.0
"""Seconds between looks whether a file has changed."""
MOST_CONTEXTS = 100
MOST_SESSIONS = 1000
NO_RENEGOTIATION = getattr(SSL, "OP_NO_RENEGOTIATION", 0x40000000)
"""A certificate that has been judged is not to be followed by another one."""
UNUSABLE = (OSError, ValueError, crypto.Error, SSL.Error)

_VERSIONS = {
    "tlsv1": (SSL.TLS1_VERSION, SSL.OP_NO_TLSv1), "tlsv1.1": (SSL.TLS1_1_VERSION, SSL.OP_NO_TLSv1_1),
    "tlsv1.2": (SSL.TLS1_2_VERSION, SSL.OP_NO_TLSv1_2), "tlsv1.3": (SSL.TLS1_3_VERSION, SSL.OP_NO_TLSv1_3),
}
_BLOCK = re.compile(rb"-----BEGIN (CERTIFICATE|PUBLIC KEY)-----.*?-----END \1-----", re.DOTALL)
_UNKNOWN_AUTHORITY = frozenset((2, report.SELF_SIGNED, report.SELF_SIGNED_ABOVE, report.NO_ISSUER,
                                report.UNVERIFIED_LEAF))
_BEHIND_NAMES = frozenset((7, report.UNVERIFIED_LEAF)) | report.EXPIRY
"""What the library looks at after the names."""


class _Kept(NamedTuple):
    """A session that can be resumed, and what was found when it began."""

    session: SSL.Session
    failures: list[Failure]
    until: float


class ClientTLS:
    """The TLS of one service."""

    def __init__(
        self, settings: Settings, prefix: str, policies: Policies, log: Log, program: str,
        seconds: Callable[[], float],
    ) -> None:
        self.digest = policies.digest
        self.log_level = settings.number(prefix + "tls_loglevel")
        self.depth = settings.number(prefix + "tls_scert_verifydepth")
        self._base = settings.directory or Path.cwd()
        self._own = [self._base / name for name in _own_files(settings, prefix)]
        self._ca_file, self._ca_path = settings.text(prefix + "tls_CAfile"), settings.text(prefix + "tls_CApath")
        self._default_authorities = settings.flag("tls_append_default_CA")
        self._log, self._program, self._seconds = log, program, seconds
        self._lifetime = settings.seconds(prefix + "tls_session_cache_timeout")
        self._resumes = bool(settings.text(prefix + "tls_session_cache_database").strip()) and self._lifetime > 0
        self._files = [*self._own, *([self._base / self._ca_file] if self._ca_file else [])]
        self._state = states(self._files)
        self._looked = seconds()
        self._contexts: dict[tuple[object, ...], SSL.Context] = {}
        self._anchors: dict[str, tuple[object, list[Any]]] = {}
        self._sessions: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._material: list[bytes] | None = None
        """What is in our own files, which only root may be able to read, at start; None: they cannot be used."""
        if policies.standard.wanted or not policies.constant:
            self._probe()

    def handshake(self, policy: Policy, peer: Peer, nexthop: str) -> Handshake | None:
        """For a new connection.  None: there can be none.  Raises PolicyError."""
        self._look()
        if self._material is None:
            return None
        anchors = self._anchor_keys(policy)
        try:
            context = self._context(policy)
        except UNUSABLE as error:
            self.warn(f"no TLS for {nexthop}: {reason(error)}")
            return None
        return Handshake(self, policy, context, anchors, peer, nexthop)

    def looks(self, policy: Policy) -> bool:
        """Whether it matters what the certificate says."""
        return policy.checked or self.log_level > 0

    def warn(self, text: str) -> None:
        self._log.warning(self._program, text)

    def tell(self, text: str) -> None:
        self._log.info(self._program, text)

    # --- contexts

    def _context(self, policy: Policy) -> SSL.Context:
        looks = self.looks(policy)
        lenient = policy.level < Level.VERIFY
        key = (policy.versions, policy.ciphers, lenient, looks, bool(policy.anchors))
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= MOST_CONTEXTS:
                self._forget_all()
            context = self._contexts[key] = self._make(policy, lenient, looks)
        return context

    def _make(self, policy: Policy, lenient: bool, looks: bool) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        numbers = [_VERSIONS[name][0] for name in policy.versions]
        context.set_min_proto_version(min(numbers))
        context.set_max_proto_version(max(numbers))
        context.set_options(SSL.OP_NO_COMPRESSION | NO_RENEGOTIATION)
        for name, (_, option) in _VERSIONS.items():
            if name not in policy.versions:
                context.set_options(option)
        # Whom we would talk to in clear, or without knowing who it is, may as well have an old program.
        context.set_cipher_list(f"{policy.ciphers}:@SECLEVEL={0 if lenient else 1}".encode("ascii", "ignore"))
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self.log_level > 1:
            trace(context, self.tell)
        if self._material:
            use(context, self._material)
        if looks:
            store = context.get_cert_store()
            if policy.anchors and store is not None:
                # The library knows nothing of them: it has to look at the end of the chain like at the rest.
                store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            else:
                self._trust(context)
            context.set_verify_depth(self.depth + 1)
        return context

    def _trust(self, context: SSL.Context) -> None:
        if self._default_authorities:
            context.set_default_verify_paths()
        if self._ca_file or self._ca_path:
            file = str(self._base / self._ca_file) if self._ca_file else None
            context.load_verify_locations(file, str(self._base / self._ca_path) if self._ca_path else None)

    def _anchor_keys(self, policy: Policy) -> list[Any]:
        """Raises PolicyError."""
        keys: list[Any] = []
        for name in policy.anchors:
            path = self._base / name
            state = states([path])
            kept = self._anchors.get(name)
            if kept is None or kept[0] != state:
                try:
                    kept = self._anchors[name] = (state, _keys_in(path))
                except UNUSABLE as error:
                    words = error.strerror if isinstance(error, OSError) else reason(error)
                    self.warn(f"error opening trust anchor file: {name}: {words}")
                    raise PolicyError(PROBLEM) from None
            keys += kept[1]
        return keys

    def _look(self) -> None:
        now = self._seconds()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        state = states(self._files)
        if state != self._state and None not in state:  # one that is out of sight now is as it was
            self._state = state
            self._probe()

    def _probe(self) -> None:
        """Take what is in the files, if it can be used."""
        try:
            material = [file.read_bytes() for file in self._own]
            probe = SSL.Context(SSL.TLS_CLIENT_METHOD)
            if material:
                use(probe, material)
            self._trust(probe)
        except UNUSABLE as error:
            names = ", ".join(map(str, self._files))
            after = "disabling TLS support" if self._material is None else "the old ones stay"
            self.warn(f"cannot use the TLS files {names}: {reason(error)}: {after}")
        else:
            self._material = material
            self._forget_all()

    def _forget_all(self) -> None:
        self._contexts.clear()
        self._sessions.clear()

    # --- sessions

    def session(self, key: tuple[object, ...]) -> _Kept | None:
        kept = self._sessions.get(key)
        if kept is not None and kept.until < self._seconds():
            del self._sessions[key]
            return None
        return kept

    def keep(self, key: tuple[object, ...], session: SSL.Session | None, failures: list[Failure]) -> None:
        if self._resumes and session is not None:
            self._sessions.pop(key, None)
            self._sessions[key] = _Kept(session, failures, self._seconds() + self._lifetime)
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """The TLS of one connection."""

    def __init__(
        self, owner: ClientTLS, policy: Policy, context: SSL.Context, anchors: list[Any], peer: Peer, nexthop: str
    ) -> None:
        self.policy = policy
        self.matched = False
        """The server is the one that the policy wants."""
        self._owner, self._context, self._anchors = owner, context, anchors
        self._looks = owner.looks(policy)
        self._peer, self._nexthop = peer, nexthop
        self._failures: list[Failure] = []
        self._chain: dict[int, x509.Certificate] = {}
        self._resumed: _Kept | None = None
        self._full = False
        self._key: tuple[object, ...] = ()
        self._trust = "Anonymous"

    def greeted_by(self, name: str) -> None:
        """What the server calls itself: several may stand behind one address."""
        self._key = (self.policy, self._nexthop, self._peer.host, self._peer.address, self._peer.port, name.lower())

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._owner.log_level > 1:
            self._owner.tell(f"setting up TLS connection to {self._peer.relay}")
            self._owner.tell(f'{self._peer.relay}: TLS cipher list "{self.policy.ciphers}"')
        if self._looks:
            connection.set_verify(SSL.VERIFY_PEER, self._found)
        name = self._server_name()
        if name:
            connection.set_tlsext_host_name(name.encode("ascii"))
        self._resumed = self._owner.session(self._key)
        if self._resumed is not None:
            try:
                connection.set_session(self._resumed.session)
            except ValueError:  # of a context that is no more
                self._resumed = None
        return connection

    def _server_name(self) -> str:
        """RFC 6066 3."""
        word = self.policy.servername
        name = {"hostname": self._peer.host, "nexthop": self._peer.domain}.get(word.lower(), word)
        return name if is_host(name) and not name.replace(".", "").isdigit() else ""

    def _found(
        self, connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, good: int
    ) -> bool:
        """The library has looked at a certificate of the chain.  It is always told to go on: ``judge`` decides."""
        self._full = True
        owner = self._owner
        if depth > owner.depth:
            good, number = 0, report.TOO_LONG
        if owner.log_level > 1 or self._anchors or not good:
            parsed = _parsed(certificate)
            if parsed is not None:
                self._chain[depth] = parsed
            if not good:
                self._failures.append(Failure(number, depth, report.issuer_of(parsed)))
            if owner.log_level > 1:
                subject = report.subject_of(parsed)
                owner.tell(f"{self._peer.relay}: depth={depth} verify={good} subject={subject}")
        return True

    def judge(self, connection: SSL.Connection) -> str:
        """After the handshake: why the server is not whom we want to talk to; "" = it is.  Tells the log."""
        if not self._looks:
            return ""
        try:
            good = self._believes(connection)
        except Exception as error:  # whatever is wrong with what a stranger has sent
            self._owner.warn(f"{self._peer.relay}: unreadable certificate: {type(error).__name__}")
            good = False
        self.matched = self.policy.checked and good
        return "Server certificate not verified" if self.policy.checked and not good else ""

    def _believes(self, connection: SSL.Connection) -> bool:
        owner, policy, server = self._owner, self.policy, self._peer.relay
        shown = connection.get_peer_certificate()
        certificate = _parsed(shown)
        failures = self._failures
        if not self._full and self._resumed is not None:
            failures = self._failures = self._resumed.failures
        failure: Failure | None = Failure(1, 0)
        if certificate is not None:
            failure, fitted = self._judge_certificate(certificate, failures)
            self._trust = "Untrusted" if failure is not None else "Verified" if policy.checked else "Trusted"
            self._describe(certificate, fitted)
        elif shown is not None:
            self._trust = "Untrusted"
        if policy.checked and failure is not None and shown is not None:
            if self._full:
                owner.tell(report.reason(failure, server, owner.depth))
            else:
                owner.tell(f"{server}: re-using session with untrusted peer credential, look for details earlier in "
                           "the log")
        self.summarize(connection, "established")
        return failure is None

    def summarize(self, connection: SSL.Connection, what: str) -> None:
        """``what``: "established", or "reused" for another message in the same connection."""
        if self._owner.log_level > 0:
            self._owner.tell(report.summary(connection, self._peer.relay, self._trust, what, full=self._full))

    def remember(self, connection: SSL.Connection) -> None:
        """The server has answered within TLS, so that it has sent what a session is resumed with."""
        self._owner.keep(self._key, connection.get_session(), self._failures)

    def _judge_certificate(
        self, certificate: x509.Certificate, failures: list[Failure]
    ) -> tuple[Failure | None, str]:
        """What counts against it, and what in it has fitted."""
        policy = self.policy
        if policy.level is Level.FINGERPRINT:
            fitted = fingerprint_that_fits(certificate, self._owner.digest, policy.match)
            return (None, fitted) if fitted else (Failure(report.NO_ANCHOR, 0), "")
        if self._anchors:
            failures = self._with_anchors(failures)
        if not policy.checked:
            return min(failures, key=lambda each: each.depth, default=None), ""
        names = wanted_names(policy.match, self._peer.domain, self._peer.host)
        fitted = name_that_fits(certificate, names)
        if not fitted:
            leaf = [each for each in failures if each.depth == 0 and each.number not in _BEHIND_NAMES]
            return (leaf[0] if leaf else Failure(report.MISMATCH, 0)), ""
        return min(failures, key=lambda each: each.depth, default=None), fitted

    def _with_anchors(self, failures: list[Failure]) -> list[Failure]:
        """What counts when the chain leads to one of the policy's own trust anchors."""
        if not self._full:
            return failures
        known = {key_bytes(key) for key in self._anchors}
        for depth in sorted(self._chain):
            certificate = self._chain[depth]
            if key_bytes(certificate.public_key()) in known:
                ignored = _UNKNOWN_AUTHORITY | report.EXPIRY
            elif any(vouches(key, certificate) for key in self._anchors):
                ignored = _UNKNOWN_AUTHORITY
            else:
                continue
            failures = [
                each for each in failures
                if each.depth < depth or (each.depth == depth and each.number not in ignored)
            ]
            break
        else:
            failures = [each for each in failures if each.number not in _UNKNOWN_AUTHORITY]
            failures.append(Failure(report.NO_ANCHOR, 0))
        self._failures = failures
        return failures

    def _describe(self, certificate: x509.Certificate, fitted: str) -> None:
        owner, server = self._owner, self._peer.relay
        if owner.log_level < 2:
            return
        subject, issuer, (whole, key) = describe(certificate, owner.digest)
        if fitted:
            owner.tell(f"{server}: matched peername: {fitted}")
        owner.tell(f"{server}: subject_CN={subject}, issuer_CN={issuer}, fingerprint={whole}, pkey_fingerprint={key}")


def _parsed(certificate: crypto.X509 | None) -> x509.Certificate | None:
    """None: there is none, or it is of a kind that nobody can read."""
    try:
        return None if certificate is None else certificate.to_cryptography()
    except Exception:  # whatever is wrong with what a stranger has sent
        return None


def _own_files(settings: Settings, prefix: str) -> list[str]:
    names = settings.words(prefix + "tls_chain_files")
    if not names:
        for kind in ("", "ec"):
            certificate = settings.text(f"{prefix}tls_{kind}cert_file")
            if certificate and certificate != "none":
                names += [settings.text(f"{prefix}tls_{kind}key_file"), certificate]
    return list(dict.fromkeys(names))


def _keys_in(path: Path) -> list[Any]:
    keys: list[Any] = []
    for match in _BLOCK.finditer(path.read_bytes()):
        if match[1] == b"CERTIFICATE":
            keys.append(x509.load_pem_x509_certificate(match[0]).public_key())
        else:
            keys.append(load_pem_public_key(match[0]))
    if not keys:
        raise ValueError("no certificate and no public key in it")
    return keys


