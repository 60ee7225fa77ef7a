"""Mail to a UUCP neighbour and back: real uux, uucico and uuxqt between two sites, the example uucp-classic between."""

from __future__ import annotations

import re

import pytest

from gateway.compression import packed
from tests.system.gateway import BIN, poll
from tests.system.uucp import Sites

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.programs("uux", "uucico", "uuxqt", "uustat", package="uucp"),
]

UUX = "argv=uux "


@pytest.fixture
def world(make_gateway, make_sink, folder):
    """``world(tcp=…)``: the gateway beside the site "near", and a sink to which all mail for *.example goes."""

    def build(tcp=False, **parameters):
        (folder / "uucp").mkdir()
        sites, sink = Sites(folder / "uucp", tcp=tcp), make_sink()
        gateway = make_gateway("uucp-classic")
        gateway.replace("master.cf", UUX, f"argv=uux -I {sites.config('near')} ")
        gateway.replace("transport", "uucp:uucp-host", "uucp:far")
        gateway.append("transport", f".example smtp:[127.0.0.1]:{sink.port}\n")
        gateway.set(**parameters)
        for command in ("rmail", "rsmtp", "crsmtp", "crmail"):
            sites.program("near", command, f'exec {BIN}/mailgateway {command} -c {gateway.directory} "$@"')
        gateway.start()
        return gateway, sites, sink

    return build


@pytest.mark.parametrize("tcp", [False, True], ids=["pipe", "tcp"])
def test_a_message_to_the_far_site_and_the_answer(world, tcp):
    gateway, sites, sink = world(tcp)
    body = "From here on it is text.\n..two dots\n.\nGr\xfc\xdfe\n".encode("latin-1")
    head = b"From: Ann@b.example\nTo: u1@some.domain\nSubject: by wire\nMessage-ID: <1@b.example>\nDate: x\n\n"
    gateway.send(["U1@Some.Domain", "u2@sub.some.domain"], head + body, "Ann@b.example", options=["BODY=8BITMIME"])
    gateway.wait_for(r"to=<U1@Some\.Domain>, relay=uucp, .*status=sent \(delivered via uucp service\)")
    gateway.wait_until_empty()
    with sites.answering():
        sites.call("near", "far")
        sites.execute("far")
        kept = sites.kept("far")
        arguments = sorted(argument for one in kept for argument in one.arguments)
        assert arguments == ["u1@some.domain", "u2@sub.some.domain"]
        for one in kept:
            assert one.data.startswith(b"From Ann@b.example  ")
            assert one.data.endswith(b"\n\n" + body)
            assert head[: head.index(b"Date:")] in one.data

        answer = b"From: u1@some.domain\nTo: ann@b.example\nSubject: Re: by wire\n\nThe answer.\n"
        sites.queue("far", b"From u1@some.domain Thu Nov 24 12:00:00 2026 remote from far\n" + answer,
                    "-r", "-n", "-z", "-au1@some.domain", "-", "near!rmail", "(ann@b.example)")
        sites.call("far", "near")
        sites.execute("near")
    (received,) = sink.wait(1)
    assert (received.sender, received.recipients) == ("u1@some.domain", ("ann@b.example",))
    assert received.message["Subject"] == "Re: by wire"
    assert received.data.endswith(b"\n\nThe answer.\n")
    assert "remote from" not in received.data.decode()


HOSTILE = {
    '"sp ace"@some.domain': "white space",
    '"pa(ren"@some.domain': "unbalanced parentheses",
    "-dash@some.domain": "begins with a dash",
}


def test_hostile_recipients_bounce_and_never_reach_uux(world):
    gateway, sites, sink = world(allow_min_user="yes")
    with gateway.client() as client:
        client.docmd("MAIL FROM:<ann@b.example>")
        for address in ('"ta\tb"@some.domain', '"e\x1bsc"@some.domain'):
            assert client.docmd(f"RCPT TO:<{address}>")[0] == 501
    gateway.send(list(HOSTILE), "Subject: hostile\n\nx\n", "ann@b.example")
    refused = gateway.run("sendmail", '"e\x1bsc"@some.domain', stdin="Subject: hostile\n\nx\n")
    assert (refused.returncode, refused.stderr) == (75, "sendmail: fatal: bad characters in recipients, or too long\n")
    gateway.wait_until_empty()
    notices = "".join(one.data.decode() for one in sink.received)
    for reason in HOSTILE.values():
        assert re.search(rf"{reason}\s+cannot\s+go\s+by\s+UUCP", notices)
    assert sites.jobs("near") == []


def test_nothing_is_lost_by_a_neighbour_that_is_unknown_or_a_uux_that_fails(world):
    gateway, sites, sink = world()
    gateway.append("transport", "nowhere.domain uucp:nosuch\n")
    gateway.set(relay_domains="some.domain nowhere.domain")
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    gateway.send("u@nowhere.domain", sender="ann@b.example")
    (notice,) = sink.wait(1)
    assert "System not found" in notice.data.decode()

    (sites.folder / "near" / "sys").write_text("system far\nnonsense here\n")
    gateway.send("u@some.domain", sender="ann@b.example")
    gateway.wait_for(r"to=<u@some\.domain>, relay=uucp, .*status=deferred .*syntax error")


