"""The texts of notices, built in or from bounce_template_file; bounce(5).

A template is a character set, a From, a Subject, a Subject for postmaster copies, and a text in which $name stands for
a parameter; delay_warning_time_hours and the like (seconds, minutes, hours, days, weeks; maximal_queue_lifetime_…) for
a time in that unit.  A file that cannot be read or has a mistake: one warning, and the built-in text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gateway.config import Settings
from gateway.interfaces import Log

PROGRAM = "bounce"

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800}
_TIMES = ("delay_warning_time", "maximal_queue_lifetime")
_TIME_NAME = re.compile(rf"\$[{{(]?({'|'.join(_TIMES)})_({'|'.join(_UNITS)})[)}}]?")
_START = re.compile(r"(\w+)\s*=\s*<<\s*(\S+)\s*\Z")
_HEADER = re.compile(r"(Charset|From|Subject|Postmaster-Subject)\s*:\s*(.*)\Z", re.IGNORECASE)

_SENDER = ""

_HELP = """\
If you need help, write to postmaster and send this report along.
The part of it that is a copy of your own message may be left out.

                   The mail system
"""


@dataclass(frozen=True, slots=True)
class Template:
    charset: str
    sender: str
    """"" = ours, in the form that header_from_format wants."""
    subject: str
    postmaster_subject: str
    text: str


BUILT_IN = {
    "failure": Template(
        "us-ascii",
        _SENDER,
        "Undelivered Mail Returned to Sender",
        "Postmaster Copy: Undelivered Mail",
        "This is the mail system at host $myhostname.\n\n"
        "Your message could not be delivered to the recipients that are listed\n"
        "below, and will not be tried again.  What could not be delivered is\n"
        "attached.\n\n" + _HELP,
    ),
    "delay": Template(
        "us-ascii",
        _SENDER,
        "Delayed Mail (still being retried)",
        "Postmaster Warning: Delayed Mail",
        "This is the mail system at host $myhostname.\n\n"
        "THIS IS ONLY A WARNING.  THERE IS NO NEED TO SEND YOUR MESSAGE AGAIN.\n\n"
        "Your message has not been delivered for $delay_warning_time_hours hour(s).\n"
        "It will be tried until it is $maximal_queue_lifetime_days day(s) old.\n\n" + _HELP,
    ),
    "success": Template(
        "us-ascii",
        _SENDER,
        "Successful Mail Delivery Report",
        "",
        "This is the mail system at host $myhostname.\n\n"
        "Your message has reached the destinations that are listed below.  If it\n"
        "was put into a mailbox, that is all; if it was passed on, other systems\n"
        "may still report trouble with it.\n\n"
        "                   The mail system\n",
    ),
    "verify": Template(
        "us-ascii",
        _SENDER,
        "Mail Delivery Status Report",
        "",
        "This is the mail system at host $myhostname.\n\n"
        "This is the report on mail delivery that you asked for.\n\n"
        "                   The mail system\n",
    ),
}


class TemplateError(ValueError):
    """A template file that cannot be used; the text says where and why."""


def load_templates(settings: Settings, log: Log) -> dict[str, Template]:
    """The templates "failure", "delay", "success", "verify", with $names in their texts replaced."""
    templates = dict(BUILT_IN)
    path = settings.text("bounce_template_file")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                templates |= parse(file.read())
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            log.warning(PROGRAM, f"bounce_template_file {path}: {error}; built-in texts are used")
    expanded = {}
    for name, template in templates.items():
        try:
            expanded[name] = replace(template, text=expand_text(template.text, settings))
        except ValueError as error:
            log.warning(PROGRAM, f"bounce_template_file {path}: {name}_template: {error}; the built-in text is used")
            expanded[name] = replace(BUILT_IN[name], text=expand_text(BUILT_IN[name].text, settings))
    return expanded


def expand_text(text: str, settings: Settings) -> str:
    """Names of parameters and times replaced.  Raises ValueError (a broken $expression)."""

    def time_value(match: re.Match[str]) -> str:
        return str(int(settings.seconds(match[1]) // _UNITS[match[2]]))

    return settings.expand(_TIME_NAME.sub(time_value, text))


def parse(text: str) -> dict[str, Template]:
    """The templates of a file.  Raises TemplateError."""
    found: dict[str, Template] = {}
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        start = _START.match(line)
        name = start[1].removesuffix("_template") if start else ""
        if not start or name not in BUILT_IN:
            raise TemplateError(f"line {number}: expected failure_template, delay_template, success_template or "
                                "verify_template, and = <<EOF")
        body = []
        for _, inner in lines:
            if inner.strip() == start[2]:
                break
            body.append(inner)
        else:
            raise TemplateError(f"line {number}: no line {start[2]} ends the {name} template")
        found[name] = _template(BUILT_IN[name], body)
    return found


def _template(base: Template, lines: list[str]) -> Template:
    values: dict[str, str] = {}
    while lines and (header := _HEADER.match(lines[0])):
        values[header[1].lower()] = header[2].strip()
        lines.pop(0)
    if any(not value.isascii() for value in values.values()):
        raise TemplateError("a header of a template has characters that are not ASCII")
    if lines and lines[0].strip():
        raise TemplateError(f"unknown header in a template: {lines[0]!r}")
    return Template(
        values.get("charset", base.charset),
        values.get("from", base.sender),
        values.get("subject", base.subject),
        values.get("postmaster-subject", base.postmaster_subject),
        "\n".join(lines[1:]) + "\n",
    )
