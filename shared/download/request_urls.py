"""URLs of strangers, made into requests: parsed as browsers do, canonical, and without what hides a host."""

import re
import unicodedata
from dataclasses import dataclass

import httpx
import idna

from shared.download.addresses import HOST_NAME, canonical_host
from shared.download.own_services import DEFAULT_PORTS
from shared.errors import ItemError

_AUTHORITY = re.compile(r"(?i)((?:https?:)?//)([^/?#\\@\[\]:]+)(?=[:/?#]|$)")
_LOCATION = re.compile(rb"(?is)((?:https?:)?//[^/?#]*)?(.*)")
_MAX_NAME = 253
_RAW = re.compile(rb"[\x00-\x1f\x7f-\xff]")

Origin = tuple[str, str, int]  # scheme, host, port


@dataclass(frozen=True, slots=True)
class RequestUrl:
    """A URL that can be asked: `host` is ASCII, a name or an address without brackets.

    `path` is what stands in the request, query and all, byte for byte; `netloc` stands in the Host header.
    """

    url: httpx.URL
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> Origin:
        return self.scheme, self.host, self.port

    @property
    def path(self) -> bytes:
        return self.url.raw_path

    @property
    def netloc(self) -> str:
        return self.url.netloc.decode("ascii")

    def joined(self, location: bytes) -> "RequestUrl":
        """Return what a Location header leads to. Raises ItemError `invalid_url`."""
        try:
            reference = _ascii_host(_decoded(location).strip())
            return parse(str(self.url.join(reference)))
        except (httpx.InvalidURL, ValueError):
            raise ItemError("invalid_url", "it redirects to a malformed URL") from None
        except ItemError as error:
            raise ItemError(error.code, f"after a redirect: {error.detail}") from None


def parse(url: str) -> RequestUrl:
    """Parse a URL. Raises ItemError `invalid_url`."""
    try:
        parsed = httpx.URL(_ascii_host(url.strip()))
        host = canonical_host(parsed.raw_host.decode("ascii"))
        parsed = parsed.copy_with(host=host, fragment=None)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise ItemError("invalid_url", "the URL is malformed") from None
    if parsed.scheme not in ("http", "https"):
        raise ItemError("invalid_url", "the URL does not begin with http:// or https://")
    if parsed.userinfo:
        raise ItemError("invalid_url", "the URL carries credentials")
    if not _is_host(host) or (parsed.port is not None and not 0 < parsed.port < 65536):
        raise ItemError("invalid_url", "the URL has no valid host")
    return RequestUrl(parsed, parsed.scheme, host, parsed.port or DEFAULT_PORTS[parsed.scheme])


def _decoded(location: bytes) -> str:
    """Return a Location's text: UTF-8 in its host is kept, other odd bytes are percent-encoded."""
    # As in browsers, there are no tabs, and no backslashes before the query.
    path, question, query = location.replace(b"\t", b"").partition(b"?")
    found = _LOCATION.fullmatch(path.replace(b"\\", b"/") + question + query)
    assert found is not None  # noqa: S101 - it matches anything
    rest = _RAW.sub(lambda byte: b"%%%02X" % byte[0][0], found[2])
    return ((found[1] or b"") + rest).decode("utf-8")


def _ascii_host(url: str) -> str:
    """Return the URL with its host in ASCII, an octal or otherwise odd IPv4 address in dotted decimal."""
    match = _AUTHORITY.match(url)
    return url if match is None else f"{match[1]}{canonical_host(_idna(match[2]))}{url[match.end() :]}"


def _idna(host: str) -> str:
    """Return a name in ASCII by UTS #46, without the limits of IDNA 2008, as browsers do.

    Raises ValueError for characters that no name may have.
    """
    if host.isascii():
        return host
    mapped = unicodedata.normalize("NFC", idna.uts46_remap(host, std3_rules=False, transitional=False))
    if len(mapped) > _MAX_NAME:  # what follows takes its square
        raise ValueError
    name = ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in mapped.split(".")
    )
    if not HOST_NAME.fullmatch(name.removesuffix(".")):  # one sign may stand for several, such as a slash
        raise ValueError
    return name


def _is_host(host: str) -> bool:
    if ":" in host:
        return "%" not in host  # a zone is one machine's own name for a link
    return HOST_NAME.fullmatch(host) is not None
