"""The uucp service with real uux, uucico and uuxqt: jobs, batches, and what becomes of them afterwards."""

from __future__ import annotations

import io

import pytest

from gateway.compression import unpacked
from gateway.uucp.batch import transactions
from tests.system.gateway import BIN
from tests.system.uucp import Sites

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.programs("uux", "uucico", "uuxqt", "uustat", package="uucp"),
]

PIPE = "pipe\n  flags=Fqhu user=uucp argv=uux -r -n -z "


@pytest.fixture
def world(make_gateway, make_sink, folder):
    """``world(attributes)``: the gateway beside the site "near", its service now one of the command ``uucp``."""

    def build(attributes="", tcp=False, **parameters):
        (folder / "uucp").mkdir()
        sites, sink = Sites(folder / "uucp", tcp=tcp), make_sink()
        gateway = make_gateway("uucp-gateway")
        service = f"uucp\n  flags=Fqhu user=uucp {attributes} argv=uux -I {sites.config('near')} -r -n -z "
        gateway.replace("master.cf", PIPE, service)
        gateway.replace("transport", ":uucp-host", ":far")
        gateway.append("transport", f".example smtp:[127.0.0.1]:{sink.port}\n")
        gateway.set(**parameters)
        for command in ("rmail", "rsmtp"):
            sites.program("near", command, f'exec {BIN}/mailgateway {command} -c {gateway.directory} "$@"')
        gateway.start()
        return gateway, sites, sink

    return build


def test_one_word_changed(world):
    gateway, sites, _ = world()
    gateway.send(["U1@Some.Domain", "u2@some.domain"], "Subject: by wire\n\nx\n", "Ann@b.example")
    found = gateway.wait_for(
        r"/uucp\[\d+\]: \w+: to=<U1@Some\.Domain>, relay=uucp, .*status=sent "
        r"\(delivered via uucp service \(queued as (far\.N\w+)\)\)"
    )
    gateway.wait_until_empty()
    (job,) = sites.jobs("near")
    assert job.startswith(f"{found[1]} far ")
    sites.call("near", "far")
    sites.execute("far")
    (kept,) = sites.kept("far")
    assert kept.arguments == ["u1@some.domain", "u2@some.domain"]
    assert kept.data.startswith(b"From Ann@b.example  ") and kept.data.endswith(b"\n\nx\n")
    assert b"\nSubject: by wire\n" in kept.data


def test_a_batch_over_there(world, folder):
    gateway, sites, _ = world("command=crsmtp batch_wait=1s")
    sites.program("far", "crsmtp", f"/bin/cat > {sites.folder}/far/arrived/batch")
    for number in range(4):
        gateway.send(f"u{number}@some.domain", f"Subject: letter {number}\n\n.x\n", "ann@b.example")
    gateway.wait_until_empty()
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
