"""%s %u %d %1 … %9 %S %U %D in queries, keys and results; mysql_table(5), ldap_table(5).

    query = Template("SELECT a FROM b WHERE c = '%u'")
    query.of_key("joe@example.com", quote)   # None: what is asked for is not in the key, so that nothing is asked
    Template("smtp:[%s]").of_result("host", "joe@example.com")   # None: skip this result
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.interfaces import TableError

_PART = re.compile(r"%(.)|%$|[^%]+", re.DOTALL)


class Template:
    """Raises TableError for what is no template.  ``title``: for messages."""

    def __init__(self, text: str, title: str) -> None:
        self.text = text
        self._parts: list[tuple[str, str]] = []
        """(letter, "") or ("", text)."""
        for match in _PART.finditer(text):
            letter = match.group(1)
            if match.group() == "%" or (letter and letter not in "%sudSUD123456789"):
                raise TableError(f"invalid {title} template: {text}")
            self._parts.append(("", "%" if letter == "%" else match.group()) if letter in (None, "%") else (letter, ""))
        letters = {letter for letter, _ in self._parts}
        self._components = max((int(letter) for letter in letters if letter.isdigit()), default=0)
        self._key_user, self._key_domain = "U" in letters, "D" in letters or self._components > 0
        self._user, self._domain = "u" in letters, "d" in letters

    def of_key(self, key: str, quote: Callable[[str], str]) -> str | None:
        """A query; what comes from the key goes through ``quote``."""
        if not key or not self._has(key, self._user or self._key_user, self._domain or self._key_domain):
            return None
        return "".join(text or quote(_part(letter, key)) for letter, text in self._parts)

    def of_result(self, value: str, key: str) -> str | None:
        if not value or not self._has(value, self._user, self._domain):
            return None
        if not self._has(key, self._key_user, self._key_domain):
            return None
        return "".join(text or _part(letter, value if letter in "sud" else key) for letter, text in self._parts)

    def suits(self, key: str) -> bool:
        """Whether the key has what a result would need of it: else nothing need be asked."""
        return self._has(key, self._key_user, self._key_domain)

    def _has(self, value: str, user: bool, domain: bool) -> bool:
        local, at, host = value.rpartition("@")
        if user and at and not local:
            return False
        if domain and not (at and host):
            return False
        return not (domain and self._components > host.count(".") + 1)


def _part(letter: str, value: str) -> str:
    local, at, host = value.rpartition("@")
    if letter in "sS":
        return value
    if letter in "uU":
        return local if at else value
    if letter in "dD":
        return host
    return host.split(".")[-int(letter)]
