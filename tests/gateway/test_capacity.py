"""How many clients and messages a number of descriptors is enough for."""

import resource

import pytest

from gateway.capacity import ENOUGH, FOR_DELIVERIES, KEPT_BACK, MOST_MESSAGES, capacity, complaint, raise_limit


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 4096, 20_000, 65_536])
def test_there_is_always_something_left_for_the_spool(descriptors):
    clients, messages = capacity(descriptors)
    assert clients > 0 and 0 < messages <= MOST_MESSAGES
    assert clients + messages <= descriptors - min(KEPT_BACK, descriptors // 4)


def test_deliveries_in_the_same_process_take_their_share():
    assert sum(capacity(1024)) - sum(capacity(1024, deliveries=True)) == FOR_DELIVERIES


def test_a_small_limit_is_told():
    assert complaint(20_000, 19_000) == ""
    assert "only 256 files" in complaint(256, 80) and "80 clients" in complaint(256, 80)


def test_the_limit_is_raised_as_far_as_the_system_allows():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
        assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, ENOUGH)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
