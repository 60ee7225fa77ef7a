"""Large attachments are kept, and found again."""

from __future__ import annotations

import email
import email.policy
import io
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports.uucp.attachments import part, reduced

BIG, SMALL = bytes(range(256)) * 40, b"tiny"


def message(*attachments: bytes, text: str = "Hello.\n") -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "x"
    mail.set_content(text)
    mail.add_alternative(f"<p>{text}</p>", subtype="html")
    for number, data in enumerate(attachments):
        mail.add_attachment(data, maintype="application", subtype="pdf", filename=f"file {number}.pdf")
    return mail


def reduce(data: bytes, limit: int = 1000) -> tuple[int, bytes]:
    out = io.BytesIO()
    count = reduced(data.splitlines(keepends=True), limit, "QID", "gw.my.domain", out)
    return count, out.getvalue()


def test_a_large_attachment_is_a_note() -> None:
    data = message(SMALL, BIG).as_bytes()
    count, out = reduce(data)
    assert count == 1 and len(out) < 3000
    parsed = email.message_from_bytes(out, policy=email.policy.default)
    leaves = [one for one in parsed.walk() if not one.is_multipart()]
    assert [one.get_content_type() for one in leaves] == ["text/plain", "text/html", "application/pdf", "text/plain"]
    assert leaves[2].get_payload(decode=True) == SMALL
    note = leaves[3].get_content()
    assert " Name: file 1.pdf\n Type: application/pdf\n" in note and " Token: QID.4\n" in note
    assert part(data.splitlines(keepends=True), 4) == BIG
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
    assert part(lines, 4) == BIG and part(lines, 5) == BIG + b"!"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([
    b'Content-Type: multipart/mixed; boundary="a"\n', b"Content-Type: multipart/x; boundary=b\n", b"--a\n", b"--b\n",
    b"--a--\n", b"--b--\n", b"\n", b"text\n", b"Content-Type: image/png\n", b"x" * 50 + b"\n", b"--", b"end",
]), max_size=30))
def test_any_structure_comes_through_whole(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert reduce(data, 10_000) == (0, data)
