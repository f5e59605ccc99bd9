"""Jobs that begin without items, as a sync does: one chunk plans them, a last one notes what they came to."""

from typing import Any

import pytest

from shared.errors import JobFinished, NothingToRetry, TooManyJobs
from shared.ledger import ledger as ledger_module
from shared.ledger.callbacks import Lane
from shared.ledger.ledger import BEGIN, FINAL, Ledger, new_job_id
from shared.ledger.scripts import PREFIX
from shared.models import Chunk, Claim, ItemState, JobError, JobKind, JobStatus, Label, Note, Stage
from tests.redis_server import fake_ledger, fake_redis

FAILED, INDEXED, PENDING, UNCHANGED = (
    ItemState.FAILED,
    ItemState.INDEXED,
    ItemState.PENDING,
    ItemState.UNCHANGED,
)
CALLBACK = "https://a.example/done"


def make_sync(ledger: Ledger, source: str = "feed", **options: Any) -> str:
    return ledger.create(
        new_job_id(), collection="images", total=0, chunk_size=4, kind=JobKind.SYNC, begins=True,
        final_stage=Stage.FETCH, source=source, label=Label(made_of=source), **options,
    )  # fmt: skip


def claim_begin(ledger: Ledger, job_id: str) -> Claim:
    claim = ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
    assert claim is not None
    assert claim.payload == BEGIN
    return claim


def planned(ledger: Ledger, states: str, **options: Any) -> str:
    job_id = make_sync(ledger, **options)
    assert ledger.plan(claim_begin(ledger, job_id), states)
    return job_id


def run_items(ledger: Ledger, state: ItemState = INDEXED) -> list[int]:
    """End what waits to be fetched; return which items that was."""
    ran: list[int] = []
    while chunks := ledger.dispatch():
        for chunk in chunks:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            assert claim.payload == ""
            indices = ledger.pending(claim)
            errors = [JobError(i, "u", "timeout", "slow") for i in indices if state is FAILED]
            ledger.advance(claim, transitions=[(i, state) for i in indices], errors=errors)
            ran += indices
    return ran


def claim_final(ledger: Ledger, job_id: str) -> Claim:
    ((stage, chunk),) = ledger.sweep()
    claim = ledger.claim(chunk, stage)
    assert claim is not None
    assert (stage, chunk.job_id, claim.payload) == (Stage.FETCH, job_id, FINAL)
    assert claim.first_item >= claim.last_item
    return claim


def end(ledger: Ledger, job_id: str, **options: Any) -> JobStatus:
    run_items(ledger)
    assert ledger.advance(claim_final(ledger, job_id), transitions=[], **options)
    return ledger.get(job_id).status


def test_a_job_that_begins_waits_without_items_until_it_is_planned(ledger: Ledger) -> None:
    job_id = make_sync(ledger)
    job = ledger.get(job_id)
    assert (job.status, job.total, job.finished_at) == (JobStatus.QUEUED, 0, None)
    assert ledger.dispatch() == []
    claim = claim_begin(ledger, job_id)
    assert (claim.first_item, claim.last_item, ledger.pending(claim)) == (0, 0, [])
    job = ledger.get(job_id)
    assert (job.status, job.rate_per_s, job.eta_s) == (JobStatus.RUNNING, None, None)
    assert sum(job.counts.values()) == 0


def test_a_plan_gives_the_job_its_items_and_those_that_ended_are_not_fetched(ledger: Ledger) -> None:
    notes = [Note("rows_skipped", "Without a URL: 2.", 2)]
    job_id = make_sync(ledger)
    assert ledger.plan(claim_begin(ledger, job_id), "6066606600", notes=notes)
    job = ledger.get(job_id)
    assert (job.status, job.total, job.notes) == (JobStatus.RUNNING, 10, notes)
    assert (job.counts[PENDING], job.counts[UNCHANGED], sum(job.counts.values())) == (4, 6, 10)
    assert ledger.items(job_id, UNCHANGED, 0, 99)[0] == [(i, UNCHANGED) for i in (0, 2, 3, 4, 6, 7)]
    assert ledger.workers.totals()["unchanged"] == 6
    assert run_items(ledger) == [1, 5, 8, 9]
    assert ledger.get(job_id).finished_at is None, "its last chunk is left"
    assert ledger.advance(claim_final(ledger, job_id), transitions=[], complete=True)
    job = ledger.get(job_id)
    assert (job.status, job.counts[INDEXED], job.counts[UNCHANGED]) == (JobStatus.SUCCEEDED, 4, 6)
    assert job.finished_at is not None
    assert ledger.sources.running("feed") is None
    assert not any(q.waiting + q.running for q in ledger.workers.backlog().queues)


