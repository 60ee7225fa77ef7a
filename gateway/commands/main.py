"""`mailgateway NAME [-c DIR] ARGUMENTS`: finds the command and runs it.

Each command is a module of this package with ``SUMMARY`` and ``main(arguments, directory) -> exit status``; it is
loaded only when it is asked for.  Under a name of its own (a link made by `mailgateway install-links`) the program is
that command.  The configuration directory is -c's, else $MAIL_CONFIG, else None: built-in defaults.

What a command does not expect ends in one line on standard error and a status of sysexits.h: 78 for a configuration
that cannot be used, 75 for trouble of the machine (files, memory), 70 for a mistake of ours.  With MAILGATEWAY_DEBUG in
the environment the traceback comes with it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType

EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_OSERR, EX_TEMPFAIL, EX_CONFIG = 64, 69, 70, 71, 75, 78

PROGRAM = "mailgateway"
ALIASES = {
    "crmail": "rmail",
    **dict.fromkeys(("crsmtp", "gsmtp", "bsmtp", "zsmtp", "xsmtp", "rcsmtp", "rgsmtp", "rbsmtp"), "rsmtp"),
}
"""Names under which UUCP neighbours ask for the same command: it finds out itself how its input is packed."""
_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")


def main() -> int:
    """The console script."""
    try:
        status = _main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
        return EX_TEMPFAIL


def _main() -> int:
    called = os.path.basename(sys.argv[0])
    arguments = sys.argv[1:]
    if called != PROGRAM and not called.startswith("__") and find(called) is not None:
        name = called
    elif arguments and arguments[0] not in ("-h", "--help", "help"):
        name, *arguments = arguments
    else:
        print(usage())
        return 0 if arguments else EX_USAGE
    given: Path | None = None
    if called != name and arguments[:1] == ["-c"] and len(arguments) > 1:
        given = Path(arguments[1])
        arguments = arguments[2:]
    from gateway.config.builtin import configured_directory  # only here: help needs no configuration

    return run(name, arguments, configured_directory(given))


def find(name: str) -> ModuleType | None:
    """The module of a command, or None."""
    name = ALIASES.get(name, name)
    if not _NAME.match(name):
        return None
    module = f"{__package__}.{name.replace('-', '_')}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    return found if hasattr(found, "SUMMARY") else None


def run(name: str, arguments: list[str], directory: Path | None) -> int:
    """Run a command; its exit status.  Raises BrokenPipeError only."""
    try:
        command = find(name)
        if command is None:
            print(f"{PROGRAM}: no command {name!r}; '{PROGRAM} help' lists them", file=sys.stderr)
            return EX_USAGE
        return int(command.main(arguments, directory) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        return _failed(name, error)


def _failed(name: str, error: Exception) -> int:
    if os.environ.get("MAILGATEWAY_DEBUG"):
        import traceback

        traceback.print_exc()
    from gateway.config import ConfigError

    if isinstance(error, ConfigError):
        print(f"{name}: fatal: {error}", file=sys.stderr)
        return EX_CONFIG
    text = str(error) or type(error).__name__
    if isinstance(error, OSError | MemoryError):
        print(f"{name}: fatal: {text}", file=sys.stderr)
        return EX_TEMPFAIL
    print(f"{name}: fatal: internal error: {type(error).__name__}: {text}", file=sys.stderr)
    return EX_SOFTWARE


def usage() -> str:
    """What there is."""
    import pkgutil

    lines = [f"usage: {PROGRAM} NAME [-c DIRECTORY] [ARGUMENTS]", ""]
    for module in sorted(pkgutil.iter_modules(sys.modules[__package__ or ""].__path__), key=lambda one: one.name):
        command = find(module.name.replace("_", "-"))
        if command is not None:
            lines.append(f"  {module.name.replace('_', '-'):<14}{command.SUMMARY}")
    lines += ["", "DIRECTORY holds main.cf and master.cf; without it: $MAIL_CONFIG, or built-in defaults."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
