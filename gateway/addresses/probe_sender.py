"""The sender of address verification probes, which can change with time; address_verify_sender(_ttl) in postconf(5).

With a TTL the number of the present period stands behind the local part, in digits without vowels (base 31), so that
what strangers learn of it does not serve them long.  Whoever verifies our probes in turn asks about that address: it
is recognized in its own period and in the ones beside it.
"""

from __future__ import annotations

from gateway.config import Settings

_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZ"


class ProbeSender:
    """Raises ConfigError."""

    def __init__(self, settings: Settings) -> None:
        text = settings.text("address_verify_sender")
        self._local, at, domain = ("" if text == "<>" else text).partition("@")
        if at and not (self._local and domain):
            problem = f'parameter address_verify_sender: value "{text}" must not start or end with "@"'
            raise settings.error("address_verify_sender", problem, "give an address, or <>")
        self._domain = domain or settings.text("myorigin")
        self._period = int(settings.seconds("address_verify_sender_ttl"))

    def current(self, now: float) -> str:
        """"": the null sender.  ``now``: seconds since the epoch."""
        if not self._local:
            return ""
        stamp = _encode(int(now) // self._period) if self._period > 0 else ""
        return f"{self._local}{stamp}@{self._domain}"

    def known(self, address: str, now: float) -> str | None:
        """The address without what changes in it; None: it is no sender of our probes."""
        local, at, domain = address.rpartition("@")
        length = len(self._local)
        if not self._local or not at or domain.lower() != self._domain.lower():
            return None
        if local[:length].lower() != self._local.lower() or not self._is_stamp(local[length:], now):
            return None
        return f"{self._local}@{self._domain}"

    def _is_stamp(self, text: str, now: float) -> bool:
        if self._period <= 0:
            return not text
        period = int(now) // self._period
        return text in (_encode(period - 1), _encode(period), _encode(period + 1))


def _encode(number: int) -> str:
    digits = ""
    while number > 0:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits or _DIGITS[0]
