"""The macros of pipe(8)'s argv: $name, ${name}, $(name), $$.

``Template`` is one argument, read once; ``expand`` makes the argument list of a delivery.  An argument that speaks of
the recipient becomes as many arguments as there are recipients.  An unknown name raises ValueError when the template
is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

OF_RECIPIENT = frozenset({"recipient", "original_recipient", "user", "extension", "mailbox", "domain"})
OF_MESSAGE = frozenset({
    "client_address", "client_helo", "client_hostname", "client_port", "client_protocol", "envid", "nexthop",
    "queue_id", "sasl_method", "sasl_sender", "sasl_username", "sender", "size",
})
_MACRO = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{\s*([A-Za-z0-9_]*)\s*\}|\(\s*([A-Za-z0-9_]*)\s*\)|)")


class Template:
    """One argument: literal texts and names in turn, beginning with a text."""

    __slots__ = ("names", "texts", "of_recipient")

    def __init__(self, text: str) -> None:
        self.texts: list[str] = [""]
        self.names: list[str] = []
        at = 0
        for match in _MACRO.finditer(text):
            self.texts[-1] += text[at : match.start()]
            at = match.end()
            if match.group() == "$$":
                self.texts[-1] += "$"
                continue
            name = match.group(1) or match.group(2) or match.group(3)
            if not name:
                raise ValueError(f'"{text}": no macro name behind "$" (write "$$" for a dollar)')
            if name not in OF_RECIPIENT and name not in OF_MESSAGE:
                raise ValueError(f'"{text}": there is no macro ${{{name}}}')
            self.names.append(name)
            self.texts.append("")
        self.texts[-1] += text[at:]
        self.of_recipient = any(name in OF_RECIPIENT for name in self.names)

    def fill(self, values: Mapping[str, str]) -> str:
        parts = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            parts += (values[name], text)
        return "".join(parts)


def expand(
    templates: Sequence[Template], message: Mapping[str, str], recipients: Sequence[Mapping[str, str]]
) -> list[str]:
    """The argument list; each of ``recipients`` has the values of OF_RECIPIENT."""
    arguments: list[str] = []
    for template in templates:
        if template.of_recipient:
            arguments += [template.fill({**message, **recipient}) for recipient in recipients]
        else:
            arguments.append(template.fill(message))
    return arguments
