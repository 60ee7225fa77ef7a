import time

from gateway.content.dates import mail_date


def test_the_day_has_two_digits(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert mail_date(1795521600.9) == "Tue, 24 Nov 2026 12:00:00 +0000 (UTC)"
        assert mail_date(1793534400) == "Sun, 01 Nov 2026 12:00:00 +0000 (UTC)"
        monkeypatch.setenv("TZ", "XXX+3:30")
        time.tzset()
        mail_date.__globals__["_date"].cache_clear()
        assert mail_date(1795521600) == "Tue, 24 Nov 2026 08:30:00 -0330 (XXX)"
    finally:
        monkeypatch.undo()
        time.tzset()
        mail_date.__globals__["_date"].cache_clear()
