"""What every medium needs in which mail waits in another program's queue after it has left ours: UUCP, fax.

    register    jobs remembered, a file each
    keeper      jobs followed until they have ended; late notices, queue listing, taking jobs back
    published   limits told to the SMTP server
"""

from transports.following.keeper import Ask, Ended, Fate, HasJobs, Keeper, Lost, Tell, Waiting, by_job
from transports.following.register import Record, Register, moment_of

__all__ = [
    "Ask", "Ended", "Fate", "HasJobs", "Keeper", "Lost", "Record", "Register", "Tell", "Waiting", "by_job",
    "moment_of",
]
