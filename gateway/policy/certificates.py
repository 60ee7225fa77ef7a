"""Restrictions on the client's certificate: permit_tls_clientcerts, permit_tls_all_clientcerts, check_ccert_access.

check_ccert_access can say what a table is asked for, and in which order; postconf(5):

    check_ccert_access { TABLE, { search_order = cert_fingerprint, pubkey_fingerprint } }
"""

from __future__ import annotations

from gateway.config.settings import split_service, split_words
from gateway.interfaces import IRestriction
from gateway.policy.access import Access
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, PERMIT, Verdict

ACCESS = "check_ccert_access"
KIND = "Client certificate"
_KEYS = ("cert_fingerprint", "pubkey_fingerprint")
"""In the order of Tls.fingerprints."""


@restriction("permit_tls_clientcerts")
def known_certificate(tools: Toolbox, arguments: Arguments) -> IRestriction:
    """The fingerprint of the client's certificate, or that of its key, is in relay_clientcerts."""
    words = tools.settings.words("relay_clientcerts")
    maps = tools.tables.maps(words, tools.settings, title="relay_clientcerts", program=PROGRAM)
    remind = _Reminder(tools, "permit_tls_clientcerts")

    async def check(session: Session) -> Verdict:
        for fingerprint in session.tls.fingerprints if session.tls is not None else ():
            if await maps.find(fingerprint) is not None:
                return PERMIT
        if session.tls is not None:
            remind(session)
        return DUNNO

    return Asking("permit_tls_clientcerts", check)


@restriction("permit_tls_all_clientcerts")
def trusted_certificate(tools: Toolbox, arguments: Arguments) -> IRestriction:
    remind = _Reminder(tools, "permit_tls_all_clientcerts")

    async def check(session: Session) -> Verdict:
        tls = session.tls
        if tls is not None and tls.fingerprints and tls.trusted:
            return PERMIT
        if tls is not None:
            remind(session)
        return DUNNO

    return Asking("permit_tls_all_clientcerts", check)


@restriction(ACCESS)
def access(tools: Toolbox, arguments: Arguments) -> IRestriction:
    word = arguments.need(ACCESS, "a lookup table (type:name)")
    try:
        spec, order = _searched(word)
    except ValueError as error:
        raise RestrictionError(f'restriction {ACCESS}: bad argument "{word}": {error}') from None
    table, remind = Access(tools, spec, ACCESS), _Reminder(tools, ACCESS)

    async def check(session: Session) -> Verdict:
        tls = session.tls
        if tls is None or not tls.fingerprints:
            remind(session)
            return DUNNO
        for which in order:
            found = await table.word(session, tls.fingerprints[which], KIND, tls.subject)
            if found is not DUNNO:
                return found
        return DUNNO

    return Asking(f"{ACCESS} {spec}", check)


def _searched(word: str) -> tuple[str, list[int]]:
    """The table, and the places of the fingerprints to look for.  ValueError for what cannot be understood."""
    spec, options = split_service(word)
    if ":" not in spec:
        raise ValueError("need maptype:mapname")
    order = list(range(len(_KEYS)))
    for option, name, value in options:
        if name != "search_order" or value is None:
            raise ValueError(f'unknown attribute "{option}" (there is search_order)')
        keys = [key.lower() for key in split_words(value)]
        for key in keys:
            if key not in _KEYS:
                raise ValueError(f'bad search key: "{key}" (choose from {", ".join(_KEYS)})')
        order = [_KEYS.index(key) for key in keys]
    return spec, order


class _Reminder:
    """Says that clients are not asked for certificates, so that there is nothing to look at."""

    def __init__(self, tools: Toolbox, name: str) -> None:
        self._log = tools.log
        self._text = f'{name} is requested, but "smtpd_tls_ask_ccert = no"'
        self._asks = tools.settings.flag("smtpd_tls_ask_ccert")

    def __call__(self, session: Session) -> None:
        if not self._asks and (session.tls is None or not session.tls.fingerprints):
            self._log.warning(PROGRAM, self._text)
