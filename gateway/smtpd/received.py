"""The Received header of a message from SMTP, in Postfix's form; RFC 5321 4.4.

    Received: from HELO (NAME [ADDRESS])
    <TAB>(using TLSv1.3 with cipher … (256/256 bits))       smtpd_tls_received_header
    <TAB>(Authenticated sender: LOGIN)                      smtpd_sasl_authenticated_header
    <TAB>by HOST (MAIL_NAME) with ESMTP id QID
    <TAB>for <RECIPIENT>; DATE                              only if there is one recipient

With smtpd_hide_client_session nothing is said of the client:

    Received: by HOST (MAIL_NAME) id QID
    <TAB>for <RECIPIENT>; DATE

Nothing that a client sent gets in but printable ASCII and UTF-8 without control characters; cleanup puts the queue ID
in place of %(id)s.
"""

from __future__ import annotations

import re

from gateway.content.dates import mail_date
from gateway.policy.session import Session, Tls
from gateway.smtpd.options import Options

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def received(options: Options, session: Session, recipient: str, arrival: float, smtputf8: bool) -> list[bytes]:
    """The header's lines, without line ends.  ``recipient``: the only one, "" if there are several."""
    host = f"by {options.hostname} ({options.mail_name})"
    if options.hide_client:
        lines, by = [], f"{host} id %(id)s"
    else:
        lines, by = _client(options, session), f"{host} with {_protocol(session, smtputf8)} id %(id)s"
    if recipient:
        lines += [by, f"for <{recipient}>; {mail_date(arrival)}"]
    else:
        lines.append(f"{by}; {mail_date(arrival)}")
    first, *others = map(_encoded, lines)
    return [b"Received: " + first, *(b"\t" + line for line in others)]


def _client(options: Options, session: Session) -> list[str]:
    address = f"IPv6:{session.client_address}" if ":" in session.client_address else session.client_address
    helo = session.helo if session.helo is not None else session.client_name
    lines = [f"from {helo} ({session.client_name} [{address}])"]
    tls = session.tls
    if tls is not None and options.received_tls:
        bits = f"{tls.cipher_bits}/{tls.algorithm_bits} bits"
        how = [f"(using {tls.protocol} with cipher {tls.cipher} ({bits})"]
        how += [f" {words}" for words in (tls.exchange, tls.client_signature) if words]
        lines += [*how[:-1], f"{how[-1]})"]
        lines.append(f"({_certificate(tls)})")
    if session.sasl_username and options.received_sasl:
        lines.append(f"(Authenticated sender: {session.sasl_username})")
    return lines


def _certificate(tls: Tls) -> str:
    if not tls.asked:
        return "No client certificate requested"
    if not tls.fingerprints:
        return "Client did not present a certificate"
    verified = "verified OK" if tls.trusted else "not verified"
    return f'Client CN "{tls.subject}", Issuer "{tls.issuer}" ({verified})'


def _encoded(line: str) -> bytes:
    if line.isascii() and line.isprintable():
        return line.encode("ascii")
    return _UNSAFE.sub("?", line).encode()


def _protocol(session: Session, smtputf8: bool) -> str:
    """RFC 3848, RFC 6531."""
    if session.protocol != "ESMTP":
        return session.protocol
    name = "UTF8SMTP" if smtputf8 else "ESMTP"
    return name + ("S" if session.tls is not None else "") + ("A" if session.sasl_username else "")
