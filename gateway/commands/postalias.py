"""postalias: make, query and change alias files; postalias(1).  As postmap, in the format of aliases(5)."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.postmap import run

SUMMARY = "make, query or change alias tables"


def main(arguments: list[str], directory: Path | None) -> int:
    return run("postalias", arguments, directory, alias=True)
