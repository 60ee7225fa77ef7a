import os
import socket
import stat

import pytest

from gateway.listeners import (
    Address,
    ListenError,
    bind_inet,
    bind_unix,
    interface_addresses,
    service_addresses,
)


def test_a_service_without_a_host_is_bound_to_every_interface():
    assert service_addresses("smtp", ["127.0.0.1", "::1"]) == [Address("127.0.0.1", 25), Address("::1", 25)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("127.0.0.1:2525", "127.0.0.1:2525"), ("[::1]:587", "[::1]:587"), ("[127.0.0.1]:smtp", "127.0.0.1:25")],
)
def test_a_service_with_a_host(name, expected):
    assert [str(one) for one in service_addresses(name, [])] == [expected]


def test_names_of_ports_can_be_given():
    assert [one.port for one in service_addresses("other", ["127.0.0.1"], {"other": 2626})] == [2626]


@pytest.mark.parametrize("name", ["", "no-such-port-name", "127.0.0.1:99999", "a:b:c:d"])
def test_what_cannot_be_a_service_says_so(name):
    with pytest.raises(ListenError):
        service_addresses(name, ["127.0.0.1"])


def test_interfaces_by_protocol():
    assert interface_addresses(["loopback-only"], ["ipv4"]) == ["127.0.0.1"]
    assert interface_addresses(["all"], ["ipv4"]) == ["0.0.0.0"]
    assert interface_addresses(["127.0.0.1", "localhost"], ["ipv4"]) == ["127.0.0.1"]


def test_a_port_in_use_is_told_in_one_line():
    first = bind_inet(Address("127.0.0.1", 0))
    with first, pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
        bind_inet(Address("127.0.0.1", first.getsockname()[1]))


def test_a_unix_socket_replaces_one_that_was_left_and_has_its_mode(tmp_path):
    path = tmp_path / "control"
    bind_unix(path, mode=0o600).close()
    with bind_unix(path, mode=0o666), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_too_long_a_path_names_the_remedy(tmp_path):
    with pytest.raises(ListenError, match="shorten queue_directory"):
        bind_unix(tmp_path / ("x" * 120), mode=0o600)
