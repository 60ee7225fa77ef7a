"""postmap, postalias, newaliases: exit statuses and output as Postfix's."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
    assert run("-q", "", "static:x") == (1, "", "")
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
        (["-b", "-q", "x", "hash:map"], 'specify -b or -h only with "-q -"'),
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


def test_build_checks_the_text(run: Command, folder: Path) -> None:
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
    assert run("-q", "a", "hash:map")[0] == 1


def test_list(run: Command, folder: Path) -> None:
    (folder / "map").write_text('b 1\n"two words" 2\n')
    assert run("-s", "hash:map") == (0, 'b\t1\n"two words"\t2\n', "")
    assert run("-s", "aliases", program="postalias") == (0, "root:\tjane\ntwo words:\tx\n", "")
    assert [json.loads(line) for line in run("-sj", "hash:map")[1].splitlines()] == [{"b": "1"}, {"two words": "2"}]


def test_delete(run: Command, folder: Path) -> None:
    assert run("-d", "KEY", "hash:map") == (0, "", "")
    assert (folder / "map").read_text() == "other o\n"
    assert run("-d", "key", "hash:map") == (1, "", "")
    assert run("-d", "-", "hash:map", stdin="none\nother\n") == (0, "", "")
    assert (folder / "map").read_text() == ""


def test_incremental(run: Command, folder: Path) -> None:
    error = run("-i", "hash:map", stdin="new n\nOther x\nKey x\n")[2]
    assert error == "".join(f'postmap: warning: {folder}/map: duplicate entry: "{key}"\n' for key in ("other", "key"))
    assert run("-q", "key", "hash:map")[1] == "value with  blanks\n"
    assert run("-q", "new", "hash:map")[1] == "n\n"
    assert run("-wi", "hash:map", stdin="key y\n") == (0, "", "")
    assert run("-ri", "hash:map", stdin="key z\n") == (0, "", "")
    assert (folder / "map").read_text() == "other o\nnew\tn\nkey\tz\n"
    assert run("-i", "hash:made", stdin="a b\n") == (0, "", "")
    assert (folder / "made").read_text() == "a\tb\n"


def test_headers_and_body_as_keys(run: Command, folder: Path) -> None:
    (folder / "checks").write_text("/^Subject:.*two/ S\n/^body/ B\n/./ other\n")
    message = "From: x\nSubject: one\n two\n\nbody line\n\nSubject: two\n"
    assert run("-hq", "-", "regexp:checks", stdin=message)[1] == "From: x\tother\nSubject: one\n two\tS\n"
    assert run("-bq", "-", "regexp:checks", stdin=message)[1] == "body line\tB\nSubject: two\tS\n"
    assert run("-hq", "-", "regexp:checks", stdin="Subject: two")[1] == "Subject: two\tS\n"


def test_warnings_of_pattern_tables(run: Command, folder: Path) -> None:
    (folder / "checks").write_text("/(/ x\n/a/ y\n")
    assert run("-q", "a", "regexp:checks") == (
        0, "y\n", f"postmap: warning: {folder}/checks, line 1: regexp map: Unmatched ( or \\(\n",
    )  # fmt: skip


def test_newaliases(run: Command, folder: Path) -> None:
    assert run(program="newaliases") == (0, "", "")
    (folder / "aliases").write_text("broken\n")
    status, _, error = run(program="newaliases")
    assert (status, error) == (0, f"postalias: warning: {folder}/aliases, line 1: need name:value pair\n")
    (folder / "aliases").unlink()
    status, _, error = run(program="newaliases")
    assert status == 1 and error == f"postalias: fatal: open {folder}/aliases: No such file or directory\n"


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
