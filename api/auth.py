"""API keys and who may do what.

A key reads `isk_<id>_<secret>`; its secret is 256 random bits, so one SHA-256 of the whole key is as good as
any slow hash. Stored is `keys/<id>.json` in the blob store, which holds the hash and never the key. While no
key exists, only this machine is served.
"""

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import structlog
from flask import Flask, current_app, g, request
from structlog.contextvars import bind_contextvars

from shared.blobs import Blobs
from shared.errors import (
    BlobsUnavailable,
    ConfigError,
    FieldError,
    Forbidden,
    InvalidRequest,
    NewerFormat,
    NotFound,
    Unauthorized,
)
from shared.formats import FIELD, check_format

Scope = Literal["search", "ingest", "admin"]
SCOPES: tuple[Scope, ...] = ("search", "ingest", "admin")
# Endpoints that anybody may call. Everything else declares a scope or is refused.
PUBLIC_ENDPOINTS = frozenset(
    {
        "health.healthz",
        "health.readyz",
        "docs.openapi_json",
        "docs.docs",
        "docs.errors",
        "docs.init",
        "docs.static",
        "page.shell",
        "page.manifest",
        "page.static",
    }
)
FORMAT = 1  # of a stored key, which says so from 2 on: versions from before know no further field
_CACHE_SECONDS = 10.0
_KEY = re.compile(r"isk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")

View = TypeVar("View", bound=Callable[..., Any])
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`created_at` in seconds since the epoch; `hash` the SHA-256 of the key, in hex."""

    id: str
    name: str
    scopes: list[str]
    hash: str
    created_at: float

    def allows(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


def create_key(blobs: Blobs, name: str, scopes: Iterable[str]) -> str:
    """Stores a new key and returns it; it cannot be had again. Raises InvalidRequest for an unknown scope."""
    chosen = sorted(set(scopes))
    if unknown := [scope for scope in chosen if scope not in SCOPES]:
        fault: FieldError = {"pointer": "/scopes", "message": f"{unknown[0]} is not a scope"}
        raise InvalidRequest(f"Unknown scope {unknown[0]}; scopes are {', '.join(SCOPES)}.", [fault])
    if not chosen:
        raise InvalidRequest(f"A key needs a scope; scopes are {', '.join(SCOPES)}.")
    key_id = secrets.token_hex(6)
    plain = f"isk_{key_id}_{secrets.token_urlsafe(32)}"
    key = ApiKey(key_id, name, chosen, _digest(plain), time.time())
    blobs.put(_blob(key_id), json.dumps(asdict(key)).encode())
    return plain


def list_keys(blobs: Blobs) -> list[ApiKey]:
    """All keys, oldest first."""
    return sorted(_read_keys(blobs).values(), key=lambda key: key.created_at)


def revoke_key(blobs: Blobs, key_id: str) -> None:
    """Servers forget the key within 10 s. Raises NotFound."""
    if not re.fullmatch(r"[0-9a-f]{12}", key_id) or not blobs.exists(_blob(key_id)):
        raise NotFound(f"There is no key {key_id}.")
    blobs.delete(_blob(key_id))


def check_bind(host: str, blobs: Blobs) -> None:
    """Raises ConfigError when `host` can be reached from elsewhere although no key exists."""
    if not is_loopback(host) and not list_keys(blobs):
        raise ConfigError(
            f"No API key exists, so {host or 'every address'} will not be served: create a key with "
            "`image-search keys create --scope search,ingest [--name NAME]`, or serve on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a name or address, without a port, is this machine's own."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class KeyRing:
    """The stored keys as this process knows them.

    Read again after 10 s; while the blob store does not answer, what was read last goes on to hold.
    """

    def __init__(self, blobs: Blobs, *, max_age_s: float = _CACHE_SECONDS) -> None:
        self._blobs = blobs
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._keys: Mapping[str, ApiKey] | None = None
        self._read_at = 0.0

    def keys(self) -> Mapping[str, ApiKey]:
        """Keys by id. Raises BlobsUnavailable when they could not be read even once."""
        known = self._keys
        if known is not None and time.monotonic() - self._read_at < self._max_age_s:
            return known
        # One thread reads; the others go on with what is known, if anything is.
        if not self._lock.acquire(blocking=known is None):
            assert known is not None  # noqa: S101
            return known
        try:
            if self._keys is known:
                self._refresh()
            assert self._keys is not None  # noqa: S101
            return self._keys
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        try:
            self._keys = _read_keys(self._blobs)
        except BlobsUnavailable:
            if self._keys is None:
                raise
            log.warning("API keys cannot be read again; the known ones hold")
        self._read_at = time.monotonic()

    def find(self, plain: str) -> ApiKey | None:
        match = _KEY.fullmatch(plain)
        key = self.keys().get(match[1]) if match else None
        return key if key and hmac.compare_digest(key.hash, _digest(plain)) else None


def requires(scope: Scope) -> Callable[[View], View]:
    """Declares the scope that a view needs; `require_scopes` checks it before the request's body is read."""

    def declare(view: View) -> View:
        view.__scope__ = scope  # type: ignore[attr-defined]
        return view

    return declare


