"""What a fax document is to be, and what came of it: the values that cross between the gateway and its worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Paper = Literal["a4", "letter"]
Resolution = Literal["fine", "normal"]


@dataclass(slots=True, frozen=True)
class Cover:
    """What a cover page says.  In the template ``${to}`` stands for the recipient's name or number, ``${sender}`` for
    who sends, ``${subject}``, ``${attn}``, ``${date}``, ``${comments}`` for what they say, ``${pages}`` for the number
    of pages with the cover (counted, unless ``pages`` gives it)."""

    to: str = ""
    sender: str = ""
    subject: str = ""
    attn: str = ""
    date: str = ""
    comments: str = ""
    pages: int | None = None
    template: str = ""
    """The page as HTML; "" = the one that comes with the gateway."""


@dataclass(slots=True, frozen=True)
class Wish:
    """How the message is to be drawn, and what that may take."""

    paper: Paper = "a4"
    cover: Cover | None = None
    header_line: str = ""
    """Stands on top of each page, ``${page}`` being its number and ``${pages}`` how many there are; "" = none."""
    resolution: Resolution = "fine"
    """fine: 196 lines an inch; normal: 98."""
    max_pages: int = 100
    max_bytes: int = 50_000_000
    """Of the message, of each file that is made of it, and of what is unpacked from a part of it."""
    seconds: int = 60
    """Of processor time.  By the clock it may be ten times as much."""
    memory: int = 1_500_000_000
    """Bytes of address space."""
    pictures: bool = False
    """A PNG of each page, too, as the receiver will see it."""
    partial: bool = False
    """Draw what can be drawn, and tell of the rest in ``Document.parts`` instead of raising Unrenderable."""


@dataclass(slots=True, frozen=True)
class Part:
    """What became of one part of the message."""

    name: str
    """"part 2.1 (offer.pdf, application/pdf)"."""
    pages: int = 0
    left_out: str = ""
    """Why it is meant not to be drawn: a signature, the other form of an alternative …"""
    trouble: str = ""
    """Why it cannot be drawn."""


@dataclass(slots=True, frozen=True)
class Document:
    """The pages."""

    pdf: Path
    tiff: Path
    """TIFF-F (RFC 2306), Group 3, 1728 dots a line, one image of one strip a page."""
    thumbnail: Path
    """Page one as a small PNG."""
    pages: int
    parts: tuple[Part, ...] = ()
    """In their order; the cover, too."""
    pictures: tuple[Path, ...] = ()


class Unrenderable(Exception):
    """Some part of the message can never be drawn.  ``part`` names it, ``reason`` says why; both are printable."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class NotNow(Exception):
    """It cannot be drawn at the moment: something is not installed, or the machine is in trouble.  One line."""


def to_json(wish: Wish) -> dict[str, Any]:
    cover = wish.cover
    return {
        **{name: getattr(wish, name) for name in Wish.__dataclass_fields__},
        "cover": {name: getattr(cover, name) for name in Cover.__dataclass_fields__} if cover else None,
    }


def from_json(value: dict[str, Any]) -> Wish:
    cover = value.pop("cover")
    return Wish(cover=Cover(**cover) if cover else None, **value)
