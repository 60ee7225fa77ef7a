"""Mail to a program: "|command", mailbox_command; local(8) EXTERNAL COMMAND DELIVERY.

The command runs directly if it holds nothing that a shell would act on.  What it is told about the delivery stands in
its environment, censored: that text comes from strangers, and recipes hand it to shells.
"""

from __future__ import annotations

from gateway.addresses.forms import unquote
from gateway.clock import time_of_day
from gateway.interfaces import SENT
from transports import message
from transports.local.place import Delivery, Place, Rights, censored
from transports.process import Command
from transports.verdict import judge

_PLAIN = frozenset("1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t")
"""Characters of a command that needs no shell."""


async def deliver(delivery: Delivery, place: Place, line: str) -> None:
    """``place.within`` is "" for the user's own mailbox_command, which is always allowed."""
    config, request = delivery.config, delivery.request
    identity = place.identity(config.default_rights)
    if place.within and place.within not in config.commands_in:
        delivery.failed(place, "5.7.1", "mail to command is restricted")
        return
    if not delivery.first_time(f"command {place.user} {identity.uid} {line}"):
        return
    if delivery.only_asked:
        delivery.sent(place, f"delivers to command: {line}")
        return
    argv, shell = split(line, config.shell)
    async with delivery.turn:
        outcome = await delivery.tools.runner.run(
            Command(
                argv, identity, environment(delivery, place), config.base,
                place.fill(config.execution_directory, config.directory_filter),
                stdin=message.encode(delivery.content, top(delivery, place)),
                time_limit=config.time_limit, shell=shell,
            )
        )
    verdict = judge(outcome, line)
    if verdict.warning:
        delivery.tools.log.warning("local", f"{request.entry.id}: {verdict.warning}")
    if verdict.status == SENT and verdict.reason:
        delivery.tools.log.info("local", f"{request.entry.id}: command output: {verdict.reason}")
    delivery.judged(place, verdict, f"delivered to command: {line}")


def split(line: str, shell: str = "") -> tuple[list[str], str]:
    """Argument list, and the shell command that stands in if the program is not found (it may be the shell's own)."""
    if shell:
        return [*shell.split(), line], ""
    if _PLAIN.issuperset(line) and line.strip():
        return line.split(), line
    return ["sh", "-c", line], ""


def environment(delivery: Delivery, place: Place) -> dict[str, str]:
    client = delivery.request.entry.envelope.client
    rights = place.rights or Rights(delivery.config.default_rights)
    always = {
        "USER": place.user, "LOGNAME": place.user, "LOCAL": place.local, "DOMAIN": place.domain,
        "RECIPIENT": place.recipient, "SENDER": place.sender,
    }
    if_known = {
        "HOME": rights.home, "SHELL": rights.shell, "ORIGINAL_RECIPIENT": unquote(place.original),
        "CLIENT_HOSTNAME": client.name, "CLIENT_ADDRESS": client.address,
        "CLIENT_HELO": client.helo, "CLIENT_PROTOCOL": client.protocol, "SASL_METHOD": client.sasl_method,
        "SASL_SENDER": client.sasl_sender, "SASL_USERNAME": client.sasl_username,
        "ENVID": delivery.request.entry.envelope.envid,
    }
    told = always | {name: value for name, value in if_known.items() if value}
    if place.has_extension:
        told["EXTENSION"] = place.extension
    allowed = delivery.config.command_filter
    return {**delivery.config.environment, **{name: censored(value, allowed) for name, value in told.items()}}


def top(delivery: Delivery, place: Place) -> bytes:
    """The lines in front of the message."""
    lines = message.from_line(place.sender, time_of_day(delivery.tools.clock))
    lines += message.return_path(place.sender) + delivery.original_to(place)
    return lines + (message.delivered_to(place.delivered) if "command" in delivery.config.delivered_in else b"")
