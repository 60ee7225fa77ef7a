from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import ConfigError, Settings
from gateway.config import settings as module
from gateway.config.settings import Place, UnknownParameter, split_words


def test_values_defaults_and_references() -> None:
    found = Settings({"myhostname": "mail.example.org", "mydestination": "$myhostname, a.example"})
    assert found.text("mydomain") == "example.org"
    assert found.text("myorigin") == "mail.example.org"
    assert found.words("mydestination") == ["mail.example.org", "a.example"]
    assert found.raw("mydestination") == "$myhostname, a.example"
    assert found.is_set("mydestination") and not found.is_set("myorigin")


def test_unknown_name_is_a_mistake_of_the_program() -> None:
    with pytest.raises(UnknownParameter):
        Settings().text("no_such_thing")
    assert issubclass(UnknownParameter, KeyError)


def test_own_names() -> None:
    assert Settings({"own": "x", "relayhost": "[$own]"}).text("relayhost") == "[x]"


def test_undefined_reference_is_empty() -> None:
    assert Settings({"relayhost": "a$nope.b"}).text("relayhost") == "a.b"


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5 * 86400), ("5s", 5), ("2M", 120), ("1h", 3600), ("1d", 86400), ("1w", 604800)]
)
def test_seconds_take_the_unit_of_the_default(text: str, seconds: float) -> None:
    assert Settings({"maximal_queue_lifetime": text}).seconds("maximal_queue_lifetime") == seconds


def test_default_units() -> None:
    found = Settings({"delay_warning_time": "4", "uucp_time_limit": "7", "smtpd_timeout": "30"})
    assert found.seconds("delay_warning_time") == 4 * 3600
    assert found.seconds("uucp_time_limit") == 7
    assert found.seconds("smtpd_timeout") == 30
    assert Settings({"stress": "yes"}).seconds("smtpd_timeout") == 10


