"""Rate limits per caller: Flask-Limiter, counted in the ledger's Redis for all servers together.

A caller is an API key, else an address. While Redis does not answer, each server counts for itself.
"""

import ipaddress
import math
import time
from typing import Any

from flask import Flask, Response, request
from flask_limiter import ApplicationLimit, Limiter, RequestLimit
from flask_limiter.errors import RateLimitExceeded
from limits import RateLimitItem

from api.http import auth, problems
from shared.config import NO_RATE_LIMIT, Settings
from shared.errors import RateLimited
from shared.ledger.scripts import PREFIX

# Keys that are guessed, an address. They stop neither a caller with a known key nor what anybody may read.
FAILURES = "60/minute"
_REQUESTS = "requests"  # the scope of what IMAGE_SEARCH_RATE_LIMIT says
UNLIMITED_ENDPOINTS = frozenset({"health.get_health", "health.get_readiness"})
_STORAGE_OPTIONS: Any = {
    "key_prefix": f"{PREFIX}limit",
    "socket_timeout": 0.5,
    "socket_connect_timeout": 0.5,
    "retry": None,  # none at all; left out it would be three, seconds apart
}
_IPV6_SITE_BITS = 64  # one subscriber has that many addresses to choose from


def install(app: Flask, settings: Settings) -> None:
    """Install the limits; call it between `auth.identify_callers` and `auth.require_scopes`."""
    limits: list[Any] = [
        ApplicationLimit(
            FAILURES, scope="failures", key_function=_address, exempt_when=_no_guess, deduct_when=_is_failure
        )
    ]
    if settings.rate_limit != NO_RATE_LIMIT:
        limits.append(ApplicationLimit(settings.rate_limit, scope=_REQUESTS, key_function=_caller))
    limiter = Limiter(
        _caller,
        app=app,
        application_limits=limits,
        strategy="sliding-window-counter",
        storage_uri=settings.redis_url.replace("unix://", "redis+unix://", 1),
        storage_options=_STORAGE_OPTIONS,
        in_memory_fallback_enabled=True,
        swallow_errors=True,
    )
    limiter.request_filter(_is_unlimited)

    def refuse(error: RateLimitExceeded) -> Response:
        breached = limiter.current_limit
        return problems.answer(
            RateLimited(_sentence(error.limit.limit, error.limit.scope), _seconds_until_free(breached))
        )

    app.register_error_handler(RateLimitExceeded, refuse)


def _is_unlimited() -> bool:
    return request.endpoint in UNLIMITED_ENDPOINTS or auth.is_open()


def _caller() -> str:
    """Return whom a request counts for; without a known key, public pages are counted apart."""
    key = auth.caller_key()
    if key is not None:
        return f"key:{key.id}"
    return f"public:{_address()}" if _is_public() else _address()


def _address() -> str:
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "address:none"  # a server on a Unix socket
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return f"address:{ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False)}"
    return f"address:{getattr(address, 'ipv4_mapped', None) or address}"


def _is_public() -> bool:
    return request.endpoint in auth.PUBLIC_ENDPOINTS


def _no_guess() -> bool:
    return auth.caller_key() is not None or _is_public()


def _is_failure(response: Response) -> bool:
    return response.status_code == 401


def _sentence(limit: RateLimitItem, scope: object) -> str:
    unit = limit.GRANULARITY.name
    time = unit if limit.multiples == 1 else f"{limit.multiples} {unit}s"
    setting = " (IMAGE_SEARCH_RATE_LIMIT)" if scope == _REQUESTS else ""
    return f"More requests than {limit.amount} per {time}{setting}: slow down."


def _seconds_until_free(limit: RequestLimit | None) -> int:
    return max(1, math.ceil(limit.reset_at - time.time())) if limit else 1
