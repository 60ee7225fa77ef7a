"""The real postconf(1) as referee, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

POSTCONF = shutil.which("postconf", path="/usr/sbin:/usr/local/sbin:/usr/bin")

needs_postfix = pytest.mark.skipif(POSTCONF is None, reason="Postfix is not installed")


def postconf(directory: Path, *arguments: str) -> str:
    """Its standard output.  It reads a file again and again that has just been written: date it back."""
    assert POSTCONF is not None
    os.utime(directory / "main.cf", (1e9, 1e9))
    done = subprocess.run([POSTCONF, "-c", str(directory), *arguments], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape")
