"""One ``uucp`` service of master.cf, read once; mailgateway-uucp(8) is its manual.

What pipe(8) takes (flags=, user=, size=, argv= last …) stands as it did when the command was ``pipe``; of argv= the
program, its options and the name of the far command count.  ``from_service`` raises ConfigError for what is wrong.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.compression import KINDS, NoLibrary, require
from gateway.config import Service, Settings
from transports.attributes import Attributes
from transports.macros import Template
from transports.pipe import PipeService
from transports.uucp.taylor import Taylor, config_of

CLASSIC = ["uux", "-r", "-z", "-a$sender", "-", "$nexthop!rmail", "($recipient)"]
FLAGS = "Fhqu"
UUCICO = "/usr/sbin/uucico"

PACKING = {
    "crsmtp": "compress", "rcsmtp": "compress", "gsmtp": "gzip", "rgsmtp": "gzip", "bsmtp": "bzip2", "rbsmtp": "bzip2",
    "xsmtp": "xz", "crmail": "xz",
}
"""What a far command's name says of its input, by custom; packing= says otherwise."""

ATTRIBUTES = frozenset({
    "addresses", "attachments", "batch_size", "batch_wait", "bulk_grade", "call", "command", "daily", "follow", "grade",
    "grades", "kept", "lifetime", "packing", "queued", "retrieve", "uucico", "urgent_grade",
})
"""Those that pipe does not have."""

_COMMAND = re.compile(r"[A-Za-z0-9_.+-]+\Z")
_ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+\Z")
_GRADE = re.compile(r"[0-9A-Za-z]\Z")
_VALUED = frozenset({"-I", "-a", "-g", "-s", "-x", "--config", "--requestor", "--grade", "--status", "--debug"})


@dataclass(slots=True, frozen=True)
class Grades:
    """Which jobs go first: a letter by priority, else by size."""

    plain: str = "N"
    by_size: tuple[tuple[int, str], ...] = ()
    """(up to so many bytes, letter), ascending."""
    bulk: str = ""
    urgent: str = ""


@dataclass(slots=True, frozen=True)
class UucpService:
    pipe: PipeService
    """The parts that pipe(8) has as well."""
    options: tuple[Template, ...]
    """Of uux, without those for job ID and grade."""
    taylor: Taylor
    command: str = "rmail"
    packing: str = "none"
    bang: bool = False
    grades: Grades = Grades()
    daily: int = 0
    """Bytes a day and neighbour; 0 = no limit, as with the next."""
    queued: int = 0
    """Bytes that may wait for a neighbour."""
    call: str = "no"
    """After queueing: "yes", or "allowed": only when UUCP's own calendar and retry times let it; and with both, as long
    as something waits, whenever these let it."""
    uucico: str = UUCICO
    batch_wait: float = 0.0
    batch_size: int = 1_000_000
    attachments: int = 0
    """Larger ones stay here; 0 = none does."""
    text_only: bool = False
    """Of what is there as plain text, too, nothing else goes."""
    asking: str = ""
    """How whoever gets a note may ask for the attachment, with %s in the token's place."""
    kept: float = 2_592_000.0
    host: str = ""
    lifetime: float = 432_000.0
    warn_after: float = 0.0
    follow: float = 60.0

    @property
    def batched(self) -> bool:
        return "smtp" in self.command

    @property
    def largest(self) -> int:
        """Bytes of the largest message that can ever go; 0 = any."""
        return min((limit for limit in (self.pipe.size, self.daily, self.queued) if limit), default=0)

    @property
    def piece(self) -> int:
        """Bytes of the mails that bring an attachment afterwards."""
        return min(self.largest or self.batch_size, self.batch_size)

    @property
    def name(self) -> str:
        return self.pipe.name

    def program(self, name: str) -> str:
        """Another of UUCP's programs, where uux is."""
        folder = os.path.dirname(self.pipe.argv[0])
        return f"{folder}/{name}" if folder else name

    @classmethod
    def from_service(
        cls, service: Service, settings: Settings, own_environment: Mapping[str, str] = os.environ
    ) -> UucpService:
        given, rest = _own(service)
        wrong = given.wrong
        pipe = PipeService.from_service(dataclasses.replace(service, arguments=rest), settings, own_environment)
        options, command = _parts(pipe.argv)
        command = given.text("command", command)
        if not _COMMAND.match(command):
            raise wrong(f'"{command}" is no name of a command', "command= takes rmail, rsmtp, crsmtp and the like")
        packing = given.text("packing", PACKING.get(command, "none"))
        if packing not in KINDS:
            raise wrong(f"packing={packing} is not known", f"use one of {', '.join(KINDS)}")
        try:
            require(packing)
        except NoLibrary as error:
            raise wrong(f"packing={packing} cannot be done here", str(error)) from None
        text_only = given.text("attachments") == "none"
        return cls(
            pipe=pipe,
            options=tuple(map(Template, options)),
            taylor=Taylor.read(config_of(pipe.argv)),
            command=command,
            packing=packing,
            bang=given.choice("addresses", ("domain", "bang")) == "bang",
            grades=_grades(given),
            daily=given.amount("daily"),
            queued=given.amount("queued"),
            call=given.choice("call", ("no", "yes", "allowed")),
            uucico=given.text("uucico", UUCICO),
            batch_wait=given.seconds("batch_wait"),
            batch_size=given.amount("batch_size", 1_000_000),
            attachments=1 if text_only else given.amount("attachments"),
            text_only=text_only,
            asking=_asking(given),
            kept=given.seconds("kept", 2_592_000.0),
            host=settings.text("myhostname"),
            lifetime=given.seconds("lifetime", settings.seconds("maximal_queue_lifetime")),
            warn_after=settings.seconds("delay_warning_time"),
            follow=max(given.seconds("follow", 60.0), 1.0),
        )


