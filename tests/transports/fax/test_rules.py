"""Who may fax, whither, and for how much."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from gateway.config import ConfigError, Service, Settings
from gateway.interfaces import BOUNCED, DEFERRED, TableError
from gateway.log import MemoryLog
from gateway.tables.registry import Tables
from tests.transports.test_uucp_service import USER
from transports.fax import service as service_module
from transports.fax.budget import MOST_SENDERS, Spent, Use
from transports.fax.rules import Allowed, Caller, Rules
from transports.fax.service import Budget, FaxService
from transports.guard import Refusal

NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
SETTINGS = Settings({"queue_directory": "/", "mail_owner": "postfix-test"})
ANN = Caller("ann@b", login="ann")
HERE = Caller("joe@b", local=True)
STRANGER = Caller("a@far", client="192.0.2.1")


class Second:
    def seconds(self) -> float:
        return 0.0


def service_of(*words: str, settings: Settings = SETTINGS) -> FaxService:
    given = [*words] if any(word.startswith("country=") for word in words) else ["country=49", *words]
    service = Service("fax", "unix", command="fax", arguments=[f"user={USER}", *given], path="master.cf", line=7)
    return FaxService.from_service(service, settings)


def rules_of(*words: str, senders: str = "", zones: str = "", networks: str = "") -> Rules:
    tables = Tables(clock=Second(), log=MemoryLog())

    def opened(text: str) -> list[Any]:
        return [tables.open(f"inline:{{{text}}}", SETTINGS)] if text else []

    async def in_networks(address: str) -> bool:
        return address == networks

    return Rules(service_of(*words), opened(senders), opened(zones), in_networks if networks else None)


async def judged(rules: Rules, local: str = "+4930123456", caller: Caller = ANN, use: Use | None = None) -> Any:
    found = await rules.judge(local, caller, use or Use(), NOON)
    return found.reason if isinstance(found, Refusal) else [call.number.name for call in found.calls]


NOTICES, OTHERS = "notices are not faxed", "this sender may not fax to +4930123456"
NOT_LISTED = "only who has logged in, or is listed, may send faxes"


@pytest.mark.parametrize("caller, senders, networks, answer", [
    (ANN, "", "", None), (HERE, "", "", None), (STRANGER, "", "", NOT_LISTED), (Caller(""), "", "", NOTICES),
    (Caller("", login="ann"), "", "", NOTICES), (STRANGER, "192.0.2.1=OK", "", None),
    (STRANGER, "a@far=ok", "", None), (STRANGER, "@far=OK", "", None), (STRANGER, "@b=OK", "", NOT_LISTED),
    (STRANGER, "", "192.0.2.1", None), (STRANGER, "192.0.2.1=DUNNO", "", NOT_LISTED),
    (ANN, "{ann=REJECT not you}", "", "not you"), (HERE, "{joe@b=REJECT}", "", "this sender may not send faxes"),
    (ANN, "{ann@b=REJECT}", "", None),  # it is the login that counts
    (ANN, "{ann=numbers=!+4989,+49}", "", None), (ANN, "{ann=numbers=+43}", "", OTHERS),
    (ANN, "{ann=numbers=!+4930,+49}", "", OTHERS),
])
@ensureDeferred
async def test_who(caller: Caller, senders: str, networks: str, answer: str | None) -> None:
    assert await judged(rules_of(senders=senders, networks=networks), caller=caller) == (answer or ["+4930123456"])


NOT_CALLED, DEAR = "is in a zone that is not called", "is an expensive number"
ZONES = "{+49=0.02}, {+4930=0}, {+43=0.04}, {+4989=REJECT not Munich}, {+49180=1.99}, {+49137=0.5 premium}"


@pytest.mark.parametrize("number, words, zones, answer", [
    ("+4930123456", [], "", ""), ("+12025550123", [], "", NOT_CALLED), ("+12025550123", ["international=yes"], "", ""),
    ("+49180512345", ["international=yes"], "", DEAR), ("+4930123456", [], ZONES, ""),
    ("+12025550123", ["international=yes"], ZONES, NOT_CALLED), ("+43123456789", [], ZONES, ""),
    ("+498912345678", [], ZONES, "not Munich"), ("+49180512345", [], ZONES, DEAR), ("+491371234567", [], ZONES, ""),
    ("200", ["extensions=[2-9]00"], ZONES, ""), ("nobody", [], "", '"nobody" is no fax number'),
])
@ensureDeferred
async def test_whither(number: str, words: list[str], zones: str, answer: str) -> None:
    found = await judged(rules_of(*words, zones=zones), number)
    assert found == [number] if not answer else found.endswith(answer)


@ensureDeferred
async def test_tables_that_make_no_sense() -> None:
    for tables in ({"zones": "+49=cheap"}, {"senders": "{ann=pages=many}"}, {"senders": "{ann=colour=red}"}):
        with pytest.raises(TableError):
            await judged(rules_of(**tables))


@ensureDeferred
async def test_what_it_costs() -> None:
    rules = rules_of("fax_cost=1", "sender_cost=3", zones="+49=0.40")
    use = Use()
    allowed = await rules.judge("fax=+4930123456/fax=+4989123456", ANN, use, NOON)
    assert isinstance(allowed, Allowed) and allowed.spending(2, 60.0) == Spent(2, 4, 1.6)
    dear = rules.affordable(allowed, ANN, use, 3, NOON)
    assert dear == Refusal("5.7.1", "fax to +4930123456 costs some 1.20, more than 1.00", BOUNCED)
    use.take(ANN.key, allowed.spending(2, 60.0), NOON)
    again = rules.affordable(allowed, ANN, use, 2, NOON)
    assert again == Refusal("4.7.1", "the 3.00 for calls of today for a sender are used up", DEFERRED)


@ensureDeferred
async def test_budgets_of_a_day() -> None:
    rules, use = rules_of("sender_faxes=2", "faxes=3", senders="{boss=faxes=9}, {joe@b=pages=1}"), Use()
    assert await judged(rules, "fax=030123456/fax=030123457/fax=030123458", use=use) == (
        "fax is more than the 2 faxes of a day for a sender")
    use.take("ann", Spent(2, 2), NOON)
    assert await judged(rules, use=use) == "the 2 faxes of today for a sender are used up"
    assert await judged(rules, use=use, caller=Caller("x", login="boss")) == ["+4930123456"]
    use.take("boss", Spent(1, 1), NOON)
    assert await judged(rules, use=use, caller=HERE) == "the 3 faxes of today for all senders are used up"
    use.give_back("boss", Spent(1, 1), NOON)
    allowed = await rules.judge("030123456", HERE, use, NOON)
    assert isinstance(allowed, Allowed) and isinstance(rules.affordable(allowed, HERE, use, 2, NOON), Refusal)
    assert use.room("ann", Budget(2), Budget(), Spent(1, 1), NOON + 86400) is None


def test_use_survives_a_restart_and_has_an_end() -> None:
    use = Use()
    use.take("ann", Spent(2, 5, 0.5), NOON)
    again = Use.of(use.published(NOON))
    assert again.published(NOON) == {"day": "2026-11-24", "use": {"ann": (2, 5, 0.5), "": (2, 5, 0.5)}}
    assert Use.of({}).published(NOON)["use"] == {} and again.published(NOON + 86400)["use"] == {}
    for number in range(MOST_SENDERS + 5):
        again.take(str(number), Spent(1), NOON)
    assert len(again.published(NOON)["use"]) == MOST_SENDERS
    assert again.published(NOON)["use"][""][0] == MOST_SENDERS + 5
    with pytest.raises((ValueError, TypeError, KeyError)):
        Use.of({"day": "x", "use": {"a": 1}})


@pytest.mark.parametrize("words, why", [
    (["colour=red"], 'unknown attribute "colour=red"'), (["country="], "country= is missing"),
    (["country=XX"], "country=XX is no country"), (["area=x"], "area=x cannot be dialled"),
    (["outside=9;"], "outside=9; cannot be dialled"), (["extensions=["], "extensions=["),
    (["host=a b"], "host=a b is no host"), (["host=x:0"], "host=x:0 is no host"),
    (["host=x:65536"], "host=x:65536 is no host"), (["dial=sip"], "dial=sip is not known"),
    (["provider=phaxio"], "secret= is missing"), (["pages=many"], "pages=many is no number"),
    (["cost=-1"], "cost=-1 is no amount"), (["warn=soon"], "warn=soon is no time"),
    (["template=/nowhere"], "template=/nowhere"), (["cover=maybe"], "cover=maybe"),
])
def test_what_is_wrong_with_a_service(words: list[str], why: str) -> None:
    with pytest.raises(ConfigError) as error:
        service_of(*words)
    assert f"service fax: {why}" in str(error.value) and "master.cf" in str(error.value)


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "lacking", lambda: ["WeasyPrint", "Pillow"])
    with pytest.raises(ConfigError, match="packages are not installed: WeasyPrint, Pillow"):
        service_of()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(ConfigError, match="package phonenumbers is not installed"):
        service_of()


def test_root_draws_nothing() -> None:
    service = Service("fax", "unix", command="fax", arguments=["user=root", "country=49"])
    with pytest.raises(ConfigError, match="root"):
        FaxService.from_service(service, SETTINGS)


def test_what_a_service_says() -> None:
    read = service_of("country=DE", "host=[::1]:4999", "login=gw", "size=1M", "max_pages=0", "killtime=1h", "cover=yes")
    assert (read.host, read.port, read.login) == ("::1", 4999, "gw")
    assert (read.wish.max_bytes, read.wish.max_pages, read.killtime, read.cover) == (1_000_000, 1000, 3600.0, "yes")
    assert (read.each, read.all) == (Budget(50, 200), Budget(500, 2000))
