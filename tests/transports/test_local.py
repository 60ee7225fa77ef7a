"""local(8): aliases, .forward, mailboxes, commands, and what is said of each recipient."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.addresses.resolve import BAD_SYNTAX
from gateway.addresses.syntax import Extensions
from gateway.config import ConfigError, Settings
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    EXPANDED,
    SENT,
    AddressClass,
    IForwarder,
    ILookupTable,
    IRouter,
    ITransport,
    Request,
    Result,
    Route,
    TableError,
)
from gateway.log import MemoryLog
from spool.envelope import NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS, Client, Recipient
from spool.interfaces import Entry, SpoolError
from tests.transports.support import NOBODY, Contents, request
from transports.accounts import Accounts, AccountsAway, User
from transports.local import LocalConfig, LocalTransport, Tools
from transports.local import command as commands
from transports.local.expansion import destinations
from transports.local.place import censored
from transports.process import Identity, Runner
from transports.store import Locking, Store

HERE = "gw.my.domain"
OTHER = Identity(65533, 65533)
"""Somebody who is neither the users here nor nobody."""
MESSAGE = b"Subject: x\n\nFrom a line\n"


@implementer(ILookupTable)
class Table:
    """``owner``: of the file that it would be read from."""

    name = "memory:aliases"
    folds_case = True

    def __init__(self, entries: Mapping[str, str], *, whole_keys: bool = False) -> None:
        self._entries = entries
        self.whole_keys = whole_keys

    async def lookup(self, key: str) -> str | None:
        if self._entries.get(key) == "AWAY":
            raise TableError("memory:aliases is away")
        return self._entries.get(key)


@implementer(IForwarder)
class Forwarder:
    def __init__(self) -> None:
        self.copies: list[tuple[str, str, list[str], list[str]]] = []
        self.given: list[list[Recipient]] = []
        self.full = False

    async def forward(self, entry: Entry, prepend: bytes, sender: str, recipients: list[Recipient]) -> str:
        if self.full:
            raise SpoolError("no room", no_room=True)
        self.copies.append((prepend.decode(), sender, [each.address for each in recipients],
                            [each.original for each in recipients]))
        self.given.append(recipients)
        return f"COPY{len(self.copies)}"


@implementer(IRouter)
class Router:
    async def resolve(self, sender: str, recipient: str) -> Route:
        if recipient.endswith("@trouble.example"):
            raise TableError("transport_maps are away")
        if recipient.endswith("@"):
            return Route("error", BAD_SYNTAX, recipient, AddressClass.DEFAULT)
        here = recipient.lower().endswith(f"@{HERE}")
        return Route("local" if here else "smtp", "", recipient, AddressClass.LOCAL)

    async def address_class(self, recipient: str) -> AddressClass:
        return AddressClass.LOCAL


class People(Accounts):
    """joe, jane and root, who live below a folder."""

    def __init__(self, homes: Path) -> None:
        super().__init__(lambda work: succeed(work()))
        self._homes = homes

    async def find(self, name: str) -> User | None:
        if name == "away":
            raise AccountsAway("the server is down")
        if name not in ("joe", "jane", "postmaster-user"):
            return None
        return User(name, NOBODY, str(self._homes / name), "/bin/sh")

    async def of_uid(self, uid: int) -> User | None:
        if uid > OTHER.uid + 1:
            return None
        return User("x", NOBODY if uid == NOBODY.uid else OTHER, str(self._homes / "joe"), "/bin/sh")


def about(result: Result) -> str:
    """Whom it is about, if not the recipient of the request."""
    return result.recipient.address if result.recipient else ""


class Local:
    """A local transport with its surroundings."""

    def __init__(self, runner: Runner, folder: Path, aliases: Mapping[str, str] | None = None, *,
                 message: bytes = MESSAGE, transports: Mapping[str, ITransport] | None = None, **values: str) -> None:
        self.folder = folder
        for name in ("joe", "jane", "mail"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name).chmod(0o777)
        settings = Settings({"myhostname": HERE, "mail_spool_directory": str(folder / "mail"), "queue_directory": "/",
                             "default_privs": "nobody", "deliver_lock_delay": "0s", **values})
        config = LocalConfig.from_settings(settings, {})
        self.log = MemoryLog()
        self.forwarder = Forwarder()
        self.transport = LocalTransport(Tools(
            config=config, runner=runner, store=Store(runner, Locking(attempts=2, delay=0.01)),
            contents=Contents({"ID": message}), accounts=People(folder), forwarder=self.forwarder, router=Router(),
            qualify=lambda address: address if "@" in address else f"{address}@{HERE}", log=self.log, clock=reactor,
            alias_maps=[Table(aliases or {})], transports=transports or {},
            owner_of=lambda table: self.owner,
            tell_user=lambda user, offset: self.told.append((user, offset))))
        self.owner = 0
        self.told: list[tuple[str, int]] = []

    async def deliver(self, *addresses: str | Recipient, **facts: Any) -> list[Result]:
        full = [
            address if isinstance(address, Recipient) or "@" in address else f"{address}@{HERE}"
            for address in addresses
        ]
        """What became of each recipient, and of the members that it stands for."""
        results = await self.transport.deliver(request(*full, service="local", nexthop=HERE, **facts))
        assert len(results) == len(full)
        return [part for result in results for part in (result, *result.others)]

    async def said(self, *addresses: str | Recipient, **facts: Any) -> list[tuple[str, str, str]]:
        """Status, code and reason of each recipient's result, the main one, and of the others behind it."""
        return [(result.status, result.dsn, result.reason) for result in await self.deliver(*addresses, **facts)]

    def mail(self, name: str) -> str:
        return (self.folder / "mail" / name).read_text()


