"""What a fax address says: numbers, cover page, when and how.

The local part is a number alone, or attributes between slashes, the first of which may stand without one (RFC 2846,
3191 and 3192, and what other gateways have always taken):

    +49-30-123456                       /fax=+4930123456/
    fax=+4930123456                     FAX=+12025550123/T33S=1/ATTN=Ann_Smith
    /FAX=+4930123456/FAX=+4989654321/NOTE=As_agreed/TIME=2200/PRIO=low/

    FAX     a number; several make several faxes.  "-", ".", blanks and parentheses in it say nothing
    T33S    sub-address of the number before it (ITU-T T.33): digits and "#"
    POSTD   what is dialled after the call was answered: digits, "*", "#", "p" and "w" (pause)
    TO, ATTN, ORG, OFNO, OFNA, STR, ADDR, ADDU, ADDL, POB, ZIP, CO, NOTE    for the cover page; "_" is a blank
    COVER   yes or no
    RES     fine or normal
    PRIO    high, normal or low
    TIME    not before: HHMM (today or tomorrow), or YYYYMMDDTHHMM, local time

``parse`` raises BadAddress, one line for the sender, for whatever it does not understand.  Nothing that it returns as a
number holds anything but digits, "*", "#", "," (a pause) and a "+" in front.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace

LONGEST = 1000
MOST_NUMBERS = 20
LONGEST_TEXT = 200
LONGEST_NUMBER = 40

TEXTS = frozenset({
    "TO", "ATTN", "ORG", "OFNO", "OFNA", "STR", "ADDR", "ADDU", "ADDL", "POB", "ZIP", "CO", "NOTE",
})
PRIORITIES = frozenset({"high", "normal", "low"})

_ATTRIBUTE = re.compile(r"([A-Za-z][A-Za-z0-9]{0,9})=(.*)\Z", re.DOTALL)
_SILENT = re.compile(r"[-.() ]")
_NUMBER = re.compile(r"\+?[0-9*#]{1,40}\Z")
_SUBADDRESS = re.compile(r"[0-9#]{1,20}\Z")
_POST_DIAL = re.compile(r"[0-9*#pPwW]{1,40}\Z")
_MOMENT = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})[Tt]([0-9]{2}):?([0-9]{2})\Z")
_HOUR = re.compile(r"([0-9]{2}):?([0-9]{2})\Z")
_PAUSES = str.maketrans({"p": ",", "P": ",", "w": ",", "W": ","})


class BadAddress(Exception):
    """One line of printable ASCII."""

    def __init__(self, text: str) -> None:
        super().__init__(text.encode("ascii", "replace").decode("ascii"))


@dataclass(slots=True, frozen=True)
class Called:
    """A number as it stands in the address, without what says nothing."""

    number: str
    subaddress: str = ""
    post_dial: str = ""


@dataclass(slots=True, frozen=True)
class Address:
    numbers: tuple[Called, ...]
    texts: dict[str, str] = field(default_factory=dict)
    """For the cover page, by the names above."""
    cover: bool | None = None
    resolution: str = ""
    priority: str = "normal"
    when: str = ""
    """TIME, checked."""


def parse(local: str) -> Address:
    """``local``: the local part, unquoted."""
    if len(local) > LONGEST:
        raise BadAddress("fax address is too long")
    if not local.isprintable():
        raise BadAddress("fax address with a character that cannot be printed")
    if "=" not in local:
        return Address((Called(_number(local)),))
    numbers: list[Called] = []
    found = Address(())
    for part in local.removeprefix("/").removesuffix("/").split("/"):
        match = _ATTRIBUTE.match(part)
        if match is None:
            raise BadAddress(f'"{part[:40]}" is no attribute of a fax address')
        name, value = match[1].upper(), match[2]
        if name == "FAX":
            if len(numbers) == MOST_NUMBERS:
                raise BadAddress(f"more than {MOST_NUMBERS} numbers in one fax address")
            numbers.append(Called(_number(value)))
        elif name in ("T33S", "POSTD"):
            if not numbers:
                raise BadAddress(f"{name}= stands in front of all numbers")
            numbers[-1] = _with(numbers[-1], name, value)
        else:
            found = _attribute(found, name, value)
    if not numbers:
        raise BadAddress("no fax number in the recipient address")
    return replace(found, numbers=tuple(numbers))


def _number(text: str) -> str:
    if text.startswith("+"):
        text = text.replace("(0)", "")  # the trunk prefix, as people write it
    number = _SILENT.sub("", text)
    if not number:
        raise BadAddress("no fax number in the recipient address")
    if text.startswith("-"):
        raise BadAddress("fax number that begins with a dash")
    if not _NUMBER.match(number):
        raise BadAddress(f'"{text[:40]}" is no fax number')
    return number


def _with(called: Called, name: str, value: str) -> Called:
    if name == "T33S":
        if not _SUBADDRESS.match(value):
            raise BadAddress("T33S= takes digits")
        return replace(called, subaddress=value)
    if not _POST_DIAL.match(value):
        raise BadAddress("POSTD= takes digits, *, #, p and w")
    return replace(called, post_dial=value.translate(_PAUSES))


def _attribute(found: Address, name: str, value: str) -> Address:
    word = value.lower()
    if name in TEXTS:
        if len(value) > LONGEST_TEXT:
            raise BadAddress(f"{name}= is too long")
        return replace(found, texts={**found.texts, name: value.replace("_", " ").strip()})
    if name == "COVER" and word in ("yes", "no"):
        return replace(found, cover=word == "yes")
    if name == "RES" and word in ("fine", "normal"):
        return replace(found, resolution=word)
    if name == "PRIO" and word in PRIORITIES:
        return replace(found, priority=word)
    if name == "TIME" and (_HOUR.match(value) or _MOMENT.match(value)):
        moment_of(value, 0.0)
        return replace(found, when=value)
    raise BadAddress(f'"{name[:10]}={value[:40]}" is not understood in a fax address')


def moment_of(when: str, now: float) -> float:
    """TIME as seconds since the epoch; the next such hour from now on, or that very moment."""
    today = time.localtime(now)
    if match := _HOUR.match(when):
        hour, minute = int(match[1]), int(match[2])
        year, month, day = today[:3]
    elif match := _MOMENT.match(when):
        year, month, day, hour, minute = map(int, match.groups())
    else:
        raise BadAddress(f'"{when[:40]}" is no time')
    if not (hour < 24 and minute < 60 and 1 <= month <= 12 and 1 <= day <= 31 and 1970 <= year <= 2200):
        raise BadAddress(f'"{when[:40]}" is no time')
    moment = time.mktime((year, month, day, hour, minute, 0, 0, 0, -1))
    if _HOUR.match(when) and moment < now - 60:
        moment = time.mktime((year, month, day + 1, hour, minute, 0, 0, 0, -1))
    return moment
