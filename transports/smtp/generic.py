"""Addresses as the outside knows them, put in on the way out: smtp_generic_maps, generic(5).

``translated`` gives a message's header block with the addresses of its address fields replaced; everything else in it
stays as it is.  Headers of parts and of attached messages are not looked at.  Raises TableError.
"""

from __future__ import annotations

import re

from gateway.addresses.rewriting import Generic

# Atomic groups, as a possessive group "(…)*+" lets a half-matched member through in Python 3.11.
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*+\n(?>(?:[ \t][^\n]*+\n)*))", re.MULTILINE)


async def translated(header: bytes, generic: Generic) -> bytes:
    """``header``: the fields, the last LF included.  The same object if nothing changes."""
    out: list[bytes] = []
    at = 0
    for match in _FIELD.finditer(header):
        name, value = match[1], match[2].strip()
        new = await generic.header(name.decode("ascii"), value)
        if new is not value:
            out += [header[at : match.start()], b"%b: %b\n" % (name, new)]
            at = match.end()
    return b"".join([*out, header[at:]]) if out else header
