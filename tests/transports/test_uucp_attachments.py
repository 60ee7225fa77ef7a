"""Large attachments are kept, and found again."""

from __future__ import annotations

import email
import email.policy
import io
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports.uucp.attachments import Notes, part, payload, reduced

BIG, SMALL = bytes(range(256)) * 40, b"tiny"


def message(*attachments: bytes, text: str = "Hello.\n") -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "x"
    mail.set_content(text)
    mail.add_alternative(f"<p>{text}</p>", subtype="html")
    for number, data in enumerate(attachments):
        mail.add_attachment(data, maintype="application", subtype="pdf", filename=f"file {number}.pdf")
    return mail


def reduce(data: bytes, limit: int = 1000, *, text_only: bool = False) -> tuple[int, bytes]:
    out = io.BytesIO()
    notes = Notes("key", "gw.my.domain", "Ask for %s")
    count = reduced(data.splitlines(keepends=True), limit, notes, out, text_only=text_only)
    return count, out.getvalue()


def content(lines: list[bytes], number: int) -> bytes:
    found = part(lines, number)
    assert found is not None
    return payload(found)


def test_a_large_attachment_is_a_note() -> None:
    data = message(SMALL, BIG).as_bytes()
    count, out = reduce(data)
    assert count == 1 and len(out) < 3000
    parsed = email.message_from_bytes(out, policy=email.policy.default)
    leaves = [one for one in parsed.walk() if not one.is_multipart()]
    assert [one.get_content_type() for one in leaves] == ["text/plain", "text/html", "application/pdf", "text/plain"]
    assert leaves[2].get_payload(decode=True) == SMALL
    note = leaves[3].get_content()
    assert " Name: file 1.pdf\n Type: application/pdf\n" in note and " Token: key.4\n Ask for key.4]" in note
    assert content(data.splitlines(keepends=True), 4) == BIG
    assert part(data.splitlines(keepends=True), 5) is None
    assert not parsed.defects


@pytest.mark.parametrize("data", [
    b"Subject: x\n\n" + b"y" * 70 + b"\n" * 5000,
    b"Content-Type: application/pdf\n\n" + b"y\n" * 5000,
    b'Content-Type: multipart/signed; boundary="b"\n\n--b\nContent-Type: image/png\n\n' + b"y\n" * 5000 + b"--b--\n",
    message(text="long\n" * 900).as_bytes(), message(SMALL).as_bytes(), b"no header at all", b"",
    b'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n',
])
def test_what_stays_as_it_is(data: bytes) -> None:
    assert reduce(data) == (0, data)


def test_attachments_within_attached_multiparts() -> None:
    outer = EmailMessage()
    outer.set_content("see\n")
    outer.make_mixed()
    inner = message(BIG)
    del inner["Subject"], inner["MIME-Version"]
    outer.attach(inner)
    outer.add_attachment(BIG + b"!", maintype="image", subtype="png")
    data = outer.as_bytes()
    assert reduce(data)[0] == 2
    lines = data.splitlines(keepends=True)
    assert content(lines, 4) == BIG and content(lines, 5) == BIG + b"!"


def related(plain: bool = True) -> EmailMessage:
    """As mail programs write it: text, the same as HTML with a picture in it, an attachment."""
    mail = message(SMALL) if plain else EmailMessage()
    page = mail.get_payload(0).get_payload(1) if plain else mail  # type: ignore[union-attr]
    if not plain:
        mail["Subject"] = "x"
        mail.set_content("<p>only</p>", subtype="html")
    page.add_related(b"picture", maintype="image", subtype="png", cid="<c>")  # type: ignore[union-attr]
    return mail


def test_nothing_but_text() -> None:
    data = related().as_bytes()
    count, out = reduce(data, 1, text_only=True)
    parsed = email.message_from_bytes(out, policy=email.policy.default)
    leaves = [one for one in parsed.walk() if not one.is_multipart()]
    assert [one.get_content_type() for one in leaves] == ["text/plain", "text/plain"]
    assert leaves[0].get_content() == "Hello.\n" and "Token: key.4" in leaves[1].get_content()
    assert count > 1 and not parsed.defects and b"picture" not in out and b"<p>" not in out
    assert content(data.splitlines(keepends=True), 4) == SMALL


def test_html_that_stands_alone_is_text() -> None:
    count, out = reduce(related(plain=False).as_bytes(), 1, text_only=True)
    assert count == 1 and b"<p>only</p>" in out and b"Token: key.2" in out


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([
    b'Content-Type: multipart/mixed; boundary="a"\n', b"Content-Type: multipart/x; boundary=b\n",
    b"Content-Type: multipart/alternative; boundary=b\n", b"Content-Type: text/html\n", b"--a\n", b"--b\n",
    b"--a--\n", b"--b--\n", b"\n", b"text\n", b"Content-Type: image/png\n", b"x" * 50 + b"\n", b"--", b"end",
]), max_size=30))
def test_any_structure_comes_through_whole(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert reduce(data, 10_000) == (0, data)
    if b"alternative" not in data:
        assert reduce(data, 10_000, text_only=True) == (0, data)
    reduce(data, 1, text_only=True)
