"""What of a mail is to be drawn, and in which order: its MIME structure (RFC 2045–2047, 2183, 2387) as a plan.

A plan is a list of

    Leaf        one part to draw, with the parts that it shows by their Content-ID
    Heading     From, To, Date and Subject of the message that follows
    Choice      the plans of multipart/alternative, the best one first: draw the first that can be drawn
    LeftOut     a part that is no page: a signature, an empty part

Pictures that an HTML part shows are not parts of the plan, wherever in the mail they stand.  A part that is always
an error (encrypted, external, nested too deeply) is a Leaf too, with ``trouble``.  Never raises, whatever the mail
is like; the names of parts are printable.
"""

from __future__ import annotations

import email
import email.policy
import os.path
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from transports.fax.document.charset import decode_words

DEEPEST = 30
HTML = ("text/html", "application/xhtml+xml")
MOST_PARTS = 500

_HEADING = ("From", "To", "Cc", "Date", "Subject")
_LONGEST_FIELD = 2000
_SIGNATURES = {
    "application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-keys",
}
_MAILS = {"message/rfc822", "message/global", "message/news"}
_TROUBLES = {
    "multipart/encrypted": "it is encrypted",
    "application/pkcs7-mime": "it is encrypted or signed by S/MIME", "message/partial": "it is a piece of a message",
    "application/x-pkcs7-mime": "it is encrypted or signed by S/MIME",
    "message/external-body": "its contents are elsewhere", "application/ms-tnef": "TNEF cannot be drawn (winmail.dat)",
}
_BEGINNINGS = (
    (rb"%PDF-", "application/pdf"), (rb"\x89PNG\r\n\x1a\n", "image/png"), (rb"\xff\xd8\xff", "image/jpeg"),
    (rb"GIF8[79]a", "image/gif"), (rb"II\*\0|MM\0\*", "image/tiff"), (rb"RIFF....WEBP", "image/webp"),
    (rb"BM....\0\0\0\0", "image/bmp"),
)
_ENDINGS = {
    ".txt": "text/plain", ".log": "text/plain", ".csv": "text/plain", ".ics": "text/plain", ".htm": "text/html",
    ".html": "text/html", ".svg": "image/svg+xml", ".eml": "message/rfc822",
    ".doc": "application/msword", ".xls": "application/vnd.ms-excel", ".ppt": "application/vnd.ms-powerpoint",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation", ".rtf": "application/rtf",
}
_VAGUE = {
    "application/octet-stream", "application/unknown", "application/download", "application/force-download",
    "application/x-pdf", "application/save", "binary/octet-stream", "application/zip", "application/x-zip-compressed",
    "image/x-ms-bmp", "image/jpg", "image/pjpeg", "image/x-png", "text/pdf",
}
"""Types that say nothing, or that tell less than the file itself."""


@dataclass(slots=True)
class Leaf:
    name: str
    type: str
    message: Message | None = None
    own: dict[str, bytes] = field(default_factory=dict)
    """What it may show inside itself, by its "cid:…" or Content-Location."""
    trouble: str = ""

    def data(self) -> bytes:
        return _payload(self.message) if self.message is not None else b""

    def parameter(self, name: str) -> str:
        """Of Content-Type."""
        return _parameter(self.message, name) if self.message is not None else ""


@dataclass(slots=True)
class Heading:
    fields: list[tuple[str, str]]


@dataclass(slots=True)
class Choice:
    plans: list[Plan]


@dataclass(slots=True)
class LeftOut:
    name: str
    why: str


Item = Leaf | Heading | Choice | LeftOut
Plan = list[Item]


