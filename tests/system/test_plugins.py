"""The package examples/plugins beside a running gateway: each of its plug-ins does its job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.gateway import EXAMPLES, poll

pytestmark = pytest.mark.system


def test_all_kinds(make_gateway, folder: Path) -> None:  # type: ignore[no-untyped-def]
    gateway = make_gateway("twistd", user="nobody")
    gateway.prefix = ["env", f"PYTHONPATH={EXAMPLES / 'plugins'}"]
    kept = folder / "kept"
    kept.mkdir()
    kept.chmod(0o777)
    gateway.append("away", "joe@keep.example ann@keep.example\n")
    gateway.append("master.cf", f"keep unix - n n - - python folder:{kept}\n")
    gateway.set(
        virtual_alias_maps=f"python:holidays:{gateway.directory}/away", transport_maps="inline:{keep.example=keep:}",
        address_rewriters="python:one-name:my.example", message_filters="python:subjects:lottery",
        smtpd_helo_restrictions="python:full-helo",
    )
    gateway.start()

    with gateway.client() as client:
        client.helo("bare")
        client.mail("sue@my.example")
        assert client.rcpt("joe@keep.example") == (550, b"5.7.1 <bare>: Helo command rejected: your name has no domain")
        client.ehlo("client.example")
        message = "From: Sue <sue+x@host.my.example>\nSubject: {}\n\nHello.\n"
        client.sendmail("sue+x@host.my.example", ["joe@keep.example"], message.format("one"))
        client.sendmail("sue+x@host.my.example", ["joe@keep.example"], message.format("a lottery"))
    gateway.wait_for(r"from=<sue@my.example>")
    gateway.wait_for(r"folder\[\d+\]: .*to=<ann@keep.example>, orig_to=<joe@keep.example>, relay=folder.*sent")
    (file,) = poll(lambda: list(kept.glob("[!.]*")), "a file")
    text = file.read_text()
    assert text.startswith("X-Recipient: ann@keep.example\n") and text.endswith("\nHello.\n")
    assert "From: Sue <sue@my.example>" in text
    poll(lambda: [one for one in gateway.queue() if one["queue_name"] == "hold"], "one on hold")