LocalMaker = Callable[..., Local]


@pytest.fixture
def local(runner: Runner, anybodys: Path) -> LocalMaker:
    return lambda *arguments, **named: Local(runner, anybodys, *arguments, **named)


SENT_TO_MAILBOX = (SENT, "2.0.0", "delivered to mailbox")


# --- mailboxes -----------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_the_spool(local: LocalMaker) -> None:
    here = local()
    verifyObject(ITransport, here.transport)
    verifyObject(IForwarder, here.forwarder)
    assert await here.said("Joe", sender="a@client.example") == [SENT_TO_MAILBOX]
    first, _, rest = here.mail("joe").partition("\n")
    assert first.startswith("From a@client.example  ")
    assert rest == ("Return-Path: <a@client.example>\nX-Original-To: Joe@gw.my.domain\nDelivered-To: Joe@gw.my.domain\n"
                    "Subject: x\n\n>From a line\n\n")


@ensureDeferred
async def test_maildirs(local: LocalMaker) -> None:
    here = local(home_mailbox="Maildir/")
    assert await here.said("joe", sender="") == [(SENT, "2.0.0", "delivered to maildir")]
    (file,) = (here.folder / "joe" / "Maildir" / "new").iterdir()
    assert file.read_text().startswith("Return-Path: <>\nX-Original-To: joe@") and "\nFrom a line\n" in file.read_text()


@ensureDeferred
async def test_users_are_told_of_mail_in_their_mbox(local: LocalMaker, anybodys: Path) -> None:
    here = local({"box": f"{anybodys}/box"}, recipient_delimiter="+")
    await here.deliver("joe+x", "joe", "box", "nobody")
    assert here.told == [("joe", 0), ("joe", here.mail("joe").rindex("From a@"))]
    await here.deliver("joe", trace="verify")
    assert len(here.told) == 2


@ensureDeferred
async def test_users_are_not_told_of_mail_in_maildirs(local: LocalMaker) -> None:
    here = local(home_mailbox="Maildir/")
    await here.deliver("joe")
    assert here.told == []


@ensureDeferred
async def test_a_spool_of_maildirs(local: LocalMaker, anybodys: Path) -> None:
    here = local(mail_spool_directory=f"{anybodys}/mail/")
    assert await here.said("joe") == [(SENT, "2.0.0", "delivered to maildir")]
    assert len(list((anybodys / "mail" / "joe" / "new").iterdir())) == 1


@ensureDeferred
async def test_an_mbox_in_the_home(local: LocalMaker) -> None:
    here = local(home_mailbox="inbox", enable_original_recipient="no", prepend_delivered_header="")
    assert await here.said("joe") == [SENT_TO_MAILBOX]
    text = (here.folder / "joe" / "inbox").read_text()
    assert "X-Original-To" not in text and "Delivered-To" not in text


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("mode, group", [(0o2775, 8), (0o755, NOBODY.gid)])
@ensureDeferred
async def test_whose_a_new_mailbox_is(runner: Runner, anybodys: Path, mode: int, group: int) -> None:
    """Where a group may write, the user does with that group's rights; where only root may, root makes the file."""
    here = Local(runner, anybodys)
    os.chown(here.folder / "mail", 0, 8)
    (here.folder / "mail").chmod(mode)
    assert await here.said("joe", "joe") == [SENT_TO_MAILBOX] * 2
    found = (here.folder / "mail" / "joe").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (NOBODY.uid, group, 0o600)
    assert os.listdir(here.folder / "mail") == ["joe"]


@ensureDeferred
async def test_a_home_that_is_required(local: LocalMaker) -> None:
    here = local(require_home_directory="yes")
    (here.folder / "jane").rmdir()
    assert await here.said("joe", "jane") == [
        SENT_TO_MAILBOX,
        (DEFERRED, "4.3.0", f"cannot access home directory {here.folder}/jane: No such file or directory")]


@ensureDeferred
async def test_troubles_with_mailboxes(local: LocalMaker) -> None:
    here = local(mailbox_size_limit="10")
    assert await here.said("joe") == [(BOUNCED, "5.2.2", (
        f"cannot update mailbox {here.folder}/mail/joe for user joe. error writing message: File too large"))]
    (here.folder / "mail" / "jane.lock").touch()
    ((status, dsn, reason),) = await here.said("jane")
    assert (status, dsn) == (DEFERRED, "4.2.0") and "unable to create lock file" in reason


