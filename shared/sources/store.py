"""The stored definitions of sources, and the records of their latest runs: files of the blob store."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from shared.errors import Conflict, NewerFormat, SourceExists, SourceNotFound, Unavailable
from shared.models import COLLECTION_NAME, JsonObject
from shared.sources.definition import Run, Source
from shared.storage.blobs import SOURCES, Blobs, brought_key, run_key, runs_prefix, source_key, source_prefix

MAX_SOURCES = 1_000
MAX_RUNS = 20
SOURCE_NAME = COLLECTION_NAME

Stored = TypeVar("Stored")

log = structlog.get_logger()


def new_source(blobs: Blobs, source: Source) -> None:
    """Store a source under a name that is free. Raises SourceExists, and Conflict for one too many."""
    if len(source_names(blobs)) >= MAX_SOURCES:
        raise Conflict(f"There are {MAX_SOURCES:,} sources, the most there may be: delete one.")
    clear_source(blobs, source.name)
    blobs.put_new(source_key(source.name), _bytes(source.to_json()))
    if get_source(blobs, source.name) != source:
        raise SourceExists(f"Somebody else has just defined a source {source.name!r}: look at that first.")


def clear_source(blobs: Blobs, name: str) -> None:
    """Delete what is stored of a source but its definition, as what a sync that outlived it has left."""
    blobs.delete(brought_key(name))
    blobs.delete_prefix(runs_prefix(name))


def put_source(blobs: Blobs, source: Source) -> None:
    """Store a source in place of the one of its name."""
    blobs.put(source_key(source.name), _bytes(source.to_json()))


def get_source(blobs: Blobs, name: str) -> Source:
    """Return a source. Raises SourceNotFound, NewerFormat, and Unavailable where its file is damaged."""
    try:
        if SOURCE_NAME.fullmatch(name):
            return _read(blobs.get(source_key(name)), Source.from_json)
    except KeyError:
        pass
    except ValueError as error:
        raise Unavailable(
            f"The definition of the source {name!r} is damaged: delete the source and define it again."
        ) from error
    raise SourceNotFound(f"There is no source {name!r:.80}.")


def source_exists(blobs: Blobs, name: str) -> bool:
    """Return whether there is a source of this name, also one that cannot be read."""
    return bool(SOURCE_NAME.fullmatch(name)) and blobs.exists(source_key(name))


def source_names(blobs: Blobs) -> list[str]:
    """Return the names of all sources, sorted."""
    return _names(blobs.list(SOURCES))


def list_sources(blobs: Blobs) -> list[Source]:
    """Return all sources by name. What cannot be read is left out, and logged."""
    return [source for source, _ in source_page(blobs)[0]]


def source_page(
    blobs: Blobs, after: str = "", limit: int = MAX_SOURCES
) -> tuple[list[tuple[Source, Run | None]], str | None]:
    """Return the first `limit` sources past the name `after`, each with its latest run, and the last's name.

    That is None where there are no more. What cannot be read is left out, and logged.
    """
    keys = blobs.list(SOURCES)
    names = [name for name in _names(keys) if name > after]
    more, names = len(names) > limit, names[:limit]
    latest = {key.split("/")[1]: key for key in keys if "/runs/" in key}  # sorted, so the last counts
    run_keys = [latest[name] for name in names if name in latest]
    found = {run.job_id: run for run in _readable(blobs, run_keys, Run.from_json)}
    sources = _readable(blobs, [source_key(name) for name in names], Source.from_json)
    if missing := sorted({*names} - {source.name for source in sources}):
        log.warning("sources that cannot be read, or have just been deleted", names=missing)
    rows = [
        (source, found.get(latest.get(source.name, "").rpartition("-")[2].removesuffix(".json")))
        for source in sources
    ]
    return rows, names[-1] if more else None


def delete_source(blobs: Blobs, name: str) -> None:
    """Delete a source's definition, then what else is stored of it; there need be none."""
    blobs.delete(source_key(name))
    blobs.delete_prefix(source_prefix(name))


def add_run(blobs: Blobs, name: str, run: Run) -> None:
    """Store what a sync of the source `name` did; of all but the latest MAX_RUNS the records are deleted.

    Stored again, the same run replaces itself.
    """
    key = run_key(name, f"{int(run.started_at * 1000):020d}-{run.job_id}")
    blobs.put(key, _bytes(run.to_json()))
    blobs.delete(*blobs.list(runs_prefix(name))[:-MAX_RUNS])


def runs(blobs: Blobs, name: str, limit: int = MAX_RUNS) -> list[Run]:
    """Return the latest runs of a source, newest first. What cannot be read is left out, and logged."""
    return _readable(blobs, blobs.list(runs_prefix(name))[::-1][:limit], Run.from_json)


def _names(keys: Iterable[str]) -> list[str]:
    """Return, of all keys below SOURCES, the names of those that are definitions, sorted."""
    return sorted(name for key in keys if key == source_key(name := key.split("/")[1]))


def _readable(blobs: Blobs, keys: Sequence[str], parse: Callable[[dict[str, Any]], Stored]) -> list[Stored]:
    found = []
    for data in blobs.get_each(keys):
        try:
            found.append(_read(data, parse))
        except (ValueError, NewerFormat) as error:
            log.error("a source's file cannot be read", reason=str(error))  # noqa: TRY400
    return found


def _read(data: bytes, parse: Callable[[dict[str, Any]], Stored]) -> Stored:
    """Parse a stored file. Raises NewerFormat, and ValueError for anything that was not stored so."""
    try:
        return parse(json.loads(data))
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _bytes(document: JsonObject) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
