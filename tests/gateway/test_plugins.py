"""Providers of other packages: those of examples/plugins, found and used as a site would; and those that fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

import twisted.plugins
from gateway import plugins
from gateway.addresses.rewriting import Rewriting
from gateway.config import from_texts
from gateway.content.checks import Checks
from gateway.interfaces import (
    IAddressRewriter,
    ILookupTable,
    IMessageFilter,
    IRestriction,
    ITransport,
    TableError,
)
from gateway.log import MemoryLog
from gateway.policy.registry import RestrictionError, Toolbox, compile_list
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO
from gateway.rehearsal import rehearse
from tests.gateway.tables.support import Bench, now

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"

BAD = '''
from zope.interface import implementer
from twisted.plugin import IPlugin
from gateway.interfaces import (
    IAddressRewriter, IGatewayPlugin, IMessageFilter, IRestriction, ITransport, Place,
)

@implementer(IAddressRewriter, IMessageFilter, IRestriction)
class Failing:
    name = "failing"
    places = frozenset(Place)

    def __init__(self, argument):
        self.argument = argument

    def result(self):
        if self.argument == "number":
            return 5
        raise RuntimeError("does not work")

    async def rewrite(self, address, place):
        return self.result()

    async def header(self, name, value):
        return self.result()

    async def body(self, line):
        return self.result()

    async def check(self, session):
        return self.result()

@implementer(IPlugin, IGatewayPlugin)
class Maker:
    name = "failing"

    def __init__(self, kind):
        self.kind = kind

    def make(self, settings, argument):
        return Failing(argument)

one, two, three, four = map(Maker, (IAddressRewriter, IMessageFilter, IRestriction, ITransport))
'''


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "twisted" / "plugins"
    folder.mkdir(parents=True)
    drop_in = EXAMPLES / "twisted" / "plugins" / "example_plugins.py"
    (folder / "drop_in_of_examples.py").write_text(drop_in.read_text())
    (folder / "drop_in_that_fails.py").write_text(BAD)
    monkeypatch.setattr(twisted.plugins, "__path__", [str(folder)])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in [name for name in sys.modules if "drop_in_" in name or name.startswith("example_plugins")]:
        del sys.modules[name]


def settings_of(text: str = "", folder: Path = Path("/")) -> Any:
    return from_texts(f"compatibility_level = 3.6\nmyhostname = mx.my.domain\n{text}", "", folder).settings


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (ILookupTable, "holidays:/x"), (IAddressRewriter, "one-name:my.domain"), (IRestriction, "full-helo"),
        (IMessageFilter, "subjects:a,b"), (ITransport, "folder:/x"),
    ],
)  # fmt: skip
def test_examples_keep_their_contracts(kind: Any, word: str) -> None:
    assert verifyObject(kind, plugins.make(kind, word, settings_of()))


@pytest.mark.parametrize(
    ("kind", "word", "problem"),
    [
        (ITransport, "nosuch", 'no plug-in "nosuch" for delivery is installed'),
        (IMessageFilter, "one-name:x", 'no plug-in "one-name" for message filters is installed'),
        (IAddressRewriter, "one-name", 'plug-in "one-name": say which domain: python:one-name:DOMAIN'),
        (ITransport, "failing", 'plug-in "failing" makes something that is no ITransport'),
    ],
)
def test_mistakes_are_one_clear_line(kind: Any, word: str, problem: str) -> None:
    with pytest.raises(plugins.PluginError) as raised:
        plugins.make(kind, word, settings_of())
    assert str(raised.value) == problem


def test_the_table(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.write_text("Joe@my.domain ann@my.domain\n")
    bench = Bench()
    assert bench.ask(f"python:holidays:{away}", "JOE@my.domain") == "ann@my.domain"
    assert bench.ask(f"python:holidays:{away}", "ann@my.domain") is None
    away.unlink()
    with pytest.raises(TableError, match="No such file"):
        bench.ask(f"python:holidays:{away}", "joe@my.domain")


@ensureDeferred
async def test_the_rewriter() -> None:
    bench = Bench()
    settings = settings_of("address_rewriters = python:one-name:my.domain")
    rewriting = Rewriting.from_settings(settings, bench.tables)
    assert await rewriting.envelope_sender("joe+lists@host.my.domain") == "joe@my.domain"
    assert await rewriting.envelope_sender("joe+lists@other.domain") == "joe+lists@other.domain"
    assert await rewriting.envelope_recipient("joe+lists@host.my.domain") == "joe+lists@host.my.domain"
    assert await rewriting.header("From", b"Joe <joe@host.my.domain>", "local") == b"Joe <joe@my.domain>"


@ensureDeferred
async def test_the_filter() -> None:
    text = "message_filters = python:subjects:lottery, python:subjects:invoice"
    checks = Checks.of(settings_of(text), Bench().tables)
    assert checks is not None and checks.header is not None and checks.body is not None
    assert await checks.header("Subject: your INVOICE") == "HOLD the subject has invoice"
    assert await checks.header("Subject: =?utf-8?b?bG90dGVyeQ==?=") == "HOLD the subject has lottery"
    assert await checks.header("Subject: hello") is None
    assert await checks.header("X-Other: lottery") is None
    assert await checks.body("lottery") is None


@ensureDeferred
async def test_tables_come_before_filters() -> None:
    text = "header_checks = pcre:{{/lottery/ WARN}}\nmessage_filters = python:subjects:lottery"
    checks = Checks.of(settings_of(text), Bench().tables)
    assert checks is not None and checks.header is not None
    assert await checks.header("Subject: lottery") == "WARN"


def toolbox(log: MemoryLog) -> Toolbox:
    bench = Bench()
    unused: Any = None
    return Toolbox(settings_of(), log, bench.tables, unused, unused, unused)


def restrict(word: str, log: MemoryLog, **session: Any) -> Any:
    (item,) = compile_list(toolbox(log), [word], "smtpd_helo_restrictions", "check_helo_access")
    return now(item.restriction.check(Session(**session)))


def test_the_restriction() -> None:
    log = MemoryLog()
    assert restrict("python:full-helo", log, helo="mail.example.com") is DUNNO
    assert restrict("python:full-helo", log, helo="[IPv6:::1]") is DUNNO
    verdict = restrict("python:full-helo:go away", log, helo="mail")
    assert verdict.reply == "550 5.7.1 <mail>: Helo command rejected: go away"


@pytest.mark.parametrize(
    ("word", "said"), [("failing", "RuntimeError: does not work"), ("failing:number", "no Verdict")]
)
def test_a_failing_restriction_defers(word: str, said: str) -> None:
    log = MemoryLog()
    assert restrict(f"python:{word}", log).reply == "451 4.3.5 Server configuration error"
    assert said in log.text


def test_other_words_are_tables_still() -> None:
    with pytest.raises(RestrictionError, match="specify one of"):
        compile_list(toolbox(MemoryLog()), ["python:nosuch"], "smtpd_data_restrictions")


@pytest.mark.parametrize(
    ("word", "problem"),
    [("failing", "failing: RuntimeError: does not work"), ("failing:number", "the answer is no text")],
)
@ensureDeferred
async def test_failing_rewriters_and_filters_defer(word: str, problem: str) -> None:
    rewriting = Rewriting.from_settings(settings_of(f"address_rewriters = python:{word}"), Bench().tables)
    with pytest.raises(TableError, match=problem):
        await rewriting.envelope_sender("joe@my.domain")
    checks = Checks.of(settings_of(f"message_filters = python:{word}"), Bench().tables)
    assert checks is not None and checks.header is not None and checks.body is not None
    for ask in (checks.header("Subject: x"), checks.body("x")):
        with pytest.raises(TableError, match=problem):
            await ask


@pytest.mark.parametrize(
    ("main", "master", "problem"),
    [
        ("address_rewriters = python:nosuch", "", 'no plug-in "nosuch" for address rewriting is installed'),
        ("message_filters = pcre:x", "", 'message_filters: need python:NAME, not "pcre:x"'),
        ("", "keep unix - n n - - python folder\n", "say which directory: python folder:DIRECTORY"),
        ("", "keep unix - n n - - python\n", "need the name of one plug-in behind python"),
    ],
)
def test_the_check_finds_what_cannot_be_made(tmp_path: Path, main: str, master: str, problem: str) -> None:
    main = f"queue_directory = {tmp_path}\ninet_interfaces = 127.0.0.1\nalias_maps =\n{main}"
    master = "127.0.0.1:2525 inet n - n - - smtpd\nsmtp unix - - n - - smtp\nlocal unix - n n - - local\n" + master
    assert any(problem in str(one) for one in rehearse(from_texts(main, master, tmp_path), Clock()))
