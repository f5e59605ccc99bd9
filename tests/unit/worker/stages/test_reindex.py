"""Reindexing: API, stages, writer and switch in this process, on the real ledger scripts and Chroma."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from api.collections import transfers as api_moves
from api.collections.named_models import NamedModel
from api.images import edits
from api.images.edits import remove_collection
from image_search import Client
from image_search.cli import common
from image_search.cli.collections import reindex as reindex_command
from shared.embedding import tagging
from shared.embedding.encoder import Encoder
from shared.errors import CollectionNotFound, InvalidRequest, ItemError, ModelMismatch, ModelUnavailable
from shared.index import index as index_module
from shared.index.collection import Collection
from shared.index.connection import calls
from shared.index.provenance import KeyRecord
from shared.index.records import MARK
from shared.ledger.ledger import FINAL
from shared.ledger.processes import LoadFailure
from shared.models import Chunk, Claim, Image, Stage
from shared.storage import vector_log
from shared.storage.arrays import pack
from shared.storage.blobs import FILE_KINDS, file_key, log_prefix
from tests.unit.client_server import Server
from tests.unit.client_server import job as job_document
from tests.unit.fakes import (
    PREPROCESS,
    Api,
    StubEncoder,
    assert_problem,
    axis,
    image_id,
    make_api,
    make_services,
    picture,
    wait_until,
)
from tests.unit.stages import StubDispatcher, drain
from worker import app as worker_app
from worker import encoders as encoders_module
from worker.encoders import EncoderClock
from worker.pipelines import handler_of
from worker.recovery import rebuild
from worker.recovery.lease import MAX_DELIVERIES, exhausted, releasing
from worker.stages import reindex
from worker.stages.transition import fail_chunk

OLD, NEW = "5" * 16, "6" * 16
MODEL = {"model": "big/model"}
PATH = "/v1/collections/images/reindex"


def named(_: object, name: str, **_options: object) -> NamedModel:
    return NamedModel(name, OLD if name == "stub/model" else NEW, 8)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(index_module, "POINTER_TTL_SECONDS", 0.0)
    monkeypatch.setattr(encoders_module, "preprocess_of", lambda _: PREPROCESS)
    monkeypatch.setattr(reindex, "SEARCHES_SECONDS", 0.0)
    monkeypatch.setattr(api_moves, "named_model", named)
    services = make_services(tmp_path, chunk_size=4)
    return make_api(tmp_path, replace(services, dispatcher=cast(Any, StubDispatcher())))


def fill(api: Api, count: int = 6, *, kept: bool = True, start: int = 0) -> None:
    for number in range(start, start + count):
        added = api.add(number, axis(number % 8), metadata={"n": number})
        image = images(api).get(added)
        addition = vector_log.Addition(number, 1, f"job:{number}", image, number)
        segment = vector_log.Segment(number, "stub/model", OLD, [addition], axis(number % 8)[None])
        vector_log.write_segment(api.services.blobs, "images", "x", segment)
        if kept:
            key = file_key("images", image_id(number), "rendition")
            api.services.blobs.put(key, picture((number, 0, 0)))


def encoded(api: Api, claim: Claim) -> None:
    encoders = SimpleNamespace(of=lambda header: StubEncoder(header["model"], header["fingerprint"]))
    tools = SimpleNamespace(services=api.services, encoders=encoders, clock=EncoderClock())
    with releasing(api.services.ledger, [claim]):
        handler_of(claim)(cast(Any, tools), claim)


def work(api: Api, before_finish: Callable[[], object] = lambda: None) -> None:
    """What the workers do until nothing is left; `before_finish` comes after the items, before the switch."""
    ledger = api.services.ledger
    while chunks := ledger.dispatch():
        for chunk in chunks:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            reindex.begin(api.services, claim)
    while claims := ledger.claim_ready(Stage.ENCODE, 1):
        if claims[0].payload == FINAL:
            before_finish()
        encoded(api, claims[0])
        drain(api.services)
    drain(api.services)
    for claim in ledger.claim_ready(Stage.ENCODE, 1):
        before_finish()
        encoded(api, claim)


def claim_of(api: Api, stage: Stage) -> Claim:
    ledger = api.services.ledger
    if stage is Stage.FETCH:
        claim = ledger.claim(ledger.dispatch()[0], stage)
    else:
        (claim,) = ledger.claim_ready(stage, 1)
    assert claim is not None
    return claim


def job_of(api: Api, before_finish: Callable[[], object] = lambda: None, **body: Any) -> dict[str, Any]:
    response = api.http.post(PATH, json=MODEL | body)
    assert response.status_code == 202, response.text
    work(api, before_finish)
    job: dict[str, Any] = api.http.get(response.headers["Location"]).json
    assert sum(job["counts"].values()) == job["total"]
    return job


def images(api: Api) -> Collection:
    return api.services.index.collection("images")


def known_of(api: Api, number: int) -> tuple[str, Image]:
    """Return what is known of a picture but for what the model says of it."""
    owner, image = images(api).owners([image_id(number)])[image_id(number)]
    return owner, replace(image, tags=[], nsfw=None)


def vector_of(number: int) -> Any:
    crop = reindex.open_query_image(picture((number, 0, 0)), PREPROCESS, 10**6)
    return StubEncoder().encode_images(crop[None])[0]


def test_a_collection_is_encoded_anew_and_switched_with_all_that_is_known(api: Api) -> None:
    fill(api)
    known = [known_of(api, n) for n in range(6)]
    job = job_of(api)
    assert (job["kind"], job["status"], job["counts"]["indexed"]) == ("reindex", "succeeded", 6)
    assert job["result"]["switched"] is True
    assert "Switched to big/model." in job["result"]["detail"]
    made = images(api)
    assert (made.pointer.fingerprint, made.pointer.model) == (NEW, "big/model")
    assert [known_of(api, n) for n in range(6)] == known
    assert all(np.allclose(made.vector(image_id(n)), vector_of(n), atol=1e-6) for n in range(6))
    assert [info.name for info in api.services.index.collections()] == ["images"]
    assert api.services.blobs.folders(log_prefix("images")) == [NEW]
    assert not rebuild.verify(api.services, "images")


def test_tags_and_nsfw_are_the_new_model_s_in_the_collection_and_in_its_log(api: Api) -> None:
    fill(api, 3)
    stored = images(api).stored([image_id(n) for n in range(3)]).values()
    old = [replace(one, image=replace(one.image, tags=["old e\u0301"], nsfw=0.5)) for one in stored]
    images(api).update(old)

    def meanwhile() -> None:
        one = images(api).stored([image_id(1)])[image_id(1)]
        images(api).update([replace(one, image=replace(one.image, metadata={"n": 7}))])
        fill(api, 1, start=10)

    assert job_of(api, meanwhile)["result"]["switched"]
    encoder = StubEncoder("big/model", NEW)
    for again in (False, True):
        if again:
            rebuild.rebuild(api.services, "images")
        for number in (0, 1, 2, 10):
            found = images(api).get(image_id(number))
            (told,) = tagging.describe(encoder, api.services.settings, [found], vector_of(number)[None])
            assert (found.tags, found.nsfw) == (told.tags, told.nsfw)
            assert "old" not in str(found.tags)
            assert found.nsfw not in (None, 0.5)
        assert again or images(api).get(image_id(1)).metadata == {"n": 7}


def test_of_a_model_that_knows_no_english_a_former_nsfw_goes(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api, 2)
    stored = images(api).stored([image_id(n) for n in range(2)]).values()
    images(api).update([replace(one, image=replace(one.image, tags=["cat"], nsfw=0.5)) for one in stored])
    monkeypatch.setattr(StubEncoder, "knows_english", False)
    assert job_of(api)["result"]["switched"]
    found = [images(api).get(image_id(n)) for n in range(2)]
    assert [(one.tags, one.nsfw) for one in found] == [([], None)] * 2
    assert not {"tags", "nsfw"} & images(api).records([image_id(0)])[image_id(0)].keys()


def test_what_hnsw_lost_of_the_new_vectors_is_marked_before_the_switch(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    lost: list[str] = []

    def missed(_: Collection, vectors: dict[str, Any]) -> list[str]:
        lost.extend(one for one in vectors if one in (image_id(2), image_id(10)))
        return [one for one in vectors if one in lost]

    monkeypatch.setattr(Collection, "lost", missed)
    marked: list[set[str]] = []
    switch = index_module.Index.switch

    def look(index: Any, name: str, staged: Collection, **options: Any) -> Collection:
        with calls(5.0):
            chroma = index.open(staged.pointer.name).chroma
            marked.append(set(chroma.get(where={MARK: 1}, include=[])["ids"]))
        return switch(index, name, staged, **options)

    monkeypatch.setattr(index_module.Index, "switch", look)
    assert job_of(api, lambda: fill(api, 2, start=10))["result"]["switched"]
    assert sorted(lost) == sorted([image_id(2), image_id(10)])
    assert marked == [set(lost)], "those of the stages and of the last pass"


def test_odd_records_go_over_as_they_are(api: Api) -> None:
    fill(api, 3)
    odd = {"id": "x", "taken_at": 1e300, "width": "wide", "_owner": 5, "_extra": "{", "_contributions": "[7]"}
    with calls(20.0):
        chroma = api.services.index.open("images").chroma
        chroma.update([image_id(1)], metadatas=[cast(Any, odd)])
    job = job_of(api)
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True)
    assert images(api).pointer.model == "big/model"
    assert sorted(images(api).ids()) == [image_id(number) for number in range(3)]
    shown = api.http.get(f"/v1/images/{image_id(1)}")
    assert (shown.status_code, shown.json["taken_at"], shown.json["width"]) == (200, None, None)


def test_a_segment_with_the_same_picture_twice_is_carried_over_too(api: Api) -> None:
    fill(api, 2)
    image = images(api).get(image_id(1))
    additions = [vector_log.Addition(n, 1, "job:1", image, 100 + n) for n in range(2)]
    segment = vector_log.Segment(100, "stub/model", OLD, additions, np.stack([axis(1)] * 2))
    vector_log.write_segment(api.services.blobs, "images", "twice", segment)
    job = job_of(api)
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True)
    assert not rebuild.verify(api.services, "images")


def test_a_switch_that_is_given_up_says_why(api: Api) -> None:
    fill(api, 2)
    response = api.http.post(PATH, json=MODEL)
    ledger = api.services.ledger
    reindex.begin(api.services, claim_of(api, Stage.FETCH))
    encoded(api, claim_of(api, Stage.ENCODE))
    drain(api.services)
    final = claim_of(api, Stage.ENCODE)
    assert final.payload == FINAL
    fail_chunk(api.services, final, exhausted(final))
    job = api.http.get(response.headers["Location"]).json
    assert job["status"] == "partial"
    assert job["result"] == {"switched": False, "detail": exhausted(final).detail}
    assert ledger.sweep() == []


def a_process(api: Api, of: Callable[[Claim], Any]) -> worker_app.Process:
    """An encode process whose encoders are what `of` says."""
    process = worker_app.Process.__new__(worker_app.Process)
    process.services, process.clock = api.services, EncoderClock()
    process.encoders = cast(Any, SimpleNamespace(of=of))
    return process


def test_a_model_that_is_refused_for_good_ends_the_job_at_once_and_a_retry_goes_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api, 12)
    cropped: list[str] = []
    real = reindex.crop_of
    monkeypatch.setattr(reindex, "crop_of", lambda *call: cropped.append(call[2]) or real(*call))
    detail = "The model big/model cannot be loaded: its weights lack x; repair its files."

    def refuse(_: Claim) -> Encoder:
        raise ModelUnavailable(detail)

    response = api.http.post(PATH, json=MODEL)
    process, ledger = a_process(api, refuse), api.services.ledger
    for chunk in ledger.dispatch():
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        process._handle(claim)
        for at_encode in ledger.claim_ready(Stage.ENCODE, 1):  # after the last items, the final chunk
            process._handle(at_encode)
    assert len(cropped) == 4, "the chunks after the refused one are not even cropped"
    job = api.http.get(response.headers["Location"]).json
    assert (job["status"], job["counts"]["failed"]) == ("failed", 12)
    assert job["result"] == {"switched": False, "detail": detail}
    assert {(error["code"], error["detail"]) for error in job["errors"]} == {("encode_error", detail)}
    assert ledger.sweep() == []

    assert api.http.post(f"/v1/jobs/{job['job_id']}/retry").json["result"] is None
    work(api)
    job = api.http.get(response.headers["Location"]).json
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True)


def test_a_model_that_cannot_be_had_now_is_waited_for_ever_longer_and_then_given_up(api: Api) -> None:
    fill(api, 2)
    response = api.http.post(PATH, json=MODEL)
    ledger = api.services.ledger
    reindex.begin(api.services, claim_of(api, Stage.FETCH))
    detail = "The model big/model cannot be had: it cannot be downloaded from the model hub."

    def unreachable(_: Claim) -> Encoder:
        raise ModelUnavailable(detail, passing=True)

    process = a_process(api, unreachable)
    delays = []
    for _ in range(MAX_DELIVERIES):
        claim = claim_of(api, Stage.ENCODE)
        process._handle(claim)
        if ref := ledger._redis.client.zrange("is:due", 0, -1, withscores=True):
            delays.append(round(ref[0][1] - ledger._redis.now()))
            ledger._redis.client.zadd("is:due", {ref[0][0]: 0})
            ledger.sweep()
    assert delays[:9] == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    job = api.http.get(response.headers["Location"]).json
    assert job["counts"]["failed"] == 2
    assert job["errors"][0]["detail"] == detail


def test_keys_stay_with_the_collection(api: Api) -> None:
    fill(api)
    api.add(1, axis(1), keys=["sku"])
    images(api).write_keys([KeyRecord("sku", 1, image_id(1))])
    before = images(api).pointer
    job_of(api)
    made = images(api)
    assert (made.pointer.fingerprint, made.pointer.keys) == (NEW, before.keys)
    holder = made.by_key("sku")
    assert holder is not None
    assert holder.image.id == image_id(1)


def test_a_server_that_cannot_load_the_new_model_says_so_after_the_switch(api: Api) -> None:
    fill(api)
    assert api.http.get("/v1/search?text=axis 1").status_code == 200
    job_of(api, lambda: api.http.get("/v1/search?text=axis 1").status_code == 200 or pytest.fail("no search"))
    api.services.index._cache.clear()
    wait_until(lambda: "big/model is not here" in api.http.get("/v1/search?text=axis 1").text)
    assert_problem(api.http.get("/v1/search?text=axis 1"), 503, "model_unavailable")


def test_what_arrives_changes_and_goes_before_the_switch_is_carried_over(api: Api) -> None:
    fill(api)

    def meanwhile() -> None:
        fill(api, 3, start=10)
        edits.remove_image(api.services, "images", image_id(2))
        api.add(3, axis(3), metadata={"other": "x"})
        change: dict[str, Any] = {"op": "patch", "id": image_id(3), "metadata": {"n": None, "other": "x"}}
        change["version"] = 10**6
        header = {"version": 10**6, "model": "", "fingerprint": OLD}
        key = f"{log_prefix('images')}{OLD}/{10**6:020d}-patch.npz"
        api.services.blobs.put(key, pack(header, [change], np.empty((0, 0), np.float32)))

    assert job_of(api, meanwhile)["status"] == "succeeded"
    made = images(api)
    assert sorted(made.ids()) == [image_id(n) for n in (0, 1, 3, 4, 5, 10, 11, 12)]
    assert made.get(image_id(3)).metadata == {"other": "x"}
    assert np.allclose(made.vector(image_id(11)), vector_of(11), atol=1e-6)
    assert not rebuild.verify(api.services, "images")
    rebuild.rebuild(api.services, "images")
    assert images(api).get(image_id(3)).metadata == {"other": "x"}
    assert images(api).count() == 8


def test_a_picture_deleted_between_fetch_and_index_is_gone_from_the_log_too(api: Api) -> None:
    fill(api)
    api.http.post(PATH, json=MODEL)
    for chunk in api.services.ledger.dispatch():
        claim = api.services.ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        reindex.begin(api.services, claim)
    edits.remove_image(api.services, "images", image_id(2))
    work(api)
    assert images(api).count() == 5
    assert not rebuild.verify(api.services, "images")


def test_a_change_through_a_pointer_from_before_the_switch_is_carried_over(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)

    def by_another_process() -> None:
        api.services.index.open(f"images~{NEW}").chroma.delete([image_id(1)])

    monkeypatch.setattr(index_module.Index, "wait_for_pointers", staticmethod(by_another_process))
    job_of(api)
    assert sorted(images(api).ids()) == [image_id(n) for n in (0, 2, 3, 4, 5)]


def test_pictures_with_nothing_kept_fail_and_keep_the_collection_as_it_is(api: Api) -> None:
    fill(api, 4)
    fill(api, 2, start=4, kept=False)
    job = job_of(api)
    assert (job["status"], job["counts"]["failed"]) == ("partial", 2)
    assert {error["code"] for error in job["errors"]} == {"encode_error"}
    assert "KEEP=none" in job["errors"][0]["detail"]
    assert job["result"]["switched"] is False
    assert "allow_missing" in job["result"]["detail"]
    assert images(api).pointer.fingerprint == OLD
    assert api.http.get("/v1/search?text=axis 1").status_code == 200


def test_with_allow_missing_they_are_left_out_and_nothing_is_encoded_twice(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api, 4)
    fill(api, 2, start=4, kept=False)
    api.services.blobs.put(file_key("images", image_id(5), "thumbnail"), b"x")
    job_of(api)
    monkeypatch.setattr("worker.stages.encode.run", lambda *_: pytest.fail("encoded again"))
    job = job_of(api, allow_missing=True)
    assert (job["status"], job["result"]["switched"]) == ("partial", True)
    assert "Pictures left out: 2." in job["result"]["detail"]
    assert sorted(images(api).ids()) == [image_id(n) for n in range(4)]
    kinds = [file_key("images", image_id(5), kind) for kind in FILE_KINDS]
    assert not any(api.services.blobs.exists(key) for key in kinds)


def test_a_retry_takes_what_was_kept_since_and_switches(api: Api) -> None:
    fill(api, 3)
    fill(api, 1, start=3, kept=False)
    job = job_of(api)
    assert job["result"]["switched"] is False
    api.services.blobs.put(file_key("images", image_id(3), "original"), picture((3, 0, 0)))
    api.http.post(f"/v1/jobs/{job['job_id']}/retry")
    work(api)
    again = api.http.get(f"/v1/jobs/{job['job_id']}").json
    assert (again["status"], again["result"]["switched"]) == ("succeeded", True)
    assert images(api).count() == 4


def test_a_cancelled_reindex_changes_nothing_and_the_next_goes_on(api: Api) -> None:
    fill(api)
    response = api.http.post(PATH, json=MODEL)
    (first, *_) = api.services.ledger.dispatch()
    claim = api.services.ledger.claim(first, Stage.FETCH)
    assert claim is not None
    reindex.begin(api.services, claim)
    assert api.http.delete(response.headers["Location"]).json["status"] == "cancelled"
    work(api)
    assert api.http.get(response.headers["Location"]).json["status"] == "cancelled"
    assert images(api).pointer.fingerprint == OLD
    assert job_of(api)["status"] == "succeeded"


def test_a_cancel_just_before_the_switch_prevents_it(api: Api) -> None:
    fill(api)
    response = api.http.post(PATH, json=MODEL)
    work(api, lambda: api.http.delete(response.headers["Location"]))
    assert api.http.get(response.headers["Location"]).json["status"] == "cancelled"
    assert images(api).pointer.fingerprint == OLD


def test_a_worker_that_dies_right_after_the_switch_has_its_work_completed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    response = api.http.post(PATH, json=MODEL)
    with monkeypatch.context() as patch:
        patch.setattr(index_module.Index, "wait_for_pointers", staticmethod(lambda: 1 / 0))
        work(api)
    assert images(api).pointer.fingerprint == NEW
    ledger = api.services.ledger
    monkeypatch.setattr("worker.recovery.lease.ERROR_DELAY_SECONDS", 0.0)
    for ref in ledger._redis.client.zrange("is:due", 0, -1):  # its delay is over
        ledger._redis.client.zadd("is:due", {ref: 0})
    ledger.sweep()
    work(api)
    job = api.http.get(response.headers["Location"]).json
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True)
    assert images(api).count() == 6
    with pytest.raises(CollectionNotFound):
        api.services.index.staged("images", NEW)


def look_again(api: Api) -> None:
    """What the sweeper does when the final chunk's delay is over."""
    redis = api.services.ledger._redis.client
    for ref in redis.zrange("is:due", 0, -1):
        redis.zadd("is:due", {ref: 0})
    api.services.ledger.sweep()
    work(api)


