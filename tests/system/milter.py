"""Milters for tests: one in a thread that does what a function says, and real opendkims and an rspamd."""

from __future__ import annotations

import os
import re
import signal
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.content.milter import protocol
from tests.system.gateway import answers_at, free_port, poll

Answer = Callable[[bytes, bytes], list[tuple[bytes, bytes]]]


class Milter(socketserver.ThreadingTCPServer):
    """``answer``: the packets that a command with its data is answered with, the last one decides."""

    allow_reuse_address, daemon_threads, block_on_close = True, True, False

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.answer = answer
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        return f"inet:127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *arguments: object) -> None:
        self.shutdown()
        self.server_close()


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Milter)
        while head := self.rfile.read(4):
            packet = self.rfile.read(struct.unpack("!I", head)[0])
            command, data = packet[:1], packet[1:]
            if command == protocol.NEGOTIATE:
                self.wfile.write(protocol.packet(command, struct.pack("!III", 6, protocol.ACTIONS, 0)))
            elif command == protocol.QUIT:
                return
            elif command not in (protocol.ABORT, protocol.MACROS):
                self.wfile.write(b"".join(protocol.packet(*one) for one in server.answer(command, data)))


OPENDKIM = """\
Domain example.com
Selector sel
KeyFile {folder}/sel.private
Mode {mode}
Socket inet:{port}@127.0.0.1
Canonicalization relaxed/simple
Background no
RequireSafeKeys no
PidFile {folder}/opendkim{port}.pid
Syslog no
InternalHosts {inside}
TestDNSData {folder}/dns
"""


def make_key(folder: Path) -> None:
    subprocess.run(["opendkim-genkey", "-D", folder, "-d", "example.com", "-s", "sel"], check=True, capture_output=True)
    text = "".join(re.findall(r'"([^"]*)"', (folder / "sel.txt").read_text()))
    (folder / "dns").write_text(f"sel._domainkey.example.com {text}\n")


@contextmanager
def opendkim(folder: Path, mode: str) -> Iterator[str]:
    """One that signs ("s") or verifies ("v"); where it is."""
    port = free_port()
    inside = "127.0.0.0/8" if mode == "s" else "192.0.2.1"
    config = folder / f"opendkim{port}.conf"
    config.write_text(OPENDKIM.format(folder=folder, mode=mode, port=port, inside=inside))
    process = subprocess.Popen(["opendkim", "-f", "-x", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        poll(lambda: answers_at(port), "opendkim answers", 20)
        yield f"inet:127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


RSPAMD = """\
options {{
    pidfile = "{folder}/rspamd.pid";
    control_socket = "{folder}/rspamd.sock mode=0600";
    cache_file = "{folder}/symbols.cache";
    history_file = "{folder}/history";
    tempdir = "{folder}";
    url_tld = "{folder}/suffixes";
    filters = "";
    disable_hyperscan = true;
    enable_test_patterns = true;
    local_addrs = [];
    dns {{ nameserver = ["127.0.0.1:1"]; }}
}}
logging {{ type = "console"; level = "error"; }}
lua = "{folder}/rules.lua";
worker "normal" {{ enabled = false; }}
worker "rspamd_proxy" {{
    count = 1;
    bind_socket = "127.0.0.1:{port}";
    milter = yes;
    upstream "local" {{ default = yes; self_scan = yes; }}
}}
actions {{ reject = 15; add_header = 6; }}
"""
RULES = """\
rspamd_config.SEEN = function(task)
    task:set_milter_reply({ add_headers = { ["X-Rspamd"] = "has seen it" } })
end
"""


@contextmanager
def rspamd(folder: Path) -> Iterator[str]:
    """One without modules, rules, DNS and a data base, so that it is up at once: it knows its test patterns.  Where it
    is."""
    port = free_port()
    config = folder / "rspamd.conf"
    config.write_text(RSPAMD.format(folder=folder, port=port))
    (folder / "rules.lua").write_text(RULES)
    (folder / "suffixes").write_text("com\n")
    process = subprocess.Popen(
        ["rspamd", "-f", "-i", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    try:
        poll(lambda: answers_at(port), "rspamd answers", 20)
        yield f"inet:127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it would wait for connections that are open
        process.wait(10)
