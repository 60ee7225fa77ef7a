"""README, manual pages and packaging say what is there: commands, options, parameters, files, examples."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gateway.commands
import gateway.policy.compose  # noqa: F401 (registers the restrictions)
import twisted.plugins
from gateway.commands import postconf, sendmail_options
from gateway.config import check_services, parameters
from gateway.notices.templates import BUILT_IN
from gateway.policy.registry import RESTRICTIONS
from gateway.tables import table_types
from tests.gateway.tables.support import Bench
from transports.fax import service as fax_service

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "man").iterdir())
README = (ROOT / "README.md").read_text("utf-8")

NO_PARAMETERS = re.compile(
    r"(?:permit|reject|defer|check|warn)_\w+|\w+_template|[0-9a-z]+_(?:table|cf)|queue_(?:name|id)|"
    r"(?:arrival_time|message_size|forced_expire|delay_reason|process_limit|folds_case|whole_keys|holiday_table)|"
    r"(?:client|sasl|original|null)_\w+|connection_reuse|(?:batch|bulk|urgent)_(?:wait|size|grade)|(?:delay_warning_time|maximal_queue_lifetime)_\w+|fax_numbers|"
    rf"{'|'.join(fax_service.ATTRIBUTES)}|fax_mailboxes|"
    r"(?:reverse_client_hostname|header_checks|master_cf|main_cf)|\w*_test_?\w*"
)
"""Words that look like parameters: restrictions, templates, keys of JSON, macros of pipe, names of files."""


def name(page: Path) -> str:
    return page.name


def text_of(page: str) -> str:
    """A page's text with the escapes of roff taken away."""
    text = (ROOT / "man" / page).read_text("utf-8")
    return re.sub(r"\\f[BIRP]|\\&|\\:", "", text).replace("\\-", "-").replace("\\e", "\\").replace("\\(aq", "'")


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_is_laid_out_without_a_warning(page: Path) -> None:
    if shutil.which("man"):
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
    elif shutil.which("groff"):
        command = ["groff", "-man", "-Tutf8", "-ww", "-Z", "-K", "utf8", str(page)]
    else:
        pytest.skip("neither man nor groff is installed (package man-db)")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    made = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (made.returncode, made.stderr) == (0, "")
    assert len(made.stdout) > 1000


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"^\.BR? mailgateway(\S*) ?\((\d)\)", text_of(page.name), re.MULTILINE)
    missing = [one for one in named if not (ROOT / "man" / "mailgateway{}.{}".format(*one)).exists()]
    assert missing == []


def test_the_wheel_installs_every_page_where_man_looks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {f"man/{page.name}": f"share/man/man{page.suffix[1:]}/{page.name}" for page in PAGES}


# --- commands --------------------------------------------------------------------------------------------------------

