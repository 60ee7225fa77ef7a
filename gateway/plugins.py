"""Providers of other packages, by their IGatewayPlugin drop-ins (twisted.plugin), and what keeps the gateway from harm.

    plugin = find(ILookupTable, "holidays")        # None: no such plug-in
    table = make(ILookupTable, "holidays:/etc/away", settings)

The configuration names one as NAME or NAME:ARGUMENT.  PluginError (a ValueError) has one clear line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.plugin import getPlugins
from zope.interface import implementer

from gateway.interfaces import IAddressRewriter, IGatewayPlugin, IMessageFilter, Place, TableError

NO_TEXT = "the answer is no text"


class PluginError(ValueError):
    """There is no such plug-in, or it makes nothing that can be used."""


def find(kind: Any, name: str) -> Any:
    """The drop-in, or None."""
    plugins: Any = getPlugins(IGatewayPlugin)
    return next((known for known in plugins if known.name == name and known.kind is kind), None)


def make(kind: Any, word: str, settings: Any) -> Any:
    """What the plug-in makes, and it provides ``kind``."""
    name, _, argument = word.partition(":")
    plugin = find(kind, name)
    if plugin is None:
        raise PluginError(f'no plug-in "{name}" for {_KINDS.get(kind.__name__, kind.__name__)} is installed')
    try:
        made = plugin.make(settings, argument)
    except Exception as error:
        raise PluginError(f'plug-in "{name}": {error}') from error
    if not kind.providedBy(made):
        raise PluginError(f'plug-in "{name}" makes something that is no {kind.__name__}')
    return made


_KINDS = {
    "ILookupTable": "lookup tables", "IRestriction": "restrictions", "IAddressRewriter": "address rewriting",
    "IMessageFilter": "message filters", "ITransport": "delivery", "ICredentialsChecker": "logins",
}  # fmt: skip


def configured(kind: Any, parameter: str, settings: Any) -> list[Any]:
    """The providers that a parameter lists as python:NAME or python:NAME:ARGUMENT.  Raises PluginError."""
    found: list[Any] = []
    for word in settings.words(parameter):
        type, _, name = word.partition(":")
        if type != "python" or not name:
            raise PluginError(f'{parameter}: need python:NAME, not "{word}"')
        found.append(make(kind, name, settings))
    return found


async def answer(name: str, ask: Callable[..., Awaitable[Any]], *arguments: Any) -> str | None:
    """What a method of a plug-in answers.  Whatever it raises is a TableError: mail is deferred, and who wrote it hears
    why; so is an answer that is neither text nor None."""
    try:
        found = await ask(*arguments)
    except TableError:
        raise
    except Exception as error:
        raise TableError(f"{name}: {type(error).__name__}: {error}") from error
    if found is not None and not isinstance(found, str):
        raise TableError(f"{name}: {NO_TEXT}")
    return found


@implementer(IAddressRewriter)
class Rewriter:
    """A plug-in's rewriter; see answer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.name = str(inner.name)
        self.places = frozenset(inner.places)

    async def rewrite(self, address: str, place: Place) -> str:
        rewritten = await answer(self.name, self._inner.rewrite, address, place)
        if rewritten is None:
            raise TableError(f"{self.name}: {NO_TEXT}")
        return rewritten


@implementer(IMessageFilter)
class Filter:
    """A plug-in's message filter; see answer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.name = str(inner.name)

    async def header(self, name: str, value: bytes) -> str | None:
        return await answer(self.name, self._inner.header, name, value)

    async def body(self, line: bytes) -> str | None:
        return await answer(self.name, self._inner.body, line)
