"""The configuration that needs no files and no rights, for a first try: INTERFACE.md "Starting".

SMTP on 127.0.0.1:2525; spool, log and mail lie below ./mailgateway; mail for this host is delivered to the user who
started it, into ./mailgateway/mail/USER/ as a Maildir; everything else goes out by MX.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from gateway.config.configuration import Configuration, from_texts, load

FOLDER = "mailgateway"
PORT = 2525

_MAIN_CF = """\
compatibility_level = 3.11
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/maillog
mail_owner = {owner}
default_privs = {owner}
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination = $myhostname, localhost.$mydomain, localhost
mynetworks = 127.0.0.0/8
local_recipient_maps = inline:{{ {{ {user} = x }}, {{ postmaster = x }}, {{ abuse = x }} }}
alias_maps = inline:{{ {{ postmaster = {user} }}, {{ abuse = {user} }}{root} }}
alias_database =
virtual_mailbox_domains =
local_transport = local
mail_spool_directory = {folder}/mail/
biff = no
"""

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
showq     unix  n       -       n       -       -       showq
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
"""


def builtin(working_directory: Path | None = None) -> Configuration:
    """The built-in configuration for the current user and folder."""
    folder = (working_directory or Path.cwd()) / FOLDER
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    # Root's own mail is root's, but neither the queue nor commands may be.
    owner, root = ("nobody", "") if user == "root" else (user, f", {{ root = {user} }}")
    main = _MAIN_CF.format(folder=folder, user=user, owner=owner, root=root)
    return from_texts(main, _MASTER_CF.format(port=PORT), folder)


def configured_directory(given: Path | None) -> Path | None:
    """The configuration directory: what a command was told, else $MAIL_CONFIG, else none."""
    if given is not None:
        return given
    named = os.environ.get("MAIL_CONFIG")
    return Path(named) if named else None


def load_configuration(given: Path | None) -> Configuration:
    """What a command or the gateway works with.  Raises ConfigError."""
    directory = configured_directory(given)
    return builtin() if directory is None else load(directory)
