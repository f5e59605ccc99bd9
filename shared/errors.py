"""Every error this project raises on purpose.

ImageSearchError
├── ConfigError                 a setting, command or start-up condition is wrong (never reaches HTTP)
│   └── ModelUnavailable        the model cannot be loaded
├── InvalidRequest        422   the request is malformed; `errors` points to where
│   ├── IdempotencyMismatch     the same Idempotency-Key came with another body
│   ├── NoUrlColumn             a table without the column that has the URLs
│   ├── NoRows                  a table without rows
│   └── AnswerTooLarge          what it asks for is more than one answer may be
├── Unauthorized          401
├── Forbidden             403
├── NotFound              404
│   ├── JobNotFound, ImageNotFound, CollectionNotFound, RenditionNotKept, SourceNotFound
├── Conflict              409
│   ├── JobFinished, JobRunning, NothingToRetry, CollectionExists, ModelMismatch, PixelsNotKept
│   ├── SourceExists, SyncRunning, KeywordsNotReady
├── RequestTooLarge       413
├── UnsupportedMediaType  415
├── RateLimited           429   retryable: this caller asks too often
│   └── TooManyJobs             of his jobs too many have not finished
├── Unavailable           503   retryable: a dependency does not answer
│   ├── LedgerUnavailable, BrokerUnavailable, BlobsUnavailable, ModelNotReady, NewerFormat
│   └── IndexUnavailable
│       └── IndexRefused        the index answers, but that it cannot do this
├── HostBusy                    a foreign host's rate is used up for now (never reaches HTTP)
└── ItemError             422   one picture cannot be had or read; `code` is one of ITEM_CODES
"""

from collections.abc import Sequence
from typing import ClassVar, Self, TypedDict

ITEM_CODES = (
    "invalid_url",
    "blocked_address",
    "dns_error",
    "connect_error",
    "timeout",
    "http_status",
    "too_many_redirects",
    "too_large",
    "not_an_image",
    "unsupported_format",
    "corrupt_image",
    "too_many_pixels",
    "encode_error",
    "index_error",
    "internal",
)
RETRYABLE_ITEM_CODES = frozenset({"dns_error", "connect_error", "timeout", "index_error"})
RETRYABLE_HTTP_STATUSES = frozenset({408, 425, 429, *range(500, 600)})


class FieldError(TypedDict):
    """One fault in a request: an RFC 6901 pointer into the body or query, and a sentence."""

    pointer: str
    message: str


