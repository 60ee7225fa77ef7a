"""ldap: tables; ldap_table(5), by the package ldap3.

An entry found gives the values of its result attributes; a terminal one gives only those, and where a special one (a DN
or an LDAP URL) leads to other entries the leaf ones are left out.  LDAP version 3 is spoken unless ``version`` says
otherwise.

``bind = sasl``: EXTERNAL (the certificate of tls_cert, or the user at the end of an ldapi: socket), DIGEST-MD5, PLAIN
and GSSAPI, the first of sasl_mechs that the server takes; bind_dn is the user's name then.  ldap3 has no security
layers of SASL's own, so that sasl_minssf above 0 wants TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec
from gateway.tables.databases.pool import Host, Lost, Refused
from gateway.tables.databases.sql import driver
from gateway.tables.databases.table import DatabaseTable
from gateway.tables.databases.template import Template

SUCCESS, UNKNOWN_METHOD, NO_SUCH_OBJECT = 0, 7, 32
ANY_ENTRY = "(objectclass=*)"
_SCOPES = {"sub": "SUBTREE", "one": "LEVEL", "base": "BASE"}
_DEREFERENCE = ("NEVER", "SEARCH", "FINDING_BASE", "ALWAYS")
_FILTER_ESCAPED = frozenset("*()\\\0")
_DN_ESCAPED = frozenset(',+"\\<>;=')

Entry = dict[str, list[str]]
"""Values by attribute, in lower case, in the server's order."""


def quote_filter(text: str) -> str:
    """RFC 4515 3."""
    return "".join(f"\\{ord(one):02x}" if one in _FILTER_ESCAPED else one for one in text)


def quote_dn(text: str) -> str:
    """RFC 4514 2.4."""
    quoted = "".join(f"\\{one}" if one in _DN_ESCAPED else one for one in text)
    if quoted[:1] in (" ", "#"):
        quoted = "\\" + quoted
    return quoted[:-1] + "\\ " if quoted.endswith(" ") and len(quoted) > 1 and quoted[-2] != "\\" else quoted


class Attributes(NamedTuple):
    """Names in lower case, by what they stand for."""

    ordinary: frozenset[str]
    special: frozenset[str]
    terminal: frozenset[str]
    leaf: frozenset[str]

    @property
    def all(self) -> list[str]:
        return sorted(frozenset().union(*self))

    def only(self, names: frozenset[str]) -> Attributes:
        return Attributes(*(kind & names for kind in self))


@dataclass(slots=True, frozen=True)
class Search:
    base: str
    filter: str
    scope: str
    attributes: Attributes


class LdapConnection:
    """One connection of ldap3.  ``identities``: ways to say who we are, of which the first counts that the server
    knows."""

    def __init__(
        self, ldap3: Any, uri: str, options: dict[str, Any], identities: list[dict[str, Any]], tls: Any, start_tls: bool
    ) -> None:
        self._ldap3 = ldap3
        timeout = options["receive_timeout"]
        server = ldap3.Server(uri, connect_timeout=timeout, get_info=ldap3.NONE, tls=tls)
        try:
            for number, identity in enumerate(identities, 1):
                self._connection = ldap3.Connection(server, **options, **identity)
                self._connection.open()
                if start_tls and not self._connection.start_tls():
                    raise Lost(f"STARTTLS: {self._connection.last_error}")
                if self._connection.bind():
                    return
                result = self._connection.result
                self.close()
                if result["result"] != UNKNOWN_METHOD or number == len(identities):
                    raise Lost(f"bind: {result['description']} {result.get('message') or ''}".rstrip())
        except (ldap3.core.exceptions.LDAPException, OSError) as error:
            raise Lost(" ".join(str(error).split())) from None

    def search(self, search: Search, dereference: str, size_limit: int) -> list[Entry] | None:
        """None: there is no such base.  Raises Lost, Refused."""
        errors = self._ldap3.core.exceptions
        try:
            self._connection.search(
                search.base, search.filter, search_scope=search.scope, dereference_aliases=dereference,
                attributes=search.attributes.all or [self._ldap3.NO_ATTRIBUTES], size_limit=size_limit,
            )  # fmt: skip
        except (errors.LDAPInvalidFilterError, errors.LDAPInvalidDnError, errors.LDAPInvalidScopeError) as error:
            raise Refused(f"{search.filter}: {error}") from None
        except (errors.LDAPException, OSError) as error:
            raise Lost(" ".join(str(error).split())) from None
        result = self._connection.result
        if result["result"] == NO_SUCH_OBJECT:
            return None
        if result["result"] != SUCCESS:
            raise Refused(f"Search error {result['result']}: {result['description']}")
        return [
            {
                name.lower(): [value.decode("utf-8", "surrogateescape") for value in values]
                for name, values in found["raw_attributes"].items()
            }
            for found in self._connection.response or []
            if found["type"] == "searchResEntry"
        ]

    def close(self) -> None:
        try:
            self._connection.unbind()
        except (self._ldap3.core.exceptions.LDAPException, OSError):
            pass


