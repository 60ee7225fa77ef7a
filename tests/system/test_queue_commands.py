"""sendmail, mailq, postqueue and postsuper against a running gateway, by root and by others."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.system

MAIL = "Subject: test\n\nHello.\n"
ORDINARY = "games"  # neither root nor the one the gateway runs as


@pytest.fixture
def gateway(either, make_sink):
    """Everything for far.example waits, until the sink stops to refuse."""
    made = either("twistd")
    made.sink = make_sink({"RCPT": "450 4.2.0 not now"})
    made.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}", minimal_backoff_time="1h")
    made.start()
    return made


def submit(gateway, recipient="joe@far.example", user=None):
    """By sendmail; its queue ID, once it has been tried."""
    before = {one["queue_id"] for one in gateway.queue()}
    gateway.run("sendmail", recipient, stdin=MAIL, user=user, check=True)
    gateway.wait_for(rf"to=<{recipient}>, .*status=deferred \(.*not now")
    (new,) = {one["queue_id"] for one in gateway.queue()} - before
    return new


def queues(gateway):
    return {one["queue_id"]: one["queue_name"] for one in gateway.queue()}


def test_the_life_of_a_message_that_waits(gateway):
    first, second = submit(gateway, "a@far.example"), submit(gateway, "b@far.example")
    listed = gateway.run("mailq", check=True).stdout
    assert "-Queue ID-" in listed.splitlines()[0] and "-- 0 Kbytes in 2 Requests." in listed
    assert "450 4.2.0 not now" in listed and "b@far.example" in listed

    held = gateway.run("postsuper", "-h", first, check=True)
    assert f"postsuper: {first}: placed on hold" in held.stderr
    assert queues(gateway) == {first: "hold", second: "deferred"}
    assert f"{first}!" in gateway.run("mailq").stdout

    gateway.sink.replies.clear()
    gateway.run("postqueue", "-f", check=True)
    gateway.sink.wait(1)
    gateway.wait_for(rf"{second}: removed")
    assert queues(gateway) == {first: "hold"}

    released = gateway.run("postsuper", "-H", "-", stdin=f"{first}\n", check=True)
    assert f"postsuper: {first}: released from hold" in released.stderr
    gateway.run("postqueue", "-i", first, check=True)
    assert {one.recipients for one in gateway.sink.wait(2)} == {("a@far.example",), ("b@far.example",)}
    gateway.wait_until_empty()
    assert gateway.run("mailq").stdout == "Mail queue is empty\n"


def test_delete_one_and_all(gateway):
    ids = [submit(gateway, f"{name}@far.example") for name in "abc"]
    gone = gateway.run("postsuper", "-d", ids[0], check=True)
    assert f"postsuper: {ids[0]}: removed" in gone.stderr and "Deleted: 1 message" in gone.stderr
    assert set(queues(gateway)) == set(ids[1:])
    assert "Deleted: 2 messages" in gateway.run("postsuper", "-d", "ALL", check=True).stderr
    assert queues(gateway) == {}
    gateway.sink.replies.clear()
    gateway.run("postqueue", "-f", check=True)
    submitted = gateway.run("sendmail", "d@far.example", stdin=MAIL, check=True)
    assert submitted.stdout == ""
    assert [one.recipients for one in gateway.sink.wait(1)] == [("d@far.example",)]


def test_requeue_takes_up_a_changed_configuration(gateway):
    one = submit(gateway)
    gateway.set(transport_maps="inline:{far.example=discard:}")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    requeued = gateway.run("postsuper", "-r", one, check=True)
    assert "Requeued: 1 message" in requeued.stderr
    gateway.run("postqueue", "-f")
    gateway.wait_until_empty()
    gateway.wait_for(r"to=<joe@far\.example>, relay=none, .*status=sent \(far\.example\)")


@pytest.mark.root
def test_who_may_do_what(gateway):
    one = submit(gateway, user=ORDINARY)
    assert gateway.queue()[0]["sender"].startswith(f"{ORDINARY}@")
    assert one in gateway.run("mailq", user=ORDINARY, check=True).stdout
    assert gateway.run("postqueue", "-f", user=ORDINARY).returncode == 0
    for arguments in (["-d", one], ["-d", "ALL"], ["-h", one], ["-r", "ALL"]):
        assert gateway.run("postsuper", *arguments, user=ORDINARY).returncode != 0
    for command in ("reload", "stop"):
        assert gateway.run(command, user=ORDINARY).returncode != 0
    peek = gateway.run("postcat", "-q", one, user=ORDINARY)
    assert peek.returncode != 0 and "Hello." not in peek.stdout
    assert "Hello." in gateway.run("postcat", "-q", one, user="root", check=True).stdout
    assert queues(gateway) == {one: "deferred"}
    spool = gateway.folder / "spool"
    assert all(path.stat().st_mode & 0o077 == 0 for path in spool.rglob("*") if path.is_file())
    assert gateway.process.poll() is None
