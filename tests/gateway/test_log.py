"""The mail log's lines."""

import pytest

from gateway.log import MailLog


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nb\x1b[2J\x9b\u2028c", "a??b?[2J??c"),
        ("from=<\u202egro.elpmaxe\u2066@\u200fx>", "from=<?gro.elpmaxe?@?x>"),
        ("Дарья <ن\u200cه@пример>", "Дарья <ن\u200cه@пример>"),
        ("\udcff", "?"),
    ],
)
def test_nothing_in_a_line_is_more_than_text(text: str, line: str) -> None:
    written: list[bytes] = []
    MailLog("postfix", written.append, host="h", clock=lambda: 0.0).info("smtpd", text)
    assert written[0].decode().partition("]: ")[2] == line + "\n"
