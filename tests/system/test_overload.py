"""Under load: processes that are killed, reloads, and more clients than there is room for."""

from __future__ import annotations

import os
import random
import signal
import smtplib
import socket
import time
from collections import Counter

import pytest

from tests.system.gateway import poll, processes
from tests.system.load import Load

# More of it by hand: KILLS=50 RELOADS=100 RESTARTS=100 python -m pytest tests/system/test_overload.py
KILLS = int(os.environ.get("KILLS", "5"))
RELOADS = int(os.environ.get("RELOADS", "20"))
RESTARTS = int(os.environ.get("RESTARTS", "3"))

ORPHANS_GONE = 8.0

pytestmark = pytest.mark.system


def loaded(made, make_sink):
    made.sink = make_sink()
    made.set(
        transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}",
        minimal_backoff_time="1s", maximal_backoff_time="2s", queue_run_delay="1s",
    )
    made.start()
    return made


@pytest.fixture
def gateway(make_gateway, make_sink):
    return loaded(make_gateway("twistd"), make_sink)


def arrived(gateway):
    return Counter(one.message["Message-ID"] for one in gateway.sink.received)


def wait_for_all(gateway, load, limit=60.0):
    """Every message that got its 250 arrives.  How often each did."""
    poll(lambda: not set(load.accepted) - set(arrived(gateway)),
         lambda: f"{len(set(load.accepted) - set(arrived(gateway)))} of {len(load.accepted)} messages arrive", limit)
    gateway.wait_until_empty()
    return arrived(gateway)


def kill_all(gateway):
    pids = list(gateway.roles())
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    gateway.process.wait()
    gateway.process = None


def kill_master(gateway):
    """The roles see it, and end."""
    orphans = [pid for pid in gateway.roles() if pid != gateway.process.pid]
    gateway.process.kill()
    gateway.process.wait()
    gateway.process = None
    return orphans


@pytest.mark.root
def test_kills_at_random_lose_nothing(gateway):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    orphans, killed = [], Counter()
    with Load(gateway, "far.example") as load:
        for number in range(KILLS):
            time.sleep(chance.uniform(0.2, 1.5))
            whom = ("receiver", "scheduler", "executor", "master", "all")[number % 5]
            killed[whom] += 1
            if whom == "all":
                kill_all(gateway)
                gateway.start()
            elif whom == "master":
                orphans += kill_master(gateway)
                gateway.start()
            else:
                victims = [pid for pid, role in gateway.roles().items() if role == whom]
                if victims:
                    os.kill(chance.choice(victims), signal.SIGKILL)
        last = time.monotonic()
        seen = len(load.accepted)
        poll(lambda: len(load.accepted) > seen + 20, "mail is accepted after the last kill")
    counts = wait_for_all(gateway, load)
    twice = sum(count - 1 for count in counts.values())
    print(f"{sum(killed.values())} kills {dict(killed)}: {len(load.accepted)} accepted, none lost, {twice} came again, "
          f"{len(load.troubles)} clients saw trouble")
    # Twice comes what was in flight at each kill of the scheduler: deliveries, and ends on their way to a slow disk.
    assert twice <= 100 * (killed["scheduler"] + killed["master"] + killed["all"])
    time.sleep(max(0.0, last + ORPHANS_GONE - time.monotonic()))
    assert [pid for pid, words in processes() if pid in orphans and "gateway.role" in words] == []


@pytest.mark.root
def test_reloads_under_load_cut_nobody(gateway):
    with Load(gateway, "far.example") as load:
        for number in range(RELOADS):
            seen = gateway.log.count("reload -- version")
            if number % 2:
                os.kill(gateway.process.pid, signal.SIGHUP)
            else:
                gateway.run("reload", check=True)
            poll(lambda seen=seen: gateway.log.count("reload -- version") > seen, "the reload")
            time.sleep(0.1)
    counts = wait_for_all(gateway, load)
    print(f"{RELOADS} reloads: {load.sessions} sessions, {len(load.accepted)} accepted, none lost")
    assert load.troubles == []
    assert set(counts.values()) == {1}
    assert "killed" not in gateway.log


