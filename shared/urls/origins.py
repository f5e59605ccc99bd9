"""Origins of browser applications: scheme, host and port, exactly as browsers send them."""

import ipaddress
import re
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_SUCH_AS = "such as https://shop.example.com or http://localhost:3000"


def check_origin(text: str) -> str:
    """Return an origin as it came. Raises ValueError for what no browser would send, with what it would."""
    if "*" in text or text.lower() == "null":
        raise ValueError(f"{text} would let in pages of many sites: name each origin by itself, {_SUCH_AS}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        origin = f"{parts.scheme}://{_host(host)}"
    except ValueError:
        raise ValueError(f"{text!r} is no origin, {_SUCH_AS}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{text!r} is no origin: it begins with http:// or https://, {_SUCH_AS}")
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        origin += f":{port}"
    if origin != text:
        raise ValueError(f"{text!r} is not how browsers send an origin: write {origin}")
    return text


def _host(host: str) -> str:
    """Return a host as browsers write it. Raises ValueError for what is none."""
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    name = host.encode("idna").decode("ascii").lower()
    if not _NAME.fullmatch(name):
        raise ValueError(host)
    if name.rpartition(".")[2].isdigit():
        return str(ipaddress.IPv4Address(name))
    return name
