"""uucp-site: the configuration of Taylor UUCP for a neighbour, for this site and for that one.

    mailgateway uucp-site add NAME --address HOST                    we call over TCP
    mailgateway uucp-site add NAME --pipe "/usr/bin/ssh host uucico -l"
    mailgateway uucp-site add NAME --device ttyS0 --phone 0123456    a modem; without --phone a direct line
    mailgateway uucp-site add NAME                                   only NAME calls
    mailgateway uucp-site remove NAME --write DIR

Prints what to add to sys, port, dial, call and passwd on both sides.  With --write DIR this side's half is written
there (/etc/uucp), with --write-far DIR the other one's, to be carried there.  Passwords are made up unless given in
files (--password-file, --far-password-file).  Entries that were written before are replaced; others stay.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.uucp.site import COMMAND_PATH, SECRET, BadLink, Link, Login, Way, check, here, put, take_out, there
from transports.uucp.taylor import Taylor

SUMMARY = "set up a UUCP neighbour: Taylor UUCP's files for both sides"

EX_USAGE, EX_DATAERR, EX_NOPERM = 64, 65, 77


def main(arguments: list[str], directory: Path | None) -> int:
    parser = _parser()
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:
        return EX_USAGE if end.code else 0
    try:
        if given.action == "remove":
            return _remove(given)
        return _add(given)
    except BadLink as error:
        print(f"uucp-site: fatal: {error}", file=sys.stderr)
        return EX_DATAERR
    except PermissionError as error:
        print(f"uucp-site: fatal: {error}", file=sys.stderr)
        return EX_NOPERM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mailgateway uucp-site", description=SUMMARY)
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add")
    remove = actions.add_parser("remove")
    for each in (add, remove):
        each.add_argument("name")
        each.add_argument("--write", type=Path, metavar="DIR")
        each.add_argument("--write-far", type=Path, metavar="DIR")
        each.add_argument("--node", default="", help="this site's name; else that of --write's config, or the host's")
    for prefix, what in (("", "how we call"), ("far-", "how NAME calls us")):
        group = add.add_argument_group(what)
        group.add_argument(f"--{prefix}address", default="", metavar="HOST")
        group.add_argument(f"--{prefix}service", default="540", metavar="PORT")
        group.add_argument(f"--{prefix}pipe", default="", metavar="COMMAND")
        group.add_argument(f"--{prefix}device", default="")
        group.add_argument(f"--{prefix}speed", type=int, default=38400)
        group.add_argument(f"--{prefix}phone", default="")
        group.add_argument(f"--{prefix}time", default="any", help="when, as in sys: any, Wk0700-1800, Any,Night …")
        group.add_argument(
            f"--{prefix}timegrade", nargs=2, action="append", default=[], metavar=("GRADE", "TIMES"),
            help="when to call, too, if there is work of that grade: C Any",
        )
        group.add_argument(f"--{prefix}login", default="")
        group.add_argument(f"--{prefix}password-file", type=Path)
        group.add_argument(f"--{prefix}command-path", default=COMMAND_PATH, metavar="FOLDERS")
    add.add_argument("--protocol", default="", help="letters in order of preference (ti; ig for a device)")
    return parser


def _add(given: argparse.Namespace) -> int:
    node = given.node or _node(given.write)
    link = Link(
        given.name, node,
        Login(given.login or node, _password(given.password_file)),
        Login(given.far_login or given.name, _password(given.far_password_file)),
        _way(given, ""), _way(given, "far_"), given.protocol, given.command_path, given.far_command_path,
    )
    check(link)
    for where, folder, name, files in (
        (f"here ({node})", given.write, link.name, here(link)),
        (f"there ({link.name})", given.write_far, node, there(link)),
    ):
        if folder is None:
            _show(where, files)
        else:
            for path in put(folder, name, files):
                print(f"written: {path}")
    print(f"# Mail for it, in the table of transport_maps:\n# some.domain  uucp:{link.name}")
    return 0


def _remove(given: argparse.Namespace) -> int:
    if given.write is None and given.write_far is None:
        raise BadLink("say with --write DIR where its entries are")
    changed = take_out(given.write, given.name) if given.write is not None else []
    if given.write_far is not None:
        changed += take_out(given.write_far, given.node or _node(given.write))
    for path in changed:
        print(f"written: {path}")
    if not changed:
        raise BadLink(f"there are no entries for {given.name} that this command has written")
    return 0


def _way(given: argparse.Namespace, prefix: str) -> Way:
    facts = {name: getattr(given, prefix + name) for name in Way.__dataclass_fields__ if name != "timegrades"}
    if sum(bool(facts[name]) for name in ("address", "pipe", "device")) > 1:
        raise BadLink("a line is one of address, pipe and device")
    if facts["phone"] and not facts["device"]:
        raise BadLink("a phone number wants a device")
    return Way(**facts, timegrades=tuple(map(tuple, getattr(given, prefix + "timegrade"))))


def _node(folder: Path | None) -> str:
    return Taylor.read(str(folder / "config") if folder is not None else "").node


def _password(path: Path | None) -> str:
    return path.read_text().strip() if path is not None else secrets.token_hex(12)


def _show(where: str, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        private = "  (readable by uucp alone)" if name in SECRET else ""
        print(f"# {where}: {name}{private}\n{text}")
