"""`on_near_duplicate: skip`, from the request to the one writer, on a stub index."""

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.ledger.ledger import Ledger
from shared.models import ItemResult, ItemState, Stage
from shared.storage import vector_log
from shared.storage.manifest import read_items, read_results, write_results
from shared.storage.vector_log import Addition, Segment
from tests.unit.fakes import Api, assert_problem, make_api
from tests.unit.stages import DIMENSION, FINGERPRINT, StubServices, drain, image, make_services
from worker.recovery import lease

INDEXED, DUPLICATE, FAILED = ItemState.INDEXED, ItemState.DUPLICATE, ItemState.FAILED
HASH, NEAR_HASH, FAR_HASH = "00000000000000ff", "000000000000000f", "ffffffffffffff00"
Look = tuple[str, str | None, tuple[float, ...]]  # id, perceptual hash, direction
A: Look = ("a", HASH, (1, 0))
NEAR_A: Look = ("near-a", NEAR_HASH, (1, 0.1))


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    return make_services(tmp_path)


def unit(direction: Sequence[float]) -> NDArray[np.float32]:
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(direction)] = direction
    return vector / np.float32(np.linalg.norm(vector))


def arrive(services: StubServices, *looks: Look, skip: bool = True, version: int = 1) -> str:
    """A job of one chunk, of pictures that look so, that waits for the index writer."""
    job_id = services.job(len(looks), chunk_size=len(looks))
    claim = services.claim()
    images = [image(one, f"{job_id}/{i}") for i, (one, _, _) in enumerate(looks)]
    found = [ItemResult(i, "", 1, image_id=one.id) for i, one in enumerate(images)]
    write_results(services.blobs, claim.chunk, Stage.FETCH, claim.token, found)
    additions = [
        Addition(i, 1, f"{job_id}:{i}", replace(one, phash=look[1]), version + i, skip)
        for i, (one, look) in enumerate(zip(images, looks, strict=True))
    ]
    vectors = np.stack([unit(direction) for _, _, direction in looks])
    segment = Segment(version, "stub", FINGERPRINT, additions, vectors)
    key = vector_log.write_segment(services.blobs, "images", claim.token, segment)
    transitions = [(i, ItemState.FETCHED) for i in range(len(looks))]
    assert services.ledger.advance(claim, transitions=transitions, next_stage=Stage.INDEX, payload=key)
    return job_id


def image_ids(services: StubServices, job_id: str) -> list[str | None]:
    total = services.ledger.get(job_id).total
    return [result.image_id for result in read_results(services.blobs, job_id, total, 0, total).values()]


def logged(services: StubServices) -> list[str]:
    segments = (vector_log.read_segment(services.blobs, key) for key in services.blobs.list("log/images/"))
    return sorted(addition.image.id for segment in segments for addition in segment.additions)


def crash(*_: object, **__: object) -> bool:
    raise RuntimeError("killed")


def test_a_near_duplicate_of_what_is_stored_is_left_out_and_names_it(services: StubServices) -> None:
    arrive(services, A)
    drain(services.real)
    job_id = arrive(services, NEAR_A)
    drain(services.real)
    assert services.states(job_id) == [DUPLICATE]
    assert image_ids(services, job_id) == ["a"]
    assert list(services.index.stored.images) == ["a"]
    assert services.index.stored.images["a"].image.sources == [services.index.stored.images["a"].image.source]
    assert logged(services) == ["a"], "a rebuild from the log must not bring it back"


def test_a_near_duplicate_of_an_earlier_item_of_the_same_write_is_left_out(services: StubServices) -> None:
    first = arrive(services, A, ("b", HASH, (0, 1)))
    second = arrive(services, NEAR_A, ("c", FAR_HASH, (1, 0)))
    drain(services.real)
    assert services.index.stored.calls == [3]
    assert services.states(first) == [INDEXED, INDEXED]
    assert services.states(second) == [DUPLICATE, INDEXED]
    assert image_ids(services, second) == ["a", "c"]
    assert logged(services) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "other",
    [("x", FAR_HASH, (1, 0)), ("x", HASH, (1, 0.4)), ("x", None, (1, 0))],
    ids=["hash", "vector", "none"],
)
def test_one_that_is_near_by_one_measure_only_is_kept(services: StubServices, other: Look) -> None:
    arrive(services, A)
    drain(services.real)
    job_id = arrive(services, other)
    drain(services.real)
    assert services.states(job_id) == [INDEXED]


def test_by_default_near_duplicates_are_kept_and_the_index_is_not_asked(services: StubServices) -> None:
    jobs = [arrive(services, A, skip=False), arrive(services, NEAR_A, skip=False)]
    drain(services.real)
    assert [services.states(job) for job in jobs] == [[INDEXED], [INDEXED]]
    assert services.index.stored.queries == 0


def test_one_that_is_kept_counts_for_the_next_that_may_be_skipped(services: StubServices) -> None:
    jobs = [arrive(services, NEAR_A, skip=False), arrive(services, A)]
    drain(services.real)
    assert [services.states(job) for job in jobs] == [[INDEXED], [DUPLICATE]]


