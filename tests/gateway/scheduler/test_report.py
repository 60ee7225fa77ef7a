import pytest

from gateway.interfaces import Recipient, Result
from gateway.scheduler.report import delivery_line, format_delay


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.004, "0"), (0.031, "0.03"), (0.5, "0.5"), (1.23, "1.2"), (9.99, "10"), (12.7, "12"), (3600, "3600")],
)
def test_delays_have_two_digits(seconds, text):
    assert format_delay(seconds) == text


def line(recipient, result):
    return delivery_line("QID", recipient, result, arrival=0, active=1, started=3, ended=6)


def test_the_line_in_full():
    result = Result("sent", "2.0.0", "250 Ok", "host[1.2.3.4]:25", connected=5, conn_use=3)
    assert line(Recipient("a@b", "c@d"), result) == (
        "QID: to=<a@b>, orig_to=<c@d>, relay=host[1.2.3.4]:25, conn_use=3, delay=6, delays=1/2/2/1, dsn=2.0.0, "
        "status=sent (250 Ok)"
    )


def test_the_original_recipient_is_left_out_when_it_is_the_same_but_for_case():
    assert "orig_to" not in line(Recipient("a@b", "A@B"), Result("sent", "2.0.0", "x"))


def test_a_delivery_without_a_connection_has_no_third_delay():
    assert "delays=1/2/0/3" in line(Recipient("a@b"), Result("sent", "2.0.0", "x", "local"))
