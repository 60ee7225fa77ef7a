"""Probes: when one is sent, what is remembered, for how long."""

from __future__ import annotations

import pytest

from gateway.config import Settings
from gateway.content.verification import PROBE_LIFE, Known, Verifier
from gateway.content.verification_store import Store, open_store
from gateway.interfaces import DELIVERABLE, UNDELIVERABLE
from gateway.log import MemoryLog
from spool.envelope import Envelope, Recipient
from spool.interfaces import RecipientState
from tests.gateway.content.support import NOW, Way, now

DAY = 86400.0
ADDRESS = "joe@far.test"


class Rig:
    def __init__(self, store=None, **settings):
        self.way = Way(**settings)
        self.clock = self.way.clock
        self.store = {} if store is None else store
        self.verifier = Verifier(self.way.settings, self.way.cleanup, self.store, self.way.log, self.clock)

    def ask(self, address=ADDRESS):
        return now(self.verifier.query(address))

    @property
    def probes(self):
        return list(self.way.spool.stored.values())

    def report(self, status, dsn="2.0.0", reason="fine", probe=-1):
        envelope = self.probes[probe].envelope
        state = RecipientState(True, status, dsn, reason)
        return self.verifier.report(envelope, [state] * len(envelope.recipients))


def test_a_probe():
    rig = Rig(address_verify_sender="probe")
    assert rig.ask() == ("waiting", "Address verification in progress")
    (probe,) = rig.probes
    assert probe.envelope.trace == "verify" and probe.envelope.sender == "probe@gw.my.domain"
    assert [one.address for one in probe.envelope.recipients] == [ADDRESS]
    assert rig.ask()[0] == "waiting" and len(rig.probes) == 1
    assert rig.verifier.is_probe(probe.envelope) and probe.envelope.recipients[0].notify == 0
    assert rig.report(DELIVERABLE) and rig.ask() == ("ok", "fine")
    assert not rig.verifier.is_probe(probe.envelope)


@pytest.mark.parametrize("dsn, status", [("5.1.1", "bounced"), ("4.4.1", "deferred")])
def test_results(dsn, status):
    rig = Rig()
    rig.ask()
    rig.report(UNDELIVERABLE, dsn, "x" * 1000)
    assert rig.ask() == (status, "x" * 500)


def test_one_good_address_is_enough():
    rig = Rig(virtual_alias_maps="inline:{{joe@far.test=one@far.test two@far.test}}")
    rig.ask()
    envelope = rig.probes[0].envelope
    bad, good = RecipientState(True, UNDELIVERABLE, "5.1.1", "no"), RecipientState(True, DELIVERABLE, "2.0.0", "yes")
    rig.verifier.report(envelope, [bad, good])
    assert rig.ask() == ("ok", "yes")


def test_other_messages_that_only_ask_are_none_of_ours():
    rig = Rig()
    rig.ask()
    envelope = rig.probes[0].envelope
    assert rig.report(DELIVERABLE)
    assert not rig.verifier.report(envelope, [RecipientState(True, DELIVERABLE)])


def test_a_users_question_about_others_too_is_none_of_ours():
    rig = Rig()
    rig.ask()
    theirs = Envelope("eve@gw.my.domain", [Recipient(ADDRESS, ADDRESS), Recipient("good@far.test", "good@far.test")])
    bad, good = RecipientState(True, UNDELIVERABLE, "5.1.1", "no"), RecipientState(True, DELIVERABLE)
    assert not rig.verifier.report(theirs, [bad, good])
    assert rig.ask()[0] == "waiting" and rig.report(UNDELIVERABLE, "5.1.1", "no") and rig.ask() == ("bounced", "no")


def test_refresh_and_expiry_of_good_results():
    rig = Rig()
    rig.ask()
    rig.report(DELIVERABLE)
    rig.clock.advance(7 * DAY + 1)
    assert rig.ask()[0] == "ok" and len(rig.probes) == 2, "asked anew, and still good"
    rig.report(UNDELIVERABLE, "5.1.1", "gone")
    assert rig.ask()[0] == "ok", "a failed probe does not undo it"
    rig.clock.advance(24 * DAY)
    assert rig.ask()[0] == "waiting"


def test_refresh_and_expiry_of_bad_results():
    rig = Rig()
    rig.ask()
    rig.report(UNDELIVERABLE, "5.1.1", "no")
    rig.clock.advance(3 * 3600 + 1)
    assert rig.ask()[0] == "bounced" and len(rig.probes) == 2
    rig.report(DELIVERABLE)
    assert rig.ask()[0] == "ok"


def test_a_probe_that_gets_lost_is_sent_again():
    rig = Rig()
    rig.ask()
    rig.clock.advance(PROBE_LIFE + 1)
    assert rig.ask()[0] == "waiting" and len(rig.probes) == 2


def test_without_a_negative_cache():
    rig = Rig(address_verify_negative_cache="no")
    rig.ask()
    rig.report(UNDELIVERABLE, "5.1.1", "no")
    assert rig.ask() == ("bounced", "no") and rig.ask()[0] == "waiting"


def test_no_more_probes_than_allowed():
    rig = Rig(address_verify_pending_request_limit="1")
    rig.ask()
    assert rig.ask("ann@far.test")[0] == "waiting" and len(rig.probes) == 1
    rig.report(DELIVERABLE)
    rig.ask("ann@far.test")
    assert len(rig.probes) == 2


def test_what_counts_no_more_is_dropped():
    rig = Rig()
    rig.verifier.start()
    rig.ask()
    rig.report(UNDELIVERABLE, "5.1.1", "no")
    rig.store[b"lost"] = Known(probed=NOW).encode()
    rig.clock.advance(12 * 3600)
    assert set(rig.store) == {ADDRESS.encode()}
    for _ in range(6):
        rig.clock.advance(12 * 3600)
    assert not rig.store
    rig.verifier.stop()
    assert not rig.clock.getDelayedCalls()


def test_the_store_outlives_us(tmp_path):
    settings = Settings({"address_verify_map": f"btree:{tmp_path}/data/verify_cache"})
    store = open_store(settings, MemoryLog())
    assert isinstance(store, Store)
    rig = Rig(store)
    rig.ask()
    rig.report(DELIVERABLE)
    store.close()
    again = open_store(settings, MemoryLog())
    assert Rig(again).ask() == ("ok", "fine") and list(again) == [ADDRESS.encode()] and len(again) == 1
    with pytest.raises(KeyError):
        del again[b"nobody"]
    del again[ADDRESS.encode()]
    assert not again


def test_a_store_that_cannot_be_used(tmp_path):
    (tmp_path / "verify_cache.lmdb").write_bytes(b"this is no such file" * 1000)
    log = MemoryLog()
    assert open_store(Settings({"address_verify_map": f"btree:{tmp_path}/verify_cache"}), log) == {}
    assert any("results are kept in memory" in text for _, text in log.lines)
    assert open_store(Settings({"address_verify_map": ""}), log) == {}


def test_broken_records_are_forgotten():
    assert Known.decode(b"rubbish") == Known() == Known.decode(b"[1]")