@pytest.mark.parametrize("states", ["", "6", "66666", "6666"])
def test_a_plan_that_leaves_nothing_to_fetch_comes_to_the_last_chunk_at_once(
    ledger: Ledger, states: str
) -> None:
    job_id = planned(ledger, states)
    assert run_items(ledger) == []
    assert ledger.get(job_id).status is JobStatus.RUNNING
    assert end(ledger, job_id, complete=True) is JobStatus.SUCCEEDED
    assert ledger.get(job_id).total == len(states)
    assert ledger.sweep() == []


@pytest.mark.parametrize("states", ["", "666", "600"])
def test_a_last_chunk_that_could_not_do_all_leaves_the_job_partial(ledger: Ledger, states: str) -> None:
    job_id = planned(ledger, states)
    assert end(ledger, job_id, result={"withheld": 3}) is JobStatus.PARTIAL
    assert ledger.get(job_id).result == {"withheld": 3}
    assert ledger.sources.running("feed") is None


def test_the_begin_chunk_s_message_is_sent_again_when_it_was_lost(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "RESEND_SECONDS", 0.0)
    job_id = make_sync(ledger)
    assert ledger.sweep() == [(Stage.FETCH, Chunk(job_id, 0, 0))]
    claim_begin(ledger, job_id)


def test_a_begin_chunk_whose_worker_died_goes_to_another_and_only_that_one_plans(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "CHUNK_LEASE_SECONDS", 0.0)
    job_id = make_sync(ledger)
    dead = claim_begin(ledger, job_id)
    assert ledger.sweep() == [(Stage.FETCH, dead.chunk)]
    second = claim_begin(ledger, job_id)
    assert second.deliveries == 2
    assert not ledger.plan(dead, "00000000")
    assert ledger.plan(second, "00")
    assert not ledger.plan(dead, "00000000")
    assert not ledger.advance(dead, transitions=[], result={"detail": "broke off"})
    job = ledger.get(job_id)
    assert (job.total, job.counts[PENDING], job.result) == (2, 2, None)


def test_a_begin_message_that_is_late_or_doubled_begins_nothing_anew(ledger: Ledger) -> None:
    job_id = make_sync(ledger)
    chunk = claim_begin(ledger, job_id).chunk
    assert ledger.claim(chunk, Stage.FETCH) is None, "doubled"
    job_id = planned(ledger, "00", source="another")
    late = Chunk(job_id, 0, 0)
    assert ledger.claim(late, Stage.FETCH) is None, "its first items are not sent yet"
    assert late in ledger.dispatch()
    first = ledger.claim(late, Stage.FETCH)
    assert first is not None
    assert (first.payload, first.first_item, first.last_item) == ("", 0, 2)


def test_a_plan_whose_answer_got_lost_may_be_made_again_and_changes_nothing(ledger: Ledger) -> None:
    job_id = make_sync(ledger, made_by="k")
    begin = claim_begin(ledger, job_id)
    assert ledger.plan(begin, "006", size=5)
    assert ledger.plan(begin, "006", size=5)
    (chunk,) = ledger.dispatch()
    first = ledger.claim(chunk, Stage.FETCH)
    assert first is not None
    assert ledger.plan(begin, "006", size=5)
    assert ledger.renew([first]) == 1
    assert ledger.advance(first, transitions=[(0, INDEXED), (1, INDEXED)])
    assert ledger.plan(begin, "006", size=5)
    job = ledger.get(job_id)
    assert (job.total, job.counts[INDEXED], job.counts[UNCHANGED]) == (3, 2, 1)
    assert ledger.workers.totals()["unchanged"] == 1
    assert ledger._redis.client.hgetall(f"{PREFIX}held") == {"k": "5", "k:active": "5"}


def test_a_begin_chunk_that_fails_ends_the_job_failed_with_the_reason(ledger: Ledger) -> None:
    job_id = make_sync(ledger)
    reason = {"detail": "The feed broke off after 17 rows."}
    assert ledger.advance(claim_begin(ledger, job_id), transitions=[], result=reason)
    job = ledger.get(job_id)
    assert (job.status, job.total, job.result) == (JobStatus.FAILED, 0, reason)
    assert job.finished_at is not None
    assert ledger.sweep() == ledger.dispatch() == []
    make_sync(ledger)


