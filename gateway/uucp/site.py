"""Taylor UUCP's configuration for a neighbour: the entries of sys, port, dial, call and passwd, here and over there.

``here(link)`` and ``there(link)`` give each file's lines.  Whoever calls logs in with a name and a password: the
caller's ``call`` file and the other's ``passwd`` have the same.  Both halves run nothing but mail commands for the
other.  ``put`` and ``take_out`` write an entry into a file between two marks, so that it can be replaced and removed,
and leave all else alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = ("sys", "port", "dial", "call", "passwd")
SECRET = frozenset(("call", "passwd"))

COMMANDS = "rmail rsmtp crsmtp gsmtp bsmtp crmail"
COMMAND_PATH = "/usr/local/lib/mailgateway/bin"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_WORD = re.compile(r"[!-~]+\Z")
_LINE = re.compile(r"[ -~]+\Z")


class BadLink(ValueError):
    """It cannot be written down like that; one line."""


@dataclass(slots=True, frozen=True)
class Login:
    name: str
    password: str


@dataclass(slots=True, frozen=True)
class Way:
    """How one site calls the other; none of them: it does not call."""

    address: str = ""
    service: str = "540"
    pipe: str = ""
    """A command that stands for the line, such as ssh HOST uucico -l."""
    device: str = ""
    speed: int = 38400
    phone: str = ""
    time: str = "any"
    timegrades: tuple[tuple[str, str], ...] = ()
    """(grade, times): when there is work of that grade, it is called then, too."""

    @property
    def exists(self) -> bool:
        return bool(self.address or self.pipe or self.device)


@dataclass(slots=True, frozen=True)
class Link:
    """``name``: the neighbour; ``node``: this site.  ``ours`` and ``theirs``: what each says when it calls."""

    name: str
    node: str
    ours: Login
    theirs: Login
    way: Way
    back: Way = Way()
    protocol: str = ""
    """Letters, the best first; "" = what suits the line."""
    command_path: str = COMMAND_PATH
    far_command_path: str = COMMAND_PATH


def check(link: Link) -> None:
    """Raises BadLink for what would become something else in UUCP's files."""
    for what in (link.name, link.node):
        if not _NAME.match(what):
            raise BadLink(f"{what!r} is no name of a UUCP site: letters, digits, dots and dashes")
    if link.name == link.node:
        raise BadLink(f"{link.name} is this site's own name")
    for login in (link.ours, link.theirs):
        for what in (login.name, login.password):
            if not _WORD.match(what) or "#" in what or "\\" in what:
                raise BadLink("a login name or password is one printable word without # and \\")
    if not re.fullmatch("[a-zA-Z]*", link.protocol):
        raise BadLink(f"protocol {link.protocol!r}: give letters such as ti")
    for way in (link.way, link.back):
        for what in (way.address, way.service, way.pipe, way.device, way.phone, way.time):
            if what and (not _LINE.match(what) or "#" in what):
                raise BadLink(f"{what!r} cannot stand in UUCP's files")
        for grade, times in way.timegrades:
            if not re.fullmatch("[0-9A-Za-z]", grade) or not _WORD.match(times) or "#" in times:
                raise BadLink(f"timegrade {grade} {times}: give a letter or digit and times")
    for what in (link.command_path, link.far_command_path):
        if not what.startswith("/") or not _LINE.match(what):
            raise BadLink(f"{what!r} is no path of folders")


def here(link: Link) -> dict[str, str]:
    return _half(link.name, link.ours, link.theirs, link.way, _protocol(link), link.command_path)


def there(link: Link) -> dict[str, str]:
    return _half(link.node, link.theirs, link.ours, link.back, _protocol(link), link.far_command_path)


def _protocol(link: Link) -> str:
    """t believes that no byte is lost, which no serial line promises."""
    return link.protocol or ("ig" if link.way.device or link.back.device else "ti")


