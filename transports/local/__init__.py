"""local(8): delivery to this machine's users: aliases, .forward files, mailboxes, commands.

    place.py        where a delivery stands: recipient, rights, how it came there; and what has become of it
    config.py       the parameters, read once
    agent.py        LocalTransport; the order of the ways to deliver
    aliases.py, forward.py, mailbox.py, unknown.py      these ways
    expansion.py    what an alias or a .forward file lists: addresses, commands, files, :include:
    command.py, files.py, indirect.py                   where mail ends: programs, mailboxes, a message to others
    turns.py        what is handed over together runs its programs one after the other
"""

from transports.local.agent import LocalTransport, Tools
from transports.local.config import LocalConfig

__all__ = ["LocalConfig", "LocalTransport", "Tools"]
