"""What Postfix 3.7 answers to odd keys, asked of all kinds of tables: odd/golden.json, made by odd.record.

Where the gateway differs, deliberately, it is said here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.interfaces import TableError
from gateway.tables import Unavailable
from tests.gateway.tables.support import Bench, now

ODD = Path(__file__).parent / "odd"
GOLDEN: dict[str, dict[str, Any]] = json.loads((ODD / "golden.json").read_text("utf-8"))

OURS = {"debug:static:x": ["x"], "proxy:static:x": ["x"]}
"""Postfix 3.7 has no debug: yet; and no proxymap service runs where the answers were recorded."""


def answer(bench: Bench, spec: str, key: str) -> list[str] | str:
    table = bench.open(spec)
    if isinstance(table, Unavailable):
        return table.why
    try:
        value = now(table.ask(key))
    except TableError as error:
        return str(error)
    return [] if value is None else [value]


@pytest.mark.parametrize("spec", GOLDEN)
def test_answers(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN", "Environ Value")
    bench = Bench(ODD)
    for key, expected in GOLDEN[spec]["answers"].items():
        found = answer(bench, spec, key)
        if spec in OURS:
            assert found == OURS[spec], key
        elif isinstance(expected, str):
            assert isinstance(found, str), (key, expected)
            what = re.sub(r"^open (?:database )?|^table .*: query error: Application error", "", expected)
            assert what in found, key
        else:
            assert found == expected, key


@pytest.mark.parametrize("spec", [spec for spec in GOLDEN if "map.texthash" in spec or ":" in spec and "/" not in spec])
def test_what_is_wrong_is_told_with_its_line(spec: str) -> None:
    pattern = r"line (\d+):"
    table = Bench(ODD).open(spec)
    expected = {int(line) for text in GOLDEN[spec]["warnings"] for line in re.findall(pattern, text)}
    found = {} if isinstance(table, Unavailable) else {
        finding.line: finding.what for finding in table.findings() if finding.line
    }  # fmt: skip
    assert set(found) == expected
    said = "\n".join(GOLDEN[spec]["warnings"])
    for line, what in found.items():
        assert f"line {line}: {what.partition(' map: ')[2] or what}".removesuffix(": skipping this rule") in said
