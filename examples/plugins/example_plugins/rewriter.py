"""python:one-name:DOMAIN — address rewriting: senders in subdomains of DOMAIN are shown as of DOMAIN, extensions go.

    address_rewriters = python:one-name:my.domain

joe+lists@host.my.domain becomes joe@my.domain, in the envelope and in the header.
"""

from zope.interface import implementer

from gateway.interfaces import IAddressRewriter, Place


@implementer(IAddressRewriter)
class OneName:
    name = "python:one-name"
    places = frozenset({Place.ENVELOPE_SENDER, Place.HEADER_SENDER})

    def __init__(self, settings, argument):
        if not argument:
            raise ValueError("say which domain: python:one-name:DOMAIN")
        self._domain = argument.lower()
        self._delimiters = settings.text("recipient_delimiter") or "+"

    async def rewrite(self, address, place):
        local, _, domain = address.rpartition("@")
        if not f".{domain.lower()}".endswith(f".{self._domain}"):
            return address
        for delimiter in self._delimiters:
            local = local[:1] + local[1:].partition(delimiter)[0]
        return f"{local}@{self._domain}"
