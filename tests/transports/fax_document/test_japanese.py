"""A Japanese mail is legible: each character on the page looks like the font's own, and like no other one of the text.

The picture of the page is in the documentation (examples/fax-bridge/japanese.png) and must be what is drawn.
"""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageStat

from tests.transports.fax_document.support import JAPANESE, Drawn, draw, needs_japanese

pytestmark = needs_japanese

LINES = [
    "こんにちは、世界。",
    "見積書をお送りします。ご確認ください。",
    "東京都千代田区　電話　〇三（一二三四）五六七八",
    "髙橋・齋藤・﨑山　①㈱",
]
HEADER = """\
From: =?ISO-2022-JP?B?GyRCOzNFREJATzobKEI=?= <taro@x.example>
To: 03-1234-5678@fax.your.domain
Date: Tue, 24 Nov 2026 09:30:00 +0900
Subject: =?UTF-8?B?{subject}?=
MIME-Version: 1.0
"""
SUBJECT = "5b6h6KaL56mN5pu444Gu5Lu2"  # 御見積書の件
PICTURE = Path(__file__).parents[3] / "examples" / "fax-bridge" / "japanese.png"
SIDE = 24


def page_of(folder: Path, charset: str) -> Drawn:
    text = "\n".join(LINES) + "\n"
    head = HEADER.format(subject=SUBJECT) + f"Content-Type: text/plain; charset={charset}\n\n"
    body = text.encode("utf-8") if charset == "utf-8" else iso_2022_jp(text)
    return draw(head.encode() + body, folder)


def iso_2022_jp(text: str) -> bytes:
    """As Windows programs write it: with NEC's rows, which Python's codec does not know."""
    out = bytearray()
    for letter in text:
        code = letter.encode("cp932")
        code = {"髙": b"\xee\xe0", "﨑": b"\xed\x95"}.get(letter, code)
        if len(code) == 1:
            out += code
            continue
        high, low = code[0] - (0x81 if code[0] < 0xA0 else 0xC1), code[1]
        row = high * 2 + 0x21 + (low >= 0x9F)
        cell = low - 0x7E if low >= 0x9F else low - 0x1F - (low > 0x7F)
        out += b"\x1b$B" + bytes((row, cell)) + b"\x1b(B"
    return bytes(out)


@pytest.mark.parametrize("charset", ["utf-8", "iso-2022-jp"])
def test_each_character_on_the_page_is_the_fonts_own(tmp_path, charset):
    made = page_of(tmp_path, charset)
    letters = sorted({letter for line in LINES for letter in line if letter not in "　、。・"})
    models = {letter: model(letter) for letter in letters}
    (page,) = made.images()
    seen = 0
    for letter, box in characters(made):
        if letter in models:
            own = square(page.crop(box))
            likeness = {other: difference(own, drawn) for other, drawn in models.items()}
            assert min(likeness, key=lambda other: likeness[other]) == letter
            assert likeness[letter] < 45
            seen += 1
    assert seen >= sum(letter in models for line in LINES for letter in line)


def test_the_text_and_its_font_are_in_the_pdf(tmp_path):
    made = page_of(tmp_path, "iso-2022-jp")
    (text,) = made.texts()
    for line in ["山田太郎 <taro@x.example>", "御見積書の件", *LINES]:
        assert line.replace("　", " ") in text
    with pypdfium2.PdfDocument(made.folder / "document.pdf") as document:
        page = document[0].get_textpage()
        at = page.get_text_range(0, page.count_chars()).index("世")
        assert "IPAGothic" in font_of(page, at)


def test_the_picture_in_the_documentation_is_what_is_drawn(tmp_path):
    (page,) = page_of(tmp_path, "iso-2022-jp").images()
    now = picture(page)
    with Image.open(PICTURE) as shown:
        assert shown.size == now.size
        assert ImageStat.Stat(ImageChops.difference(shown.convert("L"), now.convert("L"))).mean[0] < 2


def picture(page: Image.Image) -> Image.Image:
    """The top of the page, half as large, in few shades."""
    return page.convert("L").crop((100, 100, 1628, 540)).resize((764, 229), Image.Resampling.BOX).quantize(8)


def characters(made: Drawn) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Each character of the page, and where its dots are."""
    with pypdfium2.PdfDocument(made.folder / "document.pdf") as document:
        page = document[0].get_textpage()
        high = document[0].get_height()
        found = []
        for at in range(page.count_chars()):
            left, bottom, right, top = page.get_charbox(at)
            across, down = 204 / 72, 196 / 72
            box = (int(left * across) + 20, int((high - top) * down),
                   int(right * across) + 21, int((high - bottom) * down) + 2)
            found.append((page.get_text_range(at, 1), box))
        return found


def font_of(page: pypdfium2.PdfTextPage, at: int) -> str:
    from ctypes import c_int, create_string_buffer

    name = create_string_buffer(200)
    pdfium.FPDFText_GetFontInfo(page, at, name, 200, c_int())
    return name.value.decode()


def model(letter: str) -> Image.Image:
    """As FreeType draws it."""
    field = Image.new("L", (160, 160), 255)
    ImageDraw.Draw(field).text((20, 20), letter, fill=0, font=ImageFont.truetype(str(JAPANESE), 100))
    return square(field)


def square(image: Image.Image) -> Image.Image:
    """The dots alone, in a field of the same size for all."""
    grey = image.convert("L")
    box = Image.eval(grey, lambda shade: 255 if shade < 128 else 0).getbbox()
    assert box is not None, "there are no dots"
    return grey.crop(box).resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1))


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(ImageStat.Stat(ImageChops.difference(one, other)).mean[0])
