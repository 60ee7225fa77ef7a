from __future__ import annotations

from pathlib import Path

from gateway.config import manual, parameters


def test_the_page_in_the_repository_is_up_to_date() -> None:
    assert manual.PAGE.read_text("utf-8") == manual.page(), "run: python -m gateway.config.manual"


def test_every_parameter_is_on_it() -> None:
    families = {parameter.family for parameter in parameters.table().values()}
    assert families == set(manual.HEADINGS)
    lines = set(manual.page().split("\n"))
    for name in parameters.table():
        assert f".B {name}" in lines


def test_no_line_is_taken_for_a_command() -> None:
    for line in manual.page().split("\n"):
        if line.startswith("."):
            assert line.split()[0] in (".TH", ".SH", ".B", ".BR", ".PP", ".TP", ".ad", ".br", ".nh", '.\\"'), line
        assert not line.startswith("'")


def test_it_is_written_where_one_says(tmp_path: Path) -> None:
    assert manual.main([str(tmp_path / "page.5")]) == 0
    assert (tmp_path / "page.5").read_text("utf-8") == manual.page()
