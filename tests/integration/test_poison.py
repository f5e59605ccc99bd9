"""Pictures that kill whatever process decodes them end alone: the real stack, its fetch workers poisoned."""

import re
from typing import Any

import httpx
import pytest

from tests.image_server import make_photo
from tests.stack import Stack, finished

DEADLINE_SECONDS = 240.0  # two leases of dead workers, then one picture after another in its own process


@pytest.fixture(scope="module")
def stack(poisoned_stack: Stack) -> Stack:
    return poisoned_stack


def items(http: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return rows


def upload(http: httpx.Client, pictures: list[bytes]) -> httpx.Response:
    files = [("files", (f"{n:02}.jpg", data, "image/jpeg")) for n, data in enumerate(pictures)]
    return http.post("/v1/jobs", files=files)


def test_pictures_that_kill_the_decoder_fail_alone_as_internal(http: httpx.Client, stack: Stack) -> None:
    pictures = [make_photo(seed, 96, 64) for seed in range(12)]
    pictures[1] += b"segv"
    pictures[6] += b"exit"
    pictures[7] += b"corrupt"
    accepted = upload(http, pictures)
    photos = [make_photo(seed, 96, 64) for seed in range(20, 28)]
    others = finished(http, upload(http, photos), DEADLINE_SECONDS)
    assert others["counts"]["indexed"] == 8
    job = finished(http, accepted, DEADLINE_SECONDS)
    assert job["status"] == "partial"
    assert job["counts"] | {"indexed": 9, "failed": 3} == job["counts"]
    rows = items(http, job)
    assert [row["code"] for row in rows if row["status"] == "failed"] == [
        "internal",
        "internal",
        "corrupt_image",
    ]
    assert [row["index"] for row in rows if row["status"] == "failed"] == [1, 6, 7]
    assert "crashed the process that read it" in rows[1]["detail"]
    found = http.post("/v1/search", json={"text": "x", "filters": {"nsfw": {"gte": 0}}})  # for NSFW_MAX is 0
    assert len(found.json()["results"]) == 17
    assert re.search(r"SIGSEGV|signal 11", stack.log("fetch"))  # the workers did die of it


def test_the_worker_goes_on_afterwards(http: httpx.Client) -> None:
    job = finished(http, upload(http, [make_photo(seed, 96, 64) for seed in range(40, 44)]), DEADLINE_SECONDS)
    assert job["counts"]["indexed"] == 4
