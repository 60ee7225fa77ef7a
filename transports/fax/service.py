"""One ``fax`` service of master.cf, read once; mailgateway-fax(8) is its manual.

``from_service`` raises ConfigError for what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.config import Service, Settings
from transports.attributes import Attributes
from transports.fax.document import Wish, lacking
from transports.fax.numbers import Missing, Plan, region_of
from transports.pipe import identity_of
from transports.process import Identity

ATTRIBUTES = frozenset({
    "area", "confirm", "cost", "country", "cover", "dial", "extensions", "fax_cost", "faxes", "follow", "header",
    "host", "international", "killtime", "lifetime", "login", "max_pages", "maxdials", "maxtries", "outside",
    "page_time", "pages", "paper", "password", "postdial", "provider", "reports", "resolution", "seconds", "secret",
    "sender_cost", "sender_faxes", "sender_pages", "senders", "size", "template", "url", "user", "warn", "zones",
})
PORT = 4559
PHAXIO = "https://api.phaxio.com/v2.1"

_HOST = re.compile(r"\[?([A-Za-z0-9._:-]+?)\]?(?::([0-9]{1,5}))?\Z")


@dataclass(slots=True, frozen=True)
class Budget:
    """Of a day; 0 = no limit."""

    faxes: int = 0
    pages: int = 0
    cost: float = 0.0


@dataclass(slots=True, frozen=True)
class FaxService:
    name: str
    identity: Identity
    """Whose rights documents are drawn with."""
    provider: Literal["hylafax", "phaxio"]
    host: str
    port: int
    login: str
    password: str
    """File with the password for the fax server, "" = it asks for none."""
    url: str
    secret: str
    """File with KEY:SECRET of the provider."""
    plan: Plan
    wish: Wish
    cover: Literal["asked", "yes", "no"]
    """"asked": for addresses that say something for it."""
    template: str
    """The cover page as HTML; "" = the usual one."""
    header: bool
    """We draw a line on top of each page, and the fax server none."""
    senders: tuple[str, ...]
    """Tables of those who may send without having logged in, or differently."""
    zones: tuple[str, ...]
    """Tables of what calls cost."""
    international: bool
    """Numbers of other countries are allowed where no table says anything of them."""
    each: Budget
    """A sender's."""
    all: Budget
    fax_cost: float
    """What one fax may cost; 0 = no limit."""
    page_time: float
    """How long a page is taken to last, before anybody knows."""
    confirm: bool
    """Success is told even if nobody has asked for it."""
    maxdials: int
    maxtries: int
    killtime: float
    """How often, and for how many seconds, the fax server tries."""
    reports: str
    """Where the fax server sends what it reports by mail."""
    lifetime: float
    warn_after: float
    follow: float
    host_name: str = field(default="")

    @classmethod
    def from_service(cls, service: Service, settings: Settings) -> FaxService:
        given = Attributes.of(service, ATTRIBUTES)
        if missing := lacking():
            raise given.wrong(f"packages are not installed: {', '.join(missing)}", "pip install 'mailgateway[fax]'")
        provider = given.choice("provider", ("hylafax", "phaxio"))
        user = given.needed("user", "name the account whose rights documents are drawn with")
        host, port = _host(given)
        paper, resolution = given.choice("paper", ("a4", "letter")), given.choice("resolution", ("fine", "normal"))
        lifetime = given.seconds("lifetime", settings.seconds("maximal_queue_lifetime"))
        secret = settings.expand(given.text("secret"))
        if provider == "phaxio" and not secret:
            raise given.wrong("secret= is missing", "name the file that holds KEY:SECRET")
        return cls(
            name=service.name,
            identity=identity_of(user, settings.text("mail_owner"), given.wrong),
            provider="phaxio" if provider == "phaxio" else "hylafax",
            host=host,
            port=port,
            login=given.text("login", user.partition(":")[0]),
            password=settings.expand(given.text("password")),
            url=given.text("url", PHAXIO).rstrip("/"),
            secret=secret,
            plan=_plan(given),
            wish=Wish(
                paper="letter" if paper == "letter" else "a4",
                resolution="normal" if resolution == "normal" else "fine",
                max_pages=given.amount("max_pages", 50) or 1000,
                max_bytes=given.amount("size", 50_000_000) or 1_000_000_000,
                seconds=int(given.seconds("seconds", 60.0)),
            ),
            cover=_cover(given.choice("cover", ("asked", "yes", "no"))),
            template=_template(given, settings),
            header=given.flag("header"),
            senders=tuple(settings.expand(word) for word in given.words("senders")),
            zones=tuple(settings.expand(word) for word in given.words("zones")),
            international=given.flag("international"),
            each=Budget(
                given.amount("sender_faxes", 50), given.amount("sender_pages", 200), given.money("sender_cost")
            ),
            all=Budget(given.amount("faxes", 500), given.amount("pages", 2000), given.money("cost")),
            fax_cost=given.money("fax_cost"),
            page_time=given.seconds("page_time", 60.0),
            confirm=given.choice("confirm", ("asked", "always")) == "always",
            maxdials=given.amount("maxdials", 12),
            maxtries=given.amount("maxtries", 3),
            killtime=given.seconds("killtime", 10_800.0),
            reports=given.text("reports", "FaxMaster"),
            lifetime=lifetime,
            warn_after=given.seconds("warn", 1800.0),
            follow=max(given.seconds("follow", 20.0), 1.0),
            host_name=settings.text("myhostname"),
        )


def _host(given: Attributes) -> tuple[str, int]:
    text = given.text("host", "localhost")
    match = _HOST.match(text)
    if match is None or not 0 < int(match[2] or PORT) < 65536:
        raise given.wrong(f"host={text} is no host", "write HOST or HOST:PORT")
    return match[1], int(match[2] or PORT)


def _plan(given: Attributes) -> Plan:
    country = given.needed("country", "name the country that calls are made from: 49 or DE")
    try:
        region = region_of(country)
    except Missing as error:
        raise given.wrong(str(error), "install it") from None
    except ValueError as error:
        raise given.wrong(f"country={error}", "write its calling code or its two letters") from None
    extensions = given.text("extensions")
    try:
        pattern = re.compile(extensions, re.ASCII) if extensions else None
    except re.error as error:
        mend = "write a regular expression, such as [2-9][0-9]{2}"
        raise given.wrong(f"extensions={extensions}: {error}", mend) from None
    for name, allowed in (("area", r"[0-9]{0,8}\Z"), ("outside", r"[0-9*#,]{0,20}\Z")):
        if re.match(allowed, given.text(name)) is None:
            raise given.wrong(f"{name}={given.text(name)} cannot be dialled", "write digits")
    return Plan(
        region, given.text("area"), pattern, given.choice("dial", ("e164", "national")) == "national",
        given.text("outside"), given.flag("postdial"),
    )


def _template(given: Attributes, settings: Settings) -> str:
    path = settings.expand(given.text("template"))
    if not path:
        return ""
    try:
        return Path(path).read_text()
    except (OSError, ValueError) as error:
        raise given.wrong(f"template={path}: {error}", "name a file with HTML in UTF-8") from None


def _cover(text: str) -> Literal["asked", "yes", "no"]:
    return "yes" if text == "yes" else "no" if text == "no" else "asked"
