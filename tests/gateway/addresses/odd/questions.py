"""What is asked: some 250 odd addresses, in sites that differ in one setting each.

Each address is given with MAIL, with RCPT, and in the header of a message that is held as it is taken.  The answer:

    "mail", "rcpt"      the replies
    "sender"            of the envelope, "" = none
    "recipients"        of the envelope: address, original recipient, DSN original recipient
    "header"            the values of From, To and Reply-To ("Name <ADDRESS>, x@my.domain")
    "route"             of the first recipient: class, transport, next hop, address

Addresses are bytes, written as Latin-1 text in the file of answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANSWERS = Path(__file__).parent / "answers.json"
SUBMITTED = Path(__file__).parent / "submitted.json"

_PLAIN = r"""
joe
joe@my.domain
JOE@My.Domain
a@b
a@b.tld
a@localhost
a@gw
a@gw.my.domain
user@
user@@
@domain
@domain.tld
@
@@
""
""@
""@b.tld
""@my.domain
"a b"@b.tld
"a b"
"a\ b"@b.tld
"a\"b"@b.tld
"a\\b"@b.tld
"a\b"@b.tld
"a"@b.tld
"a"."b"@b.tld
"a".b@b.tld
"a.b"@b.tld
"a..b"@b.tld
".a"@b.tld
"a."@b.tld
"a@c.tld"@b.tld
"a@c.tld"@my.domain
"a@c.tld"
"a@my.domain"@my.domain
"a%c.tld"@my.domain
"c.tld!a"@my.domain
"a b%c.tld"@my.domain
"a b@c.tld"@my.domain
"a>b"@b.tld
"a<b>"@b.tld
"a,b"@b.tld
"a;b"@b.tld
"a:b"@b.tld
"(a)"@b.tld
"a(b"@b.tld
"[a]"@b.tld
"-a"@b.tld
"-a"
"+a"@b.tld
" "@b.tld
" a "@b.tld
"a
"a@b.tld
a"@b.tld
a"b"@b.tld
"a"b@b.tld
"a""b"@b.tld
a"@"b.tld
"@"
"@"@b.tld
"!"@b.tld
"%"@my.domain
a\@b.tld
a\@c@b.tld
a\"b@b.tld
a\ b@b.tld
\a@b.tld
\
\@b.tld
a@b.tld\
a@b\.tld
a(c)@b.tld
a@(c)b.tld
a@b.tld(c)
(c)a@b.tld
a(c(d)e)@b.tld
a(c@b.tld
a)@b.tld
(c)
(c)@b.tld
a(\))@b.tld
a (c)@b.tld
@r.tld:a@b.tld
@r.tld,@s.tld:a@b.tld
@a,@b:c@d
@r.tld:
@r.tld:a
@:a@b.tld
@r.tld,a@b.tld
@r.tld:@s.tld:a@b.tld
@my.domain:a@b.tld
@r.tld: a@b.tld
a@b.tld:c
a:b@b.tld
a@b:c@d.tld
:a@b.tld
a:@b.tld
a@b.tld,c@d.tld
a,b@b.tld
,a@b.tld
a@b.tld,
a;b@b.tld
a@b.tld;
g:a@b.tld;
g:;
;
,
:
.
..
!
%
+
-
<
>
<>
<<a@b.tld>>
<a@b.tld
a@b.tld>
a<b>c@b.tld
a>b@b.tld
a b@b.tld
a @b.tld
a@ b.tld
a @ b.tld
a@b.tld c
a@b. tld
a@b .tld
a. b@b.tld
 a@b.tld
