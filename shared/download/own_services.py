"""The addresses of this deployment's own services: nothing is fetched from or sent to them for any URL."""

import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from shared.download.addresses import canonical_host, is_public, parsed
from shared.errors import ItemError

# On every request of the downloader, by which an API knows it under whatever name and behind whatever proxy.
FETCH_HEADER = "X-Image-Search-Fetch"
DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}


class OwnServices:
    """The hosts and ports in `urls`; `look_up` gives a host's addresses or raises ItemError."""

    def __init__(self, urls: Iterable[str], look_up: Callable[[str], list[str]]) -> None:
        # A broker's URL may be several.
        self._endpoints = {found for url in urls for one in url.split(";") if (found := _endpoint(one))}
        self._look_up = look_up

    def include(self, host: str, port: int, address: str) -> bool:
        """Return whether `host`, at the numeric `address`, is one of the services on this port.

        Whatever listens on this machine is recognised by its port alone, at any of the machine's addresses.
        """
        return any(
            host.lower() == own_host or self._is_at(own_host, port, address)
            for own_host, own_port in self._endpoints
            if own_port == port
        )

    def _is_at(self, own_host: str, port: int, address: str) -> bool:
        try:
            own = self._look_up(own_host)
        except ItemError:
            return False
        if parsed(address) in map(parsed, own) and not _is_shared(port, address):
            return True
        return is_here(address) and any(map(is_here, own))


def _endpoint(url: str) -> tuple[str, int] | None:
    """Return the host and port of a URL; None for a socket's, or a malformed one, refused elsewhere."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        return (canonical_host(parts.hostname), port) if parts.hostname and port else None
    except ValueError:
        return None


def _is_shared(port: int, address: str) -> bool:
    """Return whether others' web sites may be at the same address, as behind a content delivery network."""
    return port in (80, 443) and is_public(parsed(address))


def is_here(address: str) -> bool:
    """Return whether a numeric address is one of this machine's: one that can be bound."""
    if parsed(address).is_loopback or parsed(address).is_unspecified:
        return True
    try:
        family, kind, _, _, name = socket.getaddrinfo(
            address, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind) as probe:
            probe.bind(name)
    except OSError:
        return False
    return True
