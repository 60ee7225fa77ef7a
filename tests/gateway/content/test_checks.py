"""header_checks and body_checks: what each action does, and what the log says."""

import time

import pytest

from gateway.content.options import INTERNAL, IntakeOptions
from gateway.interfaces import Rejected
from spool.envelope import Client
from tests.gateway.content.support import Way

CLIENT = Client("localhost", "127.0.0.1", helo="client", protocol="ESMTP", rewrite_context="remote")
TAIL = "from localhost[127.0.0.1]; from=<a@client.example> to=<joe@gw.my.domain> proto=ESMTP helo=<client>"


def receive(way, content, **more):
    return way.receive(content, sender="a@client.example", to=["joe@gw.my.domain"], client=CLIENT, **more)


def way(header=None, body=None, **more):
    tables = {"header_checks": header, "body_checks": body}
    given = {name: "pcre:{{" + rule.replace("$", "$$") + "}}" for name, rule in tables.items() if rule}
    return Way(**given, **more)


@pytest.mark.parametrize(
    ("action", "written", "logged"),
    [
        ("PREPEND X-Before: $1", b"X-Before: it\nSubject: it\nX: y\n", "prepend: header Subject: it {}: X-Before: it"),
        ("REPLACE Subject: <${1}>", b"Subject: <it>\nX: y\n", "replace: header Subject: it {}: Subject: <it>"),
        ("REPLACE none", b"Subject: it\nX: y\n", 'bad REPLACE header text "none" in header_checks map -- need "head'),
        ("STRIP", b"X: y\n", "strip: header Subject: it {}"),
        ("IGNORE", b"X: y\n", ""),
        ("DUNNO", b"Subject: it\nX: y\n", ""),
        ("warn look", b"Subject: it\nX: y\n", "warning: header Subject: it {}: look"),
        ("INFO so", b"Subject: it\nX: y\n", "info: header Subject: it {}: so"),
        ("FILTER smtp:[a]", b"Subject: it\nX: y\n", "filter: header Subject: it {}: smtp:[a]"),
        ("FILTER a", b"Subject: it\nX: y\n", "warning: bad FILTER command a in header_checks -- need transport:dest"),
        ("FILTER", b"Subject: it\nX: y\n", "warning: missing FILTER command argument in header_checks map"),
        ("BCC ann", b"Subject: it\nX: y\n", 'bad BCC address "ann" in header_checks map -- need user@domain'),
        ("REDIRECT", b"Subject: it\nX: y\n", 'bad REDIRECT target "" in header_checks map -- need user@domain'),
        ("DELAY", b"Subject: it\nX: y\n", "warning: unknown command in header_checks map: DELAY"),
    ],
)
def test_actions(action, written, logged):
    one = way(f"/^Subject: (.*)/ {action}")
    assert receive(one, b"Subject: it\nX: y\n\nz\n").data == written + b"\nz\n"
    assert logged.format(TAIL) in one.log.text
    if not logged:
        assert one.log.text == "cleanup: QID1: message-id=<>"


def test_what_changes_the_envelope():
    assert receive(way("/^S/ FILTER smtp:[a]"), b"S: x\n\n").envelope.content_filter == "smtp:[a]"
    copied = receive(way("/^S/ BCC ann@gw.my.domain"), b"S: x\n\n").envelope
    assert [one.address for one in copied.recipients] == ["joe@gw.my.domain", "ann@gw.my.domain"]
    sent_on = receive(way("/^S/ REDIRECT ann@gw.my.domain"), b"S: x\n\n").envelope
    assert [one.address for one in sent_on.recipients] == ["ann@gw.my.domain"]


