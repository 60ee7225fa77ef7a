"""The uucp service with real uux, uucico and uuxqt: jobs, batches, and what becomes of them afterwards."""

from __future__ import annotations

import email
import io
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.compression import unpacked
from gateway.uucp.batch import transactions
from tests.system.gateway import BIN, as_user, environment, poll
from tests.system.uucp import Sites
from tests.transports.test_uucp_attachments import BIG, message

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.programs("uux", "uucico", "uuxqt", "uustat", package="uucp"),
]

ATTRIBUTES = "size=10M daily=100M grade=d grades=10k:C,200k:N\n"
UUX = "argv=uux "


@pytest.fixture
def world(make_gateway, make_sink, folder):
    """``world(attributes)``: the gateway beside the site "near", its service now one of the command ``uucp``."""

    def build(attributes="", tcp=False, line=(), user=None, **parameters):
        (folder / "uucp").mkdir()
        sites, sink = Sites(folder / "uucp", tcp=tcp, line=line), make_sink()
        gateway = make_gateway("uucp-gateway", **({"user": user} if user else {}))
        gateway.replace("master.cf", ATTRIBUTES, f"{attributes}\n")
        gateway.replace("master.cf", UUX, f"{UUX}-I {sites.config('near')} ")
        gateway.set(uucp_client_restrictions="")
        gateway.replace("transport", ":uucp-host", ":far")
        gateway.append("transport", f".example smtp:[127.0.0.1]:{sink.port}\n")
        gateway.set(**parameters)
        for command in ("rmail", "rsmtp"):
            sites.program("near", command, f'exec {BIN}/mailgateway {command} -c {gateway.directory} "$@"')
        gateway.start()
        return gateway, sites, sink

    return build


def wait_until_handed_over(gateway, count):
    """So many messages are in UUCP's queue, and none in the gateway's."""
    poll(lambda: [item["queue_name"] for item in gateway.queue()] == ["uucp"] * count, gateway.last_words)


def test_one_word_changed(world):
    gateway, sites, _ = world()
    gateway.send(["U1@Some.Domain", "u2@some.domain"], "Subject: by wire\n\nx\n", "Ann@b.example")
    found = gateway.wait_for(
        r"/uucp\[\d+\]: \w+: to=<U1@Some\.Domain>, relay=uucp, .*status=sent "
        r"\(delivered via uucp service \(queued as (far\.N\w+)\)\)"
    )
    wait_until_handed_over(gateway, 1)
    (job,) = sites.jobs("near")
    assert job.startswith(f"{found[1]} far ")
    sites.call("near", "far")
    sites.execute("far")
    (kept,) = sites.kept("far")
    assert kept.arguments == ["u1@some.domain", "u2@some.domain"]
    assert kept.data.startswith(b"From Ann@b.example  ") and kept.data.endswith(b"\n\nx\n")
    assert b"\nSubject: by wire\n" in kept.data


SENDERS = [
    "", "Ann@B.example", '"sp ace"@b.example', "hub!leaf!ann", "mailer-daemon@b.example", '"a\\"b"@b.example',
    "ann@[127.0.0.1]",
]


def test_the_same_as_the_classic_recipe(world):
    """Jobs and data, byte for byte: one message goes both ways."""
    gateway, sites, _ = world()
    gateway.append("master.cf", "classic unix - n n - - pipe\n  flags=Fqhu user=uucp argv=uux")
    gateway.append("master.cf", f" -I {sites.config('near')} -r -z -a$sender - $nexthop!rmail ($recipient)\n")
    gateway.append("transport", "classic.domain classic:far\n")
    gateway.set(relay_domains="some.domain classic.domain")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    text = "Subject: x\n\nFrom a line\n>From b\n.dot\nGr\xfc\xdfe\n".encode("latin-1")
    for sender in SENDERS:
        for to in ("User@", "u+x@", '"a|b"@', '"a;b$(id)"@'):
            addresses = [f"{to}{kind}.domain" for kind in ("some", "classic")]
            gateway.send(addresses, text, sender, options=["BODY=8BITMIME"])
    folder = sites.folder / "near" / "spool" / "far"
    count = 4 * len(SENDERS)
    poll(lambda: len(sites.jobs("near")) == 2 * count, gateway.last_words)
    found = {"some": [], "classic": []}
    for path in (folder / "C.").iterdir():
        job = path.read_text().split(" ")
        data = (folder / "D." / job[1]).read_bytes()
        first, _, rest = data.partition(b"\n")
        (kind,) = [kind for kind in found if f"@{kind}.domain" in job[-1]]
        line = first.decode()[: -len("24 12:00:00 2026")].rstrip()
        found[kind].append((*job[3:5], *job[6:-1], job[-1].replace(kind, ""), line, rest.replace(kind.encode(), b"")))
    assert len(found["some"]) == count and sorted(found["some"]) == sorted(found["classic"])


