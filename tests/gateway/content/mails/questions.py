"""What is asked: in each site, some mails.  An answer tells the replies, the envelope and header as they are stored
(a mail is held), and the route of each recipient: class, transport, next hop, address.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gateway.addresses.odd.questions import SITE as ODD_SITE

ANSWERS = Path(__file__).parent / "answers.json"


@dataclass(frozen=True)
class Mail:
    to: tuple[str, ...] = ("joe@my.domain",)
    """What comes behind "RCPT TO:<", with the parameters."""
    sender: str = "ann@x.tld>"
    """The same behind "MAIL FROM:<"."""
    header: str = "From: ann@x.tld\nTo: joe@my.domain\n"


def to(*recipients: str, sender: str = "ann@x.tld", header: str = Mail.header) -> Mail:
    """Recipients (and sender) are addresses, with parameters behind a blank."""
    return Mail(tuple(map(_closed, recipients)), _closed(sender), header)


def _closed(text: str) -> str:
    address, blank, parameters = text.partition(" ")
    return f"{address}>{blank}{parameters}"


SITE = {
    **{name: value for name, value in ODD_SITE.items() if name != "header_checks"},
    "smtpd_data_restrictions": "check_client_access static:HOLD",
}

_NOTIFY = to(
    "list@my.domain NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@b.tld", "one@my.domain NOTIFY=NEVER",
    "self@my.domain NOTIFY=SUCCESS", "pair@my.domain NOTIFY=DELAY", "one@my.domain NOTIFY=SUCCESS,DELAY",
    "one+x@my.domain NOTIFY=SUCCESS", "joe@my.domain NOTIFY=SUCCESS", "list@my.domain NOTIFY=SUCCESS",
)  # fmt: skip
_ALIASES = (
    "inline:{{list@my.domain=a@b.tld, c@b.tld, joe}, {one@my.domain=a@b.tld}, {pair@my.domain=a@b.tld, c@b.tld},"
    " {self@my.domain=self@my.domain, a@b.tld}}"
)
_BLIND = to(
    "joe@my.domain", "joe@my.domain NOTIFY=SUCCESS,FAILURE", "joe+x@my.domain", "copied+y@my.domain",
    "other@b.tld", sender="ann+s@x.tld",
)  # fmt: skip
_EXTENDED = to("joe+ext@my.domain", "@moved.tld", "x+ext@moved.tld", "mapped+ext@old.tld", "alias+ext@my.domain")
_ROUTES = to(
    "a@b.tld", "a+x@b.tld", "a@sub.b.tld", "a@deep.sub.b.tld", "user@c.tld", "user+ext@c.tld", "other@c.tld",
    "a@colon.tld", "a@hop.tld", "a@err.tld", "a@just.tld", "a@box.tld", "user@box.tld", "a@alias.tld",
    "a@relayed.tld", "a@sub.relayed.tld", "joe@my.domain", "user@my.domain", "a@[192.0.2.9]", "a@[192.0.2.77]",
    "gone@my.domain", "gone+x@my.domain", "a@gone.tld", "gone@relayed.tld", "a@parent.tld", "a@sub.parent.tld",
)  # fmt: skip
_TRANSPORT = (
    "inline:{{b.tld=smtp:[b.host]}, {.b.tld=lmtp:inet:[sub.host]:24}, {user@c.tld=relay:[full.host]:26},"
    " {user+ext@c.tld=smtp:[ext.host]}, {c.tld=smtp:}, {colon.tld=:}, {hop.tld=:[only.hop]},"
    " {err.tld=error:5.7.1 go: away}, {just.tld=local}, {user@box.tld=smtp:[box.host]}, {alias.tld=smtp:[never]},"
    " {user@my.domain=smtp:[mine.host]}, {parent.tld=smtp:[parent.host]}}"
)
_CLASSES = {
    "transport_maps": _TRANSPORT,
    "virtual_alias_domains": "alias.tld",
    "virtual_mailbox_domains": "box.tld",
    "relay_domains": "relayed.tld",
    "relocated_maps": "inline:{{gone@my.domain=new@x.tld}, {@gone.tld=nobody knows}, {gone@relayed.tld=there}}",
    "local_transport": "local:$myhostname",
}
_SENDERS = [
    to("a@b.tld", "a@relayed.tld", "joe@my.domain", "a@hop.tld", "a@colon.tld", sender=sender)
    for sender in ("", "s@x.tld", "s+ext@x.tld", "other@x.tld", "any@y.tld", "joe@my.domain", "d@x.tld")
]
_DEPENDENT = {
    "relay_domains": "relayed.tld",
    "relayhost": "[smart.host]:587",
    "transport_maps": "inline:{{hop.tld=smtp:[hop.host]}, {colon.tld=:}}",
    "sender_dependent_relayhost_maps": "inline:{{s@x.tld=[s.host]}, {d@x.tld=DUNNO}, {@y.tld=[y.host]:26},"
    " {joe=[joe.host]}, {<>=[null.host]}}",
}
_HEADERS = [
    to("joe@my.domain", header=header)
    for header in (
        "",
        "Subject: nothing else\n",
        "From: a\nTo: b\nCc: c\nBcc: d\nReply-To: e\nErrors-To: f\nSender: g\n",
        "Return-Path: <a@b.tld>\nContent-Length: 7\nBcc: secret@b.tld\nRETURN-PATH : x\nStatus: R\n",
        "Resent-From: a\nFrom: b\nTo: c\n",
        "Resent-To: a\nResent-Bcc: b\nTo: c\nDate: x\n",
        "Resent-Message-Id: <a@b>\nResent-Date: x\nMessage-Id: <c@d>\n",
        "Resent-Cc: a, b\n\tc\n",
        "Apparently-To: a\nReturn-Receipt-To: b\nDisposition-Notification-To: c\n"
        "Mail-Followup-To: d\nResent-Sender: e\n",
        "From: Very Long <" + "a" * 60 + ">, another@host, \"" + "b" * 60 + "\" <c>\nTo: a, b, c, d, e, f, g, h\n",
        "To: undisclosed-recipients:;\nFrom: a: b, c;\nCc: (comment) a (another), \"q\" <b>\n",
        "X-Long: " + "x " * 100 + "\n\t" + "y " * 100 + "\nTo: " + ", ".join(["a"] * 40) + "\n",
        "Message-Id:\nDate:\nFrom:\nTo:\n",
        "from: a\nTO: b\nmEsSaGe-iD: <x@y>\nDATE: z\n",
        "To : a\nFrom : b\nSubject : c\n",
    )
]

SITES: dict[str, tuple[dict[str, str], list[Mail]]] = {
    "headers": ({}, _HEADERS),
    "headers from strangers": (
        {"local_header_rewrite_clients": "", "undisclosed_recipients_header": "To: nobody:;"}, _HEADERS
    ),
    "headers from strangers made complete": (
        {"local_header_rewrite_clients": "", "remote_header_rewrite_domain": "far.invalid"}, _HEADERS
    ),
    "added to all": ({"local_header_rewrite_clients": "", "always_add_missing_headers": "yes"}, _HEADERS),
    "local clients by interface": ({"local_header_rewrite_clients": "permit_inet_interfaces"}, _HEADERS[:3]),
    "local clients by table": (
        {"local_header_rewrite_clients": "check_address_map inline:{{127.0.0=yes}}"}, _HEADERS[:3]
    ),
    "local clients by another table": (
        {"local_header_rewrite_clients": "check_address_map inline:{{127.0.0.9=yes}}"}, _HEADERS[:3]
    ),
    "undisclosed": ({"undisclosed_recipients_header": "To: undisclosed-recipients:;"}, _HEADERS),
    "dropped": ({"message_drop_headers": "status, x-long, resent-cc, To"}, _HEADERS),
    "nothing dropped": ({"message_drop_headers": ""}, _HEADERS),
    "short headers": ({"header_size_limit": "60"}, _HEADERS),
    "obsolete from": ({"header_from_format": "obsolete"}, _HEADERS[:2]),
    "masqueraded": (
        {
            "masquerade_domains": "!keep.my.domain my.domain !x.tld tld", "masquerade_exceptions": "root, postmaster",
            "masquerade_classes": "envelope_sender, envelope_recipient, header_sender",
        },
        [
            to(
                "a@pc.my.domain", "root@pc.my.domain", "a@keep.my.domain", "a@b.keep.my.domain", "a@my.domain",
                "a@x.tld", "a@y.x.tld", "a@y.z.tld", "a@tld", "Root@pc.my.domain", "root+x@pc.my.domain",
                sender="a@b.pc.my.domain", header="From: a@pc.my.domain\nTo: b@pc.my.domain, root@pc.my.domain\n",
            )
        ],
    ),
    "aliases and notifications": ({"virtual_alias_maps": _ALIASES}, [_NOTIFY]),
    "aliases without originals": (
        {"virtual_alias_maps": _ALIASES, "enable_original_recipient": "no"}, [_NOTIFY]
    ),
    "few duplicates known": (
        {"duplicate_filter_limit": "2", "enable_original_recipient": "no"},
        [to("a@b.tld", "c@b.tld", "d@b.tld", "a@b.tld", "d@b.tld", "D@b.tld", "A@B.tld")],
    ),
    "alias that goes on": (
        {"virtual_alias_maps": "pcre:{{/^(.*)@my.domain$$/ x$$1@my.domain}}", "virtual_alias_recursion_limit": "20"},
        [to("joe@my.domain"), to("joe@b.tld")],
    ),
    "alias that grows": (
        {"virtual_alias_maps": "pcre:{{/^(.*)@my.domain$$/ x$$1@my.domain}}",
         "virtual_alias_address_length_limit": "30"},
        [to("joe@my.domain")],
    ),
    "alias of many": (
        {"virtual_alias_maps": "inline:{{many@my.domain=a, b, c, d, e, f}, {few@my.domain=a, b, c}}",
         "virtual_alias_expansion_limit": "4"},
        [to("few@my.domain"), to("many@my.domain"), to("few@my.domain", "few@my.domain")],
    ),
    "alias loops": (
        {"virtual_alias_maps": "inline:{{a@my.domain=b}, {b@my.domain=a}, {c@my.domain=c, d}, {d@my.domain=c}}"},
        [to("c@my.domain", "d@my.domain"), to("a@my.domain")],
    ),
    "alias by domain": (
        {"virtual_alias_maps": "inline:{{@b.tld=@c.tld}, {@c.tld=all@d.tld}, {x@b.tld=x+y@e.tld}, {@z.tld=@z.tld}}",
         "recipient_delimiter": "+-"},
        [to("a@b.tld", "a+ext@b.tld", "x@b.tld", "x-ext@b.tld", "x+ext@b.tld", "q@z.tld", "\"q r\"@z.tld")],
    ),
    "blind copies": (
        {"always_bcc": "archive+all", "sender_bcc_maps": "inline:{{ann@x.tld=boss@x.tld}, {@x.tld=never@x.tld}}",
         "recipient_bcc_maps": "inline:{{joe@my.domain=copy@b.tld}, {copied=twice}, {@b.tld=@c.tld}}",
         "virtual_alias_maps": "inline:{{copy@b.tld=alias1@b.tld, alias2@b.tld}}"},
        [_BLIND, to("joe@my.domain", sender=""), to("joe@my.domain", sender="postmaster")],
    ),
    "no mappings": (
        {"receive_override_options": "no_address_mappings", "always_bcc": "archive",
         "virtual_alias_maps": _ALIASES, "canonical_maps": "inline:{{joe=wrong}}", "masquerade_domains": "my.domain",
         "recipient_bcc_maps": "inline:{{joe@my.domain=copy@b.tld}}"},
        [_BLIND, to("list@my.domain", "a@pc.my.domain", "joe", header="From: joe\nTo: joe@pc\n")],
    ),
    "milters and checks": (
        {"receive_override_options": "no_header_body_checks", "header_checks": "static:REJECT"}, [to("joe@my.domain")]
    ),
    "extensions": (
        {"canonical_maps": "inline:{{mapped@old.tld=new@b.tld}, {@moved.tld=@b.tld}}",
         "virtual_alias_maps": "inline:{{joe@my.domain=j@c.tld, k}, {alias=one@b.tld}}"},
        [_EXTENDED],
    ),
    "extensions of canonical only": (
        {"canonical_maps": "inline:{{mapped@old.tld=new@b.tld}, {@moved.tld=@b.tld}}",
         "virtual_alias_maps": "inline:{{joe@my.domain=j@c.tld, k}, {alias=one@b.tld}}",
         "propagate_unmatched_extensions": "canonical"},
        [_EXTENDED],
    ),
    "extensions of virtual only": (
        {"canonical_maps": "inline:{{mapped@old.tld=new@b.tld}, {@moved.tld=@b.tld}}",
         "virtual_alias_maps": "inline:{{joe@my.domain=j@c.tld, k}, {alias=one@b.tld}}",
         "propagate_unmatched_extensions": "virtual", "recipient_delimiter": "-+"},
        [_EXTENDED],
    ),
    "canonical rounds": (
        {"canonical_maps": "inline:{{a=b}, {b=c}, {c=d}, {x=y}, {y=x}, {self=self}, {two=one, other}}"},
        [to("a", "self", "two"), to("x")],
    ),
    "nobody": (
        {"empty_address_recipient": "postbox@c.tld"},
        [to("\"\"@my.domain", "MAILER-DAEMON", "mailer-daemon@my.domain", "postmaster", sender="MAILER-DAEMON")],
    ),
    "routes": (_CLASSES, [_ROUTES]),
    "routes with relay host": ({**_CLASSES, "relayhost": "smart.host"}, [_ROUTES]),
    "routes with relay host and transports": (
        {**_CLASSES, "relayhost": "[192.0.2.5]:26", "default_transport": "smtp:[by.default]",
         "relay_transport": "lmtp:unix:/relay", "virtual_transport": "lmtp:unix:/virtual",
         "local_transport": "lmtp:unix:/local",
         "parent_domain_matches_subdomains": ""},
        [_ROUTES],
    ),
    "parents match": (
        {**_CLASSES, "parent_domain_matches_subdomains": "transport_maps, relay_domains"}, [_ROUTES]
    ),
    "catch-all transport": (
        {**_CLASSES, "transport_maps": "inline:{{*=smtp:[all.host]}, {my.domain=:}, {b.tld=local:}}",
         "show_user_unknown_table_name": "no"},
        [_ROUTES],
    ),
    "relay hosts by sender": (_DEPENDENT, _SENDERS),
    "transports by sender": (
        {**_DEPENDENT, "sender_dependent_default_transport_maps":
         "inline:{{s@x.tld=uucp:neighbour}, {d@x.tld=DUNNO}, {@y.tld=smtp}, {joe=smtp:[j.host]}, {<>=error:no}}"},
        _SENDERS,
    ),
    "keys of the empty sender": (
        {**_DEPENDENT, "empty_address_relayhost_maps_lookup_key": "d@x.tld", "sender_dependent_relayhost_maps":
         "inline:{{d@x.tld=[d.host]}}", "empty_address_default_transport_maps_lookup_key": "s@x.tld",
         "sender_dependent_default_transport_maps": "inline:{{s@x.tld=uucp:neighbour}}"},
        _SENDERS,
    ),
    "relay host without transport": ({"relayhost": "smart.host:26", "default_transport": "uucp"}, _SENDERS[1:2]),
    "proxies": (
        {"proxy_interfaces": "192.0.2.1, 192.0.2.77"}, [to("a@[192.0.2.77]", "a@[192.0.2.78]", "a@[127.0.0.1]")]
    ),
}  # fmt: skip


Answers = dict[str, list[dict[str, Any]]]


def load() -> Answers:
    answers: Answers = json.loads(ANSWERS.read_text())
    return answers


def save(answers: Answers) -> None:
    sites = []
    for site, given in answers.items():
        rows = ",\n".join(f" {json.dumps(answer)}" for answer in given)
        sites.append(f"{json.dumps(site)}: [\n{rows}\n]")
    ANSWERS.write_text("{\n" + ",\n".join(sites) + "\n}\n")
