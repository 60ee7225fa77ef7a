"""What a mail becomes: pages, parts, and what cannot be drawn."""

from __future__ import annotations

import io
import shutil

import pikepdf
import pypdfium2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageStat

from tests.transports.fax_document.support import FONTS, draw, ink, mail, needs_devanagari, pdf, picture
from tests.transports.fax_document.test_parts import PIECES
from transports.fax.document import Cover, Unrenderable

SYMBOL = "\U000118a0"
"""Warang Citi, for which nobody has a font."""


def with_file(data: bytes, kind: str, name: str):
    made = mail("See the file.\n")
    made.add_attachment(data, *kind.split("/"), filename=name)
    return made


# --- text and HTML ---------------------------------------------------------------------------------------------------


def test_text_stands_below_who_sends_it(tmp_path):
    made = draw(mail("Dear Sir,\n\n  1  pump   4.50 €\n"), tmp_path)
    assert made.texts() == ["From: Joe <joe@x.example> Subject: an offer Dear Sir, 1 pump 4.50 €"]
    assert made.fates() == {"the message (text/plain)": 1}
    with Image.open(made.folder / "document.tiff") as page:
        assert (page.size, page.mode, page.info["dpi"]) == ((1728, 2284), "1", (204, 196))
        # Group 3, 0 is white, the lowest bit first, one strip, page 0 of 1
        assert [page.tag_v2[tag] for tag in (259, 262, 266, 278, 297)] == [3, 0, 2, 2284, (0, 1)]


def test_normal_resolution_and_letter(tmp_path):
    (page,) = draw(mail("x"), tmp_path, resolution="normal", paper="letter").images()
    assert (page.size, page.info["dpi"]) == ((1728, 1076), (204, 98))


def test_a_form_feed_begins_a_page_and_long_texts_go_on(tmp_path):
    text = "".join(f"line {at}\n" for at in range(100)) + "\flast\n"
    texts = draw(mail(text), tmp_path).texts()
    assert len(texts) == 3
    assert "line 99" in texts[1] and texts[2] == "last"


def test_lines_of_eighty_letters_are_not_broken(tmp_path):
    made = draw(mail("x" * 80 + "\nend\n"), tmp_path)
    with pypdfium2.PdfDocument(made.folder / "document.pdf") as document:
        page = document[0].get_textpage()
        tops = {round(page.get_charbox(at)[3]) for at in range(page.count_chars()) if page.get_text_range(at, 1) == "x"}
    assert len(tops) <= 2  # those of "x.example" and of the line


def test_flowed_text_is_put_together(tmp_path):
    text = b"Content-Type: text/plain; format=flowed\n\none \ntwo\n"
    assert draw(text, tmp_path).texts() == ["one two"]


def test_arabic_is_joined_and_hebrew_runs_from_right_to_left(tmp_path):
    made = draw(mail("שלום 123\nabc\n"), tmp_path)
    with pypdfium2.PdfDocument(made.folder / "document.pdf") as document:
        page = document[0].get_textpage()
        left = {page.get_text_range(at, 1): page.get_charbox(at)[0] for at in range(page.count_chars())}
    assert left["ש"] > left["ל"] > left["ם"] > left["3"] > left["1"] > 400 > left["c"]
    assert gaps(draw(b"\nbbb\n", tmp_path).images()[0]) == 2
    assert gaps(draw("\nببب\n".encode(), tmp_path).images()[0]) == 0


def gaps(page: Image.Image) -> int:
    """How often white columns stand between black ones."""
    black = Image.eval(page.convert("L"), lambda shade: 255 - shade)
    left, top, right, bottom = black.getbbox()
    columns = black.crop((left, top, right, bottom)).reduce((1, bottom - top)).tobytes()
    return len([stretch for stretch in columns.split(b"\0") if stretch]) - 1


@needs_devanagari
def test_devanagari_is_shaped(tmp_path):
    """The conjunct of क, virama and ष has a form of its own, without the stroke that shows a virama."""
    conjunct = draw("\nक्ष\n".encode(), tmp_path).images()[0]
    apart = draw("\nक्\u200cष\n".encode(), tmp_path).images()[0]
    assert width(conjunct) < 0.8 * width(apart)


