"""One suite for the ledger, on fakeredis and on a real Redis."""

import time

import pytest

from shared.errors import (
    IdempotencyMismatch,
    InvalidRequest,
    JobFinished,
    JobNotFound,
    JobRunning,
    LedgerUnavailable,
    NothingToRetry,
)
from shared.ledger import ledger as ledger_module
from shared.ledger import processes, writer
from shared.ledger.ledger import Ledger, new_job_id
from shared.ledger.scripts import PREFIX
from shared.models import (
    MAX_NOTES,
    Cause,
    Chunk,
    Claim,
    ItemState,
    JobError,
    JobKind,
    JobStatus,
    Label,
    Note,
    Stage,
)  # fmt: skip
from tests.redis_server import fake_ledger, fake_redis
from tests.stack import eventually

PENDING, FETCHED, INDEXED, FAILED = (
    ItemState.PENDING,
    ItemState.FETCHED,
    ItemState.INDEXED,
    ItemState.FAILED,
)


def make_job(ledger: Ledger, total: int = 10, chunk_size: int = 4, **options: object) -> str:
    job_id = new_job_id()
    return ledger.create(job_id, collection="images", total=total, chunk_size=chunk_size, **options)  # type: ignore[arg-type]


def claim_next(ledger: Ledger) -> Claim:
    chunk = ledger.dispatch()[0]
    claim = ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    return claim


def run_to_end(ledger: Ledger, state: ItemState = INDEXED) -> None:
    """Takes every chunk that can be dispatched through all stages."""
    while chunks := ledger.dispatch():
        for chunk in chunks:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            if state is FAILED:
                ledger.advance(claim, transitions=[(i, FAILED) for i in ledger.pending(claim)])
                continue
            indices = ledger.pending(claim)
            ledger.advance(
                claim, transitions=[(i, FETCHED) for i in indices], next_stage=Stage.ENCODE, payload="a"
            )
            encode = ledger.claim(chunk, Stage.ENCODE)
            assert encode is not None
            assert encode.payload == "a"
            ledger.advance(encode, transitions=[], next_stage=Stage.INDEX, payload="b")
            (index,) = ledger.claim_ready(Stage.INDEX, 1)
            assert index.payload == "b"
            ledger.advance(index, transitions=[(i, state) for i in indices])


