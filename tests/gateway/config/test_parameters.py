from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from gateway.config import Settings, parameters
from gateway.config.parameters import FAMILIES, Parameter
from tests.gateway.config.postfix import needs_postfix, postconf

# What the gateway sets differently on purpose: its own places, and newer releases' defaults.
OWN_DEFAULTS = {
    "alias_maps", "config_directory", "data_directory", "html_directory", "mail_owner", "mydomain", "myhostname",
    "mynetworks", "process_id", "process_name", "queue_directory", "readme_directory", "setgid_group",
    "smtp_tls_security_level", "smtpd_forbid_bare_newline", "smtpd_forbid_unauth_pipelining", "syslog_name",
    "command_directory", "daemon_directory", "mail_version", "mail_release_date", "manpage_directory",
    "meta_directory", "sample_directory", "shlib_directory", "smtpd_relay_restrictions",
}  # fmt: skip


def reader(parameter: Parameter) -> str:
    return {"tables": "words"}.get(parameter.type, parameter.type)


def test_the_table_is_whole() -> None:
    names = list(parameters.table())
    assert names == sorted(names)
    for parameter in parameters.table().values():
        assert parameter.effect in ("must", "later", "never"), parameter
        assert parameter.type in ("text", "raw", "number", "seconds", "flag", "words", "tables"), parameter
        assert parameter.family, parameter
        assert parameter.meaning and "\t" not in parameter.meaning, parameter


@pytest.mark.parametrize("level", ["0", "2", "3.6", "3.11"])
def test_every_default_reads_as_its_type(level: str) -> None:
    settings = Settings({"compatibility_level": level})
    for parameter in parameters.table().values():
        getattr(settings, reader(parameter))(parameter.name)


def test_every_family_reads_as_its_type() -> None:
    settings = Settings()
    for suffix in FAMILIES:
        parameter = parameters.family_member("any-service", suffix)
        getattr(settings, reader(parameter))(parameter.name)


def test_find() -> None:
    assert parameters.find("relayhost") is parameters.table()["relayhost"]
    found = parameters.find("my_own_service_destination_rate_delay")
    assert found is not None and found.default == "$default_destination_rate_delay"
    assert parameters.find("my_own_name") is None


def test_the_table_loads_fast() -> None:
    parameters.table.cache_clear()
    began = time.perf_counter()
    parameters.table()
    assert time.perf_counter() - began < 0.1  # about 2 ms; the limit leaves room for a busy machine


@needs_postfix
def test_every_parameter_of_postfix_is_known_with_its_default(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("")
    master = "uucp unix - n n - - pipe\nsmtp unix - - n - - smtp\nlocal unix - - n - - local\n"
    (tmp_path / "master.cf").write_text(master)
    told = dict(line.split(" =", 1) for line in postconf(tmp_path, "-d").splitlines())
    missing = [name for name in told if parameters.find(name) is None]
    assert missing == []
    differing = {
        name: (value.strip(), parameters.find(name))
        for name, value in told.items()
        if name not in OWN_DEFAULTS and value.split() != Settings().raw(name).split()
    }
    assert differing == {}


def test_every_name_that_the_code_asks_for_is_in_the_table() -> None:
    """But for a database's own parameters, which stand in a file of their own or behind the table's name, and for the
    attributes that a line of master.cf has given."""
    root = Path(parameters.__file__).parents[2]
    asked = re.compile(r"(?<!given)\.(?:text|raw|number|seconds|flag|words|is_set)\(\s*\"([A-Za-z0-9_]+)\"")
    unknown = {
        (name, path.name)
        for folder in ("gateway", "transports")
        for path in (root / folder).rglob("*.py")
        for name in asked.findall(path.read_text("utf-8"))
        if parameters.find(name) is None and path.parent.name not in ("config", "databases")
    }
    assert unknown == set()
