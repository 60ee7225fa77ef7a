"""Draws mails in this process, and reads the pages back."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageSequence

from transports.fax.document import Part, Wish

try:
    import pypdfium2
    import weasyprint

    from transports.fax.document.drawing import Drawing
    from transports.fax.document.fonts import Fonts
except (ImportError, OSError) as error:
    pytest.skip(f"mail cannot be drawn here: {error}", allow_module_level=True)

FONTS = Fonts()
JAPANESE = Path("/usr/share/fonts/opentype/ipafont-gothic/ipag.ttf")
needs_japanese = pytest.mark.skipif(not JAPANESE.exists(), reason="needs the package fonts-ipafont-gothic")
needs_devanagari = pytest.mark.skipif(not FONTS.have("न"), reason="needs the package fonts-lohit-deva")


@dataclass
class Drawn:
    folder: Path
    pages: int
    parts: list[Part]

    def texts(self) -> list[str]:
        """What the pages of the PDF say."""
        with pypdfium2.PdfDocument(self.folder / "document.pdf") as pdf:
            return [" ".join(page.get_textpage().get_text_range().split()) for page in pdf]

    def images(self) -> list[Image.Image]:
        """What goes over the line."""
        with Image.open(self.folder / "document.tiff") as tiff:
            return [frame.copy() for frame in ImageSequence.Iterator(tiff)]

    def fates(self) -> dict[str, str | int]:
        return {part.name: part.trouble or part.left_out or part.pages for part in self.parts}


def draw(mail: bytes | EmailMessage, folder: Path, **wish: Any) -> Drawn:
    """In a folder of its own in ``folder``.  Raises Unrenderable."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    data = mail if isinstance(mail, bytes) else mail.as_bytes()
    pages, parts = Drawing(Wish(**wish), folder, FONTS, lambda part: None).finish(data)
    return Drawn(folder, pages, parts)


def mail(text: str = "", subject: str = "an offer", **facts: str) -> EmailMessage:
    """From Joe, with this text."""
    made = EmailMessage()
    made["From"] = "Joe <joe@x.example>"
    made["Subject"] = subject
    if text:
        made.set_content(text, **facts)
    return made


def picture(form: str = "PNG", size: tuple[int, int] = (400, 200), colour: str = "black", **facts: Any) -> bytes:
    """A white field with a bar across its middle."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((0, size[1] // 3, size[0], size[1] * 2 // 3), fill=colour)
    file = io.BytesIO()
    image.save(file, form, **facts)
    return file.getvalue()


def pdf(markup: str = "<h1>Offer</h1>", **facts: object) -> bytes:
    """A stranger's PDF."""
    return bytes(weasyprint.HTML(string=markup, **facts).write_pdf())


def ink(image: Image.Image) -> int:
    """Black dots."""
    return image.convert("1").histogram()[0]