def width(page: Image.Image) -> int:
    left, _, right, _ = Image.eval(page.convert("L"), lambda shade: 255 - shade).getbbox()
    return right - left


def test_what_no_font_has_is_shown_in_words(tmp_path):
    made = draw(mail(f"Some letters, enough of them, {SYMBOL} and \ufb01ne \U0001d400 \U0001fbc5.\n"), tmp_path)
    shown = made.texts()[0]
    assert "[U+118A0]" in shown
    assert "\U0001fbc5" in shown if FONTS.have("\U0001fbc5") else "[stick figure]" in shown
    with pytest.raises(Unrenderable, match="no installed font has the letters of Warang") as raised:
        draw(mail(SYMBOL * 5), tmp_path)
    assert raised.value.part == "the message (text/plain)"


def test_html_is_drawn_in_black_without_anything_from_elsewhere(tmp_path):
    made = mail("plain")
    made.add_alternative(
        "<script>alert(1)</script><p style='color:white;background:black'>white on <b>black</b></p>"
        "<img src='http://127.0.0.1:9/x.png' alt='a banner'> <img src='file:///etc/passwd' alt='a file'>"
        "<link rel='attachment' href='file:///etc/passwd'><object data='file:///etc/passwd'></object>", subtype="html",
    )
    done = draw(made, tmp_path)
    assert done.texts() == ["From: Joe <joe@x.example> Subject: an offer white on black a banner a file"]
    assert done.fates() == {"part 2 (text/html)": 1, "part 1 (text/plain)": "another form of the same is drawn"}
    assert b"root:" not in (done.folder / "document.pdf").read_bytes()
    with pikepdf.open(done.folder / "document.pdf") as document:
        assert not document.attachments and "/Annots" not in document.pages[0]
    assert ink(done.images()[0]) < 60_000  # no ground


def test_html_shows_the_pictures_that_came_with_it(tmp_path):
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACw="  # not quite a GIF
    made = mail(f"<p>Look: <img src='cid:a@x'><img src='{dot}'></p>", subtype="html")
    bare = ink(draw(made, tmp_path).images()[0])
    made.add_related(picture(colour="navy"), "image", "png", cid="<a@x>")
    assert ink(draw(made, tmp_path).images()[0]) > bare + 50_000


def test_a_wide_page_is_made_smaller(tmp_path):
    cells = "".join(f"<td style='white-space:nowrap'>column number {at}</td>" for at in range(9))
    made = draw(mail(f"<table><tr>{cells}</table>", subtype="html"), tmp_path)
    with pypdfium2.PdfDocument(made.folder / "document.pdf") as document:
        page = document[0].get_textpage()
        boxes = [page.get_charbox(at) for at in range(page.count_chars())]
    assert "column number 8" in made.texts()[0]
    assert max(box[2] for box in boxes) < 595 - 30


def test_html_without_anything_to_see_is_no_better_than_text(tmp_path):
    made = mail("the text\n")
    made.add_alternative("<html><body>&nbsp;<img src='http://x/1.png'></body></html>", subtype="html")
    assert draw(made, tmp_path).fates() == {
        "part 2 (text/html)": "there is nothing to see in it", "part 1 (text/plain)": 1,
    }


def test_if_the_best_form_cannot_be_drawn_the_next_is(tmp_path):
    made = mail("the text\n")
    made.add_alternative("<div>" * 3000 + "deep", subtype="html")
    done = draw(made, tmp_path)
    assert done.fates() == {"part 2 (text/html)": "it is nested too deeply", "part 1 (text/plain)": 1}
    assert done.texts() == ["From: Joe <joe@x.example> Subject: an offer the text"]


def test_a_forwarded_message_has_its_own_heading(tmp_path):
    made = mail("outside\n")
    made.add_attachment(mail("inside\n", "the inner one"))
    assert draw(made, tmp_path).texts() == [
        "From: Joe <joe@x.example> Subject: an offer outside",
        "From: Joe <joe@x.example> Subject: the inner one inside",
    ]


def test_a_subject_may_say_it_all(tmp_path):
    assert draw(mail(subject="call me"), tmp_path).texts() == ["From: Joe <joe@x.example> Subject: call me"]


# --- PDF -------------------------------------------------------------------------------------------------------------


