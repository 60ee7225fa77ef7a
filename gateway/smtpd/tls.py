"""The server's side of TLS, and what is known of a protected connection; smtpd_tls_*, TLS_README.

TLS 1.2 is the least that is spoken, whatever smtpd_tls_protocols allows beyond.  Certificates are those of
smtpd_tls_chain_files, or of smtpd_tls_cert_file and smtpd_tls_eccert_file with their keys; a client that asks for a
name gets those of tls_server_sni_maps.  Files that have changed are read again, at most every LOOK_EVERY seconds; when
the new ones cannot be used the old ones stay.  Without any that can be used there is one warning, and STARTTLS answers
454 4.7.0, as with Postfix: mail goes on in clear where it may.

Clients are asked for certificates if smtpd_tls_ask_ccert or smtpd_tls_req_ccert says so.  Sessions are not resumed
then, as a resumed one says nothing of the certificate's worth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from gateway.certificates import certificate_hash, describe, digest_of, load, reason, states
from gateway.config import Settings
from gateway.interfaces import Log, TableError
from gateway.policy.session import Tls
from gateway.tables import Maps, Tables
from gateway.tls_facts import key_exchange, signature
from gateway.tls_trace import trace
from gateway.tls_words import VERSIONS, allowed_versions, cipher_list

LOOK_EVERY = 10.0
MOST_NAMES = 1000
"""Of SNI whose certificates are kept in memory."""

NO_OPTION = getattr(SSL, "OP_NO_RENEGOTIATION", 0x40000000)
_NEWEST = {"tlsv1.2": SSL.OP_NO_TLSv1_2, "tlsv1.3": SSL.OP_NO_TLSv1_3}
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\Z")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the parameters say about all contexts of a service."""

    options: int
    ciphers: bytes
    ask: bool
    require: bool
    depth: int
    ca_file: str
    ca_path: str
    default_authorities: bool
    digest: str
    log_level: int
    received: bool
    """The Received header tells of the connection."""
    lifetime: int

    @classmethod
    def of(cls, settings: Settings, level: str) -> Rules:
        """Raises ConfigError."""
        mandatory = level == "encrypt"
        flag, text = settings.flag, settings.text
        return cls(
            options=_options(settings, "smtpd_tls_mandatory_protocols" if mandatory else "smtpd_tls_protocols"),
            ciphers=_ciphers(settings, "smtpd_tls_mandatory_ciphers" if mandatory else "smtpd_tls_ciphers", mandatory),
            ask=flag("smtpd_tls_ask_ccert") or flag("smtpd_tls_req_ccert"),
            require=flag("smtpd_tls_req_ccert") and mandatory,
            depth=settings.number("smtpd_tls_ccert_verifydepth"),
            ca_file=text("smtpd_tls_CAfile"),
            ca_path=text("smtpd_tls_CApath"),
            default_authorities=flag("tls_append_default_CA"),
            digest=digest_of(settings, "smtpd_tls_fingerprint_digest"),
            log_level=settings.number("smtpd_tls_loglevel"),
            received=flag("smtpd_tls_received_header"),
            lifetime=int(settings.seconds("smtpd_tls_session_cache_timeout")),
        )


def _options(settings: Settings, parameter: str) -> int:
    try:
        versions = allowed_versions(settings.words(parameter))
    except ValueError as error:
        raise settings.error(parameter, f"{parameter}: {error}", f"choose from {', '.join(VERSIONS)}") from None
    if not versions & _NEWEST.keys():
        problem = f"{parameter} leaves no protocol that is safe to speak"
        raise settings.error(parameter, problem, "TLSv1.2 and TLSv1.3 are")
    options = SSL.OP_NO_COMPRESSION | NO_OPTION
    for name, option in _NEWEST.items():
        if name not in versions:
            options |= option
    if settings.flag("tls_preempt_cipherlist"):
        options |= SSL.OP_CIPHER_SERVER_PREFERENCE
    return options