def test_a_batch_over_there(world, folder):
    gateway, sites, _ = world("command=crsmtp batch_wait=1s")
    sites.program("far", "crsmtp", f"/bin/cat > {sites.folder}/far/arrived/batch")
    for number in range(4):
        gateway.send(f"u{number}@some.domain", f"Subject: letter {number}\n\n.x\n", "ann@b.example")
    wait_until_handed_over(gateway, 4)
    assert len(sites.jobs("near")) == 1
    sites.call("near", "far")
    sites.execute("far")
    batch = unpacked(io.BytesIO((sites.folder / "far" / "arrived" / "batch").read_bytes()))
    letters = {
        one.recipients[0][0]: (one.sender, b"".join(one.content)) for one in transactions(batch, print)
    }
    assert sorted(letters) == [f"u{number}@some.domain" for number in range(4)]
    sender, content = letters["u2@some.domain"]
    assert sender == "ann@b.example" and content.endswith(b"\n\n.x\n")
    assert b"\nSubject: letter 2\n" in content


# --- what becomes of jobs -----------------------------------------------------------------------------------------


def send_and_ask_for_success(gateway):
    with gateway.client() as client:
        text = b"Subject: x\r\n\r\nx\r\n"
        client.sendmail("ann@b.example", ["u1@some.domain"], text, rcpt_options=["NOTIFY=SUCCESS"])


def test_a_job_is_listed_until_it_has_left_and_success_is_told(world):
    gateway, sites, sink = world("follow=1s")
    with (sites.folder / "near" / "sys").open("a") as file:
        file.write("alias far-2.b_c\n")
    gateway.replace("transport", "some.domain     uucp:far", "some.domain     uucp:far-2.b_c")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    send_and_ask_for_success(gateway)
    (relayed,) = sink.wait(1)
    assert "Action: relayed" in relayed.data.decode()
    job = gateway.wait_for(r"queued as (far\.N\w+)")[1]
    (item,) = gateway.queue()
    assert item["queue_name"] == "uucp" and item["sender"] == "ann@b.example"
    (recipient,) = item["recipients"]
    assert recipient["address"] == "u1@some.domain"
    reason = recipient["delay_reason"]
    assert "waits for UUCP neighbour far-2.b_c since 20" in reason and job in reason
    listed = gateway.run("mailq").stdout
    assert item["queue_id"] in listed and "waits for UUCP neighbour far-2.b_c" in listed
    told = gateway.run("explain", "u1@some.domain").stdout
    assert "-gN - 'far-2.b_c!rmail' '(u1@some.domain)'" in told and "1 messages" in told
    sites.call("near", "far")
    gateway.wait_for(rf"{item['queue_id']}: job {job} was sent to far-2.b_c at 20")
    assert gateway.queue() == []
    sent = " ".join(sink.wait(2)[1].data.decode().split())
    assert "Action: relayed" in sent and "was sent to far-2.b_c at 20" in sent


