"""python folder:DIRECTORY — a delivery service: each message becomes a file, with its recipients in front.

master.cf:      keep  unix  -  n  n  -  -  python folder:/var/spool/keep
main.cf:        transport_maps = inline:{ keep.example = keep: }
"""

import os
import secrets
from pathlib import Path

from twisted.internet.threads import deferToThread
from zope.interface import implementer

from gateway.interfaces import BOUNCED, DEFERRED, SENT, ITransport, IUsesContent, Result


@implementer(ITransport, IUsesContent)
class FolderTransport:
    program = "folder"  # for the log

    def __init__(self, settings, argument):
        if not argument:
            raise ValueError("say which directory: python folder:DIRECTORY")
        self._folder = Path(argument)

    def use_content(self, source):
        self._source = source

    async def deliver(self, request):
        """One Result for each recipient, in their order.  Nothing may block: files are written in a thread."""
        if request.entry.envelope.trace == "verify":
            return [Result(SENT, "2.0.0", "goes to a file", relay="folder") for _ in request.indexes]
        content = await self._source.content(request.entry.id)
        try:
            await deferToThread(self._write, content, request)
        except FileNotFoundError as error:
            return [Result(BOUNCED, "5.3.5", f"no such folder: {error.filename}") for _ in request.indexes]
        except OSError as error:
            return [Result(DEFERRED, "4.3.0", f"cannot be written: {error.strerror}") for _ in request.indexes]
        finally:
            content.close()
        return [Result(SENT, "2.0.0", "written to a file", relay="folder") for _ in request.indexes]

    def _write(self, content, request):
        """All of it is on the disk before the mail counts as delivered."""
        name = f"{request.entry.id}.{secrets.token_hex(4)}"
        temporary = self._folder / f".{name}"
        with open(temporary, "xb") as file:
            for address in request.addresses:
                file.write(b"X-Recipient: " + address.encode("utf-8", "surrogateescape") + b"\n")
            while block := content.read(1 << 16):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._folder / name)

    async def stop(self):
        """Nothing is kept between deliveries."""
