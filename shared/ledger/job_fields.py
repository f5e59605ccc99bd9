"""Reading a job from its keys in Redis: what they say and what follows, such as how fast it goes.

What no answer could say, or is no error of an item, is left out.
"""

import json
import time
from typing import Any

from shared.models import (
    ITEM_STATES,
    Cause,
    Chunk,
    Claim,
    Failure,
    ItemState,
    Job,
    JobError,
    JobKind,
    JobStatus,
    JsonObject,
    Label,
    Note,
    Retrying,
    Stage,
    item_states,
)
from shared.validation import whole_text


def read_job(
    job_id: str,
    fields: dict[str, str],
    errors: list[str],
    failures: dict[str, str],
    waits: list[tuple[str, float]],
) -> Job:
    """Make a job of its hash, its first errors, their counts, and the first of what waits for another try."""

    def time_of(name: str) -> float | None:
        return float(fields[name]) if fields.get(name) else None

    total = int(fields["total"])
    kind, options = JobKind(fields.get("kind") or JobKind.INGEST), _object(fields.get("options")) or {}
    counts = {one: int(fields.get(f"c{ITEM_STATES.index(one)}", 0)) for one in item_states(kind, options)}
    started, finished = time_of("started"), time_of("finished")
    left = counts[ItemState.PENDING] + counts[ItemState.FETCHED]
    done = total - left - counts[ItemState.CANCELLED]
    retrying = _retrying(fields, waits)
    rate = _rate(fields, done, started, finished)
    if retrying and counts[ItemState.PENDING] <= retrying.items:
        rate = None  # how fast it went says nothing of when that succeeds
    return Job(
        job_id=job_id,
        status=JobStatus(fields["status"]),
        collection=fields["collection"],
        total=total,
        chunk_size=int(fields["chunk"]),
        counts=counts,
        rate_per_s=rate,
        eta_s=left / rate if rate and not finished else None,
        created_at=float(fields["created"]),
        started_at=started,
        finished_at=finished,
        errors=sorted(filter(None, map(_error, errors)), key=lambda error: error.index),
        truncated=fields["truncated"] == "1",
        callback_url=fields["callback"] or None,
        kind=kind,
        options=options,
        result=_object(fields.get("result")),
        label=Label(**{name: fields.get(name) or None for name in ("name", "origin", "made_of", "group")}),
        notes=_notes(fields.get("notes")),
        failures=[
            Failure(code, int(count), int(failures.get(f"{code}:transient", 0)))
            for code, count in sorted(failures.items())
            if ":" not in code
        ],
        retrying=retrying,
    )


def read_claim(answer: list[Any], stage: Stage, token: str) -> Claim:
    """Make a claim of what lua/claim.lua returns."""
    ref, deliveries, payload, collection, first, last, version, kind, options, postponed, waited = answer[:-2]
    return Claim(
        Chunk.parse(ref), stage, token, deliveries, payload, collection, first, last, int(version) * 1000,
        kind=JobKind(kind), options=json.loads(options), postponed=int(postponed),
        arrived=time.monotonic() - float(waited), cause=Cause(*answer[-2:]),
    )  # fmt: skip


def _error(written: str) -> JobError | None:
    match _object(written):
        case {"index": int(index), "source": str(source), "code": str(code), "detail": str(detail)}:
            return JobError(index, source, code, detail)
    return None


def _notes(written: str | None) -> list[Note]:
    notes: list[Note] = []
    for one in (_object(f'{{"notes": {written or "[]"}}}') or {}).get("notes", []):
        match one:
            case {"code": str(code), "detail": str(detail), "count": int(count)}:
                notes.append(Note(code, detail, count))
    return notes


def _object(written: str | None) -> JsonObject | None:
    """Return a stored JSON object; null for numbers without end, U+FFFD for lone surrogates."""
    try:
        sound = whole_text(json.dumps(json.loads(written or ""), ensure_ascii=False))
        found = json.loads(sound, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _retrying(fields: dict[str, str], waits: list[tuple[str, float]]) -> Retrying | None:
    """Describe what waits to be tried again by all of it and by what comes first."""
    if not waits:
        return None
    ((member, at),) = waits
    _, _, attempt, attempts = map(int, member.split(":"))
    return Retrying(int(fields["waiting"]), attempt, attempts, in_s=max(0.0, at - time.time()))


def _rate(fields: dict[str, str], done: int, started: float | None, finished: float | None) -> float | None:
    """Return items per second: over the whole run once finished, else over the last ten to twenty seconds."""
    since, before = started, int(fields.get("base") or 0)
    if since is None or done <= before:
        return None
    if not finished and fields.get("prev_t"):
        since, before = float(fields["prev_t"]), int(fields["prev_n"])
    elapsed = (finished or time.time()) - since
    return (done - before) / elapsed if elapsed > 0 else None
