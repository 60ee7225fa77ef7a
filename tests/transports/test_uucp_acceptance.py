"""What a link does not take, from what its keeper has published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gateway.interfaces import IAcceptance, Offer
from transports.following.published import Published, write_part
from transports.uucp.acceptance import UucpAcceptance

NOW = 1_800_000_000.0
FULL = "the link to beta has used up the 9 bytes of today"


async def ask(folder: Path, published: Any, size: int = 100) -> tuple[int, str, str] | None:
    if published is not None:
        (folder / "limits").write_text(published if isinstance(published, str) else json.dumps({"uucp": published}))
    clock = Clock()
    clock.advance(NOW)
    acceptance = UucpAcceptance(Published(folder, "uucp"), clock)
    verifyObject(IAcceptance, acceptance)
    return await acceptance.refuse(Offer("u@some.domain", "beta!leaf", "a@b", size, "10.0.0.1", ""))


def said(size: int = 0, sites: Any = None, left: Any = None, until: float = NOW + 60) -> dict[str, Any]:
    return {"size": size, "sites": sites or {}, "left": left or {}, "until": until, "use": {}}


@pytest.mark.parametrize("published", [
    None, "nonsense", "[]", "{\"uucp\": []}", said(), said(size=100), said(sites={"gamma": ["full", 0]}),
    said(sites={"beta": [FULL, NOW - 1]}), said(left={"beta": 100}), said(left={"beta": 1}, until=NOW - 1),
])
@ensureDeferred
async def test_what_is_taken(tmp_path: Path, published: Any) -> None:
    assert await ask(tmp_path, published) is None


@pytest.mark.parametrize("published, refusal", [
    (said(size=99), (552, "5.3.4", "message size 100 exceeds the limit of the link to beta: 99")),
    (said(sites={"beta": [FULL, NOW + 1]}), (452, "4.4.5", FULL)),
    (said(sites={"beta": ["9 bytes wait", 0]}), (452, "4.4.5", "9 bytes wait")),
    (said(left={"beta": 99}), (452, "4.4.5", "the link to beta takes 99 more bytes today")),
])
@ensureDeferred
async def test_what_is_not(tmp_path: Path, published: Any, refusal: tuple[int, str, str]) -> None:
    assert await ask(tmp_path, published) == refusal


def test_it_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    published = Published(tmp_path, "uucp")
    assert published.read() == {}
    write_part(tmp_path, "uucp", {"size": 1})
    write_part(tmp_path, "other", {"size": 2})
    assert published.read() == {"size": 1}
    write_part(tmp_path, "uucp", {"size": 30})
    assert published.read() == {"size": 30}