def test_the_null_sender_arrives_as_mailer_daemon_and_comes_back_as_null(world):
    gateway, sites, sink = world()
    gateway.send("u@some.domain", "Subject: a bounce\n\nx\n", sender="")
    gateway.wait_for(r"to=<u@some\.domain>, relay=uucp, .*status=sent")
    sites.call("near", "far")
    sites.execute("far")
    (kept,) = sites.kept("far")
    assert kept.data.startswith(b"From MAILER-DAEMON  ")
    sites.queue("far", b"From MAILER-DAEMON Thu Nov 24 12:00:00 2026 remote from far\nSubject: back\n\nx\n",
                "-r", "-", "near!rmail", "(ann@b.example)")
    sites.call("far", "near")
    sites.execute("near")
    (received,) = sink.wait(1)
    assert received.sender == ""


def test_batches_and_what_a_neighbour_may_send(world):
    gateway, sites, sink = world(uucp_client_restrictions="check_recipient_access inline:{{no@b.example=REJECT}}")
    letters = "".join(
        f"MAIL FROM:<u{number}@some.domain>\nRCPT TO:<ann@b.example>\nRCPT TO:<no@b.example>\nDATA\n"
        f"Subject: letter {number}\n\n..x\n.\n" for number in range(3)
    ).encode()
    sites.queue("far", b"".join(packed([b"HELO far\n", letters], "compress")), "-r", "-n", "-z", "-", "near!crsmtp")
    letter = b"From u9@some.domain Thu Nov 24 12:00:00 2026 remote from far\nSubject: letter 9\n\nx\n"
    sites.queue("far", b"".join(packed([letter], "xz")), "-r", "-n", "-z", "-", "near!crmail", "(ann@b.example)")
    sites.call("far", "near")
    sites.execute("near")
    received = {one.message["Subject"]: one for one in sink.wait(4)}
    assert sorted(received) == ["letter 0", "letter 1", "letter 2", "letter 9"]
    assert all(one.recipients == ("ann@b.example",) for one in received.values())
    assert received["letter 1"].sender == "u1@some.domain" and received["letter 1"].data.endswith(b"\n.x\n")
    assert "Received: from far\n\tby gateway.my.domain (Postfix) with UUCP" in received["letter 1"].data.decode()
    # The neighbour hears by mail what was refused: a notice for each letter waits for it.
    gateway.wait_for(r"NOQUEUE: reject: RCPT from far\[UUCP\]: 554 5.7.1 <no@b\.example>")
    gateway.wait_until_empty()
    assert sorted(re.findall(r"rmail (u\d@some.domain)", "\n".join(sites.jobs("near")))) == [
        f"u{number}@some.domain" for number in range(3)
    ]


def test_trouble_here_makes_uuxqt_try_again(world):
    gateway, sites, sink = world()
    main_cf = gateway.directory / "main.cf"
    good = main_cf.read_text()
    sites.queue("far", b"MAIL FROM:<u@some.domain>\nRCPT TO:<ann@b.example>\nDATA\nx\n.\n", "-r", "-", "near!rsmtp")
    sites.call("far", "near")
    main_cf.unlink()
    sites.execute("near")
    assert "Will retry later" in sites.logs()
    main_cf.write_text(good)
    sites.execute("near")
    assert len(sink.wait(1)) == 1


def test_a_neighbour_that_sends_too_much_has_to_wait(world):
    gateway, sites, sink = world(uucp_client_message_rate_limit="2", anvil_rate_time_unit="3s")
    for number in range(4):
        letter = f"From u@some.domain Thu Nov 24 12:00:00 2026 remote from far\nSubject: {number}\n\nx\n"
        sites.queue("far", letter.encode(), "-r", "-n", "-z", "-", "near!rmail", "(ann@b.example)")
    sites.call("far", "near")
    sites.execute("near")
    assert len(sink.wait(2)) == 2
    assert sites.logs().count("Will retry later") >= 2
    gateway.wait_for("rmail.*rate limit exceeded: far has sent 2 messages within 3 seconds, as many as it may")
    poll(lambda: sites.execute("near") or len(sink.received) == 4, gateway.last_words)
    assert sorted(one.message["Subject"] for one in sink.received) == ["0", "1", "2", "3"]


def test_all_mail_by_uucp(make_gateway, folder):
    (folder / "uucp").mkdir()
    sites = Sites(folder / "uucp")
    gateway = make_gateway("uucp-only")
    gateway.replace("master.cf", UUX, f"argv=uux -I {sites.config('near')} ")
    gateway.replace("main.cf", "relayhost = uucp-gateway", "relayhost = far")
    gateway.start()
    gateway.run("sendmail", "someone@example.org", "other@example.com", stdin="Subject: x\n\nx\n", user="games")
    gateway.wait_for("status=sent")
    assert len(sites.jobs("near")) == 1
    sites.call("near", "far")
    sites.execute("far")
    (kept,) = sites.kept("far")
    assert sorted(kept.arguments) == ["other@example.com", "someone@example.org"]
    assert kept.data.startswith(b"From games@host.my.domain  ")
