"""What a fax address says, and what can never come out of one."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.fax.address import Address, BadAddress, Called, moment_of, parse
from transports.fax.numbers import EXTENSION, INTERNATIONAL, NATIONAL, PREMIUM, Number, Plan, region_of

BERLIN = Plan("DE", "30", re.compile("[2-9][0-9]{2}"))
NEW_YORK = Plan("US", "212", national=True, outside="9,", post_dial=True)


@pytest.mark.parametrize("local, number", [
    ("+4930123456", "+4930123456"), ("030-12.34(56)", "030123456"), ("fax=+4930123456", "+4930123456"),
    ("/fax=+4930123456/", "+4930123456"), ("FAX=+49 (0)30 123456", "+4930123456"), ("0 (0)30", "0030"),
    ("*21#", "*21#"),
])
def test_one_number(local: str, number: str) -> None:
    assert parse(local) == Address((Called(number),))


def test_attributes() -> None:
    found = parse("FAX=+12025550123/T33S=1#2/POSTD=pp12w3/FAX=200/ATTN=Ann_Smith/org=ACME Inc/NOTE=/RES=normal/"
                  "PRIO=High/TIME=2200/COVER=no/")
    assert found.numbers == (Called("+12025550123", "1#2", ",,12,3"), Called("200"))
    assert found.texts == {"ATTN": "Ann Smith", "ORG": "ACME Inc", "NOTE": ""}
    assert (found.cover, found.resolution, found.priority, found.when) == (False, "normal", "high", "2200")


@pytest.mark.parametrize("local, why", [
    ("", "no fax number"), ("fax=", "no fax number"), ("/attn=x/", "no fax number"), ("-d911", "begins with a dash"),
    ("fax=-911", "begins with a dash"), ("secretary", "is no fax number"), ("911;id", "is no fax number"),
    ("+49+30", "is no fax number"), ("fax=+4930/x", "is no attribute"), ("fax=1//fax=2", "is no attribute"),
    ("fax=1/FOO=2", "not understood"), ("fax=1/PRIO=9", "not understood"), ("fax=1/TIME=soon", "not understood"),
    ("fax=1/TIME=2500", "is no time"), ("fax=1/TIME=20261301T0000", "is no time"), ("T33S=1/fax=1", "in front of"),
    ("fax=1/T33S=x", "takes digits"), ("fax=1/POSTD=A", "takes digits"), ("1" * 41, "is no fax number"),
    ("1" * 1001, "too long"), ("fax=1/NOTE=" + "x" * 201, "too long"), ("1\n2", "cannot be printed"),
    ("/" + "fax=1/" * 21, "more than 20"), ("fax=１２３", "is no fax number"),
])
def test_what_is_not_understood(local: str, why: str) -> None:
    with pytest.raises(BadAddress, match=re.escape(why)):
        parse(local)


@pytest.mark.parametrize("called, dial, name, kind", [
    ("+49305556789", "+49305556789", "+49305556789", NATIONAL), ("5556789", "+49305556789", "+49305556789", NATIONAL),
    ("0305556789", "+49305556789", "+49305556789", NATIONAL), ("00493012345", "+493012345", "+493012345", NATIONAL),
    ("+12025550123", "+12025550123", "+12025550123", INTERNATIONAL), ("200", "200", "200", EXTENSION),
    ("+49180512345", "+49180512345", "+49180512345", PREMIUM), ("+870773111632", *["+870773111632"] * 2, PREMIUM),
    ("+80012345678", "+80012345678", "+80012345678", NATIONAL),
])
def test_numbers_as_dialled_in_berlin(called: str, dial: str, name: str, kind: str) -> None:
    assert BERLIN.read(Called(called)) == Number(dial, name, kind)


@pytest.mark.parametrize("called, dial, kind", [
    ("5551234", "9,12125551234", NATIONAL), ("2025550123", "9,12025550123", NATIONAL),
    ("12025550123", "9,12025550123", NATIONAL), ("011493012345", "9,011493012345", INTERNATIONAL),
    ("+18095551234", "9,18095551234", INTERNATIONAL), ("+19005550123", "9,19005550123", PREMIUM),
])
def test_numbers_as_dialled_in_new_york(called: str, dial: str, kind: str) -> None:
    found = NEW_YORK.read(Called(called))
    assert (found.dial, found.kind) == (dial, kind)


def test_after_the_answer() -> None:
    called = Called("5551234", post_dial=",,12")
    assert NEW_YORK.read(called).dial == "9,12125551234,,12"
    with pytest.raises(BadAddress):
        BERLIN.read(called)


@pytest.mark.parametrize("text", [
    "110", "112", "+4930112", "+49112", "911", "+491", "+990123456", "*31#030123456", "20*", "01149301234",
])
def test_numbers_that_are_not_dialled(text: str) -> None:
    with pytest.raises(BadAddress):
        BERLIN.read(Called(text))


def test_countries() -> None:
    assert [region_of(one) for one in ("49", "+1", "de", "GB")] == ["DE", "US", "DE", "GB"]
    for wrong in ("0", "XX", "999", "", "Germany"):
        with pytest.raises(ValueError, match="is no country"):
            region_of(wrong)


NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize("when, hours", [
    ("2200", 10), ("22:00", 10), ("1200", 0), ("1159", -1 / 60), ("0800", 20), ("20261125T0800", 20),
    ("2026-11-25T08:00", 20), ("20261123T1200", -24),
])
def test_times(when: str, hours: float) -> None:
    assert (moment_of(when, NOON) - NOON) / 3600 == pytest.approx(hours)


letters = st.text(st.sampled_from("0123456789+*#,pPwW-.() /=;@\n\0`$\"'|&FAXfaxT33SPOSTDATTN１é"), max_size=60)


attributes = st.from_regex(
    r"/?(?:FAX=[-+0-9*#. ()]{1,15}(?:/(?:T33S=[0-9#]{1,5}|POSTD=[0-9pw]{1,5}|ATTN=[A-Z_]{1,9}))?/?){1,4}",
    fullmatch=True,
)


@given(st.one_of(letters, letters.map(lambda text: f"fax={text}"), st.text(max_size=40), attributes))
def test_nothing_but_what_can_be_dialled_comes_through(local: str) -> None:
    try:
        numbers = [plan.read(called) for called in parse(local).numbers for plan in (BERLIN, NEW_YORK)]
    except BadAddress as error:
        assert str(error).isprintable() and str(error).isascii()
        return
    for number in numbers:
        assert re.fullmatch(r"\+?[0-9*#,]+", number.dial) and re.fullmatch(r"\+?[0-9*#]+", number.name)
        assert re.fullmatch(r"[0-9#]*", number.subaddress)
