"""mailgateway fax-preview."""

from __future__ import annotations

import pwd
import subprocess
import sys
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from gateway.commands import fax_preview
from tests.system.conftest import need_others
from tests.transports.fax_document.support import mail, picture
from tests.transports.support import NOBODY

BIN = Path(sys.executable).parent / "mailgateway"


def preview(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    need_others()
    return subprocess.run([BIN, "fax-preview", *arguments], input=stdin, capture_output=True)


def test_it_tells_what_is_drawn_and_what_not_and_writes_the_pages(tmp_path: Path) -> None:
    made = mail("text\n")
    made.add_attachment(picture(), "image", "png", filename="plan.png")
    made.add_attachment(b"PK", "application", "zip", filename="prices.zip")
    file = tmp_path / "mail"
    file.write_bytes(made.as_bytes())
    out = tmp_path / "pages.png"
    done = preview("-o", out, "--cover", "to=you", "--header-line", "${page}", file)
    assert done.stdout.decode() == (
        "the cover page                        1 page\n"
        "part 1 (text/plain)                   1 page\n"
        "part 2 (plan.png, image/png)          1 page\n"
        "part 3 (prices.zip, application/zip)  cannot be drawn: files of this type cannot be drawn\n"
        f"3 pages, up to {done.stdout.decode().partition('up to ')[2].partition(' ')[0]} minutes at 14400 bit/s\n"
        + "".join(f"written: {tmp_path}/pages-{page}.png\n" for page in (1, 2, 3))
    )
    assert (done.returncode, done.stderr) == (65, b"")
    with Image.open(tmp_path / "pages-3.png") as page:
        assert (page.size, page.mode) == ((1728, 2284), "1")


def test_standard_input_is_drawn_as_a_service_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = pwd.getpwuid(NOBODY.uid).pw_name
    service = f"fax unix - n n - - fax user={account} country=49 paper=letter max_pages=1"
    (tmp_path / "main.cf").write_text("")
    (tmp_path / "master.cf").write_text(f"{service}\nsmtp unix - - n - - smtp\n")
    out = tmp_path / "pages.pdf"
    made = mail("one\n")
    made.add_attachment(b"\ftwo\n\fthree\n", maintype="text", subtype="plain")
    done = preview("-c", tmp_path, "-s", "fax", "-o", out, stdin=made.as_bytes())
    assert (done.returncode, done.stderr) == (65, b"")
    assert done.stdout.decode().splitlines()[:2] == [
        "part 1 (text/plain)  1 page",
        "part 2 (text/plain)  cannot be drawn: the document has more than 1 page with it",
    ]
    with pikepdf.open(out) as document:
        assert [float(one) for one in document.pages[0].mediabox] == pytest.approx([0, 0, 612, 792], abs=0.1)
    assert fax_preview.main(["-s", "smtp"], tmp_path) == 64
    assert "smtp is no fax service of master.cf" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, status, text", [
    (["-o", "pages.doc", "x"], 64, "pages.doc ends with none of .pdf, .tiff, .tif, .png"),
    (["--cover", "too=you", "x"], 64, "--cover takes to, sender, subject, attn, date, comments, not 'too'"),
    (["--cover-template", "/no/such", "x"], 66, "No such file or directory: '/no/such'"),
    (["/no/such"], 66, "fax-preview: fatal: /no/such: No such file or directory"),
    (["/"], 66, "fax-preview: fatal: /: Is a directory"),
])
def test_mistakes(arguments: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fax_preview.main(arguments, None) == status
    assert text in capsys.readouterr().err
