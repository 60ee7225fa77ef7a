"""Bytes of mail to text, whatever their character set is called.

``decode`` follows what mail programs mean by a name: "iso-8859-1" is Windows' 1252, "gb2312" is GB 18030, "shift_jis"
is Windows' 932, and ISO-2022-JP may hold NEC's and IBM's extra characters (①, ㈱, 髙), which the codec of that name
does not know.  A wrong or missing name is guessed at: UTF-8 and ISO-2022-JP tell themselves, 1252 is the rest.
Raises LookupError for a name that nobody knows.  ``decode_words`` is RFC 2047 for header fields.

``language`` tells which of the languages that share Chinese characters a text is in: each draws them in its own way.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import quopri
import re

UNKNOWN = {"", "unknown", "unknown-8bit", "x-unknown", "default", "binary", "8bit", "_autodetect"}
_WIDER = {
    "us-ascii": "guess", "ascii": "guess", "ansi_x3.4-1968": "guess",
    "iso-8859-1": "cp1252", "iso8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252",
    "iso-8859-9": "cp1254", "iso-8859-11": "cp874", "tis-620": "cp874", "windows-874": "cp874",
    "iso-8859-8-i": "iso-8859-8", "iso-8859-8-e": "iso-8859-8", "iso-8859-6-i": "iso-8859-6", "logical": "iso-8859-8",
    "gb2312": "gb18030", "gb_2312-80": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "euc-cn": "gb18030",
    "cp936": "gb18030", "hz-gb-2312": "hz",
    "big5": "cp950", "x-x-big5": "cp950", "cn-big5": "cp950", "big5-hkscs": "big5hkscs",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932",
    "ms_kanji": "cp932", "x-euc-jp": "euc_jp", "euc-jp": "euc_jp",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ks_c_5601": "cp949", "ksc5601": "cp949", "x-windows-949": "cp949",
    "koi8-ru": "koi8_u", "x-mac-roman": "mac_roman", "macintosh": "mac_roman", "x-mac-cyrillic": "mac_cyrillic",
    "unicode-1-1-utf-7": "utf-7", "utf8": "utf-8", "utf-8n": "utf-8", "x-user-defined": "cp1252",
}
_JAPANESE = {"iso-2022-jp", "iso2022-jp", "iso-2022-jp-1", "iso-2022-jp-2", "iso-2022-jp-ms", "csiso2022jp", "cp50220",
             "cp50221", "jis"}
_NO_CHARSET = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
_ESCAPE = re.compile(rb"\x1b(\$\(?[@ABD]|\([ABIJ])")
_WORD = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([BbQq])\?([^?]*)\?=")
_ESCAPED, _LONE = re.compile("[\udc80-\udcff]"), re.compile("[\ud800-\udc7f\udd00-\udfff]")
_LANGUAGES = {"ja": ("jp", "jis", "932", "sjis", "euc-j"), "ko": ("kr", "949", "5601", "ksc"),
              "zh-TW": ("big5", "950", "euc-tw"), "zh-CN": ("gb", "936", "hz", "euc-cn", "iso-2022-cn")}


def decode(data: bytes, charset: str = "") -> str:
    """Bytes that mean nothing become U+FFFD."""
    name = charset.strip().strip("\"'").lower()
    name = _WIDER.get(name, name)
    if data.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    if name in UNKNOWN or name == "guess":
        return _guess(data)
    if name in _JAPANESE:
        return _from_jis(data)
    try:
        codec = codecs.lookup(name)
        if codec.name.replace("-", "_") in _NO_CHARSET:
            raise LookupError
        return _with(codec.name, data)
    except (LookupError, ValueError):
        if data.isascii():
            return data.decode("ascii")
        raise LookupError(f"the character set {charset!r} is unknown") from None


def decode_words(raw: bytes | str) -> str:
    """A header field's text: encoded words (RFC 2047) decoded, also where a character is split between two; what is
    not ASCII otherwise is guessed at (in str: bytes that were escaped as surrogates).  Line breaks become spaces."""
    if isinstance(raw, str) and _ESCAPED.search(raw):
        raw = raw.encode("utf-8", "surrogateescape" if not _LONE.search(raw) else "replace")
    if isinstance(raw, bytes):
        raw = decode(raw)
    text = re.sub(r"\r?\n[ \t]?", " ", raw)
    text = re.sub(r"(\?=)[ \t]+(?==\?[^?\s]+\?[BbQq]\?)", r"\1", text)
    pieces: list[str] = []
    held, held_charset, at = b"", "", 0
    for match in _WORD.finditer(text):
        charset, kind, content = match.group(1).lower(), match.group(2).lower(), match.group(3)
        data = _unpack(content, kind)
        if match.start() > at or charset != held_charset:
            pieces += [_word(held, held_charset), text[at : match.start()]]
            held = b""
        held, held_charset, at = held + data, charset, match.end()
    pieces += [_word(held, held_charset), text[at:]]
    return "".join(pieces).strip()


def language(text: str, charset: str = "") -> str:
    """"ja", "ko", "zh-CN", "zh-TW" or ""."""
    name = charset.lower()
    for tag, parts in _LANGUAGES.items():
        if any(part in name for part in parts):
            return tag
    if re.search("[\u3041-\u30ff]", text):
        return "ja"
    return "ko" if re.search("[\uac00-\ud7a3]", text) else ""


def _guess(data: bytes) -> str:
    if data.isascii():
        return _from_jis(data) if _ESCAPE.search(data) else data.decode("ascii")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _with("cp1252", data)


def _with(codec: str, data: bytes) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("utf-8")  # what is wrongly named most often
    except UnicodeDecodeError:
        return data.decode("latin-1" if codec == "cp1252" else codec, "replace")


def _from_jis(data: bytes) -> str:
    """ISO-2022-JP with everything that Windows puts into it: each stretch in the codec that knows most."""
    pieces: list[str] = []
    mode, at = b"(B", 0
    for match in [*_ESCAPE.finditer(data), None]:
        piece = data[at : match.start() if match else len(data)]
        pieces.append(_stretch(mode, piece))
        if match:
            mode, at = match.group(1), match.end()
    return "".join(pieces)


def _stretch(mode: bytes, piece: bytes) -> str:
    if mode == b"(I":
        return bytes(byte | 0x80 for byte in piece).decode("cp932", "replace")
    if not mode.startswith(b"$"):
        return _guess(piece) if not piece.isascii() else piece.decode("ascii")
    text: list[str] = []
    while piece:
        high, low = piece[0], piece[1] if len(piece) > 1 else 0
        if high < 0x21 or low < 0x21:  # a line end in the middle: some forget to go back to ASCII
            text.append(chr(high) if high < 0x80 else "\ufffd")
            piece = piece[1:]
            continue
        text.append(_double(mode, high & 0x7F, low & 0x7F))
        piece = piece[2:]
    return "".join(text)


def _double(mode: bytes, high: int, low: int) -> str:
    if mode == b"$(D":
        return bytes((0x8F, high | 0x80, low | 0x80)).decode("euc_jp", "replace")
    if mode == b"$A":
        return bytes((high | 0x80, low | 0x80)).decode("gb18030", "replace")
    # JIS X 0208 as Shift_JIS has it.
    first = ((high - 0x21) >> 1) + (0x81 if high < 0x5F else 0xC1)
    second = low + (0x7E if high % 2 == 0 else 0x1F if low < 0x60 else 0x20)
    return bytes((first, second)).decode("cp932", "replace")


def _word(data: bytes, charset: str) -> str:
    try:
        return decode(data, charset)
    except LookupError:
        return decode(data)


def _unpack(content: str, kind: str) -> bytes:
    raw = content.encode("utf-8", "replace")
    if kind == "q":
        return quopri.decodestring(raw, header=True)
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return raw