def test_the_same_bytes_are_a_duplicate_that_adds_its_source_as_ever(services: StubServices) -> None:
    arrive(services, A)
    drain(services.real)
    job_id = arrive(services, A)
    drain(services.real)
    assert services.states(job_id) == [DUPLICATE]
    assert len(services.index.stored.images["a"].image.sources) == 2


def test_a_redelivery_after_the_write_changes_no_outcome(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer dies after Chroma has written and before the ledger knows."""
    monkeypatch.setattr(lease, "ERROR_DELAY_SECONDS", -1.0)
    jobs = [arrive(services, A, NEAR_A), arrive(services, ("near-a-2", HASH, (1, 0.05)))]
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "advance", crash)
        drain(services.real)
    assert list(services.index.stored.images) == ["a"]
    services.ledger.sweep()
    drain(services.real)
    assert [services.states(job) for job in jobs] == [[INDEXED, DUPLICATE], [DUPLICATE]]
    assert [image_ids(services, job) for job in jobs] == [["a", "a"], ["a"]]
    assert list(services.index.stored.images) == ["a"]
    assert logged(services) == ["a"]


def test_a_redelivery_after_its_near_duplicate_went_is_indexed_under_its_own_id(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "ERROR_DELAY_SECONDS", -1.0)
    arrive(services, A)
    drain(services.real)
    job_id = arrive(services, NEAR_A)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "advance", crash)
        drain(services.real)
    assert image_ids(services, job_id) == ["a"], "the first delivery got so far"
    services.index.stored.delete(["a"])
    services.ledger.sweep()
    drain(services.real)
    assert services.states(job_id) == [INDEXED]
    assert image_ids(services, job_id) == ["near-a"]
    assert "near-a" in logged(services)


def test_what_was_left_out_for_a_picture_that_is_refused_fails_with_it_and_can_be_retried(
    services: StubServices,
) -> None:
    services.index.stored.refused = {"a"}
    job_id = arrive(services, A, NEAR_A)
    drain(services.real)
    assert services.states(job_id) == [FAILED, FAILED]
    assert logged(services) == [], "a rebuild does not bring them; a retry fetches and encodes them anew"


def test_an_arrival_older_than_its_removal_is_neither_written_nor_a_reason_to_skip(
    services: StubServices,
) -> None:
    services.ledger.writer.record_removal("images", "a", 5)
    jobs = [arrive(services, A, version=4), arrive(services, NEAR_A, version=6)]
    drain(services.real)
    assert [services.states(job) for job in jobs] == [[INDEXED], [INDEXED]]
    assert list(services.index.stored.images) == ["near-a"]


# The request


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def skips(api: Api, **request: Any) -> list[bool]:
    response = api.http.post("/v1/jobs", **request)
    assert response.status_code == 202, response.text
    return [item.skip_near for item in read_items(api.services.blobs, response.get_json()["job_id"], 0, 9)]


URLS = ["http://x.test/1", "http://x.test/2"]
NDJSON = {"data": "\n".join(json.dumps({"url": url}) for url in URLS), "content_type": "application/x-ndjson"}
TEXT = {"data": "\n".join(URLS), "content_type": "text/plain"}


def form(**fields: str) -> dict[str, Any]:
    return {"data": {"files": [(BytesIO(b"x"), "a.jpg")], **fields}, "content_type": "multipart/form-data"}


def test_every_form_of_body_takes_the_option(api: Api) -> None:
    assert skips(api, json={"urls": URLS, "on_near_duplicate": "skip"}) == [True, True]
    for streamed in (NDJSON, TEXT):
        assert skips(api, query_string={"on_near_duplicate": "skip"}, **streamed) == [True, True]
        assert skips(api, **streamed) == [False, False]
    assert skips(api, **form(on_near_duplicate="skip")) == [True]
    assert skips(api, query_string={"on_near_duplicate": "skip"}, **form()) == [True]
    assert skips(api, query_string={"on_near_duplicate": "skip"}, json={"urls": URLS}) == [True, True]


def test_the_body_says_it_over_the_query_string(api: Api) -> None:
    query = {"on_near_duplicate": "skip"}
    assert skips(api, query_string=query, json={"urls": URLS, "on_near_duplicate": "keep"}) == [False, False]
    assert skips(api, query_string=query, **form(on_near_duplicate="keep")) == [False]


@pytest.mark.parametrize(
    "request_of",
    [
        {"json": {"urls": URLS, "on_near_duplicate": "drop"}},
        {"query_string": {"on_near_duplicate": "drop"}, **TEXT},
    ],
)
def test_another_value_is_pointed_at(api: Api, request_of: dict[str, Any]) -> None:
    assert_problem(api.http.post("/v1/jobs", **request_of), 422, "invalid_request", "/on_near_duplicate")


def test_another_value_in_a_form_is_pointed_at(api: Api) -> None:
    response = api.http.post("/v1/jobs", **form(on_near_duplicate="drop"))
    assert_problem(response, 422, "invalid_request", "/on_near_duplicate")


def test_the_option_is_part_of_what_an_idempotency_key_stands_for(api: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    assert api.http.post("/v1/jobs", json={"urls": URLS}, headers=headers).status_code == 202
    other = {"urls": URLS, "on_near_duplicate": "skip"}
    assert_problem(api.http.post("/v1/jobs", json=other, headers=headers), 422, "idempotency_mismatch")
