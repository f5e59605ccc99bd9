"""What the `code` of a refused request means and what to do: the rows of /docs/errors."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

from image_search.models.error_codes import ErrorCode
from shared.errors import ConfigError, HostBusy, ImageSearchError, ItemError, ModelUnavailable, Unavailable

# What the HTTP layer itself refuses, beside our own errors.
_OF_HTTP = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "uri_too_long": HTTPStatus(414),
    "requested_range_not_satisfiable": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "expectation_failed": HTTPStatus.EXPECTATION_FAILED,
    "request_header_fields_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}
_NEVER_ANSWERED = (ConfigError, HostBusy, ItemError)  # as such: the last has codes of its own
_MODEL = (
    ModelUnavailable.code,
    Unavailable.status,
    ModelUnavailable.title,
)  # what the encoder's loader makes of it
_READINESS = ("not_ready", 503, "Not ready")  # of /readyz

MEANINGS: dict[str, tuple[str, str]] = {
    "bad_request": (
        "The request cannot be read: its JSON is malformed, its body broke off, or a header is none.",
        "Correct what the detail names and send it again.",
    ),
    "unauthorized": (
        "No API key came with the request, or one that is not known or was revoked.",
        "Send `Authorization: Bearer KEY`, with the key copied whole; `image-search keys create` makes one.",
    ),
    "forbidden": (
        "The key lacks the scope that this needs; or there is no key, and the request is from elsewhere.",
        "Ask the operator for a key with the scope that the detail names.",
    ),
    "not_found": (
        "Nothing is at this path, or what it names does not exist.",
        "Check the path against the API's description.",
    ),
    "rendition_not_kept": (
        "Of this picture no larger version is kept: the service keeps none, or it was deleted.",
        "Show the thumbnail; IMAGE_SEARCH_KEEP decides what is kept of pictures added from now on.",
    ),
    "job_not_found": (
        "No job has this id, or it finished longer ago than IMAGE_SEARCH_JOB_TTL_DAYS.",
        "List the jobs with `GET /v1/jobs`.",
    ),
    "image_not_found": (
        "No picture of this collection has this id or key; it may have been deleted or replaced.",
        "Check the id and the collection: what is left out means `images`.",
    ),
    "collection_not_found": (
        "No collection has this name.",
        "List them with `GET /v1/collections`; the first picture that is added to a name makes one.",
    ),
    "source_not_found": (
        "No source has this name; it may have been deleted.",
        "List them with `GET /v1/sources`; `PUT /v1/sources/{name}` defines one.",
    ),
    "method_not_allowed": (
        "This path is not asked in this way.",
        "Use a method that the answer's Allow header names.",
    ),
    "request_timeout": (
        "The request's head, or a short body, did not arrive within 10 s.",
        "Send it again; see what slows the connection down.",
    ),
    "conflict": (
        "What is there does not allow it: an export that failed has no file, say.",
        "Do what the detail says.",
    ),
    "job_finished": ("The job has ended, so it cannot be cancelled or added to.", "Make a new job."),
    "job_running": ("The job has not ended yet.", "Wait until `finished_at` is set, or cancel it."),
    "nothing_to_retry": (
        "The job has no failed items, or is a sync.",
        "Nothing is to be done; what a sync could not fetch is tried again by the next.",
    ),
    "collection_exists": ("A collection has this name already.", "Use that one, or choose another name."),
    "source_exists": (
        "A source of this name reads from elsewhere, or into another collection; both are fixed.",
        "Choose another name, or delete that source first.",
    ),
    "sync_running": (
        "A sync of this source has not ended, and there is one at a time.",
        "Wait for the job that the detail names, or cancel it.",
    ),
    "model_mismatch": (
        "What is to be searched or added to was written by another model; their vectors do not compare.",
        "Do what the detail says: bring the weights back that wrote it, or reindex the collection.",
    ),
    "pixels_not_kept": (
        "This needs a picture's pixels, and none are kept.",
        "Add the picture again with IMAGE_SEARCH_KEEP set to `rendition` or `original`.",
    ),
    "keywords_not_ready": (
        "An earlier version wrote the collection; its texts are still being prepared for `keywords`.",
        "Try again in some minutes, or search without keywords.",
    ),
    "request_too_large": (
        "The body, a part of it or what an archive unpacks to is larger than is taken.",
        "Send less at once: several requests, or a stream of lines.",
    ),
    "uri_too_long": (
        "The request line is longer than 8,190 bytes.",
        "Send long queries as `POST /v1/search`.",
    ),
    "unsupported_media_type": (
        "The body's Content-Type is not one that this path takes.",
        "Send one that the detail names.",
    ),
    "requested_range_not_satisfiable": (
        "The file ends before the range that was asked for begins.",
        "Ask for the file from its beginning.",
    ),
    "expectation_failed": (
        "The Expect header asks for something other than `100-continue`.",
        "Leave it out.",
    ),
    "invalid_request": (
        "A field or parameter is missing, unknown or not what it must be; `errors` points to each.",
        "Correct what the pointers name and send it again.",
    ),
    "idempotency_mismatch": (
        "The same Idempotency-Key came with another body within 24 h.",
        "Use a new key for each new request.",
    ),
    "answer_too_large": (
        "The answer would be larger than is sent.",
        "Ask for fewer results (`limit`), or for less of each (`include`).",
    ),
    "rate_limited": (
        "More requests came with this key, or from this address, than IMAGE_SEARCH_RATE_LIMIT allows.",
        "Wait as many seconds as Retry-After says.",
    ),
    "too_many_jobs": (
        "As many of this key's jobs are unfinished as are kept of it.",
        "Wait until some have ended, or cancel some.",
    ),
    "request_header_fields_too_large": (
        "A header, or all of them together, is longer than is taken.",
        "Send fewer and shorter headers.",
    ),
    "internal": (
        "A fault of the service.",
        "Give the operator the answer's X-Request-ID: the log has the details under it.",
    ),
    "unavailable": (
        "The server is as busy as it may be, or something that it needs does not answer.",
        "Wait as many seconds as Retry-After says, then send it again.",
    ),
    "ledger_unavailable": (
        "Redis, which keeps the jobs, does not answer.",
        "Try again; the operator sees in the system view what is down. Searches go on.",
    ),
    "broker_unavailable": (
        "Redis, which hands the work out, does not answer.",
        "Try again; the operator sees in the system view what is down. Searches go on.",
    ),
    "index_unavailable": (
        "Chroma, which holds the vectors, does not answer or is being written to.",
        "Try again; the operator sees in the system view what is down.",
    ),
    "blobs_unavailable": (
        "The store of files does not answer.",
        "Try again; the operator sees in the system view what is down.",
    ),
    "not_ready": (
        "What was asked for, search or new jobs, does not work now; the answer says what of it is not ok.",
        "Try again; the operator sees in the system view what is down.",
    ),
    "model_not_ready": (
        "The collection's model is being loaded or downloaded, or waits for its turn among more models than "
        "IMAGE_SEARCH_MODELS_LOADED. Collections of other models are not concerned.",
        "Wait as many seconds as Retry-After says; `GET /v1/models` says how far a download is.",
    ),
    "model_unavailable": (
        "The collection's model cannot be loaded. Collections of other models are not concerned.",
        "Have the operator do what the detail says; it is tried again by itself.",
    ),
    "newer_format": (
        "A newer version of the service stored something that this one cannot read.",
        "Have the operator update this installation.",
    ),
}


class Problem(NamedTuple):
    code: str
    status: int
    title: str
    meaning: ErrorCode


def problems() -> list[Problem]:
    """List every code of a refused request, by status, but for those of pictures."""
    found = [(one.code, int(one.status), one.title) for one in _answered(ImageSearchError)]
    found += [(code, status.value, status.phrase.capitalize()) for code, status in _OF_HTTP.items()]
    found += [_MODEL, _READINESS]
    ordered = sorted(found, key=lambda one: (one[1], one[0]))
    return [Problem(*one, ErrorCode(*MEANINGS[one[0]], retried=None)) for one in ordered]


def _answered(base: type[ImageSearchError]) -> Iterator[type[ImageSearchError]]:
    if issubclass(base, _NEVER_ANSWERED):
        return
    if "code" in vars(base):
        yield base
    for child in base.__subclasses__():
        yield from _answered(child)