def test_a_job_runs_from_queued_to_succeeded_with_every_item_counted_once(ledger: Ledger) -> None:
    job_id = make_job(ledger)
    assert ledger.get(job_id).status is JobStatus.QUEUED
    run_to_end(ledger)
    job = ledger.get(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.counts[INDEXED] == 10
    assert sum(job.counts.values()) == job.total == 10
    assert job.finished_at is not None
    assert not any(q.waiting + q.running for q in ledger.workers.backlog().queues)


def test_a_job_keeps_the_notes_on_what_it_was_made_of(ledger: Ledger) -> None:
    notes = [Note("files_skipped", "No pictures by their names: 2 .json.", 2)]
    ledger.create("noted", collection="c", total=1, chunk_size=1, notes=notes)
    ledger.create("plain", collection="c", total=1, chunk_size=1)
    assert (ledger.get("noted").notes, ledger.get("plain").notes) == (notes, [])


def test_a_job_keeps_so_many_notes_and_none_shows_credentials(ledger: Ledger) -> None:
    url = "https://user:hunter2@example.com/a.jpg?token=hunter2"
    notes = [Note("values_as_text", f"`{url}` in line {number} is no number.", 1) for number in range(130)]
    ledger.create("noted", collection="c", total=1, chunk_size=1, notes=notes)
    kept = ledger.get("noted").notes
    assert (len(kept), kept[-1].code, kept[-1].count) == (MAX_NOTES, "more_notes", 31)
    assert "example.com/a.jpg" in kept[0].detail
    assert "hunter2" not in str(kept)


def test_a_claim_says_when_its_chunk_came_to_the_stage(ledger: Ledger) -> None:
    make_job(ledger)
    (chunk, *_) = ledger.dispatch()
    fetch = ledger.claim(chunk, Stage.FETCH)
    assert fetch is not None
    before = time.monotonic()
    ledger.advance(fetch, transitions=[(0, FETCHED)], next_stage=Stage.ENCODE, payload="a")
    time.sleep(0.3)
    asked = time.monotonic()
    claim = ledger.claim(chunk, Stage.ENCODE)
    assert claim is not None
    assert before - 0.01 < claim.arrived < asked


def test_chunks_cover_the_items_in_order_and_the_last_one_is_short(ledger: Ledger) -> None:
    make_job(ledger)
    claims = [ledger.claim(chunk, Stage.FETCH) for chunk in ledger.dispatch()]
    assert [(c.first_item, c.last_item) for c in claims if c] == [(0, 4), (4, 8), (8, 10)]


def test_dispatch_keeps_at_most_a_window_of_chunks_at_fetch(ledger: Ledger) -> None:
    make_job(ledger, total=1000)
    assert len(ledger.dispatch()) == 4
    assert ledger.dispatch() == []
    ledger.workers.heartbeat("w", "host", ["fetch"], 5)
    assert len(ledger.dispatch()) == 6


def test_dispatch_takes_open_jobs_in_turn_so_that_a_small_job_is_not_starved(ledger: Ledger) -> None:
    large = make_job(ledger, total=1000)
    small = make_job(ledger, total=4)
    assert [chunk.job_id for chunk in ledger.dispatch()] == [large, small, large, large]


def test_fetch_waits_while_encode_is_a_window_behind(ledger: Ledger) -> None:
    make_job(ledger, total=1000, chunk_size=1)
    for _ in range(2):
        for chunk in ledger.dispatch():
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim
            ledger.advance(
                claim, transitions=[(claim.first_item, FETCHED)], next_stage=Stage.ENCODE, payload="x"
            )
    assert ledger.dispatch() == []


@pytest.mark.parametrize("stage", [Stage.FETCH, Stage.ENCODE])
def test_an_export_passes_by_what_waits_for_a_model(ledger: Ledger, stage: Stage) -> None:
    for _ in range(20):
        make_job(ledger, total=1000, chunk_size=1)
    while chunks := ledger.dispatch():
        for chunk in chunks if stage is Stage.ENCODE else []:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim
            ledger.advance(claim, transitions=[(claim.first_item, FETCHED)], next_stage=stage, payload="x")
    export = make_job(ledger, total=1000, chunk_size=1, kind=JobKind.EXPORT)
    found = [chunk.job_id for _ in range(3) for chunk in ledger.dispatch()]  # each time among a few jobs
    assert set(found) == {export}
    assert len(found) in (4, 8)  # a window of its own


def test_a_chunk_is_claimed_by_one_worker_at_a_time(ledger: Ledger) -> None:
    make_job(ledger)
    claim = claim_next(ledger)
    assert ledger.claim(claim.chunk, Stage.FETCH) is None
    assert ledger.claim(claim.chunk, Stage.ENCODE) is None
    assert ledger.renew([claim]) == 1


def test_an_expired_lease_goes_to_the_next_worker_and_the_first_can_no_longer_advance(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = make_job(ledger, total=2)
    monkeypatch.setattr(ledger_module, "CHUNK_LEASE_SECONDS", 0.0)
    first = claim_next(ledger)
    assert (Stage.FETCH, first.chunk) in ledger.sweep()
    second = ledger.claim(first.chunk, Stage.FETCH)
    assert second is not None
    assert second.deliveries == 2
    assert ledger.advance(first, transitions=[(0, FAILED), (1, FAILED)]) is False
    assert ledger.get(job_id).counts[PENDING] == 2
    assert ledger.advance(second, transitions=[(0, INDEXED), (1, INDEXED)]) is True
    assert ledger.advance(first, transitions=[(0, FAILED), (1, FAILED)]) is False
    assert ledger.get(job_id).counts[INDEXED] == 2


def test_a_claim_whose_answer_got_lost_may_advance_again_and_is_told_that_it_has(ledger: Ledger) -> None:
    """Else its worker would take the payload for one that nobody wants, and delete it."""
    job_id = make_job(ledger, total=2)
    claim = claim_next(ledger)
    transitions = [(0, ItemState.FETCHED), (1, ItemState.FETCHED)]
    assert ledger.advance(claim, transitions=transitions, next_stage=Stage.ENCODE, payload="blob") is True
    onward = ledger.claim(claim.chunk, Stage.ENCODE)
    assert ledger.advance(claim, transitions=transitions, next_stage=Stage.ENCODE, payload="blob") is True
    assert ledger.get(job_id).counts[ItemState.FETCHED] == 2
    assert onward is not None
    assert ledger.renew([onward]) == 1


def test_a_lost_message_is_sent_again_by_the_sweeper(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    make_job(ledger, total=1)
    monkeypatch.setattr(ledger_module, "RESEND_SECONDS", 0.0)
    (chunk,) = ledger.dispatch()
    assert ledger.sweep() == [(Stage.FETCH, chunk)]
    assert ledger.claim(chunk, Stage.FETCH) is not None


@pytest.mark.parametrize("stage", [Stage.FETCH, Stage.ENCODE])
def test_chunks_that_wait_for_what_only_their_job_needs_hold_up_no_other_job(
    ledger: Ledger, stage: Stage
) -> None:
    make_job(ledger, total=100, chunk_size=1)
    waiting = 0
    while chunks := ledger.dispatch():
        for chunk in chunks:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            if stage is Stage.ENCODE:
                ledger.advance(claim, transitions=[], next_stage=stage, payload="a")
                claim = ledger.claim(chunk, stage)
                assert claim is not None
            ledger.release([claim], 1000.0, count_delivery=False, waits=True)
            waiting += 1
    assert waiting <= 8, "those that were sent already"
    other = make_job(ledger, total=100, chunk_size=1)
    assert {chunk.job_id for chunk in ledger.dispatch()} == {other}


def test_an_announcement_lasts_as_long_as_its_job(ledger: Ledger) -> None:
    one, two = make_job(ledger, total=1), make_job(ledger, total=1)
    assert ledger.models.announce(one, "siglip", "a") == 0.0
    time.sleep(0.01)
    assert ledger.models.announce(two, "clip", "b") == 0.0
    assert 0.0 < ledger.models.announce(one, "siglip", "a") < 5.0
    assert ledger.models.announced() == {"a": "siglip", "b": "clip"}
    ledger.cancel(one)
    assert ledger.models.announced() == {"b": "clip"}
    run_to_end(ledger)
    assert ledger.models.announced() == {}


def test_an_announcement_that_nobody_repeats_and_an_api_process_that_is_silent_are_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.models.announce("ended", "clip", "b")
    failed = {"b": processes.LoadFailure("Its weights lack x.", passing=False)}
    ledger.models.heartbeat("api", ["a"], failed)
    assert [(api.loaded, api.failed) for api in ledger.models.apis()] == [(["a"], failed)]
    monkeypatch.setattr(processes, "ANNOUNCED_SECONDS", -1.0)
    monkeypatch.setattr(processes, "API_SEEN_SECONDS", -1.0)
    assert ledger.models.announced() == {}
    assert ledger.models.apis() == []


def test_what_a_sweeper_was_given_is_due_again_until_it_has_been_sent(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one lost answer costs as long as a message that only waits behind others may."""
    make_job(ledger, total=1)
    monkeypatch.setattr(ledger_module, "SWEEP_HOLD_SECONDS", 0.0)
    claim = claim_next(ledger)
    ledger.release([claim], 0.0, count_delivery=False)
    assert ledger.sweep() == [(Stage.FETCH, claim.chunk)]
    assert ledger.sweep() == [(Stage.FETCH, claim.chunk)]
    ledger.sent([claim.chunk])
    assert ledger.sweep() == []


def test_a_released_chunk_comes_back_after_its_delay_and_counts_the_delivery_only_if_told(
    ledger: Ledger,
) -> None:
    make_job(ledger, total=1)
    claim = claim_next(ledger)
    ledger.release([claim], 0.0, count_delivery=False)
    assert ledger.claim(claim.chunk, Stage.FETCH) is None
    assert ledger.sweep() == [(Stage.FETCH, claim.chunk)]
    again = ledger.claim(claim.chunk, Stage.FETCH)
    assert again is not None
    assert again.deliveries == 1
    ledger.release([again], 1000.0, count_delivery=True)
    assert ledger.sweep() == []


def test_transient_failures_become_the_next_attempt_of_their_chunk(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=3)
    claim = claim_next(ledger)
    ledger.advance(claim, transitions=[(0, INDEXED)], retry_delay_s=0.0)
    assert ledger.get(job_id).counts[PENDING] == 2
    ((stage, chunk),) = ledger.sweep()
    assert (stage, chunk.number, chunk.attempt) == (Stage.FETCH, 0, 1)
    again = ledger.claim(chunk, Stage.FETCH)
    assert again is not None
    assert ledger.pending(again) == [1, 2]
    ledger.advance(
        again, transitions=[(1, INDEXED), (2, FAILED)], errors=[JobError(2, "u", "timeout", "slow")]
    )
    job = ledger.get(job_id)
    assert job.status is JobStatus.PARTIAL
    assert job.errors == [JobError(2, "u", "timeout", "slow")]


def test_a_job_whose_items_all_fail_has_failed(ledger: Ledger) -> None:
    job_id = make_job(ledger)
    run_to_end(ledger, FAILED)
    assert ledger.get(job_id).status is JobStatus.FAILED


def test_only_the_first_twenty_errors_are_kept(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=30, chunk_size=30)
    claim = claim_next(ledger)
    errors = [JobError(i, "u", "timeout", "slow") for i in range(30)]
    ledger.advance(claim, transitions=[(i, FAILED) for i in range(30)], errors=errors)
    assert [error.index for error in ledger.get(job_id).errors] == list(range(20))


def test_cancel_ends_the_job_and_work_in_flight_changes_nothing_more(ledger: Ledger) -> None:
    job_id = make_job(ledger)
    claim = claim_next(ledger)
    job = ledger.cancel(job_id)
    assert job.status is JobStatus.CANCELLED
    assert job.counts[ItemState.CANCELLED] == 10
    assert ledger.advance(claim, transitions=[(0, INDEXED)]) is False
    assert ledger.dispatch() == []
    assert not any(q.waiting + q.running for q in ledger.workers.backlog().queues)
    assert ledger.cancel(job_id).status is JobStatus.CANCELLED


def test_cancelling_a_finished_job_is_refused(ledger: Ledger) -> None:
    job_id = make_job(ledger)
    run_to_end(ledger)
    with pytest.raises(JobFinished):
        ledger.cancel(job_id)


def test_retry_opens_only_the_failed_items_again(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=6, chunk_size=2)
    with pytest.raises(JobRunning):
        ledger.retry(job_id)
    for chunk in ledger.dispatch():
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim
        first = claim.first_item
        ledger.advance(claim, transitions=[(first, INDEXED), (first + 1, FAILED if first == 2 else INDEXED)])
    assert ledger.get(job_id).status is JobStatus.PARTIAL
    assert ledger.retry(job_id).counts[PENDING] == 1
    (chunk,) = ledger.dispatch()
    assert (chunk.generation, chunk.number) == (1, 1)
    claim = ledger.claim(chunk, Stage.FETCH)
    assert claim
    assert ledger.pending(claim) == [3]
    ledger.advance(claim, transitions=[(3, INDEXED)])
    job = ledger.get(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.errors == []
    with pytest.raises(NothingToRetry):
        ledger.retry(job_id)


def test_a_streamed_job_is_running_and_grows_until_it_is_closed(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=0, reading=True)
    assert ledger.get(job_id).status is JobStatus.RUNNING
    ledger.extend(job_id, 6)
    assert [chunk.number for chunk in ledger.dispatch()] == [0]  # the second chunk is not full yet
    ledger.extend(job_id, 2)
    assert [chunk.number for chunk in ledger.dispatch()] == [1]
    ledger.extend(job_id, 1)
    assert ledger.dispatch() == []
    ledger.close(job_id, truncated=True)
    assert [chunk.number for chunk in ledger.dispatch()] == [2]
    job = ledger.get(job_id)
    assert (job.total, job.truncated) == (9, True)


def test_a_streamed_job_that_was_cancelled_takes_no_more_items(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=0, reading=True)
    ledger.extend(job_id, 4)
    assert ledger.cancel(job_id).counts[ItemState.CANCELLED] == 4
    with pytest.raises(JobFinished):
        ledger.extend(job_id, 4)


def test_a_reader_that_brings_nothing_is_found_abandoned(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "READING_LEASE_SECONDS", -1.0)
    job_id = make_job(ledger, total=0, reading=True)
    assert ledger.abandoned_readers() == [job_id]
    ledger.close(job_id, truncated=True)
    assert ledger.abandoned_readers() == []


def test_an_idempotency_key_makes_one_job_and_refuses_another_request(ledger: Ledger) -> None:
    first = make_job(ledger, idempotency=("k", "digest"))
    assert make_job(ledger, idempotency=("k", "digest")) == first
    assert ledger.idempotent_job("k", "digest") == first
    assert ledger.idempotent_job("other", "digest") is None
    with pytest.raises(IdempotencyMismatch):
        make_job(ledger, idempotency=("k", "another"))
    assert len(ledger.list_jobs(None, None, 10)[0]) == 1


def test_jobs_are_listed_newest_first_in_pages_and_by_status(ledger: Ledger) -> None:
    ids = [make_job(ledger, total=1) for _ in range(5)]
    page, cursor = ledger.list_jobs(None, None, 3)
    rest, end = ledger.list_jobs(None, cursor, 3)
    assert [job.job_id for job in page + rest] == ids[::-1]
    assert end is None
    ledger.cancel(ids[2])
    assert [job.job_id for job in ledger.list_jobs(JobStatus.CANCELLED, None, 3)[0]] == [ids[2]]


def test_items_are_paged_by_state(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=6, chunk_size=6)
    ledger.advance(claim_next(ledger), transitions=[(i, FAILED if i % 2 else INDEXED) for i in range(6)])
    page, start = ledger.items(job_id, FAILED, 0, 2)
    assert page == [(1, FAILED), (3, FAILED)]
    assert start is not None
    assert ledger.items(job_id, FAILED, start, 2) == ([(5, FAILED)], None)


def test_the_writer_lease_has_one_holder_and_is_kept_while_a_chunk_waits(ledger: Ledger) -> None:
    make_job(ledger, total=1)
    claim = claim_next(ledger)
    assert ledger.writer.acquire("a")
    assert not ledger.writer.acquire("b")
    assert not ledger.writer.renew("b")
    ledger.advance(claim, transitions=[(0, FETCHED)], next_stage=Stage.INDEX, payload="x")
    assert ledger.writer.release("a") is False
    assert ledger.claim_ready(Stage.INDEX, 100)
    assert ledger.writer.release("a") is True
    assert ledger.writer.acquire("b")


def test_ready_chunks_are_claimed_up_to_a_batch_and_not_past_it(ledger: Ledger) -> None:
    make_job(ledger, total=12)
    for chunk in ledger.dispatch():
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim
        ledger.advance(claim, transitions=[], next_stage=Stage.INDEX, payload="x")
    assert [claim.chunk.number for claim in ledger.claim_ready(Stage.INDEX, 11)] == [0, 1]
    assert [claim.chunk.number for claim in ledger.claim_ready(Stage.INDEX, 1)] == [2], "one at least"


def test_versions_follow_the_order_in_which_jobs_and_changes_are_asked_for(ledger: Ledger) -> None:
    before = ledger.writer.new_version()
    first, second = (
        make_job(ledger, total=3, chunk_size=2),
        make_job(ledger, total=100_000, chunk_size=50_000),
    )
    streamed, after = make_job(ledger, total=0, reading=True), ledger.writer.new_version()
    ledger.extend(streamed, 4)
    claims = {c.job_id: ledger.claim(c, Stage.FETCH) for c in ledger.dispatch() if c.number == 0}
    bases = [claim.version for job in (first, second, streamed) if (claim := claims[job])]
    assert before < bases[0] < bases[0] + 2 < bases[1] < bases[1] + 99_999 < bases[2]
    assert bases[2] + 4_999_999 < after < ledger.writer.new_version()
    assert bases[0] % 1000 == 0


def test_a_job_knows_whether_an_older_one_of_its_collection_is_at_work(ledger: Ledger) -> None:
    first, second = make_job(ledger), make_job(ledger)
    elsewhere = ledger.create(new_job_id(), collection="cats", total=1, chunk_size=1)
    ages = [(first, "images"), (second, "images"), (elsewhere, "cats")]
    assert [ledger.joins.is_oldest(*one) for one in ages] == [True, False, True]
    ledger.cancel(first)
    assert ledger.joins.is_oldest(second, "images")


def test_a_job_s_version_is_the_same_at_every_stage_and_after_a_retry(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=2)
    first = claim_next(ledger)
    ledger.advance(first, transitions=[(0, FETCHED), (1, FAILED)], next_stage=Stage.ENCODE, payload="a")
    encode = ledger.claim(first.chunk, Stage.ENCODE)
    assert encode is not None
    ledger.advance(encode, transitions=[], next_stage=Stage.INDEX, payload="b")
    (index,) = ledger.claim_ready(Stage.INDEX, 9)
    ledger.advance(index, transitions=[(0, INDEXED)])
    ledger.retry(job_id)
    again = claim_next(ledger)
    assert again.chunk.generation == 1
    assert {encode.version, index.version, again.version} == {first.version}


def test_who_wants_the_writer_s_lease_gets_it_next(ledger: Ledger) -> None:
    assert ledger.writer.acquire("busy")
    assert not ledger.writer.acquire("change")
    ledger.writer.want("change")
    ledger.writer.want("another")
    assert ledger.writer.is_wanted()
    assert ledger.writer.renew("busy")
    ledger.writer.release("busy")
    assert not ledger.writer.acquire("busy")
    assert not ledger.writer.acquire("another")
    assert ledger.writer.acquire("change")
    assert not ledger.writer.is_wanted()
    ledger.writer.release("change")
    assert ledger.writer.acquire("busy")


def test_who_asks_for_the_lease_and_goes_away_holds_nobody_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WRITER_WANTED_SECONDS", 0.001)
    ledger.writer.want("gone")
    eventually(lambda: ledger.writer.acquire("busy"))


def test_files_that_were_put_aside_are_remembered(ledger: Ledger) -> None:
    ledger.writer.record_trashed("a/b", ["1", "2"])
    ledger.writer.record_trashed("c", ["1"])
    assert ledger.writer.trashed("a/b", ["2", "3", "1"]) == ["2", "1"]
    assert ledger.writer.trashed_before(0) == []
    assert sorted(ledger.writer.trashed_before(1e12)) == [("a/b", "1"), ("a/b", "2"), ("c", "1")]
    ledger.writer.forget_trashed("a/b", ["1", "3"])
    assert ledger.writer.trashed("a/b", ["1", "2"]) == ["2"]


def test_removals_are_remembered_by_image_and_by_collection(ledger: Ledger) -> None:
    ledger.writer.record_removal("images", "a", 5)
    assert ledger.writer.removals("images", ["a", "b"]) == {"a": 5}
    ledger.writer.record_removal("images", "*", 7)
    assert ledger.writer.removals("images", ["a", "b"]) == {"a": 7, "b": 7}
    assert ledger.writer.removals("other", ["a"]) == {}


def test_finished_jobs_expire_and_leave_nothing_behind() -> None:
    client = fake_redis()
    ledger = Ledger("", client=client, job_ttl_s=-1)
    job_id = make_job(ledger)
    run_to_end(ledger)
    assert ledger.expired_jobs() == [job_id]
    ledger.forget_job(job_id)
    assert [key for key in client.scan_iter() if job_id in key and client.ttl(key) == -1] == []
    with pytest.raises(JobNotFound):
        ledger.get(job_id)


def test_chunks_of_a_job_that_is_gone_are_dropped(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=100)
    chunk, held, *_ = ledger.dispatch()
    claim = ledger.claim(held, Stage.FETCH)
    assert claim
    ledger._redis.client.delete(f"is:job:{job_id}", f"is:states:{job_id}")
    assert ledger.claim(chunk, Stage.FETCH) is None
    assert not ledger.advance(claim, transitions=[(held.number * 4, INDEXED)])
    assert ledger.dispatch() == []
    assert not ledger.exists(job_id)


def test_a_job_that_is_retried_does_not_expire() -> None:
    ledger = fake_ledger(job_ttl_s=-1)
    job_id = make_job(ledger, total=2)
    run_to_end(ledger, FAILED)
    assert ledger.expired_jobs() == [job_id]
    ledger.retry(job_id)
    assert not ledger.forget_job(job_id)
    assert ledger.get(job_id).counts[PENDING] == 2


def test_the_rate_counts_what_was_done_in_this_run_and_not_what_was_cancelled(ledger: Ledger) -> None:
    idle = make_job(ledger, total=1000)
    ledger.cancel(idle)
    assert ledger.get(idle).rate_per_s is None
    job_id = make_job(ledger, total=8)
    first, second = ledger.dispatch()
    for chunk, state in ((first, INDEXED), (second, FAILED)):
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim
        ledger.advance(claim, transitions=[(i, state) for i in ledger.pending(claim)])
    assert ledger.get(job_id).rate_per_s is not None
    ledger.retry(job_id)
    claim = claim_next(ledger)
    assert ledger.get(job_id).rate_per_s is None
    ledger.advance(claim, transitions=[(i, INDEXED) for i in ledger.pending(claim)])
    job = ledger.get(job_id)
    assert job.rate_per_s is not None
    assert job.finished_at is not None
    assert job.started_at is not None
    assert job.rate_per_s * (job.finished_at - job.started_at) == pytest.approx(4)


@pytest.mark.parametrize("method", ["cancel", "retry", "get"])
def test_an_unknown_job_is_not_found(ledger: Ledger, method: str) -> None:
    with pytest.raises(JobNotFound):
        getattr(ledger, method)("nope")


def test_workers_are_seen_while_their_heartbeat_is_fresh(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.workers.heartbeat("w", "host", ["fetch", "encode"], 2)
    assert [(w.id, w.queues, w.slots) for w in ledger.workers.seen()] == [("w", ["fetch", "encode"], 2)]
    monkeypatch.setattr(processes, "WORKER_SEEN_SECONDS", -1.0)
    assert ledger.workers.seen() == []


def test_queues_and_open_jobs_follow_a_job_to_its_end(ledger: Ledger) -> None:
    make_job(ledger, total=8)
    chunks = ledger.dispatch()
    held = ledger.claim(chunks[0], Stage.FETCH)
    assert held is not None
    assert [(q.stage, q.waiting, q.running) for q in ledger.workers.backlog().queues] == [
        (Stage.FETCH, 1, 1),
        (Stage.ENCODE, 0, 0),
        (Stage.INDEX, 0, 0),
    ]
    assert ledger.workers.backlog().open_jobs == 1
    for claim in (held, ledger.claim(chunks[1], Stage.FETCH)):
        assert claim is not None
        ledger.advance(claim, transitions=[(index, FAILED) for index in ledger.pending(claim)])
    assert all(q.waiting == q.running == 0 for q in ledger.workers.backlog().queues)
    assert ledger.workers.backlog().open_jobs == 0


def test_redis_holds_one_byte_an_item_and_a_window_of_chunks(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=100_000, chunk_size=64)
    ledger.dispatch()
    with_large = ledger._redis.client.memory_usage(f"is:states:{job_id}") if ledger._redis._url else 100_000
    assert with_large <= 200_000
    assert len(ledger._redis.client.keys("is:chunk:*")) == 4


def test_a_lost_redis_is_one_clear_error() -> None:
    with pytest.raises(LedgerUnavailable):
        Ledger("redis://127.0.0.1:1/0").ping()


def test_a_chunk_reference_survives_its_message() -> None:
    chunk = Chunk("job", 2, 3, 1)
    assert Chunk.parse(chunk.ref) == chunk


def reindex_job(ledger: Ledger, total: int = 6) -> str:
    """All of its items are indexed, and what is left is the chunk beyond them."""
    job_id = make_job(ledger, total, kind=JobKind.REINDEX, final_stage=Stage.ENCODE, options={"model": "m"})
    run_to_end(ledger)
    return job_id


def claim_finish(ledger: Ledger) -> Claim:
    ((stage, chunk),) = ledger.sweep()
    assert stage is Stage.ENCODE
    claim = ledger.claim(chunk, stage)
    assert claim is not None
    return claim


def test_a_reindex_ends_with_one_more_chunk_that_says_what_became_of_it(ledger: Ledger) -> None:
    job_id = reindex_job(ledger)
    assert ledger.get(job_id).status is JobStatus.RUNNING
    claim = claim_finish(ledger)
    assert (claim.payload, claim.kind, claim.options) == ("finish", JobKind.REINDEX, {"model": "m"})
    assert claim.first_item >= claim.last_item
    assert ledger.advance(claim, transitions=[], result={"switched": True, "detail": "x"}, complete=True)
    job = ledger.get(job_id)
    assert (job.status, job.result) == (JobStatus.SUCCEEDED, {"switched": True, "detail": "x"})
    ledger.advance(claim, transitions=[], result={"switched": False})
    assert ledger.get(job_id).result == {"switched": True, "detail": "x"}
    assert ledger.sweep() == []


@pytest.mark.parametrize("result", [{"switched": False}, None])
def test_a_reindex_that_has_not_switched_has_not_succeeded(
    ledger: Ledger, result: dict[str, bool] | None
) -> None:
    job_id = reindex_job(ledger)
    assert ledger.advance(claim_finish(ledger), transitions=[], result=result)
    assert ledger.get(job_id).status is JobStatus.PARTIAL


def test_a_reindex_can_be_cancelled_before_its_last_chunk(ledger: Ledger) -> None:
    job_id = reindex_job(ledger)
    claim = claim_finish(ledger)
    assert ledger.cancel(job_id).status is JobStatus.CANCELLED
    assert ledger.renew([claim]) == 0
    assert not ledger.advance(claim, transitions=[], result={"switched": True}, complete=True)
    assert ledger.get(job_id).status is JobStatus.CANCELLED
    assert ledger.sweep() == []


def test_a_retried_reindex_is_finished_anew(ledger: Ledger) -> None:
    job_id = make_job(ledger, 4, kind=JobKind.REINDEX, final_stage=Stage.ENCODE)
    run_to_end(ledger, FAILED)
    ledger.advance(claim_finish(ledger), transitions=[], result={"switched": False})
    assert ledger.get(job_id).status is JobStatus.FAILED
    ledger.retry(job_id)
    run_to_end(ledger)
    ledger.advance(claim_finish(ledger), transitions=[], result={"switched": True}, complete=True)
    assert ledger.get(job_id).status is JobStatus.SUCCEEDED


def test_a_job_without_a_kind_is_an_ingest(ledger: Ledger) -> None:
    job_id = make_job(ledger)
    ledger._redis.client.hdel(f"is:job:{job_id}", "kind", "options", "result", "finish")
    claim = claim_next(ledger)
    assert (claim.kind, claim.options) == (JobKind.INGEST, {})
    assert ledger.get(job_id).kind is JobKind.INGEST


def test_a_postponed_attempt_does_not_count_and_holds_the_job_s_next_chunks(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=8, chunk_size=4)
    (first,) = [chunk for chunk in ledger.dispatch() if chunk.number == 0]
    claim = ledger.claim(first, Stage.FETCH)
    assert claim is not None
    assert claim.postponed == 0
    assert ledger.advance(claim, transitions=[(0, INDEXED)], retry_delay_s=0.0, hold_s=60.0)
    (again,) = [chunk for _, chunk in ledger.sweep() if chunk.number == 0]
    assert (again.attempt, again.job_id) == (1, job_id)
    claim = ledger.claim(again, Stage.FETCH)
    assert claim is not None
    assert claim.postponed == 1
    assert ledger.advance(claim, transitions=[], retry_delay_s=0.0)
    (third,) = [chunk for _, chunk in ledger.sweep() if chunk.attempt == 2]
    claim = ledger.claim(third, Stage.FETCH)
    assert claim is not None
    assert claim.postponed == 1


def test_a_held_job_lets_others_go_on(ledger: Ledger) -> None:
    held = make_job(ledger, total=400, chunk_size=4)
    claim = claim_next(ledger)
    assert ledger.advance(claim, transitions=[], retry_delay_s=30.0, hold_s=30.0)
    sent_before = ledger.dispatch()
    other = make_job(ledger, total=4, chunk_size=4)
    assert sent_before == []
    assert [chunk.job_id for chunk in ledger.dispatch()] == [other]
    assert ledger.get(held).status is JobStatus.RUNNING


def claim_all(ledger: Ledger) -> list[Claim]:
    claims = [ledger.claim(chunk, Stage.FETCH) for chunk in ledger.dispatch()]
    return [claim for claim in claims if claim]


def fail_all(ledger: Ledger, claim: Claim, code: str, *, transient: bool = False) -> None:
    failed = ledger.pending(claim)
    ledger.advance(
        claim,
        transitions=[(i, FAILED) for i in failed],
        errors=[JobError(i, f"http://x/{i}", code, "why") for i in failed],
        transient=failed if transient else [],
    )


def test_failures_are_counted_by_code_and_by_whether_a_retry_may_help(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=30, chunk_size=10)
    first, second, third = claim_all(ledger)
    fail_all(ledger, first, "http_status")
    fail_all(ledger, second, "http_status", transient=True)
    fail_all(ledger, third, "not_an_image")
    fail_all(ledger, third, "not_an_image")  # an answer that was lost changes no count
    job = ledger.get(job_id)
    assert [(one.code, one.count, one.worth_retrying) for one in job.failures] == [
        ("http_status", 20, 10), ("not_an_image", 10, 0),
    ]  # fmt: skip
    assert sum(one.count for one in job.failures) == job.counts[FAILED]
    assert ledger.retry(job_id).failures == []


def test_what_waits_to_be_tried_again_is_said_with_the_next_of_it_and_without_a_rate(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=12, chunk_size=4)
    assert ledger.get(job_id).retrying is None
    claims = claim_all(ledger)
    for claim, waiting, delay in zip(claims, [(1, 2, 4), (3, 3, 4)], [60.0, 30.0], strict=False):
        done = [(i, INDEXED) for i in ledger.pending(claim)[waiting[0] :]]
        ledger.advance(claim, transitions=done, retry_delay_s=delay, waiting=waiting)
    job = ledger.get(job_id)
    assert job.retrying is not None
    assert (job.retrying.items, job.retrying.attempt, job.retrying.attempts) == (4, 3, 4)
    assert 25 < job.retrying.in_s <= 30
    assert job.rate_per_s is not None  # the third chunk is still being fetched
    ledger.advance(claims[2], transitions=[(i, INDEXED) for i in range(8, 12)])
    job = ledger.get(job_id)
    assert (job.rate_per_s, job.eta_s, job.status) == (None, None, JobStatus.RUNNING)
    assert sum(job.counts.values()) == job.total


def test_a_wait_is_over_when_its_items_were_tried_again(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=2, chunk_size=2)
    claim = claim_next(ledger)
    ledger.advance(claim, transitions=[(0, INDEXED)], retry_delay_s=0.0, waiting=(1, 2, 4))
    assert ledger.get(job_id).retrying is not None
    ((_, chunk),) = ledger.sweep()
    again = ledger.claim(chunk, Stage.FETCH)
    assert again is not None
    job = ledger.get(job_id)
    assert job.retrying is not None
    assert (job.retrying.items, job.retrying.in_s, job.rate_per_s, job.eta_s) == (1, 0.0, None, None)
    ledger.advance(again, transitions=[(1, INDEXED)])
    job = ledger.get(job_id)
    assert (job.retrying, job.status) == (None, JobStatus.SUCCEEDED)


def test_a_cancelled_job_waits_for_nothing_even_when_its_chunk_comes_up(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=2, chunk_size=2)
    ledger.advance(claim_next(ledger), transitions=[], retry_delay_s=0.0, waiting=(2, 2, 4))
    assert ledger.cancel(job_id).retrying is None
    assert ledger.sweep() == []
    job = ledger.get(job_id)
    assert (job.retrying, job.status) == (None, JobStatus.CANCELLED)


def test_jobs_are_listed_by_collection_and_by_group(ledger: Ledger) -> None:
    group = Label(name="holiday", origin="page", made_of="folder", group="g1")
    parts = [make_job(ledger, total=1, label=group) for _ in range(2)]
    other = ledger.create(new_job_id(), collection="cats", total=1, chunk_size=1)
    job = ledger.get(parts[0])
    assert (job.label, ledger.get(other).label) == (group, Label())
    assert [job.job_id for job in ledger.list_jobs(None, None, 9, group="g1")[0]] == parts[::-1]
    assert [job.job_id for job in ledger.list_jobs(None, None, 9, collection="cats")[0]] == [other]
    assert ledger.list_jobs(None, None, 9, collection="cats", group="g1") == ([], None)


def test_a_group_takes_no_more_jobs_than_are_added_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_GROUP_JOBS", 2)
    make_job(ledger, label=Label(group="g2"), idempotency=("k", "digest"))
    make_job(ledger, label=Label(group="g2"))
    with pytest.raises(InvalidRequest, match="begin another"):
        make_job(ledger, label=Label(group="g2"))
    make_job(ledger, label=Label(group="g2"), idempotency=("k", "digest"))  # a repeat, not one more


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("  two\nlines\t\x1b[31m ", "two lines [31m"),
        ("\u202egpj.exe", "gpj.exe"),
        ("a\ud800b", "a b"),
        ("x" * 500, "x" * 200),
        ("https://me:secret@example.com/a?token=abc", "https://REDACTED@example.com/a?token=REDACTED"),
        (" \n ", None),
    ],
)
def test_a_name_is_one_line_without_what_is_not_to_be_shown(name: str, shown: str | None) -> None:
    assert Label(name=name).name == shown


def test_a_claim_says_which_request_brought_it_about(ledger: Ledger) -> None:
    first, again = Cause("r-1", "00-aa-bb-01"), Cause("r-2")
    job_id = make_job(ledger, total=1, cause=first)
    claim = claim_next(ledger)
    assert claim.cause == first
    ledger.advance(claim, transitions=[(0, FAILED)])
    ledger.retry(job_id, again)
    assert claim_next(ledger).cause == again


def test_a_job_of_an_earlier_version_has_no_cause(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=1, cause=Cause("r-1", "00-aa-bb-01"))
    ledger._redis.call("hdel", f"{PREFIX}job:{job_id}", "request_id", "traceparent")
    assert claim_next(ledger).cause == Cause()


def test_failed_items_count_in_the_totals_by_their_code_once(ledger: Ledger) -> None:
    make_job(ledger, total=3)
    claim = claim_next(ledger)
    errors = [JobError(i, "", code, "no.") for i, code in enumerate(["timeout", "timeout", "dns_error"])]
    for _ in range(2):
        ledger.advance(claim, transitions=[(i, FAILED) for i in range(3)], errors=errors)
    totals = ledger._redis.client.hgetall(f"{PREFIX}totals")
    assert {code: totals[f"code:{code}"] for code in ("timeout", "dns_error")} == {
        "timeout": "2",
        "dns_error": "1",
    }
