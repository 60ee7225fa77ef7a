"""From a mail to the pages of a fax: see ``assemble``."""

from transports.fax.document.assemble import Run, assemble, lacking
from transports.fax.document.wish import Cover, Document, NotNow, Part, Unrenderable, Wish

__all__ = ["Cover", "Document", "NotNow", "Part", "Run", "Unrenderable", "Wish", "assemble", "lacking"]
