"""access(5): which keys are asked for, and what the answers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policy.registry import RestrictionError
from tests.gateway.smtpd.rig import Rig

BEGIN = ("EHLO h.test", "MAIL FROM:<a@good.test>", "RCPT TO:<joe@gw.test>", "DATA")


def rig_with(restriction: str, entries: str, **settings: str) -> Rig:
    return Rig(
        smtpd_recipient_restrictions=f"{restriction} inline:{{{entries}}}, reject_unauth_destination",
        recipient_delimiter="+",
        **settings,
    )


def recipient(rig: Rig, address: str = "joe@gw.test", client: str = "192.0.2.7", sender: str = "a@good.test") -> str:
    return rig.connect(client).say("EHLO h.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{address}>")[-1]


@pytest.mark.parametrize(
    "value, reply",
    [
        ("OK", "250 2.1.5 Ok"),
        ("RELAY", "250 2.1.5 Ok"),
        ("123456", "250 2.1.5 Ok"),
        ("DUNNO", "250 2.1.5 Ok"),
        ("dunno whatever", "250 2.1.5 Ok"),
        ("REJECT", "554 5.7.1 <joe@gw.test>: Recipient address rejected: Access denied"),
        ("reject go away", "554 5.7.1 <joe@gw.test>: Recipient address rejected: go away"),
        ("REJECT 5.2.3 go away", "554 5.2.3 <joe@gw.test>: Recipient address rejected: go away"),
        ("REJECT 4.2.3 odd", "554 5.2.3 <joe@gw.test>: Recipient address rejected: odd"),
        ("DEFER", "450 4.7.1 <joe@gw.test>: Recipient address rejected: Access denied"),
        ("571 not you", "571 5.7.1 <joe@gw.test>: Recipient address rejected: not you"),
        ("421 4.7.0 later", "421 4.7.0 <joe@gw.test>: Recipient address rejected: later"),
        ("550 5.1.8 x", "550 5.1.2 <joe@gw.test>: Recipient address rejected: x"),
        ("DEFER_IF_PERMIT 4.7.9 perhaps", "450 4.7.9 <joe@gw.test>: Recipient address rejected: perhaps"),
        ("DEFER_IF_REJECT", "250 2.1.5 Ok"),
        ("permit_mynetworks, reject", "554 5.7.1 <joe@gw.test>: Recipient address rejected: Access denied"),
        ("nonsense", "451 4.3.5 Server configuration error"),
        ("check_sender_access hash:/x", "451 4.3.5 Server configuration error"),
        ("450", "250 2.1.5 Ok"),
        ("450x", "451 4.3.5 Server configuration error"),
    ],
)
def test_answers(value: str, reply: str) -> None:
    assert recipient(rig_with("check_recipient_access", f"{{joe@gw.test = {value}}}")) == reply


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("{ inline:{x=OK}, { search_order = subject } }", 'bad search key: "subject"'),
        ("{ inline:{x=OK}, order = cert_fingerprint }", 'unknown attribute "order"'),
        ("{ , { search_order = cert_fingerprint } }", "need maptype:mapname"),
    ],
)
def test_search_orders_that_are_none(word: str, why: str) -> None:
    with pytest.raises(RestrictionError, match=why):
        Rig(smtpd_client_restrictions=f"check_ccert_access {word}")


def test_nobody_asks_for_certificates() -> None:
    rig = Rig(smtpd_client_restrictions="check_ccert_access inline:{x=OK}")
    assert recipient(rig) == "250 2.1.5 Ok"
    assert 'warning: check_ccert_access is requested, but "smtpd_tls_ask_ccert = no"' in rig.lines


@pytest.mark.parametrize(
    "key, address",
    [
        ("joe+box@gw.test", "joe+box@gw.test"),
        ("joe@gw.test", "joe+box@gw.test"),
        ("joe@gw.test", "JOE@GW.Test"),
        ("joe@gw.test", '"joe"@gw.test'),
        ("gw.test", "joe@gw.test"),
        ("test", "joe@gw.test"),
        ("joe+box@", "joe+box@gw.test"),
        ("joe@", "joe+box@gw.test"),
        ("joe@gw.test", "joe"),
    ],
)
def test_keys_of_an_address(key: str, address: str) -> None:
    rig = rig_with("check_recipient_access", f"{{{key} = REJECT found}}", append_at_myorigin="yes", myorigin="gw.test")
    assert recipient(rig, address).endswith("rejected: found")


def test_keys_that_are_not_asked_for() -> None:
    for key in ("joe", ".test", "@gw.test"):
        assert recipient(rig_with("check_recipient_access", f"{{{key} = REJECT}}")) == "250 2.1.5 Ok", key


def test_parents_with_a_dot() -> None:
    for key, reply in ((".test", "554"), ("test", "250")):
        rig = rig_with("check_recipient_access", f"{{{key} = REJECT}}", parent_domain_matches_subdomains="")
        assert recipient(rig).startswith(reply)


@pytest.mark.parametrize("key", ["192.0.2.7", "192.0.2", "192.0", "192"])
def test_networks_of_a_client(key: str) -> None:
    assert recipient(rig_with("check_client_access", f"{key}=REJECT")).startswith("554 5.7.1 <unknown[192.0.2.7]>")
    assert recipient(rig_with("check_client_access", f"{key}=REJECT"), client="10.9.9.9").startswith("250")


@pytest.mark.parametrize("key", ["2001:db8::7", "2001:db8"])
def test_networks_of_an_ipv6_client(key: str) -> None:
    assert recipient(rig_with("check_client_access", f"{key}=REJECT"), client="2001:db8::7").startswith("554")


def test_null_sender() -> None:
    rig = rig_with("check_sender_access", "{<> = REJECT no bounces}")
    assert recipient(rig, sender="") == "554 5.7.1 <>: Sender address rejected: no bounces"
    assert recipient(rig) == "250 2.1.5 Ok"


def test_helo() -> None:
    assert recipient(rig_with("check_helo_access", "{h.test = 550 5.7.1 no}")) == (
        "550 5.7.1 <h.test>: Helo command rejected: no"
    )


def test_a_name_that_is_only_claimed_permits_nothing() -> None:
    rig = Rig(
        smtpd_peername_lookup="yes",
        smtpd_restriction_classes="claimed",
        claimed="check_reverse_client_hostname_access inline:{good.test=OK,bad.test=REJECT}",
        smtpd_recipient_restrictions="claimed, reject",
    )
    rig.resolver.names |= {"192.0.2.7": "good.test", "192.0.2.8": "bad.test"}
    assert recipient(rig) == "451 4.3.5 Server configuration error"
    assert "restriction check_reverse_client_hostname_access returns OK for good.test" in rig.log.text
    assert recipient(rig, client="192.0.2.8") == "554 5.7.1 <bad.test>: Unverified Client host rejected: Access denied"


def test_ok_for_a_recipient_with_a_route_in_it_counts_for_nothing() -> None:
    rig = rig_with("check_recipient_access", "gw.test=OK", smtpd_relay_restrictions="")
    assert recipient(rig, "x%else.test@gw.test") == "554 5.7.1 <x%else.test@gw.test>: Relay access denied"


def test_a_table_that_is_away() -> None:
    rig = Rig(smtpd_recipient_restrictions="check_recipient_access texthash:/nowhere/at/all, reject_unauth_destination")
    assert recipient(rig).startswith("451 4.3.5 <joe@gw.test>: Recipient address rejected: Server configuration error")
    assert any("table lookup problem" in line for line in rig.lines)


def test_patterns_are_asked_with_whole_keys_only(tmp_path: Path) -> None:
    table = tmp_path / "access"
    table.write_text("/^gw\\.test$/ REJECT domain\n/^joe@gw\\.test$/ REJECT whole\n")
    rig = Rig(smtpd_recipient_restrictions=f"check_recipient_access regexp:{table}, reject_unauth_destination")
    assert recipient(rig).endswith("whole")
    assert recipient(rig, "ann@gw.test") == "250 2.1.5 Ok"


def test_a_bare_table_stands_for_the_list_s_own_check() -> None:
    rig = Rig(smtpd_sender_restrictions="inline:{good.test=REJECT}")
    assert recipient(rig) == "554 5.7.1 <a@good.test>: Sender address rejected: Access denied"


# --- actions --------------------------------------------------------------------------------


def through(entries: str, **settings: str) -> Rig:
    rig = rig_with("check_recipient_access", entries, **settings)
    client = rig.connect()
    assert client.say(*BEGIN)[-1].startswith("354")
    assert client.send(b"x\r\n.\r\n").startswith("250 2.0.0 Ok: queued as ")
    return rig


LOGGED = "from unknown[192.0.2.7]: <joe@gw.test>: Recipient address"
FACTS = "from=<a@good.test> to=<joe@gw.test> proto=ESMTP helo=<h.test>"


def test_hold_bcc_redirect_filter_prepend_together() -> None:
    entries = {
        "hold": ("HOLD for a look", f"NOQUEUE: hold: RCPT {LOGGED} for a look; {FACTS}"),
        "bcc": ("BCC ann@gw.test", f"NOQUEUE: bcc: RCPT {LOGGED} triggers BCC ann@gw.test; {FACTS}"),
        "redirect": ("REDIRECT r@x.test", f"NOQUEUE: redirect: RCPT {LOGGED} triggers REDIRECT r@x.test; {FACTS}"),
        "filter": ("FILTER smtp:[x]", f"NOQUEUE: filter: RCPT {LOGGED} triggers FILTER smtp:[x]; {FACTS}"),
        "prepend": ("PREPEND X-Seen: yes", None),
    }
    words = ", ".join(f"check_recipient_access inline:{{{{joe@gw.test = {value}}}}}" for value, _ in entries.values())
    rig = Rig(smtpd_recipient_restrictions=words + ", reject_unauth_destination")
    client = rig.connect()
    client.say(*BEGIN)
    client.send(b"x\r\n.\r\n")
    (intake,) = rig.cleanup.stored
    assert intake.options.hold and intake.options.copies == ("ann@gw.test",) and not intake.options.discard
    assert (intake.envelope.redirect, intake.envelope.content_filter) == ("r@x.test", "smtp:[x]")
    assert intake.received[0] == b"X-Seen: yes"
    assert intake.received[1].startswith(b"Received: from ")
    for _, line in entries.values():
        assert line is None or line in rig.lines


def test_decisions_end_with_the_transaction() -> None:
    rig = through("{joe@gw.test = HOLD}")
    client = rig.connect()
    client.say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>", "RSET", "MAIL FROM:<a@b.test>",
               "RCPT TO:<ann@gw.test>", "DATA")  # fmt: skip
    client.send(b"x\r\n.\r\n")
    assert [intake.options.hold for intake in rig.cleanup.stored] == [True, False]


def test_discard_ends_all_lists() -> None:
    rig = Rig(
        smtpd_sender_restrictions="check_sender_access inline:{{a@good.test = DISCARD silently}}",
        smtpd_data_restrictions="reject",
    )
    client = rig.connect()
    assert client.say(*BEGIN)[-1].startswith("354")
    client.send(b"x\r\n.\r\n")
    assert rig.cleanup.begun[0].options.discard
    assert any(
        ": discard: RCPT from unknown[192.0.2.7]: <a@good.test>: Sender address silently;" in line for line in rig.lines
    )


@pytest.mark.parametrize(
    "value, problem",
    [
        ("FILTER", "has FILTER entry without value"),
        ("FILTER smtp", "requires transport:destination"),
        ("REDIRECT joe", "requires user@domain target"),
        ("BCC joe", "requires user@domain target"),
        ("PREPEND", "requires header: text"),
        ("PREPEND no header", "requires header: text"),
    ],
)
def test_broken_actions_are_passed_over(value: str, problem: str) -> None:
    rig = through(f"{{joe@gw.test = {value}}}")
    assert any(line.endswith(f'entry "joe@gw.test" {problem}') for line in rig.lines)


def test_warn_and_info_only_log() -> None:
    rig = through("{joe@gw.test = WARN watched}, {unused = x}")
    assert f"NOQUEUE: warn: RCPT from unknown[192.0.2.7]: watched; {FACTS}" in rig.lines


def test_end_of_data() -> None:
    rig = Rig(
        smtpd_end_of_data_restrictions="check_sender_access inline:{{late@x.test = REJECT too late}, {h@x.test = HOLD}}"
    )
    client = rig.connect()
    client.say("EHLO h.test", "MAIL FROM:<late@x.test>", "RCPT TO:<joe@gw.test>", "DATA")
    assert client.send(b"x\r\n.\r\n") == "554 5.7.1 <late@x.test>: Sender address rejected: too late\n"
    assert rig.cleanup.begun[0].state == "aborted"
    assert rig.lines[-1].endswith("; from=<late@x.test> to=<joe@gw.test> proto=ESMTP helo=<h.test>")
    client.say("MAIL FROM:<h@x.test>", "RCPT TO:<joe@gw.test>", "DATA")
    client.send(b"x\r\n.\r\n")
    assert rig.cleanup.begun[1].hold


def test_data_restrictions_do_not_name_one_recipient_of_several() -> None:
    rig = Rig(smtpd_data_restrictions="reject")
    client = rig.connect()
    client.say("EHLO h.test", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>", "RCPT TO:<ann@gw.test>")
    assert client.say("DATA") == ["554 5.7.1 <DATA>: Data command rejected: Access denied"]
    assert rig.lines[-1].endswith("; from=<a@b.test> proto=ESMTP helo=<h.test>")


@pytest.mark.parametrize(
    ("status", "sender", "recipient_"),
    [
        ("5.1.1", "5.1.7", "5.1.1"), ("5.1.6", "5.1.7", "5.1.6"), ("5.1.9", "5.1.0", "5.1.0"),
        ("5.1.7", "5.1.7", "5.1.3"),
    ],
)  # fmt: skip
def test_a_status_is_made_to_fit_what_is_refused(status: str, sender: str, recipient_: str) -> None:
    rig = rig_with("check_sender_access", f"{{a@good.test = REJECT {status} no}}")
    assert recipient(rig) == f"554 {sender} <a@good.test>: Sender address rejected: no"
    mapped = f"mapping DSN status {status} into Sender address status {sender}"
    assert (mapped in rig.log.text) == (status != sender)
    assert recipient(rig_with("check_recipient_access", f"{{joe@gw.test = REJECT {status} no}}")).startswith(
        f"554 {recipient_} "
    )
    assert recipient(rig_with("check_helo_access", f"{{h.test = REJECT {status} no}}")).startswith("554 5.0.0 ")


@pytest.mark.parametrize("key", ['"a b"@good.test', '"a b"@'])
def test_keys_are_quoted_where_addresses_are(key: str) -> None:
    rig = Rig(smtpd_sender_restrictions=f"check_sender_access inline:{{{{{key} = REJECT found}}}}")
    assert recipient(rig, sender='"a b"@good.test') == "554 5.7.1 <a b@good.test>: Sender address rejected: found"


@pytest.mark.parametrize("action", ["HOLD", "DISCARD", "FILTER x:y", "REDIRECT a@b.x", "BCC a@b.x", "PREPEND X: y"])
def test_nothing_is_done_to_a_message_that_there_is_not_yet(action: str) -> None:
    rig = Rig(smtpd_delay_reject="no", smtpd_helo_restrictions=f"check_helo_access inline:{{{{h.test = {action}}}}}")
    client = rig.connect()
    assert client.say(*BEGIN)[3].startswith("354 ")
    client.send(b"x\r\n.\r\n")
    (intake,) = rig.cleanup.stored
    assert not (intake.hold or intake.discard or intake.copies or intake.envelope.content_filter)
    word = action.partition(" ")[0]
    skipped = f"action {word} is always skipped in Client host or Helo command restrictions"
    assert skipped in rig.log.text and f"{word.lower()}: EHLO" not in rig.log.text


def test_actions_in_etrn_and_with_a_filter_in_front_of_the_queue() -> None:
    rig = Rig(smtpd_etrn_restrictions="check_etrn_access inline:{{x.test = HOLD}}")
    rig.connect().say("EHLO h.test", "ETRN x.test")
    assert "action HOLD is unavailable in smtpd_etrn_restrictions" in rig.log.text
    rig = rig_with("check_recipient_access", "{joe@gw.test = HOLD}", smtpd_proxy_filter="127.0.0.1:1")
    rig.connect().say(*BEGIN[:3])
    assert "with smtpd_proxy_filter specified, action HOLD is unavailable" in rig.log.text


def test_what_lists_in_tables_must_not_have() -> None:
    rig = rig_with("check_recipient_access", "{joe@gw.test = check_sender_access hash:/x}")
    recipient(rig)
    assert "define a restriction class and specify its name instead." in rig.log.text


@pytest.mark.parametrize(
    ("text", "reply"),
    [("Grüße", "Grüße"), ("a\tb", "a b"), ("x" * 600, "x" * 600)],
)
def test_texts_are_printable_and_of_bounded_length(text: str, reply: str) -> None:
    rig = rig_with("check_recipient_access", f"{{joe@gw.test = REJECT {text}}}")
    assert recipient(rig) == f"554 5.7.1 <joe@gw.test>: Recipient address rejected: {reply}"[:510]
