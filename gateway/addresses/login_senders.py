"""Which envelope senders a local user may name: local_login_sender_maps, postdrop(1).

The tables are asked for the login name, or "uid:N" where there is no account, and give patterns: a sender's address, as
the user wrote it but without extension, "@domain" for all of a domain, "<>" for the null sender, "*" for any.
"""

from __future__ import annotations

from gateway.addresses.basis import Tables
from gateway.addresses.find import Maps
from gateway.addresses.forms import quote, split_domain, unquote
from gateway.addresses.syntax import Extensions
from gateway.config import Settings

EVERYBODY = "static:*"


class LoginSenders:
    def __init__(self, maps: Maps, extensions: Extensions, null: str) -> None:
        self._maps = maps
        self._extensions = extensions
        self._null = null

    @classmethod
    def of(cls, settings: Settings, tables: Tables, program: str) -> LoginSenders | None:
        """None if every user may name any sender."""
        words = settings.words("local_login_sender_maps")
        if words == [EVERYBODY]:
            return None
        maps = tables.maps(words, settings, title="local_login_sender_maps", program=program)
        extensions = Extensions.of(settings)
        return cls(maps, extensions, settings.text("empty_address_local_login_sender_maps_lookup_key"))

    async def allow(self, login: str, sender: str) -> bool:
        """``sender``: in external form, as given.  Raises TableError."""
        match = await self._maps.find(login)
        if match is None:
            return False
        bare = quote(self._extensions.strip(unquote(sender))[0]).lower() if sender else self._null.lower()
        domain = split_domain(bare)[1]
        wanted = {"*", bare, f"@{domain}"} if domain else {"*", bare}
        return not wanted.isdisjoint(match.value.lower().replace(",", " ").split())