def test_a_begin_chunk_that_has_done_all_ends_the_job_without_items(ledger: Ledger) -> None:
    job_id = make_sync(ledger)
    found = {"dry_run": True}
    assert ledger.advance(claim_begin(ledger, job_id), transitions=[], result=found, complete=True)
    job = ledger.get(job_id)
    assert (job.status, job.total, job.result) == (JobStatus.SUCCEEDED, 0, found)
    assert ledger.sweep() == ledger.dispatch() == []
    make_sync(ledger)


@pytest.mark.parametrize("is_claimed", [False, True])
def test_cancelled_before_its_plan_a_job_ends_at_once(ledger: Ledger, is_claimed: bool) -> None:
    job_id = make_sync(ledger)
    claim = claim_begin(ledger, job_id) if is_claimed else None
    job = ledger.cancel(job_id)
    assert (job.status, job.total) == (JobStatus.CANCELLED, 0)
    assert job.finished_at is not None
    if claim:
        assert ledger.renew([claim]) == 0
        assert not ledger.plan(claim, "000")
        assert not ledger.advance(claim, transitions=[], complete=True)
    assert ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH) is None
    assert ledger.sweep() == ledger.dispatch() == []
    assert (ledger.get(job_id).status, ledger.get(job_id).total) == (JobStatus.CANCELLED, 0)
    make_sync(ledger)


@pytest.mark.parametrize("complete", [True, False])
def test_cancelled_after_its_plan_a_job_has_its_last_chunk_before_it_ends(
    ledger: Ledger, complete: bool
) -> None:
    job_id = planned(ledger, "00006660", callback_url=CALLBACK)
    claim = ledger.claim(ledger.dispatch()[0], Stage.FETCH)
    assert claim is not None
    job = ledger.cancel(job_id)
    assert (job.status, job.finished_at) == (JobStatus.CANCELLED, None)
    assert (job.counts[ItemState.CANCELLED], job.counts[UNCHANGED]) == (5, 3)
    assert not ledger.advance(claim, transitions=[(0, INDEXED)])
    assert ledger.dispatch() == []
    assert ledger.sources.running("feed") == job_id
    assert ledger.callbacks.take(Lane.NEW, 60) is None
    assert ledger.cancel(job_id).status is JobStatus.CANCELLED
    final = claim_final(ledger, job_id)
    assert final.chunk.generation == 1
    assert ledger.renew([final]) == 1
    assert ledger.advance(final, transitions=[], result={"detail": "noted"}, complete=complete)
    job = ledger.get(job_id)
    assert (job.status, job.result) == (JobStatus.CANCELLED, {"detail": "noted"})
    assert job.finished_at is not None
    assert ledger.sources.running("feed") is None
    assert ledger.callbacks.take(Lane.NEW, 60) is not None
    assert ledger.sweep() == []
    assert ledger.cancel(job_id).status is JobStatus.CANCELLED


def test_cancelled_in_its_last_chunk_a_job_has_that_chunk_again(ledger: Ledger) -> None:
    job_id = planned(ledger, "66")
    before = claim_final(ledger, job_id)
    assert ledger.cancel(job_id).status is JobStatus.CANCELLED
    assert ledger.renew([before]) == 0
    assert not ledger.advance(before, transitions=[], complete=True)
    assert ledger.advance(claim_final(ledger, job_id), transitions=[], complete=True)
    job = ledger.get(job_id)
    assert (job.status, job.counts[UNCHANGED], job.counts[ItemState.CANCELLED]) == (JobStatus.CANCELLED, 2, 0)
    assert job.finished_at is not None


def test_one_that_has_ended_is_not_cancelled(ledger: Ledger) -> None:
    job_id = planned(ledger, "6")
    assert end(ledger, job_id, complete=True) is JobStatus.SUCCEEDED
    with pytest.raises(JobFinished):
        ledger.cancel(job_id)
    assert ledger.sweep() == []


def test_a_cancelled_job_is_kept_until_its_last_chunk_has_ended() -> None:
    ledger = fake_ledger(most_jobs=1, job_ttl_s=-1)
    job_id = planned(ledger, "00", made_by="k")
    ledger.cancel(job_id)
    assert ledger.expired_jobs() == []
    assert not ledger.forget_job(job_id)
    with pytest.raises(TooManyJobs):
        make_sync(ledger, "another", made_by="k")
    ledger.advance(claim_final(ledger, job_id), transitions=[])
    assert ledger.expired_jobs() == [job_id]
    make_sync(ledger, "another", made_by="k")
    assert not ledger.exists(job_id)