def test_a_pdf_alone_is_faxed_as_it_is(tmp_path):
    made = mail()
    made.set_content(pdf("<p>one<p style='page-break-before:always'>two"), "application", "pdf")
    done = draw(made, tmp_path)
    assert done.texts() == ["one", "two"]
    assert done.pages == len(done.images()) == 2


def test_pages_that_are_wider_than_high_are_turned_and_large_ones_made_smaller(tmp_path):
    wide = pdf("<style>@page{size:A3 landscape}</style><p>wide")
    made = draw(with_file(wide, "application/octet-stream", "plan.pdf"), tmp_path)
    assert made.fates() == {"part 1 (text/plain)": 1, "part 2 (plan.pdf, application/pdf)": 1}
    with pikepdf.open(made.folder / "document.pdf") as document:
        assert [round(float(one)) for one in document.pages[1].mediabox] == [0, 0, 595, 842]
    with pypdfium2.PdfDocument(made.folder / "document.pdf") as document:
        page = document[1].get_textpage()
        first, last = page.get_charbox(0), page.get_charbox(3)
    assert abs(first[0] - last[0]) < 5 and first[1] > last[1]  # from top to bottom


def test_nothing_that_acts_comes_along(tmp_path):
    with pikepdf.open(io.BytesIO(pdf("<a href='http://x.example'>link</a>"))) as document:
        document.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")
        document.attachments["x"] = b"secret"
        file = io.BytesIO()
        document.save(file)
    made = draw(with_file(file.getvalue(), "application/pdf", "a.pdf"), tmp_path)
    with pikepdf.open(made.folder / "document.pdf") as document:
        assert set(document.Root.keys()) == {"/Type", "/Pages"}
        assert all("/Annots" not in page for page in document.pages)


def test_a_filled_form_is_printed(tmp_path):
    form = filled_form()
    bare = ink(draw(with_file(pdf("<p>"), "application/pdf", "a.pdf"), tmp_path).images()[1])
    assert ink(draw(with_file(form, "application/pdf", "a.pdf"), tmp_path).images()[1]) > bare + 100


def filled_form() -> bytes:
    """With an answer that is no text of the page, but of a field that wants its appearance made."""
    with pikepdf.open(io.BytesIO(pdf("<p>"))) as document:
        font = pikepdf.Dictionary(Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica)
        widget = document.make_indirect(pikepdf.Dictionary(
            Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Widget, FT=pikepdf.Name.Tx, T="a", V="my answer", F=4,
            Rect=[100, 600, 300, 630], DA="/F 12 Tf 0 g",
        ))
        document.pages[0].Annots = [widget]
        document.Root.AcroForm = pikepdf.Dictionary(
            Fields=[widget], NeedAppearances=True, DA="/F 12 Tf 0 g", DR={"/Font": {"/F": font}},
        )
        file = io.BytesIO()
        document.save(file)
    return file.getvalue()


def test_a_pdf_without_a_password_to_open_is_drawn_though_encrypted(tmp_path):
    def encrypted(user: str) -> bytes:
        with pikepdf.open(io.BytesIO(pdf())) as document:
            file = io.BytesIO()
            document.save(file, encryption=pikepdf.Encryption(user=user, owner="secret"))
        return file.getvalue()

    assert draw(with_file(encrypted(""), "application/pdf", "a.pdf"), tmp_path).texts()[1] == "Offer"
    with pytest.raises(Unrenderable, match="encrypted, and takes a password"):
        draw(with_file(encrypted("x"), "application/pdf", "a.pdf"), tmp_path)


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_pictures_of_all_kinds(tmp_path, form):
    made = mail()
    made.set_content(picture(form, dpi=(100, 100)), "image", form.lower())
    (page,) = draw(made, tmp_path).images()
    # 400 × 200 dots at 100 an inch (these two don't tell), a third of it black.
    dots = 96 if form in ("GIF", "WEBP") else 100
    assert ink(page) == pytest.approx(400 / dots * 204 * 200 / dots / 3 * 196, rel=0.05)


