"""The machine's own addresses, and the default of mynetworks that follows from them; postconf(5) mynetworks_style.

Addresses come from getifaddrs(3), in the system's order, filtered by inet_protocols and inet_interfaces.  Where the
system does not tell (or not in Linux's layout), the loopback addresses stand for all.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.settings import Settings

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_LOOPBACK = ("127.0.0.1/8", "::1/128")


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("broadcast", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]


def system_interfaces() -> list[Interface]:
    """All addresses with their networks; the loopback ones if the system cannot be asked."""
    try:
        return list(_getifaddrs()) or [ipaddress.ip_interface(text) for text in _LOOPBACK]
    except (OSError, AttributeError, ValueError):
        return [ipaddress.ip_interface(text) for text in _LOOPBACK]


def _getifaddrs() -> Iterator[Interface]:
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    head = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs")
    try:
        entry = head
        while entry:
            interface = _interface(entry.contents.address, entry.contents.netmask)
            if interface is not None:
                yield interface
            entry = entry.contents.next
    finally:
        libc.freeifaddrs(head)


def _interface(address: int | None, netmask: int | None) -> Interface | None:
    """From two struct sockaddr; None for what is neither IPv4 nor IPv6."""
    if not address or not netmask:
        return None
    (family,) = struct.unpack("=H", ctypes.string_at(address, 2))
    if family == socket.AF_INET:
        host, mask = ctypes.string_at(address + 4, 4), ctypes.string_at(netmask + 4, 4)
        return ipaddress.IPv4Interface((host, int.from_bytes(mask).bit_count()))
    if family == socket.AF_INET6:
        host, mask = ctypes.string_at(address + 8, 16), ctypes.string_at(netmask + 8, 16)
        return ipaddress.IPv6Interface((host, int.from_bytes(mask).bit_count()))
    return None


def own_interfaces(settings: Settings, system: Iterable[Interface] | None = None) -> list[Interface]:
    """The addresses that inet_interfaces and inet_protocols leave, each once.  Host names in inet_interfaces are
    looked up (hosts file or DNS, at once); one that is unknown counts for nothing."""
    versions = _versions(settings)
    known = [each for each in (system_interfaces() if system is None else system) if each.version in versions]
    words = settings.words("inet_interfaces")
    if words == ["all"]:
        return list(dict.fromkeys(known))
    if words == ["loopback-only"]:
        return list(dict.fromkeys(each for each in known if each.is_loopback))
    chosen: dict[Interface, None] = {}
    for word in words:
        for address in _resolve(word):
            if address.version in versions:
                found = next((each for each in known if each.ip == address), ipaddress.ip_interface(address))
                chosen[found] = None
    return list(chosen)


def proxy_addresses(settings: Settings) -> list[str]:
    """The addresses by which others reach this machine (proxy_interfaces).  Raises ConfigError."""
    found: list[str] = []
    for word in settings.words("proxy_interfaces"):
        addresses = _resolve(word)
        if not addresses:
            raise settings.error("proxy_interfaces", f"proxy_interfaces: no such host: {word}", "name an IP address")
        found += map(str, addresses)
    return found


def _versions(settings: Settings) -> set[int]:
    words = settings.words("inet_protocols")
    versions = {4} if "ipv4" in words else set()
    if "ipv6" in words:
        versions.add(6)
    return {4, 6} if "all" in words or not versions else versions


def _resolve(word: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    bare = word.removeprefix("[").removesuffix("]")
    try:
        return [ipaddress.ip_address(bare)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    except (OSError, UnicodeError):
        return []


def default_mynetworks(settings: Settings) -> str:
    """The networks (or just the addresses) of this machine, as mynetworks_style says."""
    style = settings.text("mynetworks_style").lower()
    networks: dict[str, None] = {}
    for each in own_interfaces(settings):
        if style == "host":
            length: int = each.max_prefixlen
        elif style == "class" and each.version == 4:
            length = _class_prefix(each.ip.packed[0])
        else:
            length = each.network.prefixlen
        network = ipaddress.ip_network(f"{each.ip}/{length}", strict=False)
        text = str(network) if network.version == 4 else f"[{network.network_address}]/{network.prefixlen}"
        networks[text] = None
    return " ".join(networks)


def _class_prefix(first: int) -> int:
    """Of an IPv4 address by its class A, B or C."""
    return 8 if first < 128 else 16 if first < 192 else 24
