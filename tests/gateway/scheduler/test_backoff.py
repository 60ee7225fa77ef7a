from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduler.backoff import RetryTimes, is_expired, next_attempt, warning_is_due

TIMES = RetryTimes(300, 4000, 432000, 100, 14400)


def test_the_intervals_double_between_the_limits():
    arrival, now, moments = 0.0, 10.0, []
    for _ in range(7):
        now = next_attempt(TIMES, now - arrival, now)
        moments.append(now)
    assert moments == [310, 620, 1240, 2480, 4960, 8960, 12960]


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_it_is_always_in_the_future_within_the_limits(age, now):
    assert now + 300 <= next_attempt(TIMES, age, now) <= now + 4000


def test_the_null_sender_has_its_own_lifetime():
    assert is_expired(TIMES, 100, null_sender=True)
    assert not is_expired(TIMES, 100, null_sender=False)
    assert is_expired(TIMES, 432000, null_sender=False)


def test_one_warning_after_the_time_and_none_by_default():
    assert not warning_is_due(TIMES, 14399, warned=False)
    assert warning_is_due(TIMES, 14400, warned=False)
    assert not warning_is_due(TIMES, 14400, warned=True)
    assert not warning_is_due(RetryTimes(300, 4000, 432000, 432000, 0), 1e9, warned=False)
