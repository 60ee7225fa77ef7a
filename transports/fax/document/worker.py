"""The process that draws a mail: it reads a line of JSON (the Wish) and the mail from standard input, and leaves a PDF,
a TIFF, a thumbnail and its report in the working directory.

Whatever is in the mail may try to break it, so it shuts itself in first (transports.fax.document.sandbox), and its
parent, which started it with the rights of a user that owns nothing, believes only plain files.  report.json says
which part is being drawn ("at") for the case that it does not come to its end; at the end the pages and parts, or
"trouble": why "at" can never be drawn (status 1), or "not_now": what is wrong with this machine (status 1).
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transports.fax.document import sandbox
from transports.fax.document.assemble import REPORT
from transports.fax.document.wish import NotNow, Part, Unrenderable, Wish, from_json

_FILES = ("/usr", "/lib", "/lib64", "/bin", "/etc/fonts", "/etc/ld.so.cache", "/dev/urandom")
_LONGEST_ORDER = 10_000_000
_MISSING = "pip install 'mailgateway[fax]'"


def main() -> int:
    folder = Path.cwd()
    report = Report(folder / REPORT)
    try:
        stdin = sys.stdin.buffer
        wish = from_json(json.loads(stdin.readline(_LONGEST_ORDER)))
        draw = prepare(folder, wish)
        mail = stdin.read(wish.max_bytes + 1)
        if len(mail) > wish.max_bytes:
            raise Unrenderable("the message", f"is larger than {wish.max_bytes} bytes")
        pages, parts = draw(mail, report.at)
    except Unrenderable as error:
        report.write(at=error.part, trouble=error.reason)
        return 1
    except NotNow as error:
        report.write(not_now=str(error))
        return 1
    except MemoryError:
        report.write(trouble=f"takes more than {wish.memory // 1_000_000} MB of memory to draw")
        return 1
    except OSError as error:
        if error.errno == errno.EFBIG:
            report.write(trouble=f"takes more than {wish.max_bytes} bytes on disk")
        else:
            report.write(not_now=f"the machine is in trouble: {error}")
        return 1
    facts = [{name: getattr(part, name) for name in Part.__dataclass_fields__} for part in parts]
    report.write(pages=pages, parts=facts)
    return 0


def prepare(folder: Path, wish: Wish) -> Callable[[bytes, Callable[[str], None]], tuple[int, list[Part]]]:
    """What is needed is loaded, then the door is shut."""
    try:
        from transports.fax.document import office
        from transports.fax.document.drawing import Drawing
        from transports.fax.document.fonts import Fonts

        fonts = Fonts()
    except ModuleNotFoundError as error:
        raise NotNow(f"drawing needs the package {error.name}: {_MISSING}") from None
    except OSError as error:
        raise NotNow(f"drawing needs a library: {error} (Debian: libpangoft2-1.0-0)") from None
    if not fonts.have("A"):
        raise NotNow("there is no font to draw with (Debian: fonts-dejavu-core)")
    readable = {*_FILES, sys.prefix, sys.base_prefix, *filter(None, sys.path), *fonts.folders(), *office.folders()}
    sandbox.shut_in(folder, readable, seconds=wish.seconds, memory=wish.memory, file_size=wish.max_bytes)

    def draw(mail: bytes, at: Callable[[str], None]) -> tuple[int, list[Part]]:
        return Drawing(wish, folder, fonts, at).finish(mail)

    return draw


class Report:
    """The file in which the gateway reads how far it got."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = ""

    def at(self, part: str) -> None:
        """This part is next."""
        self._at = part
        self.write()

    def write(self, **facts: Any) -> None:
        """In one go, so that there is never half a report."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"at": self._at, **facts}))
        os.replace(new, self._path)


if __name__ == "__main__":
    sys.exit(main())
