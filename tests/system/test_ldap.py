"""ldap: tables whose server wants to know who asks, and who show that they are who they are: SASL, TLS, sockets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.interfaces import TableError
from tests.gateway.tables.support import Bench
from tests.system.conftest import open_folder
from tests.system.databases import SecureSlapd

pytestmark = [
    pytest.mark.system, pytest.mark.programs("slapd", "slapadd", "openssl", package="slapd openssl"),
    pytest.mark.skipif(importlib.util.find_spec("ldap3") is None, reason="the driver ldap3 is not installed"),
]  # fmt: skip

PASSWORD = "bind_dn = cn=reader,dc=example\nbind_pw = geheim\n"
SASL = "bind = sasl\nbind_dn = reader\nbind_pw = geheim\n"
CHECKED = "tls_require_cert = yes\n"
PLUGINS = any(Path("/usr/lib").glob("*/sasl2/libdigestmd5.so"))


@pytest.fixture(scope="module")
def server() -> Iterator[SecureSlapd]:
    with open_folder() as folder:
        made = SecureSlapd(folder / "slapd")
        made.start()
        yield made
        made.stop()


def answer(server: SecureSlapd, text: str) -> str:
    """What the table says, or why it does not."""
    plain, safe, here = f"ldap://localhost:{server.port}", f"ldaps://localhost:{server.tls_port}", server.folder
    text = text.format(plain=plain, safe=safe, socket=server.socket, ca=f"tls_ca_cert_file = {here}/cert.pem\n")
    path = here / "table.cf"
    path.write_text(server.table() + text)
    bench = Bench(here)
    try:
        return bench.ask(f"ldap:{path}", "joe@a.example") or ""
    except TableError as error:
        return str(error)
    finally:
        bench.tables.close()


@pytest.mark.parametrize(
    "text",
    [
        "server_host = {plain}\n" + PASSWORD,
        "server_host = {plain}\nstart_tls = yes\n{ca}" + PASSWORD + CHECKED,
        "server_host = {safe}\n{ca}" + PASSWORD + CHECKED,
        "server_host = {socket}\nbind = sasl\n",
    ],
)
def test_who_asks_is_known(server: SecureSlapd, text: str) -> None:
    assert answer(server, text) == "jane@b.example"


def test_a_certificate_of_ours(server: SecureSlapd) -> None:
    own = f"tls_cert = {server.folder}/cert.pem\ntls_key = {server.folder}/key.pem\n"
    assert answer(server, "server_host = {safe}\nbind = sasl\nsasl_mechs = EXTERNAL\n" + own) == "jane@b.example"


@pytest.mark.skipif(not PLUGINS, reason="the server has no SASL mechanisms (package libsasl2-modules)")
@pytest.mark.parametrize(
    "text",
    [
        "server_host = {plain}\nsasl_mechs = DIGEST-MD5\n", "server_host = {plain}\nsasl_mechs = SCRAM-SHA-1, PLAIN\n",
        "server_host = {plain}\nsasl_mechs = EXTERNAL DIGEST-MD5\n", "server_host = {plain}\n",
        "server_host = {plain}\nstart_tls = yes\nsasl_minssf = 56\nsasl_mechs = PLAIN\n",
    ],
)
def test_sasl_with_a_password(server: SecureSlapd, text: str) -> None:
    assert answer(server, text + SASL) == "jane@b.example"
    assert "bind: " in answer(server, text + SASL.replace("geheim", "falsch"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server_host = {plain}\nbind = no\n", "insufficientAccessRights"),
        ("server_host = {plain}\n" + PASSWORD.replace("geheim", "falsch"), "bind: invalidCredentials"),
        ("server_host = {safe}\n" + PASSWORD + CHECKED, "certificate verify failed"),
        ("server_host = {plain}\nsasl_minssf = 1\n" + SASL, "sasl_minssf wants start_tls = yes"),
        ("server_host = {plain}\nsasl_mechs = FOO\n" + SASL, "sasl_mechs: choose from EXTERNAL"),
        ("server_host = {plain}\nbind = kerberos\n", "bind = kerberos is not supported"),
    ],
)
def test_why_there_is_no_answer(server: SecureSlapd, text: str, problem: str) -> None:
    assert problem in answer(server, text)
