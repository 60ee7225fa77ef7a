"""passwd: keep the file of logins of smtpd_sasl_type = file.

    mailgateway passwd [-f FILE] [--plain] USER      set the password of a login, or add it
    mailgateway passwd [-f FILE] --delete USER
    mailgateway passwd [-f FILE] --list

The password is asked for twice at a terminal; otherwise it is the first line of standard input.  FILE is that of
smtpd_sasl_path.  What is stored are the keys of SCRAM-SHA-256, or with --plain the password itself, for CRAM-MD5.  A
running gateway takes the new file by itself.  Exit status 0, 1 when there is no such login, 64 and more for errors.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from gateway.commands.postmap import settings_for
from gateway.config import Settings
from gateway.privileges import mail_owner
from gateway.smtpd.sasl_passwords import PasswordsError, line_for, parse

SUMMARY = "keep the file of logins and their passwords"
EX_USAGE, EX_DATAERR = 64, 65


def main(arguments: list[str], directory: Path | None) -> int:
    parser = ArgumentParser(prog="mailgateway passwd", description=SUMMARY)
    parser.add_argument("-c", dest="directory", type=Path, default=directory, metavar="DIRECTORY")
    parser.add_argument("-f", dest="file", type=Path, metavar="FILE")
    parser.add_argument("--plain", action="store_true", help="store the password itself, which CRAM-MD5 needs")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--delete", metavar="USER")
    what.add_argument("--list", action="store_true")
    what.add_argument("user", nargs="?", metavar="USER")
    asked = parser.parse_args(arguments)
    settings = settings_for(asked.directory)
    file = asked.file or _configured(settings)
    if file is None:
        return _fail("no file: give one with -f, or set smtpd_sasl_type = file and smtpd_sasl_path", EX_USAGE)
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    try:
        known = parse(lines, str(file))
    except PasswordsError as problem:
        return _fail(str(problem), EX_DATAERR)
    if asked.list:
        print("".join(f"{name}\n" for name in known), end="")
        return 0
    user = asked.delete or asked.user
    kept = [line for line in lines if not line.startswith(f"{user}:")]
    if asked.delete:
        if user not in known:
            return _fail(f"{file} has no login {user}", 1)
    else:
        try:
            kept.append(line_for(user, _password(), plain=asked.plain))
        except ValueError as problem:
            return _fail(str(problem), EX_DATAERR)
    _replace(file, kept, settings)
    return 0


def _fail(text: str, status: int) -> int:
    print(f"passwd: fatal: {text}", file=sys.stderr)
    return status


def _configured(settings: Settings) -> Path | None:
    path = settings.text("smtpd_sasl_path")
    if settings.text("smtpd_sasl_type").strip().lower() != "file" or not path:
        return None
    return (settings.directory or Path.cwd()) / path


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise ValueError("the two are not the same")
    return first


def _replace(file: Path, lines: list[str], settings: Settings) -> None:
    """Readers see the old file or the new one.  It is for the gateway's user alone."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            out.flush()
            if file.exists():
                status = file.stat()
                os.fchmod(descriptor, status.st_mode & 0o777)
                if os.geteuid() == 0:
                    os.fchown(descriptor, status.st_uid, status.st_gid)
            elif os.geteuid() == 0:
                owner = mail_owner(settings.text("mail_owner"))
                os.fchown(descriptor, owner.uid, owner.gid)
            os.fsync(descriptor)
        os.rename(new, file)
    except BaseException:
        os.unlink(new)
        raise
