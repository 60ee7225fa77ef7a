"""Whose rights the gateway's processes have, and the directories that they need.

The network-facing roles start as root, read what only root may read, and become ``mail_owner`` for good.  Where the
gateway is not started by root, everything belongs to who started it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class AccountError(Exception):
    """An account or a directory is missing or has the wrong owner; one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


def mail_owner(name: str) -> Account:
    """The account that the queue belongs to.  Raises AccountError."""
    if os.geteuid() != 0:
        return Account(name, os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise AccountError(
            f"mail_owner: there is no account {name}: make one with "
            f"'adduser --system --group --no-create-home {name}', or name another in main.cf"
        ) from None
    if entry.pw_uid == 0:
        raise AccountError("mail_owner: must not be root: name an account that owns nothing else")
    return Account(name, entry.pw_uid, entry.pw_gid)


def become(account: Account) -> None:
    """Give up root's rights for good, groups included, and make sure of it.  Nothing to do if we are not root."""
    if os.geteuid() != 0:
        return
    os.setgroups([account.gid])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3 or os.getgroups() != [account.gid]:
        raise AccountError(f"could not become {account.name}")


# Below queue_directory: name, mode.  maildrop: anybody may leave a file there, only its owner may look; uucp,
# fax: records of jobs that wait in another program's queue.
QUEUE_FOLDERS = {"public": 0o755, "private": 0o700, "maildrop": 0o1733, "uucp": 0o700, "fax": 0o700}


def prepare_directories(queue: Path, data: Path, spool_folders: Iterable[str], owner: Account) -> None:
    """Make what is missing, and give it the owner and mode that it must have.  The queue directory itself stays
    root's, so that nobody can put another folder in its place.  Raises AccountError for what cannot be mended."""
    wanted = {queue: 0o755, data: 0o700}
    wanted |= {queue / name: 0o700 for name in spool_folders}
    wanted |= {queue / name: mode for name, mode in QUEUE_FOLDERS.items()}
    for path, mode in wanted.items():
        try:
            if not path.is_dir():
                path.mkdir(parents=True)
                path.chmod(mode)
            if path not in (queue, data):
                path.chmod(mode)
            if os.geteuid() == 0 and path != queue and path.stat().st_uid != owner.uid:
                os.chown(path, owner.uid, owner.gid)
        except OSError as error:
            raise AccountError(f"{path}: {error.strerror}: make it, owned by {owner.name}") from None
