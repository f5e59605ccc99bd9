"""Whether two encode workers on one machine share a job evenly, and encode no chunk twice.

Once as two processes of one worker, as `up --encode-workers 2` starts them, and once as that of `up` and a
second one that was started by hand, of the same priority. Celery counts what it gave to whom.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.jobs import ingest_rate
from benchmarks.results import Result
from benchmarks.tiny import tiny_pictures
from image_search import Client
from shared.models import Stage
from tests.stack import Stack

CHUNK = 16
CHUNKS = 64  # a job: about 25 s at ViT-B/32 on two cores
ROUNDS = 3
WARM_JOBS = 30  # the most, until both have loaded the model and taken part


def measure(checkpoint: Path, work: Path) -> list[Result]:
    with tiny_pictures() as address:
        with _stack(checkpoint, work / "processes", encode_workers=2) as stack:
            processes = _split("two processes", stack, address)
        with (
            _stack(checkpoint, work / "workers", encode_workers=1) as stack,
            stack.joined("worker", "--queues", "encode", "--concurrency", "1"),
        ):
            workers = _split("two workers", stack, address)
    return [*processes, *workers]


@contextmanager
def _stack(checkpoint: Path, folder: Path, encode_workers: int) -> Iterator[Stack]:
    settings = {"MODEL": str(checkpoint), "CHUNK_SIZE": str(CHUNK), "KEEP": "none"}
    with Stack(folder, encode_workers=encode_workers, **settings) as stack:
        yield stack


def _split(name: str, stack: Stack, address: str) -> list[Result]:
    shares, twice, rates = [], 0, []
    with Client(stack.url) as client:
        for number in range(WARM_JOBS):
            ingest_rate(client, _urls(address, f"warm{number}", 2))
            if len(_given(stack)) == 2:
                break
        else:
            raise RuntimeError(f"one of the two encodes nothing: {_given(stack)}")
        for number in range(ROUNDS):
            before = _given(stack)
            rates.append(ingest_rate(client, _urls(address, str(number), CHUNKS)))
            given = [_given(stack)[place] - count for place, count in before.items()]
            shares.append(min(given) / sum(given))
            twice += sum(given) - CHUNKS
    return [
        Result(
            f"{name}: the lesser share of a job's pictures",
            statistics.median(shares),
            goal=0.45,
            spread=(min(shares), max(shares)),
        ),
        Result(f"{name}: chunks encoded more than once", twice, goal=0, most=True),
        Result(f"  {name}, whole road", statistics.median(rates), "pictures/s"),
    ]


def _given(stack: Stack) -> dict[tuple[str, int], int]:
    """The chunks that each process of each worker was given; those without one are left out."""
    return {
        (worker, place): count
        for worker, counts in stack.tasks(Stage.ENCODE).items()
        for place, count in enumerate(counts)
    }


def _urls(address: str, name: str, chunks: int) -> list[str]:
    return [f"{address}/{name}/{number}.png" for number in range(chunks * CHUNK)]
