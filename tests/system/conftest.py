"""What the system tests share: a folder that other users can enter, gateways and sinks that are always ended, and
reasons to skip: no root, a program that is not installed, a checkout that other users cannot read."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.system.gateway import BIN, PATH, Gateway, as_user, environment
from tests.system.sink import Sink

MakeGateway = Callable[..., Gateway]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "programs(name, …, package=…): skipped where one of them is not installed")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        if os.geteuid() != 0:
            pytest.skip("needs root rights")
        need_others()
    for marker in item.iter_markers("programs"):
        for name in marker.args:
            if shutil.which(name, path=f"{PATH}:/usr/lib/uucp") is None:
                pytest.skip(f"{name} is not installed (package {marker.kwargs['package']})")


def need_others() -> None:
    """Started by root, a gateway runs as other users, at least in part."""
    if os.geteuid() == 0 and not others_can_run_it():
        pytest.skip("the checkout or its interpreter cannot be read by other users, who must run it")


@cache
def others_can_run_it() -> bool:
    command = as_user("nobody", [BIN / "mailgateway", "help"])
    return subprocess.run(command, capture_output=True, env=environment(), cwd="/").returncode == 0


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder with a short name that every user can enter; pytest's are closed to others, now or a moment later."""
    path = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture
def make_gateway(folder: Path) -> Iterator[MakeGateway]:
    """Gateways, each in a folder of its own: ``make_gateway("firewall", user="nobody")``."""
    made: list[Gateway] = []

    def make(example: str = "twistd", *, user: str | None = None) -> Gateway:
        need_others()
        own = folder / f"gw{len(made)}"
        own.mkdir()
        made.append(Gateway(own, example, user=user))
        return made[-1]

    yield make
    for one in made:
        one.kill()
        print(one.last_words())  # shown where a test has failed


@pytest.fixture(params=["split", "single"])
def either(request: pytest.FixtureRequest, make_gateway: MakeGateway) -> MakeGateway:
    """``make_gateway`` for a test that is run twice: in roles, started by root; and in one process, by nobody."""
    if request.param == "split":
        if os.geteuid() != 0:
            pytest.skip("needs root rights")
        return make_gateway
    return lambda example="twistd": make_gateway(example, user="nobody")


@pytest.fixture
def make_sink() -> Iterator[Callable[..., Sink]]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Sink(*arguments, **options))
