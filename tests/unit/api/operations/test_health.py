import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api import readiness
from api.app import create_app
from api.encoding.encoder_loader import EncoderLoader, load_encoder
from shared.embedding import encoder as encoder_module
from shared.embedding.encoder import Encoder
from shared.errors import BlobsUnavailable, ImageSearchError, ModelUnavailable, Unavailable
from shared.services import Services
from tests.unit.counted import Counted
from tests.unit.fakes import (
    INDEX_DOWN,
    LEDGER_DOWN,
    Api,
    Down,
    StubEncoder,
    assert_problem,
    axis,
    make_api,
    make_services,
    wait_until,
    with_services,
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def body(response: TestResponse) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(response.data)
    return loaded


def test_the_process_is_alive_whatever_is_down(api: Api, tmp_path: Path) -> None:
    crippled = with_services(
        api, tmp_path, index=INDEX_DOWN, ledger=LEDGER_DOWN, blobs=Down(BlobsUnavailable("x"))
    )
    assert crippled.http.get("/healthz").status_code == 200


def test_everything_up_is_ready(api: Api) -> None:
    api.services.ledger.workers.heartbeat("a", "host", ["fetch"], 2)
    api.services.ledger.workers.heartbeat("b", "host", ["fetch", "encode", "a queue of tomorrow"], 3)
    for purpose in ("", "?for=search", "?for=ingest"):
        response = api.http.get(f"/readyz{purpose}")
        assert response.status_code == 200
        assert body(response) == {
            "ready": True,
            **{name: {"ok": True, "detail": None} for name in ("redis", "chroma", "blobs", "model")},
            "workers": {"fetch": 5, "encode": 3, "index": 0},
        }


def test_without_redis_search_is_ready_and_ingest_is_not(api: Api, tmp_path: Path) -> None:
    crippled = with_services(api, tmp_path, ledger=LEDGER_DOWN)
    response = crippled.http.get("/readyz")
    assert response.status_code == 200
    assert body(response)["redis"] == {"ok": False, "detail": "The job ledger (Redis) does not answer."}
    assert body(response)["workers"] == {"fetch": 0, "encode": 0, "index": 0}
    response = crippled.http.get("/readyz?for=ingest")
    assert response.status_code == 503
    assert body(response)["ready"] is False
    assert "Retry-After" in response.headers


def test_without_blobs_search_is_ready_and_ingest_is_not(api: Api, tmp_path: Path) -> None:
    crippled = with_services(api, tmp_path, blobs=Down(BlobsUnavailable("The blob store failed: I/O error.")))
    assert crippled.http.get("/readyz").status_code == 200
    assert crippled.http.get("/readyz?for=ingest").status_code == 503


def test_without_chroma_search_is_not_ready(api: Api, tmp_path: Path) -> None:
    response = with_services(api, tmp_path, index=INDEX_DOWN).http.get("/readyz")
    assert response.status_code == 503
    assert body(response)["ready"] is False
    assert body(response)["chroma"] == {"ok": False, "detail": "Chroma cannot be reached."}
    assert body(response)["model"]["ok"] is True


def test_what_is_raised_by_mistake_is_not_shown(api: Api, tmp_path: Path) -> None:
    response = with_services(api, tmp_path, index=Down(ValueError("/secret/path"))).http.get("/readyz")
    assert response.status_code == 503
    assert body(response)["chroma"] == {"ok": False, "detail": "ValueError"}


def test_a_dependency_that_hangs_is_not_waited_for(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "CHECK_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(readiness, "CACHE_SECONDS", 0.0)
    released, calls = threading.Event(), list[str]()

    class Hanging:
        def __getattr__(self, name: str) -> Any:
            return self

        def __call__(self) -> None:
            calls.append("")
            released.wait(30)

    slow = with_services(api, tmp_path, ledger=Hanging())
    try:
        for _ in range(8):
            response = slow.http.get("/readyz")
            assert response.status_code == 200
            assert body(response)["redis"]["detail"] == "no answer within 0.2 s"
        assert len(calls) == 2
    finally:
        released.set()


def loading(services: Services, load: Any) -> Any:
    app = create_app(services.settings, services, load=load)
    return app.test_client(), app.extensions["image_search"].models


def test_search_is_not_ready_while_the_model_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CACHE_SECONDS", 0.0)
    released = threading.Event()

    def load(*_: object) -> Any:
        assert released.wait(30)
        return StubEncoder()

    http, _ = loading(make_services(tmp_path), load)
    response = http.get("/readyz")
    assert response.status_code == 503
    assert body(response)["model"] == {"ok": False, "detail": "The model is still being loaded."}
    assert http.get("/readyz?for=ingest").status_code == 200
    assert_problem(http.post("/v1/search", json={"text": "x"}), 503, "model_not_ready")
    assert_problem(http.post("/v1/collections", json={"name": "x"}), 503, "model_not_ready")
    released.set()
    wait_until(lambda: http.get("/readyz").status_code == 200)
    assert http.post("/v1/search", json={"text": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ModelUnavailable("The model x/y is not cached."), "The model x/y is not cached."),
        (RuntimeError("/secret/path"), "The model cannot be loaded; the server's log says why."),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    tmp_path: Path, error: Exception, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "CACHE_SECONDS", 0.0)

    def load(*_: object) -> Encoder:
        raise error

    http, loader = loading(make_services(tmp_path), load)
    wait_until(lambda: body(http.get("/readyz"))["model"]["detail"] == detail)
    assert body(http.get("/readyz"))["model"] == {"ok": False, "detail": detail}
    document = assert_problem(http.post("/v1/search", json={"text": "x"}), 503, "model_unavailable")
    assert document["detail"] == detail
    loader.stop()


def test_loading_is_tried_again(tmp_path: Path) -> None:
    outcomes: list[Any] = [ImageSearchError("no"), RuntimeError("no"), StubEncoder()]

    def load() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    loader = EncoderLoader(load, retry_s=0.0)
    loader.start()
    wait_until(lambda: not outcomes and loader.encoder is not None)
    assert loader.get().name == "stub/model"


def test_a_broken_checkpoint_is_read_once_and_served_soon_after_its_repair(
    tmp_path: Path, tiny: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy / "tokenizer.json"
    config.write_text("[]")
    reads: list[Path] = []
    real = encoder_module.read_checkpoint

    def read(folder: Path, *most: object) -> Any:
        reads.append(folder)
        return real(folder, *most)

    monkeypatch.setattr(encoder_module, "read_checkpoint", read)
    services = make_services(tmp_path, model=str(copy), device="cpu")
    tries: list[None] = []

    def load() -> Encoder:
        tries.append(None)
        return load_encoder(services)

    loader = EncoderLoader(load, retry_s=0.01)
    loader.start()
    try:
        wait_until(lambda: len(tries) > 20)
        assert len(reads) == 1
        with pytest.raises(Unavailable, match=f"{copy} cannot be loaded") as caught:
            loader.get()
        assert caught.value.code == "model_unavailable"
        shutil.copy(tiny / "tokenizer.json", copy / "repaired")
        (copy / "repaired").replace(config)  # at once: half a file would be read, too
        wait_until(lambda: loader.encoder is not None)
        assert len(reads) == 2
    finally:
        loader.stop()


def test_ready_means_that_an_encode_succeeded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> Any:
        raise ImageSearchError("The device is gone.")

    monkeypatch.setattr(api.encoder, "encode_texts", fail)
    response = api.http.get("/readyz")
    assert response.status_code == 503
    assert body(response)["model"] == {"ok": False, "detail": "The device is gone."}


def test_an_encoder_that_a_crowd_keeps_busy_proves_itself(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.encoder, "encode_texts", lambda _: pytest.fail("one text more, behind theirs"))
    monkeypatch.setattr(api.encoder, "worked_at", time.monotonic() - 5)
    assert api.http.get("/readyz").status_code == 200


def test_readiness_is_asked_for_once_a_second(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr(api.services.index, "ping", lambda: asked.append(None))
    for _ in range(20):
        assert api.http.get("/readyz").status_code == 200
    assert len(asked) < 20


@pytest.mark.parametrize("parameter", ["for=everything", "for=", "purpose=ingest"])
def test_an_unknown_purpose_is_refused(api: Api, parameter: str) -> None:
    pointer = "/" + parameter.split("=", maxsplit=1)[0]
    assert_problem(api.http.get(f"/readyz?{parameter}"), 422, "invalid_request", pointer)


# Metrics


def samples(api: Api) -> dict[str, float]:
    response = api.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    rows = (line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def test_requests_and_searches_are_counted(api: Api) -> None:
    api.add(1, axis(0))
    before = samples(api)
    for _ in range(3):
        api.http.post("/v1/search", json={"text": "x"})
    api.http.get("/v1/collections/a")
    api.http.get("/v1/collections/b")
    api.http.get("/nowhere")
    api.http.open("/nowhere", method="MADEUP")
    after = samples(api)
    found = {name: value - before.get(name, 0) for name, value in after.items()}
    counter = "image_search_http_requests_total"
    assert found[f'{counter}{{method="POST",route="/v1/search",status="200"}}'] == 3
    assert found[f'{counter}{{method="GET",route="/v1/collections/<name>",status="404"}}'] == 2
    assert found[f'{counter}{{method="GET",route="unmatched",status="404"}}'] == 1
    assert found[f'{counter}{{method="other",route="unmatched",status="404"}}'] == 1
    assert found["image_search_search_encode_seconds_count"] == 3
    assert found["image_search_search_index_seconds_count"] == 3


def test_the_ledgers_gauges_are_read_at_each_scrape(api: Api) -> None:
    assert samples(api)["image_search_ledger_up"] == 1
    assert samples(api)["image_search_jobs_open"] == 0
    api.http.post("/v1/jobs", json={"urls": ["http://x/1"]})
    assert samples(api)["image_search_jobs_open"] == 1


def test_metrics_outlive_redis(api: Api, tmp_path: Path) -> None:
    found = samples(with_services(api, tmp_path, ledger=LEDGER_DOWN))
    assert found["image_search_ledger_up"] == 0
    assert "image_search_jobs_open" not in found


def test_refused_requests_are_timed(api: Api) -> None:
    counted = Counted()
    response = api.http.get("/v1/collections", headers={"Host": "evil.example"})
    assert response.status_code == 403
    labels = {"method": "GET", "route": "/v1/collections", "status": "403"}
    assert counted("http_request_seconds_count", **labels) == 1