def test_restarts_under_load_cut_nobody(either, make_sink):
    """In place: the listening sockets stay open, old roles end their sessions, the process ID stays."""
    gateway = loaded(either("twistd"), make_sink)
    began, before = gateway.process.pid, set(gateway.roles())
    with Load(gateway, "far.example") as load:
        for number in range(RESTARTS):
            gateway.run("restart", check=True)
            poll(lambda number=number: gateway.log.count("restart finished") > number, gateway.last_words)
            seen = len(load.accepted)
            poll(lambda seen=seen: len(load.accepted) > seen + 5, "mail is accepted")
    counts = wait_for_all(gateway, load)
    print(f"{RESTARTS} restarts: {load.sessions} sessions, {len(load.accepted)} accepted, none lost")
    assert load.troubles == []
    assert set(counts.values()) == {1}
    assert gateway.log.count("daemon started") == RESTARTS + 1
    assert gateway.process.pid == began and gateway.process.poll() is None
    poll(lambda: set(gateway.roles()) & before == {began}, "the old roles have gone")
    assert len(gateway.roles()) == (3 + len(os.sched_getaffinity(0)) if gateway.split else 1)
    gateway.stop()
    assert [pid for pid, words in processes() if "gateway.role" in words and str(gateway.directory) in words] == []


@pytest.mark.root
def test_programs_that_run_during_reloads_and_restarts_run_once(make_gateway):
    gateway = make_gateway("twistd")
    done = gateway.folder / "done"
    done.touch()
    done.chmod(0o666)
    script = gateway.folder / "keep"
    script.write_text(f'#!/bin/sh\ncat >/dev/null\nsleep 0.3\necho "$1" >>{done}\n')
    script.chmod(0o755)
    gateway.append("master.cf", f"keep unix - n n - - pipe user=games argv={script} ${{user}}\n")
    gateway.set(transport_maps="inline:{far.example=keep:}", keep_destination_recipient_limit="1")
    gateway.start()
    with Load(gateway, "far.example", pause=0.3) as load:
        for number in range(max(RELOADS // 5, 3)):
            seen = gateway.log.count(" finished --")
            gateway.run("restart" if number % 3 == 2 else "reload", check=True)
            poll(lambda seen=seen: gateway.log.count(" finished --") > seen, gateway.last_words)
    gateway.wait_until_empty()
    counts = Counter(done.read_text().split())
    print(f"{len(load.accepted)} accepted, {len(counts)} delivered")
    assert load.troubles == []
    assert len(counts) == len(load.accepted) and set(counts.values()) == {1}
    assert "status=deferred" not in gateway.log


def takes_mail(gateway):
    try:
        gateway.send("nobody@localhost")
    except smtplib.SMTPException:
        return False
    return True


def test_new_mail_waits_while_more_comes_in_than_goes_out(either, make_sink):
    gateway, sink = either("twistd"), make_sink()
    sink.may_answer.clear()
    gateway.set(
        transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{sink.port}}}", qmgr_message_active_limit="3",
        in_flow_delay="3s",
    )
    gateway.start()
    receivers = len(os.sched_getaffinity(0)) if gateway.split else 1

    def is_slowed_down():
        gateway.send("joe@far.example")
        return gateway.run("status").stdout.count("lets each new message wait 3 seconds") == receivers

    poll(is_slowed_down, gateway.last_words)
    began = time.monotonic()
    gateway.send("joe@far.example")
    assert time.monotonic() - began >= 3
    sink.may_answer.set()
    gateway.wait_until_empty()
    poll(lambda: "overload" not in gateway.run("status").stdout, gateway.last_words)
    began = time.monotonic()
    gateway.send("joe@far.example")
    assert time.monotonic() - began < 3


@pytest.fixture
def few_descriptors(make_gateway):
    """A gateway whose processes may have no more than 256 files open."""
    made = make_gateway("twistd")
    made.prefix = ["prlimit", "--nofile=256:256"]
    made.set(smtpd_client_connection_count_limit="0", local_transport="discard:")
    made.start()
    return made


@pytest.mark.root
def test_more_clients_than_descriptors_are_told_so(few_descriptors):
    gateway = few_descriptors
    assert "only 256 files may be open" in gateway.log
    before = gateway.roles()
    lines, greetings = [], Counter()
    try:
        for _ in range(700):
            lines.append(socket.create_connection(("127.0.0.1", gateway.port), 20))
        for line in lines:
            line.settimeout(20)
            reply = line.recv(200)
            greetings["220" if reply.startswith(b"220 ") else reply[:9].decode()] += 1
        assert set(greetings) == {"220", "421 4.7.0"}
        status = gateway.run("status", check=True).stdout
        assert "is full: clients are turned away with 421" in status
        # Each receiver has room for 48; one that is full leaves clients to the others.
        assert greetings["220"] > 40 * len(os.sched_getaffinity(0)) and greetings["421 4.7.0"] > 200
    finally:
        for line in lines:
            line.close()
    poll(lambda: takes_mail(gateway), "mail is accepted")
    gateway.wait_until_empty()
    assert gateway.roles().items() <= before.items()  # nobody has died of it
    assert len([line for line in gateway.log.splitlines() if "as many as can be" in line]) <= 10
