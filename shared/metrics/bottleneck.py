"""What limits ingestion now, as far as what waits and the workers that were seen tell. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from shared.ledger.ledger import INDEX_WINDOW
from shared.ledger.processes import Backlog, QueueInfo
from shared.ledger.writer import MAX_BATCH_ITEMS
from shared.models import Stage

LimitedBy = Literal["nothing", "fetch", "hosts", "encode", "index"]
CAUSES: tuple[LimitedBy, ...] = get_args(LimitedBy)
LATE_SECONDS = 10.0  # the writer takes all that is ready at once, within a second or two
IDLE_SECONDS = 3.0  # from one chunk to the next a worker takes far less
_SUBJECTS = {
    "fetch": "Fetch limits",
    "hosts": "Foreign hosts limit",
    "encode": "Encode limits",
    "index": "Index limits",
}
_AT_WORK = {Stage.FETCH: "fetched", Stage.ENCODE: "encoded", Stage.INDEX: "written"}


@dataclass(frozen=True, slots=True)
class Limit:
    """What limits ingestion, and the same in a sentence: by which numbers, and what to do."""

    by: LimitedBy
    detail: str


def limit_of(backlog: Backlog, slots: Mapping[Stage, int]) -> Limit:
    """Return what limits ingestion; `slots` are those of the workers that were seen, of every stage.

    A stage that cannot go on comes first, the last in a chunk's way before the others; then the last with a
    queue that its workers do not keep up with; then the first that has anything to do.
    """
    found = _stuck(backlog, slots) or _behind(backlog, slots) or _first_at_work(backlog, slots)
    if found.by == "nothing":
        return found
    return Limit(found.by, f"{_SUBJECTS[found.by]} ingestion: {found.detail[0].lower()}{found.detail[1:]}")


def _stuck(backlog: Backlog, slots: Mapping[Stage, int]) -> Limit | None:
    for queue in reversed(backlog.queues):
        if _has_work(queue) and not slots[queue.stage]:
            return _unstaffed(queue)
    # Fetch may have more to do than the chunks that came back.
    return next((_put_back(queue) for queue in reversed(backlog.queues[1:]) if queue.stuck), None)


def _behind(backlog: Backlog, slots: Mapping[Stage, int]) -> Limit | None:
    _, encode, index = backlog.queues
    if index.items >= MAX_BATCH_ITEMS or index.waiting >= INDEX_WINDOW or _is_late(index.lag_s):
        what = f"{_waiting(index)} for the one writer" if index.waiting else _left(index)
        what += _age(index.lag_s)
        help_ = "See whether Chroma keeps up with its disk and processor: more index workers do not help."
        return Limit("index", f"{what}. {_idle(index) or help_}")
    # Chunks that were given back wait for what they lack, not for a worker.
    ready = encode.waiting - encode.put_back
    if ready >= max(1, 2 * slots[Stage.ENCODE]) or (encode.idle_s or 0) >= LATE_SECONDS:
        what = f"{_waiting(encode)} for {_count(slots[Stage.ENCODE], 'slot')} at encode"
        help_ = "Add encode workers, or a GPU."
        return Limit("encode", f"{what}{_age(encode.oldest_wait_s)}. {_idle(encode) or help_}")
    return None


def _first_at_work(backlog: Backlog, slots: Mapping[Stage, int]) -> Limit:
    fetch, encode, index = backlog.queues
    if _has_work(fetch):
        return _put_back(fetch) if _is_put_back(fetch) else _at_fetch(backlog, slots[Stage.FETCH])
    for queue, before in ((encode, "fetch"), (index, "fetch or encode")):
        if _is_put_back(queue):
            return _put_back(queue)
        if _has_work(queue):
            return Limit(_name(queue), _and(f"Nothing is left to {before}: {_left(queue)}.", _idle(queue)))
    if backlog.retrying_items:
        items = _count(backlog.retrying_items, "item waits", "items wait")
        again = f"{items} to be tried again: their hosts, or what they need, failed for now."
        return Limit("hosts", again + _breakers(backlog))
    if backlog.open_jobs:
        jobs = _count(backlog.open_jobs, "open job waits", "open jobs wait")
        return Limit("nothing", f"Nothing is left to do: {jobs} for the client to send more.")
    return Limit("nothing", "Nothing waits.")


def _at_fetch(backlog: Backlog, slots: int) -> Limit:
    fetch = backlog.queues[0]
    if not fetch.items:
        return Limit("fetch", _and(f"No other item waits to be fetched: {_left(fetch)}.", _idle(fetch)))
    items = _count(fetch.items, "item waits", "items wait")
    if backlog.lacking_items == fetch.items and (lacks := _lacks(backlog)):
        return Limit(
            _name(lacks), f"{items} to be fetched until their jobs have what they lack: {lacks.reason}"
        )
    if backlog.held_items == fetch.items:
        what = f"{items} for hosts that are asked as often as they may be"
        help_ = "Raise IMAGE_SEARCH_HOST_RATE, or name your own hosts in IMAGE_SEARCH_ALLOW_HOSTS."
        return Limit("hosts", f"{what}. {help_}{_breakers(backlog)}")
    if not fetch.waiting + fetch.running:
        why = "their list is still read or compared, or the sweeper has yet to send them"
        return Limit("fetch", f"{items} to be fetched, and none is sent: {why}.")
    busy = fetch.running - backlog.aside
    what = f"{items} to be fetched; {busy:,} of {_count(slots, 'slot')} at fetch busy."
    if busy < slots:
        return Limit("fetch", _and(what, _idle(fetch)) + _breakers(backlog))
    help_ = "Add fetch workers, or raise IMAGE_SEARCH_FETCH_CONCURRENCY, unless the hosts are slow."
    return Limit("fetch", f"{what} {help_}{_breakers(backlog)}")


def _unstaffed(queue: QueueInfo) -> Limit:
    what = f"{_count(queue.items, 'item')} and {_count(queue.waiting + queue.running, 'chunk')}"
    start = f"If none is starting, start one: image-search worker --queues {queue.stage}."
    return Limit(_name(queue), f"No worker was seen for {queue.stage}, which has {what} to do. {start}")


def _is_put_back(queue: QueueInfo) -> bool:
    return 0 < queue.put_back == queue.waiting + queue.running


def _put_back(queue: QueueInfo) -> Limit:
    chunks = _count(queue.put_back, "chunk is", "chunks are")
    return Limit(_name(queue), f"Nothing gets past {queue.stage}, where {chunks} tried again: {queue.reason}")


def _lacks(backlog: Backlog) -> QueueInfo | None:
    return next((queue for queue in reversed(backlog.queues) if queue.put_back), None)


def _has_work(queue: QueueInfo) -> bool:
    return queue.waiting + queue.running + queue.items > 0


def _waiting(queue: QueueInfo) -> str:
    items = f" ({_count(queue.items, 'item')})" if queue.items else ""
    return f"{_count(queue.waiting, 'chunk')}{items} {'waits' if queue.waiting == 1 else 'wait'}"


def _is_late(age_s: float | None) -> bool:
    return (age_s or 0) >= LATE_SECONDS


def _idle(queue: QueueInfo) -> str:
    if (queue.idle_s or 0) < IDLE_SECONDS:
        return ""
    loads = "it may still load its model, or " if queue.stage is Stage.ENCODE else ""
    why = f"{loads}its log may say why"
    return f"No worker has taken one for {queue.idle_s:,.0f} s: {why}."


def _and(sentence: str, other: str) -> str:
    return f"{sentence} {other}" if other else sentence


def _age(age_s: float | None) -> str:
    return f", the oldest for {age_s:,.0f} s" if _is_late(age_s) else ""


def _left(queue: QueueInfo) -> str:
    if queue.waiting:
        return f"{_waiting(queue)} at {queue.stage}"
    return f"{_count(queue.running, 'chunk is', 'chunks are')} being {_AT_WORK[queue.stage]}"


def _breakers(backlog: Backlog) -> str:
    if not backlog.breakers_open:
        return ""
    hosts = _count(backlog.breakers_open, "host is", "hosts are")
    return f" {hosts} not asked for a while, after failures in a row."


def _name(queue: QueueInfo) -> LimitedBy:
    by: dict[Stage, LimitedBy] = {Stage.FETCH: "fetch", Stage.ENCODE: "encode", Stage.INDEX: "index"}
    return by[queue.stage]


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"
