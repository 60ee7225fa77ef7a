"""What rmail and rsmtp ask of a running gateway: whether the neighbour may hand in mail now (gateway.uucp.rates).

Without limits nobody is asked, and while no gateway runs nobody counts: the mail waits in the maildrop folder then.
"""

from __future__ import annotations

from gateway.config import Settings
from gateway.control import Control, Down, Refused

MESSAGE_LIMIT, BYTE_LIMIT = "uucp_client_message_rate_limit", "uucp_client_byte_rate_limit"

REQUEST = "neighbour"
"""The name of the requests, with {"site", "messages", "bytes"}."""


class Wait(Exception):
    """The neighbour has to wait; the text says why."""


class Door:
    def __init__(self, settings: Settings, neighbour: str) -> None:
        self._queue = settings.text("queue_directory")
        self._neighbour = neighbour
        self._counts = bool(neighbour) and any(settings.number(name) for name in (MESSAGE_LIMIT, BYTE_LIMIT))

    def enter(self) -> None:
        """Raises Wait."""
        if text := self._ask(0, 0):
            raise Wait(text)

    def count(self, messages: int, size: int) -> None:
        """So much has been queued."""
        self._ask(messages, size)

    def _ask(self, messages: int, size: int) -> str:
        if not self._counts:
            return ""
        try:
            with Control(self._queue) as control:
                return str(control.call(REQUEST, site=self._neighbour, messages=messages, bytes=size) or "")
        except (Down, Refused, PermissionError):
            return ""
