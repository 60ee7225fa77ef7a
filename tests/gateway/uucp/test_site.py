"""uucp-site: both halves of a link."""

import os
import stat

import pytest

from gateway.commands import uucp_site
from gateway.uucp.site import BadLink, Link, Login, Way, check, here, put, take_out, there

LINK = Link("far", "near", Login("near", "one"), Login("far", "two"), Way(address="far.example"))


def test_both_halves_fit_each_other():
    ours, theirs = here(LINK), there(LINK)
    assert ours["call"] == "far near one\n" and theirs["passwd"] == "near one\n"
    assert ours["passwd"] == "far two\n" and "call" not in theirs and "port" not in theirs
    assert "called-login near\n" in theirs["sys"] and "called-login far\n" in ours["sys"]
    assert "time never\n" in theirs["sys"] and "time any\n" in ours["sys"]
    assert ours["port"] == "port far\ntype tcp\nservice 540\n" and "address far.example\nport far\n" in ours["sys"]


@pytest.mark.parametrize("way, port, dial", [
    (Way(pipe="/usr/bin/ssh far uucico -l"), "type pipe\ncommand /usr/bin/ssh far uucico -l\n", False),
    (Way(device="ttyS0", speed=9600), "type direct\ndevice ttyS0\nspeed 9600\n", False),
    (Way(device="ttyS0", phone="0123"), "type modem\ndialer far\ndevice ttyS0\nspeed 38400\n", True),
])
def test_lines(way, port, dial):
    files = here(Link("far", "near", LINK.ours, LINK.theirs, way))
    assert files["port"] == f"port far\n{port}" and ("dial" in files) is dial
    assert f"\nprotocol {'ig' if way.device else 'ti'}\n" in files["sys"]


def test_urgent_jobs_may_go_at_other_times():
    way = Way(address="h", time="Any1900-0700", timegrades=(("C", "Any"), ("N", "Sa,Su")))
    assert "\ntime Any1900-0700\ntimegrade C Any\ntimegrade N Sa,Su\n" in here(Link(**{
        **{name: getattr(LINK, name) for name in Link.__dataclass_fields__}, "way": way,
    }))["sys"]


@pytest.mark.parametrize("change", [
    {"name": "a b"}, {"name": "near"}, {"node": "-x"}, {"ours": Login("x", "two words")},
    {"ours": Login("x", "a#b")}, {"way": Way(address="h\nsystem evil")}, {"protocol": "t i"}, {"command_path": "bin"},
    {"way": Way(address="h", timegrades=(("CC", "Any"),))}, {"way": Way(address="h", timegrades=(("C", "a\nb"),))},
])
def test_what_cannot_be_written_down(change):
    facts = {name: getattr(LINK, name) for name in Link.__dataclass_fields__}
    with pytest.raises(BadLink):
        check(Link(**{**facts, **change}))


def test_entries_are_replaced_and_removed_and_others_stay(tmp_path):
    (tmp_path / "sys").write_text("system other\ntime any")
    (tmp_path / "passwd").write_text("other x\n")
    os.chmod(tmp_path / "passwd", 0o600)
    put(tmp_path, "far", here(LINK))
    assert (tmp_path / "sys").read_text().startswith("system other\ntime any\n# mailgateway uucp-site far: begin\n")
    assert stat.S_IMODE((tmp_path / "passwd").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "call").stat().st_mode) == 0o640
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert put(tmp_path, "far", here(LINK)) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    put(tmp_path, "far", here(Link("far", "near", LINK.ours, LINK.theirs, Way())))
    assert (tmp_path / "port").read_text() == "" and (tmp_path / "sys").read_text().count("system far") == 1
    take_out(tmp_path, "far")
    assert (tmp_path / "sys").read_text() == "system other\ntime any\n"
    assert (tmp_path / "passwd").read_text() == "other x\n"


def test_an_entry_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "sys").write_text("system far\n")
    with pytest.raises(BadLink, match="entry of its own for far"):
        put(tmp_path, "far", here(LINK))
    assert [path.name for path in tmp_path.iterdir()] == ["sys"]


def test_the_command(tmp_path, capsys):
    def run(*words):
        status = uucp_site.main([str(word) for word in words], None)
        return status, capsys.readouterr()

    status, said = run("add", "far", "--node", "near", "--address", "far.example")
    assert status == 0
    assert "# here (near): sys\nsystem far\n" in said.out and "# there (far): sys\nsystem near\n" in said.out
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    (near / "config").write_text("nodename near\n")
    status, said = run("add", "far", "--address", "far.example", "--write", near, "--write-far", far)
    assert status == 0 and f"written: {near}/sys" in said.out
    assert "system near" in (far / "sys").read_text()
    _, name, password = next(line.split() for line in (near / "call").read_text().splitlines() if line[0] != "#")
    assert f"{name} {password}\n" in (far / "passwd").read_text()
    assert run("remove", "far", "--write", near, "--write-far", far)[0] == 0
    assert (near / "sys").read_text() == (far / "sys").read_text() == ""
    assert run("remove", "far", "--write", near)[0] == 65
    assert run("add", "far", "--node", "far")[0] == 65
    assert run("add", "far", "--node", "x", "--address", "a", "--pipe", "b")[0] == 65
    assert run("nonsense")[0] == 64
