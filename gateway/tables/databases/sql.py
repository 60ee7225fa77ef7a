"""sqlite:, pgsql: and mysql: tables; sqlite_table(5), pgsql_table(5), mysql_table(5).

What the three have in common: the query, from ``query`` or from the parameters of old, quoted by the database's own
rules, and each column of each row as a result.  PostgreSQL wants the package psycopg, MySQL and MariaDB want PyMySQL;
they are imported when a table is opened.
"""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, absolute
from gateway.tables.databases.pool import Host, Lost, Refused
from gateway.tables.databases.table import DatabaseTable, as_text
from gateway.tables.databases.template import Template

Rows = Sequence[Sequence[object]]


class SqlConnection(Protocol):
    def quote(self, text: str) -> str: ...

    def query(self, text: str) -> Rows: ...

    def close(self) -> None: ...


def driver(name: str, extra: str) -> ModuleType:
    """Raises TableError."""
    try:
        return import_module(name)
    except ImportError:
        raise TableError(f"the package {name} is not installed: pip install 'mailgateway[{extra}]'") from None


class SqlTable(DatabaseTable):
    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec, environment)
        self._query = Template(self._query_text(), "query")
        key, hosts = self.hosts(spec)
        self._pool = self.databases.pool((spec.type, *key), hosts, self.limits)

    def hosts(self, spec: Spec) -> tuple[tuple[object, ...], list[Host]]:
        """What tells one database from another, and where it is."""
        raise NotImplementedError

    def _query_text(self) -> str:
        given = self.parameters
        query = given.text("query")
        if query:
            return query
        if function := given.text("select_function"):
            return f"SELECT {function}('%s')"
        table, field = given.required("table"), given.required("select_field")
        conditions = given.text("additional_conditions")
        return f"SELECT {field} FROM {table} WHERE {given.required('where_field')}='%s' {conditions}".rstrip()

    async def ask_database(self, key: str) -> str | None:
        if self._query.of_key(key, str) is None:
            return None

        def ask(connection: SqlConnection) -> Rows:
            return connection.query(self._query.of_key(key, connection.quote) or "")

        rows = await self._pool.run(ask)
        return self.joined((as_text(value) for row in rows for value in row), key)

    def _inet_hosts(self, connect: Callable[..., SqlConnection], port: int) -> list[Host]:
        """Those of ``hosts``, in a random order, sockets first."""
        hosts: list[tuple[bool, Host]] = []
        for word in self.parameters.words("hosts", "localhost"):
            if word.startswith("unix:"):
                hosts.append((True, Host(word, _bound(connect, path=word[5:]))))
                continue
            name = word.removeprefix("inet:")
            host, colon, number = name.rpartition(":")
            if not colon or (":" in host and not name.startswith("[")):
                host, number = name, str(port)
            if not number.isdigit():
                raise TableError(f"{self.parameters.place}: bad port in hosts: {word}")
            hosts.append((False, Host(word, _bound(connect, host=host.strip("[]"), port=int(number)))))
        random.shuffle(hosts)
        return [host for _, host in sorted(hosts, key=lambda pair: not pair[0])]


def _bound(connect: Callable[..., SqlConnection], **place: Any) -> Callable[[], SqlConnection]:
    return lambda: connect(**place)


# --- SQLite --------------------------------------------------------------------------------------------------------


class _Sqlite:
    """Read only.  A file that was replaced is opened anew."""

    def __init__(self, path: str, timeout: float) -> None:
        import sqlite3
        from urllib.parse import quote

        self._errors = sqlite3.Error
        self._path = path
        try:
            self._file = self._identity()
            self._connection = sqlite3.connect(
                f"file:{quote(path)}?mode=ro", uri=True, timeout=timeout, check_same_thread=False, isolation_level=None
            )
        except OSError as error:
            raise Lost(str(error.strerror)) from None
        except sqlite3.Error as error:
            raise Lost(str(error)) from None

    def _identity(self) -> tuple[int, int]:
        found = os.stat(self._path)
        return found.st_dev, found.st_ino

    def quote(self, text: str) -> str:
        return text.replace("'", "''")

    def query(self, text: str) -> Rows:
        try:
            if self._identity() != self._file:
                raise Lost("the file was replaced")
            return self._connection.execute(text).fetchall()
        except OSError as error:
            raise Lost(f"{self._path}: {error.strerror}") from None
        except self._errors as error:
            raise Lost(f"SQLite: {error}") from None

    def close(self) -> None:
        self._connection.close()


class SqliteTable(SqlTable):
    def hosts(self, spec: Spec) -> tuple[tuple[object, ...], list[Host]]:
        path = str(absolute(self.parameters.required("dbpath"), spec.settings))
        return (path,), [Host(path, lambda: _Sqlite(path, self.limits.timeout))]


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


class _Pgsql:
    def __init__(self, psycopg: Any, timeout: int, **options: Any) -> None:
        self._psycopg = psycopg
        try:
            self._connection = psycopg.connect(
                autocommit=True, connect_timeout=max(timeout, 2), tcp_user_timeout=timeout * 1000,
                application_name="mailgateway", **options,
            )  # fmt: skip
            self._connection.execute(f"SET statement_timeout = {timeout * 1000}")
        except psycopg.Error as error:
            raise Lost(_one_line(error)) from None
        self._escaping = psycopg.pq.Escaping(self._connection.pgconn)

    def quote(self, text: str) -> str:
        try:
            raw = text.encode(self._connection.info.encoding)
        except UnicodeEncodeError:
            raise Refused("the key cannot be written in the database's encoding") from None
        quoted: bytes = self._escaping.escape_string(raw)
        return quoted.decode(self._connection.info.encoding)

    def query(self, text: str) -> Rows:
        try:
            cursor = self._connection.execute(text)
            rows: Rows = cursor.fetchall() if cursor.description else []
            return rows
        except self._psycopg.Error as error:
            if self._connection.closed or self._connection.broken:
                raise Lost(_one_line(error)) from None
            raise Refused(_one_line(error)) from None

    def close(self) -> None:
        self._connection.close()


