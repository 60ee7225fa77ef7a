"""smtpd: the factory of one inet service of master.cf, and SMTP on standard input; smtpd(8).

    factory = make_smtpd(settings, Collaborators(…), name="smtp", process_limit=0)
    port.listen(factory)
    factory.reload(make_service(new settings, new collaborators))      # for new connections

``status()`` counts connections, messages and the like for the status command.  ``drain`` answers new clients with 421
and comes back when all others have ended their sessions, or the time is over; ``dismiss`` sends away those that wait
for nothing; ``stop`` does both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from gateway.config import Settings
from gateway.smtpd import content_commands, login, mail_commands, session_commands, trusted_commands
from gateway.smtpd.channel import Channel
from gateway.smtpd.conversation import BEFORE_TLS, LAST, LIMITED, Command, Conversation
from gateway.smtpd.limits import Room
from gateway.smtpd.peer import Peer, plain_address
from gateway.smtpd.service import Collaborators, Service

TICK = 1.0

COMMANDS: dict[str, Command] = {
    "HELO": Command(session_commands.helo, LIMITED | BEFORE_TLS | LAST),
    "EHLO": Command(session_commands.ehlo, LIMITED | BEFORE_TLS | LAST),
    "XCLIENT": Command(trusted_commands.xclient),
    "XFORWARD": Command(trusted_commands.xforward),
    "STARTTLS": Command(session_commands.starttls, BEFORE_TLS | LAST),
    "AUTH": Command(login.auth),
    "MAIL": Command(mail_commands.mail),
    "RCPT": Command(mail_commands.rcpt),
    "DATA": Command(content_commands.data, LAST),
    "BDAT": Command(content_commands.bdat),
    "RSET": Command(session_commands.rset, LIMITED),
    "NOOP": Command(session_commands.noop, LIMITED | BEFORE_TLS | LAST),
    "VRFY": Command(session_commands.vrfy, LIMITED | LAST),
    "ETRN": Command(session_commands.etrn, LIMITED),
    "QUIT": Command(session_commands.quit, BEFORE_TLS),
}


class SmtpdFactory(ServerFactory):
    """Connections of one service.  ``process_limit``: how many at a time, 0 = any number."""

    noisy = False

    def __init__(self, service: Service, *, process_limit: int = 0) -> None:
        self.service = service
        self.process_limit = process_limit
        self.accepted = 0
        self.refused = 0
        self._clock = service.with_.clock
        self._channels: set[Channel] = set()
        self._ticking: Any = None
        self._accepting = True
        self._all_gone: list[Deferred[None]] = []

    def reload(self, service: Service, *, process_limit: int | None = None) -> None:
        """New connections get the new service; those that are open keep theirs."""
        self.service = service
        if process_limit is not None:
            self.process_limit = process_limit

    def status(self) -> dict[str, int]:
        return {"connections": len(self._channels), "accepted": self.accepted, "refused": self.refused}

    # --- connections ---------------------------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        host, port = getattr(addr, "host", ""), getattr(addr, "port", "")
        peer = Peer(plain_address(str(host)), str(port))
        return self.channel(peer)

    def channel(self, peer: Peer) -> Channel:
        options = self.service.options
        return Channel(
            self._clock,
            lambda channel: self._opened(channel, peer),
            self._closed,
            timeout=options.timeout,
            line_limit=options.line_length_limit,
        )

    def _opened(self, channel: Channel, peer: Peer) -> None:
        service, room = self.service, self.service.with_.room
        self._channels.add(channel)
        room.clients += 1
        channel.room = room
        if self._ticking is None:
            self._ticking = self._clock.callLater(TICK, self._tick)
        if not self._accepting:
            self._turn_away(channel, f"421 4.3.2 {service.options.hostname} Service unavailable - try again later")
            return
        if problem := self._too_many(len(self._channels), room):
            if room.complains(service.name, self._clock.seconds()):
                service.log.warning(service.program, problem)
            self._turn_away(channel, f"421 4.7.0 {service.options.hostname} Error: too many connections")
            return
        self.accepted += 1
        conversation = Conversation(service, channel, peer, COMMANDS)
        conversation.session.find_server = lambda: _end_point(channel)
        channel.converse(conversation.run())

    def _too_many(self, here: int, room: Room) -> str:
        if 0 < self.process_limit < here and not self.service.stand_alone:
            return (
                f"service {self.service.name} has reached its process limit {self.process_limit}: new clients may wait"
            )
        if 0 < room.most_clients < room.clients:
            return f"{room.most_clients} clients are connected, as many as can be: others are sent away with 421"
        return ""

    def _turn_away(self, channel: Channel, reply: str) -> None:
        self.refused += 1
        channel.write(reply.encode() + b"\r\n")
        channel.close()

    def _closed(self, channel: Channel) -> None:
        self._channels.discard(channel)
        if channel.room is not None:
            channel.room.clients -= 1
        if not self._channels:
            waiting, self._all_gone = self._all_gone, []
            for each in waiting:
                each.callback(None)

    def _tick(self) -> None:
        """Look at all deadlines.  The clock stands still when nobody is connected."""
        self._ticking = None
        now = self._clock.seconds()
        for channel in list(self._channels):
            channel.tick(now)
        if self._channels:
            self._ticking = self._clock.callLater(TICK, self._tick)

    # --- the end -------------------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        self._accepting = False

    async def stop(self, grace: float) -> None:
        """Let transactions end within ``grace`` seconds; clients that are idle are told 421 at once."""
        self.dismiss()
        await self.drain(grace)

    def dismiss(self) -> None:
        """Tell 421 to clients that are idle, and to the others as soon as they ask for more."""
        for channel in list(self._channels):
            channel.dismiss(f"421 4.3.2 {self.service.options.hostname} Server closing connection")

    async def drain(self, grace: float) -> None:
        """Let sessions end within ``grace`` seconds."""
        self.stop_accepting()
        if self._channels:
            gone = self.when_idle()
            late = self._clock.callLater(grace, self._cut_off)
            await gone
            if late.active():
                late.cancel()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def when_idle(self) -> Deferred[None]:
        """Fires when the last client goes."""
        gone: Deferred[None] = Deferred()
        self._all_gone.append(gone)
        return gone

    def _cut_off(self) -> None:
        for channel in list(self._channels):
            channel.abort()


def _end_point(channel: Channel) -> tuple[str, str]:
    """Our end of a connection; ("", "") if it has no address, or is gone."""
    if channel.lost:
        return "", ""
    host = channel.transport.getHost()  # type: ignore[union-attr]
    address, port = getattr(host, "host", ""), getattr(host, "port", "")
    return (plain_address(str(address)), str(port)) if address else ("", "")


def make_service(settings: Settings, collaborators: Collaborators, **options: Any) -> Service:
    """See Service.of.  Raises ConfigError or RestrictionError."""
    return Service.of(settings, collaborators, **options)


def make_smtpd(
    settings: Settings,
    collaborators: Collaborators,
    *,
    name: str = "smtp",
    program: str = "smtpd",
    process_limit: int = 0,
) -> SmtpdFactory:
    """The factory for one smtpd line of master.cf.  ``settings``: with its "-o" overrides; ``name``: its first column;
    ``program``: the tag in the log.  Raises ConfigError or RestrictionError."""
    service = Service.of(settings, collaborators, name=name, program=program)
    return SmtpdFactory(service, process_limit=process_limit)


def make_stdio(
    settings: Settings, collaborators: Collaborators, finished: Callable[[], None], *, program: str = "smtpd"
) -> Channel:
    """SMTP on standard input and output, for ``twisted.internet.stdio.StandardIO``: sendmail -bs.  The client is a
    user of this machine: no restrictions, no limits.  ``finished`` is called when it has gone."""
    service = Service.of(settings, collaborators, name="stdin", program=program, stand_alone=True)
    factory = SmtpdFactory(service)
    factory.when_idle().addCallback(lambda _: finished())
    return factory.channel(Peer("127.0.0.1"))
