"""python:subjects:WORD,WORD — a message filter: mail whose subject has one of the words is held, also if it is encoded.

    message_filters = python:subjects:lottery,invoice

The answers are those of header_checks(5) and body_checks(5).
"""

from email.header import decode_header, make_header

from zope.interface import implementer

from gateway.interfaces import IMessageFilter


@implementer(IMessageFilter)
class Subjects:
    name = "python:subjects"

    def __init__(self, settings, argument):
        self._words = [word.strip().lower() for word in argument.split(",") if word.strip()]

    async def header(self, name, value):
        if name.lower() != "subject":
            return None
        text = value.decode("utf-8", "replace").replace("\n", "")
        try:
            text = str(make_header(decode_header(text)))
        except (LookupError, UnicodeError, ValueError):
            pass  # shown as it stands by most programs
        found = next((word for word in self._words if word in text.lower()), None)
        return f"HOLD the subject has {found}" if found else None

    async def body(self, line):
        return None
