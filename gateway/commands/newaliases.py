"""newaliases: make the indexes of the alias files that alias_database names; newaliases(1).

What is wrong in the files is reported, and when the command is done a gateway that runs has them.  Exit status 0, 1
when a file cannot be read or an index not be written, or 75 for a command line with anything but options.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.commands import postmap, taking_up
from gateway.commands.main import EX_TEMPFAIL
from gateway.commands.table_changes import Fatal, build
from gateway.tables.base import absolute
from gateway.tables.indexed import INDEXED_TYPES

SUMMARY = "make the indexes of the alias files that alias_database names"


def main(arguments: list[str], directory: Path | None) -> int:
    arguments = [word for word in arguments if not word.startswith("-")]
    if arguments:
        print("newaliases: fatal: alias initialization mode requires no recipient", file=sys.stderr)
        return EX_TEMPFAIL
    settings = postmap.settings_for(directory)
    change = postmap.Request("postalias", alias=True).change(settings)
    paths: list[Path] = []
    for word in settings.words("alias_database"):
        type, colon, name = word.partition(":")
        if not colon:
            type, name = settings.text("default_database_type"), word
        try:
            place = absolute(name, settings) if type in INDEXED_TYPES else name
            paths.append(build(change, f"{type}:{place}"))
        except Fatal as problem:
            print(f"postalias: fatal: {problem}", file=sys.stderr)
            return 1
    taking_up.wait(paths, settings)
    return 0
