"""From a number as people write it to one that may be dialled: E.164, by the site's own country and area.

    Plan(region="DE", area="30")        +49 30 123456, 030 123456, 123456, 0049 30 123456 → +4930123456

A number must be a valid one of its country's plan (package ``phonenumbers``), or an extension that the site has
described; emergency numbers are never dialled.  ``read`` raises BadAddress.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from transports.fax.address import BadAddress, Called

NATIONAL, INTERNATIONAL, PREMIUM, EXTENSION = "national", "international", "premium", "extension"

EMERGENCY = frozenset({"112", "911"})
"""Wherever one is."""

_DIALLED = re.compile(r"\+?[0-9*#,]+\Z")
_GLOBAL = "001"
"""The region of numbers that no country has: satellites, networks of ships and planes."""


class Missing(Exception):
    """The package is not installed."""


@dataclass(slots=True, frozen=True)
class Number:
    dial: str
    """For the fax server: digits, "*", "#", ","; "+" in front."""
    name: str
    """E.164, or the extension: for people, tables and counts."""
    kind: str
    subaddress: str = ""

    @property
    def line(self) -> str:
        """What makes a call the same call."""
        return f"{self.dial}/{self.subaddress}"


def region_of(country: str) -> str:
    """"49", "+49" or "de" → "DE".  Raises Missing, and ValueError for what is no country."""
    phones = _phones()
    code = country.removeprefix("+")
    found = phones.region_code_for_country_code(int(code)) if code.isascii() and code.isdigit() else country.upper()
    if found not in phones.SUPPORTED_REGIONS:
        raise ValueError(f"{country} is no country")
    return str(found)


@dataclass(slots=True, frozen=True)
class Plan:
    region: str
    """The country, in two letters."""
    area: str = ""
    """Its area code, without the prefix; "" = all numbers must have theirs."""
    extensions: re.Pattern[str] | None = None
    """What an extension looks like: dialled as it is."""
    national: bool = False
    """Numbers are handed over as they are dialled from here, instead of with "+" in front."""
    outside: str = ""
    """In front of all but extensions."""
    post_dial: bool = False
    """Digits after the answer are allowed."""

    def read(self, called: Called) -> Number:
        text = called.number
        if called.post_dial and not self.post_dial:
            raise BadAddress("nothing may be dialled after the answer here")
        if self.extensions is not None and self.extensions.fullmatch(text):
            self._refuse_emergency(text)
            return Number(_checked(text + called.post_dial), text, EXTENSION, called.subaddress)
        if "*" in text or "#" in text:
            raise BadAddress(f"{text} is no fax number")
        self._refuse_emergency(text)
        found = self._parse(text)
        phones = _phones()
        if self.area:  # the fax server may leave the area code out
            self._refuse_emergency(phones.national_significant_number(found).removeprefix(self.area))
        name = phones.format_number(found, phones.PhoneNumberFormat.E164)
        dial = name
        if self.national:
            written = phones.format_out_of_country_calling_number(found, self.region)
            dial = re.sub(r"[^0-9]", "", written)
        return Number(
            _checked(self.outside + dial + called.post_dial), name, self._kind(found), called.subaddress
        )

    def _parse(self, text: str) -> Any:
        """The number; the first reading that is a valid one."""
        phones = _phones()
        trunk = phones.ndd_prefix_for_region(self.region, True) or ""
        complete = text[0] in "+0" or (trunk and text.startswith(trunk))
        readings = [f"{trunk}{self.area}{text}", text] if self.area and not complete else [text]
        for reading in readings:
            try:
                found = phones.parse(reading, self.region)
            except phones.NumberParseException:
                continue
            if not found.extension and phones.is_valid_number(found):
                return found
        raise BadAddress(f"{text} cannot be a telephone number")

    def _kind(self, found: Any) -> str:
        phones = _phones()
        kind, region = phones.number_type(found), phones.region_code_for_number(found)
        types = phones.PhoneNumberType
        usual = (types.FIXED_LINE, types.MOBILE, types.FIXED_LINE_OR_MOBILE, types.VOIP, types.UAN, types.TOLL_FREE)
        if kind not in usual or (region in (None, _GLOBAL) and kind != types.TOLL_FREE):
            return PREMIUM
        if kind == types.TOLL_FREE and region == _GLOBAL:
            return NATIONAL
        return NATIONAL if region == self.region else INTERNATIONAL

    def _refuse_emergency(self, digits: str) -> None:
        if digits in EMERGENCY or _phones().connects_to_emergency_number(digits, self.region):
            raise BadAddress(f"{digits} is an emergency number")


def _checked(dial: str) -> str:
    """The last gate before a telephone line."""
    if not _DIALLED.match(dial):
        raise BadAddress("number with something that cannot be dialled")
    return dial


def _phones() -> Any:
    try:
        import phonenumbers
    except ImportError:
        raise Missing("package phonenumbers is not installed: pip install mailgateway[fax]") from None
    return phonenumbers
