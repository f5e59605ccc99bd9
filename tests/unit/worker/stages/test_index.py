"""The one index writer, on a stub index."""

import time
from pathlib import Path
from typing import Any, cast

import pytest

from shared.errors import IndexRefused, LedgerUnavailable
from shared.index.collection import Collection
from shared.index.index import POINTER_TTL_SECONDS
from shared.ledger.ledger import Ledger
from shared.metrics.bottleneck import limit_of
from shared.models import ItemState, JobStatus, Stage
from shared.storage.blobs import file_key, log_prefix
from shared.storage.manifest import read_results
from shared.storage.vector_log import read_segment
from tests.unit.counted import Counted
from tests.unit.stages import StubServices, collection_gone, drain, make_services
from worker.recovery import lease
from worker.stages import index as writer
from worker.stages.deduplication import NearDuplicates

NONE_NEAR = NearDuplicates(cast(Collection, None), [], 0)
INDEXED, DUPLICATE, FAILED = ItemState.INDEXED, ItemState.DUPLICATE, ItemState.FAILED


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    return make_services(tmp_path)


def redeliver_at_once(services: StubServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "ERROR_DELAY_SECONDS", -1.0)
    monkeypatch.setattr(lease, "UNAVAILABLE_DELAY_SECONDS", -1.0)


def deliver(services: StubServices, times: int) -> None:
    for _ in range(times):
        services.ledger.sweep()
        drain(services.real)


def test_what_is_ready_of_several_jobs_is_one_write(services: StubServices) -> None:
    jobs = [services.to_index(["a", "b"]), services.to_index(["c", "a"])]
    drain(services.real)
    assert services.index.stored.calls == [3]
    assert [services.states(job) for job in jobs] == [[INDEXED, INDEXED], [INDEXED, DUPLICATE]]
    assert services.ledger.writer.acquire("next"), "the lease is free again"


def test_a_refused_row_fails_alone(services: StubServices) -> None:
    services.index.stored.refused = {"c"}
    job_id = services.to_index(list("abcdefg"))
    drain(services.real)
    assert services.states(job_id) == [INDEXED, INDEXED, FAILED, INDEXED, INDEXED, INDEXED, INDEXED]
    assert sorted(services.index.stored.images) == list("abdefg")
    assert services.ledger.get(job_id).errors[0].code == "index_error"
    assert read_results(services.blobs, job_id, 7, 2, 3)[2].image_id == "c"
    said = read_results(services.blobs, job_id, 7, 0, 7)
    assert {index for index, result in said.items() if result.code} == {2}


@pytest.mark.parametrize("size", [True, False])
def test_what_the_index_answers_with_a_failure_of_its_own_fails_alone_while_it_takes_the_rest(
    services: StubServices, size: bool
) -> None:
    services.index.stored.refused, services.index.stored.refusal = {"c"}, IndexRefused("no.", size=size)
    job_id = services.to_index(list("abcde"))
    drain(services.real)
    assert services.states(job_id) == [INDEXED, INDEXED, FAILED, INDEXED, INDEXED]
    (proof,) = services.index.stored.proofs
    assert (proof == 0) is size, "of a record that is too large, another one of that size proves nothing"
    (key,) = services.blobs.list(log_prefix("images"))
    logged = [one.index for one in read_segment(services.blobs, key).additions]
    assert logged == [0, 1, 3, 4], "a rebuild does not bring it either"