def scope_of(app: Flask, endpoint: str) -> str | None:
    """The declared scope, None for a public endpoint. Raises LookupError for one that declares nothing."""
    scope = getattr(app.view_functions[endpoint], "__scope__", None)
    if scope is None and endpoint not in PUBLIC_ENDPOINTS:
        raise LookupError(f"{endpoint} declares no scope")
    return None if scope is None else str(scope)


def identify_callers(app: Flask, ring: KeyRing) -> None:
    """Looks up who asks for what needs a scope; `require_scopes` decides."""

    def identify() -> None:
        if request.endpoint is None or scope_of(current_app, request.endpoint) is None:
            return
        g.is_open = not ring.keys()
        if not g.is_open and (plain := _given_key()):
            g.caller_key = ring.find(plain)
            if g.caller_key:
                bind_contextvars(key_id=g.caller_key.id)

    app.before_request(identify)


def is_open() -> bool:
    """Whether no key exists, so that this machine, and no other, may ask for what needs a scope."""
    return bool(g.get("is_open"))


def caller_key() -> ApiKey | None:
    """The key that came with this request, if it is a known one."""
    found: ApiKey | None = g.get("caller_key")
    return found


def require_scopes(app: Flask) -> None:
    def check() -> None:
        scope = None if request.endpoint is None else scope_of(current_app, request.endpoint)
        if scope is not None:
            _authorize(scope)

    app.before_request(check)


def _authorize(scope: str) -> None:
    if is_open():
        _only_this_machine()
        return
    key = caller_key()
    if key is None and not _given_key():
        raise Unauthorized("This needs an API key: send it as `Authorization: Bearer KEY`.")
    if key is None:
        raise Unauthorized("This API key is not known; it may have been revoked.")
    if not key.allows(scope):
        raise Forbidden(f"This API key lacks the scope `{scope}`.")


def _given_key() -> str | None:
    kind, _, plain = request.headers.get("Authorization", "").partition(" ")
    return plain.strip() or None if kind.lower() == "bearer" else None


def _only_this_machine() -> None:
    """Keeps out other machines, and web pages that make a browser on this one send requests."""
    origin = request.headers.get("Origin")
    hosts = [request.remote_addr or "127.0.0.1", _host_name(f"//{request.host}")]
    if origin is not None:
        hosts.append(_host_name(origin))
    if not all(is_loopback(host) for host in hosts):
        raise Forbidden(
            "No API key exists, so only requests from and to this machine are served: create a key with "
            "`image-search keys create --scope search,ingest`, or use http://127.0.0.1."
        )


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _blob(key_id: str) -> str:
    return f"keys/{key_id}.json"


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()


def _read_keys(blobs: Blobs) -> dict[str, ApiKey]:
    keys = {}
    for blob in blobs.list("keys/"):
        try:
            record = json.loads(blobs.get(blob))
            check_format(record.pop(FIELD, None), FORMAT, "The API key")
            key = ApiKey(**record)
        except KeyError:
            continue  # revoked since it was listed
        except (TypeError, ValueError, AttributeError, NewerFormat) as error:
            log.error("this API key cannot be read and opens nothing", blob=blob, reason=str(error))  # noqa: TRY400
            # It still counts: were it the only one, leaving it out would let everybody on this machine in.
            key = ApiKey(PurePosixPath(blob).stem, "unreadable", [], "", 0.0)
        keys[key.id] = key
    return keys
