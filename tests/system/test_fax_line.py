"""A page over a telephone line: two software modems, HylaFAX at both ends, and the gateway before and behind it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.gateway import BIN, CHECKOUT, environment, poll

RIG = CHECKOUT.parent / "shared" / "rigs" / "fax_line.py"

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.skipif(not RIG.exists(), reason="the rig with the software modems is not here"),
    pytest.mark.programs("hfaxd", "faxq", package="hylafax-server"),
    pytest.mark.programs("iaxmodem", package="iaxmodem"),
    pytest.mark.programs("gs", package="ghostscript"),
]

MAIL = "From: Joe <joe@your.domain>\nTo: someone\nSubject: an offer\n\nFrom us to you.\n"


def test_a_mail_is_faxed_and_comes_back_as_a_mail(make_gateway, make_sink, folder):
    line, sink = folder / "line", make_sink()
    rig = subprocess.Popen(
        ["/usr/bin/python3", RIG, line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(),
        start_new_session=True,
    )
    try:
        ready = rig.stdout.readline().decode()
        if not ready.startswith("READY"):
            pytest.skip("the fax line is in use by somebody else")
        gateway = make_gateway("fax-bridge")
        gateway.replace("master.cf", "confirm=always", "confirm=always follow=1s header=yes")
        gateway.append("transport", f"your.domain smtp:[127.0.0.1]:{sink.port}\n")
        (line / "spool" / "etc" / "FaxDispatch").write_text(
            f"{BIN}/mailgateway fax-received -c {gateway.directory} --to office@your.domain "
            '"$FILE" "$DEVICE" "$COMMID" "$MSG"\n'
            "NOTIFY_FAXMASTER=never\n"
        )
        gateway.start()
        gateway.send("200@fax.your.domain", MAIL, "joe@your.domain")
        gateway.wait_for(r"to=<200@fax\.your\.domain>, relay=fax, .*status=sent \(queued for 200 as job 1, 1 page\)")
        _dial(line)
        done = line / "spool" / "doneq" / "q1"
        poll(done.exists, lambda: _state_of(line), 120)
        notice, fax = sorted(sink.wait(2), key=lambda one: one.recipients == ("office@your.domain",))
        text = " ".join(notice.data.decode().split())
        assert "fax to 200, job 1: 1 page arrived, 1 call, answered by line1, duration 0:" in text
        assert "signal rate 14400 bit/s" in text and "Action: delivered" in text and "image/png" in text
        assert fax.message["Subject"] == "Fax from line0, 1 page" and "device=ttyIAX1" in fax.message["Fax-Call"]
        assert fax.message.get_payload()[1].get_payload(decode=True).startswith(b"%PDF-")
    finally:
        os.kill(rig.pid, signal.SIGTERM)
        rig.wait(30)


def _dial(line: Path) -> None:
    """Wait until the job is on its way.  Now and then faxq misses that a modem is ready when both start together;
    it is told once more then."""
    spool = line / "spool"
    for _ in range(6):
        try:
            poll(lambda: not _is_waiting(spool / "sendq" / "q1"), "the call", 10)
            return
        except AssertionError:
            for state in ("busy", "ready"):
                subprocess.run(["faxstate", "-q", spool, "-s", state, "ttyIAX0"], check=True, env=environment())


def _is_waiting(job: Path) -> bool:
    try:
        return "\nstate:5\n" in job.read_text()
    except FileNotFoundError:  # done already
        return False


def _state_of(line: Path) -> str:
    """What the line's programs say of themselves."""
    said = [*line.glob("*.log"), *(line / "spool" / "sendq").glob("q*"), *(line / "spool" / "status").iterdir()]
    said += (path for path in (line / "spool" / "log").iterdir() if path.is_file())
    return "the fax is sent\n" + "\n".join(f"{one}: {one.read_text(errors='replace')[-1500:]}" for one in said)