class LdapTable(DatabaseTable):
    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec, environment)
        given = self.parameters
        self._base = Template(given.required("search_base"), "search_base")
        self._filter = Template(given.text("query_filter", "(mailacceptinggeneralid=%s)"), "query_filter")
        scope = given.text("scope", "sub")
        dereference = given.number("dereference", 0)
        if scope not in _SCOPES or dereference >= len(_DEREFERENCE):
            raise TableError(f"{given.place}: bad value: scope = {scope}, dereference = {dereference}")
        self._scope, self._dereference = _SCOPES[scope], "DEREF_" + _DEREFERENCE[dereference]
        self._attributes = Attributes(
            *(
                frozenset(name.lower() for name in given.words(f"{kind}result_attribute", default))
                for kind, default in (("", "maildrop"), ("special_", ""), ("terminal_", ""), ("leaf_", ""))
            )
        )
        self._recursion_limit = given.number("recursion_limit", 1000)
        self._size_limit = given.number("size_limit", 0)
        ldap3 = driver("ldap3", "ldap")
        self._dereference = getattr(ldap3, self._dereference)
        key, hosts = self._hosts(ldap3)
        self._pool = self.databases.pool(("ldap", *key), hosts, self.limits)

    def _result_format(self) -> str:
        return self.parameters.text("result_format") or self.parameters.text("result_filter", "%s")

    def _hosts(self, ldap3: Any) -> tuple[tuple[object, ...], list[Host]]:
        given = self.parameters
        options: dict[str, Any] = {
            "version": given.number("version", 3), "read_only": True,
            "auto_referrals": given.flag("chase_referrals", False), "check_names": False,
            "receive_timeout": max(int(self.limits.timeout), 1),
        }  # fmt: skip
        start_tls, tls = given.flag("start_tls", False), self._tls(ldap3)
        port = given.number("server_port", 389)
        uris = [_uri(word, port) for word in given.words("server_host", "localhost")]

        safe = start_tls or all(uri.startswith(("ldaps:", "ldapi:")) for uri in uris)
        identities = self._identities(ldap3, safe)

        def connecting(uri: str) -> Callable[[], LdapConnection]:
            return lambda: LdapConnection(ldap3, uri, options, identities, tls, start_tls)

        key = (*uris, *map(str, options.values()), str(identities), start_tls, *map(given.text, _TLS))
        return key, [Host(uri, connecting(uri)) for uri in uris]

    def _identities(self, ldap3: Any, safe: bool) -> list[dict[str, Any]]:
        """``safe``: nobody listens on the way."""
        given = self.parameters
        bind, user, password = given.text("bind", "yes").lower(), given.text("bind_dn"), given.text("bind_pw")
        if bind in ("no", "none") or (bind in ("yes", "simple") and not user):
            return [{"authentication": ldap3.ANONYMOUS}]
        if bind in ("yes", "simple"):
            return [{"authentication": ldap3.SIMPLE, "user": user, "password": password}]
        if bind != "sasl":
            raise TableError(f"{given.place}: bind = {bind} is not supported: use yes, no or sasl")
        if given.number("sasl_minssf", 0) > 0 and not safe:
            raise TableError(f"{given.place}: sasl_minssf wants start_tls = yes, ldaps: or ldapi: here")
        asked = given.text("sasl_authz_id")
        known = {
            "EXTERNAL": asked, "GSSAPI": (None, asked or None),
            "DIGEST-MD5": (given.text("sasl_realm") or None, user, password, asked or None),
            "PLAIN": (asked or None, user, password),
        }  # fmt: skip
        usual = ["DIGEST-MD5", *(["PLAIN"] if safe else [])] if user else ["EXTERNAL"]
        wanted = [name.upper() for name in given.words("sasl_mechs")] or usual
        chosen = [name for name in wanted if name in known]
        if not chosen:
            raise TableError(f"{given.place}: sasl_mechs: choose from {', '.join(known)}")
        return [
            {"authentication": ldap3.SASL, "sasl_mechanism": name, "sasl_credentials": known[name]} for name in chosen
        ]

    def _tls(self, ldap3: Any) -> Any:
        given = self.parameters
        try:
            return ldap3.Tls(
                validate=ssl.CERT_REQUIRED if given.flag("tls_require_cert", False) else ssl.CERT_NONE,
                ca_certs_file=given.text("tls_ca_cert_file") or None,
                ca_certs_path=given.text("tls_ca_cert_dir") or None,
                local_certificate_file=given.text("tls_cert") or None,
                local_private_key_file=given.text("tls_key") or None,
                ciphers=given.text("tls_cipher_suite") or None,
            )
        except ldap3.core.exceptions.LDAPException as error:
            raise TableError(f"{given.place}: TLS: {error}") from None

    async def ask_database(self, key: str) -> str | None:
        base, filter = self._base.of_key(key, quote_dn), self._filter.of_key(key, quote_filter)
        if base is None or filter is None:
            return None
        if not filter.startswith("("):
            filter = f"({filter})"
        first = Search(base, filter, self._scope, self._attributes)
        return self.joined(await self._pool.run(lambda connection: list(self._values(connection, first, 0))), key)

    def _values(self, connection: LdapConnection, search: Search, depth: int) -> Iterator[str]:
        if depth > self._recursion_limit:
            raise Refused("Recursion limit exceeded")
        entries = connection.search(search, self._dereference, self._size_limit)
        if entries is None:
            if depth:
                return
            raise Refused(f"Search base '{search.base}' not found")
        for entry in entries:
            yield from self._of_entry(connection, entry, search.attributes, depth)

    def _of_entry(
        self, connection: LdapConnection, entry: Entry, wanted: Attributes, depth: int
    ) -> Iterator[str]:
        present = {name for name, values in entry.items() if values}
        if present & wanted.terminal:
            for name in entry:
                if name in wanted.terminal:
                    yield from entry[name]
            return
        plain = wanted.ordinary if present & wanted.special else wanted.ordinary | wanted.leaf
        for name, values in entry.items():
            if name in wanted.special:
                for value in values:
                    yield from self._values(connection, self._search_of(value), depth + 1)
            elif name in plain:
                yield from values

    def _search_of(self, reference: str) -> Search:
        """What a DN or an LDAP URL (RFC 4516) refers to."""
        if not reference.lower().startswith("ldap://"):
            return Search(reference, ANY_ENTRY, "BASE", self._attributes)
        parts = reference[7:].partition("/")[2].split("?")
        base, names, scope, filter = (unquote(part) for part in (parts + [""] * 4)[:4])
        attributes = self._attributes
        if names and names != "*":
            attributes = attributes.only(frozenset(name.strip().lower() for name in names.split(",")))
        return Search(base, filter or ANY_ENTRY, _SCOPES.get(scope.lower(), "BASE"), attributes)


_TLS = (
    "tls_ca_cert_file", "tls_ca_cert_dir", "tls_cert", "tls_key", "tls_cipher_suite", "tls_require_cert",
)  # fmt: skip


def _uri(word: str, port: int) -> str:
    if "://" in word:
        return word.rstrip("/") if word.startswith("ldapi://") else word
    host, colon, number = word.rpartition(":")
    return f"ldap://{word}" if colon and number.isdigit() and ":" not in host else f"ldap://{word}:{port}"
