from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.findings import ERROR, WARNING
from gateway.config.main_cf import parse


def values(text: str) -> dict[str, str]:
    return {name: entry.value for name, entry in parse(text, "main.cf").entries.items()}


def test_settings_comments_and_continuation() -> None:
    text = "# head\n\na = 1\nb=  two words  \n c   more\n# within\n\n\tagain\nempty =\nlast = x"
    assert values(text) == {"a": "1", "b": "two words   c   more\tagain", "empty": "", "last": "x"}


def test_lines_are_noted() -> None:
    entry = parse("# c\n\na =\n  b\n# d\n  c\nx = 1\n", "main.cf").entries["a"]
    assert (entry.first, entry.last) == (3, 6)


def test_value_keeps_hash_and_equals() -> None:
    assert values("a = b = c # d\n") == {"a": "b = c # d"}


def test_the_later_setting_counts_and_is_a_warning() -> None:
    file = parse("a = 1\nb = 2\na = 3\n", "/etc/x/main.cf")
    assert {name: entry.value for name, entry in file.entries.items()} == {"a": "3", "b": "2"}
    (finding,) = file.findings
    assert finding.severity == WARNING
    assert str(finding) == (
        "/etc/x/main.cf, line 3: overriding earlier entry: a=1: remove this one or the one in line 1"
    )


def test_missing_equals_is_an_error() -> None:
    for text in ("mynetworks\n", "foo bar = 1\n", "{ a = b }\n"):
        (finding,) = parse(text, "main.cf").findings
        assert finding.severity == ERROR
        assert finding.what == f"missing '=' after attribute name: \"{text.strip()}\""


def test_missing_name_is_an_error() -> None:
    (finding,) = parse("a = 1\n=5\n", "main.cf").findings
    assert (finding.severity, finding.line, finding.what) == (ERROR, 2, 'missing attribute name: "=5"')


def test_leading_blank_is_a_warning_and_skipped() -> None:
    file = parse("  a = 1\nb = 2\n", "main.cf")
    assert list(file.entries) == ["b"]
    assert [finding.severity for finding in file.findings] == [WARNING]


def test_windows_line_ends() -> None:
    assert values("a = 1\r\n\r\nb = 2\r\n") == {"a": "1", "b": "2"}


def test_nul_is_an_error() -> None:
    assert parse("a = x\0y\n", "main.cf").findings[0].severity == ERROR


@given(st.text(alphabet="ab= \t\n#$\r\0{}", max_size=80))
@settings(max_examples=200)
def test_any_text_parses(text: str) -> None:
    file = parse(text, "main.cf")
    for entry in file.entries.values():
        assert entry.name and not set(entry.name) & set(" \t\n=")
        assert entry.value == entry.value.strip()
        assert 1 <= entry.first <= entry.last <= text.count("\n") + 1


NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
VALUES = st.from_regex(r"([!-~]+( [!-~]+)*)?", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES))
@settings(max_examples=100)
def test_written_settings_come_back(wanted: dict[str, str]) -> None:
    assert values("".join(f"{name} = {value}\n" for name, value in wanted.items())) == wanted
