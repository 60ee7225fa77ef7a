"""The facts that restrictions decide by, and what they have decided for the message so far.

The SMTP server keeps one Session a connection and fills it in as the dialogue goes on.  Addresses are in external form
(RFC 5321, without angle brackets), None while they have not been given.  All texts are printable already where they go
to the log; the log makes sure of it once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.addresses.recipients import Destination
    from gateway.policy.verdict import Verdict

CLIENT = "Client host"
REVERSE_CLIENT = "Unverified Client host"
HELO = "Helo command"
SENDER = "Sender address"
RECIPIENT = "Recipient address"
ETRN = "Etrn command"
DATA = "Data command"
END_OF_DATA = "End-of-data"

NAME_OK, NAME_TEMPORARY, NAME_PERMANENT = "ok", "temporary", "permanent"
"""How the look-up of a client's name ended."""


@dataclass(slots=True)
class Decisions:
    """What access(5) actions have decided about the message of this transaction."""

    hold: bool = False
    discard: bool = False
    filter: str = ""
    redirect: str = ""
    copies: list[str] = field(default_factory=list)
    prepend: list[str] = field(default_factory=list)

    def any(self) -> bool:
        return bool(self.hold or self.discard or self.filter or self.redirect or self.copies or self.prepend)


@dataclass(slots=True)
class Tls:
    """The protected connection, as far as policy and Received headers speak of it."""

    protocol: str = ""
    cipher: str = ""
    cipher_bits: int = 0
    algorithm_bits: int = 0
    subject: str = ""
    """The common name in the client's certificate, if it has sent one …"""
    issuer: str = ""
    """… and in that of who issued it."""
    fingerprints: tuple[str, ...] = ()
    """Of the certificate, and of its public key: upper-case pairs of hexadecimal digits parted by colons."""
    exchange: str = ""
    """How keys were exchanged and the server has signed, in Postfix's words; in TLS 1.3 only."""
    client_signature: str = ""
    asked: bool = False
    """The client was asked for a certificate."""
    trusted: bool = False
    """The certificate leads to an authority that we trust."""


@dataclass(slots=True)
class Session:
    client_name: str = "unknown"
    """Verified host name, or "unknown"."""
    client_address: str = "unknown"
    client_port: str = "unknown"
    client: str = "unknown[unknown]"
    """NAME[ADDRESS], with the port where smtpd_client_port_logging says so: for replies and the log."""
    reverse_name: str = "unknown"
    name_status: str = NAME_OK
    reverse_status: str = NAME_OK
    find_server: Callable[[], tuple[str, str]] | None = None
    """The address and port that the client has come to."""
    helo: str | None = None
    protocol: str = "SMTP"
    where: str = "CONNECT"
    """The command, as the log names it."""
    queue_id: str = ""
    instance: str = ""
    """What policy services know this transaction by, once one has been asked."""
    sender: str | None = None
    recipient: str | None = None
    """The recipient that is being asked about; in DATA and later the only one, or None if there are several."""
    recipient_count: int = 0
    etrn_name: str | None = None
    size: int = 0
    improper_pipelining: bool = False
    sasl_method: str = ""
    sasl_username: str = ""
    sasl_sender: str = ""
    tls: Tls | None = None
    decisions: Decisions = field(default_factory=Decisions)

    # For the evaluator and the restrictions, while a list is worked through.
    subject: str = ""
    """What is checked, as replies name it in angle brackets …"""
    subject_kind: str = ""
    """… and what it is: one of the constants above."""
    warning: bool = False
    """warn_if_reject: the restriction at work will not refuse."""
    resolved: dict[str, Destination] = field(default_factory=dict)
    """Where addresses lead that have been asked about for this recipient."""
    recipient_checked: bool = False
    """That the recipient exists has been verified already (reject_unlisted_recipient)."""
    sender_checked: bool = False
    deferral: Verdict | None = None
    """defer_if_permit: what a permission becomes."""
    rejection: Verdict | None = None
    """defer_if_reject: what a 5xx refusal becomes."""
    deferral_client: Verdict | None = None
    deferral_helo: Verdict | None = None
    deferral_sender: Verdict | None = None

    def fact_line(self, what: str, text: str) -> str:
        """A line for the log in the form that pflogsumm and fail2ban know."""
        line = f"{self.queue_id or 'NOQUEUE'}: {what}: {self.where} from {self.client}: {text};"
        if self.sender is not None:
            line += f" from=<{self.sender}>"
        if self.recipient is not None:
            line += f" to=<{self.recipient}>"
        line += f" proto={self.protocol}"
        if self.helo is not None:
            line += f" helo=<{self.helo}>"
        if self.sasl_username:
            line += f" sasl_username=<{self.sasl_username}>"
        return line

    def forget_transaction(self) -> None:
        """MAIL and what followed is over (RSET, end of message, EHLO)."""
        self.queue_id = self.instance = self.sasl_sender = ""
        self.sender = self.recipient = None
        self.recipient_count = self.size = 0
        if self.decisions.any():
            self.decisions = Decisions()
