"""Authentication and scopes. While no key exists, only this machine is served."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from flask import Flask, current_app, g, has_request_context, request
from structlog.contextvars import bind_contextvars

from shared.api_keys import ApiKey, Scope, find_key, read_keys
from shared.download.addresses import is_loopback
from shared.download.own_services import FETCH_HEADER
from shared.errors import BlobsUnavailable, Forbidden, Unauthorized
from shared.storage.blobs import Blobs

# Endpoints that anybody may call. Everything else declares a scope or is refused.
PUBLIC_ENDPOINTS = frozenset(
    {
        "health.get_health",
        "health.get_readiness",
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
_CACHE_SECONDS = 10.0
_FORWARDED = re.compile(  # what proxies add
    r"forwarded|x-forwarded.*|via|x-real-ip|x-client-ip|true-client-ip|cf-.*|x-original-host|x-envoy-.*",
    re.IGNORECASE,
)

View = TypeVar("View", bound=Callable[..., Any])
log = structlog.get_logger()


class KeyRing:
    """The stored keys as this process knows them.

    They are read again after 10 s; while the blob store does not answer, what was read last goes on to hold.
    """

    def __init__(self, blobs: Blobs, *, max_age_s: float = _CACHE_SECONDS) -> None:
        self._blobs = blobs
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._keys: Mapping[str, ApiKey] | None = None
        self._read_at = 0.0

    def keys(self) -> Mapping[str, ApiKey]:
        """Return the keys by id. Raises BlobsUnavailable when they could not be read even once."""
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
            self._keys = read_keys(self._blobs)
        except BlobsUnavailable:
            if self._keys is None:
                raise
            log.warning("API keys cannot be read again; the known ones hold")
        self._read_at = time.monotonic()

    def find(self, plain: str) -> ApiKey | None:
        return find_key(self.keys(), plain)


def requires(scope: Scope) -> Callable[[View], View]:
    """Declare the scope that a view needs; `require_scopes` checks it before the request's body is read."""

    def declare(view: View) -> View:
        view.__scope__ = scope  # type: ignore[attr-defined]
        return view

    return declare


def scope_of(app: Flask, endpoint: str) -> str | None:
    """Return the declared scope, None for a public endpoint. Raises LookupError where none is declared."""
    scope = getattr(app.view_functions[endpoint], "__scope__", None)
    if scope is None and endpoint not in PUBLIC_ENDPOINTS:
        raise LookupError(f"{endpoint} declares no scope")
    return None if scope is None else str(scope)


def refuse_downloads(app: Flask) -> None:
    """Refuse downloads and callbacks, whatever way they take here; with a key they are another service's."""

    def check() -> None:
        if FETCH_HEADER in request.headers and not _given_key():
            raise Forbidden(
                "No picture is fetched from here and no callback sent here: this is the service itself."
            )

    app.before_request(check)


def identify_callers(app: Flask, ring: KeyRing) -> None:
    """Look up the caller of each request that needs a scope; `require_scopes` decides."""

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
    """Return whether no key exists, so that this machine, and no other, may ask for what needs a scope."""
    return bool(g.get("is_open"))


def caller_key() -> ApiKey | None:
    """Return the key that came with this request, if it is a known one."""
    found: ApiKey | None = g.get("caller_key")
    return found


def caller_id() -> str:
    """Return the id of the caller's key; empty without one, also where there is no request."""
    key = caller_key() if has_request_context() else None
    return key.id if key else ""


def require_scopes(app: Flask) -> None:
    def check() -> None:
        scope = None if request.endpoint is None else scope_of(current_app, request.endpoint)
        if scope is not None:
            _authorize(scope)

    app.before_request(check)


def authorize(scope: Scope) -> None:
    """Raise Forbidden unless the caller has a scope that only some requests to a view need."""
    _authorize(scope)


def _authorize(scope: str) -> None:
    if is_open():
        _only_this_machine()
        return
    key = caller_key()
    if key is None and not _given_key():
        raise Unauthorized("This needs an API key: send it as `Authorization: Bearer KEY`.")
    if key is None:
        raise Unauthorized("This API key is not known; it may have been revoked. Is it copied whole?")
    if not key.allows(scope):
        scopes = ",".join([*key.scopes, scope])
        raise Forbidden(
            f"This API key lacks the scope `{scope}`. Whoever runs the server creates one that has it: "
            f"`image-search keys create --scope {scopes}`."
        )


def _given_key() -> str | None:
    kind, _, plain = request.headers.get("Authorization", "").partition(" ")
    return plain.strip() or None if kind.lower() == "bearer" else None


def _only_this_machine() -> None:
    """Refuse other machines, proxies for them, and web pages that make a browser here send requests."""
    own, origin = request.host_url.rstrip("/"), request.headers.get("Origin")
    hosts = [request.remote_addr or "127.0.0.1", *map(_host_name, {own, own if origin is None else origin})]
    writes = request.method not in ("GET", "HEAD", "OPTIONS")
    if not all(is_loopback(host) for host in hosts):
        fault = "only requests from and to this machine (http://127.0.0.1) are served"
    elif via := next((name for name, _ in request.headers if _FORWARDED.fullmatch(name)), None):
        fault = f"none that a proxy brought, as `{via}` says, is served"
    elif request.headers.get("Sec-Fetch-Site") == "cross-site" or (writes and origin not in (None, own)):
        fault = "none of another site's page is served"
    else:
        return
    raise Forbidden(
        f"No API key exists, so {fault}: create a key with `image-search keys create --scope search,ingest`."
    )


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