@ensureDeferred
async def test_extensions(local: LocalMaker) -> None:
    here = local(recipient_delimiter="+")
    assert await here.said("joe+list", "joe+", "joe+a/b") == [SENT_TO_MAILBOX] * 3
    assert here.log.text == "local: warning: ID: address with illegal extension: joe+a/b"
    assert (here.folder / "mail" / "joe").read_text().count("Delivered-To: joe+a/b@gw.my.domain\n") == 1


@ensureDeferred
async def test_unknown_users(local: LocalMaker) -> None:
    here = local()
    assert await here.said("Nobody", "postmaster", '""@gw.my.domain') == [
        (BOUNCED, "5.1.1", 'unknown user: "nobody"'), (SENT, "2.0.0", "discarded"),
        (BOUNCED, "5.1.3", 'null username in "@gw.my.domain"')]
    assert "required alias not found: postmaster" in here.log.text


@ensureDeferred
async def test_luser_relay(local: LocalMaker) -> None:
    here = local(luser_relay="$user@elsewhere.example", recipient_delimiter="+")
    assert await here.said("No.Body+ext", '"a,/tmp/x"@gw.my.domain') == [
        (SENT, "2.0.0", "forwarded as COPY1"), (SENT, "2.0.0", "forwarded as COPY2")]
    assert here.forwarder.copies[0][2] == ["no.body@elsewhere.example"]
    assert here.forwarder.copies[1][2] == ['"a, /tmp/x"@elsewhere.example']
    assert "\nDelivered-To: a,/tmp/x@gw.my.domain\n" in here.forwarder.copies[1][0]


@ensureDeferred
async def test_the_local_part_is_the_mailbox_too(local: LocalMaker) -> None:
    here = local(luser_relay="$mailbox@elsewhere.example", recipient_delimiter="+")
    await here.deliver("No.Body+ext")
    assert here.forwarder.copies[0][2] == ["no.body+ext@elsewhere.example"]


@ensureDeferred
async def test_luser_relay_to_somebody_unknown(local: LocalMaker) -> None:
    """Nobody has got it: the sender must hear of that."""
    assert await local(luser_relay="/tmp/box").said("nobody") == [(BOUNCED, "5.1.1", 'unknown user: "/tmp/box"')]


@ensureDeferred
async def test_luser_relay_that_goes_round(local: LocalMaker) -> None:
    here = local({"lost": "nobody"}, luser_relay="lost")
    assert await here.said("nobody") == [(BOUNCED, "5.1.1", 'unknown user: "nobody"')]


@ensureDeferred
async def test_loops_are_stopped(local: LocalMaker) -> None:
    here = local(message=b"Delivered-To: JOE@gw.my.domain\n\nx\n")
    assert await here.said("joe", "jane") == [
        (BOUNCED, "5.4.6", "mail forwarding loop for joe@gw.my.domain"), SENT_TO_MAILBOX]


# --- aliases -------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_an_alias_for_many(local: LocalMaker) -> None:
    here = local({"both": "jane, joe@remote.example, jane, Joe"})
    results = await here.deliver("both", sender="s@x")
    assert [(about(r), r.reason) for r in results] == [
        ("jane@gw.my.domain", "delivered to mailbox"), ("Joe@gw.my.domain", "delivered to mailbox"),
        ("", "forwarded as COPY1")]
    prepended, sender, addresses, originals = here.forwarder.copies[0]
    assert prepended.startswith(f"Received: by {HERE} (Postfix)\n\tid %(id)s; ")
    assert prepended.endswith("\nDelivered-To: both@gw.my.domain\n")
    assert (sender, addresses, originals) == ("s@x", ["joe@remote.example"], ["both@gw.my.domain"])
    assert "Delivered-To: both@gw.my.domain\n" in here.mail("jane")


@ensureDeferred
async def test_an_owner_hears_of_trouble(local: LocalMaker, anybodys: Path) -> None:
    members = anybodys / "members"
    members.write_text("# the members\njane, someone@remote.example\n\njoe\n")
    here = local({"list": f":include:{members}", "owner-list": "jane"})
    results = await here.deliver("list", sender="s@x")
    assert [(r.status, r.reason, about(r)) for r in results] == [(SENT, "forwarded as COPY1", "")]
    assert here.forwarder.copies[0][1:] == (
        "owner-list@gw.my.domain", ["jane@gw.my.domain", "someone@remote.example", "joe@gw.my.domain"],
        ["jane@gw.my.domain", "someone@remote.example", "joe@gw.my.domain"])


@ensureDeferred
async def test_what_an_owner_is_told_of_commands(local: LocalMaker) -> None:
    """The list's address is his to know, and the poster's form of it is not."""
    here = local({"broken": "\"|exit 67\"", "owner-broken": "jane", "other": "\"|exit 67\""})
    owned, other = await here.deliver("broken", "other", sender="s@x")
    assert owned.details["return_to"] == "owner-broken@gw.my.domain" and "return_to" not in other.details
    assert owned.recipient == Recipient("broken@gw.my.domain")


