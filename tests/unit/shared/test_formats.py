"""What is stored in each format: an older version's is read, a newer one's is refused in one sentence."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from celery import signals
from structlog.testing import capture_logs

from api.http.auth import KeyRing
from shared import api_keys
from shared.config import Settings
from shared.download.validators import Validators
from shared.embedding import automatic
from shared.errors import NewerFormat
from shared.index import index as index_module
from shared.ledger import upgrade
from shared.ledger.ledger import Ledger
from shared.ledger.scripts import PREFIX
from shared.models import Chunk, Item, ItemResult, ItemState, JobKind, JobStatus, Stage
from shared.storage import arrays, manifest, parquet, validators, vector_log
from shared.storage.blobs import MODEL_KEY, Blobs
from shared.tasks import TASK_NAMES
from tests.redis_server import fake_redis, redis_server
from tests.unit.fakes import assert_problem, axis, index_in, make_api, make_services
from tests.unit.stages import drain, image
from tests.unit.stages import make_services as make_stages
from worker import app as worker_app
from worker.recovery import lease

IMAGE = image("a" * 64)
CHUNK = Chunk("job", 0, 0)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}")


@contextmanager
def newer(module: Any) -> Iterator[None]:
    """Inside, what `module` writes is of the format after the latest."""
    later = module.FORMAT + 1
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORMAT", "PLAIN") if hasattr(module, "PLAIN") else ("FORMAT",):
            patch.setattr(module, name, later)
        yield


def marked(client: Any) -> Any:
    """A Redis that a newer version has used."""
    client.set(f"{PREFIX}format", upgrade.FORMAT + 1)
    return client


def refused(call: Callable[[], object], what: str) -> None:
    with pytest.raises(NewerFormat) as raised:
        call()
    said = raised.value.detail
    assert said.startswith(what)
    found = re.search(
        r"a newer version of image-search \(format (\d), this one reads up to (\d)\): update", said
    )
    assert found is not None
    assert int(found[1]) == int(found[2]) + 1


def test_the_vector_log_and_scratch() -> None:
    rows = np.ones((1, 2), np.float32)
    buffer = io.BytesIO()
    header, records = (np.frombuffer(text, np.uint8) for text in (b"{}", b"[{}]"))
    np.savez(buffer, header=header, records=records, array=rows)
    assert arrays.unpack(buffer.getvalue())[:2] == ({}, [{}])
    with newer(arrays):
        data = arrays.pack({}, [{}], rows)
    refused(lambda: arrays.unpack(data), "A file of vectors or pixels")


@pytest.mark.parametrize(
    ("said", "written"),
    [({}, 1), ({"known": True}, 2), ({"known": True, "of": "shop", "replaces": ("b", "c")}, 3)],
)
def test_only_a_segment_with_known_images_or_entries_of_sources_needs_a_later_format(
    said: dict[str, Any], written: int
) -> None:
    addition = vector_log.Addition(0, 1, "job:0", IMAGE, 1, **said)
    data = vector_log.packed(vector_log.Segment(1, "m", "f", [addition], np.ones((1, 2), np.float32)))
    later = {"known", "unchanged", "of", "replaces", "updates"}
    assert (addition.record().keys() & later, int(np.load(io.BytesIO(data))["format"])) == (
        said.keys(), written,
    )  # fmt: skip
    assert vector_log.unpacked(data).additions == [addition]


def test_a_log_with_withdrawals_needs_the_latest_format(blobs: Blobs) -> None:
    record = {"op": "withdraw", "version": 1, "index": 0, "id": "a", "of": "shop", "entry": "k"}
    for key, one, written in (("w", record, 3), ("d", {"op": "delete", "version": 1, "id": "a"}, 1)):
        vector_log.write_changes(blobs, key, "f", [one], [[0, "removed", "a", None]])
        assert int(np.load(io.BytesIO(blobs.get(key)))["format"]) == written
        assert vector_log.read_changes(blobs, key) == ([one], [[0, "removed", "a", None]])
    vector_log.drop(blobs, "w", {7})
    assert int(np.load(io.BytesIO(blobs.get("w")))["format"]) == 3


def test_a_job_s_items(blobs: Blobs) -> None:
    def write(job_id: str) -> str:
        writer = manifest.ManifestWriter(blobs, job_id)
        for source in "xyz":
            writer.add(Item(source))
        writer.flush()
        return f"jobs/{job_id}/manifest/000000.jsonl"

    key = write("old")
    blobs.put(key, b"".join(blobs.get(key).splitlines(keepends=True)[:-1]))
    assert [item.source for item in manifest.read_items(blobs, "old", 0, 3)] == list("xyz")
    with newer(manifest):
        write("new")
    refused(lambda: manifest.read_items(blobs, "new", 0, 1), "A job's list of items")


def test_a_job_s_results(blobs: Blobs) -> None:
    key = "jobs/job/results/0000000/0000.00.0.t.json"
    blobs.put(key, json.dumps([{"i": 0, "id": "a", "code": None, "detail": None, "n": 1}]).encode())
    assert manifest.read_results(blobs, "job", 4, 0, 1)[0].image_id == "a"
    with newer(manifest):
        manifest.write_results(blobs, CHUNK, Stage.FETCH, "t", [ItemResult(0, "s", 1, image_id="a")])
    refused(lambda: manifest.read_results(blobs, "job", 4, 0, 1), "A job's record of its items")


def test_a_job_s_validators(blobs: Blobs) -> None:
    found = {"http://x": validators.Earlier("a" * 64, Validators(bytes(16), '"e"'))}
    with newer(validators):
        validators.write_validators(blobs, CHUNK, "t", found)
    refused(lambda: list(validators.read_validators(blobs, "job")), "A job's record of what its URLs")


def test_an_export() -> None:
    def write(version: int) -> parquet.Source:
        file = io.BytesIO()
        header = parquet.Header("c", "m", "f", 8, format=version)
        parquet.write_part(file, header, [parquet.Row(IMAGE, axis(0))], ())
        return parquet.Source(file)

    assert len(write(1).read(0, 1)) == 1
    refused(lambda: write(2), "The export")


def test_a_collection_in_chroma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_in(tmp_path)
    model: Any = {"model": "m", "fingerprint": "f" * 16, "dimension": 2}
    with monkeypatch.context() as before:
        before.setattr(index_module, "FIELD", "no_format")
        index.create("old", **model)
    assert index_in(tmp_path).ensure("old", **model).count() == 0
    with newer(index_module):
        index.create("new", **model)
    opened = index_in(tmp_path)
    for _ in range(2):
        refused(lambda: opened.ensure("new", **model), "The Chroma collection 'new-")
    assert opened.collection("old").count() == 0
    with newer(index_module):
        other = index_in(tmp_path / "other")
        other._server.delete_collection(index_module.REGISTRY)
        other.create("any", **model)
    refused(index_in(tmp_path / "other").collections, f"The Chroma collection {index_module.REGISTRY!r}")


def test_the_ledger() -> None:
    client = fake_redis()
    options: Any = {"collection": "c", "total": 1, "chunk_size": 1}
    Ledger("", client=client).create("old", **options)
    client.delete(f"{PREFIX}format")
    assert Ledger("", client=client).get("old").total == 1
    assert client.get(f"{PREFIX}format") == str(upgrade.FORMAT)
    with newer(upgrade):
        assert Ledger("", client=client).get("old").total == 1
    for _ in range(2):
        refused(Ledger("", client=client).ping, "The job ledger in Redis")
    assert client.get(f"{PREFIX}format") == str(upgrade.FORMAT + 1)


def test_a_reindex_of_an_older_ledger_still_ends_with_its_switch() -> None:
    client = fake_redis()
    before = Ledger("", client=client)
    for kind in (JobKind.REINDEX, JobKind.INGEST):
        before.create(kind, collection="c", total=1, chunk_size=1, kind=kind)
        client.hdel(f"{PREFIX}job:{kind}", "final_stage", "incomplete")
    client.delete(f"{PREFIX}format")
    ledger = Ledger("", client=client)
    for chunk in ledger.dispatch():
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        ledger.advance(claim, transitions=[(0, ItemState.INDEXED)])
    assert ledger.get(JobKind.INGEST).status is JobStatus.SUCCEEDED
    ((stage, chunk),) = ledger.sweep()
    assert (stage, chunk.job_id) == (Stage.ENCODE, JobKind.REINDEX)
    final = ledger.claim(chunk, stage)
    assert final is not None
    ledger.advance(final, transitions=[], complete=True)
    assert ledger.get(JobKind.REINDEX).status is JobStatus.SUCCEEDED


def test_the_recorded_model(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "_of_hub", lambda: "m")
    blobs.put(MODEL_KEY, b'{"model": "old"}')
    assert automatic.resolve_auto(blobs, list) == "old"
    blobs.delete(MODEL_KEY)
    with newer(automatic):
        assert automatic.resolve_auto(blobs, list) == "m"
    refused(lambda: automatic.resolve_auto(blobs, list), "The recorded model")


def test_an_api_key_of_a_newer_version_opens_nothing_and_still_counts(blobs: Blobs) -> None:
    plain = api_keys.create_key(blobs, "old", ["admin"])
    (found,) = api_keys.list_keys(blobs)
    blobs.put("keys/newer.json", json.dumps({**asdict(found), "id": "newer", "format": 2}).encode())
    with capture_logs() as logged:
        keys = api_keys.list_keys(blobs)
    assert {(key.id, *key.scopes) for key in keys} == {(found.id, "admin"), ("newer",)}
    assert "update this installation" in logged[0]["reason"]
    assert KeyRing(blobs).find(plain) == found


# What becomes of the work


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "ERROR_DELAY_SECONDS", -1.0)
    monkeypatch.setattr(lease, "UNAVAILABLE_DELAY_SECONDS", -1.0)


def test_a_newer_segment_waits_however_long_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    services = make_stages(tmp_path)
    with newer(arrays):
        waiting = services.to_index(["a"])
    written = services.to_index(["b"])
    for _ in range(lease.MAX_DELIVERIES + 3):
        services.ledger.sweep()
        drain(services.real)
    assert services.states(waiting) == [ItemState.FETCHED]
    assert services.states(written) == [ItemState.INDEXED]
    monkeypatch.setattr(arrays, "FORMAT", arrays.FORMAT + 1)  # updated
    services.ledger.sweep()
    drain(services.real)
    assert services.states(waiting) == [ItemState.INDEXED]


def test_a_newer_collection_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    services = make_stages(tmp_path)
    there = services.index.ensure

    def ensure(name: str, **options: Any) -> Any:
        if options["fingerprint"].startswith("2"):
            raise NewerFormat("Update this installation.")
        return there(name, **options)

    monkeypatch.setattr(services.index, "ensure", ensure)
    waiting, written = services.to_index(["a"], fingerprint="2" * 16), services.to_index(["b"])
    for _ in range(lease.MAX_DELIVERIES + 3):
        services.ledger.sweep()
        drain(services.real)
    assert services.states(waiting) == [ItemState.FETCHED]
    assert services.states(written) == [ItemState.INDEXED]


def test_a_chunk_of_a_newer_manifest_is_given_back_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    services = make_stages(tmp_path)
    with newer(manifest):
        job_id = services.job(1)
    claim = services.claim()
    with capture_logs() as logged:
        for _ in range(lease.MAX_DELIVERIES + 3):
            with lease.releasing(services.ledger, [claim]):
                manifest.read_items(services.blobs, job_id, 0, 1)
            services.ledger.sweep()
            again = services.ledger.claim(claim.chunk, Stage.FETCH)
            assert again is not None
            claim = again
    assert claim.deliveries == 1
    assert {(one["event"], one["log_level"]) for one in logged} == {("chunks_postponed", "warning")}
    assert services.states(job_id) == [ItemState.PENDING]


def test_a_message_of_a_newer_ledger_is_left_to_the_sweeper_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Newer:
        def __init__(self, *_: object) -> None:
            pass

        def deliver(self, *_: object) -> None:
            services.ledger.ping()

    newest = Ledger("", client=marked(fake_redis()))
    services = replace(make_services(tmp_path), ledger=newest)
    monkeypatch.setattr(worker_app, "Process", Newer)
    monkeypatch.setattr(signals.worker_process_init, "receivers", [])
    app = worker_app.make_worker(Settings(model="unused"), [Stage.INDEX])
    with capture_logs() as logged:
        app.tasks[TASK_NAMES[Stage.INDEX]]("job:0:0:0")
    assert [one["event"] for one in logged][1:] == ["message_left_to_the_sweeper"]


def test_requests_of_a_newer_ledger_are_told_so(tmp_path: Path) -> None:
    parts = replace(make_services(tmp_path), ledger=Ledger("", client=marked(fake_redis())))
    answer = make_api(tmp_path, parts).http.get("/v1/jobs")
    assert "update this installation" in assert_problem(answer, 503, "newer_format")["detail"]
    assert answer.headers["Retry-After"] == "60"


def test_an_upload_of_a_newer_export_is_the_request_s_fault(tmp_path: Path) -> None:
    file = io.BytesIO()
    parquet.write_part(file, parquet.Header("c", "m", "f", 8, format=2), [parquet.Row(IMAGE, axis(0))], ())
    kind = "application/vnd.apache.parquet"
    http = make_api(tmp_path).http
    answer = http.post("/v1/collections/c/import", data=file.getvalue(), content_type=kind)
    assert "update this installation" in assert_problem(answer, 422, "invalid_request")["detail"]


def test_a_worker_does_not_start_on_a_newer_ledger(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        marked(redis.Redis.from_url(url))
        started = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "worker", "--queues", "index"],
            env={**os.environ, "IMAGE_SEARCH_REDIS_URL": url, "IMAGE_SEARCH_MODEL": "unused"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert started.returncode == 1
    (line,) = started.stderr.splitlines()
    assert line.startswith("Error: The job ledger in Redis was written by a newer version")
