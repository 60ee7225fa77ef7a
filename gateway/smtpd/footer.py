"""smtpd_reject_footer: what a site adds to its refusals; postconf(5).

The footer comes on lines of its own with the reply's codes in front; "\\c" at its beginning continues the reply's last
line, "\\n" begins another one.  $client_address, $client_name, $client_port, $server_name, $localtime and the like
stand for facts of the session.  421 and 521 have no footer: they end the session.
"""

from __future__ import annotations

import re
import time

from gateway.config.expand import ExpandError, expand
from gateway.policy.session import Session

_CODES = re.compile(r"([45]\d\d) ((?:[245]\.\d{1,3}\.\d{1,3} )?)")


def with_footer(reply: str, footer: str, session: Session, hostname: str, now: float) -> str:
    match = _CODES.match(reply)
    if match is None or "\n" in reply or match[1] in ("421", "521"):
        return reply
    facts = {
        "client": f"{session.client_name}[{session.client_address}]",
        "client_address": session.client_address,
        "client_name": session.client_name,
        "client_port": session.client_port,
        "helo_name": session.helo or "",
        "sender": session.sender or "",
        "recipient": session.recipient or "",
        "server_name": hostname,
        "myhostname": hostname,
        "localtime": time.strftime("%b %d %H:%M:%S", time.localtime(now)),
    }
    try:
        text = expand(footer, facts.get)
    except ExpandError:
        return reply
    if text.startswith("\\c"):
        reply += text[2:].split("\\n", 1)[0]
        text = text.partition("\\n")[2]
    lines = [reply[match.end() :], *text.split("\\n")] if text else [reply[match.end() :]]
    code, status = match.groups()
    return "\n".join([f"{code}-{status}{line}" for line in lines[:-1]] + [f"{code} {status}{lines[-1]}"])
