"""The mail log's lines."""

from pathlib import Path

import pytest

from gateway.log import MailLog, file_writer


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


def test_a_log_file_is_made_with_its_folder(tmp_path: Path) -> None:
    """As in a copy of examples/twistd, whose folder var is not there yet."""
    for line in (b"one\n", b"two\n"):
        file_writer(str(tmp_path / "var/log/maillog"))(line)
    assert (tmp_path / "var/log/maillog").read_bytes() == b"one\ntwo\n"
