"""Batched SMTP."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.uucp.batch import BAD_ADDRESS, BadBatch, transactions
from spool.envelope import NOTIFY_FAILURE


def read(batch):
    """(sender, recipients, turned away, content) of each, and what was noted."""
    notes, found = [], []
    for one in transactions(io.BufferedReader(io.BytesIO(batch)), notes.append):
        found.append((one.sender, [to for to, _ in one.recipients], one.turned_away, b"".join(one.content)))
    return found, notes


def test_a_batch():
    batch = (
        b"#! rsmtp\nHELO alpha\n"
        b"MAIL FROM:<a@b.example> SIZE=99 BODY=8BITMIME WHAT=EVER\r\nRCPT TO:<c@d.example>\nRCPT TO:<e>\nDATA\n"
        b"Subject: x\r\n\r\n..dot\r\n. \n.\r\n"
        b"MAIL FROM:<>\nRCPT TO:<f@g> NOTIFY=FAILURE\nDATA\ny\n.\nQUIT\n"
    )
    found, notes = read(batch)
    assert found == [
        ("a@b.example", ["c@d.example", "e"], [], b"Subject: x\n\n.dot\n \n"), ("", ["f@g"], [], b"y\n"),
    ]
    assert notes == []
    (first, second) = transactions(io.BufferedReader(io.BytesIO(batch)), notes.append)
    assert first.parameters.encoding == "8bit" and second.recipients[0][1].notify == NOTIFY_FAILURE


def test_one_bad_recipient_does_not_lose_the_others():
    found, _ = read(b"MAIL FROM:<a@b>\nRCPT TO:<x\x01y@z>\nRCPT TO:<good@z>\nRCPT TO:<-x@z>\nRCPT\nDATA\nx\n.\n")
    assert found == [
        ("a@b", ["good@z"], [("<x?y@z>", BAD_ADDRESS), ("<-x@z>", BAD_ADDRESS), ("RCPT", BAD_ADDRESS)], b"x\n"),
    ]


def test_what_is_no_command_is_noted():
    found, notes = read(b"Hello\nMAIL TO:<x>\nRCPT TO:<y>\nMAIL FROM:<a@b>\nRSET\nDATA\nx\n.\n")
    assert found == [] and len(notes) == 4


@pytest.mark.parametrize("end", [b"", b".", b"x\n..\n"])
def test_a_batch_that_ends_within_a_message(end):
    with pytest.raises(BadBatch):
        read(b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nx\n" + end)


def test_content_that_nobody_wants_is_passed_over():
    batch = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nMAIL FROM:<evil>\n.\nMAIL FROM:<e@f>\nRCPT TO:<g@h>\nDATA\nx\n.\n"
    assert [one.sender for one in transactions(io.BufferedReader(io.BytesIO(batch)), print)] == ["a@b", "e@f"]


LINES = st.lists(st.sampled_from([b"", b".", b"..", b"text", b"QUIT", b".QUIT", b"x" * 70_000]), max_size=6)


@settings(max_examples=50, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=4))
def test_any_content_comes_out_as_it_went_in(messages):
    batch = b""
    for lines in messages:
        stuffed = b"".join(b"." + line + b"\n" if line.startswith(b".") else line + b"\n" for line in lines)
        batch += b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n" + stuffed + b".\n"
    found, notes = read(batch)
    assert [one[3] for one in found] == [b"".join(line + b"\n" for line in lines) for lines in messages]
    assert notes == []


COMMANDS = st.sampled_from([
    b"MAIL FROM:<a@b>\n", b"RCPT TO:<c@d>\n", b"DATA\n", b".\n", b"MAIL FROM:", b"RCPT TO:", b"<", b">", b'"',
    b" SIZE=x", b" NOTIFY=NEVER", b"RSET\n", b"\n", b"\0", b"\xff", b"\r",
])


@settings(max_examples=200, deadline=None)
@given(st.lists(COMMANDS | st.binary(max_size=5), max_size=30))
def test_whatever_comes_nothing_raises_and_no_control_character_passes(parts):
    try:
        found, notes = read(b"".join(parts))
    except BadBatch:
        return
    for sender, recipients, turned_away, _ in found:
        texts = [sender, *recipients, *(text for pair in turned_away for text in pair), *notes]
        assert not any(character < " " or character == "\x7f" for text in texts for character in text)
