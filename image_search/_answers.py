"""What an answer says: its JSON, or why it is an error. No answer is trusted to be our server's."""

from __future__ import annotations

import email.utils
import re
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from image_search.errors import ApiError

if TYPE_CHECKING:
    import httpx

VERSION = version("image-search")
VERSION_HEADER = "X-Image-Search-Version"
MAX_QUOTED = 200  # characters of a text that is no answer of ours
_RELEASE = re.compile(r"(\d{1,6})\.[\w.+-]{1,40}", re.ASCII)
# What to do about an answer that is not image-search's, by its status.
_ADVICE = {
    413: "it takes no body as large as this: raise its limit (nginx: client_max_body_size)",
    502: "it does not reach image-search: is that running?",
    503: "it does not reach image-search: is that running?",
    504: "it waits for image-search no longer: raise its limit (nginx: proxy_read_timeout)",
}


def is_asked_for(response: httpx.Response, media: str | None) -> bool:
    """Return whether an answer is what a request asks for, by its status and type alone."""
    if media is None:
        return response.status_code == 204
    return response.is_success and _media_type(response).startswith(media)


def refusal(response: httpx.Response) -> ApiError:
    """Return the error that a response with an unexpected status or type stands for."""
    status, after = response.status_code, _retry_after(response.headers.get("Retry-After"))
    if response.is_success:
        return ApiError(status, "unexpected_answer", _not_ours(response))
    try:
        problem = response.json()
        code, detail, errors = problem["code"], problem["detail"], problem.get("errors") or ()
        if isinstance(code, str) and isinstance(detail, str):
            detail = f"{detail}{_more_advice(response, code)}"
            return ApiError(status, code, detail, _faults(errors), after)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return ApiError(status, "http_status", _not_ours(response), retry_after=after)


def read_json(response: httpx.Response) -> Any:
    """Return the response's JSON. Raises ApiError for anything else, such as a proxy's page."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        place = shown(response.url, "/")
        detail = f"{place} answers with JSON that is broken or cut off: ask again, or check the address"
        raise ApiError(response.status_code, "unexpected_answer", detail) from None


def not_understood(response: httpx.Response, error: ValueError) -> ApiError:
    """Return the error for JSON that lacks what this version of the client needs."""
    server = response.headers.get(VERSION_HEADER, "")
    of_version = (
        f"image-search {server}"
        if _RELEASE.fullmatch(server)
        else "an image-search of another version, or something else"
    )
    faults = error.errors() if hasattr(error, "errors") else []
    missing = ", ".join(".".join(map(str, fault["loc"])) or fault["msg"] for fault in faults[:3])
    return ApiError(
        response.status_code,
        "unexpected_answer",
        f"{shown(response.url, '/')} answers {response.url.path} as {of_version}, which this client "
        f"({VERSION}) does not understand ({missing[:MAX_QUOTED]}): check the address, and install the "
        "client of the server's version",
    )


def check_version(response: httpx.Response) -> None:
    """Refuse a server of another major version with ApiError; minor versions work together."""
    server = _RELEASE.fullmatch(response.headers.get(VERSION_HEADER, ""))
    if server and server[1] != VERSION.split(".", maxsplit=1)[0]:
        raise ApiError(
            response.status_code,
            "incompatible_version",
            f"the server at {shown(response.url, '/')} is image-search {server[0]}, this client is "
            f"{VERSION}: install the client of that version",
        )


def shown(url: httpx.URL, path: str | None = None) -> str:
    """Return an address, with `path` instead of its own, without a password or what a query may hold."""
    path = url.path if path is None else path
    return str(url.copy_with(path=path, query=None, fragment=None, userinfo=b"")).rstrip("/")


def _faults(errors: Any) -> list[dict[str, str]]:
    return [{"pointer": str(one["pointer"]), "message": str(one["message"])} for one in errors]


def _media_type(response: httpx.Response) -> str:
    kind: str = response.headers.get("Content-Type", "")
    return kind.split(";", maxsplit=1)[0].strip().lower()


def _more_advice(response: httpx.Response, code: str) -> str:
    """Say what the server cannot know: how this client is told its address and its key."""
    if code == "unauthorized":
        return " In this client that is `api_key`, on the command line IMAGE_SEARCH_API_KEY."
    elsewhere = not response.url.path.startswith(("/v1/", "/readyz"))
    if code in ("not_found", "method_not_allowed") and elsewhere:
        return f" Is {shown(response.url, '/')} the whole address, without what follows?"
    return ""


def _not_ours(response: httpx.Response) -> str:
    place, status = shown(response.url, "/"), response.status_code
    if response.has_redirect_location:
        target = shown(response.url.join(response.headers["Location"]))[:MAX_QUOTED]
        return (
            f"{place} redirects to {target}: give the address that it leads to or, where that is a proxy's "
            "login, one that reaches image-search itself"
        )
    kind = _media_type(response)[:MAX_QUOTED]
    what = {"text/html": "an HTML page", "": "nothing that says its type"}.get(kind, kind)
    advice = _ADVICE.get(status, "check the address, and the proxy between")
    if status == 401:
        advice = "it wants a login of its own: have it let requests with an API key pass"
    elif status == 400 and response.url.scheme == "http" and b"https" in response.content.lower():
        advice = "it wants https://"
    return (
        f"{place} answers {status} {response.reason_phrase[:MAX_QUOTED]}".rstrip()
        + f" with {what}, as a proxy or another server does, not image-search: {advice}"
    )


def _retry_after(value: str | None) -> float | None:
    """Read seconds, or an HTTP date (RFC 9110); None where there is none or it is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