def test_nothing_stays_of_a_sync_that_is_forgotten() -> None:
    client = fake_redis()
    ledger = Ledger("", client=client, job_ttl_s=-1)
    failed, cancelled = make_sync(ledger, "a", made_by="k"), make_sync(ledger, "b", made_by="k")
    ledger.advance(claim_begin(ledger, failed), transitions=[])
    ledger.plan(claim_begin(ledger, cancelled), "006", size=9)
    ledger.cancel(cancelled)
    ledger.advance(claim_final(ledger, cancelled), transitions=[])
    assert all(ledger.forget_job(job_id) for job_id in ledger.expired_jobs())
    left = {key.removeprefix(PREFIX) for key in client.scan_iter() if ":advanced:" not in key}
    assert left == {"format", "clock", "stages", "totals"}


def test_a_plan_s_bytes_count_for_the_key_past_its_limit() -> None:
    ledger = fake_ledger(most_bytes=10)
    job_id = make_sync(ledger, made_by="k", size=1)
    assert ledger.plan(claim_begin(ledger, job_id), "0", size=20)
    held = ledger._redis.client.hgetall(f"{PREFIX}held")
    assert held == {"k": "21", "k:active": "21"}
    with pytest.raises(TooManyJobs):
        make_sync(ledger, "another", made_by="k")
    end(ledger, job_id)
    make_sync(ledger, "another", made_by="k")


def test_a_sync_is_not_retried_but_done_again(ledger: Ledger) -> None:
    job_id = planned(ledger, "006")
    run_items(ledger, FAILED)
    ledger.advance(claim_final(ledger, job_id), transitions=[], complete=True)
    with pytest.raises(NothingToRetry, match="by the next: POST /v1/sources/feed/sync"):
        ledger.retry(job_id)
    job = ledger.get(job_id)
    assert (job.status, job.counts[FAILED], len(job.errors)) == (JobStatus.PARTIAL, 2, 2)


def test_items_that_ended_with_the_plan_say_nothing_of_how_fast_the_others_will(ledger: Ledger) -> None:
    job_id = planned(ledger, "6" * 1000 + "00000000")
    job = ledger.get(job_id)
    assert (job.rate_per_s, job.eta_s) == (None, None)
    claim = ledger.claim(ledger.dispatch()[0], Stage.FETCH)
    assert claim is not None
    ledger.advance(claim, transitions=[(i, INDEXED) for i in ledger.pending(claim)])
    job = ledger.get(job_id)
    assert job.rate_per_s is not None
    assert job.eta_s == pytest.approx(4 / job.rate_per_s)


def test_versions_are_reserved_for_entries_and_removals_before_either_is_known(ledger: Ledger) -> None:
    begin = claim_begin(ledger, make_sync(ledger))
    later = ledger.writer.new_version()
    assert begin.version + 2 * ledger_module.MAX_JOB_ITEMS - 1 < later


def test_another_process_goes_on_with_what_one_has_begun(real_redis: str) -> None:
    one, another = Ledger(real_redis), Ledger(real_redis)
    one._redis.client.flushall()
    job_id = make_sync(one)
    assert another.sources.running("feed") == job_id
    assert another.plan(claim_begin(one, job_id), "06")
    assert end(another, job_id, complete=True) is JobStatus.SUCCEEDED
    assert one.sources.running("feed") is None


def test_however_many_syncs_wait_for_one_another_other_jobs_go_on(ledger: Ledger) -> None:
    ledger.workers.heartbeat("w", "host", ["fetch"], 1)
    syncs = [make_sync(ledger, f"feed-{n}") for n in range(20)]
    for job_id in syncs[1:]:
        ledger.release([claim_begin(ledger, job_id)], 0.0, count_delivery=False, waits=True)
    assert len(ledger.sweep()) == 19
    job_id = ledger.create(new_job_id(), collection="images", total=4, chunk_size=4)
    assert ledger.dispatch() == [Chunk(job_id, 0, 0)]
    many = ledger.create(new_job_id(), collection="images", total=400, chunk_size=4)
    assert {chunk.job_id for chunk in ledger.dispatch()} == {many}
    assert ledger.dispatch() == [], "other chunks count as before"
