"""Each restriction with its answer, asked in a real dialogue; and the order in which lists are worked off."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.interfaces import MX, DNSError
from gateway.policy.registry import RESTRICTIONS
from tests.gateway.smtpd.rig import Rig

GUARD = ", reject_unauth_destination"
HIDDEN = DNSError(
    "Error looking up name=x type=A: DNS reply filter drops all results", temporary=True, dsn="4.7.0"
)  # fmt: skip
"""What smtpd_dns_reply_filter makes of an answer."""


def ask(
    rig: Rig, sender: str = "a@good.test", rcpt: str = "joe@gw.test", client: str = "192.0.2.7", helo: str = "h.test"
) -> str:
    """The reply to RCPT."""
    return rig.connect(client).say(f"EHLO {helo}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{rcpt}>")[-1]


def at_recipient(words: str, **settings: str) -> Rig:
    rig = Rig(smtpd_recipient_restrictions=words + GUARD, **settings)
    resolver = rig.resolver
    resolver.hosts |= {"good.test": ["192.0.2.30"], "slow.test": None, "mx.bad.test": ["192.0.2.66"]}
    resolver.records |= {("six.test", "AAAA"): ["2001:db8::7"], ("slow.test", "AAAA"): None}
    resolver.servers |= {"slow.test": None, "null.test": [MX(0, "")], "bad.test": [MX(10, "mx.bad.test")]}
    return rig


# --- one by one --------------------------------------------------------------------------------

SENDER, RCPT, CLIENT, HELO = "Sender address", "Recipient address", "Client host", "Helo command"


@pytest.mark.parametrize(
    "words, asked, reply",
    [
        ("permit", {}, "250 2.1.5 Ok"),
        ("reject", {}, f"554 5.7.1 <joe@gw.test>: {RCPT} rejected: Access denied"),
        ("defer", {}, f"450 4.3.2 <joe@gw.test>: {RCPT} rejected: Try again later"),
        ("defer_if_permit", {}, f"450 4.7.0 <joe@gw.test>: {RCPT} rejected: defer_if_permit requested"),
        ("defer_if_reject", {}, "250 2.1.5 Ok"),
        ("defer_if_reject, reject", {}, f"450 4.7.0 <joe@gw.test>: {RCPT} rejected: defer_if_reject requested"),
        ("warn_if_reject reject", {}, "250 2.1.5 Ok"),
        ("reject_plaintext_session", {}, "450 4.7.1 Session encryption is required"),
        ("reject_multi_recipient_bounce", {"sender": ""}, "250 2.1.5 Ok"),
        ("permit_sasl_authenticated, reject", {}, f"554 5.7.1 <joe@gw.test>: {RCPT} rejected: Access denied"),
        ("permit_mynetworks, reject", {"client": "10.1.1.1"}, "250 2.1.5 Ok"),
        ("permit_inet_interfaces, reject", {"client": "10.1.1.1"},
         f"554 5.7.1 <joe@gw.test>: {RCPT} rejected: Access denied"),
        ("permit_auth_destination, reject", {}, "250 2.1.5 Ok"),
        ("reject_unknown_client_hostname", {},
         "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.7]"),
        ("reject_unknown_reverse_client_hostname", {},
         "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.7]"),
        ("reject_invalid_helo_hostname", {"helo": "a..b"}, f"501 5.5.2 <a..b>: {HELO} rejected: Invalid name"),
        ("reject_invalid_helo_hostname", {"helo": "[1.2.3]"},
         f"501 5.5.2 <[1.2.3]>: {HELO} rejected: invalid ip address"),
        ("reject_invalid_helo_hostname", {"helo": "[192.0.2.7]"}, "250 2.1.5 Ok"),
        ("reject_non_fqdn_helo_hostname", {"helo": "plain"},
         f"504 5.5.2 <plain>: {HELO} rejected: need fully-qualified hostname"),
        ("reject_unknown_helo_hostname", {"helo": "no.test"}, f"450 4.7.1 <no.test>: {HELO} rejected: Host not found"),
        ("reject_unknown_helo_hostname", {"helo": "good.test"}, "250 2.1.5 Ok"),
        ("reject_unknown_helo_hostname", {"helo": "192.0.2.7"},
         f"450 4.7.1 <192.0.2.7>: {HELO} rejected: Host not found"),
        ("reject_unknown_helo_hostname", {"helo": "six.test"}, "250 2.1.5 Ok"),
        ("reject_unknown_sender_domain", {"sender": "a@six.test"}, "250 2.1.5 Ok"),
        ("reject_invalid_helo_hostname", {"helo": "IPv6:::1"}, f"501 5.5.2 <IPv6:::1>: {HELO} rejected: Invalid name"),
        ("reject_invalid_helo_hostname", {"helo": "::1"}, "250 2.1.5 Ok"),
        ("reject_invalid_helo_hostname", {"helo": "bücher.test"},
         f"501 5.5.2 <bücher.test>: {HELO} rejected: Invalid name"),
        ("reject_non_fqdn_sender", {"sender": "a"}, f"504 5.5.2 <a>: {SENDER} rejected: need fully-qualified address"),
        ("reject_non_fqdn_sender", {"sender": "a@plain"},
         f"504 5.5.2 <a@plain>: {SENDER} rejected: need fully-qualified address"),
        ("reject_non_fqdn_recipient", {"rcpt": "joe"},
         f"504 5.5.2 <joe>: {RCPT} rejected: need fully-qualified address"),
        ("reject_unknown_sender_domain", {}, "250 2.1.5 Ok"),
        ("reject_unknown_sender_domain", {"sender": ""}, "250 2.1.5 Ok"),
        ("reject_unknown_sender_domain", {"sender": "a@no.test"},
         f"450 4.1.8 <a@no.test>: {SENDER} rejected: Domain not found"),
        ("reject_unknown_sender_domain", {"sender": "a@slow.test"},
         f"450 4.1.8 <a@slow.test>: {SENDER} rejected: Domain not found"),
        ("reject_unknown_sender_domain", {"sender": "a@null.test"},
         f"550 5.7.27 <a@null.test>: {SENDER} rejected: Domain null.test does not accept mail (nullMX)"),
        ("reject_unknown_recipient_domain", {"rcpt": "a@no.test"},
         f"450 4.1.2 <a@no.test>: {RCPT} rejected: Domain not found"),
        ("check_sender_mx_access inline:{192.0.2.66=REJECT}", {"sender": "a@bad.test"},
         f"554 5.7.1 <a@bad.test>: {SENDER} rejected: Access denied"),
        ("check_sender_mx_access inline:{mx.bad.test=OK}, reject", {"sender": "a@bad.test"},
         "451 4.3.5 Server configuration error"),
        ("check_sender_mx_access inline:{mx.bad.test=DUNNO,192.0.2.66=REJECT}", {"sender": "a@bad.test"},
         "250 2.1.5 Ok"),
        ("check_sender_mx_access inline:{bad.test=REJECT}", {"sender": "a@null.test"}, "250 2.1.5 Ok"),
        ("check_sender_mx_access inline:{no.test=REJECT}", {"sender": "a@no.test"},
         f"554 5.7.1 <a@no.test>: {SENDER} rejected: Access denied"),
        ("check_sender_mx_access inline:{192.0.2.66=REJECT}", {"sender": "a@[192.0.2.66]"},
         f"554 5.7.1 <a@[192.0.2.66]>: {SENDER} rejected: Access denied"),
        ("check_sender_ns_access inline:{192.0.2.66=REJECT}", {"sender": "a@[192.0.2.66]"}, "250 2.1.5 Ok"),
        ("check_sender_a_access inline:{192.0.2.30=REJECT}", {},
         f"554 5.7.1 <a@good.test>: {SENDER} rejected: Access denied"),
        ("check_sender_a_access inline:{good.test=REJECT}", {}, "250 2.1.5 Ok"),
        ("check_helo_mx_access inline:{192.0.2.66=REJECT}", {"helo": "192.0.2.66"},
         f"554 5.7.1 <192.0.2.66>: {HELO} rejected: Access denied"),
        ("reject", {"rcpt": "postmaster"}, "250 2.1.5 Ok"),
        ("reject", {"rcpt": '"PostMaster"'}, "250 2.1.5 Ok"),
        ("reject_unlisted_recipient, permit", {"rcpt": "nobody@gw.test"},
         f"550 5.1.1 <nobody@gw.test>: {RCPT} rejected: User unknown in local recipient table"),
        ("reject_unlisted_sender", {"sender": "nobody@gw.test"},
         f"550 5.1.0 <nobody@gw.test>: {SENDER} rejected: User unknown in local recipient table"),
        ("reject_unlisted_sender", {"sender": "joe@gw.test"}, "250 2.1.5 Ok"),
        ("permit_tls_clientcerts", {}, "250 2.1.5 Ok"),
    ],
)  # fmt: skip
def test_restriction(words: str, asked: dict[str, str], reply: str) -> None:
    rig = at_recipient(words, relay_domains="no.test")
    assert ask(rig, **asked) == reply


def test_tempfail_action() -> None:
    rig = at_recipient("reject_unknown_sender_domain, permit", unknown_address_tempfail_action="defer")
    assert ask(rig, sender="a@slow.test").startswith("450 4.1.8 ")
    rig = at_recipient("reject_unknown_sender_domain, reject")
    assert ask(rig, sender="a@slow.test").startswith("554 5.7.1 <joe@gw.test>"), "a 5xx wins over defer_if_permit"


def test_multi_recipient_bounce() -> None:
    client = at_recipient("reject_multi_recipient_bounce").connect()
    assert client.say("EHLO x", "MAIL FROM:<>", "RCPT TO:<joe@gw.test>", "RCPT TO:<ann@gw.test>")[2:] == [
        "250 2.1.5 Ok",
        "550 5.5.3 <ann@gw.test>: Recipient address rejected: Multi-recipient bounce",
    ]


def test_unauth_pipelining() -> None:
    rig = Rig(smtpd_data_restrictions="reject_unauth_pipelining", smtpd_forbid_unauth_pipelining="no")
    client = rig.connect()
    replies = client.send(b"HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<joe@gw.test>\r\nDATA\r\nx\r\n")
    assert "503 5.5.0 <DATA>: Data command rejected: Improper use of SMTP command pipelining\n" in replies


def test_every_name_is_lower_case() -> None:
    assert all(name == name.lower() for name in RESTRICTIONS)


def test_names_may_be_written_in_upper_case() -> None:
    assert ask(at_recipient("REJECT")).startswith("554")


# --- order --------------------------------------------------------------------------------


def test_a_helo_name_is_looked_at_as_it_was_given() -> None:
    rig = Rig(smtpd_delay_reject="no", smtpd_helo_restrictions="check_helo_access inline:{{a@b.test = REJECT}}")
    client = rig.connect()
    refused, _ = client.say("EHLO a@b.test", "EHLO a@c.test")
    assert refused == "554 5.7.1 <a@b.test>: Helo command rejected: Access denied"
    client.say("MAIL FROM:<x@y.test>", "RCPT TO:<x@else.test>")
    assert rig.lines[-1].endswith(" helo=<a?c.test>")


def test_lists_are_worked_off_at_rcpt_in_order() -> None:
    settings = {f"smtpd_{stage}_restrictions": "warn_if_reject reject" for stage in ("client", "helo", "sender")}
    rig = Rig(
        smtpd_relay_restrictions="warn_if_reject defer, reject_unauth_destination",
        smtpd_recipient_restrictions="warn_if_reject reject",
        **settings,
    )
    ask(rig)
    warned = [line.split(": ", 4)[3:] for line in rig.lines if "reject_warning" in line]
    assert [(one[0], one[1].partition(" rejected")[0]) for one in warned] == [
        ("554 5.7.1 <unknown[192.0.2.7]>", CLIENT), ("554 5.7.1 <h.test>", HELO), ("554 5.7.1 <a@good.test>", SENDER),
        ("450 4.3.2 <joe@gw.test>", RCPT), ("554 5.7.1 <joe@gw.test>", RCPT),
    ]  # fmt: skip


def test_lists_about_what_has_not_been_given_are_skipped() -> None:
    """A client that says no HELO gets past its list, as smtpd_helo_restrictions warns."""
    rig = Rig(smtpd_helo_restrictions="reject", smtpd_sender_restrictions="reject_unverified_sender, reject")
    client = rig.connect("192.0.2.7")
    assert client.say("VRFY joe") == ["252 2.0.0 joe"]
    assert client.say("MAIL FROM:<a@good.test>", "VRFY joe")[-1].startswith("554 5.7.1 <a@good.test>: Sender")


def test_permissions_are_logged_where_wanted() -> None:
    rig = at_recipient(
        "check_sender_access inline:{a@good.test=ok,b@good.test=12}, Permit_Mynetworks, permit_auth_destination",
        smtpd_client_restrictions="permit",
        smtpd_relay_restrictions="",
        smtpd_log_access_permit_actions="!12, ok, permit_mynetworks, !permit, static:all",
    )
    for sender in ("a", "b", "c"):
        ask(rig, sender=f"{sender}@good.test", client="10.1.1.1")
    ask(rig, sender="d@good.test")
    assert [line.partition(": permit: ")[2] for line in rig.log.text.splitlines() if ": permit: " in line] == [
        "RCPT from unknown[10.1.1.1]: action=ok for Sender address=a@good.test from "
        "inline:{a@good.test=ok,b@good.test=12}; from=<a@good.test> to=<joe@gw.test> proto=ESMTP helo=<h.test>",
        "RCPT from unknown[10.1.1.1]: action=Permit_Mynetworks for Client host=unknown[10.1.1.1] ; "
        "from=<c@good.test> to=<joe@gw.test> proto=ESMTP helo=<h.test>",
        "RCPT from unknown[192.0.2.7]: action=permit_auth_destination for Recipient address=joe@gw.test ; "
        "from=<d@good.test> to=<joe@gw.test> proto=ESMTP helo=<h.test>",
    ]


def test_without_delay_each_stage_answers_for_itself() -> None:
    rig = Rig(
        smtpd_delay_reject="no",
        smtpd_helo_restrictions="check_helo_access inline:{bad.test=REJECT}",
        smtpd_sender_restrictions="check_sender_access inline:{{evil@x.test=REJECT no}}",
    )
    client = rig.connect()
    assert client.say("EHLO bad.test", "EHLO h.test", "MAIL FROM:<evil@x.test>", "MAIL FROM:<a@b.test>")[2:] == [
        "554 5.7.1 <evil@x.test>: Sender address rejected: no", "250 2.1.0 Ok"
    ]  # fmt: skip
    assert "NOQUEUE: reject: HELO" not in rig.log.text
    assert any(
        line.startswith("NOQUEUE: reject: EHLO from unknown[192.0.2.7]: 554 5.7.1 <bad.test>") for line in rig.lines
    )


def test_a_client_that_is_refused_at_the_greeting() -> None:
    rig = Rig(smtpd_delay_reject="no", smtpd_client_restrictions="reject")
    client = rig.connect(greet=False)
    assert client.got() == "554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: Access denied\n"
    assert client.say("EHLO x", "QUIT") == [
        "503 5.7.0 Error: access denied for unknown[192.0.2.7]", "221 2.0.0 Bye"
    ]  # fmt: skip
    assert rig.lines[1] == (
        "NOQUEUE: reject: CONNECT from unknown[192.0.2.7]: 554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: "
        "Access denied; proto=SMTP"
    )


def test_permit_in_one_list_does_not_spare_the_next() -> None:
    rig = Rig(smtpd_relay_restrictions="permit", smtpd_recipient_restrictions="reject_unauth_destination")
    assert ask(rig, rcpt="x@else.test") == "554 5.7.1 <x@else.test>: Relay access denied"


def test_recipients_are_looked_at_even_if_they_are_permitted() -> None:
    rig = Rig(smtpd_recipient_restrictions="permit")
    assert ask(rig, rcpt="nobody@gw.test").startswith("550 5.1.1 ")
    rig = Rig(smtpd_recipient_restrictions="permit", smtpd_reject_unlisted_recipient="no")
    assert ask(rig, rcpt="nobody@gw.test") == "250 2.1.5 Ok"


def test_a_temporary_error_of_one_stage_reaches_the_last() -> None:
    rig = Rig(smtpd_client_restrictions="defer_if_permit", smtpd_recipient_restrictions="permit")
    assert ask(rig).startswith("450 4.7.0 <unknown[192.0.2.7]>: Client host rejected: defer_if_permit requested")


@pytest.mark.parametrize(
    ("relay", "recipient", "reply"),
    [
        ("defer_if_permit", "reject", "554 5.7.1 <joe@gw.test>: Recipient address rejected: Access denied"),
        ("defer_if_permit", "permit", "450 4.7.0 <joe@gw.test>: Recipient address rejected: defer_if_permit requested"),
        ("defer_if_reject", "reject", "450 4.7.0 <joe@gw.test>: Recipient address rejected: defer_if_reject requested"),
        ("defer_if_reject", "permit", "250 2.1.5 Ok"),
    ],
)
def test_what_the_relay_list_remembers_counts_in_the_recipient_list(relay: str, recipient: str, reply: str) -> None:
    rig = Rig(smtpd_relay_restrictions=f"{relay}, permit", smtpd_recipient_restrictions=f"{recipient}, reject")
    assert ask(rig) == reply


def test_a_user_that_there_is_not_is_only_put_off_after_defer_if_reject() -> None:
    rig = Rig(smtpd_relay_restrictions="defer_if_reject, permit", smtpd_recipient_restrictions="permit, reject")
    assert ask(rig, rcpt="nobody@gw.test").startswith("450 4.7.0 ")


def test_relaying_is_refused_by_default() -> None:
    rig = Rig()
    for recipient in ("x@else.test", "x%else.test@gw.test", "else.test!x@gw.test", '"x@else.test"@gw.test'):
        assert "Relay access denied" in ask(rig, rcpt=recipient), recipient
    assert ask(rig, rcpt="x@else.test", client="10.0.0.9") == "250 2.1.5 Ok"


def test_restriction_classes_nest() -> None:
    rig = Rig(
        smtpd_restriction_classes="outer, inner",
        outer="check_recipient_access inline:{{ann@gw.test = inner}}, permit",
        inner="check_sender_access inline:{good.test=OK}, reject",
        smtpd_recipient_restrictions="outer, reject",
    )
    assert ask(rig, rcpt="ann@gw.test") == "250 2.1.5 Ok"
    assert ask(rig, rcpt="ann@gw.test", sender="x@bad.test").startswith("554 5.7.1 <ann@gw.test>")
    assert ask(rig, sender="x@bad.test") == "250 2.1.5 Ok"


def test_soft_bounce() -> None:
    rig = at_recipient("reject", soft_bounce="yes")
    assert ask(rig) == "454 4.7.1 <joe@gw.test>: Recipient address rejected: Access denied"
    assert rig.connect().say("NONSENSE") == ["400 4.5.2 Error: command not recognized"]


# --- DNS lists --------------------------------------------------------------------------------


def listed(rig: Rig, name: str, address: str = "127.0.0.2", text: str = "") -> Rig:
    rig.resolver.records[name, "A"] = [SimpleNamespace(address=address)]
    if text:
        rig.resolver.records[name, "TXT"] = [SimpleNamespace(strings=[text.encode()])]
    return rig


def test_listed_client() -> None:
    rig = listed(at_recipient("reject_rbl_client rbl.test"), "7.2.0.192.rbl.test", text="for a reason")
    assert ask(rig) == ("554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using rbl.test; for a reason")
    assert ask(rig, client="192.0.2.8") == "250 2.1.5 Ok"


@pytest.mark.parametrize("pattern, reply", [("127.0.0.2", "554"), ("127.0.0.3", "250"), ("127.0.[0;9].[1..3]", "554")])
def test_filters_of_lists(pattern: str, reply: str) -> None:
    rig = listed(at_recipient(f"reject_rbl_client rbl.test={pattern}"), "7.2.0.192.rbl.test")
    assert ask(rig).startswith(reply)


def test_listed_sender_domain_and_ipv6_client() -> None:
    rig = listed(at_recipient("reject_rhsbl_sender rbl.test"), "good.test.rbl.test")
    assert ask(rig) == "554 5.7.1 Service unavailable; Sender address [a@good.test] blocked using rbl.test"
    name = ".".join(reversed("20010db8000000000000000000000007")) + ".rbl.test"
    assert ask(listed(at_recipient("reject_rbl_client rbl.test"), name), client="2001:db8::7").startswith("554")


def test_a_list_that_does_not_answer_is_passed_over() -> None:
    rig = at_recipient("reject_rbl_client rbl.test")
    rig.resolver.records["7.2.0.192.rbl.test", "A"] = None
    assert ask(rig) == "250 2.1.5 Ok"
    assert any("RBL lookup error" in line for line in rig.lines)


DEFAULT = "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using rbl.test; why $rbl"


@pytest.mark.parametrize(
    ("entry", "reply"),
    [
        ("rbl.test = 521 4.2.1 gone from $rbl_domain", "521 5.2.1 gone from rbl.test"),
        ("rbl.test = $rbl_code $rbl_class $rbl_what $rbl_txt $sender_name $recipient_domain $helo_name",
         "554 5.7.1 Client host 192.0.2.7 why $rbl a gw.test h.test"),
        ("rbl.test = 450 $rbl_domain${rbl_reason?{ : $rbl_reason}}", "450 4.7.1 rbl.test : why $rbl"),
        ("rbl.test = REJECT", "450 4.7.1 Service unavailable"),
        ("rbl.test = 554 $myhostname", DEFAULT),
        ("rbl.test = 554 ${", DEFAULT),
        ("other.test = 554 x", DEFAULT),
    ],
)  # fmt: skip
def test_replies_of_a_list(entry: str, reply: str, tmp_path: Path) -> None:
    table = tmp_path / "replies"
    table.write_text(entry.replace(" = ", " ", 1) + "\n")
    rig = at_recipient("reject_rbl_client rbl.test", rbl_reply_maps=f"texthash:{table}")
    assert ask(listed(rig, "7.2.0.192.rbl.test", text="why $rbl")) == reply


def test_what_comes_from_outside_into_a_reply_is_filtered() -> None:
    rig = at_recipient(
        "reject_rbl_client rbl.test", default_rbl_reply="554 <$rbl_txt>", smtpd_expansion_filter="a\\\\\\142"
    )
    assert ask(listed(rig, "7.2.0.192.rbl.test", text="ab\\cd")) == "554 5.7.1 <ab\\__>"


def test_texts_of_a_list() -> None:
    rig = listed(at_recipient("reject_rbl_client rbl.test"), "7.2.0.192.rbl.test")
    records = [SimpleNamespace(strings=(b"one", b"two")), SimpleNamespace(strings=(b"three",))]
    rig.resolver.records["7.2.0.192.rbl.test", "TXT"] = records
    assert ask(rig).endswith("blocked using rbl.test; one / three")
    rig.resolver.records["7.2.0.192.rbl.test", "TXT"] = [SimpleNamespace(strings=(b"x" * 255,))] * 100
    assert len(ask(rig)) == 510


def test_a_list_does_not_permit_relaying() -> None:
    rig = listed(at_recipient("permit_dnswl_client wl.test, reject", smtpd_relay_restrictions=""), "7.2.0.192.wl.test")
    assert ask(rig) == "250 2.1.5 Ok"
    assert ask(rig, rcpt="x@else.test").startswith("554 5.7.1 <x@else.test>: Recipient address rejected")


def test_a_list_that_permits_does_not_answer() -> None:
    rig = at_recipient("permit_dnswl_client wl.test, reject")
    rig.resolver.records["7.2.0.192.wl.test", "A"] = None
    assert ask(rig) == "450 4.7.1 <192.0.2.7>: Client host rejected: Service unavailable"


def test_names_of_clients_that_are_permitted() -> None:
    rig = at_recipient("permit_rhswl_client wl.test, reject", smtpd_peername_lookup="yes")
    rig.resolver.names["192.0.2.30"] = "good.test"
    listed(rig, "good.test.wl.test")
    assert ask(rig, client="192.0.2.30") == "250 2.1.5 Ok"
    assert ask(rig).startswith("554")


def test_white_list() -> None:
    rig = listed(at_recipient("permit_dnswl_client wl.test, reject"), "7.2.0.192.wl.test")
    assert ask(rig) == "250 2.1.5 Ok"
    assert ask(rig, client="192.0.2.8").startswith("554")


# --- logins and senders --------------------------------------------------------------------------------

OWNED = "inline:{ {joe@gw.test = joe}, {team@gw.test = ann, JOE}, {ann@gw.test = ann}, {@owned.test = ann} }"
NOT_OWNED = "553 5.7.1 <{}>: Sender address rejected: not owned by user joe"
NOT_IN = "553 5.7.1 <{}>: Sender address rejected: not logged in"


@pytest.mark.parametrize(
    ("restriction", "login", "sender", "reply"),
    [
        ("reject_sender_login_mismatch", "joe", "joe@gw.test", ""),
        ("reject_sender_login_mismatch", "joe", "joe+box@gw.test", ""),
        ("reject_sender_login_mismatch", "Joe", "team@gw.test", ""),
        ("reject_sender_login_mismatch", "joe", "ann@gw.test", NOT_OWNED),
        ("reject_sender_login_mismatch", "joe", "x@owned.test", NOT_OWNED),
        ("reject_sender_login_mismatch", "joe", "free@else.test", NOT_OWNED),
        ("reject_sender_login_mismatch", "joe", "", ""),
        ("reject_sender_login_mismatch", "", "ann@gw.test", NOT_IN),
        ("reject_sender_login_mismatch", "", "free@else.test", ""),
        ("reject_authenticated_sender_login_mismatch", "joe", "ann@gw.test", NOT_OWNED),
        ("reject_authenticated_sender_login_mismatch", "", "ann@gw.test", ""),
        ("reject_known_sender_login_mismatch", "joe", "ann@gw.test", NOT_OWNED),
        ("reject_known_sender_login_mismatch", "joe", "free@else.test", ""),
        ("reject_known_sender_login_mismatch", "", "ann@gw.test", ""),
        ("reject_unauthenticated_sender_login_mismatch", "joe", "ann@gw.test", ""),
        ("reject_unauthenticated_sender_login_mismatch", "", "ann@gw.test", NOT_IN),
    ],
)
def test_whose_senders(restriction: str, login: str, sender: str, reply: str) -> None:
    rig = Rig(
        smtpd_sender_restrictions=restriction, smtpd_sender_login_maps=OWNED, recipient_delimiter="+",
        smtpd_sasl_auth_enable="yes", smtpd_sasl_type="dovecot", smtpd_discard_ehlo_keywords="auth",
        smtpd_authorized_xclient_hosts="192.0.2.7",
    )  # fmt: skip
    client = rig.connect()
    client.say(f"XCLIENT LOGIN={login or '[UNAVAILABLE]'}", "EHLO h.test", f"MAIL FROM:<{sender}>")
    assert client.say("RCPT TO:<joe@gw.test>") == [reply.format(sender) or "250 2.1.5 Ok"]


def test_a_login_permits_nothing_where_nobody_can_log_in() -> None:
    settings = {"smtpd_authorized_xclient_hosts": "192.0.2.7", "smtpd_relay_restrictions": "permit_sasl_authenticated"}
    for enabled, reply in (("no", "554 5.7.1 "), ("yes", "250 2.1.5 ")):
        rig = at_recipient("permit_sasl_authenticated", smtpd_sasl_auth_enable=enabled, **settings)
        client = rig.connect()
        client.say("XCLIENT LOGIN=joe", "EHLO h.test", "MAIL FROM:<a@b.test>")
        assert client.say("RCPT TO:<x@else.test>")[0].startswith(reply)


def test_senders_without_logins() -> None:
    rig = Rig(smtpd_sender_restrictions="reject_sender_login_mismatch", smtpd_sender_login_maps=OWNED)
    client = rig.connect()
    assert client.say("EHLO h.test", "MAIL FROM:<ann@gw.test>", "RCPT TO:<joe@gw.test>")[2] == "250 2.1.5 Ok"
    assert "restriction `reject_sender_login_mismatch' ignored: no SASL support" in rig.log.text


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ("reject_unknown_sender_domain", "far.test: MX or address lookup error: DNS reply filter drops all results"),
        ("reject_unknown_helo_hostname", "far.test: address or MX lookup error: DNS reply filter drops all results"),
        ("check_sender_mx_access inline:{x=OK}", "Unable to look up MX host for far.test: DNS reply filter policy"),
        (
            "reject_rbl_client rbl.test",
            "7.2.0.192.rbl.test: RBL lookup error: Error looking up name=x type=A: DNS reply filter drops all results",
        ),
    ],
)
def test_answers_that_are_not_to_be_seen(words: str, warning: str) -> None:
    rig = at_recipient(words)
    rig.resolver.servers["far.test"] = rig.resolver.records["7.2.0.192.rbl.test", "A"] = HIDDEN
    assert ask(rig, "a@far.test", helo="far.test") == "250 2.1.5 Ok"
    assert f"warning: {warning}" in rig.lines


def test_a_text_that_is_not_to_be_seen() -> None:
    rig = listed(at_recipient("reject_rbl_client rbl.test"), "7.2.0.192.rbl.test")
    rig.resolver.records["7.2.0.192.rbl.test", "TXT"] = HIDDEN
    assert ask(rig) == "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using rbl.test"
    assert "warning: 7.2.0.192.rbl.test: TXT lookup error: DNS reply filter drops all results" in rig.lines
