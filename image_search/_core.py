"""What the sync and the async client share: requests, retries and errors, without any I/O.

An operation is a generator, as httpx's own `auth_flow` is. It yields a Request and is sent the answer, or has
an ApiError thrown into it, a Pause where time is to pass, and Work that may block. A client drives it.
"""

import email.utils
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel

from shared.errors import FieldError, ImageSearchError

if TYPE_CHECKING:
    import httpx

RETRIES = 3
BACKOFF_SECONDS = 0.25  # before the first; doubles
LONGEST_PAUSE_SECONDS = 60.0
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
UNREACHABLE = "unreachable"
TIMEOUT = "timeout"

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


class ApiError(ImageSearchError):
    """What the server refused; `http_status` is 0 when it could not be reached at all."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.http_status = status
        self.code = code
        self.errors = list(errors)
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        return self.http_status == 0 or self.http_status in RETRIED_STATUSES

    @property
    def worth_repeating(self) -> bool:
        """A server that took too long to answer would only be given the same work twice."""
        return self.transient and not (self.http_status == 0 and self.code == TIMEOUT)


@dataclass(frozen=True, slots=True)
class Request:
    """`body` makes the pieces of a streamed body, anew for each attempt; `into` is a file for the answer's.

    An answer whose status is in `expected` is no error. `repeatable`: sent twice, it does what it does once.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    files: Sequence[tuple[str, tuple[str | None, bytes, str]]] | None = None
    body: Callable[[], Iterator[bytes]] | None = None
    timeout: float | None = None
    into: Path | None = None
    expected: frozenset[int] = frozenset()
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Reading files, say; its value is sent back."""

    call: Callable[[], Any]


Renew: TypeAlias = Callable[[Request, ApiError], Request | None]
Flow: TypeAlias = Generator[Request | Pause | Work, Any, T]


class Steps(Generic[T]):
    """Drives a flow: `next` is what is to be done, None once the flow has returned `value`."""

    value: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.next: Request | Pause | Work | None = None
        self.answer(None)

    def answer(self, answer: Any) -> None:
        self._go_on(lambda: self._flow.send(answer))

    def fail(self, error: ApiError) -> None:
        self._go_on(lambda: self._flow.throw(error))

    def close(self) -> None:
        self._flow.close()

    def _go_on(self, resume: Callable[[], Request | Pause | Work]) -> None:
        try:
            self.next = resume()
        except StopIteration as end:
            self.next, self.value = None, end.value


class Core:
    """Asks as often as it takes: `retries` further times where that is safe and may help."""

    def __init__(self, retries: int = RETRIES) -> None:
        self._retries = retries

    def ask(self, model: type[Model], request: Request, renew: Renew | None = None) -> Flow[Model]:
        answer: httpx.Response = yield from self.send(request, renew)
        try:
            return model.model_validate(answer.json())
        except ValueError as error:
            detail = f"this version of the client does not understand the answer of {request.path}: {error}"
            raise ApiError(answer.status_code, "unexpected_answer", detail) from None

    def send(self, request: Request, renew: Renew | None = None) -> "Flow[httpx.Response]":
        """The answer. `renew` says after an error what to send instead; None is nothing."""
        for attempt in count():
            try:
                answer: httpx.Response = yield request
            except ApiError as error:
                again = request if renew is None else renew(request, error)
                if (
                    attempt >= self._retries
                    or again is None
                    or not (again.repeatable and error.worth_repeating)
                ):
                    raise
                pause = _pause(error, attempt)
                if pause > LONGEST_PAUSE_SECONDS:
                    raise
                request = again
            else:
                return answer
            yield Pause(pause)
        raise AssertionError  # count() has no end


def refusal(response: "httpx.Response") -> ApiError:
    status, after = response.status_code, _retry_after(response.headers.get("Retry-After"))
    try:
        problem = response.json()
        return ApiError(status, problem["code"], problem["detail"], problem.get("errors", ()), after)
    except (ValueError, KeyError, TypeError):
        detail = f"the server answered {status} {response.reason_phrase}"
        return ApiError(status, "http_status", detail, retry_after=after)


def _pause(error: ApiError, attempt: int) -> float:
    """What the server asks for, else exponential backoff with jitter."""
    if error.retry_after is not None:
        return error.retry_after
    return float(BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311


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
