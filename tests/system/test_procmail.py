"""Local mail through a real procmail: as mailbox_command with a user's own recipes, and as a transport.

The users, their homes, /var/mail and the machine's sendmail are the test's own, in a mount namespace of the gateway.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.programs("procmail", package="procmail")]

UID = 54321

RECIPES = """\
MAILDIR=$HOME
LOGFILE=$HOME/log
ARG=$1

:0
* ARG ?? ^^list^^
lists/

:0
* ^Subject: refuse
{
    EXITCODE=77
    HOST
}

:0
* ^Subject: later
{
    EXITCODE=75
    HOST
}

:0
* ^Subject: forward
! ann@far.example

:0
inbox/
"""


@pytest.fixture
def world(make_gateway, make_sink, folder):
    """The example procmail with the user joe, whose home is folder/joe, and a sink for *.example."""
    home, mail = folder / "joe", folder / "mail"
    for path in (home, mail):
        path.mkdir()
        os.chown(path, UID, UID)
    mail.chmod(0o1777)
    (home / ".procmailrc").write_text(RECIPES)
    os.chown(home / ".procmailrc", UID, UID)
    passwd = folder / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + f"joe:x:{UID}:{UID}:Joe:{home}:/bin/sh\n")
    gateway, sink = make_gateway("procmail"), make_sink()
    gateway.append("transport", f"far.example smtp:[127.0.0.1]:{sink.port}\nfiltered.example procmail:\n")
    gateway.replace("master.cf", "/etc/mailgateway/procmailrc", f"{gateway.directory}/procmailrc")
    gateway.set(transport_maps="hash:$config_directory/transport", relay_domains="filtered.example")
    gateway.run("install-links", str(folder / "bin"), check=True)
    binds = [f"mount --bind {passwd} /etc/passwd", f"mount --bind {mail} /var/mail"]
    if Path("/usr/sbin/sendmail").exists():
        binds.append(f"mount --bind {folder}/bin/sendmail $(readlink -f /usr/sbin/sendmail)")
    script = " && ".join([*binds, 'exec "$@"'])
    gateway.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    if subprocess.run([*gateway.prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("mount namespaces are not to be had here")
    gateway.start()
    return gateway, sink, home


def subject(text):
    return f"Subject: {text}\n\nHello.\n"


def test_recipes_decide_where_mail_goes_and_what_becomes_of_it(world):
    gateway, sink, home = world
    gateway.send("joe@localhost", subject("one"), "ann@far.example")
    gateway.send("joe+list@localhost", subject("two"), "ann@far.example")
    gateway.send("joe@localhost", subject("refuse"), "ann@far.example")
    gateway.send("joe@localhost", subject("later"), "ann@far.example")
    gateway.wait_for(r"to=<joe@localhost>, .*status=sent \(delivered to command: /usr/bin/procmail -t -a ")
    gateway.wait_for(r"to=<joe\+list@localhost>, .*status=sent")
    gateway.wait_for(r"to=<joe@localhost>, .*dsn=4\.3\.0, status=deferred \(temporary failure")
    (notice,) = sink.wait(1)
    assert notice.sender == "" and b"permission denied" in notice.data
    for name, wanted in (("inbox", "one"), ("lists", "two")):
        (file,) = (home / name / "new").iterdir()
        assert file.stat().st_uid == UID
        mail = file.read_text()
        assert f"Subject: {wanted}\n" in mail and mail.endswith("\nHello.\n")
        assert "Return-Path: <ann@far.example>" in mail or "From ann@far.example" in mail
    assert len(gateway.queue()) == 1


@pytest.mark.skipif(not Path("/usr/sbin/sendmail").exists(), reason="there is no /usr/sbin/sendmail to put ours upon")
def test_a_forward_comes_back_through_our_sendmail(world):
    gateway, sink, _ = world
    gateway.send("joe@localhost", subject("forward"), "ann@far.example")
    (forwarded,) = sink.wait(1)
    assert forwarded.recipients == ("ann@far.example",)
    assert forwarded.sender.startswith("joe@")
    assert "Subject: forward\n" in forwarded.data.decode()
    gateway.wait_until_empty()


PROGRAMS = {
    "procmail -d nosuchuser": r"dsn=5\.1\.1, status=bounced \(user unknown. Command output: procmail: Unknown user",
    "procmail -m {folder}/nowhere": r"dsn=5\.2\.0, status=bounced \(can't create user output file",
    "procmail -t -m {folder}/nowhere": r"dsn=4\.3\.0, status=deferred \(temporary failure",
    "procmail -m {folder}/here": r"dsn=2\.0\.0, status=sent \(delivered via t3 service",
}


def test_procmail_as_a_transport(world, folder):
    gateway, sink, _ = world
    (folder / "here").write_text(f"MAILDIR={folder}/mail\n:0\nfiltered/\n")
    (folder / "nowhere").write_text(":0\n/nonexistent/folder/mbox\n")
    for number, command in enumerate(PROGRAMS):
        gateway.append("transport", f"t{number}.example t{number}:\n")
        words = f"/usr/bin/{command.format(folder=folder)}"
        gateway.append("master.cf", f"t{number} unix - n n - - pipe flags=F user=nobody argv={words}\n")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    gateway.send([f"x@t{number}.example" for number in range(len(PROGRAMS))], sender="ann@far.example")
    for number, pattern in enumerate(PROGRAMS.values()):
        gateway.wait_for(rf"to=<x@t{number}\.example>, relay=t{number}, .*{pattern}")
    assert len(list((folder / "mail" / "filtered" / "new").iterdir())) == 1