class ImageSearchError(Exception):
    """The base of the tree. `detail` is a sentence for the user: it never holds internals or secrets.

    `errors` names the fields of the request that are at fault, where the request is.
    """

    code: str = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    errors: Sequence[FieldError] = ()

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def at(self, pointer: str) -> Self:
        """Return this error, pointing to the field of the request (an RFC 6901 pointer) that is at fault."""
        self.errors = [{"pointer": pointer, "message": self.detail}]
        return self

    def bare(self) -> Self:
        """Return this error without traceback and causes, whose frames keep a file's pixels in memory."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


class ConfigError(ImageSearchError):
    code = "config_error"
    title = "Configuration error"


class ModelUnavailable(ConfigError):
    """A checkpoint that cannot be used; `passing` where trying again may succeed with its files unchanged."""

    code = "model_unavailable"
    title = "Model unavailable"

    def __init__(self, detail: str, *, passing: bool = False) -> None:
        super().__init__(detail)
        self.passing = passing


class InvalidRequest(ImageSearchError):
    code = "invalid_request"
    status = 422
    title = "Invalid request"

    def __init__(self, detail: str, errors: Sequence[FieldError] = (), *, code: str | None = None) -> None:
        super().__init__(detail)
        self.errors = list(errors)
        if code is not None:
            self.code = code


class NoUrlColumn(InvalidRequest):
    """A table in which no column has the URLs; `columns` are the names of those it has."""

    def __init__(self, detail: str, columns: Sequence[str]) -> None:
        super().__init__(detail, [{"pointer": "/url_column", "message": detail}])
        self.columns = list(columns)


class NoRows(InvalidRequest):
    """A table that is sound, and has no rows."""


class IdempotencyMismatch(InvalidRequest):
    code = "idempotency_mismatch"
    title = "Idempotency key reused"


class AnswerTooLarge(InvalidRequest):
    code = "answer_too_large"
    title = "Answer too large"


class Unauthorized(ImageSearchError):
    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(ImageSearchError):
    code = "forbidden"
    status = 403
    title = "Forbidden"


class NotFound(ImageSearchError):
    code = "not_found"
    status = 404
    title = "Not found"


class RenditionNotKept(NotFound):
    code = "rendition_not_kept"
    title = "Rendition not kept"


class JobNotFound(NotFound):
    code = "job_not_found"
    title = "Job not found"


class ImageNotFound(NotFound):
    code = "image_not_found"
    title = "Image not found"


class CollectionNotFound(NotFound):
    code = "collection_not_found"
    title = "Collection not found"


class SourceNotFound(NotFound):
    code = "source_not_found"
    title = "Source not found"


class Conflict(ImageSearchError):
    code = "conflict"
    status = 409
    title = "Conflict"


class JobFinished(Conflict):
    code = "job_finished"
    title = "Job already finished"


class JobRunning(Conflict):
    code = "job_running"
    title = "Job still running"


class NothingToRetry(Conflict):
    code = "nothing_to_retry"
    title = "Nothing to retry"


class CollectionExists(Conflict):
    code = "collection_exists"
    title = "Collection exists"


class SourceExists(Conflict):
    code = "source_exists"
    title = "Source exists"


class SyncRunning(Conflict):
    code = "sync_running"
    title = "Sync running"


class ModelMismatch(Conflict):
    code = "model_mismatch"
    title = "Collection bound to another model"


class PixelsNotKept(Conflict):
    code = "pixels_not_kept"
    title = "Pixels not kept"


class KeywordsNotReady(Conflict):
    code = "keywords_not_ready"
    title = "Keywords not ready"


class RequestTooLarge(ImageSearchError):
    code = "request_too_large"
    status = 413
    title = "Request too large"


class UnsupportedMediaType(ImageSearchError):
    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class RateLimited(ImageSearchError):
    """The caller asks too often, and may go on after `retry_after_s` seconds."""

    code = "rate_limited"
    status = 429
    title = "Too many requests"
    retryable = True

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyJobs(RateLimited):
    code = "too_many_jobs"
    title = "Too many unfinished jobs"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after_s=30)


class Unavailable(ImageSearchError):
    """A dependency that does not answer; the same request may succeed after `retry_after_s` seconds."""

    code = "unavailable"
    status = 503
    title = "Service unavailable"
    retryable = True
    retry_after_s: ClassVar[int] = 5


class LedgerUnavailable(Unavailable):
    code = "ledger_unavailable"
    title = "Job ledger unavailable"


class BrokerUnavailable(Unavailable):
    code = "broker_unavailable"
    title = "Broker unavailable"


class IndexUnavailable(Unavailable):
    code = "index_unavailable"
    title = "Index unavailable"


class IndexRefused(IndexUnavailable):
    """A write that Chroma refused, for its `size` or another reason.

    Either the write is at fault or Chroma is out of order: Collection.prove_writable tells which.
    """

    def __init__(self, detail: str, *, size: bool = False) -> None:
        super().__init__(detail)
        self.size = size


class BlobsUnavailable(Unavailable):
    code = "blobs_unavailable"
    title = "Blob store unavailable"


class ModelNotReady(Unavailable):
    code = "model_not_ready"
    title = "Model is loading"


class NewerFormat(Unavailable):
    """Stored data that only a newer version can read; nothing fails for good until the update."""

    code = "newer_format"
    title = "Stored by a newer version"
    retry_after_s: ClassVar[int] = 60


class HostBusy(ImageSearchError):
    """A foreign host whose rate is used up for `wait_s` seconds. No item fails for it."""

    code = "host_busy"
    title = "Host busy"

    def __init__(self, host: str, wait_s: float) -> None:
        super().__init__(f"{host} is not asked more often than it may be.")
        self.wait_s = wait_s


class ItemError(ImageSearchError):
    """Why one picture failed.

    `code` is one of ITEM_CODES; `retry_after_s` is what a server's Retry-After asked for, in seconds;
    `http_status` is the status of an `http_status` error. `final` says that trying again would bring the
    same, whatever the code.
    """

    status = 422
    title = "Picture cannot be used"

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(detail)
        assert code in ITEM_CODES, code  # noqa: S101 - a programming error, pinned by the tests
        self.code = code
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.final = final

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.detail), self.__dict__

    @classmethod
    def too_large(cls, most: int) -> Self:
        """Return the error of a picture's file that has more than `most` bytes."""
        return cls("too_large", f"the file has more than {most:,} bytes (IMAGE_SEARCH_MAX_IMAGE_BYTES)")

    @property
    def transient(self) -> bool:
        """Tell whether trying again later may succeed."""
        if self.final:
            return False
        return self.code in RETRYABLE_ITEM_CODES or self.http_status in RETRYABLE_HTTP_STATUSES

    @property
    def blames_host(self) -> bool:
        """Tell whether a host that brings it is in trouble: also where a second try would take as long."""
        return self.transient or self.code == "timeout"
