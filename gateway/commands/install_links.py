"""install-links: make the names by which other programs call the mail system.

    mailgateway install-links [-c DIR] [--force] FOLDER

makes sendmail, mailq, newaliases, rmail, rsmtp with its other names, and the post… commands in FOLDER (which is made if
need be): symbolic links to this program; with a configuration directory, small scripts that name it.  A file that is
not ours is left alone, unless --force is given, and the status is 1.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from gateway.commands.main import ALIASES

SUMMARY = "make sendmail, mailq, newaliases, rmail, postqueue … in a folder"

NAMES = (
    "sendmail", "mailq", "newaliases", "rmail", "rsmtp", *ALIASES,
    "postqueue", "postsuper", "postcat", "postmap", "postalias", "postconf",
)  # fmt: skip

MARK = "# made by mailgateway install-links"


def main(arguments: list[str], directory: Path | None) -> int:
    force = "--force" in arguments
    folders = [word for word in arguments if word != "--force"]
    if len(folders) != 1 or folders[0].startswith("-"):
        print("usage: mailgateway install-links [-c DIR] [--force] FOLDER", file=sys.stderr)
        return 64
    folder = Path(folders[0])
    program = own_program()
    folder.mkdir(parents=True, exist_ok=True)
    status = 0
    for name in NAMES:
        path = folder / name
        if os.path.lexists(path) and not force and not is_ours(path, program):
            print(f"install-links: {path} is not ours and stays as it is (--force replaces it)", file=sys.stderr)
            status = 1
            continue
        install(path, program, directory)
    return status


def own_program() -> Path:
    """The console script: that which was called, if it is one, else the one beside the interpreter."""
    called = Path(sys.argv[0])
    if called.name == "mailgateway" and called.exists():
        return called.absolute()
    return Path(sys.executable).parent / "mailgateway"


def is_ours(path: Path, program: Path) -> bool:
    if path.is_symlink():
        return Path(os.readlink(path)) == program or not path.exists()
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(200)
    except OSError:
        return False


def install(path: Path, program: Path, directory: Path | None) -> None:
    """Put one name into place; who calls it meanwhile finds the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if directory is None:
        temporary.symlink_to(program)
    else:
        words = shlex.join([str(program), path.name, "-c", str(directory.absolute())])
        temporary.write_text(f'#!/bin/sh\n{MARK}\nexec {words} "$@"\n')
        temporary.chmod(0o755)
    temporary.replace(path)
