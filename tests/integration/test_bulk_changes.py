"""Deleting and updating many pictures as jobs, over HTTP on the real stack, by its worker processes."""

import json
from typing import Any

import httpx
import pytest

from image_search import Client
from shared.storage.blobs import file_key
from tests.image_server import ImageServer
from tests.integration.test_keys import by_key, finished, ingest, photo
from tests.services import services_of
from tests.stack import Stack
from worker.recovery import rebuild

PICTURES = 12


@pytest.fixture(scope="module")
def stack(small_chunks: Stack) -> Stack:
    return small_chunks


def change(http: httpx.Client, what: str, **body: Any) -> dict[str, Any]:
    answer = http.post(f"/v1/images/{what}", json=body)
    assert answer.status_code == 202, answer.text
    return finished(http, answer.json()["job_id"])


def some(job: dict[str, Any]) -> dict[str, int]:
    return {state: count for state, count in job["counts"].items() if count}


def test_pictures_are_updated_and_deleted_by_filters_keys_and_ids(
    stack: Stack, pictures: ImageServer
) -> None:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        where = {"collection": "bulk"}
        urls = [(photo(pictures, 700 + n), f"k{n}") for n in range(PICTURES)]
        assert ingest(http, "bulk", *urls[:8], shop="north") == ["indexed"] * 8
        assert ingest(http, "bulk", *urls[8:], shop="south") == ["indexed"] * 4
        dry = change(http, "update", filters={"shop": "north"}, metadata={"shop": "x"}, dry_run=True, **where)
        assert (dry["result"]["counts"]["updated"], len(dry["result"]["ids"])) == (8, 8)
        updated = change(http, "update", filters={"shop": "north"}, metadata={"shop": "x", "n": 1}, **where)
        assert (updated["kind"], some(updated)) == ("update", {"updated": 8})
        found = by_key(http, "bulk", "k3")
        assert found is not None
        assert found["metadata"] == {"shop": "x", "n": 1}
        assert some(change(http, "delete", keys=["k3", "none"], **where)) == {"removed": 1, "unchanged": 1}
        assert by_key(http, "bulk", "k3") is None
        assert http.get(f"/v1/images/{found['id']}/thumbnail", params=where).status_code == 404
        assert some(change(http, "delete", filters={"shop": "south"}, **where)) == {"removed": 4}
        found = http.get("/v1/images", params=where | {"filters": json.dumps({"shop": "x"})}).json()["images"]
        assert len(found) == 7
        with Client(stack.url) as client:
            job = client.wait(client.delete([one["id"] for one in found[:5]], collection="bulk").job_id)
            assert (job.status, job.counts["removed"]) == ("succeeded", 5)
            assert client.collection("bulk").count == 2
        services = services_of(stack)
        assert not rebuild.verify(services, "bulk")
        for one in found:
            is_there = services.blobs.exists(file_key("bulk", one["id"], "thumbnail"))
            assert is_there is (one in found[5:])
        refused = http.post("/v1/images/delete", json={"filters": {"shop": "x"}, **where})
        assert (refused.status_code, "all" in refused.json()["detail"]) == (422, True)
        # What was deleted comes back with a later job.
        assert ingest(http, "bulk", urls[3]) == ["indexed"]
        assert some(change(http, "delete", filters={}, all=True, **where)) == {"removed": 3}
