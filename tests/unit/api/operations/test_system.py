import json
from pathlib import Path
from typing import Any

import pytest

from shared.models import ItemState, JobError, Stage
from shared.services import Services
from tests.unit.fakes import INDEX_DOWN, LEDGER_DOWN, Api, Down, axis, make_api, with_services


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def system(api: Api) -> dict[str, Any]:
    response = api.http.get("/v1/system")
    assert response.status_code == 200, response.text
    loaded: dict[str, Any] = json.loads(response.data)
    return loaded


def failing_job(services: Services, job_id: str, failures: int) -> None:
    """A job of which every item failed."""
    services.ledger.create(job_id, collection="images", total=failures, chunk_size=failures)
    (chunk,) = services.ledger.dispatch()
    claim = services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    errors = [JobError(index, f"http://x/{index}", "timeout", "No answer.") for index in range(failures)]
    services.ledger.advance(
        claim, transitions=[(i, ItemState.FAILED) for i in range(failures)], errors=errors
    )


def test_all_is_told_while_all_is_up(api: Api) -> None:
    api.add(1, axis(0))
    api.services.ledger.workers.heartbeat("fetch-1", "host-a", ["fetch"], 4)
    found = system(api)
    assert found["readiness"]["ready"] is True
    assert found["model"] == {
        "name": api.encoder.name,
        "kind": "clip",
        "fingerprint": api.encoder.fingerprint,
        "dimension": api.encoder.dimension,
        "max_tokens": 77,
        "device": "cpu",
        "device_name": "a stub",
        "precision": "fp32",
    }
    (model,) = found["models"]
    assert (model["name"], model["state"], model["dimension"]) == (api.encoder.name, "loaded", 8)
    (collection,) = found["collections"]
    assert (collection["name"], collection["count"]) == ("images", 1)
    (worker,) = found["jobs"]["workers"]
    assert (worker["id"], worker["host"], worker["queues"], worker["slots"]) == (
        "fetch-1",
        "host-a",
        ["fetch"],
        4,
    )
    assert found["errors"] == []
    assert found["versions"].keys() >= {"python", "torch", "chromadb"}
    assert found["missing"] == {}


def test_a_collection_s_model_that_cannot_be_had_is_told(api: Api, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    api.services.index.create("cats", model=gone, fingerprint="9" * 16, dimension=4)
    loaded, absent = system(api)["models"]
    assert loaded["name"] == api.encoder.name
    assert (absent["name"], absent["state"], absent["dimension"]) == (gone, "absent", 4)
    assert "There is no checkpoint" in absent["detail"]


def test_queues_tell_what_waits_from_what_a_worker_holds(api: Api) -> None:
    ledger = api.services.ledger
    ledger.create("job", collection="images", total=3, chunk_size=1)
    chunks = ledger.dispatch()
    ledger.claim(chunks[0], Stage.FETCH)
    jobs = system(api)["jobs"]
    assert jobs["open"] == 1
    assert jobs["queues"] == [
        {"stage": "fetch", "waiting": 2, "running": 1, "items": 2, "oldest_wait_s": pytest.approx(0, abs=60)},
        {"stage": "encode", "waiting": 0, "running": 0, "items": 0, "oldest_wait_s": None},
        {"stage": "index", "waiting": 0, "running": 0, "items": 0, "oldest_wait_s": None},
    ]


def test_the_newest_job_s_errors_come_first_and_none_fills_the_list(api: Api) -> None:
    failing_job(api.services, "older", 2)
    failing_job(api.services, "newer", 9)
    errors = system(api)["errors"]
    assert [(error["job_id"], error["index"]) for error in errors] == [
        *(("newer", index) for index in range(5)),
        ("older", 0),
        ("older", 1),
    ]
    assert errors[0]["code"] == "timeout"
    assert errors[0]["created_at"].endswith("Z")


def test_without_redis_the_rest_is_told(api: Api, tmp_path: Path) -> None:
    found = system(with_services(api, tmp_path, ledger=LEDGER_DOWN))
    assert found["jobs"] is None
    assert found["errors"] is None
    assert found["missing"] == dict.fromkeys(
        ("jobs", "ingestion", "errors"), "The job ledger (Redis) does not answer."
    )
    assert found["collections"] == []
    assert found["model"]


def test_without_chroma_the_rest_is_told(api: Api, tmp_path: Path) -> None:
    found = system(with_services(api, tmp_path, index=INDEX_DOWN))
    assert found["collections"] is None
    assert found["missing"] == {"collections": "Chroma cannot be reached."}
    assert found["jobs"]["open"] == 0


def test_what_fails_between_two_looks_is_missing_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    system(api)  # readiness is remembered for a second
    monkeypatch.setattr(api.services.index, "collections", INDEX_DOWN.collections)
    assert system(api)["missing"] == {"collections": "Chroma cannot be reached."}


def test_what_is_raised_by_mistake_is_not_shown(api: Api, tmp_path: Path) -> None:
    found = system(with_services(api, tmp_path, index=Down(ValueError("/secret/path"))))
    assert found["missing"] == {"collections": "ValueError"}


def test_what_limits_ingestion_is_told_as_the_metric_has_it(api: Api) -> None:
    ledger = api.services.ledger
    assert system(api)["ingestion"] == {"limited_by": "nothing", "detail": "Nothing waits."}
    ledger.create("job", collection="images", total=3, chunk_size=1)
    found = system(api)["ingestion"]
    assert found["limited_by"] == "fetch"
    assert "image-search worker --queues fetch" in found["detail"]
    page = api.http.get("/metrics").text
    assert 'image_search_ingest_limited_by{by="fetch"} 1.0' in page
    assert 'image_search_ingest_limited_by{by="nothing"} 0.0' in page
