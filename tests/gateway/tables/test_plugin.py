"""python:NAME: a table that another package brings, by a drop-in as twisted.plugin finds it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import twisted.plugins
from gateway.interfaces import TableError
from gateway.tables import Unavailable
from tests.gateway.tables.support import Bench

DROP_IN = '''
from zope.interface import implementer
from twisted.plugin import IPlugin
from gateway.interfaces import IGatewayPlugin, ILookupTable

@implementer(ILookupTable)
class Reversing:
    folds_case = True
    whole_keys = False

    def __init__(self, name):
        self.name = name

    async def lookup(self, key):
        if key == "broken":
            raise RuntimeError("does not work")
        if key == "number":
            return 5
        return self.name + key[::-1] if key else None

@implementer(IPlugin, IGatewayPlugin)
class Maker:
    kind = ILookupTable

    def __init__(self, name):
        self.name = name

    def make(self, settings, argument):
        if self.name == "failing":
            raise ValueError("no such thing")
        return object() if self.name == "wrong" else Reversing(argument)

one = Maker("reversing")
two = Maker("failing")
three = Maker("wrong")
'''


@pytest.fixture
def drop_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / "tables_of_a_test.py").write_text(DROP_IN)
    monkeypatch.setattr(twisted.plugins, "__path__", [str(folder)])
    yield
    sys.modules.pop("twisted.plugins.tables_of_a_test", None)


@pytest.mark.usefixtures("drop_in")
def test_a_table_of_another_package() -> None:
    bench = Bench()
    assert bench.ask("python:reversing:x-", "ABC") == "x-cba"
    assert bench.ask("python:reversing", "") is None
    assert bench.tables.open("python:reversing", bench.settings).folds_case


@pytest.mark.usefixtures("drop_in")
def test_its_mistakes_defer() -> None:
    bench = Bench()
    with pytest.raises(TableError, match="python:reversing: RuntimeError: does not work"):
        bench.ask("python:reversing", "broken")
    with pytest.raises(TableError, match="the answer is no text"):
        bench.ask("python:reversing", "number")


@pytest.mark.usefixtures("drop_in")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("failing", 'plug-in "failing": no such thing'),
        ("wrong", 'plug-in "wrong" makes something that is no ILookupTable'),
        ("nosuch", 'no plug-in "nosuch" for lookup tables is installed'),
    ],
)
def test_one_that_cannot_be_made(name: str, why: str) -> None:
    bench = Bench()
    table = bench.tables.open(f"python:{name}", bench.settings)
    assert isinstance(table, Unavailable) and table.why == why
