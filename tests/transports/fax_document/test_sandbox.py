"""What a worker that is shut in can still do: each thing is tried in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from transports.fax.document import sandbox

ROOT = Path(__file__).parents[3]
PROGRAM = """\
import json, os, resource, socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from transports.fax.document import sandbox

folder, port = Path(sys.argv[2]), int(sys.argv[3])
sandbox.limit(seconds=50, memory=900_000_000, file_size=100_000)
done = {"network": sandbox.leave_network(), "files": sandbox.confine(folder, ["/usr", "/lib", "/lib64", sys.prefix])}

def tried(what):
    try:
        what()
        return ""
    except Exception as error:
        return type(error).__name__

done["read own"] = tried(lambda: (folder / "own").read_text())
done["write own"] = tried(lambda: (folder / "new").write_text("x"))
done["read other"] = tried(lambda: Path(sys.argv[4]).read_text())
done["write other"] = tried(lambda: Path(sys.argv[4]).write_text("x"))
done["list other"] = tried(lambda: os.listdir("/etc"))
done["connect"] = tried(lambda: socket.create_connection(("127.0.0.1", port), 2))
done["large file"] = tried(lambda: (folder / "large").write_bytes(bytes(200_000)))
done["memory"] = tried(lambda: bytearray(2_000_000_000))
done["child"] = subprocess.run(["/usr/bin/cat", sys.argv[4]], capture_output=True).stdout.decode()
done["processor"] = resource.getrlimit(resource.RLIMIT_CPU)
print(json.dumps(done))
"""


@pytest.fixture
def tried(tmp_path: Path) -> dict[str, object]:
    own = tmp_path / "own folder"
    own.mkdir()
    (own / "own").write_text("x")
    other = tmp_path / "other"
    other.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, "-c", PROGRAM, str(ROOT), str(own), port, str(other)]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
    done: dict[str, object] = json.loads(made.stdout)
    return done



def test_it_can_do_its_work_and_nothing_else(tried: dict[str, object]) -> None:
    assert (tried["read own"], tried["write own"]) == ("", "")
    assert tried["large file"] == "OSError"
    assert tried["memory"] == "MemoryError"
    assert tried["processor"] == [50, 55]
    if tried["files"]:
        assert tried["read other"] == tried["write other"] == tried["list other"] == "PermissionError"
        assert tried["child"] == ""
    if tried["network"]:
        assert tried["connect"] in ("OSError", "ConnectionRefusedError", "PermissionError")


def test_what_this_kernel_can() -> None:
    """So that the test above is known to have looked, here."""
    major, minor = map(int, os.uname().release.split(".")[:2])
    if (major, minor) < (5, 13):
        pytest.skip("this kernel has no Landlock")
    child = os.fork()
    if child == 0:
        os._exit(0 if sandbox.confine(Path("/tmp"), ["/usr"]) else 1)
    status = os.waitpid(child, 0)[1]
    if status:
        pytest.skip("Landlock is switched off")


LOWER = """\
import itertools, resource, sys
sys.path.insert(0, sys.argv[1])
from transports.fax.document import sandbox

resource.setrlimit(resource.RLIMIT_CPU, (10, 20))
sandbox._own_threads = itertools.count(100, -1).__next__
sandbox.limit(seconds=50, memory=10**10, file_size=10**6)
print(resource.getrlimit(resource.RLIMIT_CPU))
"""


def test_a_lower_limit_that_is_there_stays() -> None:
    """And processes that begin or end meanwhile do no harm."""
    told = subprocess.run([sys.executable, "-c", LOWER, ROOT], capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("(20, 20)\n", "")