def _half(other: str, calls_as: Login, called_as: Login, way: Way, protocol: str, command_path: str) -> dict[str, str]:
    """``calls_as``: what this half says to the other; ``called_as``: what the other says."""
    also = [f"timegrade {grade} {times}" for grade, times in way.timegrades if way.exists]
    system = [
        f"system {other}", "call-login *", "call-password *", f"called-login {called_as.name}",
        f"time {way.time if way.exists else 'never'}", *also,
        'chat "" \\r\\c ogin: \\L word: \\P', "chat-timeout 30", f"protocol {protocol}",
        f"commands {COMMANDS}", f"command-path {command_path}",
    ]
    if way.address:
        system.append(f"address {way.address}")
    if way.phone:
        system.append(f"phone {way.phone}")
    if way.exists:
        system.append(f"port {other}")
    files = {"sys": system, "passwd": [f"{called_as.name} {called_as.password}"]}
    if way.exists:
        files["call"] = [f"{other} {calls_as.name} {calls_as.password}"]
        files["port"] = [f"port {other}", *_port(other, way)]
    if way.phone:
        files["dial"] = [
            f"dialer {other}", 'chat "" ATZ\\r\\d\\c OK\\r ATDT\\T\\r\\c CONNECT', "chat-timeout 90",
            "chat-fail BUSY", "chat-fail NO\\sCARRIER", "complete \\d\\d+++\\d\\dATH\\r\\c",
            "abort \\d\\d+++\\d\\dATH\\r\\c",
        ]
    return {name: "\n".join(lines) + "\n" for name, lines in files.items()}


def _port(other: str, way: Way) -> list[str]:
    if way.pipe:
        return ["type pipe", f"command {way.pipe}"]
    if way.address:
        return ["type tcp", f"service {way.service}"]
    kind = ["type modem", f"dialer {other}"] if way.phone else ["type direct"]
    return [*kind, f"device {way.device}", f"speed {way.speed}"]


# --- files ---------------------------------------------------------------------------------------------------------


def _marks(name: str) -> tuple[str, str]:
    return f"# mailgateway uucp-site {name}: begin\n", f"# mailgateway uucp-site {name}: end\n"


def without(text: str, name: str) -> str:
    """A file without our entry for a neighbour."""
    begin, end = _marks(name)
    before, found, rest = text.partition(begin)
    return before + rest.partition(end)[2] if found and end in rest else text


def put(folder: Path, name: str, files: Mapping[str, str]) -> list[Path]:
    """Write entries for a neighbour, in place of those that are there by our hand; the files that changed.  Raises
    OSError, and BadLink if there is an entry by somebody else's."""
    begin, end = _marks(name)
    wanted = {}
    for file in FILES:
        path = folder / file
        old = path.read_text() if path.exists() else ""
        rest = without(old, name)
        if file == "sys" and re.search(rf"^system[ \t]+{re.escape(name)}[ \t]*$", rest, re.MULTILINE):
            raise BadLink(f"{path} has an entry of its own for {name}: remove it first")
        new = rest
        if file in files:
            new += ("" if not rest or rest.endswith("\n") else "\n") + begin + files[file] + end
        if new != old:
            wanted[path] = new
    for path, text in wanted.items():
        _replace(path, text)
    return list(wanted)


def take_out(folder: Path, name: str) -> list[Path]:
    """Remove our entries for a neighbour; the files that changed."""
    changed = []
    for file in FILES:
        path = folder / file
        old = path.read_text() if path.exists() else ""
        new = without(old, name)
        if new != old:
            _replace(path, new)
            changed.append(path)
    return changed


def _replace(path: Path, text: str) -> None:
    """With the owner and mode that the file had; a new one is its folder owner's, secrets for him and his group."""
    model = path if path.exists() else path.parent
    status = model.stat()
    mode = status.st_mode & 0o777 if path.exists() else 0o640 if path.name in SECRET else 0o644
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        if os.geteuid() == 0:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
