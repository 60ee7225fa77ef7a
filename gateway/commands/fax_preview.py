"""fax-preview: the pages that a mail becomes as a fax, before anyone pays for them.

    mailgateway fax-preview [OPTIONS] [FILE]

Reads a mail from FILE or standard input, tells what of it is drawn on how many pages and what not and why, and how long
it takes on the telephone.  With -s SERVICE it is drawn as that fax service of master.cf would.  With -o OUT the pages
are written: .pdf, .tiff, or .png (one page a file: OUT-1.png …).  Drawing is done as for sending, in a process that is
shut in; started by root, with the rights of the service or of default_privs.  Exit status 0, 65 if something cannot be
drawn, 75 if nothing can be drawn now.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.commands.postmap import settings_for
from gateway.config.builtin import load_configuration
from transports.accounts import default_privileges
from transports.fax.document import Cover, Document, NotNow, Part, Unrenderable, Wish, assemble
from transports.process import Identity, Runner

if TYPE_CHECKING:
    from transports.fax.service import FaxService

SUMMARY = "show the pages that a mail becomes as a fax"
EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_CANTCREAT, EX_TEMPFAIL = 64, 65, 66, 73, 75

BITS_A_SECOND = 14_400
CALL, PAGE = 15, 4
"""Seconds that a call and a page take beside their dots: training, confirmation."""
_COVER = [name for name in Cover.__dataclass_fields__ if name not in ("pages", "template")]
_ENDINGS = (".pdf", ".tiff", ".tif", ".png")


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        asked = _parser(directory).parse_args(arguments)
        service = _service(asked)
        wish = _wish(asked, service)
    except SystemExit as end:
        return EX_USAGE if end.code else 0
    except (OSError, UnicodeDecodeError) as error:
        return _fail(str(error), EX_NOINPUT)
    folder = Path(tempfile.mkdtemp(prefix="fax-preview-"))
    try:
        mail = folder / "mail"
        try:
            with open(asked.file or 0, "rb", closefd=bool(asked.file)) as source, mail.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except OSError as error:
            return _fail(f"{error.filename or asked.file}: {error.strerror}", EX_NOINPUT)
        return _preview(mail, folder, wish, asked, service)
    except Unrenderable as error:
        return _fail(f"cannot be drawn: {error}", EX_DATAERR)
    except NotNow as error:
        return _fail(str(error), EX_TEMPFAIL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _preview(mail: Path, folder: Path, wish: Wish, asked: argparse.Namespace, service: FaxService | None) -> int:
    if service and os.geteuid() == 0:
        identity = service.identity
    else:
        identity = default_privileges(settings_for(asked.directory))
    folder.chmod(0o711)
    pages = folder / "pages"
    pages.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(pages, identity.uid, identity.gid)
    document = _run(mail, pages, wish, identity)
    _tell(document)
    if asked.out:
        try:
            for path in _write(document, asked.out):
                print(f"written: {path}")
        except OSError as error:
            return _fail(f"{error.filename or asked.out}: {error.strerror}", EX_CANTCREAT)
    return EX_DATAERR if any(part.trouble for part in document.parts) else 0


def _parser(directory: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mailgateway fax-preview", description=SUMMARY)
    parser.add_argument("-c", dest="directory", type=Path, default=directory, metavar="DIRECTORY")
    parser.add_argument("-o", dest="out", type=_output, metavar="OUT", help="write the pages: .pdf, .tiff or .png")
    parser.add_argument("-s", dest="service", metavar="SERVICE", help="as this service of master.cf draws")
    parser.add_argument("--paper", choices=("a4", "letter"))
    parser.add_argument("--resolution", choices=("fine", "normal"))
    parser.add_argument("--header-line", default="", metavar="TEXT", help="on top of each page; ${page}, ${pages}")
    parser.add_argument("--cover", action="append", default=[], metavar="NAME=VALUE", help=", ".join(_COVER))
    parser.add_argument("--cover-template", type=Path, metavar="FILE", help="HTML with ${to}, ${subject} …")
    parser.add_argument("--max-pages", type=int, metavar="N")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE")
    return parser


def _output(text: str) -> Path:
    if not text.lower().endswith(_ENDINGS):
        raise argparse.ArgumentTypeError(f"{text} ends with none of {', '.join(_ENDINGS)}")
    return Path(text)


def _wish(asked: argparse.Namespace, service: FaxService | None) -> Wish:
    cover = None
    if asked.cover or asked.cover_template:
        given = dict(one.partition("=")[::2] for one in asked.cover)
        if unknown := sorted(set(given) - set(_COVER)):
            print(f"fax-preview: fatal: --cover takes {', '.join(_COVER)}, not {unknown[0]!r}", file=sys.stderr)
            raise SystemExit(EX_USAGE)
        usual = service.template if service else ""
        cover = Cover(**given, template=asked.cover_template.read_text("utf-8") if asked.cover_template else usual)
    chosen = {name: getattr(asked, name) for name in ("paper", "resolution", "max_pages") if getattr(asked, name)}
    return replace(
        service.wish if service else Wish(), **chosen, cover=cover, header_line=asked.header_line, partial=True,
        pictures=asked.out is not None and asked.out.suffix.lower() == ".png",
    )


def _service(asked: argparse.Namespace) -> FaxService | None:
    """The one that is to be imitated.  Raises ConfigError."""
    if not asked.service:
        return None
    from transports.fax.service import FaxService

    configuration = load_configuration(asked.directory)
    service = configuration.service(asked.service)
    if service is None or service.command != "fax":
        print(f"fax-preview: fatal: {asked.service} is no fax service of master.cf", file=sys.stderr)
        raise SystemExit(EX_USAGE)
    return FaxService.from_service(service, configuration.service_settings(service))


def _run(mail: Path, folder: Path, wish: Wish, identity: Identity) -> Document:
    from twisted.internet import reactor as global_reactor  # only here: the other commands need none
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    reactor: Any = global_reactor
    runner = Runner(reactor)
    results: list[Any] = []

    def start() -> None:
        drawn = Deferred.fromCoroutine(assemble(mail, folder, wish, runner.run, identity))
        drawn.addBoth(results.append)
        drawn.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    runner.close()
    (result,) = results or [Failure(KeyboardInterrupt())]
    if isinstance(result, Failure):
        result.raiseException()
    document: Document = result
    return document


def _tell(document: Document) -> None:
    width = max(len(part.name) for part in document.parts)
    for part in document.parts:
        print(f"{part.name:<{width}}  {_fate(part)}")
    dots = document.tiff.stat().st_size * 8
    seconds = round(CALL + PAGE * document.pages + dots / BITS_A_SECOND)
    print(f"{_counted(document.pages)}, up to {seconds // 60}:{seconds % 60:02} minutes at {BITS_A_SECOND} bit/s")


def _fate(part: Part) -> str:
    if part.trouble:
        return f"cannot be drawn: {part.trouble}"
    return f"left out: {part.left_out}" if part.left_out else _counted(part.pages)


def _counted(pages: int) -> str:
    return f"{pages} page{'s' * (pages != 1)}"


def _write(document: Document, out: Path) -> list[Path]:
    ending = out.suffix.lower()
    if ending == ".png" and document.pages > 1:
        names = [out.with_stem(f"{out.stem}-{page}") for page in range(1, document.pages + 1)]
        pairs = list(zip(document.pictures, names, strict=True))
    else:
        made = {".pdf": document.pdf, ".png": next(iter(document.pictures), document.pdf)}
        pairs = [(made.get(ending, document.tiff), out)]
    for source, name in pairs:
        shutil.copyfile(source, name)
    return [name for _, name in pairs]


def _fail(text: str, status: int) -> int:
    print(f"fax-preview: fatal: {text}", file=sys.stderr)
    return status
