"""Mail goes on by SMTP or LMTP: smtp(8).

What happens to a request, module by module: ``transport`` takes it; ``delivery`` goes from host to host; ``nexthop``
and ``hosts`` say which; ``pool`` may have an open session, else ``connect`` makes one; ``session`` is the dialogue,
above a ``channel``, with ``replies``, ``features``, ``commands`` and ``tls``; ``payload``, ``downgrade`` and ``dots``
make the message fit for the wire; ``verdict`` words what came of it.
"""

from transports.smtp.transport import SMTPTransport

__all__ = ["SMTPTransport"]
