"""Draws the parts of a mail one after the other (the plan of transports.fax.document.parts) and binds them.

A message's heading (From, To, Date, Subject) stands above its first text, unless there is a cover page to say it; a
mail of a PDF alone is that PDF and nothing else.  Of the forms of multipart/alternative the best one that can be drawn
is, and an HTML form with nothing to see is none.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from transports.fax.document import images, markup, office
from transports.fax.document.assemble import PDF
from transports.fax.document.binder import BadPdf, Binder, TooMany
from transports.fax.document.charset import decode, language
from transports.fax.document.flowed import unflow
from transports.fax.document.fonts import Fonts, NoFont
from transports.fax.document.html import LETTERS_A_PAGE, Press, visible
from transports.fax.document.parts import HTML, Choice, Heading, Item, Leaf, LeftOut, Plan, plan_of
from transports.fax.document.raster import Raster
from transports.fax.document.wish import Part, Unrenderable, Wish

COVER, HEADER, PAGES, MESSAGE = "the cover page", "the header line", "the pages", "the message"
NOTHING = "there is nothing to see in it"
_PLAIN = {"message/delivery-status", "message/disposition-notification", "message/feedback-report", "application/json",
          "application/xml", "message/global-delivery-status"}
_LINES_A_PAGE = 200
_META = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EFBIG, errno.ENOMEM}

T = TypeVar("T")


class Drawing:
    """One document.  ``at`` is told which part comes next."""

    def __init__(self, wish: Wish, folder: Path, fonts: Fonts, at: Callable[[str], None]) -> None:
        self._wish = wish
        self._folder = folder
        self._at = at
        self._fonts = fonts
        self._press = Press(wish.paper, fonts)
        self._binder = Binder(wish)
        self._parts: list[Part] = []
        self._top = ""
        """The heading that waits for a text."""

    def finish(self, mail: bytes) -> tuple[int, list[Part]]:
        """Write the files.  How many pages, and what became of each part.  Raises Unrenderable."""
        plan = plan_of(mail)
        self._draw(plan if self._wish.cover is None else plan[1:])
        self._cover()
        if not len(self._binder):
            self._heading_alone()
        if self._wish.header_line:
            lines = markup.from_header_line(self._wish.header_line, len(self._binder))
            self._guarded(HEADER, lambda: self._binder.stamp(self._press.header_lines(lines)))
        self._at(PAGES)
        pdf = self._folder / PDF
        self._binder.save(pdf)
        pages = Raster(pdf, self._wish, self._binder.frames).write(self._folder)
        return pages, self._parts

    def _draw(self, plan: Plan) -> None:
        for item in plan:
            try:
                self._item(item)
            except Unrenderable as error:
                if not self._wish.partial:
                    raise
                self._parts.append(Part(error.part, trouble=error.reason))

    def _item(self, item: Item) -> None:
        if isinstance(item, Heading):
            self._top += markup.from_heading(item.fields)
        elif isinstance(item, LeftOut):
            self._parts.append(Part(item.name, left_out=item.why))
        elif isinstance(item, Choice):
            self._choose(item)
        elif item.trouble:
            raise Unrenderable(item.name, item.trouble)
        else:
            before = len(self._binder)
            left_out = self._guarded(item.name, lambda: self._leaf(item))
            self._parts.append(Part(item.name, len(self._binder) - before, left_out))

    def _choose(self, choice: Choice) -> None:
        """The first that can be drawn; if none can, what is wrong with the best."""
        trouble: Unrenderable | None = None
        for at, plan in enumerate(choice.plans):
            if at + 1 < len(choice.plans) and self._is_blank(plan):
                self._leave_out(plan, NOTHING)
                continue
            state = len(self._binder), len(self._parts), self._top
            try:
                for item in plan:
                    self._item(item)
            except Unrenderable as error:
                pages, parts, self._top = state
                self._binder.cut(pages)
                del self._parts[parts:]
                self._leave_out(plan, error.reason)
                trouble = trouble or error
                continue
            for other in choice.plans[at + 1 :]:
                self._leave_out(other, "another form of the same is drawn")
            return
        if trouble is not None:
            raise trouble

    def _leave_out(self, plan: Plan, why: str) -> None:
        self._parts += [Part(one.name, left_out=why) for one in plan if isinstance(one, Leaf)]

    def _is_blank(self, plan: Plan) -> bool:
        first = next((one for one in plan if isinstance(one, Leaf)), None)
        if first is None or first.type not in HTML:
            return False
        try:
            return not visible(_text(first))
        except (LookupError, RecursionError):
            return False  # it will be told of when it is drawn

    def _leaf(self, leaf: Leaf) -> str:
        """Draw one part, or say why it is left out."""
        if leaf.type in HTML:
            return self._html(leaf)
        if leaf.type.startswith("text/") or leaf.type in _PLAIN:
            return self._text(leaf)
        if leaf.type == "application/pdf":
            self._binder.add_foreign(leaf.data())
        elif leaf.type == "image/svg+xml":
            self._own("<img src='cid:picture'>", {"cid:picture": leaf.data()})
        elif leaf.type.startswith("image/"):
            self._picture(leaf.data())
        elif leaf.type in office.ENDINGS:
            self._binder.add_foreign(office.to_pdf(leaf.data(), leaf.type, self._folder))
        else:
            raise Unrenderable(leaf.name, "files of this type cannot be drawn")
        return ""

    def _html(self, leaf: Leaf) -> str:
        text = _text(leaf)
        if not visible(text):
            return NOTHING
        self._own(text, leaf.own, language(text, leaf.parameter("charset")))
        return ""

    def _text(self, leaf: Leaf) -> str:
        text = _text(leaf)
        if leaf.parameter("format").lower() == "flowed":
            text = unflow(text, leaf.parameter("delsp").lower() == "yes")
        if not text.strip():
            return NOTHING
        most = self._wish.max_pages
        if len(text) > most * LETTERS_A_PAGE or text.count("\n") > most * _LINES_A_PAGE:
            raise TooMany
        # Before it is markup: fonts are asked for the text as it stands.
        shown = markup.from_text(self._fonts.legible(text))
        self._own(shown, {}, language(text, leaf.parameter("charset")))
        return ""

    def _own(self, text: str, own: dict[str, bytes], tongue: str = "") -> None:
        self._binder.add_own(self._press.draw(text, own, top=self._top, language=tongue))
        self._top = ""

    def _picture(self, data: bytes) -> None:
        image = images.open_image(data)
        for frame in images.frames(image):
            if images.fax_resolution(frame):
                self._binder.add_frame(frame.copy())
            else:
                self._binder.add_picture(images.grey(frame), images.dots_an_inch(frame))

    def _heading_alone(self) -> None:
        """A mail whose subject says it all."""
        for part in self._parts:
            if part.trouble:
                raise Unrenderable(part.name, part.trouble)
        if not self._top:
            raise Unrenderable(MESSAGE, "there is nothing to draw in it")
        self._guarded(MESSAGE, lambda: self._own("<body></body>", {}))
        self._parts.append(Part(MESSAGE, len(self._binder)))

    def _cover(self) -> None:
        cover = self._wish.cover
        if cover is None:
            return
        behind, pages = len(self._binder), 1

        def draw() -> bytes:
            return self._press.draw(markup.from_cover(cover, behind + pages), {})

        data = self._guarded(COVER, draw)
        pages = self._guarded(COVER, lambda: Binder(self._wish).add_own(data))
        if pages > 1:  # it says that it is one
            data = self._guarded(COVER, draw)
        self._guarded(COVER, lambda: self._binder.put_in_front(data))
        self._parts.insert(0, Part(COVER, len(self._binder) - behind))

    def _guarded(self, name: str, draw: Callable[[], T]) -> T:
        """``draw``, whatever goes wrong in it being this part's fault, unless it is the machine's."""
        self._at(name)
        try:
            return draw()
        except (Unrenderable, MemoryError):
            raise
        except TooMany:
            most = self._wish.max_pages
            reason = f"the document has more than {most} page{'s' * (most != 1)} with it"
        except (NoFont, images.BadImage, BadPdf, office.BadFile) as error:
            reason = str(error)
        except LookupError as error:
            reason = str(error.args[0]) if type(error) is LookupError else _unforeseen(error)
        except RecursionError:
            reason = "it is nested too deeply"
        except OSError as error:
            if error.errno in _MACHINE:
                raise
            reason = _unforeseen(error)
        except Exception as error:  # the libraries' own mistakes on odd input
            reason = _unforeseen(error)
        raise Unrenderable(name, reason)


def _text(leaf: Leaf) -> str:
    """Of text/*; HTML may tell its character set itself."""
    data, charset = leaf.data(), leaf.parameter("charset")
    if not charset and leaf.type in HTML and (found := _META.search(data[:2000])):
        charset = found.group(1).decode("ascii")
    return decode(data, charset).replace("\0", "").replace("\r\n", "\n")


def _unforeseen(error: Exception) -> str:
    return f"it cannot be drawn ({type(error).__name__}: {error})"
