"""postmap, postalias, newaliases: exit statuses and output as Postfix's."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from gateway.commands import newaliases, postalias, postmap

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "main.cf").write_text(
        f"compatibility_level = 3.6\nalias_maps = hash:{tmp_path}/aliases\nalias_database = $alias_maps\n"
    )
    (tmp_path / "aliases").write_text('root: jane\n"two words": x\n')
    (tmp_path / "map").write_text("Key value with  blanks\nother o\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def command(*arguments: str, stdin: str = "", program: str = "postmap") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        main = {"postmap": postmap.main, "postalias": postalias.main, "newaliases": newaliases.main}[program]
        status = main(list(arguments), folder)
        sys.stdout.flush()
        return (status, *capsys.readouterr())

    return command


def test_query(run: Command) -> None:
    assert run("-q", "KEY", "hash:map") == (0, "value with  blanks\n", "")
    assert run("-q", "missing", "hash:map") == (1, "", "")
    assert run("-q", "", "static:x") == (0, "x\n", "")
    assert run("-f", "-q", "KEY", "hash:map") == (1, "", "")
    assert run("-q", "x", "hash:map", "static:second") == (0, "second\n", "")
    assert run("-jq", "key", "hash:map") == (0, '{"key": "value with  blanks"}\n', "")


def test_query_from_standard_input(run: Command) -> None:
    assert run("-q", "-", "hash:map", stdin="other\nnone\nKEY\n") == (0, "other\to\nKEY\tvalue with  blanks\n", "")
    assert run("-q", "-", "hash:map", stdin="none\n") == (1, "", "")
    assert run("-q", "-", "hash:aliases", stdin="root\n", program="postalias") == (0, "root:\tjane\n", "")


def test_default_type_and_aliases(run: Command) -> None:
    assert run("-q", "root", "aliases", program="postalias") == (0, "jane\n", "")
    assert run("-q", "two words", "hash:aliases") == (0, "x\n", "")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-q", "x", "nosuch:y"], "unsupported dictionary type: nosuch"),
        (["-q", "x", "fail:reason"], "table fail:reason: query error: fail:reason: reason"),
        (["-s", "static:x"], "table static:x: sequence operation is not supported"),
        (["-d", "x", "static:a"], "table static:a: delete operation is not supported"),
        (["regexp:map"], "unsupported dictionary type: regexp does not support bulk-mode creation."),
        (["-q", "x", "-s", "hash:map"], "specify only one of -s or -q or -d"),
        (["-b", "-q", "x", "hash:map"], 'specify -b -h or -m only with "-q -"'),
        (["-x", "hash:map"], "option -x not recognized; usage: postmap [-"),
        ([], "usage: postmap [-"),
    ],
)
def test_errors(run: Command, arguments: list[str], problem: str) -> None:
    status, out, error = run(*arguments)
    assert (status, out) == (1, "")
    assert error.startswith(f"postmap: fatal: {problem}") and error.count("\n") == 1


def test_missing_files(run: Command, folder: Path) -> None:
    for arguments in (["-q", "x", "hash:nosuch"], ["hash:nosuch"], ["-d", "x", "hash:nosuch"]):
        status, out, error = run(*arguments)
        assert (status, out) == (1, "") and "No such file or directory" in error


def test_build_tells_what_is_wrong_in_the_text(run: Command, folder: Path) -> None:
    assert run("map") == (0, "", "")
    assert run("hash:map", "btree:aliases", program="postmap") == (0, "", "")
    (folder / "map").write_text("a 1\nA 2\nnovalue\n")
    status, out, error = run("hash:map")
    assert (status, out) == (0, "")
    assert error == (
        f'postmap: warning: {folder}/map, line 2: duplicate entry: "a"\n'
        f"postmap: warning: {folder}/map, line 3: expected format: key whitespace value\n"
    )
    assert run("-w", "hash:map")[2].count("\n") == 1
    assert run("-f", "hash:map")[2].count("\n") == 1


def test_not_utf8(run: Command, folder: Path) -> None:
    (folder / "map").write_bytes(b"a \xe9\n")
    problem = f'{folder}/map, line 1: non-UTF-8 input "a ?" -- ignoring this line'
    assert run("hash:map")[2] == f"postmap: warning: {problem}\n"
    assert run("-u", "hash:map") == (0, "", "")
    status, _, error = run("-q", "a", "hash:map")
    assert (status, error.rstrip()[-23:]) == (1, "non-UTF-8 lookup result")


def test_values_of_aliases_are_lists_of_addresses(run: Command, folder: Path) -> None:
    (folder / "aliases").write_text("a: b,c ,  \"|d  e\" , :include:/f,\\g\n")
    assert run("-q", "a", "aliases", program="postalias") == (0, 'b, c, "|d  e", :include:/f, g\n', "")
    assert run("-q", "a", "hash:aliases") == (0, 'b, c, "|d  e", :include:/f, g\n', "")
    assert run("-s", "aliases", program="postalias") == (0, 'a:\tb, c, "|d  e", :include:/f, g\n', "")


def test_list(run: Command, folder: Path) -> None:
    (folder / "map").write_text('b 1\n"two words" 2\n')
    assert run("-s", "hash:map") == (0, 'b\t1\n"two words"\t2\n', "")
    assert run("-s", "aliases", program="postalias") == (0, "root:\tjane\ntwo words:\tx\n", "")
    assert [json.loads(line) for line in run("-sj", "hash:map")[1].splitlines()] == [{"b": "1"}, {'"two words"': "2"}]


def test_build_makes_an_index_of_the_texts_age_and_mode(run: Command, folder: Path) -> None:
    text, index = folder / "map", folder / "map.lmdb"
    text.chmod(0o640)
    os.utime(text, (5e8, 5e8))
    assert run("hash:map") == (0, "", "")
    assert (index.stat().st_mtime, index.stat().st_mode & 0o777) == (5e8, 0o640)
    assert run("-p", "hash:map") == (0, "", "")
    assert index.stat().st_mode & 0o777 == 0o644
    text.unlink()
    assert run("-q", "key", "cdb:map")[1] == "value with  blanks\n"
    assert sorted(path.name for path in folder.iterdir()) == ["aliases", "main.cf", "map.lmdb"]


def test_a_text_that_is_newer_than_its_index_counts(run: Command, folder: Path) -> None:
    run("hash:map")
    (folder / "map").write_text("key new\n")
    assert run("-q", "key", "hash:map")[1] == "new\n"
    assert run("-q", "other", "hash:map")[0] == 1


def test_duplicates(run: Command, folder: Path) -> None:
    (folder / "map").write_text("a 1\nb 1\nA 2\n")
    assert run("-r", "hash:map") == (0, "", "")
    assert run("-s", "hash:map")[1] == "a\t2\nb\t1\n"
    assert run("-w", "hash:map") == (0, "", "")
    assert run("-s", "hash:map")[1] == "a\t1\nb\t1\n"
    assert run("-f", "hash:map") == (0, "", "")
    assert run("-s", "hash:map")[1] == "A\t2\na\t1\nb\t1\n"


def test_terminating_nulls(run: Command, folder: Path) -> None:
    run("-N", "hash:map")
    with lmdb.open(str(folder / "map.lmdb"), subdir=False, readonly=True, lock=False) as index:
        assert list(index.begin().cursor()) == [(b"key\0", b"value with  blanks\0"), (b"other\0", b"o\0")]
    assert run("-i", "hash:map", stdin="new n\n") == (0, "", "")
    assert run("-d", "other", "hash:map") == (0, "", "")
    assert run("-s", "hash:map")[1] == "key\tvalue with  blanks\nnew\tn\n"
    run("-Nn", "hash:map")
    with lmdb.open(str(folder / "map.lmdb"), subdir=False, readonly=True, lock=False) as index:
        assert index.begin().get(b"other") == b"o"


def test_delete(run: Command, folder: Path) -> None:
    before = (folder / "map").read_text()
    assert run("-d", "KEY", "hash:map") == (0, "", "")
    assert run("-s", "hash:map")[1] == "other\to\n"
    assert run("-d", "key", "hash:map") == (1, "", "")
    assert run("-d", "-", "hash:map", stdin="none\nother\n") == (0, "", "")
    assert run("-s", "hash:map")[1] == ""
    assert (folder / "map").read_text() == before


def test_incremental(run: Command, folder: Path) -> None:
    error = run("-i", "hash:map", stdin="new n\nOther x\nKey x\n")[2]
    assert error == (
        'postmap: warning: standard input, line 2: duplicate entry: "other"\n'
        'postmap: warning: standard input, line 3: duplicate entry: "key"\n'
    )
    assert run("-q", "key", "hash:map")[1] == "value with  blanks\n"
    assert run("-q", "new", "hash:map")[1] == "n\n"
    assert run("-wi", "hash:map", stdin="key y\n") == (0, "", "")
    assert run("-ri", "hash:map", stdin="key z\n") == (0, "", "")
    assert run("-s", "hash:map")[1] == "key\tz\nnew\tn\nother\to\n"
    assert run("-i", "hash:made", stdin="a b\n") == (0, "", "")
    assert run("-q", "a", "hash:made")[1] == "b\n"


def test_values_that_are_files(run: Command, folder: Path) -> None:
    (folder / "one").write_bytes(b"first\n")
    (folder / "two").write_bytes(b"second\n")
    (folder / "map").write_text(f"key {folder}/one, {folder}/two\n")
    assert run("-F", "hash:map") == (0, "", "")
    assert run("-q", "key", "hash:map")[1] == "Zmlyc3QKCnNlY29uZAo=\n"
    assert run("-F", "-q", "key", "hash:map")[1] == "first\n\nsecond\n\n"
    assert run("-Fs", "hash:map")[1] == "key\tfirst\n\nsecond\n\n"
    assert run("-F", "-q", "x", "static:!")[2].startswith("postmap: fatal: table static:!: key x: malformed BASE64")
    (folder / "map").write_text("key nosuch\n")
    status, _, told = run("-F", "hash:map")
    assert status == 0 and told.endswith("/map, line 1: open nosuch: No such file or directory: skipping this entry\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root rights")
def test_root_makes_another_users_index_as_that_user(run: Command, folder: Path) -> None:
    for path in [folder, *folder.parents]:
        if path.is_relative_to(Path(tempfile.gettempdir()) / "pytest-of-root"):
            path.chmod(0o755)
    (folder / "home").mkdir()
    text = folder / "home/map"
    text.write_text("key value\n")
    os.chown(text, 65534, 65534)
    assert run("hash:home/map")[2].endswith("Permission denied\n")
    assert run("-o", "hash:home/map") == (0, "", "")
    os.chown(folder / "home", 65534, 65534)
    assert run("hash:home/map") == (0, "", "")
    assert (folder / "home/map.lmdb").stat().st_uid == 65534
    assert os.geteuid() == 0


def test_headers_and_body_as_keys(run: Command, folder: Path) -> None:
    (folder / "checks").write_text("/^Subject:.*two/ S\n/^body/ B\n/./ other\n")
    message = "From: x\nSubject: one\n two\n\nbody line\n\nSubject: two\n"
    assert run("-hq", "-", "regexp:checks", stdin=message)[1] == "From: x\tother\nSubject: one\n two\tS\n"
    assert run("-bq", "-", "regexp:checks", stdin=message)[1] == "body line\tB\nSubject: two\tS\n"
    assert run("-hq", "-", "regexp:checks", stdin="Subject: two")[1] == "Subject: two\tS\n"
    assert run("-mq", "-", "regexp:checks", stdin="body line\n")[1] == "body line\tB\n"


def test_empty_lines_of_a_message(run: Command) -> None:
    assert run("-hbq", "-", "static:x", stdin="A: b\n\nc\n\n") == (0, "A: b\tx\n\tx\nc\tx\n\tx\n", "")
    assert run("-bq", "-", "static:x", stdin="A: b\nc\n") == (0, "\tx\nc\tx\n", "")
    part = "A: b\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\nB: c\n\nd\n"
    assert run("-bmq", "-", "static:x", stdin=part) == (0, "\tx\n\tx\nd\tx\n", "")


def test_parts_of_a_message_as_keys(run: Command, folder: Path) -> None:
    (folder / "checks").write_text("/^(.*)$/m <$1>\n")
    message = (
        "Subject: s\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: message/rfc822\n\nX: nested\n\ntext\n--b--\n"
    )
    headers = [line.partition("\t")[0] for line in run("-hmq", "-", "regexp:checks", stdin=message)[1].splitlines()]
    assert [line for line in headers if line] == [
        "Subject: s", "Content-Type: multipart/mixed; boundary=b", "Content-Type: message/rfc822", "X: nested"
    ]  # fmt: skip
    body = [line.partition("\t")[0] for line in run("-bmq", "-", "regexp:checks", stdin=message)[1].splitlines()]
    assert [line for line in body if line] == ["--b", "text", "--b--"]


def test_warnings_of_pattern_tables(run: Command, folder: Path) -> None:
    (folder / "checks").write_text("/(/ x\n/a/ y\n")
    assert run("-q", "a", "regexp:checks") == (
        0, "y\n", f"postmap: warning: regexp map {folder}/checks, line 1: Unmatched ( or \\(\n",
    )  # fmt: skip


def test_newaliases(run: Command, folder: Path) -> None:
    assert run(program="newaliases") == (0, "", "")
    (folder / "aliases").write_text("broken\n")
    status, _, error = run(program="newaliases")
    assert (status, error) == (0, f"postalias: warning: {folder}/aliases, line 1: need name:value pair\n")
    assert run("-q", "root", "hash:aliases")[0] == 1
    (folder / "aliases").unlink()
    status, _, error = run(program="newaliases")
    assert status == 1 and error == f"postalias: fatal: open {folder}/aliases: No such file or directory\n"
    status, _, error = run("x", program="newaliases")
    assert (status, error) == (75, "newaliases: fatal: alias initialization mode requires no recipient\n")


def test_the_network_in_a_process_of_its_own(folder: Path) -> None:
    code = "import sys; from gateway.commands.postmap import main; sys.exit(main(sys.argv[1:], None))"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", str(folder), "-q", "x", "tcp:127.0.0.1:1"],
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "Connection refused" in done.stderr and "Traceback" not in done.stderr


def test_a_plain_query_loads_no_reactor(folder: Path) -> None:
    code = (
        "import sys; from gateway.commands.postmap import main; main(sys.argv[1:], None); "
        "print('twisted.internet.reactor' in sys.modules, 'twisted.internet.defer' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", str(folder), "-q", "key", "hash:map"],
        capture_output=True, text=True, timeout=60, cwd=folder, env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.stdout == "value with  blanks\nFalse False\n"
