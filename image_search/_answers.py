"""What an answer says: its JSON, or why it is an error. No answer is trusted to be our server's."""

from __future__ import annotations

import email.utils
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from image_search.errors import ApiError

if TYPE_CHECKING:
    import httpx

VERSION = version("image-search")
VERSION_HEADER = "X-Image-Search-Version"
MAX_QUOTED = 200  # characters of a text that is no answer of ours


def refusal(response: httpx.Response) -> ApiError:
    """Return the error that a response with an unexpected status stands for."""
    status, after = response.status_code, _retry_after(response.headers.get("Retry-After"))
    try:
        problem = response.json()
        code, detail, errors = problem["code"], problem["detail"], problem.get("errors") or ()
        if isinstance(code, str) and isinstance(detail, str):
            return ApiError(status, code, detail, _faults(errors), after)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return ApiError(status, "http_status", _not_ours(response), retry_after=after)


def read_json(response: httpx.Response) -> Any:
    """Return the response's JSON. Raises ApiError for anything else, such as a proxy's page."""
    try:
        return response.json()
    except ValueError:
        raise ApiError(response.status_code, "unexpected_answer", _not_ours(response)) from None


def not_understood(response: httpx.Response, error: ValueError) -> ApiError:
    """Return the error for JSON that lacks what this version of the client needs."""
    server = response.headers.get(VERSION_HEADER)
    of_version = (
        f"image-search {server}" if server else "an image-search of another version, or something else"
    )
    faults = error.errors() if hasattr(error, "errors") else []
    missing = ", ".join(".".join(map(str, fault["loc"])) for fault in faults[:3]) or str(error)
    return ApiError(
        response.status_code,
        "unexpected_answer",
        f"{_place(response)} answers {response.url.path} as {of_version}, which this client ({VERSION}) does "
        f"not understand ({missing}): install the client of the server's version",
    )


def check_version(response: httpx.Response) -> None:
    """Raises ApiError for a server whose major version is another one; minor versions work together."""
    server = response.headers.get(VERSION_HEADER)
    if server and _major(server) != _major(VERSION):
        raise ApiError(
            response.status_code,
            "incompatible_version",
            f"the server at {_place(response)} is image-search {server}, this client is {VERSION}: "
            f"pip install 'image-search=={_major(server)}.*' brings one that fits",
        )


def _major(version: str) -> str:
    return version.split(".", maxsplit=1)[0]


def _faults(errors: Any) -> list[dict[str, str]]:
    return [{"pointer": str(one["pointer"]), "message": str(one["message"])} for one in errors]


def _not_ours(response: httpx.Response) -> str:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    what = {"text/html": "an HTML page", "": "nothing that says its type"}.get(kind, kind)
    if response.has_redirect_location:
        target = response.headers["Location"][:MAX_QUOTED]
        return f"{_place(response)} redirects to {target}: give that server's address instead"
    return (
        f"{_place(response)} answers {status} with {what}, as a proxy or another server does, not "
        "image-search: check the address, and the proxy between"
    )


def _place(response: httpx.Response) -> str:
    url = response.url
    return str(url.copy_with(path="/", query=None, fragment=None, username=None, password=None)).rstrip("/")


def _retry_after(value: str | None) -> float | None:
    """Seconds, or an HTTP date (RFC 9110); None where there is none or it is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
