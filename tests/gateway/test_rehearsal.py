"""What only those who use a configuration can find wrong in it."""

import pytest
from twisted.internet.task import Clock

from gateway.config import from_texts
from gateway.rehearsal import rehearse

MASTER = """\
127.0.0.1:2525 inet n - n - - smtpd
smtp unix - - n - - smtp
local unix - n n - - local
error unix - - n - - error
"""


def found(tmp_path, main="", master=""):
    main = f"myhostname = mx.example\nqueue_directory = {tmp_path}\ninet_interfaces = 127.0.0.1\nalias_maps =\n{main}"
    return [str(one) for one in rehearse(from_texts(main, MASTER + master, tmp_path), Clock())]


def test_a_good_configuration_passes(tmp_path):
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("main", "master", "text"),
    [
        ("smtpd_recipient_restrictions = permit_mynetworks, reject_nonsense", "", "unknown smtpd restriction"),
        ("smtpd_tls_security_level = may\nsmtpd_tls_cert_file = /nonexistent", "", "/nonexistent"),
        ("default_destination_concurrency_positive_feedback = 1/nothing", "", "1/nothing"),
        ("", "2526 inet n - n - - smtpd -o cleanup_service_name=pre\n", "no service pre with the command cleanup"),
        ("", "fax unix - n n - 1 pipe flags=Z user=nobody argv=/bin/true\n", 'unknown flag "Z"'),
    ],
)
def test_what_cannot_be_made_is_told(tmp_path, main, master, text):
    assert any(text in line for line in found(tmp_path, main, master))


def test_what_is_wrong_in_tables_is_told_with_file_and_line(tmp_path):
    (tmp_path / "checks").write_text("/(/ x\n/a/ OK\n")
    (tmp_path / "transport").write_text("a b\nnovalue\n")
    (tmp_path / "db.cf").write_text("dbpath = x\nquery\n")
    main = (
        f"header_checks = regexp:{tmp_path}/checks\ntransport_maps = hash:{tmp_path}/transport\n"
        f"virtual_alias_maps = sqlite:{tmp_path}/db.cf\n"
    )
    told = found(tmp_path, main)
    assert f"{tmp_path}/checks, line 1: regexp map: Unmatched ( or \\(" in told
    assert f"{tmp_path}/transport, line 2: expected format: key whitespace value" in told
    assert any(f"{tmp_path}/db.cf, line 2: missing '='" in line for line in told)
