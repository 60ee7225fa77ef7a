"""UUCP: a guard for uux in pipe's recipes, and the ``uucp`` service, which knows its medium.

    guard, sync     what must never reach uux; its files brought to disk
    taylor          where UUCP's files are
    service         a line of master.cf
    addressing, letters, bundle, transport  messages become jobs
    attachments, shelf, retrieval           large attachments stay here, are kept, and are sent when asked for
    jobs            what UUCP says of its jobs (run where the rights are)
    limits, keeper  jobs counted, and followed until they have left (beside the queue; see transports.following)
    acceptance      what a link does not take, said to SMTP clients
"""

from transports.uucp.guard import UuxGuard, guard_for
from transports.uucp.sync import GroupSync, sync_file_system
from transports.uucp.taylor import spool_of

__all__ = ["GroupSync", "UuxGuard", "guard_for", "spool_of", "sync_file_system"]
