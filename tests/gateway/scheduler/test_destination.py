"""How many deliveries a destination bears: SCHEDULER_README."""

import pytest

from gateway.scheduler.destination import Destination, Feedback, Limits


def limits(**changes):
    values = {
        "initial_concurrency": 5, "concurrency": 20, "recipients": 50, "failed_cohorts": 1,
        "positive": Feedback.parse("1"), "negative": Feedback.parse("1"),
    }
    return Limits(**{**values, **changes})


def test_feedback_is_parsed_in_its_three_forms():
    assert Feedback.parse("1").at(10) == 1
    assert Feedback.parse("1/concurrency").at(10) == pytest.approx(0.1)
    assert Feedback.parse("2 / sqrt_concurrency").at(16) == pytest.approx(0.5)
    with pytest.raises(ValueError):
        Feedback.parse("1/whatever")


def test_the_window_grows_while_it_is_in_use_up_to_the_limit():
    destination = Destination("next.hop", limits(concurrency=8))
    destination.busy = 5
    for _ in range(10):
        destination.succeeded()
        destination.busy = int(destination.window)
    assert destination.window == 8


def test_a_window_that_is_not_in_use_does_not_grow():
    destination = Destination("next.hop", limits())
    destination.busy = 0
    for _ in range(100):
        destination.succeeded()
    assert destination.window == 5


def test_without_a_limit_it_goes_on_growing():
    destination = Destination("next.hop", limits(concurrency=0))
    for _ in range(100):
        destination.busy = int(destination.window)
        destination.succeeded()
    assert destination.window == 105


def test_a_cohort_of_failures_makes_it_dead_and_time_revives_it():
    destination = Destination("next.hop", limits())
    while not destination.failed("4.4.1", "refused", 100, 300):
        assert not destination.is_dead(100)
    assert destination.is_dead(399)
    assert destination.dead_reason == "refused"
    assert not destination.is_dead(400)
    assert destination.window == 5


def test_a_success_in_between_starts_the_count_anew():
    destination = Destination("next.hop", limits(failed_cohorts=1, negative=Feedback.parse("0")))
    for _ in range(50):
        for _ in range(4):
            assert not destination.failed("4.4.1", "refused", 0, 300)
        destination.busy = 0
        destination.succeeded()


def test_negative_feedback_shrinks_the_window_to_one_at_least():
    destination = Destination("next.hop", limits(failed_cohorts=1000))
    for _ in range(50):
        destination.failed("4.4.1", "refused", 0, 300)
    assert destination.window == 1


def test_a_rate_delay_means_one_at_a_time():
    destination = Destination("next.hop", limits(rate_delay=1))
    destination.busy = 1
    for _ in range(20):
        destination.succeeded()
    assert destination.window == 1
