"""Real database servers for tests, each in a folder, on a free port, with one table: ROWS."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.system.gateway import PATH, as_user, environment, free_port, poll

ROWS = {"joe@a.example": "jane@b.example", "o'hara@a.example": "quote@b.example", 'b\\"x@a.example': "odd@b.example"}
SEARCH = f"{PATH}:/usr/sbin:/sbin:" + ":".join(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")))


def program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH)


class Server:
    """``package``, ``programs``: what it takes; subclasses say how it is made, started and filled."""

    package = ""
    programs: tuple[str, ...] = ()
    user: str | None = None
    end = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        folder.chmod(0o777)
        self.make()

    def make(self) -> None:
        """Files that are needed before it can start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def fill(self) -> None:
        raise NotImplementedError

    def table(self) -> str:
        """The content of the table's file."""
        raise NotImplementedError

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            command = as_user(self.user if os.geteuid() == 0 else None, self.command())
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), cwd=self.folder)
        poll(self._answers, lambda: (self.folder / "log").read_text(errors="replace"))

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.end)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def run(self, *command: str, stdin: str = "") -> str:
        words = as_user(self.user if os.geteuid() == 0 else None, [program(command[0]) or command[0], *command[1:]])
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, env=environment(), cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def talk(self, data: bytes) -> None:
        """Say something to the port, and wait for the answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(data)
            client.recv(4096)


class Postgres(Server):
    package, programs, user = "postgresql", ("initdb", "postgres", "psql"), "nobody"
    end = signal.SIGINT  # does not wait for clients

    def make(self) -> None:
        (self.folder / "password").write_text("secret\n")
        self.run("initdb", "-D", "data", "-A", "scram-sha-256", "-U", "mail", "--pwfile=password", "-N", "-E", "UTF8")

    def command(self) -> list[str]:
        return [program("postgres") or "", "-D", "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"]

    def fill(self) -> None:
        values = ", ".join(f"('{key.replace(chr(39), chr(39) * 2)}', '{value}')" for key, value in ROWS.items())
        poll(lambda: self._sql("SELECT 1"), "PostgreSQL answers queries")
        assert self._sql(f"CREATE TABLE aliases (name TEXT, target TEXT); INSERT INTO aliases VALUES {values}")

    def _sql(self, text: str) -> bool:
        return self._psql(text).returncode == 0

    def _psql(self, text: str) -> subprocess.CompletedProcess[str]:
        place = f"postgresql://mail:secret@127.0.0.1:{self.port}/postgres"
        return subprocess.run([program("psql") or "", "-qAt", "-c", text, place], capture_output=True, text=True)

    def connections(self) -> int:
        """Of gateways."""
        return int(self._psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mailgateway'").stdout)

    def table(self) -> str:
        return (
            f"hosts = 127.0.0.1:{self.port}\nuser = mail\npassword = secret\ndbname = postgres\n"
            "query = SELECT target FROM aliases WHERE name = '%s'\n"
        )


class Maria(Server):
    package, programs, user = "mariadb-server", ("mariadb-install-db", "mariadbd", "mariadb"), "nobody"

    def make(self) -> None:
        self.run("mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data",
                 "--auth-root-authentication-method=normal", "--skip-test-db")  # fmt: skip

    def command(self) -> list[str]:
        return [
            program("mariadbd") or "", "--no-defaults", f"--datadir={self.folder}/data", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid",
            "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip

    def fill(self) -> None:
        values = ", ".join("('{}', '{}')".format(key.replace("\\", "\\\\").replace("'", "\\'"), value)
                           for key, value in ROWS.items())  # fmt: skip
        self.run("mariadb", "--no-defaults", f"--socket={self.folder}/socket", "-u", "root", stdin=(
            "CREATE DATABASE mail; CREATE USER mail@'%' IDENTIFIED BY 'secret'; GRANT ALL ON mail.* TO mail@'%';"
            f"USE mail; CREATE TABLE aliases (name TEXT, target TEXT); INSERT INTO aliases VALUES {values};"
            "CREATE PROCEDURE look(IN k TEXT) SELECT target FROM aliases WHERE name = k;"
        ))  # fmt: skip

    def table(self) -> str:
        return (
            f"hosts = unix:{self.folder}/none 127.0.0.1:{self.port}\nuser = mail\npassword = secret\ndbname = mail\n"
            "query = CALL look('%s')\n"
        )


class Slapd(Server):
    package, programs, user = "slapd", ("slapd", "slapadd"), "nobody"

    def make(self) -> None:
        (self.folder / "data").mkdir()
        (self.folder / "data").chmod(0o777)
        (self.folder / "slapd.conf").write_text(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
            "include /etc/ldap/schema/inetorgperson.schema\n"
            "modulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nmaxsize 10485760\n"
            f"suffix dc=example\nrootdn cn=admin,dc=example\nrootpw secret\ndirectory {self.folder}/data\n"
        )
        people = "".join(
            f"\ndn: cn=p{number},dc=example\nobjectClass: inetOrgPerson\ncn: p{number}\nsn: x\n"
            f"uid: {key}\nmail: {value}\n"
            for number, (key, value) in enumerate(ROWS.items())
        )
        group = (
            "\ndn: cn=all,dc=example\nobjectClass: groupOfNames\nobjectClass: extensibleObject\ncn: all\n"
            "uid: all@a.example\nmail: group@b.example\nmember: cn=p0,dc=example\nmember: cn=none,dc=example\n"
            "labeledURI: ldap:///dc=example?mail?sub?(mail=quote@*)\n"
        )
        self.run("slapadd", "-f", "slapd.conf", stdin=(
            f"dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: x\n{people}{group}"
        ))  # fmt: skip

    def command(self) -> list[str]:
        return [program("slapd") or "", "-f", "slapd.conf", "-h", f"ldap://127.0.0.1:{self.port}", "-d", "0"]

    def fill(self) -> None:
        pass

    def table(self) -> str:
        return (
            f"server_host = ldap://127.0.0.1:{self.port}\nsearch_base = dc=example\nquery_filter = (uid=%s)\n"
            "bind = yes\nbind_dn = cn=admin,dc=example\nbind_pw = secret\nresult_attribute =\n"
            "leaf_result_attribute = mail\nspecial_result_attribute = member, labeledURI\n"
        )


class SecureSlapd(Slapd):
    """Answers only "reader", who may come with a password, by SASL, by a certificate, or by the socket."""

    def make(self) -> None:
        super().make()
        self.tls_port = free_port()
        self.run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        )  # fmt: skip
        reader, here = "cn=reader,dc=example", self.folder
        conf = here / "slapd.conf"
        conf.write_text(conf.read_text().replace("database mdb\n", (
            f"TLSCertificateFile {here}/cert.pem\nTLSCertificateKeyFile {here}/key.pem\n"
            f"TLSCACertificateFile {here}/cert.pem\nTLSVerifyClient try\nsasl-secprops none\nsasl-host localhost\n"
            f'authz-regexp "uid=([^,]*),.*cn=auth" "cn=$1,dc=example"\n'
            f'authz-regexp "gidNumber=.*cn=peercred,cn=external,cn=auth" "{reader}"\n'
            f'authz-regexp "cn=localhost" "{reader}"\ndatabase mdb\n'
        )) + (
            "access to attrs=userPassword by anonymous auth by * none\n"
            f'access to * by dn.exact="{reader}" read by anonymous auth by * none\n'
        ))  # fmt: skip
        self.run("slapadd", "-f", "slapd.conf", stdin=(
            f"dn: {reader}\nobjectClass: inetOrgPerson\ncn: reader\nsn: x\nuserPassword: geheim\n"
        ))  # fmt: skip

    def command(self) -> list[str]:
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port} {self.socket}"
        return [program("slapd") or "", "-f", "slapd.conf", "-h", urls, "-d", "0"]

    @property
    def socket(self) -> str:
        return "ldapi://" + f"{self.folder}/socket".replace("/", "%2F")

    def table(self) -> str:
        return "search_base = dc=example\nquery_filter = (uid=%s)\nresult_attribute = mail\n"


class Redis(Server):
    package, programs = "redis-server", ("redis-server",)

    def command(self) -> list[str]:
        return [program("redis-server") or "", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
                "--requirepass", "secret"]  # fmt: skip

    def fill(self) -> None:
        def command(*words: str) -> bytes:
            return f"*{len(words)}\r\n".encode() + b"".join(
                f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words
            )

        for key, value in ROWS.items():
            self.talk(command("AUTH", "secret") + command("SELECT", "3") + command("SET", f"mail:{key}", value))

    def table(self) -> str:
        return (
            f"server = inet:127.0.0.1:{self.port}\npassword = secret\ndatabase = 3\n"
            "key_format = mail:%s\nretry_pause = 0\n"
        )


class Memcached(Server):
    package, programs, user = "memcached", ("memcached",), "nobody"

    def command(self) -> list[str]:
        return [program("memcached") or "", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "8"]

    def fill(self) -> None:
        for key, value in ROWS.items():
            self.talk(f"set mail:{key} 0 0 {len(value)}\r\n{value}\r\n".encode())

    def table(self) -> str:
        return f"memcache = inet:127.0.0.1:{self.port}\nkey_format = mail:%s\nretry_pause = 0\n"