a@b@c
a@b@c.tld
a@b.tld@my.domain
a@my.domain@b.tld
a@my.domain@my.domain
a@@b.tld
a@b.tld@
@a@b.tld
a%b@c.tld
a%b
a%b.tld
a%b.tld@my.domain
a%b%c.tld
a%b%c@my.domain
a%b.tld@c.tld
%b.tld
%b.tld@my.domain
a%
a%@my.domain
a%my.domain@my.domain
a%my.domain
a%%b.tld
%
site!user
b.tld!a
b.tld!a@my.domain
b.tld!a@c.tld
c!b!a
b.tld!c.tld!a
b.tld!a%c.tld
a%c.tld!b
my.domain!a
my.domain!b.tld!a
!a
!a@b.tld
a!
a!@my.domain
b.tld!
b.tld!@my.domain
!!a
b.tld!"a b"
b.tld!a b
b.tld!a@
b@tld!a
a@b.tld.
a@b.tld..
a@b..tld
a@.b.tld
a@b.
a@.
a@..
a@my.domain.
a@my.domain..
a@localhost.
a.@b.tld
.a@b.tld
a..b@b.tld
..@b.tld
.@b.tld
a.b.c@b.tld
.
a.
.a
a..b
a@[192.0.2.1]
a@[192.0.2.9]
a@[192.0.2.1].
a@[127.0.0.1]
a@[192.0.2]
a@[192.0.2.256]
a@[192.0.2.01]
a@[192.0.2.9
a@192.0.2.9]
a@[]
a@[ 192.0.2.9 ]
a@[x]
a@[b.tld]
a@x[192.0.2.9]
a@[192.0.2.9]x
a@[192.0.2.9].tld
a@[[192.0.2.9]]
a@[192.0.2.9][192.0.2.8]
a@[\192.0.2.9]
[192.0.2.9]
[192.0.2.9]@b.tld
a@[IPv6:2001:db8::1]
a@[ipv6:2001:DB8::1]
a@[IPv6:::1]
a@[IPv6:2001:db8::1].
a@[2001:db8::1]
a@[IPv6:192.0.2.1]
a@[IPv6:::ffff:192.0.2.1]
a@[IPv6:2001:db8::1%lo]
a@[IPv6:]
a@[IPv6:2001:db8::g]
a@[IPv7:2001:db8::1]
a@[X-tag:x]
a@192.0.2.9
a@192.0.2.1
a@192.0.2
a@192.0.2.9.
a@2001:db8::1
a@1234
a@1.2.3.4.5
a@123.tld
a@b.123
a@3com.tld
a@-b.tld
a@b-.tld
a@b.tld-
a@b.-
a@-
a@b--c.tld
a@b_c.tld
a@_b.tld
a@b.tld_
a@b/c.tld
a@b+c.tld
a@b*.tld
a@*
a@b.tld/../x
a@b$c.tld
a@"b.tld"
a@"b tld"
a@b."tld"
a@b!c.tld
a@b%c.tld
a@B.TLD
a@xn--bcher-kva.tld
a@xn--a.tld
a@xn--.tld
-a@b.tld
-a
--@b.tld
-@b.tld
a-@b.tld
-a@my.domain
-a%b.tld@my.domain
joe+ext@my.domain
joe+@my.domain
+ext@my.domain
joe+a+b@my.domain
joe-ext@my.domain
joe-a+b@my.domain
joe.ext@my.domain
owner-list@my.domain
owner-list+x@my.domain
list-request@my.domain
list-request-x@my.domain
-request@my.domain
mailer-daemon
MAILER-DAEMON@my.domain
MAILER-DAEMON@gw.my.domain
mailer-daemon+x@my.domain
postmaster
postmaster@my.domain
double-bounce
double-bounce@my.domain
double-bounce+x@my.domain
hidden@pc.my.domain
root@pc.my.domain
alias@my.domain
alias+ext@my.domain
alias-ext@my.domain
mapped@old.tld
mapped+ext@old.tld
any+ext@moved.tld
~a@b.tld
a~b@b.tld
`a`@b.tld
$a@b.tld
$(a)@b.tld
|a
|a@b.tld
/a
/a@b.tld
/../a@b.tld
:include:/a
:include:/a@b.tld
#a@b.tld
*a@b.tld
=a@b.tld
a=b@b.tld
{a}@b.tld
'a'@b.tld
a&b@b.tld
a?b@b.tld
a^b@b.tld
a_b@b.tld
a/b@b.tld
=?utf-8?q?a?=@b.tld
Joe <a@b.tld>
"Joe" <a@b.tld>
Joe a@b.tld
a@b.tld <c@d.tld>
<a@b.tld> <c@d.tld>
"""

_BYTES = [
    b"a@b.tld ",
    b"\xc3\xa9@b.tld",
    b"\"\xc3\xa9 x\"@b.tld",
    b"\xc3\xa9",
    b"a@b\xc3\xbccher.tld",
    b"a@B\xc3\x9cCHER.tld",
    b"\xc3\xa9@b\xc3\xbccher.tld",
    b"a@b\xc3\xbccher",
    b"a@stra\xc3\x9fe.tld",
    b"a@\xe2\x98\x83.tld",
    b"a@b\xe3\x80\x82tld",
    b"a@b.\xe4\xb8\xad\xe5\x9b\xbd",
    b"\xe4\xb8\xad@\xe4\xb8\xad.tld",
    b"a@\xd7\x90\xd7\x91.tld",
    b"\xe9@b.tld",
    b"a\xff@b.tld",
    b"a@\xe9.tld",
    b"\xc0\xaf@b.tld",
    b"\xed\xa0\x80@b.tld",
    b"a@b\xc2\xa0c.tld",
    b"a@b\xc2\xad.tld",
    b"a@b\xe2\x80\x8b.tld",
    b"a\xc2\xa0b@b.tld",
    b"a\xc3\xa9+ext@my.domain",
    b"b\xc3\xa9.tld!a",
    b"a%b\xc3\xa9.tld",
    b"a\tb@b.tld",
    b"\"a\tb\"@b.tld",
    b"a@\tb.tld",
    b"a\x01@b.tld",
    b"\"a\x01b\"@b.tld",
    b"a@b\x01.tld",
    b"a\x7fb@b.tld",
    b"a\x1bb@b.tld",
    b"a\x0bb@b.tld",
    b"a\x0cb@b.tld",
    b"a" * 64 + b"@b.tld",
    b"a" * 65 + b"@b.tld",
    b"a" * 300 + b"@b.tld",
    b"a@" + b"b" * 63 + b".tld",
    b"a@" + b"b" * 64 + b".tld",
    b"a@" + b".".join([b"b" * 60] * 4) + b".tld",
    b"a@" + b".".join([b"b" * 60] * 5) + b".tld",
    b"a@" + b"b." * 120 + b"tld",
    b"(" * 30 + b"a" + b")" * 30 + b"@b.tld",
    b"a!" * 30 + b"a",
    b"a" + b"%a" * 30,
    b"a" + b"@a" * 30,
    b"a" + b"@my.domain" * 12,
    b"@a," * 30 + b"@a:b@c.tld",
    b"\"" + b"\\\"" * 30 + b"\"@b.tld",
]

ADDRESSES: list[bytes] = list(dict.fromkeys([b"", *_PLAIN.strip("\n").encode().split(b"\n"), *_BYTES]))

SITE = {
    "compatibility_level": "3.6",
    "myhostname": "gw.my.domain",
    "mydomain": "my.domain",
    "myorigin": "my.domain",
    "mydestination": "$myhostname, localhost, localhost.my.domain, my.domain",
    "inet_interfaces": "127.0.0.1",
    "proxy_interfaces": "192.0.2.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "append_dot_mydomain": "yes",
    "recipient_delimiter": "+",
    "local_recipient_maps": "",
    "alias_maps": "",
    "relay_domains": "",
    "smtpd_peername_lookup": "no",
    "smtpd_error_sleep_time": "0",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "smtpd_junk_command_limit": "1000000",
    "smtpd_delay_reject": "no",
    "header_checks": "static:HOLD",
    "local_header_rewrite_clients": "permit_mynetworks",
}

_CANONICAL = "inline:{{mapped@old.tld=mapped@new.tld}, {@moved.tld=@new.tld}, {joe=Joe.Doe}, {alias=other@b.tld}}"

SITES: dict[str, dict[str, str]] = {
    "plain": {},
    "strict": {"strict_rfc821_envelopes": "yes"},
    "stranger": {"mynetworks": "10.0.0.0/8"},
    "strange route": {
        "mynetworks": "10.0.0.0/8", "relay_domains": "b.tld, c.tld, tld", "allow_untrusted_routing": "yes"
    },
    "relay": {"mynetworks": "10.0.0.0/8", "relay_domains": "b.tld, c.tld, tld", "resolve_dequoted_address": "yes"},
    "quoted is literal": {
        "mynetworks": "10.0.0.0/8", "relay_domains": "b.tld, c.tld, tld", "resolve_dequoted_address": "no"
    },
    "numeric": {"resolve_numeric_domain": "yes", "resolve_null_domain": "yes"},
    "no bang": {"swap_bangpath": "no"},
    "no percent": {"allow_percent_hack": "no"},
    "no routing": {"swap_bangpath": "no", "allow_percent_hack": "no"},
    "nothing appended": {"append_at_myorigin": "no", "append_dot_mydomain": "no"},
    "min user": {"allow_min_user": "yes"},
    "no utf8": {"smtputf8_enable": "no"},
    "strict utf8": {"strict_smtputf8": "yes"},
    "utf8 announced": {},
    "mapped": {
        "canonical_maps": _CANONICAL,
        "virtual_alias_maps": "inline:{{alias@my.domain=one@b.tld, two}, {list-request=x}, {owner-list@my.domain=y}}",
        "masquerade_domains": "my.domain",
        "masquerade_exceptions": "root",
        "recipient_delimiter": "-+",
        "remote_header_rewrite_domain": "domain.invalid",
    },
    "classes": {
        "canonical_maps": _CANONICAL,
        "canonical_classes": "envelope_recipient, header_sender",
        "sender_canonical_maps": "inline:{{joe=sender}, {a@b.tld=\"a b\"@c.tld}}",
        "recipient_canonical_maps": "inline:{{joe=recipient}, {a@b.tld=x@c.tld}}",
        "masquerade_domains": "my.domain",
        "masquerade_classes": "envelope_recipient, header_recipient",
        "propagate_unmatched_extensions": "",
        "empty_address_recipient": "nobody@c.tld",
    },
    "remote": {"local_header_rewrite_clients": "", "remote_header_rewrite_domain": "domain.invalid"},
    "remote untouched": {"local_header_rewrite_clients": ""},
}

MAIL_PARAMETERS = {"utf8 announced": " SMTPUTF8"}
"""What MAIL has behind the address in a site."""


def message(address: bytes) -> bytes:
    """A message that has the address in its header; LF line ends."""
    return b"From: %b\nTo: Name <%b>, x@my.domain\nReply-To: %b\n\nbody\n" % (address, address, address)


Answer = dict[str, Any]
Answers = dict[str, Answer]


def load() -> dict[str, Answers]:
    """The answers of all sites, by address.  In the file, a site has only what differs from the first; None is what
    there is not."""
    kept: dict[str, Answers] = json.loads(ANSWERS.read_text())
    plain = kept["plain"]
    return {
        site: {address: _merged(answer, differing.get(address, {})) for address, answer in plain.items()}
        for site, differing in kept.items()
    }


def _merged(answer: Answer, differing: Answer) -> Answer:
    return {key: value for key, value in {**answer, **differing}.items() if value is not None}


def save(answers: dict[str, Answers]) -> None:
    plain = answers["plain"]
    sites = []
    for site, given in answers.items():
        rows = []
        for address, answer in given.items():
            if given is not plain:
                before = plain[address]
                answer = {key: answer.get(key) for key in {**before, **answer} if answer.get(key) != before.get(key)}
            if answer:
                rows.append(f" {json.dumps(address)}: {json.dumps(answer)}")
        sites.append(f"{json.dumps(site)}: {{\n" + ",\n".join(rows) + "\n}")
    ANSWERS.write_text("{\n" + ",\n".join(sites) + "\n}\n")
