"""The parameters that rule what cleanup does with content, read once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.config import Settings
from gateway.content.header_scan import is_field
from gateway.content.strict_mime import Strictness

# smtputf8_autodetect_classes names sources of mail; these are the services whose names differ.
_SOURCES = {"sendmail": "pickup", "forward": "local"}


@dataclass(frozen=True, slots=True)
class ContentRules:
    host: str
    size_limit: int
    field_limit: int
    hop_limit: int
    drop: frozenset[bytes]
    always_add: bool
    remote_context: bool
    """Headers from remote clients are rewritten, too (remote_header_rewrite_domain)."""
    from_format: str
    name_charset: str
    no_recipient: str
    strip: bytes
    reject: re.Pattern[bytes] | None
    replace_stray_cr: bool
    detect_utf8: frozenset[str]
    """Services whose mail is marked SMTPUTF8 when its header or an address needs it; "all"."""
    internal: frozenset[str] = frozenset()
    """Kinds of the gateway's own mail that are checked, too (internal_mail_filter_classes)."""
    believe_encoding: bool = True
    """A header that says "8bit" is believed (detect_8bit_encoding_header) …"""
    sees_parts: bool = True
    """… in the parts of a message, too."""
    strict: Strictness | None = None

    @classmethod
    def of(cls, settings: Settings) -> ContentRules:
        rejected = _characters(settings.text("message_reject_characters"))
        no_recipient = settings.text("undisclosed_recipients_header")
        detect = settings.words("smtputf8_autodetect_classes") if settings.flag("smtputf8_enable") else []
        return cls(
            host=settings.text("myhostname"),
            size_limit=settings.number("message_size_limit"),
            field_limit=settings.number("header_size_limit"),
            hop_limit=settings.number("hopcount_limit"),
            drop=frozenset(word.lower().encode() for word in settings.words("message_drop_headers")),
            always_add=settings.flag("always_add_missing_headers"),
            remote_context=bool(settings.text("remote_header_rewrite_domain")),
            from_format=settings.text("header_from_format"),
            name_charset=settings.text("full_name_encoding_charset"),
            no_recipient=no_recipient if is_field(no_recipient.encode()) else "",
            strip=_characters(settings.text("message_strip_characters")),
            reject=re.compile(b"[" + re.escape(rejected) + b"]") if rejected else None,
            replace_stray_cr=settings.flag("cleanup_replace_stray_cr_lf"),
            detect_utf8=frozenset(_SOURCES.get(name, name) for name in detect),
            internal=frozenset(settings.words("internal_mail_filter_classes")),
            believe_encoding=settings.flag("detect_8bit_encoding_header"),
            sees_parts=not settings.flag("disable_mime_input_processing"),
            strict=Strictness.of(settings),
        )

    def detects_utf8(self, service: str) -> bool:
        return bool(self.detect_utf8) and ("all" in self.detect_utf8 or service in self.detect_utf8)

    def clean(self, data: bytes) -> bytes:
        """Content without what may not be in it.  ValueError if it holds a character that is refused."""
        if self.reject is not None and self.reject.search(data):
            raise ValueError("disallowed character")
        if self.strip:
            data = data.translate(None, self.strip)
        if self.replace_stray_cr and b"\r" in data:
            # Whoever passes a bare CR on smuggles for others (RFC 5321 2.3.8).
            data = data.replace(b"\r", b" ")
        return data


def _characters(text: str) -> bytes:
    """The bytes that a list of characters with C-like escapes stands for."""
    return text.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1", "replace")