COMMANDS = sorted(
    module.name.replace("_", "-")
    for module in pkgutil.iter_modules(gateway.commands.__path__)
    if hasattr(importlib.import_module(f"gateway.commands.{module.name}"), "SUMMARY")
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page(command: str) -> None:
    named = "".join(re.findall(r"\.SH NAME\n(.*?)\n\.SH", text_of(page.name), re.DOTALL)[0] for page in PAGES)
    assert f"mailgateway-{command}," in named or f"mailgateway-{command} -" in named
    assert re.search(rf"^\.BR? .*\b{command}\b", text_of("mailgateway.8"), re.MULTILINE), "not in mailgateway(8)"


def accepted(command: str) -> set[str]:
    """The letters of a command's getopt string."""
    source = (ROOT / "gateway" / "commands" / f"{command}.py").read_text("utf-8")
    (found,) = re.findall(r'getopt\((?:arguments|rest), "([^"]+)"', source)
    return set(found.replace(":", ""))


OPTIONS = {
    "mailgateway-check.8": accepted("check"),
    "mailgateway-postcat.1": accepted("postcat"),
    "mailgateway-postconf.1": set(postconf._OPTIONS.replace(":", "")),
    "mailgateway-postmap.1": accepted("postmap"),
    "mailgateway-postqueue.1": accepted("postqueue"),
    "mailgateway-postsuper.1": accepted("postsuper"),
    "mailgateway-sendmail.1": sendmail_options._WITH_VALUE | sendmail_options._FLAGS | {"q"},
}


@pytest.mark.parametrize("page", OPTIONS)
def test_a_page_has_the_options_that_the_command_takes(page: str) -> None:
    described = text_of(page).split(".SH DESCRIPTION")[1].split(".SH EXAMPLES")[0]
    lines = "\n".join(line for line in described.split("\n") if line.startswith(".B"))
    assert set(re.findall(r'(?<![\w-])-([A-Za-z#])', lines)) == OPTIONS[page]


# --- what pages list -------------------------------------------------------------------------------------------------


_NAME = re.compile(r"(?<![\w./$\\{-])[a-z0-9]+(?:_[a-z0-9]+)+(?![\w(*.])")
WRITTEN = [page.name for page in PAGES if page.name != "mailgateway-parameters.5"]


@pytest.mark.parametrize("text", [*map(text_of, WRITTEN), README], ids=[*WRITTEN, "README"])
def test_no_parameter_is_named_that_does_not_exist(text: str) -> None:
    text = text.split('.SH "OF DATABASES"')[0]
    words = set(_NAME.findall(text))
    known = parameters.find
    assert [one for one in sorted(words) if known(one) is None and not NO_PARAMETERS.fullmatch(one)] == []


def test_the_parameters_of_databases_are_those_that_are_read() -> None:
    section = text_of("mailgateway-tables.5").split('.SH "OF DATABASES"')[1]
    read = "".join(path.read_text() for path in (ROOT / "gateway/tables/databases").glob("*.py"))
    kinds = {f"{kind}result_attribute" for kind in ("", "special_", "terminal_", "leaf_")}
    named = set(_NAME.findall(section)) - kinds - {"aliases_hosts", "aliases_query"}
    assert [one for one in sorted(named) if not re.search(f"[\"']{one}[\"']", read)] == []


def test_the_page_on_tables_has_all_types() -> None:
    text = text_of("mailgateway-tables.5").split("The types mongodb")[0]
    named = "\n".join(line for line in text.split("\n") if line.startswith(".B"))
    assert [one for one in table_types() if not re.search(rf"(?<![\w-]){one}\b", named)] == []


def test_the_page_on_the_configuration_has_all_restrictions_and_commands() -> None:
    text = text_of("mailgateway-main.cf.5")
    old = {"check_recipient_maps", "reject_rbl", "reject_unknown_address", "reject_unknown_client"}
    of_hosts = re.compile(r"check_\w+_(?:mx|ns|a)_access|reject_(?:invalid|non_fqdn|unknown)_hostname")
    missing = [one for one in RESTRICTIONS if not re.search(rf"\b{one}\b", text) and not of_hosts.fullmatch(one)]
    assert set(missing) <= old
    named = set(re.findall(r"\b(?:permit|reject|defer|check)_\w+", text)) - RESTRICTIONS.keys()
    assert named == set()
    commands = check_services.COMMANDS | check_services.NOT_YET | check_services.WITHOUT_EFFECT
    assert [one for one in sorted(commands) if one not in text] == []
    assert [one for one in sorted(check_services.PIPE_ATTRIBUTES) if f"{one}=" not in text] == []


def test_the_page_on_notices_has_all_texts() -> None:
    text = text_of("mailgateway-notices.5")
    assert set(re.findall(r"(\w+)_template\b(?! names)", text)) - {"bounce"} == set(BUILT_IN)


# Not literally in the code: it puts a prefix before these.
PUT_TOGETHER = re.compile(
    r"(?:smtp|lmtp|smtpd)_\w+|(?:sender|recipient)_canonical_classes|(?:bounce|2bounce|delay|error)_notice_recipient|"
    r"\w+_destination_(?:recipient|concurrency)_limit|address_verify_\w+"
)


def test_what_counts_as_effective_is_read_by_the_code() -> None:
    """A setting that nothing reads must not be called effective: "later" or "never" is its class."""
    left_out = {"check.py", "check_services.py", "manual.py", "later.py"}
    code = "".join(
        path.read_text("utf-8")
        for folder in ("gateway", "transports", "spool")
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in left_out
    )
    words = set(re.findall(r"\w+", code))
    table = parameters.table()
    defaults = " ".join(one.default for one in table.values())
    unread = [
        one.name
        for one in table.values()
        if one.effect == parameters.MUST
        and one.name not in words
        and not re.search(rf"\$[{{(]?{one.name}\b", defaults)
        and not (PUT_TOGETHER.fullmatch(one.name) and words & suffixes(one.name))
    ]
    assert unread == []


def suffixes(parameter: str) -> set[str]:
    """The parts of a name that code may put a prefix before: tls_loglevel, loglevel, … of smtp_tls_loglevel."""
    parts = parameter.split("_")
    return {"_".join(parts[at:end]) for at in range(1, len(parts)) for end in (len(parts), len(parts) - 1)}


def test_the_plug_in_of_the_manual_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^\.nf\n(.*?)^\.fi", text_of("mailgateway-plugins.7"), re.MULTILINE | re.DOTALL)
    classes = [block for block in blocks if "implementer" in block]
    for block in classes:
        compile(block.replace("\\-", "-"), "mailgateway-plugins.7", "exec")
    (module,) = (block for block in classes if "IGatewayPlugin" in block)
    (tmp_path / "holiday_table.py").write_text(module)
    (tmp_path / "away").write_text("joe@my.domain\n")
    monkeypatch.setattr(twisted.plugins, "__path__", [str(tmp_path)])
    try:
        bench = Bench()
        assert bench.ask(f"python:holidays:{tmp_path}/away", "joe@my.domain") == "holiday@my.domain"
        assert bench.ask(f"python:holidays:{tmp_path}/away", "ann@my.domain") is None
    finally:
        sys.modules.pop("twisted.plugins.holiday_table", None)


# --- README ----------------------------------------------------------------------------------------------------------


def blocks(*languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def test_the_first_two_commands_run_and_test_it() -> None:
    first, second = blocks("sh", "bash", "shell", "console")[:2]
    assert (first, second) == ("sh examples/first-message/run\n", "sh tests/run\n")


def test_what_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    scripts = re.findall(r"\bsh ([\w./-]+)", "".join(blocks("sh")))
    assert [one for one in [*links, *scripts] if not (ROOT / one).exists()] == []
    named = {one for text in blocks("sh") for one in re.findall(r"(?:^|bin/)mailgateway ([a-z-]+)", text, re.MULTILINE)}
    assert named <= {*COMMANDS, "help"}


def test_its_excerpts_stand_in_the_examples() -> None:
    """Blocks without a language are excerpts of files in examples/."""
    paths = [path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.suffix not in (".pyc", ".png")]
    files = [path.read_text("utf-8") for path in paths]
    lines = {" ".join(line.split()) for text in files for line in text.split("\n")}
    excerpts = "".join(blocks("")).split("\n")
    assert [one for one in excerpts if " ".join(one.split()) not in lines] == []
    assert len(excerpts) > 10


@pytest.mark.parametrize("script", ["examples/first-message/run", "tests/run", "tests/copy", ".ci/run"])
def test_scripts_have_no_mistake_that_a_shell_sees(script: str) -> None:
    shell = (ROOT / script).read_text().partition("\n")[0].rpartition("/")[2].removeprefix("env ")
    assert subprocess.run([shell, "-n", ROOT / script]).returncode == 0


# --- fax --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", sorted(fax_service.ATTRIBUTES))
def test_the_page_on_fax_has_all_attributes(attribute: str) -> None:
    assert re.search(rf"(?<![a-z_]){attribute}=", text_of("mailgateway-fax.8"))
