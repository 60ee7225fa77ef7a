"""newaliases: check the files that alias_database names; newaliases(1).

Aliases take effect a moment after their file is saved, so there is nothing to be rebuilt: what is wrong in the files is
reported, as Postfix's command does, and when the command is done a gateway that runs has them.  Exit status 0, or 1
when a file cannot be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.commands import postmap, taking_up
from gateway.tables.base import absolute
from gateway.tables.indexed import INDEXED_TYPES

SUMMARY = "check the alias files that alias_database names"


def main(arguments: list[str], directory: Path | None) -> int:
    arguments = [word for word in arguments if not word.startswith("-")]
    if arguments:
        print("newaliases: fatal: usage: newaliases", file=sys.stderr)
        return 1
    settings = postmap.settings_for(directory)
    request = postmap.Request("postalias", alias=True)
    paths: list[Path] = []
    for word in settings.words("alias_database"):
        type, colon, name = word.partition(":")
        if not colon:
            type, name = settings.text("default_database_type"), word
        try:
            place = absolute(name, settings) if type in INDEXED_TYPES else name
            paths.append(postmap.build(request, f"{type}:{place}", settings))
        except postmap.Fatal as problem:
            print(f"postalias: fatal: {problem}", file=sys.stderr)
            return 1
    taking_up.wait(paths, settings)
    return 0
