"""What strict sites refuse: as Postfix 3.7 does it."""

from __future__ import annotations

import pytest

from gateway.interfaces import Rejected
from tests.gateway.content.support import Way

TEXT = b"Content-Type: text/plain\nContent-Transfer-Encoding: %b\n\nb\xc3\xb6dy\n"
MULTI = b"Content-Type: multipart/mixed; boundary=a\n%b\n--a\n%b\nx\xc3\xb6\n--a--\n"
CLEAN = b"Content-Type: %b; boundary=a\nContent-Transfer-Encoding: %b\n\nSubject: a\n\nbody\n--a\n\nx\n--a--\n"
EIGHT = b"Content-Transfer-Encoding: 8bit\n"
HEADER, BODY = "improper use of 8-bit data in message header", "improper use of 8-bit data in message body"
DOMAIN = "invalid message/* or multipart/* encoding domain"
ALL = {"strict_8bitmime": "yes", "strict_mime_encoding_domain": "yes"}


def refused(content: bytes, **parameters: str) -> str:
    try:
        Way(**(parameters or ALL)).receive(content)
    except Rejected as why:
        assert (why.code, why.dsn) == (550, "5.6.0")
        return why.text
    return ""


@pytest.mark.parametrize(
    "name", ["8bit", "binary", "8BIT", "(c) 8bit", "8bit; x", "8bit(x)", "base64", "quoted-printable"]
)
def test_text_of_8_bits_that_says_so(name: str) -> None:
    assert refused(TEXT % name.encode()) == ""


@pytest.mark.parametrize("name", ["7bit", "x-uuencode", '"8bit"', ""])
def test_text_of_8_bits_that_does_not(name: str) -> None:
    assert refused(TEXT % name.encode()) == BODY


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("Subject: \xf6\n\nx\n".encode(), HEADER),
        ("Subject: x\nbroken lin\xf6\n\nx\n".encode(), BODY),
        (EIGHT + b"Content-Transfer-Encoding: 7bit\n\n\xc3\xb6\n", BODY),
        (b"Content-Transfer-Encoding: 7bit\n" + EIGHT + b"\n\xc3\xb6\n", ""),
        (MULTI % (b"", EIGHT), ""),
        (MULTI % (EIGHT, b""), BODY),
        (MULTI % (EIGHT, EIGHT + b"X: \xc3\xb6\n"), HEADER),
        (MULTI % (EIGHT + b"\npre\xc3\xa4mble", EIGHT), BODY),
        (MULTI % (b"", EIGHT) + b"epil\xc3\xb6gue\n", BODY),
        (MULTI % (b"", EIGHT) + b"--a\n\n\xc3\xb6\n", BODY),
        (b"Content-Type: message/rfc822\n" + EIGHT + b"\nSubject: x\n\n\xc3\xb6\n", BODY),
        (b"Content-Type: message/rfc822\n" + EIGHT + b"\n" + EIGHT + b"\n\xc3\xb6\n", ""),
        (b"Content-Type: message/rfc822\n\nSubject: \xc3\xb6\n\nx\n", HEADER),
        (b"Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: \xc3\xb6\n\no\n--a--\n", HEADER),
    ],
)
def test_8_bits_in_the_wrong_place(content: bytes, problem: str) -> None:
    assert refused(content) == problem


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("multipart/mixed", "base64 quoted-printable BASE64"), ("multipart", "base64 quoted-printable BASE64"),
        ("message/rfc822", "base64 quoted-printable BASE64"), ("message/partial", "8bit binary"),
        ("message/external-body", "8bit binary"), ("message/delivery-status", ""), ("message/global", ""),
        ("text/plain", ""),
    ],
)
def test_encodings_that_hide_the_parts(kind: str, bad: str) -> None:
    for name in ("base64", "quoted-printable", "BASE64", "7bit", "8bit", "binary", "foo"):
        assert refused(CLEAN % (kind.encode(), name.encode())) == (DOMAIN if name in bad.split() else "")


def test_each_parameter_for_itself() -> None:
    header, body, domain = "Subject: \xf6\n\nx\n".encode(), TEXT % b"7bit", CLEAN % (b"multipart/mixed", b"base64")
    for name, problem in (
        ("strict_7bit_headers", (HEADER, "", "")), ("strict_8bitmime_body", ("", BODY, "")),
        ("strict_8bitmime", (HEADER, BODY, "")), ("strict_mime_encoding_domain", ("", "", DOMAIN)),
    ):  # fmt: skip
        assert tuple(refused(content, **{name: "yes"}) for content in (header, body, domain)) == problem
        assert refused(header, **{name: "yes", "disable_mime_input_processing": "yes"}) == ""


def test_the_first_of_each_kind_is_told_and_the_worst_is_the_reason() -> None:
    way = Way(**ALL)
    content = b"Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64\n" \
        b"\n\xff1\n\xff2\n--a\nX: \xff\n\n"
    with pytest.raises(Rejected, match=HEADER):
        way.receive(content)
    told = [text.partition("mime-error ")[2].partition(" from ")[0] for _, text in way.log.lines]
    assert [problem for problem in told if problem] == [f"{BODY}: ?1", f"{HEADER}: X: ?", f"{DOMAIN}: base64"]


def test_parts_within_parts_are_counted() -> None:
    content = b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" \
        b"Content-Type: multipart/mixed; boundary=c\n\n--c\n\n"
    assert refused(content, mime_nesting_limit="0", **ALL) == "MIME nesting exceeds safety limit"
