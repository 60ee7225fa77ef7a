"""The lines of the mail log that tell of deliveries, in Postfix's wording: pflogsumm and people's scripts read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.interfaces import EXPANDED, Recipient, Result
from gateway.scheduler.message import Group

RESOLUTION_DIGITS = 2  # delay_logging_resolution_limit


def format_delay(seconds: float) -> str:
    """Two significant digits, at most RESOLUTION_DIGITS behind the point, no trailing zeros: 0.03, 1.2, 12, 0."""
    if seconds >= 10:
        return str(int(seconds))
    if seconds < 0.5 / 10**RESOLUTION_DIGITS:
        return "0"
    digits = 1 if seconds >= 1 else RESOLUTION_DIGITS
    return f"{seconds:.{digits}f}".rstrip("0").rstrip(".")


def delivery_lines(
    group: Group, results: Sequence[Result], *, arrival: float, started: float, ended: float
) -> Iterator[tuple[str, str]]:
    """For each recipient of a delivery, and for what else became of it: Result.program, and see delivery_line."""
    entry = group.message.entry
    for at, (index, result) in enumerate(zip(group.indexes, results, strict=True)):
        address = group.addresses[at] if group.addresses else ""
        for one in (result, *result.others):
            if one.status == EXPANDED:
                continue
            known = one.recipient
            yield one.program, delivery_line(
                entry.id, known or entry.envelope.recipients[index], one, "" if known else address,
                arrival=arrival, active=group.message.since, started=started, ended=ended,
            )


def delivery_line(
    queue_id: str,
    recipient: Recipient,
    result: Result,
    address: str = "",
    *,
    arrival: float,
    active: float,
    started: float,
    ended: float,
) -> str:
    """ "QID: to=<…>, relay=…, delay=…, delays=a/b/c/d, dsn=…, status=… (…)".

    a = until the message became active, b = in the scheduler, c = until a connection stood, d = the transfer.
    Moments are seconds since the epoch.  ``address``: the recipient as it was resolved; "" = it is as it was.
    """
    address = address or recipient.address
    original = recipient.original
    orig_to = f" orig_to=<{original}>," if original and original.lower() != address.lower() else ""
    conn_use = f" conn_use={result.conn_use}," if result.conn_use > 1 else ""
    connected = max(result.connected, started)
    delays = "/".join(
        format_delay(max(0.0, until - since))
        for since, until in ((arrival, active), (active, started), (started, connected), (connected, ended))
    )
    return (
        f"{queue_id}: to=<{address}>,{orig_to} relay={result.relay},{conn_use} "
        f"delay={format_delay(max(0.0, ended - arrival))}, delays={delays}, dsn={result.dsn}, "
        f"status={'SOFTBOUNCE' if result.soft else result.status} ({result.reason})"
    )