@ensureDeferred
async def test_success_of_a_list_is_told_and_that_of_its_members_not(local: LocalMaker) -> None:
    here = local({"many": "jane, x@remote.example", "list": "jane, x@remote.example", "owner-list": "joe"},
                 luser_relay="y@remote.example")
    told = []
    for name, notify in (("many", NOTIFY_SUCCESS), ("list", 2 | NOTIFY_FAILURE), ("nobody", NOTIFY_SUCCESS)):
        parts = await here.deliver(Recipient(f"{name}@{HERE}", "asked", "rfc822;asked", notify))
        told += [(part.reason, part.details["action"], part.recipient and part.recipient.notify) for part in parts]
    assert told == [
        ("delivered to mailbox", "delivered", NOTIFY_NEVER), ("alias expanded", "expanded", None),
        ("forwarded as COPY1", "passed", None),
        ("forwarded as COPY2", "passed", None), ("alias expanded", "delivered", None),
        ("forwarded as COPY3", "passed", None),
    ]
    assert [[(one.address, one.original, one.orcpt, one.notify) for one in copy] for copy in here.forwarder.given] == [
        [("x@remote.example", "asked", "rfc822;asked", NOTIFY_NEVER)],
        [(name, name, "", NOTIFY_FAILURE) for name in ("jane@gw.my.domain", "x@remote.example")],
        [("y@remote.example", "asked", "rfc822;asked", NOTIFY_SUCCESS)],
    ]


@ensureDeferred
async def test_members_elsewhere_wait_for_those_that_are_tried_again(local: LocalMaker) -> None:
    """Else each attempt would send them the mail once more."""
    here = local({"team": 'a@remote.example, "|exit 75"', "sound": 'a@remote.example, "|exit 67"'})
    assert await here.said("team") == [(DEFERRED, "4.3.0", "temporary failure")]
    assert here.forwarder.copies == []
    assert [said[0] for said in await here.said("sound")] == [BOUNCED, SENT]
    assert len(here.forwarder.copies) == 1


@ensureDeferred
async def test_aliases_that_go_round(local: LocalMaker) -> None:
    here = local({"ping": "pong", "pong": "ping", "joe": "joe, jane"})
    (result,) = await here.deliver("ping")
    assert (result.status, result.dsn, result.reason) == (BOUNCED, "5.4.6", "alias database loop for pong")
    assert result.recipient == Recipient("pong@gw.my.domain", "ping@gw.my.domain")
    assert [r.reason for r in await here.deliver("joe")] == ["delivered to mailbox"] * 2


@ensureDeferred
async def test_names_of_aliases(local: LocalMaker) -> None:
    here = local({"upper.case": "jane", "quoted name": "jane", "team": "joe"}, recipient_delimiter="+")
    assert await here.said("Upper.Case", '"Quoted Name"', "team+x") == [SENT_TO_MAILBOX] * 3


@ensureDeferred
async def test_extensions_go_on_with_members(local: LocalMaker) -> None:
    here = local({"team": "x@remote.example"}, recipient_delimiter="+", propagate_unmatched_extensions="alias")
    await here.said("team+list", "team+", "team")
    assert [addresses for _, _, addresses, _ in here.forwarder.copies] == [
        ["x+list@remote.example"], ["x+@remote.example"], ["x@remote.example"]]


@ensureDeferred
async def test_tables_that_are_away(local: LocalMaker) -> None:
    here = local({"joe": "AWAY", "far": "x@trouble.example"})
    assert await here.said("joe", "far") == [
        (DEFERRED, "4.3.0", "alias database unavailable"), (DEFERRED, "4.3.0", "address resolver failure")]


@ensureDeferred
async def test_a_directory_service_that_is_away(local: LocalMaker) -> None:
    here = local()
    assert await here.said("away") == [
        (DEFERRED, "4.3.0", "error looking up passwd info for away: the server is down")]


@ensureDeferred
async def test_a_full_disk_defers(local: LocalMaker) -> None:
    here = local({"both": "jane, x@remote.example"})
    here.forwarder.full = True
    results = await here.deliver("both")
    assert [(r.status, r.dsn, r.reason) for r in results] == [
        (DEFERRED, "4.3.0", "unable to forward message"), SENT_TO_MAILBOX]


@ensureDeferred
async def test_files_and_commands_of_aliases(local: LocalMaker, anybodys: Path) -> None:
    here = local({
        "box": f"{anybodys}/box", "boxes": f"{anybodys}/boxes/", "nothing": "/dev/null", "bad": f"{anybodys}/no/box",
        "program": f'"|cat > {anybodys}/out; echo said; exit 77"', "simple": "|/bin/true", "builtin": '"|exit 67"',
        "home": "~/x",
    })
    assert await here.said("box", "boxes", "nothing", "program", "simple", "builtin", "home") == [
        (SENT, "2.0.0", f"delivered to file: {anybodys}/box"), (SENT, "2.0.0", "delivered to maildir"),
        (SENT, "2.0.0", "delivered to file: /dev/null"),
        (BOUNCED, "5.7.0", "permission denied. Command output: said "),
        (SENT, "2.0.0", "delivered to command: /bin/true"), (BOUNCED, "5.1.1", "user unknown"),
        (BOUNCED, "5.3.5", "mail system configuration error")]
    assert "unknown home directory for: ~/x" in here.log.text
    ((status, dsn, reason),) = await here.said("bad")
    assert (status, dsn) == (BOUNCED, "5.2.0")
    assert reason == (f"cannot append message to file {anybodys}/no/box: cannot create file exclusively: "
                      "No such file or directory")
    out = (anybodys / "out").read_text().split("\n")
    assert out[0].startswith("From a@client.example  ")
    assert out[1:4] == ["Return-Path: <a@client.example>", "X-Original-To: program@gw.my.domain",
                        "Delivered-To: program@gw.my.domain"]
    assert out[-2:] == ["From a line", ""]


