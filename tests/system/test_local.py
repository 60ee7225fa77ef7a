"""Local delivery as root: what a user's commands can reach, how they may end, whose rights lists have, the way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.gateway import poll

pytestmark = [pytest.mark.system, pytest.mark.root]

USERS = {"joe": 54321, "mallory": 54322}

PROBE = """\
import json, os, socket, sys
from pathlib import Path

found = {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "environment": dict(os.environ),
         "directory": os.getcwd(), "reached": []}
found["descriptors"] = [n for n in range(3, 1000) if os.path.exists(f"/proc/self/fd/{n}")]

def attempt(what, action):
    try:
        action()
    except (OSError, ValueError, IndexError):
        return
    found["reached"].append(what)

gateway, other, secret = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
for path in (other, secret):
    attempt(f"read {path}", lambda: open(path).read())
    attempt(f"write {path}", lambda: open(path, "a"))
for path in sorted(gateway.rglob("*")):
    if path.is_socket():
        def connect():
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(2)
                line.connect(str(path))
                line.sendall(b"\\0\\0\\0\\x1b" + b'["call",1,"deliver",null]  ')
                if not line.recv(100):
                    raise OSError
        attempt(f"connect {path}", connect)
    elif path.is_file():
        attempt(f"read {path}", lambda: open(path).read())
        attempt(f"write {path}", lambda: open(path, "a"))
    elif path.is_dir() and path.name != "maildrop":  # where everybody may lay down mail
        attempt(f"write in {path}", lambda: (path / "mine").touch())
