"""A job's items and what became of them, in the blob store: Redis then holds one byte per item.

The format number (shared/formats.py) is in the last line of a file of items, in the first row of results.
"""

import json
from collections.abc import Iterable

from shared.formats import FIELD, check_format
from shared.models import Chunk, Item, ItemResult, JsonObject, Stage
from shared.storage.blobs import Blobs, job_prefix

SEGMENT_ITEMS = 1024
FORMAT = 1


def _segment_key(job_id: str, segment: int) -> str:
    return f"{job_prefix(job_id)}manifest/{segment:06d}.jsonl"


class ManifestWriter:
    """A writer of items in order, SEGMENT_ITEMS per file.

    An item may be enqueued once a `flush` after its `add` has returned; a file that was flushed before it was
    full is written again, whole, when more comes. Memory holds at most one file's items. `size` is what all
    items take, in bytes.
    """

    def __init__(self, blobs: Blobs, job_id: str) -> None:
        self._blobs = blobs
        self._job_id = job_id
        self._lines: list[bytes] = []
        self._dirty = False
        self.count = self.size = 0

    def add(self, item: Item) -> None:
        if self.count % SEGMENT_ITEMS == 0:
            self.flush()
            self._lines = []
        self._lines.append(_item_line(item))
        self.size += len(self._lines[-1])
        self.count += 1
        self._dirty = True

    def flush(self) -> None:
        if self._dirty:
            segment = (self.count - 1) // SEGMENT_ITEMS
            self._blobs.put(_segment_key(self._job_id, segment), b"".join([*self._lines, _last_line()]))
            self._dirty = False


def _last_line() -> bytes:
    return json.dumps({FIELD: FORMAT}).encode() + b"\n"


def _item_line(item: Item) -> bytes:
    fields = {
        "source": item.source,
        "url": item.url,
        "upload": item.upload,
        "metadata": item.metadata,
        "error": item.error,
        "key": item.key,
        "skip_near": item.skip_near,
        "of": item.of,
        "before": item.before,
        "withdraws": item.withdraws,
    }
    return json.dumps({name: value for name, value in fields.items() if value}).encode() + b"\n"


def read_items(blobs: Blobs, job_id: str, start: int, stop: int) -> list[Item]:
    """Read items `start` to `stop` (exclusive) of a job.

    Raises KeyError without a manifest, and NewerFormat.
    """
    items: list[Item] = []
    for segment in range(start // SEGMENT_ITEMS, -(-stop // SEGMENT_ITEMS)):
        first = segment * SEGMENT_ITEMS
        wanted = _lines(blobs, job_id, segment)[max(start - first, 0) : stop - first]
        items.extend(Item(**{"source": "", **json.loads(line)}) for line in wanted)
    return items


def read_urls(blobs: Blobs, job_id: str, segment: int) -> list[tuple[str | None, str | None]]:
    """Return the URL and the key of each item of one file. Raises as read_items does."""
    rows = map(json.loads, _lines(blobs, job_id, segment))
    return [(row.get("url"), row.get("key")) for row in rows]


def _lines(blobs: Blobs, job_id: str, segment: int) -> list[bytes]:
    lines = blobs.get(_segment_key(job_id, segment)).split(b"\n")[:-1]
    if found := json.loads(lines[-1]).get(FIELD):
        check_format(found, FORMAT, "A job's list of items")
        lines.pop()
    return lines


def write_results(
    blobs: Blobs, chunk: Chunk, stage: Stage, token: str, results: Iterable[ItemResult]
) -> None:
    """Record what became of items in one delivery of a chunk; call it before the ledger advances."""
    rows: list[JsonObject] = [
        {"i": r.index, "id": r.image_id, "code": r.code, "detail": r.detail, "n": r.attempts} for r in results
    ]
    if not rows:
        return
    rows[0][FIELD] = FORMAT
    # Generations, attempts and stages sort in the order in which they happen.
    order = f"{chunk.generation:04d}.{chunk.attempt:02d}.{list(Stage).index(stage)}"
    blobs.put(f"{_results_prefix(chunk.job_id, chunk.number)}{order}.{token}.json", json.dumps(rows).encode())


def _results_prefix(job_id: str, number: int) -> str:
    return f"{job_prefix(job_id)}results/{number:07d}/"


def read_results(blobs: Blobs, job_id: str, chunk_size: int, start: int, stop: int) -> dict[int, ItemResult]:
    """Return what is recorded of items `start` to `stop` (exclusive), by index.

    A later record adds to an earlier one: an item that was fetched keeps its `image_id` when it fails at a
    later stage. The state of an item is in the ledger, not here.
    """
    merged: dict[int, JsonObject] = {}
    for number in range(start // chunk_size, -(-stop // chunk_size)):
        for key in blobs.list(_results_prefix(job_id, number)):
            rows = json.loads(blobs.get(key))
            check_format(rows[0].get(FIELD), FORMAT, "A job's record of its items")
            for row in rows:
                if start <= row["i"] < stop:
                    merged.setdefault(row["i"], {}).update({k: v for k, v in row.items() if v is not None})
    return {
        index: ItemResult(
            index=index,
            source="",
            attempts=row.get("n", 0),
            image_id=row.get("id"),
            code=row.get("code"),
            detail=row.get("detail"),
        )
        for index, row in merged.items()
    }
