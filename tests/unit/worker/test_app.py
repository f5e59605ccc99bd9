"""The Celery side of a worker, in this process."""

import gc
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from celery import signals
from structlog.testing import capture_logs

from shared.config import Settings
from shared.download.host_headers import HostHeaders
from shared.embedding.checkpoint_files import fingerprint
from shared.embedding.checkpoints import AUTO
from shared.errors import ConfigError, IndexUnavailable, ModelUnavailable
from shared.models import CollectionInfo, ItemState, Stage
from shared.storage.blobs import MODEL_KEY, Blobs
from shared.tasks import TASK_NAMES, make_celery
from tests.unit.counted import Counted
from tests.unit.stages import make_services
from worker import app as worker_app
from worker.recovery.lease import MAX_DELIVERIES


def test_a_process_that_could_not_start_tries_again_with_the_next_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []
    delivered: list[tuple[Stage, str]] = []

    class Flaky:
        def __init__(self, *_: object) -> None:
            started.append(1)
            if len(started) < 3:
                raise OSError("the GPU is full")

        def deliver(self, stage: Stage, ref: str) -> None:
            delivered.append((stage, ref))

    monkeypatch.setattr(worker_app, "Process", Flaky)
    monkeypatch.setattr(worker_app, "configure_logging", lambda _: None)
    monkeypatch.setattr(signals.worker_process_init, "receivers", [])
    app = worker_app.make_worker(Settings(model="unused"), [Stage.INDEX])
    signals.worker_process_init.send(sender=None)
    deliver = app.tasks[TASK_NAMES[Stage.INDEX]]
    with pytest.raises(OSError, match="full"):
        deliver("a:0:0:0")
    deliver("b:0:0:0")
    deliver("c:0:0:0")
    assert delivered == [(Stage.INDEX, "b:0:0:0"), (Stage.INDEX, "c:0:0:0")]
    assert len(started) == 3


def test_without_its_model_a_fetch_worker_starts_and_an_encode_worker_does_not(tmp_path: Path) -> None:
    settings = Settings(model=str(tmp_path / "gone"))
    worker_app.make_worker(settings, [Stage.FETCH])
    worker_app.make_worker(settings, [Stage.FETCH, Stage.ENCODE])
    with pytest.raises(ModelUnavailable, match="gone"):
        worker_app.make_worker(settings, [Stage.ENCODE])


def test_what_the_pool_inherits_is_left_to_no_collection_that_would_copy_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals.worker_before_create_process, "receivers", [])
    worker_app.make_worker(Settings(model="unused"), [Stage.INDEX])
    try:
        signals.worker_before_create_process.send(sender=None)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_a_vocabulary_that_is_not_there_stops_the_start_of_encode_workers_only(
    tiny: Path, tmp_path: Path
) -> None:
    settings = Settings(model=str(tiny), tag_vocabulary=tmp_path / "missing.txt")
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_TAG_VOCABULARY"):
        worker_app.make_worker(settings, [Stage.ENCODE])
    worker_app.make_worker(settings, [Stage.FETCH])


def test_the_headers_for_hosts_are_read_by_fetch_workers_only(tiny: Path, tmp_path: Path) -> None:
    settings = Settings(model=str(tiny), fetch_headers=tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_FETCH_HEADERS"):
        worker_app.make_worker(settings, [Stage.FETCH])
    worker_app.make_worker(settings, [Stage.ENCODE])


def test_a_pool_process_that_starts_after_the_headers_file_broke_has_them_all_the_same(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headers.json"
    file.write_text('{"a.example": {"X-Key": "1"}}')
    given: list[HostHeaders] = []
    monkeypatch.setattr(worker_app, "Process", lambda *parts: given.append(parts[-1]))
    monkeypatch.setattr(worker_app, "configure_logging", lambda _: None)
    monkeypatch.setattr(signals.worker_process_init, "receivers", [])
    worker_app.make_worker(Settings(model=str(tiny), fetch_headers=file), [Stage.FETCH])
    file.write_text("{")
    signals.worker_process_init.send(sender=None)
    assert given[0].of(("https", "a.example", 443)) == ("X-Key: 1",)


def test_a_chunk_of_slow_downloads_is_not_killed_and_its_message_waits_longer_still() -> None:
    settings = Settings(chunk_size=1024, fetch_concurrency=4, fetch_timeout_s=60)
    conf = make_celery(settings).conf
    assert conf.task_time_limit > 1024 / 4 * settings.whole_download_s
    for options in (conf.broker_transport_options, conf.result_backend_transport_options):
        assert options["visibility_timeout"] > conf.task_time_limit
    assert conf.visibility_timeout > conf.task_time_limit


def services_of(blobs: Blobs, *collections: list[CollectionInfo] | IndexUnavailable) -> Any:
    """Whose Chroma answers so, one after the other."""
    return SimpleNamespace(blobs=blobs, index=Mock(collections=Mock(side_effect=collections)))


def test_only_who_reads_the_model_decides_which_it_is(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After waiting for Chroma. An index worker has neither hub nor cache, and would take the starter."""
    blobs = Blobs((tmp_path / "blobs").as_uri())
    bound = CollectionInfo("images", 1, str(tiny), fingerprint(tiny), dimension=16, created_at=0.0)
    services = services_of(blobs, IndexUnavailable("Chroma cannot be reached."), [bound])
    monkeypatch.setattr(worker_app, "build_services", lambda _: services)
    waited: list[float] = []
    monkeypatch.setattr(worker_app.time, "sleep", waited.append)
    worker_app.make_worker(Settings(model=AUTO), [Stage.INDEX])
    assert not blobs.exists(MODEL_KEY)
    with capture_logs() as logged:
        worker_app.make_worker(Settings(model=AUTO), [Stage.FETCH])
    assert json.loads(blobs.get(MODEL_KEY))["model"] == str(tiny)
    assert (len(waited), logged[0]["reason"]) == (1, "Chroma cannot be reached.")


def test_a_chunk_that_is_given_up_is_counted(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job_id = services.job(2)
    claim = replace(services.claim(), deliveries=MAX_DELIVERIES + 1)
    counted = Counted()
    worker_app.Process._handle(Mock(services=services.real), claim)
    assert services.states(job_id) == [ItemState.FAILED] * 2
    assert counted("redeliveries_total", stage="fetch") == 1
    assert counted("poison_chunks_total", stage="fetch", action="given_up") == 1
    assert counted("poison_chunks_total", stage="fetch", action="isolated") == 0