@pytest.mark.parametrize(
    ("name", "value", "reader", "what"),
    [
        ("message_size_limit", "1k", "number", "bad numerical configuration: message_size_limit = 1k"),
        ("message_size_limit", "", "number", "bad numerical configuration: message_size_limit = "),
        ("biff", "maybe", "flag", "bad boolean configuration: biff = maybe"),
        ("smtp_helo_timeout", "3q", "seconds", "bad time value or unit: 3q"),
        ("smtp_helo_timeout", "-3s", "seconds", "bad time value or unit: -3s"),
        ("mynetworks", "{a", "words", 'missing "}"'),
        ("relayhost", "${x", "text", "truncated macro reference"),
    ],
)
def test_bad_values_name_their_place(name: str, value: str, reader: str, what: str) -> None:
    found = Settings({name: value}, places={name: Place("/etc/x/main.cf", 7)})
    with pytest.raises(ConfigError) as caught:
        getattr(found, reader)(name)
    assert str(caught.value).startswith("/etc/x/main.cf, line 7: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags() -> None:
    assert Settings({"biff": "Yes"}).flag("biff") is True
    assert Settings({"biff": "no"}).flag("biff") is False


def test_a_circle_is_found() -> None:
    with pytest.raises(ConfigError, match=r"refers to itself \(relayhost -> foo -> relayhost\)"):
        Settings({"relayhost": "$foo", "foo": "${relayhost?x}"}).text("relayhost")


def test_after_a_circle_other_values_still_work() -> None:
    found = Settings({"relayhost": "$relayhost", "myorigin": "x"})
    with pytest.raises(ConfigError):
        found.text("relayhost")
    assert found.text("myorigin") == "x"


def test_a_long_chain_is_an_error_not_a_crash() -> None:
    values = {f"v{number}": f"$v{number + 1}" for number in range(5000)} | {"v5000": "end"}
    with pytest.raises(ConfigError, match="too deeply"):
        Settings(values).text("v0")


def test_raw_parameters_keep_their_names() -> None:
    found = Settings({"mailbox_command": 'procmail -a "$EXTENSION"'})
    assert found.text("mailbox_command") == 'procmail -a "$EXTENSION"'
    assert "$home" in found.text("forward_path")
    assert found.text("postscreen_expansion_filter") == found.text("smtpd_expansion_filter")


def test_overrides_make_another_settings() -> None:
    first = Settings({"myhostname": "a.example", "relayhost": "r"}, directory=Path("/etc/x"))
    other = first.with_overrides({"relayhost": "$myhostname"}, Place("master.cf", 3))
    assert (first.text("relayhost"), other.text("relayhost")) == ("r", "a.example")
    assert other.directory == Path("/etc/x")
    assert other.place("relayhost") == Place("master.cf", 3)
    assert first.with_overrides({}) is first


def test_transport_families() -> None:
    found = Settings(
        {
            "default_destination_concurrency_limit": "7",
            "slow_destination_concurrency_limit": "1",
            "fax_time_limit": "2h",
        }
    )
    assert found.transport_number("slow", "destination_concurrency_limit") == 1
    assert found.transport_number("smtp", "destination_concurrency_limit") == 7
    assert found.transport_number("local", "destination_concurrency_limit") == 2
    assert found.transport_number("local", "destination_recipient_limit") == 1
    assert found.transport_number("smtp", "initial_destination_concurrency") == 5
    assert found.transport_seconds("fax", "time_limit") == 7200
    assert found.transport_seconds("uucp", "time_limit") == 1000
    assert found.transport_text("smtp", "destination_concurrency_negative_feedback") == "1"
    with pytest.raises(UnknownParameter):
        found.transport_number("smtp", "no_such_suffix")


def test_compatibility_level_decides_over_defaults() -> None:
    assert Settings({"compatibility_level": "3.6"}).text("smtp_tls_security_level") == ""
    assert Settings({"compatibility_level": "3.11"}).text("smtp_tls_security_level") == "may"
    assert Settings().flag("append_dot_mydomain") is True
    assert Settings({"compatibility_level": "2"}).flag("append_dot_mydomain") is False


def test_newer_defaults() -> None:
    found = Settings()
    assert found.text("smtpd_forbid_bare_newline") == "normalize"
    assert found.flag("smtpd_forbid_unauth_pipelining") is True
    assert found.number("smtpd_client_ipv6_prefix_length") == 84
    assert found.text("syslog_name") == "mailgateway"
    assert found.text("log_format") == "text"


def test_hostname_gets_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert Settings().text("myhostname") == "box.localdomain"
    assert Settings().text("mydomain") == "localdomain"
    assert Settings({"mydomain": "example.org"}).text("myhostname") == "box.example.org"
    monkeypatch.setattr("socket.gethostname", lambda: "box.example.net")
    assert Settings().text("myhostname") == "box.example.net"


def test_myorigin_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mailname"
    path.write_text("mail.example\nmore\n")
    assert Settings({"myorigin": str(path)}).text("myorigin") == "mail.example"
    with pytest.raises(ConfigError, match="cannot be read"):
        Settings({"myorigin": str(tmp_path / "none")}).text("myorigin")


def test_split_words() -> None:
    assert split_words(" a, b\n\tc,,d ") == ["a", "b", "c", "d"]
    assert split_words("x {a, b} inline:{ c = d, { e = f } },g") == ["x", "{a, b}", "inline:{ c = d, { e = f } }", "g"]
    assert split_words("") == []
    for bad in ("{a", "a}", "{a}}"):
        with pytest.raises(ValueError):
            split_words(bad)


@given(st.text(alphabet="ab{} ,\n$", max_size=40))
@settings(max_examples=200)
def test_words_or_config_error(text: str) -> None:
    try:
        words = Settings({"mynetworks": text}).words("mynetworks")
    except ConfigError:
        return
    assert all(words)


@given(st.lists(st.from_regex(r"[a-z!/.:]{1,6}|\{[a-z ,]{0,6}\}", fullmatch=True), max_size=6))
def test_words_come_back(words: list[str]) -> None:
    assert split_words(", ".join(words)) == words


def test_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = module.expand
    monkeypatch.setattr(module, "expand", lambda *args: calls.append(1) or real(*args))
    found = Settings({"relayhost": "$a", "a": "x"})
    assert [found.text("relayhost") for _ in range(3)] == ["x"] * 3
    assert len(calls) == 1
