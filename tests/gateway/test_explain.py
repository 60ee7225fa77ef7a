"""`mailgateway explain` tells what the gateway's own parts would do."""

import json

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from gateway.commands import explain as command
from gateway.config import load
from gateway.explain import Explainer, Mail
from gateway.policy.registry import RESTRICTIONS
from tests.gateway.smtpd.rig import Resolver

MAIN = """\
compatibility_level = 3.6
myhostname = gw.my.domain
queue_directory = {folder}/queue
data_directory = {folder}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
mynetworks = 10.0.0.0/8
relay_domains = some.domain
transport_maps = hash:{folder}/transport
virtual_alias_maps = hash:{folder}/virtual
masquerade_domains = my.domain
smtp_host_lookup = native
disable_dns_lookups = yes
smtpd_restriction_classes = local_only
local_only = check_recipient_access inline:{{some.domain=OK}}, reject
smtpd_recipient_restrictions = check_sender_access hash:{folder}/access
"""
CLIENT = {"client_name": "pc.example", "helo": "pc"}
MASTER = """\
2525 inet n - n - - smtpd
smtp unix - - n - - smtp
local unix - n n - - local
error unix - - n - - error
uucp unix - n n - - pipe flags=Fqhu user=nobody argv=uux -r -n -z -a$sender - $nexthop!rmail ($recipient)
"""


@pytest.fixture
def explained(tmp_path):
    (tmp_path / "main.cf").write_text(MAIN.format(folder=tmp_path))
    (tmp_path / "master.cf").write_text(MASTER)
    (tmp_path / "transport").write_text("some.domain uucp:uucp-host\nfixed.example smtp:[192.0.2.7]:2525\n")
    (tmp_path / "virtual").write_text('list@my.domain joe@some.domain, "a b"@some.domain,\n  ann@fixed.example\n')
    (tmp_path / "access").write_text("spam.example REJECT go away\nkid@my.domain local_only\n")

    def about(recipient, **facts):
        steps, warnings = yield_now(one_mail(tmp_path, Mail(recipient, **facts)))
        assert warnings == []
        return steps

    return about


async def one_mail(folder, mail):
    explainer = Explainer(load(folder), reactor)
    try:
        return await explainer.explain(mail)
    finally:
        explainer.close()


def yield_now(coroutine):
    """The result of what waits for nothing but files."""
    kept = []
    Deferred.fromCoroutine(coroutine).addCallbacks(kept.append, lambda failure: failure.raiseException())
    assert kept, "it waits for something"
    return kept[0]


def outcomes(steps, part):
    return [(step.what, step.outcome) for step in steps if step.part == part]


def test_rewriting_expansion_routing_and_the_command_line(explained):
    steps = explained("list@my.domain", sender="joe@pc5.my.domain")
    assert outcomes(steps, "rewriting") == [
        ("sender: masquerade_domains", "joe@pc5.my.domain becomes joe@my.domain")
    ]
    (expansion,) = [step for step in steps if step.part == "expansion"]
    assert expansion.outcome == 'joe@some.domain, "a b"@some.domain, ann@fixed.example'
    assert expansion.because[0].key == "list@my.domain"
    assert expansion.because[0].place.endswith("/virtual:1")
    routes = [outcome for _, outcome in outcomes(steps, "routing")]
    assert [route.split(",")[0] for route in routes] == ["transport uucp", "transport uucp", "transport smtp"]
    told = [outcome for _, outcome in outcomes(steps, "delivery")]
    assert "runs as nobody: uux -r -n -z -ajoe@my.domain - 'uucp-host!rmail' '(joe@some.domain)'" in told
    assert "would be refused: recipient address with white space cannot go by UUCP" in told
    assert any(line.startswith("[192.0.2.7]:2525: 192.0.2.7[192.0.2.7]:2525") for line in told)


def test_each_restriction_until_the_refusal_with_the_entry(explained):
    steps = explained("joe@some.domain", sender="x@spam.example", client="10.1.2.3", **CLIENT)
    assert outcomes(steps, "restriction")[0] == ("smtpd_relay_restrictions: permit_mynetworks", "permits")
    last = steps[-1]
    assert last.outcome == "refused: 554 5.7.1 <x@spam.example>: Sender address rejected: go away"
    assert not last.good
    assert any(str(found).endswith("/access:1: REJECT go away") for step in steps for found in step.because)
    assert outcomes(steps, "routing") == []


def test_restriction_classes_are_looked_into(explained):
    steps = explained("x@elsewhere.example", sender="kid@my.domain", client="10.1.2.3", **CLIENT)
    names = [what for what, _ in outcomes(steps, "restriction")]
    assert any("check_recipient_access" in name for name in names)
    assert steps[-1].outcome == "refused: 554 5.7.1 <kid@my.domain>: Sender address rejected: Access denied"