class PgsqlTable(SqlTable):
    def hosts(self, spec: Spec) -> tuple[tuple[object, ...], list[Host]]:
        psycopg = driver("psycopg", "pgsql")
        given = self.parameters
        places = given.words("hosts", "localhost")
        uris = [word for word in places if word.startswith(("postgresql://", "postgres://"))]
        account = {
            "user": given.text("user") or None, "password": given.text("password") or None,
            "dbname": given.text("dbname") or None, "client_encoding": given.text("encoding", "UTF8"),
        }  # fmt: skip
        timeout = int(self.limits.timeout)

        def connect(path: str = "", host: str = "", port: int = 5432) -> SqlConnection:
            return _Pgsql(psycopg, timeout, host=path or host, port=port, **account)

        def connect_uri(uri: str) -> Callable[[], SqlConnection]:
            return lambda: _Pgsql(psycopg, timeout, conninfo=uri, **account)

        if uris:
            hosts = [Host(_without_password(uri), connect_uri(uri)) for uri in uris]
        else:
            hosts = self._inet_hosts(connect, 5432)
        return (*places, *account.values()), hosts


# --- MySQL, MariaDB ------------------------------------------------------------------------------------------------


class _Mysql:
    def __init__(self, pymysql: Any, require_rows: bool, **options: Any) -> None:
        self._pymysql = pymysql
        self._require_rows = require_rows
        try:
            self._connection = pymysql.connect(autocommit=True, **options)
        except (pymysql.Error, OSError, RuntimeError) as error:
            raise Lost(_one_line(error)) from None

    def quote(self, text: str) -> str:
        quoted: str = self._connection.escape(text)
        return quoted[1:-1]

    def query(self, text: str) -> Rows:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(text)
                if cursor.description is None:
                    if self._require_rows:
                        raise Refused("the query returned no result set")
                    return []
                rows: Rows = cursor.fetchall()
                while cursor.nextset():
                    pass
                return rows
        except (self._pymysql.Error, OSError) as error:
            if not self._connection.open or isinstance(error, (self._pymysql.InterfaceError, OSError)):
                raise Lost(_one_line(error)) from None
            raise Refused(_one_line(error)) from None

    def close(self) -> None:
        try:
            self._connection.close()
        except (self._pymysql.Error, OSError):
            pass


class MysqlTable(SqlTable):
    def hosts(self, spec: Spec) -> tuple[tuple[object, ...], list[Host]]:
        pymysql = driver("pymysql", "mysql")
        given = self.parameters
        timeout = max(int(self.limits.timeout), 1)
        options: dict[str, Any] = {
            "user": given.text("user") or None, "password": given.text("password"),
            "database": given.text("dbname") or None, "charset": given.text("charset", "utf8mb4"),
            "connect_timeout": timeout, "read_timeout": timeout, "write_timeout": timeout,
        }  # fmt: skip
        if given.has("option_file") or given.text("option_group"):
            options["read_default_file"] = given.text("option_file", "/etc/mysql/my.cnf")
            options["read_default_group"] = given.text("option_group", "client")
        key = (*given.words("hosts", "localhost"), *options.values(), *map(given.text, _TLS))
        context = self._tls()
        if context is not None:
            options["ssl"] = context
        require_rows = given.flag("require_result_set", True)

        def connect(path: str = "", host: str = "", port: int = 3306) -> SqlConnection:
            place: dict[str, Any] = {"host": host, "port": port}
            if path or host == "localhost":
                place = {"unix_socket": path or _default_socket()}
            return _Mysql(pymysql, require_rows, **place, **options)

        return (*key, require_rows), self._inet_hosts(connect, 3306)

    def _tls(self) -> ssl.SSLContext | None:
        given = self.parameters
        if not any(map(given.text, _TLS[:5])):
            return None
        try:
            authority = given.text("tls_CAfile") or None, given.text("tls_CApath") or None
            context = ssl.create_default_context(cafile=authority[0], capath=authority[1])
            context.check_hostname = given.flag("tls_verify_cert", False)
            if not any(authority) and not context.check_hostname:
                context.verify_mode = ssl.CERT_NONE
            if given.text("tls_cert_file"):
                context.load_cert_chain(given.text("tls_cert_file"), given.text("tls_key_file") or None)
            if given.text("tls_ciphers"):
                context.set_ciphers(given.text("tls_ciphers"))
        except (OSError, ValueError) as error:
            raise TableError(f"{given.place}: TLS: {error}") from None
        return context


_TLS = ("tls_cert_file", "tls_key_file", "tls_CAfile", "tls_CApath", "tls_ciphers", "tls_verify_cert")


def _default_socket() -> str:
    known = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")
    return next((path for path in known if os.path.exists(path)), known[0])


def _without_password(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _one_line(error: BaseException) -> str:
    text = str(error.args[-1]) if error.args and isinstance(error.args[0], int) else str(error)
    return " ".join(text.split())