@ensureDeferred
async def test_includes(local: LocalMaker, anybodys: Path) -> None:
    for name, text, mode in (("members", "x@remote.example, jane\n", 0o644), ("open", "jane\n", 0o666),
                             ("program", f'"|touch {anybodys}/never"\n/tmp/never\n', 0o644)):
        (anybodys / name).write_text(text)
        (anybodys / name).chmod(mode)
    here = local({name: f":include:{anybodys}/{name}" for name in ("members", "open", "program", "nowhere")}
                 | {"relative": ":include:x"})
    assert await here.said("members") == [(SENT, "2.0.0", "forwarded as COPY1")]
    assert here.forwarder.copies[0][2] == ["x@remote.example", "jane@gw.my.domain"]
    assert await here.said("program") == [
        (BOUNCED, "5.7.1", "mail to command is restricted"), (BOUNCED, "5.7.1", "mail to file is restricted")]
    assert [said[:2] for said in await here.said("open", "nowhere", "relative")] == [
        (BOUNCED, "5.3.5"), (BOUNCED, "5.3.5"), (BOUNCED, "5.3.5")]
    assert f":include: file {anybodys}/open is world writable" in here.log.text


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root rights")
@ensureDeferred
async def test_whose_rights_a_list_has(local: LocalMaker, anybodys: Path) -> None:
    """A file's owner counts in root's list only: nobody can act as somebody whose file he names."""
    (anybodys / "program").write_text('"|id -u >> $HOME/../ids"\n')
    (anybodys / "ids").touch()
    (anybodys / "ids").chmod(0o666)
    os.chown(anybodys / "program", OTHER.uid, OTHER.gid)
    include = f":include:{anybodys}/program"
    here = local({"list": include, "own": '"|id -u >> $HOME/../ids"', "theirs": include},
                 allow_mail_to_commands="alias, forward, include")
    forward(here, "joe", include + "\n")
    await here.said("list", "joe")
    here.owner = OTHER.uid
    await here.said("own")
    here.owner = NOBODY.uid
    await here.said("theirs")
    ids = [OTHER.uid, NOBODY.uid, OTHER.uid, NOBODY.uid]
    assert (anybodys / "ids").read_text().split() == [str(uid) for uid in ids]
    here.owner = 4_000_000_000
    assert await here.said("own") == [(DEFERRED, "4.3.0", "cannot find alias database owner")]


# --- .forward --------------------------------------------------------------------------------------------------------


def forward(here: Local, user: str, text: str, name: str = ".forward", mode: int = 0o644) -> None:
    file = here.folder / user / name
    file.write_text(text)
    file.chmod(mode)


@ensureDeferred
async def test_forward_to_others_and_oneself(local: LocalMaker) -> None:
    here = local()
    forward(here, "joe", '\\joe, someone@remote.example\n"|exit 0"\n')
    results = await here.deliver(Recipient(f"joe@{HERE}", f"joe@{HERE}", notify=NOTIFY_SUCCESS), sender="s@x")
    assert [(result.details["action"], about(result)) for result in results if result.status == EXPANDED] == [
        ("expanded", "")]
    assert [one.notify for one in here.forwarder.given[0]] == [NOTIFY_NEVER]
    assert sorted(result.reason for result in results) == [
        "alias expanded", "delivered to command: exit 0", "delivered to mailbox", "forwarded as COPY1"]
    assert here.forwarder.copies[0][1:] == ("s@x", ["someone@remote.example"], ["joe@gw.my.domain"])


@ensureDeferred
async def test_what_is_too_much_for_a_users_file(local: LocalMaker) -> None:
    """Millions of addresses, or a line that takes long to read, would hold up everybody else's mail."""
    here = local()
    forward(here, "joe", "# " + "x" * 1_048_576 + "\n\\joe\n")
    assert await here.said("joe") == [SENT_TO_MAILBOX], "as if it were not there"
    assert f"file {here.folder}/joe/.forward is too large" in here.log.text
    forward(here, "joe", "a@x.example, " * 6000)
    assert await here.said("joe") == [(DEFERRED, "4.3.5", "mail system configuration error")]