def test_a_stranger_may_not_relay(explained):
    steps = explained("x@elsewhere.example", sender="a@b.example", client="192.0.2.9", **CLIENT)
    assert steps[-1].outcome == "refused: 454 4.7.1 <x@elsewhere.example>: Relay access denied"


ALSO_KNOWN_AS = {
    "check_recipient_maps": "reject_unlisted_recipient", "reject_invalid_hostname": "reject_invalid_helo_hostname",
    "reject_non_fqdn_hostname": "reject_non_fqdn_helo_hostname",
    "reject_unknown_address": "reject_unknown_sender_domain",
    "reject_unknown_client": "reject_unknown_client_hostname",
    "reject_unknown_hostname": "reject_unknown_helo_hostname",
}  # fmt: skip


def arguments_of(name):
    if name.endswith("_access"):
        return "inline:{x=OK}"
    if name.startswith(("reject_rbl", "reject_rhsbl_", "permit_dnswl_", "permit_rhswl_")):
        return "list.test"
    return {"sleep": "0", "check_policy_service": "inet:127.0.0.1:1"}.get(name, "")


class Nothing(Resolver):
    """A DNS in which there is nothing."""

    def for_service(self, *about):
        return self


@ensureDeferred
async def test_every_restriction_that_there_is(explained, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.parts.Parts.resolver", Nothing())
    names = sorted(RESTRICTIONS.keys() - {"permit"})
    words = ", ".join(f"warn_if_reject {name} {arguments_of(name)}" for name in names)
    with (tmp_path / "main.cf").open("a") as file:
        file.write("smtpd_relay_restrictions =\nsmtpd_policy_service_try_limit = 1\n")
        file.write(f"smtpd_recipient_restrictions = {words}, permit\n")
    mail = Mail("x@far.example", sender="a@my.domain", client="192.0.2.9", login="joe", **CLIENT)
    explainer = Explainer(load(tmp_path), reactor)
    try:
        steps, _ = await explainer.explain(mail)
    finally:
        explainer.close()
    where = "smtpd_recipient_restrictions: "
    shown = [step.what.removeprefix(where) for step in steps if step.what.startswith(where)]
    assert [one.split()[0] for one in shown] == [*(ALSO_KNOWN_AS.get(name, name) for name in names), "permit"]
    assert all(step.outcome for step in steps)
    told = {step.what.removeprefix(where): step.outcome for step in steps}
    reply = "554 5.7.1 <x@far.example>: Recipient address rejected: Access denied"
    assert told["reject"] == f"goes on, and the log warns of {reply} (warn_if_reject)"


def test_a_table_that_is_away_means_waiting(explained, tmp_path):
    (tmp_path / "transport").unlink()
    steps = explained_without_warnings(tmp_path)
    assert "would wait" in steps[-1].outcome


def explained_without_warnings(folder):
    return yield_now(one_mail(folder, Mail("joe@some.domain")))[0]


def changed(folder, more):
    with (folder / "main.cf").open("a") as file:
        file.write(more)


def test_blind_copies_and_the_parameters_that_decide(explained, tmp_path):
    changed(tmp_path, "always_bcc = x@some.domain\nsender_bcc_maps = inline:{ann@fixed.example=y@some.domain}\n"
            "relayhost = [192.0.2.8]\n")  # fmt: skip
    steps = explained("a@else.example", sender="ann@fixed.example")
    place = len((tmp_path / "main.cf").read_text().split("\n"))
    main = tmp_path / "main.cf"
    assert outcomes(steps, "copy") == [
        ("sender_bcc_maps", "to y@some.domain"), (f"always_bcc ({main}:{place - 3})", "to x@some.domain"),
    ]
    route = outcomes(steps, "routing")[0][1]
    assert route == f"transport smtp, next hop [192.0.2.8] (by default_transport, relayhost ({main}:{place - 1}))"
    assert [what for what, _ in outcomes(steps, "routing")][1:] == [
        "y@some.domain: relay domain", "x@some.domain: relay domain",
    ]


def test_what_access_tables_do_to_the_mail(explained, tmp_path):
    (tmp_path / "access").write_text("kid@my.domain REDIRECT ann@fixed.example\nkid@her.domain HOLD\n")
    steps = explained("x@some.domain", sender="kid@my.domain", client="10.1.2.3", **CLIENT)
    assert ("action REDIRECT", "ann@fixed.example") in outcomes(steps, "restriction")
    assert all(step.good for step in steps)
    steps = explained("x@some.domain", sender="kid@her.domain", client="10.1.2.3", **CLIENT)
    assert not all(step.good for step in steps)


def test_the_data_stage_and_a_login(explained, tmp_path):
    changed(tmp_path, """\
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_data_restrictions = reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
""")
    steps = explained("x@far.example", client="192.0.2.9", login="joe", **CLIENT)
    assert ("smtpd_relay_restrictions: permit_sasl_authenticated", "permits") in outcomes(steps, "restriction")
    assert steps[-1].outcome.startswith("refused: 554 5.7.1 <DATA>: Data command rejected")


def test_a_cleanup_service_of_its_own(explained, tmp_path):
    """As before a content filter: addresses are mapped and copied on the way back only."""
    changed(tmp_path, "always_bcc = x@some.domain\n")
    with (tmp_path / "master.cf").open("a") as file:
        file.write("10026 inet n - n - - smtpd -o cleanup_service_name=before\n"
                   "before unix n - n - 0 cleanup -o always_bcc= -o virtual_alias_maps=\n")  # fmt: skip
    facts = {"client": "10.1.2.3", **CLIENT}
    mapped = explained("list@my.domain", service="2525", **facts)
    assert [step.part for step in mapped if step.part in ("expansion", "copy")] == ["expansion", "copy"]
    (tmp_path / "transport").write_text("my.domain error:not here\n")
    steps = explained("list@my.domain", service="10026", **facts)
    assert not [step for step in steps if step.part in ("expansion", "copy")]


def test_generic_addresses_on_the_way_out(explained, tmp_path):
    changed(tmp_path, "smtp_generic_maps = inline:{joe@my.domain=joe@isp.example}\n")
    steps = explained("ann@fixed.example", sender="joe@my.domain")
    assert ("service smtp", "generic: joe@my.domain becomes joe@isp.example") in outcomes(steps, "delivery")


def test_no_address_is_probed(explained, tmp_path):
    changed(tmp_path, "smtpd_recipient_restrictions = reject_unverified_recipient\n")
    steps = explained("joe@some.domain", sender="a@my.domain", client="10.1.2.3", **CLIENT)
    assert ("address verification", "joe@some.domain would be probed; here it counts as deliverable") in outcomes(
        steps, "restriction"
    )
    assert ("smtpd service 2525", "accepted") in outcomes(steps, "restriction")


def test_services_that_are_not_there(explained, tmp_path):
    (step,) = explained("x@some.domain", client="10.1.2.3", service="smtps")
    assert step.outcome == "no smtpd service smtps: nobody listens"
    (tmp_path / "transport").write_text("some.domain carrier:pigeon\n")
    assert explained("x@some.domain")[-1].outcome == "no such service in master.cf: the mail would wait"


def test_errors_say_what_becomes_of_the_mail(explained, tmp_path):
    (tmp_path / "transport").write_text("some.domain error:5.7.1 no pigeons\n")
    last = explained("x@some.domain")[-1]
    assert (last.outcome, last.good) == ("would be returned: no pigeons", False)
    broken = explained("x@a..b")
    assert not broken[0].good


@ensureDeferred
async def test_local_delivery_is_rehearsed(explained, tmp_path):
    (tmp_path / "aliases").write_text("list root, |/bin/cat, nobody-here\n")
    changed(tmp_path, f"alias_maps = texthash:{tmp_path}/aliases\n")
    steps, _ = await one_mail(tmp_path, Mail("list"))
    told = dict(outcomes(steps, "delivery"))
    assert told["service local: root@gw.my.domain"] == "delivers to mailbox"
    assert told["service local: list@gw.my.domain"] == "delivers to command: /bin/cat"
    assert told["service local: nobody-here@gw.my.domain"] == 'would be returned: unknown user: "nobody-here"'
    assert any("/aliases:1: root, " in str(found) for step in steps for found in step.because)


def test_one_explainer_takes_many_mails(explained, tmp_path):
    explainer = Explainer(load(tmp_path), reactor)
    first = yield_now(explainer.explain(Mail("list@my.domain", client="10.1.2.3", **CLIENT)))[0]
    again = yield_now(explainer.explain(Mail("list@my.domain", client="10.1.2.3", **CLIENT)))[0]
    explainer.close()
    assert first == again


def test_nothing_outlandish_reaches_the_terminal(explained, capsys):
    steps = explained('"a\x1b[2J"@some.domain')
    command._print('"a\x1b[2J"@some.domain', steps, [], as_json=False)
    assert "\x1b" not in capsys.readouterr().out
    command._print("x\x1b", steps, ["warning: w"], as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["address"] == "x\x1b"
    assert {"part", "what", "outcome", "good", "because"} <= set(lines[0])
    assert lines[-1]["part"] == "warning"


def test_a_login_is_named_and_its_password_is_not(explained, tmp_path):
    with open(tmp_path / "main.cf", "a") as main:
        main.write(f"""smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = unionmap:{{hash:{tmp_path}/passwords}}
""")
    (tmp_path / "passwords").write_text("[192.0.2.7]:2525 anna:geheim\n")
    steps = explained("x@fixed.example")
    assert any(outcome.endswith("logs in as anna") for _, outcome in outcomes(steps, "delivery"))
    found = [str(one) for step in steps for one in step.because]
    assert any(f"{tmp_path}/passwords:1: anna:(not shown)" in one for one in found)
    assert "geheim" not in str(steps)