def test_a_message_is_deleted_from_uucps_queue(world):
    gateway, sites, _ = world("follow=1s")
    for number in (1, 2):
        gateway.send(f"u{number}@some.domain", "Subject: x\n\nx\n", "ann@b.example")
        gateway.wait_for(r"queued as far\.N\w+")
    first, second = gateway.queue()
    done = gateway.run("postsuper", "-d", first["queue_id"])
    assert done.returncode == 0 and "Deleted: 1 message" in done.stderr
    assert [item["queue_id"] for item in gateway.queue()] == [second["queue_id"]]
    assert len(sites.jobs("near")) == 1
    told = json.loads(gateway.run("status", "-j").stdout)["jobs"]["uucp"]["far"]
    assert told["messages"] == 1 and told["bytes"] == second["message_size"]
    assert "uucp: 1 messages," in gateway.run("status").stdout
    kept = gateway.run("postsuper", "-d", "ALL", "deferred")
    assert "Deleted: 0 messages" in kept.stderr and len(sites.jobs("near")) == 1
    done = gateway.run("postsuper", "-d", "ALL")
    assert "Deleted: 1 message" in done.stderr and sites.jobs("near") == []
    assert gateway.run("mailq").stdout == "Mail queue is empty\n"


def test_a_job_that_grew_old_or_was_removed_comes_back(world):
    gateway, sites, sink = world("follow=1s")
    gateway.send("u1@some.domain", "Subject: removed\n\nbody\n", "ann@b.example")
    job = gateway.wait_for(r"queued as (far\.N\w+)")[1]
    sites._run(["uustat", "-I", sites.config("near"), "-k", job])
    (notice,) = sink.wait(1)
    assert notice.sender == "" and notice.recipients == ("ann@b.example",)
    text = notice.data.decode()
    assert f"job {job} for far was removed from UUCP's" in text.replace("\n    ", " ") and "\n\nbody\n" in text
    gateway.stop()
    gateway.replace("master.cf", "follow=1s", "follow=1s lifetime=3s")
    gateway.start()
    gateway.send("u2@some.domain", "Subject: old\n\nbody\n", "ann@b.example")
    notice = sink.wait(2)[1].data.decode()
    assert "Status: 5.4.7" in notice and "taken back" in notice
    assert sites.jobs("near") == [] and gateway.queue() == []


HOLD = """\
#!/bin/sh
stop() { if [ -e HOLD/$1 ]; then touch HOLD/at-$1; while [ -e HOLD/$1 ]; do sleep 0.05; done; fi; }
stop before; /usr/bin/uux "$@"; status=$?; stop after
exit $status
"""


def test_a_crash_before_and_after_uux_loses_nothing(world, folder):
    gateway, sites, sink = world("follow=1s")
    hold = folder / "hold"
    hold.mkdir()
    (hold / "uux").write_text(HOLD.replace("HOLD", str(hold)))
    (hold / "uustat").symlink_to("/usr/bin/uustat")
    for path in (hold, hold / "uux"):
        path.chmod(0o755)
        shutil.chown(path, "uucp", "uucp")
    gateway.replace("master.cf", UUX, f"argv={hold}/uux ")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")

    def killed(stage):
        (hold / stage).touch()
        gateway.send(f"{stage}@some.domain", "Subject: x\n\n" + ("y" * 70 + "\n") * 5000, "ann@b.example")
        poll((hold / f"at-{stage}").exists, gateway.last_words)
        gateway.kill()
        (hold / stage).unlink()

    killed("before")
    gateway.start()
    send_and_ask_for_success(gateway)
    wait_until_handed_over(gateway, 2)
    killed("after")
    jobs = re.findall(r"rmail (\w+)@some.domain \(sending (\d+)", "\n".join(sites.jobs("near")))
    # What was being handed over when the gateway was killed may come twice; no job is cut off.
    assert {name for name, _ in jobs} == {"before", "u1", "after"}
    assert all(int(size) > 355_000 for name, size in jobs if name != "u1")
    sites.call("near", "far")
    gateway.start()
    gateway.wait_for("job .* was sent to far")
    wait_until_handed_over(gateway, 1)
    assert [re.findall(r"rmail (\w+)@", job) for job in sites.jobs("near")] == [["after"]]
    # Notices, too, may come a second time.
    poll(lambda: any("was sent to far" in " ".join(one.data.decode().split()) for one in sink.received), "no notice")


def test_all_in_one_process_and_over_a_reload(world):
    gateway, sites, sink = world("follow=1s", user="uucp")
    send_and_ask_for_success(gateway)
    wait_until_handed_over(gateway, 1)
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    assert len(gateway.queue()) == 1
    sites.call("near", "far")
    gateway.wait_for(r"job far\.N\w+ was sent to far")
    assert gateway.queue() == [] and len(sink.wait(2)) == 2


