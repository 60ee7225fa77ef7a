"""Which characters the installed fonts can draw, and what stands for those that they can't.

Never a box: ``legible`` puts something readable in the place of a character that no font has: its canonical or
compatible form (ﬁ → fi, 𝐀 → A), nothing for one that is invisible anyway, "[grinning face]" for a symbol, "[U+E123]"
for what has no name.  If more than one letter in twenty is lacking, nobody could read the result, and it raises NoFont
with the name of the script.

Asks fontconfig, as Pango does, for fonts in the formats that Pango can shape (TrueType, CFF).
"""

from __future__ import annotations

import ctypes
import unicodedata
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_void_p
from functools import cache

TOLERATED = 20
"""One letter in so many may be shown by its number."""
_COLOURS_OF_SKIN = dict.fromkeys(range(0x1F3FB, 0x1F400))
"""Of emoji: a fax has none, and what is left of them is a blot."""
_FORMATS = (b"TrueType", b"CFF")
_SYSTEM_FONTS = 0


class NoFont(Exception):
    """No font for the script of this text; for people."""


class _FontSet(ctypes.Structure):
    _fields_ = [("count", c_int), ("room", c_int), ("fonts", POINTER(c_void_p))]


class Fonts:
    """What is installed.  Raises OSError if there is no fontconfig."""

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL("libfontconfig.so.1")
        for name, result in (
            ("FcInitLoadConfigAndFonts", c_void_p), ("FcConfigGetFonts", POINTER(_FontSet)),
            ("FcCharSetCreate", c_void_p), ("FcConfigGetFontDirs", c_void_p), ("FcStrListNext", c_char_p),
            ("FcConfigGetCacheDirs", c_void_p),
        ):
            getattr(library, name).restype = result
        self._config = c_void_p(library.FcInitLoadConfigAndFonts())
        self._covered = c_void_p(library.FcCharSetCreate())
        self._known: dict[str, bool] = {}
        found = library.FcConfigGetFonts(self._config, _SYSTEM_FONTS)
        if found:
            for pattern in found.contents.fonts[: found.contents.count]:
                self._add(c_void_p(pattern))

    def _add(self, pattern: c_void_p) -> None:
        fontformat, characters = c_char_p(), c_void_p()
        library = self._library
        if library.FcPatternGetString(pattern, b"fontformat", 0, byref(fontformat)) or fontformat.value not in _FORMATS:
            return
        if not library.FcPatternGetCharSet(pattern, b"charset", 0, byref(characters)):
            library.FcCharSetMerge(self._covered, characters, None)

    def folders(self) -> list[str]:
        """Where fonts, and fontconfig's notes of them, are."""
        found: list[str] = []
        for ask in (self._library.FcConfigGetFontDirs, self._library.FcConfigGetCacheDirs):
            names = c_void_p(ask(self._config))
            while name := self._library.FcStrListNext(names):
                found.append(name.decode("utf-8", "surrogateescape"))
            self._library.FcStrListDone(names)
        return found

    def have(self, letter: str) -> bool:
        known = self._known.get(letter)
        if known is None:
            known = bool(self._library.FcCharSetHasChar(self._covered, c_uint32(ord(letter))))
            self._known[letter] = known
        return known

    def legible(self, text: str) -> str:
        """See the module's docstring."""
        if text.isascii() and text.isprintable():
            return text
        text = text.translate(_COLOURS_OF_SKIN)
        lacking = [letter for letter in set(text) if not self._can_draw(letter)]
        if not lacking:
            return text
        self._check(text, lacking)
        return text.translate({ord(letter): self._instead(letter) for letter in lacking})

    def _can_draw(self, letter: str) -> bool:
        if letter in "\n\t\r\f" or self.have(letter):
            return True
        apart = unicodedata.normalize("NFD", letter)
        return apart != letter and all(map(self.have, apart))

    def _check(self, text: str, lacking: list[str]) -> None:
        lost = {letter for letter in lacking if _is_letter(letter) and self._instead(letter).startswith("[U+")}
        if not lost:
            return
        count = sum(letter in lost for letter in text)
        if count * TOLERATED > sum(map(_is_letter, text)):
            first = next(letter for letter in text if letter in lost)
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise NoFont(f"no installed font has the letters of {script(first)} (U+{ord(first):04X}{more})")

    def _instead(self, letter: str) -> str:
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cf") or 0xFE00 <= ord(letter) <= 0xFE0F or 0xE0100 <= ord(letter) <= 0xE01EF:
            return ""
        if kind.startswith("Z"):
            return " "
        other = unicodedata.normalize("NFKC", letter)
        if other != letter and all(map(self._can_draw, other)):
            return other
        name = unicodedata.name(letter, "")
        if name and kind[0] in "SP":
            return f"[{name.lower()}]"
        return f"[U+{ord(letter):04X}]"


@cache
def _is_letter(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN"


def script(letter: str) -> str:
    """"Devanagari": the first word of the character's name, which is its script for all that matter here."""
    name = unicodedata.name(letter, "")
    if name.startswith("CJK"):
        return "Chinese or Japanese"
    return name.partition(" ")[0].capitalize() or "an unknown script"