def test_shades_of_grey_become_as_many_dots(tmp_path):
    made = mail()
    made.set_content(picture(size=(800, 900), colour="#a2a2a2", dpi=(100, 100)), "image", "png")
    (page,) = draw(made, tmp_path).images()
    middle = page.crop((500, 780, 1200, 1050)).convert("L")
    assert ImageStat.Stat(middle).mean[0] == pytest.approx(127, abs=6)
    assert {shade for _, shade in middle.getcolors()} == {0, 255}


def test_the_grey_of_scanned_paper_is_made_white(tmp_path):
    scan = Image.new("L", (1240, 1754), 222)
    ImageDraw.Draw(scan).rectangle((300, 300, 500, 320), fill=60)
    scan = Image.blend(scan, Image.effect_noise(scan.size, 20), 0.1)
    file = io.BytesIO()
    scan.save(file, "JPEG", dpi=(150, 150))
    made = mail()
    made.set_content(file.getvalue(), "image", "jpeg")
    (page,) = draw(made, tmp_path).images()
    assert ink(page) == pytest.approx(200 * 20 * 204 * 196 / 150**2, rel=0.2)  # a little smaller, for the margins


def test_a_picture_lies_as_its_camera_was_held_and_on_white(tmp_path):
    image = Image.new("RGBA", (100, 300), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 100, 100))
    exif = Image.Exif()
    exif[274] = 8  # a quarter to the left
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif, dpi=(100, 100))
    made = mail()
    made.set_content(file.getvalue(), "image", "png")
    (page,) = draw(made, tmp_path).images()
    black = Image.eval(page.convert("L"), lambda shade: 255 - shade).getbbox()
    assert black is not None and black[0] < 900 and black[2] - black[0] == pytest.approx(204, abs=3)
    assert ink(page) == pytest.approx(204 * 196, rel=0.03)


def test_fax_pages_go_as_they_are(tmp_path):
    pages = [Image.effect_noise((1728, lines), 90).convert("1") for lines in (2200, 1100)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="group4", dpi=(204, 196))
    made = mail()
    made.set_content(file.getvalue(), "image", "tiff")
    sent = draw(made, tmp_path).images()
    assert [one.tobytes() for one in sent] == [one.tobytes() for one in pages]
    # With a header line only the first lines are another's.
    sent = draw(made, tmp_path, header_line="x").images()
    assert [one.crop((0, 70, 1728, one.height)).tobytes() for one in sent] == [
        one.crop((0, 70, 1728, one.height)).tobytes() for one in pages
    ]
    assert sent[0].tobytes() != pages[0].tobytes()
    (first, _) = draw(made, tmp_path, resolution="normal").images()
    assert first.size == (1728, 1100)


def test_svg(tmp_path):
    made = mail()
    made.set_content(
        b"<svg xmlns='http://www.w3.org/2000/svg' width='100' height='100'><rect width='100' height='100'/>"
        b"<image href='file:///etc/passwd' width='9' height='9'/></svg>", "image", "svg+xml",
    )
    assert ink(draw(made, tmp_path).images()[0]) > 40_000


# --- cover, header, limits -------------------------------------------------------------------------------------------


def test_a_cover_page_says_what_it_should(tmp_path):
    cover = Cover(to="+49 30 123", sender="Joe & Co", subject="<b>", comments="two\nlines", date="today")
    made = draw(mail("the text\n"), tmp_path, cover=cover)
    assert [text.replace("FA X", "FAX") for text in made.texts()] == [
        "FAX To +49 30 123 From Joe & Co Subject <b> Date today Pages 2, with this one two lines", "the text",
    ]
    assert made.fates() == {"the cover page": 1, "the message (text/plain)": 1}


def test_a_site_has_its_own_cover_page(tmp_path):
    cover = Cover(to="you", pages=7, template="<p>${to} gets ${pages}, $5 each, ${more}<p style='break-before:page'>2")
    assert draw(mail("x\n"), tmp_path, cover=cover).texts()[:2] == ["you gets 7, $5 each, ${more}", "2"]
    counted = Cover(template="<p>${pages}<p style='break-before:page'>2")
    assert draw(mail("x\n"), tmp_path, cover=counted).texts()[0] == "3"


def test_each_page_has_its_header_line(tmp_path):
    made = draw(mail("one\n\ftwo\n"), tmp_path, header_line="joe & co  ${page} of ${pages}")
    assert [text.rpartition("joe")[2] for text in made.texts()] == [" & co 1 of 2", " & co 2 of 2"]