@ensureDeferred
async def test_files_that_lead_to_themselves_are_read_once(local: LocalMaker, anybodys: Path) -> None:
    """However many members they have: what is beyond duplicate_filter_limit is delivered again, but not read again."""
    here = local({"all": "one@x.example, two@x.example, jane"}, duplicate_filter_limit="2")
    forward(here, "jane", "jane\n\\jane\njane\n")
    assert SENT_TO_MAILBOX in await here.said("all")
    again = f":include:{anybodys}/list\n"
    (anybodys / "list").write_text(f"one@x.example, two@x.example\n{again}{again}")
    forward(here, "joe", again)
    assert await here.said("joe") == [(SENT, "2.0.0", "forwarded as COPY2")]


@ensureDeferred
async def test_forward_to_another_user_is_a_message_of_its_own(local: LocalMaker) -> None:
    here = local()
    forward(here, "joe", "jane\n")
    assert await here.said("joe") == [(SENT, "2.0.0", "forwarded as COPY1")]


@ensureDeferred
async def test_what_stands_behind_a_line_that_is_tried_again_waits(local: LocalMaker) -> None:
    here = local()
    forward(here, "joe", '"|exit 75", "|exit 0"\n\\joe, someone@remote.example\n')
    assert sorted(await here.said("joe")) == [
        (DEFERRED, "4.3.0", "temporary failure"), (SENT, "2.0.0", "delivered to command: exit 0")]
    assert here.forwarder.copies == [] and not (here.folder / "mail" / "joe").exists()


@ensureDeferred
async def test_forward_by_extension(local: LocalMaker) -> None:
    here = local(recipient_delimiter="+")
    forward(here, "joe", "~/lists\n", ".forward+list")
    assert await here.said("joe+list", "joe+other") == [
        (SENT, "2.0.0", f"delivered to file: {here.folder}/joe/lists"), SENT_TO_MAILBOX]


@ensureDeferred
async def test_forward_that_does_not_count(local: LocalMaker) -> None:
    here = local()
    forward(here, "joe", "x@remote.example\n", mode=0o666)
    forward(here, "jane", "\n")
    assert await here.said("joe", "jane") == [SENT_TO_MAILBOX] * 2
    assert "/joe/.forward is world writable" in here.log.text
    forward(here, "joe", "x@remote.example\n", name="f")
    (here.folder / "joe" / ".forward").unlink()
    (here.folder / "joe" / ".forward").symlink_to("f")
    assert await here.said("joe") == [SENT_TO_MAILBOX]
    assert "/joe/.forward is not a regular file" in here.log.text


@ensureDeferred
async def test_forward_path_with_a_value_that_is_missing(local: LocalMaker) -> None:
    here = local(forward_path="$home/.forward-$extension, $home/.${extension?x}other", recipient_delimiter="+")
    forward(here, "joe", "x@remote.example\n", name=".forward-")
    assert await here.said("joe") == [SENT_TO_MAILBOX]
    forward(here, "joe", "x@remote.example\n", name=".other")
    assert await here.said("joe") == [(SENT, "2.0.0", "forwarded as COPY1")]


# --- commands --------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_mailbox_command(local: LocalMaker, anybodys: Path) -> None:
    here = local(enable_original_recipient="no", recipient_delimiter="+",
                 mailbox_command=f'env > {anybodys}/env; echo "$EXTENSION" > {anybodys}/ext',
                 export_environment="", allow_mail_to_commands="")
    client = Client(name="mx.client.example", address="192.0.2.7", helo="$(id)", protocol="ESMTP")
    results = await here.deliver('"joe+a b;id|x"@my.domain', sender='"a;`id`"@client.example', client=client)
    assert results[0].reason.startswith("delivered to command: env > ")
    seen = dict(line.split("=", 1) for line in (anybodys / "env").read_text().splitlines())
    assert {name: value for name, value in seen.items() if name not in ("PATH", "PWD", "_", "SHLVL", "OLDPWD")} == {
        "USER": "joe", "LOGNAME": "joe", "HOME": f"{anybodys}/joe", "SHELL": "/bin/sh", "EXTENSION": "a_b_id_x",
        "LOCAL": "joe+a_b_id_x", "DOMAIN": "my.domain", "RECIPIENT": "joe+a_b_id_x@my.domain",
        "ORIGINAL_RECIPIENT": "joe+a_b_id_x@my.domain", "SENDER": "a__id_@client.example",
        "CLIENT_HOSTNAME": "mx.client.example", "CLIENT_ADDRESS": "192.0.2.7", "CLIENT_HELO": "__id_",
        "CLIENT_PROTOCOL": "ESMTP",
    }
    assert (anybodys / "ext").read_text() == "a_b_id_x\n"
    for address, extension in (("joe+@gw.my.domain", ""), ("joe@gw.my.domain", None)):
        await here.deliver(Recipient(address, "j@x"))
        seen = dict(line.split("=", 1) for line in (anybodys / "env").read_text().splitlines())
        assert (seen.get("EXTENSION"), seen["ORIGINAL_RECIPIENT"]) == (extension, "j@x")


@ensureDeferred
async def test_how_the_shell_calls_itself(local: LocalMaker) -> None:
    here = local({"gone": '"|/no/such/program; exit 67"'})
    ((_, _, reason),) = await here.said("gone")
    assert reason.startswith("user unknown. Command output: sh: ")


