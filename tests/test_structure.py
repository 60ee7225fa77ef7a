"""The picture of who knows whom, kept true: folders and packages import only what stands before them."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Inside gateway/, in the order in which mail passes; each imports only those before it.
ORDER = ["config", "tables", "addresses", "policy", "content", "smtpd", "uucp", "scheduler", "notices", "commands"]
# Modules beside them that know none of them.
FREE = {
    "reactor",
    "interfaces", "log", "link", "listeners", "privileges", "master", "dns", "dns_client", "dns_filter", "dns_files",
    "control", "control_server", "sending", "plugins", "credentials", "unix_port", "capacity", "clock", "succession",
    "compression", "certificates", "tls_words", "tls_facts", "tls_trace",
}
# The composition: the only modules that know everyone.
COMPOSITION = {"app", "parts", "role", "roles", "rehearsal", "administration", "pickup", "explain", "following",
               "fax_services", "uucp_services"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules("spool"), ids=name)
def test_the_spool_knows_nobody(path):
    assert [one for one in imports(path) if one.split(".")[0] in ("gateway", "transports")] == []


@pytest.mark.parametrize("path", modules("transports"), ids=name)
def test_transports_know_values_addresses_and_parameters(path):
    allowed = ("gateway.interfaces", "gateway.addresses", "gateway.config", "gateway.tables", "gateway.sending",
               "gateway.clock", "gateway.compression", "gateway.certificates", "gateway.tls_words",
               "gateway.tls_facts", "gateway.tls_trace")
    found = [one for one in imports(path) if one.startswith("gateway.") and not one.startswith(allowed)]
    assert found == []


@pytest.mark.parametrize("path", modules("gateway"), ids=name)
def test_the_gateways_packages_import_what_stands_before_them(path):
    parts = path.relative_to(ROOT / "gateway").parts
    here = parts[0].removesuffix(".py")
    if here in COMPOSITION or here == "commands":
        return
    before = ORDER[: ORDER.index(here) + 1] if here in ORDER else []
    free = FREE if here in ORDER else FREE | {"config"}
    found = [
        one for one in imports(path)
        if one.startswith("gateway.") and one.split(".")[1] not in {*before, *free}
        or one.split(".")[0] == "transports"
    ]
    assert found == []


@pytest.mark.parametrize("path", modules("twisted"), ids=name)
def test_the_plugin_imports_nothing_of_ours(path):
    assert [one for one in imports(path) if one.split(".")[0] in ("gateway", "transports", "spool")] == []