def _ciphers(settings: Settings, parameter: str, mandatory: bool) -> bytes:
    excluded = settings.words("smtpd_tls_exclude_ciphers")
    if mandatory:
        excluded += settings.words("smtpd_tls_mandatory_exclude_ciphers")
    try:
        # A server without a certificate of its own proves nothing.
        words = cipher_list(settings, settings.text(parameter), ["aNULL", *excluded])
    except ValueError as error:
        raise settings.error(parameter, f"{parameter}: {error}", "choose high or medium") from None
    return words.encode("ascii", "ignore")


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The contexts of one service; what Twisted's startTLS() wants."""

    def __init__(
        self, rules: Rules, files: tuple[Path, ...], names: Maps | None, base: Path, log: Log, program: str,
        seconds: Callable[[], float],
    ) -> None:
        """Raises OSError, ValueError, crypto.Error for files that cannot be used."""
        self.rules = rules
        self._names = names
        self._base = base
        self._log = log
        self._program = program
        self._seconds = seconds
        self._distrusted: WeakKeyDictionary[SSL.Connection, bool] = WeakKeyDictionary()
        self._signed: WeakSet[SSL.Connection] = WeakSet()
        self._main = _Kept(self, files)
        self._by_files: dict[tuple[Path, ...], _Kept] = {}

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._main.context(), None)

    def facts(self, transport: Any) -> Tls:
        """What was agreed on."""
        connection = transport.getHandle()
        bits = connection.get_cipher_bits() or 0
        tls = Tls(connection.get_protocol_version_name(), connection.get_cipher_name() or "", bits, bits)
        tls.asked = self.rules.ask
        certificate = connection.get_peer_certificate(as_cryptography=True) if self.rules.ask else None
        if tls.protocol == "TLSv1.3" and (group := connection.get_group_name()):
            tls.exchange = " ".join(filter(None, [key_exchange(group), self._own_signature(connection)]))
            tls.client_signature = signature(certificate, "client")
        if certificate is not None:
            tls.subject, tls.issuer, tls.fingerprints = describe(certificate, self.rules.digest)
            tls.trusted = not self._distrusted.get(connection, False)
        return tls

    def _own_signature(self, connection: SSL.Connection) -> str:
        own = connection.get_certificate() if connection in self._signed else None
        return "" if own is None else signature(own.to_cryptography(), "server")

    def warning(self, text: str) -> None:
        self._log.warning(self._program, text)

    def tell(self, text: str) -> None:
        self._log.info(self._program, text)

    def announce(self, client: str) -> None:
        """A handshake begins."""
        if self.rules.log_level > 1:
            self.tell(f"setting up TLS connection from {client}")
            self.tell(f'{client}: TLS cipher list "{self.rules.ciphers.decode("ascii")}"')

    def now(self) -> float:
        return self._seconds()

    def build(self, files: tuple[Path, ...]) -> SSL.Context:
        """Raises OSError, ValueError, crypto.Error, SSL.Error."""
        rules = self.rules
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(rules.options)
        context.set_cipher_list(rules.ciphers)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        load(context, files)
        context.set_session_id(b"smtpd")
        context.set_timeout(max(1, rules.lifetime))
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets do it
        if rules.ask or rules.lifetime <= 0:
            context.set_options(SSL.OP_NO_TICKET)
        if rules.ask:
            self._ask(context)
        if rules.log_level > 0 or rules.received:
            trace(context, self.tell if rules.log_level > 1 else None, self._signed.add)
        if self._names is not None:
            context.set_tlsext_servername_callback(self._by_name)
        return context

    def _ask(self, context: SSL.Context) -> None:
        rules = self.rules
        if rules.default_authorities:
            context.set_default_verify_paths()
        if rules.ca_file or rules.ca_path:
            file = str(self._base / rules.ca_file) if rules.ca_file else None
            folder = str(self._base / rules.ca_path) if rules.ca_path else None
            context.load_verify_locations(file, folder)
            if file is not None:
                context.load_client_ca(file.encode())
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if rules.require else 0)
        context.set_verify(mode, self._judge)
        context.set_verify_depth(rules.depth)

    def _judge(self, connection: SSL.Connection, certificate: Any, error: int, depth: int, good: int) -> bool:
        if not good:
            self._distrusted[connection] = True
        return bool(good) or not self.rules.require

    # --- names (RFC 6066 3) --------------------------------------------------------------------------------------

    def _by_name(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower().rstrip(".")
        files = self._files_of(name) if _NAME.match(name) else ()
        if not files:
            return
        kept = self._by_files.get(files)
        try:
            if kept is None:
                if len(self._by_files) >= MOST_NAMES:
                    self._by_files.clear()
                kept = self._by_files[files] = _Kept(self, files)
            connection.set_context(kept.context())
        except (OSError, ValueError, crypto.Error, SSL.Error) as error:
            self.warning(f"cannot load server certificate and key of {name}: {reason(error)}")

    def _files_of(self, name: str) -> tuple[Path, ...]:
        """By the name itself, then by each ".parent.domain"."""
        keys = [name]
        while "." in name:
            name = name.partition(".")[2]
            keys.append(f".{name}")
        for key in keys:
            try:
                value = self._at_once(key)
            except TableError as error:
                self.warning(f"tls_server_sni_maps: {error}")
                return ()
            if value:
                return tuple(self._base / word for word in value.replace(",", " ").split())
        return ()

    def _at_once(self, key: str) -> str | None:
        """The handshake cannot wait for a table that has to ask others."""
        assert self._names is not None
        looking: Any = self._names.find(key)
        try:
            looking.send(None)
        except StopIteration as done:
            return None if done.value is None else str(done.value.value)
        looking.close()
        raise TableError("a table that has to ask a server cannot be used here")


class _Kept:
    """A context for some files, made anew when they have changed."""

    def __init__(self, owner: ServerTLS, files: tuple[Path, ...]) -> None:
        self._owner = owner
        self._files = files
        self._state = states(files)
        self._looked = owner.now()
        self._context = owner.build(files)

    def context(self) -> SSL.Context:
        now = self._owner.now()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look()
        return self._context

    def _look(self) -> None:
        state = states(self._files)
        if state == self._state:
            return
        self._state = state
        try:
            self._context = self._owner.build(self._files)
        except (OSError, ValueError, crypto.Error, SSL.Error) as error:
            names = ", ".join(map(str, self._files))
            self._owner.warning(f"new certificate in {names} cannot be used, the old one stays: {reason(error)}")


def server_tls(
    settings: Settings, tables: Tables, level: str, log: Log, program: str, seconds: Callable[[], float]
) -> ServerTLS | None:
    """None: there is no certificate that can be used; the log says why.  Raises ConfigError."""
    rules = Rules.of(settings, level)
    if settings.flag("smtpd_tls_req_ccert") and not rules.require:
        log.warning(program, "Can't require client certs unless TLS is required")
    base = settings.directory or Path.cwd()
    files = tuple(base / name for name in _files(settings))
    if not files:
        log.warning(program, "No server certs available. TLS won't be enabled")
        return None
    words = settings.words("tls_server_sni_maps")
    names = tables.maps(words, settings, title="tls_server_sni_maps", program=program) if words else None
    try:
        return ServerTLS(rules, files, names, base, log, program, seconds)
    except (OSError, ValueError, crypto.Error, SSL.Error) as error:
        listed = ", ".join(map(str, files))
        log.warning(program, f"cannot load server certificate and key from {listed}: {reason(error)}")
        return None


def _files(settings: Settings) -> list[str]:
    names = settings.words("smtpd_tls_chain_files")
    if not names:
        for kind in ("", "ec"):
            certificate = settings.text(f"smtpd_tls_{kind}cert_file")
            if certificate and certificate != "none":
                names += [settings.text(f"smtpd_tls_{kind}key_file"), certificate]
    return list(dict.fromkeys(names))


def log_lines(tls: Tls, client: str, level: int) -> list[str]:
    """What smtpd_tls_loglevel wants to see of a new connection."""
    if level < 1:
        return []
    lines = []
    trust = "Anonymous"
    if tls.fingerprints:
        trust = "Trusted" if tls.trusted else "Untrusted"
        certificate, key = tls.fingerprints
        about = f"subject_CN={tls.subject}, issuer={tls.issuer}, fingerprint={certificate}, pkey_fingerprint={key}"
        if level > 1:
            lines.append(f"{client}: {about}")
    how = f"{tls.protocol} with cipher {tls.cipher} ({tls.cipher_bits}/{tls.algorithm_bits} bits)"
    how = " ".join(filter(None, [how, tls.exchange, tls.client_signature]))
    return [*lines, f"{trust} TLS connection established from {client}: {how}"]


def channel_binding(transport: Any, kind: str) -> bytes | None:
    """What tells this connection from all others; RFC 9266, RFC 5929 4.  None: there is no such thing for it."""
    connection = transport.getHandle()
    if not isinstance(connection, SSL.Connection):
        return None
    if kind == "tls-exporter" and connection.get_protocol_version() >= SSL.TLS1_3_VERSION:
        return connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    own = connection.get_certificate() if kind == "tls-server-end-point" else None
    return None if own is None else certificate_hash(own.to_cryptography())
