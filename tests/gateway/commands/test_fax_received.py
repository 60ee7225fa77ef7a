"""A fax that came in as a mail."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from gateway.commands.fax_received import main
from gateway.content import submission
from transports.fax.received import BadFax, read

pypdfium2 = pytest.importorskip("pypdfium2")

PAGES = (("Hello", 1100), ("World", 550))
CALL = "+49 30 123456\n+4930123457\nACME\n<NONE>\n200"
TAGS = {270: CALL, 306: "2026:11:24 21:43:33", 34909: "53", 34910: 42, 282: 204.0}


def fax(path: Path, lines: float = 98.0, fill_order: int = 1, compression: str = "group4", **tags: Any) -> Path:
    pages = []
    for text, rows in PAGES:
        page = Image.new("1", (1728, rows), 1)
        ImageDraw.Draw(page).text((100, 100), text, fill=0, font_size=60)
        ImageDraw.Draw(page).rectangle((0, rows - 20, 900, rows - 1), fill=0)
        pages.append(page)
    info: Any = {**TAGS, 283: lines, **tags}
    pages[0].save(path, "TIFF", compression=compression, save_all=True, append_images=pages[1:], tiffinfo=info)
    return path


def darkness(picture: Image.Image, box: tuple[float, float, float, float]) -> float:
    """Of a part of a page, 0 to 1; the box in parts of its width and height."""
    width, height = picture.size
    left, top, right, bottom = box
    part = picture.convert("L").crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))
    return 1 - sum(part.tobytes()) / len(part.tobytes()) / 255


@pytest.mark.parametrize("compression", ["group3", "group4", "raw"])
def test_pages_become_a_pdf_of_their_size(tmp_path: Path, compression: str) -> None:
    known = read(fax(tmp_path / "a.tif", compression=compression))
    assert (known.sender, known.calls, known.subaddress) == ("+49 30 123456", ("+4930123457", "ACME", "", "200"), "53")
    assert (known.date, known.pages, known.seconds, known.quality) == ("2026-11-24 21:43:33", 2, 42, "normal")
    document = pypdfium2.PdfDocument(known.pdf)
    sizes = [tuple(round(one) for one in document[at].get_size()) for at in range(len(document))]
    assert sizes == [(610, 808), (610, 404)]
    for at in range(2):
        picture = document[at].render(scale=1).to_pil()
        assert darkness(picture, (0.01, 0.99, 0.5, 1.0)) > 0.9 and darkness(picture, (0.55, 0.5, 1, 0.9)) < 0.01
        assert 0.02 < darkness(picture, (0.05, 0.08, 0.2, 0.3)) < 0.6


def test_qualities(tmp_path: Path) -> None:
    for lines, name in ((98, "normal"), (196, "fine"), (391, "superfine")):
        assert read(fax(tmp_path / "a.tif", lines=float(lines))).quality == name


@pytest.mark.parametrize("content", [b"", b"no picture", b"II*\0" + bytes(100), b"%PDF-1.4"])
def test_what_is_no_fax(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(BadFax):
        read(tmp_path / "a.tif")


def test_half_a_fax(tmp_path: Path) -> None:
    path = fax(tmp_path / "a.tif", compression="raw")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadFax):
        read(path)


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = folder / "queue"
        self.queue.mkdir()
        (folder / "main.cf").write_text(f"queue_directory = {self.queue}\nmyhostname = gw.my.domain\n")
        (folder / "master.cf").write_text("")

    def take(self, *arguments: str | Path) -> int:
        return main(["-c", str(self.folder), *map(str, arguments)], None)

    def mail(self) -> tuple[Any, Any]:
        (path,) = (self.queue / submission.MAILDROP).iterdir()
        file, _ = submission.open_submission(path)
        with file:
            said = submission.read_submission(file)
            return said, message_from_bytes(file.read(), policy=policy.default)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_mail(site: Site, tmp_path: Path) -> None:
    path = fax(tmp_path / "fax000000001.tif")
    to = "office@my.domain, b@my.domain"
    assert site.take("--to", to, path, "ttyS0", "000000007", "", "+4930123457", "ACME") == 0
    envelope, mail = site.mail()
    assert (envelope.sender, envelope.recipients) == ("FaxMaster", to.split(", "))
    assert mail["From"] == "Fax <FaxMaster@gw.my.domain>" and mail["Subject"] == "Fax from +49 30 123456, 2 pages"
    assert mail["Fax-Call"] == (
        "from=+49 30 123456; caller=+4930123457; pages=2; received=2026-11-24 21:43:33; seconds=42; quality=normal; "
        "sub-address=53; device=ttyS0; call=000000007; file=fax000000001.tif"
    )
    text, pages = mail.iter_parts()
    assert "From:         +49 30 123456\n" in text.get_content() and "Error" not in text.get_content()
    assert pages.get_content_type() == "application/pdf" and pages.get_filename() == "fax000000001.pdf"
    assert pages.get_content() == read(path).pdf
    assert max(map(len, pages.get_payload().split())) <= 76


def test_a_broken_one_comes_as_it_is(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "x y\r\n.tif"
    path.write_bytes(b"no picture")
    assert site.take("--to", "a@b", "--from", "master@my.domain", path, "tty\r\nBcc: z@z", "7", "line;\nbroke") == 0
    envelope, mail = site.mail()
    assert envelope.sender == "master@my.domain" and mail["From"] == "Fax <master@my.domain>"
    assert mail["Subject"] == "Fax from an unknown sender" and mail["Bcc"] is None
    assert "error=line,?broke" in mail["Fax-Call"] and "device=tty??Bcc: z@z" in mail["Fax-Call"]
    text, pages = mail.iter_parts()
    assert "no PDF could be made of them" in text.get_content()
    assert (pages.get_content_type(), pages.get_content()) == ("image/tiff", b"no picture")


@pytest.mark.parametrize("table, to", [
    ("sub:53 sub@b\ncalled:200 called@b\n", ["sub@b"]), ("called:200 called@b\ndevice:ttys0 device@b\n", ["called@b"]),
    ("called:acme caller@b\n", ["caller@b"]), ("device:ttys0 device@b, two@b\n", ["device@b", "two@b"]),
    ("from:nobody x@b\n", ["nobody@b"]),
])
def test_whose_it_is(site: Site, tmp_path: Path, table: str, to: list[str]) -> None:
    (tmp_path / "whose").write_text(table)
    path = fax(tmp_path / "a.tif")
    assert site.take("--to", "nobody@b", "--table", "texthash:$config_directory/whose", path, "ttyS0", "7") == 0
    assert site.mail()[0].recipients == to


def test_a_table_that_is_away_loses_nothing(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fax(tmp_path / "a.tif")
    assert site.take("--to", "nobody@b", "--table", "texthash:/nowhere", path, "ttyS0", "7") == 0
    assert site.mail()[0].recipients == ["nobody@b"] and "warning" in capsys.readouterr().err


def test_trouble(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.take("--to", "a@b", tmp_path / "none.tif", "ttyS0", "7") == 75
    assert "fax-received: fatal: " in capsys.readouterr().err
    assert site.take("--to", "a@b") == 64 and site.take(tmp_path / "a.tif", "ttyS0", "7") == 64
    assert site.take("--to", ",", fax(tmp_path / "a.tif"), "ttyS0", "7") == 75
    assert main(["--help"], None) == 0