@pytest.mark.parametrize("data, kind, name, reason", [
    (b"PK\3\4", "application/zip", "a.zip", "files of this type cannot be drawn"),
    (b"x", "audio/mpeg", "a.mp3", "files of this type cannot be drawn"),
    (b"x", "video/mp4", "a.mp4", "files of this type cannot be drawn"),
    (b"%PDF-1.4 x", "application/pdf", "a.pdf", "it is damaged"),
    (b"xyz", "application/pdf", "b.pdf", "it is damaged"),
    (b"\x89PNG\r\n\x1a\n", "image/png", "a.png", "it is damaged, or no picture of a kind that is known"),
    (picture("JPEG")[:300], "image/jpeg", "a.jpg", "it is damaged"),
    (picture("GIF", (9000, 9000)), "image/gif", "big.gif", "it has 9000 × 9000 dots, more than 50 million"),
    (b"x", "image/heic", "a.heic", "it is damaged, or no picture of a kind that is known"),
    (b"<svg", "image/svg+xml", "a.svg", "a picture in it: it is damaged"),
])
def test_what_cannot_be_drawn_is_told_by_part_and_reason(tmp_path, data, kind, name, reason):
    made = with_file(data, kind, name)
    with pytest.raises(Unrenderable) as raised:
        draw(made, tmp_path)
    assert raised.value.part == f"part 2 ({name}, {kind})"
    assert raised.value.reason.startswith(reason)
    partial = draw(made, tmp_path, partial=True)
    assert [(part.pages, part.trouble[: len(reason)]) for part in partial.parts] == [(1, ""), (0, reason)]


def test_a_broken_picture_in_a_page(tmp_path):
    made = mail("<img src='cid:a@x'>", subtype="html")
    made.add_related(b"xyz", "image", "png", cid="<a@x>")
    with pytest.raises(Unrenderable, match="part 1 .text/html.: a picture in it: it is damaged"):
        draw(made, tmp_path)


@pytest.mark.parametrize("text", ["\n" * 30_000 + "x", "word " * 50_000, "x\n\f" * 6])
def test_too_many_pages_of_text(tmp_path, text):
    with pytest.raises(Unrenderable, match="the document has more than 5 pages with it"):
        draw(mail(text), tmp_path, max_pages=5)


def test_too_many_pages_of_pdf_and_tiff(tmp_path):
    with pikepdf.new() as document:
        page = document.add_blank_page()
        document.Root.Pages.Kids = pikepdf.Array([page.obj] * 100_000)
        document.Root.Pages.Count = 100_000
        file = io.BytesIO()
        document.save(file)
    with pytest.raises(Unrenderable, match="more than 100 pages"):
        draw(with_file(file.getvalue(), "application/pdf", "a.pdf"), tmp_path)
    frame = Image.new("1", (1728, 100), 1)
    file = io.BytesIO()
    frame.save(file, "TIFF", save_all=True, append_images=[frame] * 10, compression="group4", dpi=(204, 98))
    with pytest.raises(Unrenderable, match="more than 5 pages"):
        draw(with_file(file.getvalue(), "image/tiff", "a.tif"), tmp_path, max_pages=5)


@pytest.mark.parametrize("text", [b"", b"\n\n", b"Content-Type: multipart/mixed; boundary=b\n\n--b--\n"])
def test_there_may_be_nothing_to_draw(tmp_path, text):
    with pytest.raises(Unrenderable, match="the message: there is nothing to draw in it"):
        draw(text, tmp_path)


@pytest.mark.skipif(shutil.which("soffice") is not None, reason="LibreOffice is installed")
def test_office_files_without_an_office(tmp_path):
    with pytest.raises(Unrenderable, match=r"part 2 .offer.doc.*there is no LibreOffice"):
        draw(with_file(b"x", "application/msword", "offer.doc"), tmp_path)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.sampled_from([b"<b>text", b"text\n", b"<img src=cid:a>"]), max_size=15).map(b"".join))
def test_any_mail_is_drawn_or_told_why_not(tmp_path, data):
    try:
        assert draw(data, tmp_path, max_pages=5).pages > 0
    except Unrenderable as error:
        assert error.part and error.reason