def plan_of(mail: bytes) -> Plan:
    """What to draw of a whole mail."""
    try:
        message = email.message_from_bytes(mail, policy=email.policy.compat32)
    except RecursionError:
        return [Leaf("the message", "", trouble="its parts are nested too deeply")]
    except Exception as error:  # the parser's own mistakes on odd input
        return [Leaf("the message", "", trouble=f"it cannot be read: {type(error).__name__}")]
    reader = _Reader()
    plan = [Heading(heading_of(message)), *reader.read(message, "", 0)]
    if reader.count > MOST_PARTS:
        return [Leaf("the message", "", trouble=f"it has more than {MOST_PARTS} parts")]
    _give_pages_their_pictures(plan)
    return plan


def heading_of(message: Message) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for name, value in raw_fields(message):
        if name.title() in _HEADING and name.title() not in found:
            found[name.title()] = decode_words(value[:_LONGEST_FIELD])
    return [(name, found[name]) for name in _HEADING if found.get(name)]


def raw_fields(message: Message) -> Iterator[tuple[str, bytes]]:
    for name, value in message.raw_items():
        yield name, str(value).encode("utf-8", "surrogateescape")


class _Reader:
    def __init__(self) -> None:
        self.count = 0

    def read(self, message: Message, number: str, depth: int, default: str = "text/plain") -> Plan:
        """``number``: of the part, "" for the message itself."""
        self.count += 1
        if self.count > MOST_PARTS:
            return []
        kind = _type(message, default)
        name = _name(number, message, kind)
        if depth > DEEPEST:
            return [Leaf(name, kind, trouble="its parts are nested too deeply")]
        if trouble := _TROUBLES.get(kind):
            return [Leaf(name, kind, trouble=trouble)]
        if kind in _SIGNATURES:
            return [LeftOut(name, "a signature")]
        if message.is_multipart() and (kind in _MAILS or not kind.startswith("message/")):
            children = _children(message)
            if kind in _MAILS:
                return self._message(children, number, depth)
            return self._multipart(kind, name, message, children, number, depth)
        if kind.startswith("multipart/"):
            kind = "text/plain"  # a multipart without parts is what stands in it
        data = _payload(message)
        if not data.strip():
            return [LeftOut(name, "it is empty")] if number else []
        kind = _look(kind, data, message)
        if kind == "message/rfc822":
            return self._inner_mail(data, number, depth)
        return [Leaf(_name(number, message, kind), kind, message)]

    def _multipart(
        self, kind: str, name: str, message: Message, children: list[Message], number: str, depth: int
    ) -> Plan:
        numbers = [f"{number}.{at}".lstrip(".") for at in range(1, len(children) + 1)]
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        plans = [
            self.read(child, one, depth + 1, default)
            for child, one in zip(children, numbers, strict=True)
        ]
        if kind == "multipart/alternative":
            return [Choice(sorted((plan for plan in reversed(plans) if plan), key=_worth, reverse=True))]
        if kind == "multipart/signed" and plans:
            left = [LeftOut(_name(one, child, _type(child)), "a signature")
                    for child, one in zip(children[1:], numbers[1:], strict=True)]
            return [*plans[0], *left]
        if kind == "multipart/related" and plans:
            return _related(message, children, plans)
        return [item for plan in plans for item in plan]

    def _message(self, children: list[Message], number: str, depth: int) -> Plan:
        plan: Plan = []
        for child in children:
            plan += [Heading(heading_of(child)), *self.read(child, f"{number}.1".lstrip("."), depth + 1)]
        return plan

    def _inner_mail(self, data: bytes, number: str, depth: int) -> Plan:
        """A mail that is attached like a file."""
        try:
            inner = email.message_from_bytes(data, policy=email.policy.compat32)
        except Exception as error:  # the parser's own mistakes on odd input
            return [Leaf(f"part {number}", "message/rfc822", trouble=f"it cannot be read: {type(error).__name__}")]
        return self._message([inner], number, depth)


def _related(message: Message, children: list[Message], plans: list[Plan]) -> Plan:
    """The first part (or the one that start= names), then the others."""
    start = _parameter(message, "start").strip("<> ")
    root = next((at for at, child in enumerate(children) if start and _content_id(child) == start), 0)
    return [*plans[root], *(item for at, plan in enumerate(plans) if at != root for item in plan)]