def test_limits_are_told_in_the_dialogue(world):
    gateway, sites, _ = world(
        "follow=1s size=20000 daily=30k", smtpd_recipient_restrictions="reject_link_limits"
    )
    gateway.send("u1@some.domain", "Subject: x\n\n" + "x" * 70 + "\n", "ann@b.example")
    wait_until_handed_over(gateway, 1)
    with gateway.client() as client:
        client.ehlo()
        client.docmd("MAIL FROM:<ann@b.example> SIZE=25000")
        code, text = client.docmd("RCPT TO:<u1@some.domain>")
        assert (code, text.decode()) == (
            552, "5.3.4 <u1@some.domain>: Recipient address rejected: message size 25000 exceeds the limit of the link"
            " to far: 20000",
        )
        client.docmd("RSET")
        gateway.send("u1@some.domain", "Subject: x\n\n" + ("x" * 70 + "\n") * 260, "ann@b.example")
        wait_until_handed_over(gateway, 2)
        client.docmd("MAIL FROM:<ann@b.example> SIZE=15000")
        code, text = client.docmd("RCPT TO:<u1@some.domain>")
        assert code == 452 and b"4.4.5" in text and b"more bytes today" in text
    gateway.send("u1@some.domain", "Subject: x\n\n" + ("x" * 70 + "\n") * 260, "ann@b.example")
    gateway.wait_for(r"dsn=4\.4\.5, status=deferred \(the link to far has used up the 30000 bytes of today\)")


def test_an_attachment_that_stays_and_is_retrieved(world):
    gateway, sites, _ = world("attachments=2k batch_size=8k follow=1s")
    gateway.send("u1@some.domain", message(BIG).as_bytes(), "ann@b.example")
    wait_until_handed_over(gateway, 1)
    sites.call("near", "far")
    sites.execute("far")
    (kept,) = sites.kept("far")
    token = re.search(rb"\n Token: (\w+\.\d+)\n", kept.data)[1].decode()
    assert len(kept.data) < 3000 and b"Name: file 0.pdf" in kept.data
    command = [BIN / "mailgateway", "uucp-retrieve", "-c", gateway.directory, token]
    done = subprocess.run(command, capture_output=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, BIG, b"")
    gateway.wait_for("was sent to far")

    (address,) = re.findall(rb"send a mail to (\S+) with the subject", kept.data)
    for sender in ("u1", "eve"):
        letter = f"From {sender} Thu Nov 24 12:00:00 2026 remote from far\nSubject: retrieve {token}\n\n.\n"
        sites.queue("far", letter.encode(), "-r", "-n", "-z", "-", "near!rmail", f"({address.decode()})")
    sites.call("far", "near")
    sites.execute("near")
    gateway.wait_for(rf"uucp-retrieve\[\d+\]: \w+: {token} for <u1@some.domain>: 2 messages")
    gateway.wait_for(rf"relay=retrieve, .*status=bounced \(nothing is kept for you under {token}\)")
    poll(lambda: len(gateway.queue()) == len(sites.jobs("near")) == 2, gateway.last_words)
    sites.call("near", "far")
    sites.execute("far")
    mails = [email.message_from_bytes(one.data) for one in sites.kept("far") if b"piece" in one.data]
    pieces = {one.get_filename(): one.get_payload(decode=True) for one in mails}
    assert sorted(pieces) == [f"file_0.pdf.{number}" for number in (1, 2)]
    assert b"".join(pieces[name] for name in sorted(pieces)) == BIG


def test_a_call_after_queueing(world):
    gateway, sites, _ = world("follow=1s call=yes uucico=/usr/lib/uucp/uucico")
    gateway.send("u1@some.domain", "Subject: x\n\nx\n", "ann@b.example")
    gateway.wait_for(r"job far\.N\w+ was sent to far")


# --- a line that drops --------------------------------------------------------------------------------------------


