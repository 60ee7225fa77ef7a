"""What twisted.plugin finds: names, kinds, and where the makers are.  Nothing else is imported before it is used."""

from importlib import import_module

from twisted.plugin import IPlugin
from zope.interface import implementer

from gateway.interfaces import (
    IAddressRewriter,
    IGatewayPlugin,
    ILookupTable,
    IMessageFilter,
    IRestriction,
    ITransport,
)


@implementer(IPlugin, IGatewayPlugin)
class Maker:
    def __init__(self, name, kind, where):
        self.name = name
        self.kind = kind
        self._where = where

    def make(self, settings, argument):
        module, _, function = self._where.partition(":")
        return getattr(import_module(f"example_plugins.{module}"), function)(settings, argument)


holidays = Maker("holidays", ILookupTable, "table:HolidayTable")
one_name = Maker("one-name", IAddressRewriter, "rewriter:OneName")
full_helo = Maker("full-helo", IRestriction, "restriction:FullHelo")
subjects = Maker("subjects", IMessageFilter, "message_filter:Subjects")
folder = Maker("folder", ITransport, "transport:FolderTransport")
