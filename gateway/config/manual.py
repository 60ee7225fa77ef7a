"""The reference of all parameters, mailgateway-parameters(5), made from the table.

    python -m gateway.config.manual [FILE]      writes FILE, by default man/mailgateway-parameters.5

A test fails when the page in the repository differs from what ``page`` makes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from gateway.config import parameters
from gateway.config.parameters import FAMILIES, Parameter

PAGE = Path(__file__).parents[2] / "man" / "mailgateway-parameters.5"

HEADINGS = {
    "identity-classes": "Who we are, and whose mail we take",
    "routing": "Where mail goes",
    "rewriting": "Addresses",
    "virtual-alias": "Virtual aliases",
    "virtual-mailbox": "Virtual mailboxes",
    "local-pipe": "Local delivery and pipes",
    "smtpd-session": "SMTP server: sessions",
    "smtpd-restrictions": "SMTP server: restrictions",
    "rate-limits": "SMTP server: limits on clients",
    "policy-service": "SMTP server: policy services",
    "address-verify": "SMTP server: probes of addresses",
    "smtpd-sasl": "SMTP server: log-in",
    "smtpd-tls": "SMTP server: TLS",
    "filter-proxy": "Filters and proxies",
    "milter": "Milters",
    "content-cleanup": "Messages: checks, limits, copies",
    "smtp-client": "SMTP client",
    "smtp-sasl": "SMTP client: log-in",
    "smtp-tls": "SMTP client: TLS",
    "connection-cache": "SMTP client: connections that are kept",
    "lmtp-client": "LMTP client",
    "lmtp-tls": "LMTP client: TLS",
    "scheduler-queue": "Queue and scheduling",
    "sched-per-transport": "Limits of a service of its own",
    "dsn-bounce": "Notifications",
    "verp": "VERP",
    "etrn-flush": "Flushing by destination",
    "eai": "Internationalized addresses",
    "submission-local": "Commands of local users",
    "uucp": "UUCP",
    "tables": "Lookup tables",
    "logging": "Log",
    "tls-engine": "TLS in general",
    "paths-owners": "Places and accounts",
    "process-ipc": "Processes",
    "multi-instance": "Instances",
    "postscreen": "Postscreen",
    "tlsproxy": "TLS proxy",
    "qmqp": "QMQP",
}
"""Family → heading, in the order of the page."""

_TYPES = {
    parameters.TEXT: "text",
    parameters.RAW: "text, names in it replaced on use",
    parameters.NUMBER: "number",
    parameters.SECONDS: "time",
    parameters.FLAG: "yes or no",
    parameters.WORDS: "list",
    parameters.TABLES: "tables",
}
_EFFECTS = {
    parameters.MUST: "",
    parameters.LATER: "Not yet effective.",
    parameters.NEVER: "Accepted, without effect.",
}

_HEAD = r""".\" Made by gateway.config.manual from the table of parameters: do not edit.
.TH MAILGATEWAY\-PARAMETERS 5 "" mailgateway "File formats"
.nh
.ad l
.SH NAME
mailgateway\-parameters \- every parameter of main.cf that the mail gateway knows
.SH DESCRIPTION
A setting in main.cf is a line
.BR "name = value" ;
lines that begin with a blank continue it, lines that begin with # are comments.
.B $name
in a value stands for another one's value,
.B ${name?text}
for text if that is not empty,
.B ${name:text}
for text if it is,
.B "${{a} == {b} ? {text} : {other}}"
compares (also !=, <, <=, >, >=, and with "level" behind them for compatibility levels).
$$ is a dollar sign.
master.cf overrides a setting for one service by
.B "\-o name=value"
or
.BR "\-o { name = value }" .
.PP
A time is a number with s, m, h, d or w behind it; without a unit, the default's counts.
Lists are separated by commas or blanks; what stands in braces is one member.
Tables are given as type:name.
"mailgateway postconf \-d" prints these defaults, "mailgateway check" says what is wrong with a configuration.
"""


def page() -> str:
    """The whole page, in the man macros."""
    parts = [_HEAD]
    table = parameters.table().values()
    for family, heading in HEADINGS.items():
        parts.append(f'.SH "{heading.upper()}"\n')
        parts += _entries(parameter for parameter in table if parameter.family == family)
    parts.append('.SH "FOR EACH SERVICE"\nSERVICE stands for the name of any delivery service in master.cf.\n')
    parts += (_entry(_family(suffix)) for suffix in FAMILIES)
    parts.append('.SH "SEE ALSO"\nmailgateway(8), mailgateway\\-main.cf(5), mailgateway\\-postconf(1)\n')
    return "".join(parts)


def _family(suffix: str) -> Parameter:
    default, type = FAMILIES[suffix]
    source = parameters.table()[default.removeprefix("$")]
    return Parameter(f"SERVICE_{suffix}", default, type, source.effect, "", source.meaning)


def _entries(chosen: Iterable[Parameter]) -> Iterable[str]:
    return (_entry(parameter) for parameter in chosen)


def _entry(parameter: Parameter) -> str:
    default = "depends on the machine" if parameter.default == parameters.COMPUTED else parameter.default or "empty"
    lines = [
        ".TP",
        f".B {_escape(parameter.name)}",
        f"({_TYPES[parameter.type]}; default: {' '.join(map(_breakable, default.split(' ')))})",
        ".br",
        _escape(parameter.meaning) + ".",
        _EFFECTS[parameter.effect],
    ]
    return "".join(line + "\n" for line in lines if line)


_LONG = 60

_ROFF = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq"})


def _escape(text: str) -> str:
    """Text that roff prints as it is."""
    return text.translate(_ROFF)


def _breakable(word: str) -> str:
    """A word with places where a line may end, if it is longer than a line."""
    pieces = re.findall(r"[^,]{1,40},?|,", word) if len(word) > _LONG else [word]
    return "\\:".join(map(_escape, pieces))


def main(arguments: list[str]) -> int:
    target = Path(arguments[0]) if arguments else PAGE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
