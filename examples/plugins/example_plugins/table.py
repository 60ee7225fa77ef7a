"""python:holidays:FILE — a lookup table: who is in the file is away, and a colleague gets the mail.

    virtual_alias_maps = python:holidays:/etc/mailgateway/away

The file holds lines "ADDRESS COLLEAGUE".
"""

from pathlib import Path

from zope.interface import implementer

from gateway.interfaces import ILookupTable, TableError


@implementer(ILookupTable)
class HolidayTable:
    folds_case = True  # keys come in small letters
    whole_keys = True  # is not asked for parts of addresses

    def __init__(self, settings, argument):
        self.name = f"python:holidays:{argument}"
        self._path = Path(argument)

    async def lookup(self, key):
        """The value, or None.  TableError defers the mail."""
        try:
            lines = self._path.read_text().splitlines()
        except OSError as error:
            raise TableError(f"{self.name}: {error.strerror}") from error
        away = dict(line.lower().split(None, 1) for line in lines if len(line.split()) == 2)
        return away.get(key)

    def source(self, key):
        """Where the answer stands, for "mailgateway explain"; may be left out."""
        return str(self._path)
