"""pipe(8): attributes, flags, macros, results; with real programs."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import succeed
from zope.interface.verify import verifyObject

from gateway.config import ConfigError, Service, Settings
from gateway.interfaces import BOUNCED, DEFERRED, SENT, ITransport
from gateway.log import MemoryLog
from spool.envelope import Client
from tests.transports.support import NOBODY, Contents, request
from transports.pipe import PipeService, PipeTransport
from transports.process import Runner
from transports.programs import Guards

USER = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
ECHO = ["/bin/sh", "-c", 'printf "%s\\n" "$$@"; exec cat', "sh"]
MESSAGE = b"From: a@client.example\nSubject: x\n\nFrom a line\n.. dot\nlast\n"


def service(*words: str, **values: str) -> PipeService:
    arguments = [*words] if any(word.startswith("user=") for word in words) else [f"user={USER}", *words]
    settings = Settings({"queue_directory": "/", "mail_owner": "postfix-test", **values})
    return PipeService.from_service(
        Service("prog", "unix", command="pipe", arguments=arguments, path="master.cf", line=7), settings, {"TZ": "UTC"})


class Pipe:
    """A transport with what it needs, and what a program that exits 1 got (its output stands in the reason)."""

    def __init__(self, runner: Runner, *words: str, message: bytes = MESSAGE, **values: str) -> None:
        self.log = MemoryLog()
        self.contents = Contents({"ID": message})
        self.syncs: list[Callable[[], None]] = []
        self.transport = PipeTransport(
            service(*words, **values), runner, self.contents, Guards(self.in_thread), self.log, reactor)

    def in_thread(self, work: Callable[[], None]) -> Any:
        self.syncs.append(work)
        return succeed(None)

    async def deliver(self, *addresses: str, **facts: Any) -> Any:
        return await self.transport.deliver(request(*addresses, **facts))

    async def seen(self, *addresses: str, **facts: Any) -> str:
        """What a program that prints its arguments and its input said."""
        results = await self.deliver(*addresses, **facts)
        reason: str = results[0].reason
        assert reason.startswith("delivered via prog service ("), reason
        return reason[len("delivered via prog service (") : -1]


def test_it_is_a_transport(runner: Runner) -> None:
    verifyObject(ITransport, Pipe(runner, "argv=x").transport)


# --- attributes ---------------------------------------------------------------------------------------------------


def test_attributes() -> None:
    pipe = service("flags=Fq.", "eol=\\r\\n\\101", "size=100", "directory=/d", "chroot=/c", "null_sender=", "argv=/x",
                   "a b", prog_time_limit="7s")
    assert pipe.flags == {"F", "q", "."} and pipe.eol == b"\r\nA" and pipe.size == 100
    assert (pipe.directory, pipe.chroot, pipe.null_sender, pipe.argv) == ("/d", "/c", "", ["/x", "a b"])
    assert pipe.time_limit == 7.0 and pipe.identity == NOBODY


@pytest.mark.parametrize("words, what", [
    (["flags=FZ", "argv=/x"], 'unknown flag "Z"'),
    (["size=1k", "argv=/x"], "size=1k is no number"),
    (["colour=red", "argv=/x"], 'unknown attribute "colour=red"'),
    (["/bin/true"], 'unknown attribute "/bin/true"'),
    (["flags=F"], "argv= is missing"),
    (["argv="], "argv= names no command"),
    (["argv=/x", "$nosuch"], "there is no macro ${nosuch}"),
    (["user=nosuchuser", "argv=/x"], "there is no account nosuchuser"),
    (["user=nobody:nosuchgroup", "argv=/x"], "there is no group nosuchgroup"),
    (["user=root", "argv=/x"], "no program gets root's rights"),
    (["user=", "argv=/x"], "user= is missing"),
])
def test_mistakes_in_master_cf(words: list[str], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        service(*words)
    assert what in str(caught.value) and str(caught.value).startswith("master.cf, line 7: service prog: ")


# --- what the program gets --------------------------------------------------------------------------------------


@ensureDeferred
async def test_macros(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=" + ECHO[0], *ECHO[1:], "-f$sender", "$nexthop", "pre${user}post", "${extension}",
                "$(domain)", "${mailbox}", "${original_recipient}", "${client_address}", "${queue_id}", "${size}",
                "$$5", recipient_delimiter="+", message=b"")
    seen = await pipe.seen('"User Two+Ext"@B.Example', nexthop="Next.Hop", client=Client(address="192.0.2.7"), size=302)
    assert seen == ("-fa@client.example Next.Hop preUser Twopost Ext B.Example User Two+Ext User Two+Ext@B.Example "
                    "192.0.2.7 ID 302 $5")


@ensureDeferred
async def test_folding_and_quoting(runner: Runner) -> None:
    words = ["argv=" + ECHO[0], *ECHO[1:], "$sender", "($recipient)", "$user@$domain", "$nexthop"]
    facts: dict[str, Any] = {"sender": '"A B"@C.D', "nexthop": "Next.Hop"}
    plain = Pipe(runner, *words, message=b"")
    assert await plain.seen('"X Y"@Z.W', **facts) == "A B@C.D (X Y@Z.W) X Y@Z.W Next.Hop"
    folded = Pipe(runner, "flags=hqu", *words, message=b"")
    assert await folded.seen('"X Y"@Z.W', **facts) == '"A B"@C.D ("x y"@z.w) x y@z.w next.hop'


@ensureDeferred
async def test_one_command_for_all_recipients(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=" + ECHO[0], *ECHO[1:], "x", "$recipient", "y", message=b"")
    results = await pipe.deliver("a@b", "c@d")
    assert [result.reason for result in results] == ["delivered via prog service (x a@b c@d y)"] * 2
    assert [(result.status, result.dsn, result.relay) for result in results] == [(SENT, "2.0.0", "prog")] * 2
    assert results[0].details == {"action": "relayed"}


@ensureDeferred
async def test_lines_on_top_and_line_forms(runner: Runner) -> None:
    pipe = Pipe(runner, "flags=BDFORX>.", "argv=/usr/bin/od", "-c", "-An", "-w500", "-v")
    results = await pipe.deliver("One@b.example")
    text = "".join(results[0].reason[len("delivered via prog service ("):-1].split()).replace("\\n", "\n")
    first, _, rest = text.partition("\n")
    assert first.startswith("Froma@client.example")
    assert rest == ("Return-Path:<a@client.example>\nX-Original-To:One@b.example\nDelivered-To:One@b.example\n"
                    "From:a@client.example\nSubject:x\n\n>Fromaline\n...dot\nlast\n\n")
    assert results[0].details == {"action": "delivered"}


@ensureDeferred
async def test_eol_and_null_sender(runner: Runner) -> None:
    pipe = Pipe(runner, "flags=R", "eol=\\r\\n", "argv=/usr/bin/od", "-c", "-An", "-w500", "-v", message=b"S: x\n\ny")
    text = await pipe.seen("a@b", sender="")
    assert "".join(text.split()) == r"Return-Path:<MAILER-DAEMON>\r\nS:x\r\n\r\ny\r\n"
    assert (await Pipe(runner, "null_sender=", "argv=" + ECHO[0], *ECHO[1:], "<$sender>", message=b"").seen(
        "a@b", sender="")) == "<>"


@ensureDeferred
async def test_environment_and_directory(runner: Runner) -> None:
    pipe = Pipe(runner, "directory=/tmp", "argv=/bin/sh", "-c", "pwd; exec env", import_environment="TZ LANG=C HOME",
                export_environment="TZ LANG OWN=1", message=b"")
    seen = (await pipe.seen("a@b")).split()
    assert sorted(word for word in seen if not word.startswith(("PATH=", "PWD="))) == [
        "/tmp", "LANG=C", "OWN=1", "TZ=UTC"]


# --- results ---------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_program_that_is_not_there(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=/no/such/program")
    (result,) = await pipe.deliver("a@b")
    assert (result.status, result.dsn, result.reason) == (DEFERRED, "4.3.0", "temporary failure")
    assert "ID: service prog: /no/such/program: cannot execute /no/such/program: No such file" in pipe.log.text


@ensureDeferred
async def test_exit_status(runner: Runner) -> None:
    (result,) = await Pipe(runner, "argv=/bin/sh", "-c", "echo 4.2.1 later; exit 69").deliver("a@b")
    assert (result.status, result.dsn, result.reason) == (DEFERRED, "4.2.1", "later ")
    (result,) = await Pipe(runner, "argv=/bin/sh", "-c", "exit 3").deliver("a@b")
    assert (result.status, result.dsn, result.reason) == (BOUNCED, "5.3.0", 'Command died with status 3: "/bin/sh"')


@ensureDeferred
async def test_time_limit(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=/bin/sleep", "5", prog_time_limit="1s")
    (result,) = await pipe.deliver("a@b")
    assert (result.status, result.reason) == (BOUNCED, 'Command time limit exceeded: "/bin/sleep"')


@ensureDeferred
async def test_size(runner: Runner) -> None:
    results = await Pipe(runner, "size=100", "argv=/bin/true").deliver("a@b", "c@d", size=101)
    assert [(r.status, r.dsn, r.reason) for r in results] == [(BOUNCED, "5.2.3", "message too large")] * 2


@ensureDeferred
async def test_delivered_to_stops_loops(runner: Runner) -> None:
    pipe = Pipe(runner, "flags=D", "argv=/bin/true", message=b"Delivered-To: One@one.example\n\nx\n")
    (result,) = await pipe.deliver("one@One.example")
    assert (result.status, result.dsn, result.reason) == (
        BOUNCED, "5.4.6", "mail forwarding loop for one@One.example")
    assert (await pipe.deliver("two@one.example"))[0].status == SENT
    results = await pipe.deliver("a@b", "c@d")
    assert [(r.status, r.reason) for r in results] == [(DEFERRED, "mail system configuration error")] * 2
    assert re.search(r"pipe: warning: pipe flag `D' requires \w+_destination_recipient_limit = 1", pipe.log.text)


@ensureDeferred
async def test_verify_runs_nothing(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=/no/such")
    (result,) = await pipe.deliver("a@b", trace="verify")
    assert (result.status, result.reason) == (SENT, "delivers to command: /no/such")


@ensureDeferred
async def test_content_is_closed(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=/bin/true")
    await pipe.deliver("a@b")
    assert [content.closed for content in pipe.contents.opened] == [True]


# --- guards ----------------------------------------------------------------------------------------------------


def program(tmp: Path, name: str, text: str) -> str:
    path = f"{tmp}/{name}"
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)
    return path


@ensureDeferred
async def test_uux_never_sees_bad_recipients(runner: Runner, anybodys: Path) -> None:
    uux = program(anybodys, "uux", 'printf "%s\\n" "$@"')
    pipe = Pipe(runner, "flags=Fqhu", f"argv={uux}", "-r", "-a$sender", "-", "$nexthop!rmail", "($recipient)")
    results = await pipe.deliver('"sp ace"@b.example', "Good@B.example", '"x(y"@b.example', sender="", nexthop="hub")
    assert [(r.status, r.dsn) for r in results] == [(BOUNCED, "5.1.3"), (SENT, "2.0.0"), (BOUNCED, "5.1.3")]
    assert results[1].reason == "delivered via prog service (-r -aMAILER-DAEMON - hub!rmail (good@b.example))"
    assert len(pipe.syncs) == 1


@ensureDeferred
async def test_uux_never_runs_without_a_system(runner: Runner, anybodys: Path) -> None:
    uux = program(anybodys, "uux", "true")
    pipe = Pipe(runner, f"argv={uux}", "-", "$nexthop!rmail", "($recipient)")
    (result,) = await pipe.deliver("a@b", nexthop="")
    assert (result.status, result.dsn) == (DEFERRED, "4.3.5") and pipe.syncs == []


@ensureDeferred
async def test_faxmail_gets_no_orders(runner: Runner, anybodys: Path) -> None:
    faxmail = program(anybodys, "faxmail", "cat")
    pipe = Pipe(runner, f"argv={faxmail}", "-d", "-n", "$user", message=b"X-FAX-Host: x\nSubject: s\n\nbody\n")
    (result,) = await pipe.deliver("5551234@fax")
    assert result.reason == "delivered via prog service (Subject: s  body)"
    assert "ID: 1 X-FAX header field taken out" in pipe.log.text


@ensureDeferred
async def test_addresses_of_any_bytes(runner: Runner) -> None:
    pipe = Pipe(runner, "argv=/bin/sh", "-c", 'printf "%s" "$$0" | od -An -tx1', "$recipient", message=b"")
    assert await pipe.seen("a\udcff@b") == " 61 ff 40 62"