def test_the_switch_waits_until_every_api_process_has_the_model_loaded(api: Api) -> None:
    fill(api)
    models = api.services.ledger.models
    for process, loaded in (("slow", [OLD]), ("quick", [OLD, NEW])):
        models.heartbeat(process, loaded, {})
    response = api.http.post(PATH, json=MODEL)
    work(api)
    for _ in range(MAX_DELIVERIES + 1):
        look_again(api)
    assert images(api).pointer.fingerprint == OLD
    assert models.announced() == {NEW: "big/model"}
    models.heartbeat("slow", [OLD, NEW], {})
    look_again(api)
    assert images(api).pointer.fingerprint == NEW
    assert api.http.get(response.headers["Location"]).json["result"]["switched"]
    assert not models.announced(), "the announcement ends with the job"


def test_an_api_process_that_cannot_load_the_model_prevents_the_switch_and_the_next_try_goes_on(
    api: Api,
) -> None:
    fill(api)
    models = api.services.ledger.models
    models.heartbeat("broken", [OLD], {NEW: LoadFailure("Its weights lack x.", passing=False)})
    job = job_of(api)
    assert (job["status"], job["result"]["switched"]) == ("partial", False)
    assert job["result"]["detail"].endswith("an API process cannot load big/model. Its weights lack x.")
    assert images(api).pointer.fingerprint == OLD
    assert not models.announced()
    models.heartbeat("broken", [OLD, NEW], {})
    assert job_of(api)["result"]["switched"]


