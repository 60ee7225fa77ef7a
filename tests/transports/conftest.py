"""Fixtures: a real runner of programs, and a folder that NOBODY may write in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet import reactor

from transports.process import Runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(reactor)
    yield runner
    runner.close()


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """pytest's own temporary folders are the tester's alone; programs run as somebody else."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)