def _give_pages_their_pictures(plan: Plan) -> None:
    """A picture that a page of the mail shows is part of that page, wherever it stands: not all programs make a
    multipart/related of them."""
    pages = [(leaf, leaf.data()) for leaf in _leaves(plan) if leaf.type in HTML]
    if not pages:
        return
    shown: set[int] = set()
    for leaf in _leaves(plan):
        if not leaf.type.startswith("image/") or leaf.message is None:
            continue
        identity, place = _content_id(leaf.message), _field(leaf.message, "Content-Location")
        keys = [f"cid:{identity}"] * bool(identity) + [place] * bool(place)
        for page, text in pages:
            if any(key.encode("utf-8", "replace") in text for key in keys):
                page.own.update(dict.fromkeys(keys, leaf.data()))
                shown.add(id(leaf))
    _remove(plan, shown)


def _remove(plan: Plan, leaves: set[int]) -> None:
    plan[:] = [item for item in plan if id(item) not in leaves]
    for item in plan:
        if isinstance(item, Choice):
            for one in item.plans:
                _remove(one, leaves)


def _worth(plan: Plan) -> int:
    """Of a form of multipart/alternative: orders to calendars, pages for watches and the like are texts that are not
    meant to be read."""
    first = next(_leaves(plan), None)
    return 0 if first and first.type.startswith("text/") and first.type not in ("text/plain", *HTML) else 1


def _leaves(plan: Plan) -> Iterator[Leaf]:
    for item in plan:
        if isinstance(item, Leaf):
            yield item
        elif isinstance(item, Choice):
            for one in item.plans:
                yield from _leaves(one)


def _look(kind: str, data: bytes, message: Message) -> str:
    """The type by what the file itself is, if its name in the header is vague, or plainly wrong."""
    for pattern, found in _BEGINNINGS:
        if re.match(pattern, data, re.DOTALL) and (kind in _VAGUE or kind.startswith(("image/", "application/"))):
            return found
    ending = os.path.splitext(_filename(message))[1].lower()
    if kind in _VAGUE or not re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]+", kind):
        return _ENDINGS.get(ending, kind)
    if kind == "text/rtf":
        return "application/rtf"
    return kind


def _type(message: Message, default: str = "text/plain") -> str:
    try:
        return message.get_content_type() if message.get("content-type") is not None else default
    except Exception:  # the parser's own mistakes on odd input
        return "application/octet-stream"


def _children(message: Message) -> list[Message]:
    return [child for child in message.get_payload() if isinstance(child, Message)]


def _payload(message: Message) -> bytes:
    try:
        if message.is_multipart():  # a report, whose lines the parser takes for header fields
            return b"\n".join(child.as_bytes() for child in _children(message))
        data = message.get_payload(decode=True)
    except Exception:  # the parser's own mistakes on odd input
        data = None
    if isinstance(data, bytes):
        return data
    text = message.get_payload()
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else b""


def _parameter(message: Message, name: str) -> str:
    try:
        value = message.get_param(name, "")
        if isinstance(value, tuple):
            value = value[2]
    except Exception:  # the parser's own mistakes on odd input
        return ""
    return str(value)


def _field(message: Message, name: str) -> str:
    return next((decode_words(value) for key, value in raw_fields(message) if key.lower() == name.lower()), "")


def _content_id(message: Message) -> str:
    return _field(message, "Content-ID").strip("<> ")


def _filename(message: Message) -> str:
    try:
        return decode_words(message.get_filename() or "")
    except Exception:  # the parser's own mistakes on odd input
        return ""


def _name(number: str, message: Message, kind: str) -> str:
    """For people: "part 2 (offer.pdf, application/pdf)"."""
    facts = ", ".join(one for one in (_filename(message)[:100], kind[:100]) if one)
    text = f"part {number} ({facts})" if number else f"the message ({facts})"
    return "".join(letter if letter.isprintable() else "?" for letter in text)