def test_after_a_time_the_switch_waits_for_no_api_process_that_still_loads(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    api.services.ledger.models.heartbeat("slow", [OLD], {})
    monkeypatch.setattr(reindex, "LOADING_SECONDS", 0.0)
    assert job_of(api)["result"]["switched"]


def test_an_api_process_that_cannot_load_the_model_now_is_waited_for_and_at_the_end_prevents_the_switch(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    models = api.services.ledger.models
    trouble = {NEW: LoadFailure("The model hub is away.", passing=True)}
    models.heartbeat("api", [OLD], trouble)
    response = api.http.post(PATH, json=MODEL)
    work(api)
    look_again(api)
    assert api.http.get(response.headers["Location"]).json["status"] == "running"
    with monkeypatch.context() as patch:
        patch.setattr(reindex, "LOADING_SECONDS", 0.0)
        look_again(api)
    job = api.http.get(response.headers["Location"]).json
    assert (job["status"], job["result"]["switched"]) == ("partial", False)
    assert job["result"]["detail"].endswith("The model hub is away.")
    assert images(api).pointer.fingerprint == OLD

    models.heartbeat("api", [OLD], trouble)
    response = api.http.post(PATH, json=MODEL)
    work(api)
    models.heartbeat("api", [OLD, NEW], {})
    look_again(api)
    assert api.http.get(response.headers["Location"]).json["result"]["switched"]


def begin(api: Api, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        claim = api.services.ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        reindex.begin(api.services, claim)


@pytest.mark.parametrize("far", ["not begun", "fetched", "encoded"])
def test_two_reindexes_to_one_model_both_succeed_and_say_so(api: Api, far: str) -> None:
    fill(api)
    ledger = api.services.ledger
    slow = api.http.post(PATH, json=MODEL)
    chunks = ledger.dispatch()
    left: list[Claim] = []
    if far != "not begun":
        begin(api, chunks)
        left = [claim_of(api, Stage.ENCODE) for _ in chunks]
    if far == "encoded":
        for claim in left:
            encoded(api, claim)
    quick = api.http.post(PATH, json=MODEL)
    work(api)
    assert images(api).pointer.fingerprint == NEW
    if far == "not begun":
        begin(api, chunks)
    elif far == "fetched":
        for claim in left:
            encoded(api, claim)
    drain(api.services)
    look_again(api)
    for response in (quick, slow):
        job = api.http.get(response.headers["Location"]).json
        assert (job["status"], job["result"]["switched"], job["errors"]) == ("succeeded", True, [])
        assert job["result"]["detail"] == "Switched to big/model."
    assert images(api).count() == 6
    assert not rebuild.verify(api.services, "images")
    assert len(api.services.blobs.list(log_prefix("images"))) == 6, "none is there twice"
    with pytest.raises(CollectionNotFound):
        api.services.index.staged("images", NEW)


def test_what_the_writer_has_yet_to_read_when_another_reindex_to_that_model_switches_is_not_lost(
    api: Api,
) -> None:
    fill(api)
    ledger, redis = api.services.ledger, api.services.ledger._redis.client
    job = api.http.post(PATH, json=MODEL)
    begin(api, ledger.dispatch())
    encoded(api, claim_of(api, Stage.ENCODE))
    (segment,) = api.services.blobs.list(f"{log_prefix('images')}{NEW}/")
    api.services.blobs.delete(segment)  # as the other does before its switch
    drain(api.services)
    for ref in redis.zrange("is:due", 0, -1):
        redis.zadd("is:due", {ref: 0})
    begin(api, [chunk for stage, chunk in ledger.sweep() if stage is Stage.FETCH])
    work(api)
    ended = api.http.get(job.headers["Location"]).json
    assert (ended["status"], ended["result"]["switched"], ended["errors"]) == ("succeeded", True, [])


def test_of_two_reindexes_to_different_models_the_later_one_wins_and_the_other_says_so(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    third = "7" * 16
    with monkeypatch.context() as patch:
        patch.setattr(api_moves, "named_model", lambda *_, **__: NamedModel("third/model", third, 8))
        beaten = api.http.post(PATH, json={"model": "third/model"})
    first, second = api.services.ledger.dispatch()
    begin(api, [first])
    won = api.http.post(PATH, json=MODEL)
    work(api)
    assert api.http.get(won.headers["Location"]).json["result"]["switched"]
    begin(api, [second])
    look_again(api)
    job = api.http.get(beaten.headers["Location"]).json
    assert (job["status"], job["result"]["switched"]) == ("failed", False)
    assert job["result"]["detail"].startswith(
        "Not switched: Another reindex, or a rebuild, of the collection"
    )
    assert "it is of big/model." in job["result"]["detail"]
    assert all("Another reindex" in error["detail"] for error in job["errors"])
    assert images(api).pointer.fingerprint == NEW
    assert not rebuild.verify(api.services, "images")
    assert api.services.blobs.folders(log_prefix("images")) == [NEW]


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_what_ends_a_reindex_that_waits_for_the_api_ends_its_announcement(api: Api, end: str) -> None:
    fill(api)
    models = api.services.ledger.models
    models.heartbeat("slow", [OLD], {})
    response = api.http.post(PATH, json=MODEL)
    work(api)
    assert models.announced()
    if end == "cancel":
        api.http.delete(response.headers["Location"])
    else:
        remove_collection(api.services, "images")
        look_again(api)
    assert not models.announced()
    assert api.http.get(response.headers["Location"]).json["finished_at"]


def test_a_reindex_back_that_begins_before_the_switch_is_tidied_up_loses_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    sleep = reindex.time.sleep

    def begin_another(seconds: float) -> None:
        if seconds == reindex.SEARCHES_SECONDS:
            api.services.index.stage("images", model="stub/model", fingerprint=OLD, dimension=8)
            vector_log.write_change(
                api.services.blobs, "images", OLD, {"op": "delete", "version": 1, "id": "x"}
            )
        sleep(0)

    monkeypatch.setattr(reindex.time, "sleep", begin_another)
    monkeypatch.setattr(reindex, "SEARCHES_SECONDS", 0.125)
    assert job_of(api)["result"]["switched"]
    assert api.services.index.staged("images", OLD).pointer.fingerprint == OLD
    assert api.services.blobs.list(f"{log_prefix('images')}{OLD}/")
    with pytest.raises(CollectionNotFound):
        api.services.index.staged("images", NEW)


def test_many_latecomers_are_encoded_before_the_writer_has_to_wait(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "FEW", 2)
    monkeypatch.setattr(reindex, "PASSES_SECONDS", 0.0)
    fill(api)
    response = api.http.post(PATH, json=MODEL)
    work(api, lambda: fill(api, 9, start=10))
    ledger = api.services.ledger
    job: dict[str, Any] = {}
    for _ in range(30):  # each delivery's time is over after one step
        ledger.sweep()
        work(api)
        job = api.http.get(response.headers["Location"]).json
        if job["finished_at"]:
            break
    assert job["status"] == "succeeded"
    assert images(api).count() == 15
    assert not rebuild.verify(api.services, "images")


def test_a_collection_deleted_meanwhile_fails_its_items(api: Api) -> None:
    fill(api)
    response = api.http.post(PATH, json=MODEL)
    remove_collection(api.services, "images")
    work(api)
    job = api.http.get(response.headers["Location"]).json
    assert (job["status"], job["result"]["switched"]) == ("failed", False)
    assert job["result"]["detail"] == "Not switched: The collection was deleted meanwhile."
    with pytest.raises(CollectionNotFound):
        images(api)


def test_pictures_of_the_old_model_fail_after_the_switch_and_say_why(api: Api) -> None:
    fill(api)
    job_of(api)
    with pytest.raises(ModelMismatch):
        api.services.index.ensure("images", model="stub/model", fingerprint=OLD, dimension=8)


def test_what_cannot_be_reindexed_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_problem(api.http.post(PATH, json=MODEL), 404, "collection_not_found")
    fill(api, 1)
    assert_problem(api.http.post(PATH, json={}), 422, "invalid_request", "/model")
    assert_problem(api.http.post(PATH, json=MODEL | {"mode": 1}), 422, "invalid_request", "/mode")
    assert_problem(api.http.post(PATH, json={"model": "stub/model"}), 409, "conflict")

    def unavailable(*_: object, **_options: object) -> NamedModel:
        detail = "The model nope cannot be had: it is not there."
        raise InvalidRequest(detail, [{"pointer": "/model", "message": detail}])

    monkeypatch.setattr(api_moves, "named_model", unavailable)
    assert (
        "nope" in assert_problem(api.http.post(PATH, json=MODEL), 422, "invalid_request", "/model")["detail"]
    )


def test_a_repeated_request_is_the_same_job_also_after_the_switch(api: Api) -> None:
    fill(api)
    key = {"headers": {"Idempotency-Key": "k"}}
    first = api.http.post(PATH, json=MODEL, **key).json["job_id"]
    work(api)
    assert images(api).pointer.fingerprint == NEW
    assert api.http.post(PATH, json=MODEL, **key).json["job_id"] == first


def test_another_model_takes_the_place_of_a_reindex_that_was_given_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api)
    api.http.post(PATH, json=MODEL)
    monkeypatch.setattr(api_moves, "named_model", lambda *_, **__: NamedModel("third/model", "7" * 16, 8))
    api.http.post(PATH, json={"model": "third/model"})
    with pytest.raises(CollectionNotFound):
        api.services.index.staged("images", NEW)
    assert api.services.index.staged("images", "7" * 16).count() == 0


def test_the_original_is_preferred_to_the_rendition_and_a_damaged_one_fails(api: Api) -> None:
    blobs = api.services.blobs
    blobs.put(file_key("images", image_id(1), "rendition"), picture((1, 0, 0)))
    blobs.put(file_key("images", image_id(1), "original"), picture((200, 0, 0)))
    crop = reindex.crop_of(api.services, "images", image_id(1), PREPROCESS)
    assert not isinstance(crop, ItemError)
    assert crop[0, 0, 0] == 200
    blobs.put(file_key("images", image_id(1), "original"), b"damaged")
    assert isinstance(reindex.crop_of(api.services, "images", image_id(1), PREPROCESS), ItemError)


def test_the_new_models_log_has_what_was_encoded(api: Api) -> None:
    fill(api, 5)
    job_of(api)
    keys = api.services.blobs.list(log_prefix("images"))
    assert [key.rpartition("/")[2] for key in keys] == [f"{number:020d}-x.npz" for number in range(5)]
    segments = [vector_log.read_segment(api.services.blobs, key) for key in keys]
    assert {(one.model, one.fingerprint) for one in segments} == {("big/model", NEW)}
    assert all(np.allclose(one.vectors[0], vector_of(n), atol=1e-6) for n, one in enumerate(segments))


def test_the_command_says_whether_it_was_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    result = {"switched": False, "detail": "Not switched: 2 pictures."}
    server.routes["POST /v1/collections/cats/reindex"] = (202, job_document(status="running"))
    server.routes["GET /v1/jobs/j1"] = job_document(status="partial") | {"result": result}
    monkeypatch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server)))
    done = CliRunner().invoke(reindex_command, ["--model", "m", "-c", "cats", "--allow-missing"])
    assert done.exit_code == 3
    assert "Not switched: 2 pictures." in done.output
    assert json.loads(server.requests[0].content) == {"model": "m", "allow_missing": True}
