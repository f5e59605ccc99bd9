"""Every error that client and command line raise on purpose.

ClientError
├── ApiError        the server refuses, does not answer, or is not one that this client understands
├── InvalidSource   what is to be ingested is not there or cannot be read
└── NotInstalled    what is asked for needs more than `pip install image-search` brings
"""

from collections.abc import Mapping, Sequence
from typing import Any

INVALID_REQUEST = "invalid_request"
TLS = "tls_failed"  # sending it again would only fail again
UNREACHABLE = "unreachable"
TIMEOUT = "timeout"
RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """An error with a sentence for people in `detail`, and for programs a stable `code`."""

    code: str = "error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors cross the borders of processes, whatever a subclass's constructor takes."""
        return _restored, (type(self), vars(self))


def _restored(kind: type[ClientError], attributes: dict[str, Any]) -> ClientError:
    error = kind.__new__(kind, attributes["detail"])
    vars(error).update(attributes)
    return error


class ApiError(ClientError):
    """What the server refused, or why there is no answer of it.

    Attributes:
        http_status: the answer's status; 0 when there was no answer.
        code: stable, for programs: the server's own (`GET /docs/errors` lists them) or, of the client,
            `invalid_url`, `invalid_key`, `invalid_request`, `unreachable`, `tls_failed`, `timeout`,
            `http_status`, `unexpected_answer`, `incompatible_version`.
        detail: a sentence for people.
        errors: of bad input, the first faults: `{"pointer": RFC 6901, "message": …}` each.
        retry_after: seconds after which the server wants to be asked again; None if it does not say.
    """

    def __init__(
        self,
        http_status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.http_status = http_status
        self.code = code
        self.errors = [*errors]
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Return the detail and, where it does not say them, the first faults."""
        untold = [one for one in self.errors[:5] if one["message"] not in self.detail]
        faults = "; ".join(f"{one['pointer']}: {one['message']}" for one in untold)
        return f"{self.detail} ({faults})" if faults else self.detail

    @property
    def transient(self) -> bool:
        """Tell whether the same request may succeed later."""
        return self.http_status in RETRIED_STATUSES or self.code in (UNREACHABLE, TIMEOUT)

    @property
    def worth_repeating(self) -> bool:
        """Tell whether to send the request again; one that is too slow would get the same work twice."""
        return self.transient and self.code != TIMEOUT


class InvalidSource(ClientError):
    """What is to be ingested is not there or cannot be read; `detail` names it."""

    code = "invalid_source"


class NotInstalled(ClientError):
    """What is asked for needs more packages; `detail` says which command installs them."""

    code = "not_installed"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs the server's packages: pip install '.[server]' in the project's folder"
        )
