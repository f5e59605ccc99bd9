"""The connection to Chroma: made without a request; calls have a deadline, and their failures become ours."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpx
from chromadb import errors
from chromadb.api import ServerAPI
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import Include
from chromadb.config import Settings, System

from shared.batching.batching import Batching
from shared.download.addresses import is_loopback
from shared.errors import IndexRefused, IndexUnavailable
from shared.index.observed_client import ObservedClient
from shared.tracing.tracing import current

CONNECT_TIMEOUT_SECONDS = 2.0
FEW_RESULTS = 256
# Of queries that wait: while Chroma answers one call, the other's answer is read.
CALLS_AT_ONCE, QUERIES_PER_CALL = 2, 16

_deadline: ContextVar[float] = ContextVar("chroma_deadline")
_in_process: WeakValueDictionary[Path, ServerAPI] = WeakValueDictionary()


@contextlib.contextmanager
def calls(timeout_s: float) -> Iterator[None]:
    """Give all calls in the block one deadline, or an outer block's nearer one, and translate failures."""
    before = _deadline.set(min(_deadline.get(float("inf")), time.monotonic() + timeout_s))
    try:
        yield
    except httpx.TimeoutException as error:
        raise IndexUnavailable("Chroma did not answer in time.") from error
    except httpx.HTTPError as error:
        raise IndexUnavailable("Chroma cannot be reached.") from error
    except (errors.AuthorizationError, errors.ChromaAuthError) as error:
        raise IndexUnavailable("Chroma refuses the credentials it is given.") from error
    except errors.NotFoundError as error:
        raise IndexUnavailable("Chroma does not have the tenant, database or collection.") from error
    except (errors.InternalError, errors.QuotaError) as error:
        raise IndexRefused("Chroma failed to do what it was asked.") from error
    except (errors.RateLimitError, errors.VersionMismatchError, errors.UniqueConstraintError) as error:
        raise IndexUnavailable("Chroma failed to do what it was asked.") from error
    except Exception as error:
        if type(error) is errors.ChromaError:  # as while a collection is being deleted
            raise IndexUnavailable("Chroma failed to do what it was asked.") from error
        # What chromadb raises for an answer that is not Chroma's: a bare Exception, or a JSON error.
        if type(error) is Exception or type(error).__name__ == "JSONDecodeError":
            raise IndexUnavailable("What answers at Chroma's address is not Chroma, or is broken.") from error
        raise
    finally:
        _deadline.reset(before)


class Together:
    """A Chroma collection whose queries for few results that wait for others are asked in one call.

    A query then takes Chroma half the time, and its client a quarter. One that fails for want of time fails
    for all, whose time is nearly over, too.
    """

    def __init__(self, store: ChromaCollection, turns: Batching) -> None:
        self._store, self._turns = store, turns

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self._store.get(*args, **kwargs)

    def count(self) -> int:
        return self._store.count()

    def query(
        self, *, query_embeddings: Sequence[Any], n_results: int, include: Include, **narrowed: Any
    ) -> Any:
        ask: Callable[[Any], Any] = partial(
            self._store.query, n_results=n_results, include=include, **narrowed
        )
        if narrowed or n_results > FEW_RESULTS or len(query_embeddings) > 1:
            return ask(list(query_embeddings))  # it may take long, which none should wait for

        asked = False

        def answers(calls: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
            nonlocal asked
            asked = True
            found: Any = ask([vector for call in calls for vector in call])
            parts = [name for name in ("ids", *include) if found[name] is not None]
            return [{name: found[name][row] for name in parts} for row in range(len(found["ids"]))]

        kind = (self._store.id, n_results, *include)
        row = self._turns.run(kind, query_embeddings, answers, QUERIES_PER_CALL)[0]
        if not asked:  # the call is in the trace of somebody else's query
            current().set({"image_search.query_asked_by_another": True})
        return {name: [part] for name, part in row.items()}


def http_server(url: str, token: str | None) -> ServerAPI:
    """Make chromadb's HTTP client without connecting: `chromadb.HttpClient` would, without a time-out."""
    address = urlsplit(url)
    settings = Settings(
        _env_file=None,
        anonymized_telemetry=False,
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=url.rstrip("/"),
        chroma_server_http_port=address.port or 0,
        chroma_server_ssl_enabled=address.scheme == "https",
        chroma_server_headers={"x-chroma-token": token} if token else {},
    )
    server = _start(settings)
    # chromadb has no setting for time-outs: this is the one place that touches what is private there.
    session: httpx.Client = server._session  # type: ignore[attr-defined]
    server._session = ObservedClient(  # type: ignore[attr-defined]
        headers=session.headers,
        event_hooks={"request": [_give_time_left], "response": [_refuse_refusals]},
        trust_env=not is_loopback(address.hostname or ""),
    )
    session.close()
    return server


def _give_time_left(request: httpx.Request) -> None:
    left = _deadline.get() - time.monotonic()  # LookupError: a call outside `calls`
    if left <= 0:
        raise httpx.ReadTimeout("no time left", request=request)
    request.extensions["timeout"] = httpx.Timeout(left, connect=min(left, CONNECT_TIMEOUT_SECONDS)).as_dict()


def _refuse_refusals(response: httpx.Response) -> None:
    """Raise IndexRefused where the server, or a proxy before it, does not take the request."""
    if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise IndexRefused("Chroma takes no request of this size.", size=True)
    as_json = response.headers.get("Content-Type", "").startswith("application/json")
    if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and not as_json:
        raise IndexRefused("Chroma cannot read what it was sent.")


def in_process_server(folder: Path) -> ServerAPI:
    """Return the server of a folder, one as long as somebody holds it: each has a dozen files and threads."""
    return _in_process.get(folder) or _in_process.setdefault(folder, _start_in_process(folder))


def _start_in_process(folder: Path) -> ServerAPI:
    settings = Settings(
        _env_file=None,
        anonymized_telemetry=False,
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        is_persistent=True,
        persist_directory=str(folder),
    )
    return _start(settings)


def _start(settings: Settings) -> ServerAPI:
    system = System(settings)
    server = system.instance(ServerAPI)  # type: ignore[type-abstract]
    system.start()
    return server