def test_an_index_that_answers_every_write_with_a_failure_is_down_and_nothing_fails(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeliver_at_once(services, monkeypatch)
    services.index.stored.trouble = IndexRefused("The disk is full.")
    job_id = services.to_index(list("abcde"))
    deliver(services, lease.MAX_DELIVERIES + 2)
    assert FAILED not in services.states(job_id)
    services.index.stored.trouble = None
    deliver(services, 1)
    assert services.states(job_id) == [INDEXED] * 5


def test_what_the_former_model_encoded_is_fetched_again_after_a_switch(services: StubServices) -> None:
    job_id = services.to_index(["a", "b"], fingerprint="6" * 16)
    drain(services.real)
    assert services.states(job_id) == [ItemState.PENDING] * 2
    (key,) = services.blobs.list(log_prefix("images"))
    assert not read_segment(services.blobs, key).additions, "a rebuild brings none of them"
    fetched_again(services)
    job = services.ledger.get(job_id)
    assert (job.counts[ItemState.PENDING], job.counts[ItemState.FETCHED], job.errors) == (2, 0, [])


def test_what_lay_in_the_former_models_log_when_that_was_deleted_is_fetched_again(
    services: StubServices,
) -> None:
    job_id = services.to_index(["a", "b"], fingerprint="6" * 16)
    services.blobs.delete_prefix("log/images/")
    drain(services.real)
    assert services.states(job_id) == [ItemState.PENDING] * 2
    fetched_again(services)


def fetched_again(services: StubServices) -> None:
    """Assert that the chunk is fetched again, when every process knows of the switch, at no try's cost."""
    assert services.ledger.sweep() == []
    redis = services.ledger._redis.client
    ((ref, due),) = redis.zrange("is:due", 0, -1, withscores=True)
    assert due - services.ledger._redis.now() > POINTER_TTL_SECONDS
    redis.zadd("is:due", {ref: 0})
    ((stage, chunk),) = services.ledger.sweep()
    assert (stage, chunk.attempt) == (Stage.FETCH, 1)
    claim = services.ledger.claim(chunk, stage)
    assert claim is not None
    assert claim.postponed == 1


def test_chunks_wait_while_the_index_is_down_however_long(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeliver_at_once(services, monkeypatch)
    services.index.down = True
    job_id = services.to_index(["a"])
    deliver(services, lease.MAX_DELIVERIES + 3)
    assert services.ledger.get(job_id).status is JobStatus.RUNNING
    limit = limit_of(services.ledger.workers.backlog(), dict.fromkeys(Stage, 1))
    assert limit.by == "index"
    assert limit.detail.startswith(
        "Index limits ingestion: nothing gets past index, where 1 chunk is tried again: "
    )
    assert limit.detail.endswith("does not answer.")
    services.index.down = False
    deliver(services, 1)
    assert services.states(job_id) == [INDEXED]
    assert services.ledger.workers.backlog().queues[2].put_back == 0


def test_a_chunk_that_cannot_be_read_does_not_hold_up_the_others_and_fails_in_the_end(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeliver_at_once(services, monkeypatch)
    broken, sound = services.to_index(["a"]), services.to_index(["b"])
    key = next(
        key for key in services.blobs.list("log/") if services.blobs.get(key).find(broken.encode()) > 0
    )
    services.blobs.put(key, b"no longer an archive")
    deliver(services, lease.SUSPICIOUS_DELIVERIES)
    assert services.states(sound) == [INDEXED]
    assert services.ledger.get(broken).status is JobStatus.RUNNING
    deliver(services, lease.MAX_DELIVERIES)
    assert services.states(broken) == [FAILED]


def test_vectors_deleted_with_their_collection_fail_at_once(services: StubServices) -> None:
    job_id = services.to_index(["a", "b"])
    services.blobs.delete_prefix("log/images/")
    drain(services.real)
    assert services.states(job_id) == [FAILED, FAILED]
    assert services.ledger.get(job_id).errors[0].code == "index_error"


def test_a_removal_beats_the_items_of_jobs_that_were_made_before(services: StubServices) -> None:
    before = services.to_index(["a", "b"])
    services.ledger.writer.record_removal("images", "a", services.ledger.writer.new_version())
    after = services.to_index(["a"])
    drain(services.real)
    assert [services.states(job) for job in (before, after)] == [[INDEXED, INDEXED], [INDEXED]]
    assert services.index.stored.images["a"].owner == f"{after}:0"
    assert services.index.stored.images["a"].image.sources == [f"{after}/0"]


def test_what_is_on_the_way_while_its_collection_is_deleted_is_not_in_the_next_ones_log(
    services: StubServices,
) -> None:
    services.to_index(["a", "b"])
    services.ledger.writer.record_removal("images", "*", services.ledger.writer.new_version())
    services.to_index(["b", "c"])
    drain(services.real)
    assert sorted(services.index.stored.images) == ["b", "c"]
    segments = [read_segment(services.blobs, key) for key in services.blobs.list(log_prefix("images"))]
    logged = [[addition.image.id for addition in segment.additions] for segment in segments]
    assert logged == [[], ["b", "c"]], "a rebuild would bring what was deleted"


def test_the_first_item_owns_a_picture_and_the_next_are_duplicates_that_add_their_source(
    services: StubServices,
) -> None:
    first, second = services.to_index(["a", "a"]), services.to_index(["a"])
    drain(services.real)
    assert [services.states(job) for job in (first, second)] == [[INDEXED, DUPLICATE], [DUPLICATE]]
    stored = services.index.stored.images["a"]
    assert (stored.owner, stored.image.source) == (f"{first}:0", f"{first}/0")
    assert stored.image.sources == [f"{first}/0", f"{first}/1", f"{second}/0"]


def test_a_new_picture_under_a_key_replaces_the_old_one_and_its_files(services: StubServices) -> None:
    services.to_index(["a"], keys=["sku"])
    for image_id in "ab":
        services.blobs.put(file_key("images", image_id, "thumbnail"), image_id.encode())
    drain(services.real)
    job_id = services.to_index(["b"], keys=["sku"])
    drain(services.real)
    assert services.states(job_id) == [INDEXED]
    assert {i: one.image.keys for i, one in services.index.stored.images.items()} == {"b": ["sku"]}
    assert not services.blobs.exists(file_key("images", "a", "thumbnail"))
    assert services.blobs.exists(file_key("images", "b", "thumbnail"))


def test_two_keys_exchange_their_pictures_which_keep_their_files(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.to_index(["a", "b"], keys=["left", "right"])
    for image_id in "ab":
        services.blobs.put(file_key("images", image_id, "thumbnail"), image_id.encode())
    drain(services.real)
    monkeypatch.setattr(writer, "MAX_BATCH_ITEMS", 1)
    services.to_index(["b"], keys=["left"])
    services.to_index(["a"], keys=["right"])
    drain(services.real)
    keys = {i: one.image.keys for i, one in services.index.stored.images.items()}
    assert keys == {"b": ["left"], "a": ["right"]}
    assert [services.blobs.get(file_key("images", i, "thumbnail")) for i in "ab"] == [b"a", b"b"]
    assert services.blobs.list("discarded/") == []


def test_a_picture_whose_successor_the_index_refuses_stays(services: StubServices) -> None:
    services.to_index(["a"], keys=["sku"])
    drain(services.real)
    services.index.stored.refused = {"b"}
    job_id = services.to_index(["b"], keys=["sku"])
    drain(services.real)
    assert services.states(job_id) == [FAILED]
    assert list(services.index.stored.images) == ["a"]


def test_a_writer_yields_to_a_change_that_is_to_be_made_at_once(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH_ITEMS", 1)
    jobs = [services.to_index(["a"]), services.to_index(["b"])]
    upsert = services.index.stored.upsert

    def asked_meanwhile(*arguments: object, **options: object) -> None:
        assert not services.ledger.writer.acquire("change")
        services.ledger.writer.want("change")
        upsert(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(services.index.stored, "upsert", asked_meanwhile)
    drain(services.real)
    drain(services.real)
    assert [services.states(job) for job in jobs] == [[INDEXED], [ItemState.FETCHED]]
    assert services.ledger.writer.acquire("change"), "it is left to who asked for it"
    services.ledger.writer.release("change", force=True)
    drain(services.real)
    assert services.states(jobs[1]) == [INDEXED]


def test_a_collection_deleted_while_it_is_written_is_tried_again_not_row_by_row(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeliver_at_once(services, monkeypatch)
    services.index.stored.trouble = collection_gone()
    job_id = services.to_index(list("abcd"))
    drain(services.real)
    assert services.index.stored.calls == [4]
    services.index.stored.trouble = None
    deliver(services, 1)
    assert services.states(job_id) == [INDEXED] * 4


def test_a_busy_writer_ends_its_task_in_time_and_wakes_the_next(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DRAIN_SECONDS", -1.0)
    monkeypatch.setattr(writer, "MAX_BATCH_ITEMS", 1)
    jobs = [services.to_index(["a"]), services.to_index(["b"])]
    drain(services.real)
    assert [services.states(job) for job in jobs] == [[INDEXED], [ItemState.FETCHED]]
    assert [stage for stage, _ in services.dispatcher.sent] == [Stage.INDEX]
    drain(services.real)
    assert services.states(jobs[1]) == [INDEXED]


def test_only_the_holder_of_the_lease_writes(services: StubServices, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = services.to_index(["a"])
    services.ledger.writer.acquire("another")
    drain(services.real)
    assert services.states(job_id) == [ItemState.FETCHED]
    services.ledger.writer.release("another", force=True)

    def stored_slowly(ids: object) -> dict[str, object]:
        services.ledger._redis.client.set("is:writer", "another")
        return {}

    monkeypatch.setattr(services.index.stored, "stored", stored_slowly)
    drain(services.real)
    assert services.index.stored.calls == []
    assert services.ledger._redis.client.get("is:writer") == "another"


def test_the_lease_is_kept_until_the_ledger_knows_all_that_was_written(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = services.to_index(["a"])
    advance, release = services.ledger.advance, services.ledger.writer.release

    def slowly(*arguments: Any, **options: Any) -> bool:
        time.sleep(0.2)
        return advance(*arguments, **options)

    def known(token: str, *, force: bool = False) -> bool:
        assert services.states(job_id) == [INDEXED]
        return release(token, force=force)

    monkeypatch.setattr(services.ledger, "advance", slowly)
    monkeypatch.setattr(services.ledger.writer, "release", known)
    drain(services.real)
    assert services.ledger.writer.acquire("next")


def test_a_lost_ledger_does_not_escape_from_giving_back(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.job(1)
    claim = services.claim()

    def lost(*_: object, **__: object) -> None:
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(Ledger, "release", lost)
    with lease.releasing(services.ledger, [claim]):
        raise ValueError
    with lease.releasing(services.ledger, [claim]):
        raise LedgerUnavailable("gone")


def test_writes_are_counted_by_batches_and_chunks(services: StubServices) -> None:
    services.to_index(["a", "b"])
    services.to_index(["c"])
    counted = Counted()
    drain(services.real)
    assert counted("write_seconds_count") == 1
    assert counted("write_batch_images_sum") == 3
    assert counted("chunks_total", stage="index") == 2
    assert counted("writer_lag_seconds_count") == 2
    assert counted("redeliveries_total", stage="index") == 0


def test_chunks_that_come_again_and_again_are_counted_until_they_are_given_up(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeliver_at_once(services, monkeypatch)
    services.to_index(["a"])
    (key,) = services.blobs.list("log/")
    services.blobs.put(key, b"no longer an archive")
    counted = Counted()
    deliver(services, lease.MAX_DELIVERIES + 1)
    assert counted("redeliveries_total", stage="index") == lease.MAX_DELIVERIES
    isolated = lease.MAX_DELIVERIES - lease.SUSPICIOUS_DELIVERIES + 1
    assert counted("poison_chunks_total", stage="index", action="isolated") == isolated
    assert counted("poison_chunks_total", stage="index", action="given_up") == 1
    assert counted("postponed_chunks_total", stage="index", reason="error") == lease.MAX_DELIVERIES


def test_chunks_that_wait_for_the_index_are_counted_as_no_redelivery(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeliver_at_once(services, monkeypatch)
    services.index.down = True
    services.to_index(["a"])
    counted = Counted()
    deliver(services, 3)
    assert counted("postponed_chunks_total", stage="index", reason="unavailable") == 3
    assert counted("redeliveries_total", stage="index") == 0
