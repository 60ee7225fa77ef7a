"""Mail goes on by SMTP or LMTP: smtp(8).

What happens to a request, module by module: ``transport`` takes it; ``delivery`` goes from host to host; ``nexthop``
and ``hosts`` say which; ``tls_policy`` says how much TLS a next hop wants, ``introduction`` what else is known of a
host; ``pool`` may have an open session on these terms, else ``connect`` makes one.  ``opening`` is the dialogue until
the server is ready for mail, with ``tls`` (``tls_match``, ``tls_report``) and ``login`` (``sasl``); ``session`` is the
dialogue about messages; both stand above a ``channel``, with ``replies`` (``reply_filter``), ``features`` and
``commands``.  ``payload``, ``downgrade`` and ``dots`` make the message fit for the wire, ``producers`` write it;
``verdict`` words what came of it.

For `mailgateway explain`: ``await SMTPTransport.tls_policy(nexthop)`` gives lines for people (level, where it stands,
names that a certificate may have); ``describe(request)`` has them for each next hop.
"""

from transports.smtp.transport import SMTPTransport

__all__ = ["SMTPTransport"]