def set_up_by_command(sites, *way):
    """The sites' own entries go, and those that uucp-site writes come."""
    near, far = sites.folder / "near", sites.folder / "far"
    for home in (near, far):
        for file in ("sys", "port", "call", "passwd"):
            (home / file).write_text("")
    command = [
        BIN / "mailgateway", "uucp-site", "add", "far", "--write", near, "--write-far", far, "--command-path",
        f"{near}/bin", "--far-command-path", f"{far}/bin", *way,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


@pytest.fixture
def modem(folder):
    """``modem(sites)``: a line with a modem at its end, whom far answers; the device."""
    started = []

    def begin(sites):
        program, device = folder / "modem.py", sites.folder / "modem"
        shutil.copy(Path(__file__).with_name("modem.py"), program)
        command = ["/usr/bin/python3", program, device, sites.folder / "said", *sites.answer_command("far").split()]
        started.append(subprocess.Popen(as_user("uucp", command), cwd="/", env=environment()))
        poll(device.exists, "no modem")
        return device

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_a_modem_dials(folder, modem):
    (folder / "uucp").mkdir()
    sites = Sites(folder / "uucp")
    device = modem(sites)
    for number in range(3):
        sites.queue("near", f"From a b\n\n{number}\n".encode(), "-r", "-", "far!rmail", "(u@b)")
    set_up_by_command(sites, "--device", device, "--phone", "0")
    dial = sites.folder / "near" / "dial"
    quick = dial.read_text().replace("\\d", "")  # a real modem wants these pauses
    dial.write_text(quick)
    assert sites.try_call("near", "far") == 1 and "BUSY" in sites.logs() and len(sites.jobs("near")) == 3
    set_up_by_command(sites, "--device", device, "--phone", "0123456", "--speed", "9600")
    dial.write_text(quick)
    sites.call("near", "far")
    sites.execute("far")
    assert len(sites.kept("far")) == 3 and "(protocol 'i' " in (sites.folder / "near" / "Log").read_text()
    said = (sites.folder / "said").read_text().split("\n")
    assert "ATDT0" in said and "ATDT0123456" in said


@pytest.mark.parametrize(
    "tcp, attributes", [(False, ""), (True, "command=gsmtp batch_size=20k")], ids=["pipe-rmail", "tcp-gsmtp"]
)
def test_a_line_that_drops_loses_nothing_and_doubles_nothing(world, folder, tcp, attributes):
    shutil.copy(Path(__file__).with_name("line.py"), folder / "line.py")
    (folder / "counted").mkdir()
    shutil.chown(folder / "counted", "uucp", "uucp")
    line = ["/usr/bin/python3", f"{folder}/line.py", f"{folder}/counted", "0", "15000", "4"]
    gateway, sites, _ = world(f"follow=1s {attributes}", tcp=tcp, line=line)
    way = ["--address", "127.0.0.1", "--service", str(sites.port("far"))] if tcp \
        else ["--pipe", sites.answer_command("far")]
    set_up_by_command(sites, "--protocol", "t", *way)
    kept = f"to=$(/usr/bin/mktemp {sites.folder}/far/arrived/XXXXXX)\n/bin/cat > $to"
    for command in ("rmail", "gsmtp"):
        sites.program("far", command, kept)
    noise = random.Random(1)
    for number in range(30):
        text = noise.randbytes(1500).hex()
        lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
        gateway.send(f"u{number}@some.domain", f"Subject: letter {number}!\n\n{lines}\n", "ann@b.example")
    wait_until_handed_over(gateway, 30)
    with sites.answering():
        statuses = [sites.try_call("near", "far")]
        while sites.jobs("near") and len(statuses) < 30:
            statuses.append(sites.try_call("near", "far"))
        sites.execute("far")
    assert sites.jobs("near") == [] and statuses.count(1) >= 4
    arrived = [unpacked(path.open("rb")).read() for path in (sites.folder / "far" / "arrived").iterdir()]
    numbers = re.findall(rb"Subject: letter (\d+)!", b"".join(arrived))
    assert sorted(map(int, numbers)) == list(range(30))
    poll(lambda: gateway.queue() == [], gateway.last_words)
    assert len(re.findall(r"was sent to far", gateway.log)) == 30
