"""The provider's form of HTTP, with a server that speaks it as its documentation says."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from tests.transports.fax.test_rules import service_of
from tests.transports.test_uucp_keeper import in_thread
from transports.fax.line import DONE, FAILED, SENDS, WAITS, Fax, IFaxLine, Job, NotTaken, Uncertain
from transports.fax.phaxio import Phaxio

SECRET = "key-7:secret-9"


class Provider(Resource):
    """faxes, faxes/ID, faxes/ID/cancel."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.faxes: dict[str, dict[str, Any]] = {}
        self.documents: list[bytes] = []
        self.answer: tuple[int, Any] | None = None
        self.breaks = False

    def render(self, request: Any) -> bytes:
        word = base64.b64encode(SECRET.encode()).decode()
        code, said = 401, {"success": False, "message": "credentials are wrong"}
        if request.getHeader("authorization") == f"Basic {word}":
            code, said = self.answered(request)
        if self.breaks:
            request.transport.abortConnection()
            return b""
        if self.answer is not None:
            code, said = self.answer
        request.setResponseCode(code)
        return said if isinstance(said, bytes) else json.dumps(said).encode()

    def answered(self, request: Any) -> tuple[int, Any]:
        path = [part.decode() for part in request.postpath if part]
        if request.method == b"POST" and path == ["faxes"]:
            return 200, self.take(request)
        if request.method == b"GET" and path == ["faxes"]:
            tag = request.args[b"tag[mailgateway]"][0].decode()
            found = [one for one in self.faxes.values() if one["tags"] == {"mailgateway": tag}]
            return 200, {"success": True, "data": found}
        if len(path) > 1 and path[1] in self.faxes:
            if path[2:] == ["cancel"] and request.method == b"POST":
                self.faxes[path[1]]["status"] = "failure"
                return 200, {"success": True, "message": "Fax cancellation scheduled.", "data": {"id": path[1]}}
            return 200, {"success": True, "message": "Metadata for fax", "data": self.faxes[path[1]]}
        return 404, {"success": False, "message": "Fax not found"}

    def take(self, request: Any) -> Any:
        head = f"Content-Type: {request.getHeader('content-type')}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.content.read())
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in form.iter_parts()
        }
        self.documents.append(parts["file"])
        number = str(323034811 + len(self.faxes))
        to = {"phone_number": parts["to"].decode(), "retry_count": 0, "bitrate": None, "error_message": None}
        self.faxes[number] = {
            "id": int(number), "direction": "sent", "num_pages": 0, "status": "queued", "error_message": None,
            "tags": {"mailgateway": parts["tag[mailgateway]"].decode()},
            "recipients": [to],
        }
        return {"success": True, "message": "Fax queued for sending", "data": {"id": int(number)}}


class World:
    def __init__(self, folder: Path) -> None:
        self.provider = Provider()
        self.port = reactor.listenTCP(0, Site(self.provider), interface="127.0.0.1")  # type: ignore[attr-defined]
        (folder / "secret").write_text(f"{SECRET}\n")
        (folder / "a.pdf").write_bytes(b"%PDF-1.4\r\n\0\xff--\r\n")
        self.service = service_of(
            "provider=phaxio", f"url=http://127.0.0.1:{self.port.getHost().port}/", f"secret={folder}/secret"
        )
        self.line = Phaxio(self.service, reactor, in_thread)
        self.fax = Fax(
            "ID-1", "+4930123456", "+4930123456", "", "ann@b", folder / "a.tif", folder / "a.pdf", 2, 196, "low", 0
        )


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.port.stopListening()


@ensureDeferred
async def test_a_fax_from_its_beginning_to_its_end(world: World) -> None:
    verifyObject(IFaxLine, world.line)
    job = await world.line.submit(world.fax)
    assert job == "323034811" and world.provider.documents == [world.fax.pdf.read_bytes()]
    about = world.provider.faxes[job]
    assert about["recipients"][0]["phone_number"] == "+4930123456" and about["tags"] == {"mailgateway": "ID-1"}
    assert await world.line.look([(job, "ID-1")]) == [Job(job, "ID-1", WAITS)]
    assert await world.line.look([("", "ID-1")]) == [Job(job, "ID-1", WAITS)]
    assert await world.line.look([("", "ID-2"), ("77", "ID-3"), (job, "ID-4")]) == []
    about["status"] = "inprogress"
    assert (await world.line.look([(job, "ID-1")]))[0].state == SENDS
    about |= {"status": "success", "num_pages": 2}
    about["recipients"][0] |= {"bitrate": 14400, "retry_count": 1}
    assert await world.line.look([(job, "ID-1")]) == [
        Job(job, "ID-1", DONE, 2, 2, 2, "", {"signal rate": "14400 bit/s"})]
    about["status"] = "failure"
    about["recipients"][0]["error_message"] = "Busy\nsignal"
    (failed,) = await world.line.look([(job, "ID-1")])
    assert (failed.state, failed.pages_sent, failed.reason) == (FAILED, 0, "Busy?signal")
    assert await world.line.kill(job) and await world.line.kill("99") and not await world.line.kill("9/../7")


@pytest.mark.parametrize("code, said, permanent", [
    (422, {"success": False, "message": "Phone number is not formatted correctly"}, True), (400, b"<html>", True),
    (401, {"message": 7}, False), (429, {}, False),
])
@ensureDeferred
async def test_what_it_refuses(world: World, code: int, said: Any, permanent: bool) -> None:
    world.provider.answer = (code, said)
    with pytest.raises(NotTaken, match=f"provider says: {code}") as refusal:
        await world.line.submit(world.fax)
    assert refusal.value.permanent is permanent


@pytest.mark.parametrize("answer", [
    (500, {}), (502, b"<html>"), (200, b"nonsense"), (200, {"success": True, "data": []}), None,
])
@ensureDeferred
async def test_what_must_be_asked_afterwards(world: World, answer: Any) -> None:
    world.provider.answer, world.provider.breaks = answer, answer is None
    with pytest.raises(Uncertain):
        await world.line.submit(world.fax)
    world.provider.answer, world.provider.breaks = None, False
    (job,) = await world.line.look([("", "ID-1")])
    assert job.state == WAITS


@ensureDeferred
async def test_nobody_is_there(world: World, tmp_path: Path) -> None:
    line = Phaxio(replace(world.service, url="http://127.0.0.1:1"), reactor, in_thread)
    with pytest.raises(NotTaken) as refusal:
        await line.submit(world.fax)
    assert not refusal.value.permanent
    with pytest.raises(OSError):
        await Phaxio(replace(world.service, secret=f"{tmp_path}/none"), reactor, in_thread).look([("1", "ID-1")])


@ensureDeferred
async def test_what_it_does_not_have(world: World) -> None:
    for fax in (replace(world.fax, when=5.0), replace(world.fax, subaddress="1")):
        with pytest.raises(NotTaken) as refusal:
            await world.line.submit(fax)
        assert refusal.value.permanent
    assert world.provider.faxes == {}


@ensureDeferred
async def test_the_secret_is_told_to_nobody_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.provider.answer = (403, {"message": "no"})
    with pytest.raises(NotTaken) as refusal:
        await world.line.submit(world.fax)
    assert "secret" not in str(refusal.value) + caplog.text and "secret-9" not in repr(world.service)
