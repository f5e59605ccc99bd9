"""Which network addresses a URL from a stranger may reach."""

import ipaddress
import re
import socket
from collections.abc import Sequence

from shared.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# What `is_global` lets through, or did in some patch releases of the Pythons we run on. Source: IANA's
# special purpose registries. 168.63.129.16 is Azure's host agent, a metadata service at a public address.
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/23",
        "3fff::/20",
    )
)
# The spellings of an IPv4 address that inet_aton(3) takes: one to four decimal, octal or hexadecimal parts.
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}\.?", re.IGNORECASE)


HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_WITH_PORT = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+):(\d{1,5})")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressPolicy:
    """Which addresses may be reached: global ones, and those that `allow_hosts` names.

    An entry is a host name, an address or a CIDR, for every port, or one of these with `:port` for that one;
    IPv6 then stands in brackets. Raises ConfigError for an entry that is none of these.
    """

    def __init__(self, allow_hosts: Sequence[str]) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[_Network, int | None]] = []
        for entry in allow_hosts:
            try:
                self._allow(entry.strip().lower())
            except ValueError:
                raise ConfigError(
                    f"IMAGE_SEARCH_ALLOW_HOSTS: {entry.strip()!r} is neither a host name nor an address nor "
                    "a CIDR, with or without a port (IPv6 with one: [::1]:8080)"
                ) from None

    def _allow(self, entry: str) -> None:
        found = _WITH_PORT.fullmatch(entry)
        host, port = (found[1], int(found[2])) if found else (entry, None)
        if port is not None and not 0 < port < 65536:
            raise ValueError
        if host.startswith("[") and host.endswith("]"):
            self._networks.append((ipaddress.IPv6Network(host[1:-1], strict=False), port))
            return
        host = canonical_host(host)
        try:
            self._networks.append((ipaddress.ip_network(host, strict=False), port))
        except ValueError:
            if not HOST_NAME.fullmatch(host):
                raise
            self._names.add((host, port))

    def permits(self, host: str, port: int, address: str) -> bool:
        """Return whether `host` may be reached at `address`, a numeric IPv4 or IPv6 address."""
        try:
            candidate = parsed(address)
        except ValueError:
            return False
        return self._allows(host, port, candidate) or is_public(candidate)

    def exempts(self, host: str, port: int, addresses: Sequence[str]) -> bool:
        """Return whether `allow_hosts` names the host, or the networks of all its addresses."""
        return all(self._allows(host, port, parsed(address)) for address in addresses)

    def _allows(self, host: str, port: int, address: Address) -> bool:
        if not self._names.isdisjoint({(host.lower(), None), (host.lower(), port)}):
            return True
        return any(address in network and allowed in (None, port) for network, allowed in self._networks)


def parsed(address: str) -> Address:
    """Return the address that a numeric one leads to, without its zone. Raises ValueError."""
    return unwrapped(ipaddress.ip_address(address.partition("%")[0]))


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address in a mapped (RFC 4291), NAT64 (RFC 6052) or 6to4 (RFC 3056) address, if any."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether the address is in the public internet. Teredo never is: 2001::/23 is refused whole."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _REFUSED)


def is_loopback(host: str) -> bool:
    """Return whether a name or address, without a port, is this machine's own."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def canonical_host(host: str) -> str:
    """Return the host in lower case without a final dot, with an odd IPv4 address made dotted decimal.

    Raises ValueError for a number that is no address.
    """
    if _NUMERIC_HOST.fullmatch(host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
        except OSError:
            raise ValueError(f"{host} is not an IPv4 address") from None
    return host.removesuffix(".").lower()
