"""What the master hands to the roles that it starts; the rest of it is tested with real processes in tests/system."""

from gateway.config.configuration import load
from gateway.master import read_text_file, text_file


def test_a_role_gets_the_configuration_that_the_master_has(tmp_path):
    (tmp_path / "main.cf").write_bytes(b"myhostname = gw.example\nmail_name = Gr\xfc\xdfe\n")
    (tmp_path / "master.cf").write_text("relay unix - - n - - smtp -o smtp_helo_timeout=5\n")
    mine = load(tmp_path)
    descriptor = text_file(mine)
    (tmp_path / "main.cf").write_text("nonsense\n")
    (tmp_path / "master.cf").unlink()
    theirs = read_text_file(descriptor, tmp_path)
    assert theirs.settings.values == mine.settings.values
    assert theirs.services == mine.services
    assert theirs.directory == mine.directory
    assert theirs.settings.place("mail_name") == mine.settings.place("mail_name")
