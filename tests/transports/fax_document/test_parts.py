"""The plan that a mail's MIME structure makes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.fax_document.support import mail, picture
from transports.fax.document.parts import MOST_PARTS, Choice, Heading, Leaf, LeftOut, plan_of


def shape(plan):
    """A plan in words."""
    words = {Heading: lambda one: "heading", LeftOut: lambda one: f"({one.name})",
             Choice: lambda one: [shape(plan) for plan in one.plans],
             Leaf: lambda one: one.trouble or one.type}
    return [words[type(item)](item) for item in plan]


def test_a_text_alone():
    plan = plan_of(mail("Hello\n").as_bytes())
    assert shape(plan) == ["heading", "text/plain"]
    assert plan[0].fields == [("From", "Joe <joe@x.example>"), ("Subject", "an offer")]
    assert plan[1].name == "the message (text/plain)"


def test_of_alternatives_the_last_is_the_best():
    made = mail("plain")
    made.add_alternative("<b>x</b>", subtype="html")
    made.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="a.pdf")
    assert shape(plan_of(made.as_bytes())) == ["heading", [["text/html"], ["text/plain"]], "application/pdf"]


def test_pictures_that_a_page_shows_are_no_parts_of_their_own():
    made = mail("<img src='cid:one@x'>", subtype="html")
    made.add_related(picture(), "image", "png", cid="<one@x>")
    made.add_related(picture(), "image", "png", cid="<two@x>", filename="two.png")
    plan = plan_of(made.as_bytes())
    assert shape(plan) == ["heading", "text/html", "image/png"]
    assert list(plan[1].own) == ["cid:one@x"]
    assert plan[2].name == "part 3 (two.png, image/png)"


def test_a_picture_named_by_its_place():
    text = (b"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src='http://x/y.png'>\n"
            b"--b\nContent-Type: image/png\nContent-Location: http://x/y.png\n\nxyz\n--b--\n")
    (leaf,) = plan_of(text)[1:]
    assert leaf.own == {"http://x/y.png": b"xyz"}


def test_a_picture_that_stands_beside_the_page_instead_of_in_it():
    made = mail("<img src='cid:one@x'>", subtype="html")
    made.add_attachment(picture(), "image", "png", cid="<one@x>", filename="logo.png")
    made.add_attachment(picture(), "image", "png", cid="<two@x>", filename="photo.png")
    plan = plan_of(made.as_bytes())
    assert shape(plan) == ["heading", "text/html", "image/png"]
    assert list(plan[1].own) == ["cid:one@x"]


def test_an_invitation_is_read_by_people_not_by_calendars():
    made = mail("You are invited.")
    made.add_alternative("<p>You are invited.", subtype="html")
    made.add_alternative("BEGIN:VCALENDAR", subtype="calendar")
    assert shape(plan_of(made.as_bytes())) == ["heading", [["text/html"], ["text/plain"], ["text/calendar"]]]


def test_start_names_the_root():
    text = (b"Content-Type: multipart/related; boundary=b; start=\"<r>\"\n\n--b\nContent-Type: image/png\n"
            b"Content-ID: <i>\n\nxyz\n--b\nContent-Type: text/html\nContent-ID: <r>\n\n<img src=cid:i>\n--b--\n")
    assert shape(plan_of(text)) == ["heading", "text/html"]


def test_signatures_are_left_out():
    for kind in ("application/pgp-signature", "application/pkcs7-signature", "application/octet-stream"):
        text = (b"Content-Type: multipart/signed; boundary=b\n\n--b\n\nHello\n--b\nContent-Type: " + kind.encode()
                + b"; name=s.p7s\n\nxyz\n--b--\n")
        assert shape(plan_of(text)) == ["heading", "text/plain", f"(part 2 (s.p7s, {kind}))"]


def test_messages_in_a_message():
    inner = mail("inside", "inner")
    made = mail("outside")
    made.add_attachment(inner)
    assert shape(plan_of(made.as_bytes())) == ["heading", "text/plain", "heading", "text/plain"]
    start = b"Content-Type: multipart/digest; boundary=b\n\n--b\n\n"
    digest = start + b"Subject: one\n\n1\n--b\n\nSubject: two\n\n2\n--b--\n"
    assert shape(plan_of(digest)) == ["heading", "heading", "text/plain", "heading", "text/plain"]
    made = mail("outside")
    made.add_attachment(inner.as_bytes(), maintype="application", subtype="octet-stream", filename="mail.eml")
    assert shape(plan_of(made.as_bytes())) == ["heading", "text/plain", "heading", "text/plain"]


@pytest.mark.parametrize("name, kind, data, found", [
    ("a.pdf", "application/octet-stream", b"x", "application/octet-stream"),
    ("a.bin", "application/octet-stream", b"%PDF-1.4", "application/pdf"),
    ("a.pdf", "application/x-pdf", b"%PDF-1.4", "application/pdf"),
    ("a.jpg", "image/png", picture("JPEG"), "image/jpeg"),
    ("a.docx", "application/octet-stream", b"PK\3\4",
     "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("a.zip", "application/zip", b"PK\3\4", "application/zip"),
    ("notes.TXT", "application/octet-stream", b"x", "text/plain"),
    ("a.webp", "application/octet-stream", picture("WEBP"), "image/webp"),
    ("a.bmp", "image/x-ms-bmp", picture("BMP"), "image/bmp"),
    ("a.tif", "application/octet-stream", picture("TIFF"), "image/tiff"),
    ("a.gif", "image/gif", picture("GIF"), "image/gif"),
    ("a.html", "text/plain", b"%PDF-1.4", "text/plain"),
])
def test_what_a_file_is(name, kind, data, found):
    made = mail("x")
    made.add_attachment(data, maintype=kind.split("/")[0], subtype=kind.split("/")[1], filename=name)
    assert shape(plan_of(made.as_bytes()))[2:] == [found]


def test_names_of_parts_can_be_printed():
    made = mail("x")
    made.add_attachment(b"x", maintype="application", subtype="zip", filename="Preis\u202eliste \u00e4.zip")
    (leaf,) = plan_of(made.as_bytes())[2:]
    assert leaf.name == "part 2 (Preis?liste \u00e4.zip, application/zip)"
    named = b"Content-Type: application/zip; name=\"=?iso-8859-1?q?=E4.zip?=\"\n\nx\n"
    assert plan_of(named)[1].name == "the message (\u00e4.zip, application/zip)"


def test_nests_and_crowds_have_an_end():
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (at, at) for at in range(3000))
    assert shape(plan_of(deep + b"\nx\n"))[-1] == "its parts are nested too deeply"
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (at, at) for at in range(40))
    assert shape(plan_of(nested + b"\nx\n"))[-1] == "its parts are nested too deeply"
    many = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (MOST_PARTS + 1) + b"--b--\n"
    assert shape(plan_of(many)) == [f"it has more than {MOST_PARTS} parts"]


def test_reports_are_text():
    text = b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nFinal-Recipient: rfc822; j\nAction: y\n"
    (leaf,) = plan_of(text)[1:]
    assert leaf.data().split() == text.split()[2:]


@pytest.mark.parametrize("kind, trouble", [
    ("multipart/encrypted; boundary=b", "it is encrypted"),
    ("application/pkcs7-mime; smime-type=enveloped-data", "it is encrypted or signed by S/MIME"),
    ("application/ms-tnef", "TNEF cannot be drawn (winmail.dat)"),
    ("message/partial; id=x; number=1", "it is a piece of a message"),
    ("message/external-body; access-type=URL", "its contents are elsewhere"),
])
def test_what_is_always_in_the_way(kind, trouble):
    assert shape(plan_of(f"Content-Type: {kind}\n\n--b\n\nx\n--b--\n".encode()))[1:] == [trouble]


PIECES = st.sampled_from([
    b"Content-Type: multipart/mixed; boundary=b\n", b"Content-Type: multipart/alternative; boundary=c\n", b"\n",
    b"--b\n", b"--c\n", b"--b--\n", b"--c--\n", b"Content-Type: text/html; charset=x\n", b"x\n",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: multipart/related; boundary=b; start=<a>\n", b"Content-ID: <a>\n", b"Content-Type: \xff/\x00\n",
    b"Content-Transfer-Encoding: base64\n", b"=?x?b?\xff?=",
    b"Content-Disposition: attachment; filename*0*=x'y'%ff\n",
    b"Content-Type: multipart/signed; boundary=b\n", b"Content-Transfer-Encoding: x-uuencode\n", b"begin 644 x\n",
    b"Subject: =?utf-8?q?=FF?=\n", b"From : x\n", b":\n", b"Content-Type: text/plain; format=flowed; charset*=a'b'c\n",
    b"Content-Type: multipart/digest; boundary=c\n", b"Content-Type: message/delivery-status\n", b"\0", b"\r\n",
    b" ", b"\x85",
])


@settings(max_examples=300)
@given(st.lists(PIECES | st.binary(max_size=10), max_size=25).map(b"".join))
def test_any_mail_has_a_plan(data):
    def look(plan):
        for item in plan:
            if isinstance(item, Leaf):
                assert item.name.isprintable() and isinstance(item.data(), bytes)
                assert isinstance(item.parameter("charset"), str)
            elif isinstance(item, Choice):
                for one in item.plans:
                    look(one)

    look(plan_of(data))
