"""The Received fields of mail that does not come by SMTP; RFC 5321 4.4."""

from __future__ import annotations

from gateway.content.dates import mail_date


def local_received(host: str, mail_name: str, moment: float, uid: int | None = None) -> list[bytes]:
    """For a submission of a user (``uid``), or for mail that the gateway makes itself."""
    by = f"{mail_name}, from userid {uid}" if uid is not None else mail_name
    return [f"Received: by {host} ({by})".encode(), f"\tid %(id)s; {mail_date(moment)}".encode()]


def uucp_received(host: str, mail_name: str, moment: float, neighbour: str) -> list[bytes]:
    """For mail that a UUCP neighbour brought."""
    return [
        f"Received: from {neighbour}".encode(),
        f"\tby {host} ({mail_name}) with UUCP".encode(),
        f"\tid %(id)s; {mail_date(moment)}".encode(),
    ]
