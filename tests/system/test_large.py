"""Large messages, several at once: through temporary files and real connections, block by block."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.sink import Sink

pytestmark = pytest.mark.system

SIZE = 3_000_000
MESSAGES = 12


def text(number: int) -> str:
    """A message of its own whose lines are all different, with dots in front of some."""
    lines = random.Random(number)
    body = "\n".join(f"{'.' * (at % 7 == 0)}{at} {lines.getrandbits(256):x}" for at in range(SIZE // 70))
    return f"From: joe@x.example\nSubject: {number}\n\n{body}\n"


def test_large_messages_arrive_as_they_were_sent(make_gateway):
    texts = {str(number): text(number) for number in range(MESSAGES)}
    with Sink() as sink:
        gateway = make_gateway()
        gateway.set(relayhost=f"[127.0.0.1]:{sink.port}")
        gateway.start()
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda one: gateway.send("ann@far.example", one, "joe@x.example"), texts.values()))
        arrived = {one.message["Subject"]: one.data.decode() for one in sink.wait(MESSAGES, 60)}
        gateway.wait_until_empty()
    assert sorted(arrived) == sorted(texts)
    altered = [name for name, got in arrived.items() if got.partition("\n\n")[2] != texts[name].partition("\n\n")[2]]
    assert altered == []
