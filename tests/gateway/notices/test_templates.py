"""bounce_template_file."""

import pytest

from gateway.config import Settings
from gateway.log import MemoryLog
from gateway.notices.templates import BUILT_IN, TemplateError, load_templates, parse

FILE = """\
# a comment

failure_template = <<END
Charset: utf-8
from: postmaster (Post)
Subject: Sorry

Host $myhostname: ${delay_warning_time_minutes} of $maximal_queue_lifetime_hours, $$5
# not a comment
END
"""


def load(tmp_path, text, **parameters):
    path = tmp_path / "bounce.cf"
    path.write_text(text)
    log = MemoryLog()
    settings = Settings({"myhostname": "gw.my.domain", "bounce_template_file": str(path), **parameters})
    return load_templates(settings, log), log.text


def test_a_file(tmp_path):
    templates, log = load(tmp_path, FILE, delay_warning_time="2h")
    failure = templates["failure"]
    assert (failure.charset, failure.sender, failure.subject) == ("utf-8", "postmaster (Post)", "Sorry")
    assert failure.postmaster_subject == BUILT_IN["failure"].postmaster_subject
    assert failure.text == "Host gw.my.domain: 120 of 120, $5\n# not a comment\n"
    assert templates["delay"].subject == BUILT_IN["delay"].subject and log == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense\n", "line 1: expected"), ("other_template = <<EOF\nEOF\n", "line 1: expected"),
        ("failure_template = <<EOF\nSubject: x\n", "line 1: no line EOF ends"),
        ("failure_template = <<EOF\nX-Other: y\n\nEOF\n", "unknown header in a template"),
        ("failure_template = <<EOF\nSubject: ä\n\nEOF\n", "not ASCII"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, text, said):
    with pytest.raises(TemplateError, match=said):
        parse(text)
    templates, log = load(tmp_path, text)
    assert said in log and "built-in texts are used" in log
    assert templates["failure"].subject == BUILT_IN["failure"].subject


def test_a_broken_expression(tmp_path):
    templates, log = load(tmp_path, "failure_template = <<EOF\n\n${myhostname\nEOF\n")
    assert "failure_template:" in log
    assert "gw.my.domain" in templates["failure"].text


def test_a_file_that_is_not_there(tmp_path):
    log = MemoryLog()
    templates = load_templates(Settings({"bounce_template_file": str(tmp_path / "none")}), log)
    assert "No such file" in log.text and set(templates) == set(BUILT_IN)