def test_what_is_not_delivered():
    held, gone = way("/^S/ HOLD"), way("/^S/ DISCARD")
    assert receive(held, b"S: x\n\n") and not held.spool.stored and not held.notified
    assert receive(gone, b"S: x\n\n") is None and not gone.notified


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("REJECT", "550 5.7.1 message content rejected"), ("REJECT 5.7.9 no such thing", "550 5.7.9 no such thing"),
        ("REJECT later", "550 5.7.1 later"), ("REJECT 4.7.1 later", "451 4.7.1 later"),
    ],
)  # fmt: skip
def test_reject(action, reply):
    one = way(f"/^S/ {action}")
    with pytest.raises(Rejected, match=f"^{reply}$"):
        receive(one, b"S: x\n\n")
    assert f"cleanup: QID1: reject: header S: x {TAIL}: {reply[4:]}" in one.log.text


def test_a_folded_header_is_one_line():
    assert receive(way("/^S: a\\n?[[:space:]]+b$/ REPLACE S: c"), b"S: a\n\tb\n\n").data == b"S: c\n\n"


def test_what_is_put_in_is_still_what_cleanup_drops():
    assert receive(way("/^S/ REPLACE Bcc: x"), b"S: a\n\n").data == b"\n"


@pytest.mark.parametrize("blocks", [1, 3])
def test_body_lines(blocks):
    one = way(body="/^body (secret)/ REPLACE body [$1]", header=None)
    content = b"S: body secret\n\nbody secret\n\nbody secret"
    size = -(-len(content) // blocks)
    draft = receive(one, [content[at : at + size] for at in range(0, len(content), size)])
    assert draft.data == b"S: body secret\n\nbody [secret]\n\nbody [secret]\n"
    assert f"replace: body body secret {TAIL}: body [secret]" in one.log.text


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_long_lines_are_looked_at_in_pieces(size):
    """As header_checks(5) says of line_length_limit."""
    one = way(body="/^b/ REPLACE [b]", line_length_limit="10")
    content = b"\naaaaaaaaaab\naaaaaaaaaabaaaaaaaaac\naaaaaaaaab\nb"
    draft = receive(one, [content[at : at + size] for at in range(0, len(content), size)])
    assert draft.data == b"\naaaaaaaaaa[b]\naaaaaaaaaa[b]\nc\naaaaaaaaab\n[b]\n"


def test_a_line_without_end_costs_little():
    begin = time.perf_counter()
    receive(way(body="/z/ REJECT"), b"\n" + 4_000_000 * b"x")
    assert time.perf_counter() - begin < 0.5


def test_body_checks_end_at_the_limit():
    one = way(body="/far/ REJECT", body_checks_size_limit="10")
    receive(one, b"\n01234567\nfar\n")
    with pytest.raises(Rejected):
        receive(one, b"\n0123456\nfar\n")


PARTS = b"""\
Subject: all
Content-Type: multipart/mixed; boundary=aa

--aa
Content-Type: text/plain
X-Part: one

body one
--aa
Content-Type: message/rfc822

Subject: inner
Content-ID: two

body two
--aa--
"""


@pytest.mark.parametrize("blocks", [1, 7, 1000])
def test_each_header_has_its_table(blocks):
    tables = {
        "header_checks": "pcre:{{/./ WARN first}}",
        "mime_header_checks": "pcre:{{/./ WARN mime}}",
        "nested_header_checks": "pcre:{{/./ WARN nested}}",
        "body_checks": "pcre:{{/./ WARN body}}",
    }
    one = Way(**tables)
    size = -(-len(PARTS) // blocks)
    draft = receive(one, [PARTS[at : at + size] for at in range(0, len(PARTS), size)])
    assert draft.data == PARTS
    told = [line.removeprefix("cleanup: QID1: warning: ") for line in one.log.text.splitlines() if "warning" in line]
    assert [line.replace(f" {TAIL}", "") for line in told] == [
        "header Subject: all: first", "header Content-Type: multipart/mixed; boundary=aa: mime",
        "body --aa: body", "header Content-Type: text/plain: mime", "header X-Part: one: mime", "body body one: body",
        "body --aa: body", "header Content-Type: message/rfc822: mime", "header Subject: inner: nested",
        "header Content-ID: two: mime", "body body two: body", "body --aa--: body",
    ]  # fmt: skip


def test_header_checks_are_for_all_headers_unless_others_are_given():
    assert receive(way("/^X-Part/ REPLACE X-Part: two"), PARTS).data == PARTS.replace(b"X-Part: one", b"X-Part: two")
    with pytest.raises(Rejected, match="550 5.7.1 no"):
        receive(way("/^Subject: inner/ REJECT no"), PARTS)
    assert receive(way("/^Subject: inner/ REJECT no", nested_header_checks=""), PARTS)


def test_the_structure_can_be_left_alone():
    one = way("/^(X-Part|Content)/ WARN", "/^X-Part/ IGNORE", disable_mime_input_processing="yes")
    assert receive(one, PARTS).data == PARTS.replace(b"X-Part: one\n", b"")
    assert one.log.text.count("warning") == 1


def test_body_checks_begin_anew_in_each_part():
    rule = "/^body/ REPLACE seen"
    assert receive(way(body=rule, body_checks_size_limit="6"), PARTS).data.count(b"seen") == 2
    tight = receive(way(body=rule, body_checks_size_limit="6"), PARTS.replace(b"body", b"12345\nbody"))
    assert tight.data.count(b"seen") == 0
    after = b"Content-Type: multipart/x; boundary=q\n\n--q\n\n01234\n--q--\n%sbody\n"
    assert receive(way(body=rule, body_checks_size_limit="7"), after % b"").data.count(b"seen") == 1
    assert receive(way(body=rule, body_checks_size_limit="7"), after % b"x\n").data.count(b"seen") == 0


def test_parts_too_deep_are_refused():
    deep = b"".join(b"Content-Type: multipart/x; boundary=a%d\n\n--a%d\n" % (depth, depth) for depth in range(5))
    one = way("/^S/ WARN", mime_nesting_limit="2")
    with pytest.raises(Rejected, match="550 5.6.0 MIME nesting exceeds safety limit"):
        receive(one, deep)
    assert one.log.text.endswith(
        "QID1: reject: mime-error MIME nesting exceeds safety limit: Content-Type: multipart/x; boundary=a4 "
        "from localhost[127.0.0.1]; from=<a@client.example> to=<joe@gw.my.domain>"
    )
    assert receive(way("/^S/ WARN", mime_nesting_limit="3"), deep).data == deep
    assert receive(way(body="/^S/ WARN", mime_nesting_limit="2"), deep).data == deep


def test_no_checks_where_they_are_not_wanted():
    one = way("/^S/ REJECT")
    receive(one, b"S: x\n\n", options=IntakeOptions(header_body_checks=False))
    receive(one, b"S: x\n\n", options=INTERNAL)


@pytest.mark.parametrize(
    ("content", "turns"),
    [
        (b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 6_000, 2), (b"From x\n" * 5000 + b"\nx\n", 2),
        ((b"To: " + b"a@b.c, " * 5000 + b"d\n") * 4 + b"\n", 4), (b"Subject: x\n\n" + b"short\n" * 100, 0),
    ],
)  # fmt: skip
def test_others_have_a_turn_while_a_large_message_is_looked_at(content, turns):
    one = Way(header_checks="inline:{x=OK}", body_checks="inline:{x=OK}", mime_header_checks="inline:{x=OK}")
    taken, next_turn = [], one.cleanup.next_turn
    one.cleanup.next_turn = lambda: (taken.append(1), next_turn())[1]
    one.receive(content, service="smtpd")
    assert len(taken) == turns


def test_a_table_that_is_away():
    one = Way(header_checks="fail:away")
    with pytest.raises(Rejected, match="451 4.3.0"):
        receive(one, b"S: x\n\n")


@pytest.mark.parametrize("action", ["DISCARD", "REDIRECT ann@gw.my.domain"])
def test_what_ends_all_checks(action):
    rules = f"/^A/ {action}}}, {{/^S/ REJECT"
    one = way(rules, "/z/ REJECT")
    receive(one, b"A: x\nS: x\n\nz\n")
    assert "reject" not in one.log.text
    with pytest.raises(Rejected):
        receive(way(rules), b"S: x\nA: x\n\nz\n")
