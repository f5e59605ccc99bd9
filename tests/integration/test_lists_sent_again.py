"""One list of URLs, sent four times: each time it costs what has changed, and everything is counted."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.image_server import ImageServer
from tests.integration.test_pipeline import finished

COUNT, CHANGED = 200, 20


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


@pytest.fixture
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


def send(http: httpx.Client, pictures: ImageServer, since: str | None, **query: str) -> dict[str, Any]:
    """One job of the whole list, as a stream of lines."""
    lines = "\n".join(
        f'{{"url": "{pictures.url(f"/kept/{n}.png")}", "key": "sku-{n}", "metadata": {{"n": {n}}}}}'
        for n in range(COUNT)
    )
    params = {"collection": "sent-again", **({"since": since} if since else {}), **query}
    pictures.statuses.clear()
    answer = http.post(
        "/v1/jobs", params=params, content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status_code == 202, answer.text
    return finished(http, answer.json()["job_id"])


def counts(job: dict[str, Any]) -> dict[str, int]:
    return {state: count for state, count in job["counts"].items() if count}


def images(http: httpx.Client) -> int:
    found: dict[str, Any] = http.get("/v1/collections/sent-again").json()
    return int(found["count"])


def test_a_list_is_sent_four_times(http: httpx.Client, pictures: ImageServer) -> None:
    first = send(http, pictures, None)
    assert counts(first) == {"indexed": COUNT}
    assert "unchanged" not in first["counts"]

    unchanged = send(http, pictures, first["job_id"])
    assert counts(unchanged) == {"unchanged": COUNT}
    assert unchanged["status"] == "succeeded"
    assert pictures.statuses == {304: COUNT}

    for number in range(CHANGED):
        pictures.versions[number] = 1
    changed = send(http, pictures, unchanged["job_id"])
    assert counts(changed) == {"unchanged": COUNT - CHANGED, "indexed": CHANGED}
    assert pictures.statuses == {304: COUNT - CHANGED, 200: CHANGED}
    assert images(http) == COUNT, "under its key a new picture replaces the old one"

    pictures.mode = "none"
    without = send(http, pictures, changed["job_id"])
    assert counts(without) == {"duplicate": COUNT}
    assert pictures.statuses == {200: COUNT}
    assert images(http) == COUNT

    page = http.get(f"/v1/jobs/{unchanged['job_id']}/items", params={"status": "unchanged"}).json()
    assert len(page["items"]) == 100
    assert all(item["image_id"] and item["status"] == "unchanged" for item in page["items"])
    refused = http.post(
        "/v1/jobs", json={"urls": ["http://x/1"], "since": first["job_id"], "collection": "other"}
    )
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/since")
