"""Why a picture failed: of each code of an item its cause, what to do, and whether trying again may help."""

import re
from dataclasses import dataclass

RETRIED_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
# The status leads, or follows what is said of a host that is not asked any more.
_STATUS = re.compile(r"(?:^|with: )([0-9]{3})\b")
# Of codes that are retried otherwise.
_AGAIN_THE_SAME = re.compile(
    "the server's certificate|the answer is not valid HTTP|the answer's headers|the content is damaged|"
    "the whole took more|the certificates to trust"
)


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code means. `retried`: whether trying again later may succeed; None: that depends on the status.

    An item with such a code was tried several times before it failed.
    """

    cause: str
    next_step: str
    retried: bool | None


CAUSES: dict[str, ErrorCode] = {
    "invalid_url": ErrorCode(
        "The URL is empty, malformed or too long, carries a user name or password, or is not http or https.",
        "Correct the URL and add it again.",
        retried=False,
    ),
    "blocked_address": ErrorCode(
        "The host's address is private, local or reserved, or the service's own: such addresses are not "
        "fetched.",
        "If it is to be fetched from, have the operator name it in IMAGE_SEARCH_ALLOW_HOSTS, then retry.",
        retried=False,
    ),
    "dns_error": ErrorCode(
        "The host's name was not found, or no name server answered in time.",
        "Check the host's spelling; if it is right, retry later.",
        retried=True,
    ),
    "connect_error": ErrorCode(
        "The server took no connection, its certificate was not accepted, or its answer broke off or was "
        "no valid HTTP.",
        "See whether the URL opens elsewhere; retry when its server is up. Have the operator name an "
        "authority of your own in IMAGE_SEARCH_CA_BUNDLE.",
        retried=True,
    ),
    "timeout": ErrorCode(
        "The server sent nothing for IMAGE_SEARCH_FETCH_TIMEOUT_S, or the whole took ten times as long.",
        "Retry later; if it stays so, the operator can allow more time.",
        retried=True,
    ),
    "http_status": ErrorCode(
        "The server answered with an error status, or that its pictures may not be used.",
        "After 408, 425, 429 or 5xx, retry later; after others, check that the URL is right and public "
        "(IMAGE_SEARCH_FETCH_HEADERS is for hosts that want credentials).",
        retried=None,
    ),
    "too_many_redirects": ErrorCode(
        "The URL led from one redirect to the next, too often.",
        "Add the URL that it should lead to.",
        retried=False,
    ),
    "too_large": ErrorCode(
        "The file has more bytes than IMAGE_SEARCH_MAX_IMAGE_BYTES allows.",
        "Add a smaller version, or have the operator raise the limit, then retry.",
        retried=False,
    ),
    "not_an_image": ErrorCode(
        "What came is no picture: often a web page in its place, or an empty answer.",
        "Open the URL: it must lead to the picture itself, not to a page that shows it.",
        retried=False,
    ),
    "unsupported_format": ErrorCode(
        "The picture is of a format, a kind or a colour space that is not read, or would take far too long.",
        "Convert it to JPEG, PNG or WebP and add it again.",
        retried=False,
    ),
    "corrupt_image": ErrorCode(
        "The picture is damaged or cut off: rows of it are missing.",
        "Add an undamaged copy; one that is cut off, download or copy again first.",
        retried=False,
    ),
    "too_many_pixels": ErrorCode(
        "The picture has more pixels than IMAGE_SEARCH_MAX_IMAGE_PIXELS (a baseline JPEG: 2.5 times), or "
        "than the worker's memory allows.",
        "Add a smaller version or a baseline JPEG, or have the operator raise the limit, then retry.",
        retried=False,
    ),
    "encode_error": ErrorCode(
        "The model could not make a vector of the picture, or there are no pixels of it to make one of.",
        "Add the picture again; if it stays so, the worker's log says why.",
        retried=False,
    ),
    "index_error": ErrorCode(
        "The vector could not be stored or read, or what it belongs to was deleted meanwhile.",
        "Retry when the system view shows the index as ready.",
        retried=True,
    ),
    "internal": ErrorCode(
        "A fault of the service, an uploaded file that has expired, or a picture that crashed its reader.",
        "Add the picture again; if it stays so, the worker's log says why.",
        retried=False,
    ),
}


def worth_retrying(code: str, detail: str) -> bool:
    """Tell whether an item that failed so may succeed when it is tried again, with nothing changed."""
    known = CAUSES.get(code)
    if _AGAIN_THE_SAME.match(detail):
        return False
    if known is None or known.retried is not None:
        return bool(known and known.retried)
    status = _STATUS.search(detail)
    return status is not None and int(status[1]) in RETRIED_STATUSES