def _own(service: Service) -> tuple[Attributes, list[str]]:
    """Our attributes, and what is left for pipe."""
    words, own = service.arguments, Attributes(service, {})
    rest: list[str] = [] if any(word.startswith("flags=") for word in words) else [f"flags={FLAGS}"]
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "argv" and equals:
            return own, [*rest, *words[at:]]
        if name == "size" and equals:
            rest.append(f"size={own.amount_of(name, value)}")
        elif not equals or name not in ATTRIBUTES:
            rest.append(word)  # pipe's, or nobody's: it says so
        else:
            own.given[name] = value
    return own, [*rest, "argv=", *CLASSIC]


def _parts(argv: list[str]) -> tuple[list[str], str]:
    """Of a uux command line: its options, and the far command's name."""
    options: list[str] = []
    words = iter(argv[1:])
    for word in words:
        if word == "-":
            break
        if not word.startswith("-"):
            return options, _far_command(word)
        value = [next(words, "")] if word in _VALUED else []
        if word not in ("-r", "-j", "--nouucico", "--jobid") and not word.startswith(("-g", "--grade")):
            options += [word, *value]
    return options, _far_command(next(words, ""))


def _far_command(word: str) -> str:
    return word.rpartition("!")[2] or "rmail"


def _asking(given: Attributes) -> str:
    address = given.text("retrieve")
    if not address:
        return "Ask its postmaster to retrieve %s"
    if not _ADDRESS.match(address):
        raise given.wrong(f"retrieve={address} is no address", "write retrieve=retrieve@this.host")
    return f"To get it, send a mail to {address} with the subject: retrieve %s"


def _grades(given: Attributes) -> Grades:
    """grade=N, bulk_grade=z, urgent_grade=A, grades=10k:C,200k:N (up to so many bytes)."""
    by_size = []
    for part in given.text("grades").split(","):
        if part:
            size, _, letter = part.partition(":")
            by_size.append((given.amount_of("grades", size), letter))
    found = Grades(
        given.text("grade", "N"), tuple(sorted(by_size)), given.text("bulk_grade"), given.text("urgent_grade")
    )
    for letter in (found.plain, found.bulk or "N", found.urgent or "N", *(letter for _, letter in by_size)):
        if not _GRADE.match(letter):
            raise given.wrong(f'"{letter}" is no grade', "grades are 0–9, A–Z, a–z; smaller ones go first")
    return found
