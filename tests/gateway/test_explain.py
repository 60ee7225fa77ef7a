"""`mailgateway explain` tells what the gateway's own parts would do."""

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from gateway.config import load
from gateway.explain import Mail, explain

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
        steps, warnings = yield_now(explain(load(tmp_path), reactor, Mail(recipient, **facts)))
        assert warnings == []
        return steps

    return about


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
    assert "/virtual:1: " in expansion.because[0]
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
    assert any("/access:1: REJECT go away" in reason for step in steps for reason in step.because)
    assert outcomes(steps, "routing") == []


def test_restriction_classes_are_looked_into(explained):
    steps = explained("x@elsewhere.example", sender="kid@my.domain", client="10.1.2.3", **CLIENT)
    names = [what for what, _ in outcomes(steps, "restriction")]
    assert any("check_recipient_access" in name for name in names)
    assert steps[-1].outcome == "refused: 554 5.7.1 <kid@my.domain>: Sender address rejected: Access denied"


def test_a_stranger_may_not_relay(explained):
    steps = explained("x@elsewhere.example", sender="a@b.example", client="192.0.2.9", **CLIENT)
    assert steps[-1].outcome == "refused: 454 4.7.1 <x@elsewhere.example>: Relay access denied"


def test_a_table_that_is_away_means_waiting(explained, tmp_path):
    (tmp_path / "transport").unlink()
    steps = explained_without_warnings(tmp_path)
    assert "would wait" in steps[-1].outcome


def explained_without_warnings(folder):
    return yield_now(explain(load(folder), reactor, Mail("joe@some.domain")))[0]