family = {os.getpid()}
for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
    if pid in family:  # but not who has started it, whose uid is the same
        continue
    for name in ("environ", "mem", "maps"):
        attempt(f"read {name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1)[0])
    attempt(f"list descriptors of {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    status = Path(f"/proc/{pid}/status")
    try:
        uid = int(status.read_text().partition("Uid:")[2].split()[0])
    except OSError:
        continue
    if uid != os.getuid():
        attempt(f"signal {pid}", lambda: os.kill(pid, 0))
attempt("become root", lambda: os.setuid(0))
json.dump(found, open(Path(os.environ["HOME"]) / "found.new", "w"))
os.rename(Path(os.environ["HOME"]) / "found.new", Path(os.environ["HOME"]) / "found")
"""


@pytest.fixture
def world(make_gateway, folder):
    """A stand-alone site with two users, whose homes are in the folder; they and their /var/mail are the test's own."""
    passwd = Path("/etc/passwd").read_text()
    mail = folder / "mail"
    mail.mkdir()
    mail.chmod(0o1777)
    for name, uid in USERS.items():
        (folder / name).mkdir(0o700)
        os.chown(folder / name, uid, uid)
        passwd += f"{name}:x:{uid}:{uid}::{folder}/{name}:/bin/sh\n"
    (folder / "passwd").write_text(passwd)
    gateway = make_gateway("stand-alone")
    gateway.set(
        mydestination="gw.example", myorigin="gw.example", home_mailbox="", mail_spool_directory=str(mail),
        local_recipient_maps="", command_time_limit="3s",
    )
    gateway.prefix = [
        "unshare", "--mount", "--propagation", "private", "sh", "-c",
        f'mount --bind {folder}/passwd /etc/passwd && exec "$@"', "sh",
    ]
    if subprocess.run([*gateway.prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("mount namespaces are not to be had here")
    return gateway


def own(path: Path, user: str, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, USERS[user], USERS[user])
    return path


def test_a_users_command_reaches_nothing_of_others(world, folder):
    probe = own(folder / "mallory" / "probe.py", "mallory", PROBE)
    secret = world.directory / "password"
    secret.write_text("secret")
    secret.chmod(0o600)
    own(folder / "mallory" / ".forward", "mallory",
        f'\\mallory, "|{sys.executable} -I {probe} {world.folder}/spool {folder}/mail/joe {secret}"\n')
    world.start()
    world.send(["joe@gw.example", "mallory@gw.example"])
    world.wait_for(r"to=<mallory@gw\.example>.*status=sent \(delivered to mailbox\)")  # its process waits for more
    found = json.loads(poll(lambda: (folder / "mallory" / "found").exists() and
                            (folder / "mallory" / "found").read_text(), "the probe has ended"))
    uid = USERS["mallory"]
    assert found["reached"] == []
    assert (found["ids"], found["groups"], found["descriptors"]) == ([uid] * 6, [uid], [])
    assert set(found["environment"]) <= {
        "PATH", "TZ", "MAIL_CONFIG", "LANG", "LC_CTYPE", "HOME", "SHELL", "USER", "LOGNAME", "LOCAL", "DOMAIN",
        "RECIPIENT", "SENDER", "ORIGINAL_RECIPIENT", "CLIENT_HOSTNAME", "CLIENT_ADDRESS", "CLIENT_HELO",
        "CLIENT_PROTOCOL"}
    world.wait_until_empty()
    assert (folder / "mail" / "joe").read_text().count("Subject: test") == 1


def test_commands_that_do_not_end_well(world, folder):
    """Bounded in time and memory, and nothing is left of them but what has left their group."""
    for name, line in {
        "joe": '"|trap \'\' TERM INT HUP; sleep 77; sleep 77"',
        "mallory": '"|sleep 66 >/dev/null 2>&1 & echo said; exit 0", "|head -c 1000000000 /dev/zero; exit 75"',
    }.items():
        own(folder / name / ".forward", name, line + "\n")
    world.set(command_time_limit="8s")
    world.start()
    world.send(["joe@gw.example", "mallory@gw.example"])
    world.wait_for(r"to=<mallory@gw\.example>.*status=sent \(delivered to command: sleep 66")
    world.wait_for(r"to=<mallory@gw\.example>.*dsn=4\.3\.0, status=deferred \(temporary failure\. Command output: _{9}")
    world.wait_for(r"to=<joe@gw\.example>.*dsn=5\.3\.0, status=bounced \(Command time limit exceeded: \"trap")
    assert not [words for pid, words in commands(USERS["joe"]) if "77" in words]


def commands(uid: int) -> list[tuple[int, list[str]]]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == uid:
                found.append((int(path.name), (path / "cmdline").read_text().split("\0")))
        except OSError:
            continue
    return found


def test_an_alias_table_of_somebody_acts_with_his_rights(world, folder):
    """As Mailman's, which lies beside the system's own."""
    own(folder / "theirs", "mallory", f'theirs: "|id -u > {folder}/mail/theirs"\n', 0o644)
    world.append("aliases", f'roots: "|id -u > {folder}/mail/roots"\n')
    world.set(alias_maps=f"hash:$config_directory/aliases, hash:{folder}/theirs")
    world.start()
    world.send(["theirs@gw.example", "roots@gw.example"])
    world.wait_until_empty()
    uids = [(folder / "mail" / name).read_text().strip() for name in ("theirs", "roots")]
    assert uids == [str(USERS["mallory"]), "65534"]


def test_a_list_manager_sends_by_sendmail_from_within_a_delivery(world, folder):
    """Majordomo's recipe: the list's name is a wrapper, which sends to the members in the owner's name."""
    world.run("install-links", str(folder / "bin"), check=True)
    wrapper = folder / "wrapper"
    wrapper.write_text(
        f"#!/bin/sh\nsed -e 1,/^Delivered-To/d | {folder}/bin/sendmail -oi -f owner-news@gw.example news-out\n")
    wrapper.chmod(0o755)
    world.append("aliases", f'news: "|{wrapper} resend -l news news-out"\nnews-out: :include:{folder}/members\n'
                            "owner-news: joe\n")
    (folder / "members").write_text("joe, mallory\n")
    world.start()
    world.send("news@gw.example", "Subject: to all\n\nHello.\n")
    for name in USERS:
        world.wait_for(rf"to=<{name}@gw\.example>.*status=sent \(delivered to mailbox\)")
        text = (folder / "mail" / name).read_text()
        assert text.startswith("From owner-news@gw.example ") and "\nSubject: to all\n" in text
    world.wait_until_empty()