@ensureDeferred
async def test_the_same_command_for_two_names_runs_twice(local: LocalMaker) -> None:
    here = local({"twice": '"|exit 0", "|exit 0", once', "once": '"|exit 0"'})
    delivered = (SENT, "2.0.0", "delivered to command: exit 0")
    assert await here.said("twice") == [delivered, delivered]


@ensureDeferred
async def test_commands_that_fail(local: LocalMaker) -> None:
    here = local({"missing": "|/no/such/program", "slow": '"|sleep 5"', "many": '"|echo 5.7.2 closed; exit 75"'},
                 command_time_limit="1s")
    assert await here.said("missing", "slow", "many") == [
        (DEFERRED, "4.3.0", "temporary failure"),
        (BOUNCED, "5.3.0", 'Command time limit exceeded: "sleep 5"'), (BOUNCED, "5.7.2", "closed ")]
    assert "/no/such/program: cannot execute /no/such/program: No such file or directory" in here.log.text


def test_when_a_shell_is_needed() -> None:
    assert commands.split("/bin/x -a b") == (["/bin/x", "-a", "b"], "/bin/x -a b")
    assert commands.split("/bin/x $EXTENSION") == (["sh", "-c", "/bin/x $EXTENSION"], "")
    assert commands.split("/bin/x 'a b'") == (["sh", "-c", "/bin/x 'a b'"], "")
    assert commands.split("x", "/bin/rsh -c") == (["/bin/rsh", "-c", "x"], "")


@ensureDeferred
async def test_working_directory(local: LocalMaker, anybodys: Path) -> None:
    here = local(mailbox_command=f"pwd > {anybodys}/pwd", command_execution_directory="$home")
    await here.deliver("joe")
    assert (anybodys / "pwd").read_text() == f"{anybodys}/joe\n"


# --- and the rest --------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_verify_delivers_nothing(local: LocalMaker) -> None:
    here = local({"both": "jane, someone@remote.example", "program": "|/bin/x", "box": "/box"})
    results = await here.deliver("both", "program", "box", "nobody", trace="verify")
    assert [(r.reason, about(r)) for r in results] == [
        ("delivers to mailbox", "jane@gw.my.domain"), ("forwards to someone@remote.example", "someone@remote.example"),
        ("delivers to command: /bin/x", ""), ("delivers to file: /box", ""), ('unknown user: "nobody"', "")]
    assert here.forwarder.copies == [] and os.listdir(here.folder / "mail") == []


@implementer(ITransport)
class Other:
    program = "lmtp"

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def deliver(self, request: Request) -> Awaitable[list[Result]]:
        self.requests.append(request)
        return succeed([Result(SENT, "2.0.0", "250 ok", "other")])

    async def stop(self) -> None:
        pass


@ensureDeferred
async def test_other_transports(local: LocalMaker) -> None:
    other = Other()
    here = local(transports={"lmtp": other}, fallback_transport="lmtp:unix:/run/lmtp")
    assert await here.said("Who", "joe") == [(SENT, "2.0.0", "250 ok"), SENT_TO_MAILBOX]
    assert [(r.nexthop, r.addresses, r.indexes) for r in other.requests] == [
        ("unix:/run/lmtp", ["Who@gw.my.domain"], [0])]


@ensureDeferred
async def test_empty_addresses_and_empty_lists(local: LocalMaker) -> None:
    here = local({"none": ",", "nobody": '""', "at": "@", "half": "joe@"})
    assert await here.said("none") == [(DEFERRED, "4.3.0", "alias database unavailable")]
    assert "no recipient in alias lookup result for none" in here.log.text
    (result,) = await here.deliver("nobody")
    assert (result.reason, about(result)) == ("discarded", f"MAILER-DAEMON@{HERE}")
    assert "required alias not found: mailer-daemon" in here.log.text
    assert [result.reason for result in await here.deliver("at")] == ["discarded"]
    assert await here.said("half") == [(BOUNCED, "5.1.3", "bad recipient address syntax: joe@")]


@ensureDeferred
async def test_a_backslash_means_the_mailbox(local: LocalMaker) -> None:
    here = local({"esc": r"\\joe", "joe": "jane"})
    (result,) = await here.deliver("esc")
    assert (result.reason, about(result), os.listdir(here.folder / "mail")) == (
        "delivered to mailbox", f"joe@{HERE}", ["joe"])


@ensureDeferred
async def test_owners_have_owners(local: LocalMaker) -> None:
    here = local({"owner-list": "jane", "owner-owner-list": "joe"})
    assert await here.said("owner-list") == [(SENT, "2.0.0", "forwarded as COPY1")]
    assert here.forwarder.copies[0][1] == f"owner-owner-list@{HERE}"


