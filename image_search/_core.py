"""What both clients share: requests, retries and how answers are read, without any I/O.

An operation is a generator, as httpx's own `auth_flow` is. It yields a Request and is sent the answer, or has
a ClientError thrown into it, a Pause where time is to pass, and Work that may block. A client runs it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from image_search._answers import not_understood, read_json
from image_search.errors import INVALID_REQUEST, ApiError, ClientError

if TYPE_CHECKING:
    import httpx

MAX_RETRIES = 3
BACKOFF_SECONDS = 0.25  # before the first; doubles
MAX_PAUSE_SECONDS = 60.0
PATIENCE_SECONDS = 120.0  # of what goes on for long, with a server that does not answer
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Request:
    """`body` makes the pieces of a streamed body, anew for each attempt; `into` is a file for the answer's.

    An answer's type has to begin with `media`, or where that is None be 204; what is not is a proxy's.
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
    media: str | None = JSON
    expected: frozenset[int] = frozenset()
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    """A time to let pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """A call that may block, such as reading files; its value is sent back."""

    call: Callable[[], Any]


Step: TypeAlias = Request | Pause | Work
Flow: TypeAlias = Generator[Step, Any, T]
Renew: TypeAlias = Callable[[Request, ApiError], Request | None]


class Steps(Generic[T]):
    """Drives a flow: `next` is what is to be done, None once the flow has returned `value`."""

    value: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.next: Step | None = None
        self.answer(None)

    def answer(self, answer: Any) -> None:
        self._go_on(lambda: self._flow.send(answer))

    def fail(self, error: ClientError) -> None:
        self._go_on(lambda: self._flow.throw(error))

    def close(self) -> None:
        self._flow.close()

    def _go_on(self, resume: Callable[[], Step]) -> None:
        try:
            self.next = resume()
        except StopIteration as end:
            self.next, self.value = None, end.value


class Core:
    """Sends requests as often as it takes: `retries` further times where that is safe and may help."""

    def __init__(self, retries: int) -> None:
        self._retries = retries

    def _ask(self, model: type[Model], request: Request, renew: Renew | None = None) -> Flow[Model]:
        """Send a request and read its answer as `model`."""
        answer: httpx.Response = yield from self._send(request, renew)
        try:
            return model.model_validate(read_json(answer))
        except ValueError as error:
            raise not_understood(answer, error) from None

    def _send(self, request: Request, renew: Renew | None = None) -> Flow[httpx.Response]:
        """Send a request. `renew` says after an error what to send instead; None is nothing."""
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
                if pause > MAX_PAUSE_SECONDS:
                    raise
                request = again
            else:
                return answer
            yield Pause(pause)
        raise AssertionError  # count() has no end


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in params.items() if value is not None}


def listed(given: Any) -> list[Any]:
    """Return a list, of one where a text, file or object stands by itself."""
    return [given] if isinstance(given, str | bytes | Path | Mapping) else [*given]


def path_of(folder: str, name: str, *more: str) -> str:
    """Return the path of what has this name or id, or of more of it. Raises ApiError for an empty one."""
    if not name:
        raise ApiError(0, INVALID_REQUEST, "an id or a name is empty")
    return "/".join([folder, quote(name, safe=""), *more])


def _pause(error: ApiError, attempt: int) -> float:
    """Return the seconds that the server asks for, else exponential backoff with jitter."""
    if error.retry_after is not None:
        return error.retry_after
    return float(BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311
