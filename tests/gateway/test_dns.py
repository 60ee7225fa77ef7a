"""The resolver against a name server that runs in the test itself, on real loopback sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import LogEvent, globalLogPublisher

from gateway.dns import CACHE_SIZE, DNSResolver, to_name
from gateway.dns_client import DNSClient, read_answer
from gateway.dns_files import ResolvConf, WatchedFile, parse_hosts, parse_nsswitch, parse_resolv_conf
from gateway.dns_filter import RecordFilter
from gateway.interfaces import MX, DNSError
from gateway.log import MemoryLog

NOT_FOUND = "Host or domain name not found. Name service error for name="


class SomeSettings:
    def __init__(self, **values: str) -> None:
        self.values = {"inet_protocols": "ipv4", "smtp_host_lookup": "dns", **values}

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def words(self, name: str) -> list[str]:
        return self.text(name).replace(",", " ").split()

    def flag(self, name: str) -> bool:
        return self.text(name) == "yes"


class NameServer(DatagramProtocol):
    """Answers from ``zone``: "name type" → lines of records, a response code, or a function of the query."""

    def __init__(self) -> None:
        self.zone: dict[str, Any] = {}
        self.asked: list[str] = []
        self.ports: list[int] = []
        self.over_tcp = 0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.ports.append(addr[1])
        for packet in self.answers(datagram):
            assert self.transport is not None
            self.transport.write(packet, addr)

    def answers(self, datagram: bytes, tcp: bool = False) -> list[bytes]:
        query = dns.message.from_wire(datagram)
        question = query.question[0]
        key = f"{question.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(question.rdtype)}"
        self.asked.append(key)
        found = self.zone.get(key, "NXDOMAIN")
        if callable(found):
            return list(found(query, tcp))
        return [answer(query, found).to_wire()]


def answer(query: dns.message.Message, found: str) -> dns.message.Message:
    reply = dns.message.make_response(query)
    if found.isupper():
        reply.set_rcode(dns.rcode.from_text(found))
    for line in [] if found.isupper() else found.splitlines():
        name, ttl, kind, data = line.split(None, 3)
        section = reply.authority if kind == "SOA" else reply.answer
        reply.find_rrset(
            section, dns.name.from_text(name), dns.rdataclass.IN, dns.rdatatype.from_text(kind), create=True
        ).update(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return reply


class OverTCP(Protocol):
    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.server.over_tcp += 1
        assert self.transport is not None
        for packet in self.factory.server.answers(data[2:], tcp=True):
            whole = len(packet).to_bytes(2, "big") + packet
            self.transport.write(whole[:1])
            self.transport.write(whole[1:])


@pytest.fixture
def server() -> Iterator[NameServer]:
    protocol = NameServer()
    factory: Any = Factory.forProtocol(OverTCP)
    factory.server = protocol
    while True:  # a port that is free for both
        tcp = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        protocol.port = tcp.getHost().port  # type: ignore[attr-defined]
        try:
            udp = reactor.listenUDP(protocol.port, protocol, interface="127.0.0.1")  # type: ignore[attr-defined]
            break
        except CannotListenError:
            tcp.stopListening()
    yield protocol
    udp.stopListening()
    tcp.stopListening()


def make(server: NameServer, tmp_path: Path | None = None, **values: str) -> DNSResolver:
    conf = ResolvConf(timeout=0.15, attempts=2, search=["search.example"])
    client = DNSClient(reactor, lambda: conf, servers=[("127.0.0.1", server.port)])  # type: ignore[attr-defined]
    here = str(tmp_path) if tmp_path else "/nonexistent"
    return DNSResolver(
        reactor, SomeSettings(**values), client=client, hosts=f"{here}/hosts", resolv_conf=f"{here}/resolv.conf",
        nsswitch=f"{here}/nsswitch.conf",
    )


async def error_of(question: Any) -> DNSError:
    with pytest.raises(DNSError) as caught:
        await question
    return caught.value


@ensureDeferred
async def test_mx_hosts_come_by_preference(server: NameServer) -> None:
    server.zone["a.example MX"] = "a.example 60 MX 20 B.a.example.\na.example 60 MX 5 c.a.example."
    assert await make(server).mx("a.example") == [MX(5, "c.a.example"), MX(20, "B.a.example")]


@ensureDeferred
async def test_null_mx_and_no_mx(server: NameServer) -> None:
    server.zone["null.example MX"] = "null.example 60 MX 0 ."
    server.zone["beside.example MX"] = "beside.example 60 MX 5 a.example.\nbeside.example 60 MX 10 ."
    server.zone["none.example MX"] = "none.example 60 SOA a. b. 1 2 3 4 5"
    assert await make(server).mx("null.example") == await make(server).mx("beside.example") == [MX(0, "")]
    assert await make(server).mx("none.example") == []


@ensureDeferred
async def test_errors_speak_like_postfix(server: NameServer) -> None:
    resolver = make(server)
    server.zone["again.example MX"] = "SERVFAIL"
    server.zone["refused.example MX"] = "REFUSED"
    server.zone["nodata.example A"] = "nodata.example 60 SOA a. b. 1 2 3 4 5"
    again = await error_of(resolver.mx("again.example"))
    assert str(again) == NOT_FOUND + "again.example type=MX: Host not found, try again" and again.temporary
    assert (await error_of(resolver.mx("refused.example"))).temporary
    gone = await error_of(resolver.addresses("gone.example"))
    assert str(gone) == NOT_FOUND + "gone.example type=A: Host not found" and not gone.temporary
    nodata = await error_of(resolver.addresses("nodata.example"))
    assert str(nodata) == NOT_FOUND + "nodata.example type=A: Host found but no data record of requested type"
    assert not nodata.temporary


@ensureDeferred
async def test_silence_is_temporary_and_asked_again(server: NameServer) -> None:
    server.zone["silent.example A"] = lambda query, tcp: []
    error = await error_of(make(server).addresses("silent.example"))
    assert error.temporary
    assert server.asked == ["silent.example A"] * 2


@ensureDeferred
async def test_a_slow_question_delays_no_other(server: NameServer) -> None:
    server.zone["silent.example A"] = lambda query, tcp: []
    server.zone["quick.example A"] = "quick.example 60 A 192.0.2.1"
    resolver = make(server)
    slow = Deferred.fromCoroutine(error_of(resolver.addresses("silent.example")))
    assert await resolver.addresses("quick.example") == ["192.0.2.1"]
    assert not slow.called
    await slow


@ensureDeferred
async def test_second_server_is_asked_when_the_first_fails(server: NameServer) -> None:
    server.zone["a.example A"] = "a.example 60 A 192.0.2.1"
    conf = ResolvConf(timeout=0.2, attempts=1)
    servers = [("127.0.0.1", 1), ("127.0.0.1", server.port)]  # type: ignore[attr-defined]
    resolver = DNSResolver(reactor, SomeSettings(), client=DNSClient(reactor, lambda: conf, servers=servers))
    assert await resolver.addresses("a.example") == ["192.0.2.1"]


@ensureDeferred
async def test_a_server_without_a_route_is_passed_over_without_a_word_in_the_log(server: NameServer) -> None:
    server.zone["a.example A"] = "a.example 60 A 192.0.2.1"
    conf = ResolvConf(timeout=0.2, attempts=1)
    servers = [("255.255.255.255", 53), ("127.0.0.1", server.port)]  # type: ignore[attr-defined]
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        resolver = DNSResolver(reactor, SomeSettings(), client=DNSClient(reactor, lambda: conf, servers=servers))
        assert await resolver.addresses("a.example") == ["192.0.2.1"]
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event for event in events if "log_failure" in event] == []


@ensureDeferred
async def test_truncated_answer_is_asked_over_tcp(server: NameServer) -> None:
    def big(query: dns.message.Message, tcp: bool) -> Iterator[bytes]:
        reply = answer(query, "\n".join(f"big.example 60 A 192.0.2.{number}" for number in range(200)))
        whole = reply.to_wire()
        if tcp:
            yield whole
        else:
            yield whole[:2] + bytes([whole[2] | 2]) + whole[3:511]

    server.zone["big.example A"] = big
    found = await make(server).addresses("big.example")
    assert len(found) == 100 and server.over_tcp == 1


@ensureDeferred
async def test_forged_answers_are_ignored(server: NameServer) -> None:
    def forged(query: dns.message.Message, tcp: bool) -> Iterator[bytes]:
        evil = answer(query, "a.example 60 A 203.0.113.66").to_wire()
        yield bytes([evil[0] ^ 1]) + evil[1:]                                   # another ID
        yield evil[:2] + bytes([evil[2] & 0x7F]) + evil[3:]                     # a question
        other = dns.message.make_query("b.example", "A", id=query.id)
        yield answer(other, "b.example 60 A 203.0.113.66").to_wire()            # of another name
        yield b"\0" * 3
        yield evil[:20]
        yield answer(query, "a.example 60 A 192.0.2.1").to_wire()

    server.zone["a.example A"] = forged
    assert await make(server).addresses("a.example") == ["192.0.2.1"]


@ensureDeferred
async def test_ports_differ(server: NameServer) -> None:
    resolver = make(server)
    for number in range(6):
        await error_of(resolver.addresses(f"n{number}.example"))
    assert len(set(server.ports)) > 3


@ensureDeferred
async def test_aliases_are_followed_within_and_beyond_an_answer(server: NameServer) -> None:
    server.zone["in.example A"] = "in.example 60 CNAME x.example.\nx.example 60 A 192.0.2.1"
    server.zone["out.example A"] = "out.example 60 CNAME y.example."
    server.zone["y.example A"] = "y.example 60 A 192.0.2.2"
    server.zone["round.example A"] = "round.example 60 CNAME round.example."
    server.zone["lost.example A"] = "lost.example 60 CNAME nowhere.example."
    resolver = make(server)
    assert await resolver.addresses("in.example") == ["192.0.2.1"]
    assert await resolver.addresses("out.example") == ["192.0.2.2"]
    assert (await error_of(resolver.addresses("round.example"))).temporary
    assert not (await error_of(resolver.addresses("lost.example"))).temporary


@ensureDeferred
async def test_unsafe_names_are_unusable(server: NameServer) -> None:
    server.zone["bad.example MX"] = 'bad.example 60 MX 5 a\\000b.example.\nbad.example 60 MX 6 Good.example.'
    server.zone["worse.example MX"] = 'worse.example 60 MX 5 a\\"%\\032b.example.'
    server.zone["1.2.0.192.in-addr.arpa PTR"] = "1.2.0.192.in-addr.arpa 60 PTR a\\010b.example."
    server.zone["2.2.0.192.in-addr.arpa PTR"] = "2.2.0.192.in-addr.arpa 60 PTR Good_Name.example."
    resolver = make(server)
    assert await resolver.mx("bad.example") == [MX(6, "Good.example")]
    assert "Malformed" in str(await error_of(resolver.mx("worse.example")))
    await error_of(resolver.hostname("192.0.2.1"))
    assert await resolver.hostname("192.0.2.2") == "Good_Name.example"


@ensureDeferred
async def test_names_that_can_be_none_are_never_asked(server: NameServer) -> None:
    resolver = make(server)
    for name in ("a b.example", "a..example", "x" * 70 + ".example", "a\0.example", "", "-", "a/../b", "ü" * 80):
        error = await error_of(resolver.addresses(name))
        assert not error.temporary and "invalid host or domain name" in str(error)
    assert not server.asked


@ensureDeferred
async def test_international_names_are_asked_in_ascii(server: NameServer) -> None:
    server.zone["xn--bcher-kva.example A"] = "xn--bcher-kva.example 60 A 192.0.2.1"
    assert await make(server).addresses("bücher.example") == ["192.0.2.1"]


@ensureDeferred
async def test_cache_holds_answers_and_denials(server: NameServer) -> None:
    server.zone["a.example A"] = "a.example 60 A 192.0.2.1"
    server.zone["zero.example A"] = "zero.example 0 A 192.0.2.1"
    server.zone["none.example A"] = "none.example 60 SOA a. b. 1 2 3 4 5"
    resolver = make(server)
    for _ in range(2):
        await resolver.addresses("a.example")
        await resolver.addresses("zero.example")
        await error_of(resolver.addresses("none.example"))
    assert server.asked.count("a.example A") == 1
    assert server.asked.count("zero.example A") == 2
    assert server.asked.count("none.example A") == 1


@ensureDeferred
async def test_equal_questions_are_asked_once(server: NameServer) -> None:
    server.zone["a.example A"] = "a.example 0 A 192.0.2.1"
    resolver = make(server)
    many = [Deferred.fromCoroutine(resolver.addresses("a.example")) for _ in range(20)]
    assert await gatherResults(many) == [["192.0.2.1"]] * 20
    assert len(server.asked) == 1


@ensureDeferred
async def test_cache_is_bounded(server: NameServer) -> None:
    server.zone["a.example A"] = "a.example 60 A 192.0.2.1"
    resolver = make(server)
    cache = resolver._shared._cache
    found = await resolver._shared.look_up(dns.name.from_text("a.example"), dns.rdatatype.A)
    for number in range(CACHE_SIZE + 10):
        resolver._shared._keep((dns.name.Name([str(number).encode(), b""]), 1), found)
    assert len(cache) == CACHE_SIZE


@ensureDeferred
async def test_both_kinds_of_addresses(server: NameServer) -> None:
    server.zone["a.example A"] = "a.example 60 A 192.0.2.1"
    server.zone["a.example AAAA"] = "a.example 60 AAAA 2001:DB8::1"
    server.zone["six.example AAAA"] = "six.example 60 AAAA 2001:db8::2"
    server.zone["half.example A"] = "half.example 60 A 192.0.2.1"
    server.zone["half.example AAAA"] = "SERVFAIL"
    server.zone["bad.example A"] = "SERVFAIL"
    both = make(server, inet_protocols="all")
    assert await both.addresses("a.example") == ["192.0.2.1", "2001:db8::1"]
    assert await both.addresses("six.example") == ["2001:db8::2"]
    assert await both.addresses("half.example") == ["192.0.2.1"]
    assert (await error_of(both.addresses("bad.example"))).temporary
    assert "type=AAAA: Host not found" in str(await error_of(both.addresses("gone.example")))
    assert await make(server, inet_protocols="ipv6").addresses("a.example") == ["2001:db8::1"]


@ensureDeferred
async def test_addresses_need_no_question(server: NameServer) -> None:
    assert await make(server).addresses("192.0.2.7") == ["192.0.2.7"]
    assert not server.asked


@ensureDeferred
async def test_hosts_file_and_search_list(server: NameServer, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.23  Elsewhere.example alias # comment\n::1 localhost\n")
    (tmp_path / "resolv.conf").write_text("search search.example\n")
    server.zone["short.search.example A"] = "short.search.example 60 A 192.0.2.9"
    server.zone["far.example A"] = "far.example 60 A 192.0.2.8"
    resolver = make(server, tmp_path, disable_dns_lookups="yes")
    assert resolver.disabled
    assert await resolver.addresses("elsewhere.example") == ["192.0.2.23"]
    assert await resolver.addresses("ALIAS") == ["192.0.2.23"]
    assert await resolver.hostname("192.0.2.23") == "elsewhere.example"
    assert await resolver.addresses("short") == ["192.0.2.9"]
    assert await resolver.addresses("far.example") == ["192.0.2.8"]
    error = await error_of(resolver.addresses("nowhere.example"))
    assert str(error) == "unable to look up host nowhere.example: Name or service not known"
    (tmp_path / "nsswitch.conf").write_text("hosts: files myhostname\n")
    without_dns = make(server, tmp_path, smtp_host_lookup="native")
    assert "Name or service" in str(await error_of(without_dns.addresses("short")))


@ensureDeferred
async def test_dns_alone_has_no_search_list_unless_asked_for(server: NameServer, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.23 short\n")
    (tmp_path / "resolv.conf").write_text("search search.example\n")
    server.zone["short.search.example A"] = "short.search.example 60 A 192.0.2.9"
    assert "type=A: Host not found" in str(await error_of(make(server, tmp_path).addresses("short")))
    searching = make(server, tmp_path).for_service(SomeSettings(smtp_dns_resolver_options="res_defnames"))
    assert await searching.addresses("short") == ["192.0.2.9"]
    both = make(server, tmp_path).for_service(SomeSettings(smtp_host_lookup="dns, native"))
    assert await both.addresses("short") == ["192.0.2.23"]


@ensureDeferred
async def test_a_filter_is_for_what_the_dns_itself_is_asked_for(server: NameServer, tmp_path: Path) -> None:
    async def find(line: str) -> str:
        return "IGNORE"

    server.zone["x.test A"] = "x.test 60 A 192.0.2.9"
    plain = make(server, tmp_path)
    filtered = plain.for_service(SomeSettings(), RecordFilter(find, "smtpd_dns_reply_filter", MemoryLog(), "smtpd"))
    assert "drops all results" in str(await error_of(filtered.query("x.test", "A")))
    assert "drops all results" in str(await error_of(filtered.addresses("x.test")))
    assert await filtered.native("x.test") == await plain.addresses("x.test") == ["192.0.2.9"]


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "hosts"
    watched = WatchedFile(str(path), parse_hosts, lambda: now[0])
    assert watched.value.addresses == {}
    path.write_text("192.0.2.1 a\n")
    assert watched.value.addresses == {}
    now[0] = 2.0
    assert watched.value.addresses == {"a": ["192.0.2.1"]}
    path.unlink()
    now[0] = 4.0
    assert watched.value.addresses == {}


def test_resolv_conf() -> None:
    conf = parse_resolv_conf(
        "# x\nnameserver 192.0.2.1\nnameserver rubbish\nnameserver fe80::1%eth0\nsearch A.example. b\n"
        "options timeout:2 attempts:9 ndots:3 rotate timeout:x\n"
    )
    assert conf == ResolvConf(["192.0.2.1", "fe80::1%eth0"], ["a.example", "b"], 2, 5, 3, True)
    assert parse_resolv_conf("nameserver\nnameserver localhost\n").servers == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("text", "sources"),
    [("hosts: files mdns4 [NOTFOUND=return] dns\n", ["files", "dns"]), ("passwd: x\n", ["files", "dns"]),
     ("hosts: dns files # x", ["dns", "files"]), ("hosts: resolve", ["dns"])],
)
def test_nsswitch(text: str, sources: list[str]) -> None:
    assert parse_nsswitch(text) == sources


PARSERS: list[Callable[[str], Any]] = [parse_hosts, parse_resolv_conf, parse_nsswitch, to_name]


@given(st.text(max_size=80))
@hypothesis_settings(max_examples=60)
def test_files_full_of_nonsense(text: str) -> None:
    for parse in PARSERS:
        parse(text)


@given(st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_packet_breaks_the_reader(data: st.DataObject) -> None:
    query = dns.message.make_query("a.example", "A")
    packet = bytearray(answer(query, "a.example 60 A 192.0.2.1\na.example 60 MX 5 b.example.").to_wire())
    for _ in range(data.draw(st.integers(0, 5))):
        packet[data.draw(st.integers(2, len(packet) - 1))] = data.draw(st.integers(0, 255))
    found = read_answer(query, bytes(packet[: data.draw(st.integers(0, len(packet)))]))
    assert found is None or found.question == query.question
