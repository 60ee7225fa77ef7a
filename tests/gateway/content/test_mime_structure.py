"""Where headers are inside a body.  The cases are what Postfix 3.7 makes of the same text."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.content.header_scan import Field, scan
from gateway.content.mime_structure import Kind, MimeLimits, Structure, TooDeep, content_type

SHOWN = {Kind.PART_HEADER: "part", Kind.NESTED_HEADER: "nested", Kind.BODY: "text", Kind.BOUNDARY: "boundary",
         Kind.CLOSING: "end"}  # fmt: skip


def pieces(message, *, blocks=1, limits=None, report=False):
    """(kind, text) of each line or field behind the header of a message, and all of it put together."""
    structure = Structure(limits or MimeLimits(), report=report)
    fields, end = scan(message, True)
    for field in fields:
        structure.note(field)
    body = message[end:]
    size = -(-len(body) // blocks) or 1
    found, whole = [], b""
    for at in range(0, len(body), size):
        for kind, data in structure.feed(body[at : at + size], at + size >= len(body)):
            whole += data
            if kind is not Kind.BODY:
                found.append((SHOWN[kind], data.decode().rstrip()))
                continue
            if found and found[-1][0] == "text" and not found[-1][1].endswith("\n"):
                data = found.pop()[1].encode() + data
            found += [("text", line) for line in data.decode().splitlines(keepends=True)]
    return [(kind, text.strip()) for kind, text in found if text.strip()], body, whole


def kinds(message, **more):
    return " ".join(f"{kind}:{text.split(chr(10))[0]}" for kind, text in pieces(message, **more)[0])


@pytest.mark.parametrize("blocks", [1, 3, 1000])
@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b"Subject: x\n\n--aa\nX: y\n", "text:--aa text:X: y"),
        (b"Content-Type: multipart/digest; boundary=q\n\n--q\n\nA: b\n\nx\n--q\nContent-Type: text/plain\n\ny\n--q--\n",
         "boundary:--q nested:A: b text:x boundary:--q part:Content-Type: text/plain text:y end:--q--"),
        (b"Content-Type: multipart/x; boundary=q; boundary=r\n\n--q\nA: b\n--q\nC: d\n\n--r\nX: x\n",
         "boundary:--q part:A: b boundary:--q part:C: d text:--r text:X: x"),
        (b"Content-Type: multipart/x; boundary=q\n\n--q\nA: b\nno header\nC: d\n--q\n folded\nE: f\n",
         "boundary:--q part:A: b text:no header text:C: d boundary:--q text:folded text:E: f"),
        (b"Content-Type: multipart/x; boundary=q\nno header\n--qrs\nA: b\n--q--\nA: b\n--q\nA: b\n",
         "text:no header boundary:--qrs part:A: b end:--q-- text:A: b text:--q text:A: b"),
        (b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nA: b\n c\n\nD: e\n",
         "nested:A: b text:D: e"),
        (b"Content-Type: message/global\n\nA: b\n", "nested:A: b"),
        (b"Content-Type: message/rfc822\nno header\nA: b\n", "text:no header text:A: b"),
        (b"Content-Type: message/external-body; access-type=x\n\nA: b\n", "text:A: b"),
        (b"Content-Type: message/rfc822\n\nContent-Type: multipart/x; boundary=q\n\n--q\nA: b\n",
         "nested:Content-Type: multipart/x; boundary=q boundary:--q part:A: b"),
        (b"Content-Type: multipart/x; boundary=q\n\n--q\nA : b\nC:\n d", "boundary:--q part:A: b part:C:"),
    ],
)  # fmt: skip
def test_what_stands_where(message, found, blocks):
    assert kinds(message, blocks=blocks) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"text/plain; boundary=x", (b"text/plain", [b"x"])),
        (b'Multipart/Mixed ; a="; boundary=n"; (;boundary=m) BOUNDARY = (x)k; boundary=', (b"multipart/mixed", [b"k"])),
        (b'multipart / mixed; boundary="a \\"b"', (b"multipart/mixed", [b'a "b'])),
        (b"multipart/related; boundary=----=_Next/12", (b"multipart/related", [b"----"])),
        (b"multipart (x) / (y(z)) mixed boundary=z; boundary=k", (b"multipart/mixed", [b"k"])),
        (b"multipart; boundary=k", (b"multipart", [b"k"])),
        (b"multipart/;\n\tboundary=k", (b"multipart/", [b"k"])),
        (b"(never ended", (b"", [])),
        (b'multipart/x; boundary="open', (b"multipart/x", [b"open"])),
        (b"", (b"", [])),
    ],
)
def test_content_type(value, found):
    assert content_type(value) == found


def test_quoted_words_are_no_type():
    assert kinds(b'Content-Type: "message"/"rfc822"\n\nA: b\n') == "text:A: b"


def test_only_the_beginning_of_a_boundary_counts():
    limits = MimeLimits(boundary=5)
    message = b"Content-Type: multipart/x; boundary=123456789\n\n--12345777\nA: b\n\n--1234\nA: b\n"
    assert kinds(message, limits=limits) == "boundary:--12345777 part:A: b text:--1234 text:A: b"


def test_long_fields_are_cut_and_what_follows_is_still_seen():
    limits = MimeLimits(field=50)
    start = b"Content-Type: multipart/x; boundary=q\n\n--q\n"
    field = b"A: " + 30 * b"b" + b"\n " + 90 * b"c" + b"\n " + 200 * b"d" + b"\n"
    for message in (start + field + b"E: f\n", start + b"A: " + 400 * b"b" + b"\nE: f\n"):
        for blocks in (1, 3, 20, 1000):
            found, _, _ = pieces(message, limits=limits, blocks=blocks)
            assert [kind for kind, _ in found] == ["boundary", "part", "part"]
            assert message.split(b"--q\n")[1][:30].decode() in found[1][1] and len(found[1][1]) <= 50
            assert found[2] == ("part", "E: f")


def test_what_cannot_be_a_boundary_is_passed_on():
    structure = Structure(MimeLimits(boundary=10), report=False)
    structure.note(Field(b"content-type", b"Content-Type: multipart/x; boundary=q\n"))
    assert b"".join(piece.data for piece in structure.feed(b"\nabc", False)) == b"\nabc"
    assert list(structure.feed(b"\n--", False))[0].data == b"\n"
    assert b"".join(piece.data for piece in structure.feed(20 * b"x", False)) == b"--" + 20 * b"x"
    assert [piece.kind for piece in structure.feed(b"--q\n--q\nA: b\n", True)][1:] == [Kind.BOUNDARY, Kind.PART_HEADER]


def test_too_deep():
    deep = b"".join(b"Content-Type: multipart/x; boundary=a%d\n\n--a%d\n" % (depth, depth) for depth in range(5))
    limits = MimeLimits(nesting=2)
    with pytest.raises(TooDeep, match="boundary=a4"):
        pieces(deep, limits=limits, report=True)
    assert kinds(deep, limits=limits).endswith("part:Content-Type: multipart/x; boundary=a4 text:--a4")
    assert kinds(deep, limits=MimeLimits(nesting=3), report=True).endswith("boundary:--a4")


def test_long_boundaries_cost_little():
    """A part with a long boundary within a hundred others, opened again and again."""

    def field(boundary):
        return b"Content-Type: multipart/x; boundary=" + boundary + 2000 * b"b" + b"\n"

    begin = time.perf_counter()
    structure = Structure(MimeLimits(), report=False)
    for depth in range(100):
        structure.note(Field(b"content-type", field(b"%03d" % depth)))
    inner = b"--099" + 2000 * b"b" + b"\n" + field(b"c") + b"\n"
    kinds = [piece.kind for piece in structure.feed(b"\n" + 100 * inner, True)]
    assert kinds.count(Kind.BOUNDARY) == kinds.count(Kind.PART_HEADER) == 100
    assert time.perf_counter() - begin < 0.5


MULTIPART = b"Content-Type: multipart/x; boundary=ab"
DIGEST = b"Content-Type: multipart/digest; boundary=a"
LINES = st.sampled_from([
    b"--a", b"--ab", b"--a--", b"--ab--", b"-", b"--", b"", b"A: b", b" c", b"x", MULTIPART, DIGEST,
    b"Content-Type: message/rfc822", b"--" + 8 * b"a", b"Long: " + 30 * b"x",
])  # fmt: skip


@given(st.lists(LINES, max_size=14), st.integers(1, 40))
@example([b"--ab", b"--a"], 9)
def test_any_split_gives_the_same_and_nothing_is_lost(lines, blocks):
    message = b"Content-Type: multipart/mixed; boundary=a\n\n" + b"".join(line + b"\n" for line in lines)
    limits = MimeLimits(boundary=10)
    whole = pieces(message, limits=limits)
    assert pieces(message, limits=limits, blocks=blocks) == whole
    assert whole[1] == whole[2]