@ensureDeferred
async def test_an_alias_in_a_lists_file_has_its_members_in_a_message_of_their_own(
    local: LocalMaker, anybodys: Path
) -> None:
    (anybodys / "members").write_text("# none\n # one\nteam\n")
    here = local({"list": f":include:{anybodys}/members", "team": "joe, jane"})
    assert await here.said("list") == [(SENT, "2.0.0", "forwarded as COPY1")]
    assert here.forwarder.copies[0][2] == [f"{name}@{HERE}" for name in ("#", "one", "joe", "jane")]
    here = local({"list": f":include:{anybodys}/members", "team": "joe, jane"}, reset_owner_alias="yes")
    assert await here.said("list") == [SENT_TO_MAILBOX] * 2 + [(SENT, "2.0.0", "forwarded as COPY1")]
    assert here.forwarder.copies[0][2] == [f"{name}@{HERE}" for name in ("#", "one")]


@ensureDeferred
async def test_a_list_of_nobody(local: LocalMaker, anybodys: Path) -> None:
    """The mail is done with, and no line tells of it."""
    (anybodys / "members").write_text("# none\n")
    assert await local({"list": f":include:{anybodys}/members"}).said("list") == [
        (EXPANDED, "2.0.0", "alias expanded")]


@ensureDeferred
async def test_what_comes_in_one_bundle_runs_one_program_at_a_time(local: LocalMaker, anybodys: Path) -> None:
    """And hands over one message at a time; mailboxes are written together."""
    told = anybodys / "told"
    here = local({"run": f'|"echo begin >> {told}; '
                         f'while [ ! -e {anybodys}/go ]; do sleep 0.02; done; echo end >> {told}"'})

    def deliver(name: str, bundle: int) -> Deferred[Any]:
        asked = replace(request(f"{name}@{HERE}", service="local", nexthop=HERE), bundle=bundle)
        return Deferred.fromCoroutine(here.transport.deliver(asked))

    bundle = [deliver("run", 7), deliver("run", 7), deliver("joe", 7)]
    await bundle[2]
    assert not bundle[0].called
    (anybodys / "go").touch()
    await gatherResults(bundle)
    assert told.read_text() == "begin\nend\n" * 2
    (anybodys / "go").unlink()
    told.write_text("")
    others = [deliver("run", 8), deliver("run", 9)]
    while told.read_text() != "begin\nbegin\n":
        await deferLater(reactor, 0.02)
    (anybodys / "go").touch()
    await gatherResults(others)


@ensureDeferred
async def test_a_member_of_an_alias_by_another_transport(local: LocalMaker) -> None:
    other = Other()
    here = local({"team": "who"}, transports={"lmtp": other}, fallback_transport="lmtp:unix:/run/lmtp")
    asked = Recipient(f"team@{HERE}", "team", "rfc822;team", NOTIFY_SUCCESS | NOTIFY_FAILURE)
    _, result, _ = await here.deliver("joe", asked)
    member = Recipient(f"who@{HERE}", "team", "rfc822;team", NOTIFY_FAILURE)
    assert result.recipient == member
    assert [(r.addresses, r.recipients) for r in other.requests] == [([member.address], [member])]


@ensureDeferred
async def test_who_has_delivered_stands_in_the_log(local: LocalMaker) -> None:
    here = local(transports={"lmtp": Other()}, fallback_transport="lmtp:unix:/run/lmtp")
    passed, own = await here.deliver("who", "joe")
    assert (passed.program, own.program) == (Other.program, "")


@ensureDeferred
async def test_a_mailbox_transport_that_breaks(local: LocalMaker) -> None:
    class Broken(Other):
        async def deliver(self, request: Request) -> list[Result]:
            raise ConnectionError("the scheduler is away")

    here = local(transports={"lmtp": Broken()}, fallback_transport="lmtp")
    assert await here.said("who", "joe") == [(DEFERRED, "4.3.0", "mail transport unavailable"), SENT_TO_MAILBOX]
    assert "the scheduler is away" in here.log.text


@ensureDeferred
async def test_a_mailbox_transport_that_is_missing(local: LocalMaker) -> None:
    assert await local(mailbox_transport="nowhere").said("joe") == [(DEFERRED, "4.3.0", "mail transport unavailable")]


def test_destinations() -> None:
    assert destinations('"|x \'two words\' $HOME", jane joe, :include:/a/b, /file/x/, Joe <joe@x>, "quoted name"') == [
        "|x 'two words' $HOME", "jane", "joe", ":include:/a/b", "/file/x/", "joe@x", "quoted name"]


def test_censored() -> None:
    allowed = frozenset("abc.")
    assert censored("a;b\n$c", allowed) == "a_b__c" and censored("ab.c", allowed) == "ab.c"
    assert censored("aüc", allowed) == "a__c"


def test_mistakes_in_the_configuration() -> None:
    for values, text in (({"allow_mail_to_files": "alias, forwards"}, 'unknown name "forwards"'),
                         ({"default_privs": "nosuchuser"}, "there is no such account"),
                         ({"default_privs": "root"}, "must not be root's rights")):
        if "default_privs" in values and os.geteuid() != 0:
            continue
        with pytest.raises(ConfigError, match=text):
            LocalConfig.from_settings(Settings(values), {})
    assert LocalConfig.from_settings(Settings({"recipient_delimiter": "+"}), {}).extensions == Extensions("+")
