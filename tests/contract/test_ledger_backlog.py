"""What waits at each stage, as metrics, the system view and autoscalers read it."""

import pytest
import redis

from shared.errors import ItemError
from shared.ledger import hosts
from shared.ledger.ledger import Ledger
from shared.models import Chunk, Claim, ItemState, JobKind, Stage
from tests.contract.test_ledger import claim_next, make_job

FETCHED, INDEXED, FAILED = ItemState.FETCHED, ItemState.INDEXED, ItemState.FAILED


def items(ledger: Ledger) -> list[int]:
    return [queue.items for queue in ledger.workers.backlog().queues]


def chunks(ledger: Ledger) -> list[tuple[int, int]]:
    return [(queue.waiting, queue.running) for queue in ledger.workers.backlog().queues]


def hand_on(ledger: Ledger, claim: Claim, to: Stage | None, state: ItemState = FETCHED) -> None:
    """Ends a claim, its items all in one state."""
    span = range(claim.first_item, claim.last_item)
    assert ledger.advance(claim, transitions=[(i, state) for i in span], next_stage=to)


def claim_at(ledger: Ledger, claim: Claim, stage: Stage) -> Claim:
    found = ledger.claim(claim.chunk, stage)
    assert found is not None
    return found


def claim_at_fetch(ledger: Ledger, chunk: Chunk) -> Claim:
    found = ledger.claim(chunk, Stage.FETCH)
    assert found is not None
    return found


def test_all_of_a_large_job_waits_at_once_though_a_window_of_it_was_sent(ledger: Ledger) -> None:
    make_job(ledger, total=10_000, chunk_size=1)
    assert items(ledger) == [10_000, 0, 0]
    sent = len(ledger.dispatch())
    backlog = ledger.workers.backlog()
    assert backlog.queues[0].items == 10_000
    assert (backlog.queues[0].waiting, backlog.open_jobs) == (sent, 1)
    assert 0 < sent < 100


def test_items_move_from_stage_to_stage_and_those_that_a_worker_has_do_not_wait(ledger: Ledger) -> None:
    make_job(ledger, total=10, chunk_size=4)
    claim = claim_next(ledger)
    assert (items(ledger), chunks(ledger)) == ([6, 0, 0], [(2, 1), (0, 0), (0, 0)])
    moves = [(0, FETCHED), (1, FETCHED), (2, FETCHED), (3, FAILED)]
    ledger.advance(claim, transitions=moves, next_stage=Stage.ENCODE)
    assert (items(ledger), chunks(ledger)) == ([6, 3, 0], [(2, 0), (1, 0), (0, 0)])
    claim = claim_at(ledger, claim, Stage.ENCODE)
    assert (items(ledger), chunks(ledger)) == ([6, 0, 0], [(2, 0), (0, 1), (0, 0)])
    ledger.advance(claim, transitions=[(0, FETCHED), (2, FAILED)], next_stage=Stage.INDEX)
    assert items(ledger) == [6, 0, 2]
    hand_on(ledger, claim_at(ledger, claim, Stage.INDEX), None, INDEXED)
    assert items(ledger) == [6, 0, 0]


def test_nothing_waits_at_the_end(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=6, chunk_size=2)
    for chunk in ledger.dispatch():
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        hand_on(ledger, claim, Stage.INDEX)
        hand_on(ledger, claim_at(ledger, claim, Stage.INDEX), None, INDEXED)
    assert ledger.get(job_id).finished_at is not None
    backlog = ledger.workers.backlog()
    assert (items(ledger), chunks(ledger), backlog.open_jobs) == ([0] * 3, [(0, 0)] * 3, 0)
    assert {queue.oldest_wait_s for queue in backlog.queues} == {None}


def test_what_failed_for_now_waits_for_fetch_only_once_its_time_has_come(ledger: Ledger) -> None:
    make_job(ledger, total=4, chunk_size=4)
    claim = claim_next(ledger)
    moves = [(0, FETCHED), (1, FETCHED)]
    ledger.advance(claim, transitions=moves, next_stage=Stage.ENCODE, retry_delay_s=60, waiting=(2, 2, 4))
    assert (items(ledger), ledger.workers.backlog().retrying_items) == ([0, 2, 0], 2)
    assert chunks(ledger)[0] == (0, 0)


def test_attempts_of_one_chunk_at_two_stages_count_each_item_once(ledger: Ledger) -> None:
    make_job(ledger, total=4, chunk_size=4)
    first = claim_next(ledger)
    moves = [(0, FETCHED), (1, FETCHED), (2, FETCHED)]
    ledger.advance(first, transitions=moves, next_stage=Stage.ENCODE, retry_delay_s=0, waiting=(1, 2, 4))
    assert (items(ledger), ledger.workers.backlog().retrying_items) == ([1, 3, 0], 0)
    ((stage, chunk),) = [one for one in ledger.sweep() if one[1].attempt == 1]
    again = ledger.claim(chunk, stage)
    assert again is not None
    assert items(ledger) == [0, 3, 0]
    ledger.advance(again, transitions=[(3, FETCHED)], next_stage=Stage.ENCODE)
    assert items(ledger) == [0, 4, 0]
    hand_on(ledger, claim_at(ledger, again, Stage.ENCODE), Stage.INDEX, FETCHED)
    assert items(ledger) == [0, 3, 1]


def test_what_waits_for_busy_hosts_waits_for_fetch_and_is_told_apart(ledger: Ledger) -> None:
    make_job(ledger, total=10, chunk_size=4)
    claim = claim_next(ledger)
    ledger.advance(claim, transitions=[], retry_delay_s=30, hold_s=30)
    backlog = ledger.workers.backlog()
    assert (backlog.queues[0].items, backlog.held_items, backlog.retrying_items) == (10, 10, 0)
    make_job(ledger, total=5, chunk_size=5)
    backlog = ledger.workers.backlog()
    assert (backlog.queues[0].items, backlog.held_items) == (15, 10)


@pytest.mark.parametrize("stage", Stage)
def test_what_a_worker_gave_back_still_waits_at_its_stage_with_the_reason(
    ledger: Ledger, stage: Stage
) -> None:
    make_job(ledger, total=4, chunk_size=4)
    claim = claim_next(ledger)
    if stage is not Stage.FETCH:
        hand_on(ledger, claim, stage)
        claim = claim_at(ledger, claim, stage)
    ledger.release([claim], 0, count_delivery=False, waits=True, reason="It does not answer.")
    for _ in ("delayed", "queued again"):
        queue = ledger.workers.backlog().queues[list(Stage).index(stage)]
        assert (queue.waiting, queue.running, queue.items) == (1, 0, 4)
        assert (queue.put_back, queue.reason) == (1, "It does not answer.")
        assert sum(items(ledger)) == 4
        ledger.sweep()


def test_a_cancelled_job_leaves_nothing_that_waits(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=10, chunk_size=4)
    hand_on(ledger, claim_next(ledger), Stage.ENCODE)
    ledger.dispatch()
    ledger.cancel(job_id)
    assert (items(ledger), chunks(ledger)) == ([0] * 3, [(0, 0)] * 3)


def test_a_retried_job_counts_what_failed_alone(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=4, chunk_size=4)
    moves = [(0, INDEXED), (1, FAILED), (2, FAILED), (3, INDEXED)]
    ledger.advance(claim_next(ledger), transitions=moves)
    assert items(ledger) == [0, 0, 0]
    ledger.retry(job_id)
    assert items(ledger) == [2, 0, 0]


def test_a_job_whose_body_is_still_read_counts_what_came_so_far(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=0, chunk_size=4, reading=True)
    assert items(ledger) == [0, 0, 0]
    ledger.extend(job_id, 3)
    assert ledger.dispatch() == [], "its first chunk is not full"
    backlog = ledger.workers.backlog()
    assert (backlog.queues[0].items, backlog.open_jobs) == (3, 1)


def test_a_chunk_without_items_waits_as_a_chunk(ledger: Ledger) -> None:
    make_job(ledger, total=0, kind=JobKind.SYNC, begins=True, final_stage=Stage.FETCH)
    assert (items(ledger), chunks(ledger)[0]) == ([0, 0, 0], (1, 0))
    (begin,) = ledger.claim_ready(Stage.FETCH, 1)
    assert (items(ledger), chunks(ledger)[0]) == ([0, 0, 0], (0, 1))
    assert ledger.plan(begin, "0600")
    assert (items(ledger), chunks(ledger)[0]) == ([3, 0, 0], (0, 0))
    hand_on(ledger, claim_next(ledger), None, INDEXED)
    assert (items(ledger), chunks(ledger)[0]) == ([0, 0, 0], (1, 0)), "the chunk beyond the items"


def test_the_oldest_wait_is_that_of_the_oldest_chunk_which_no_worker_has(ledger: Ledger) -> None:
    make_job(ledger, total=3, chunk_size=1)
    refs = [chunk.ref for chunk in ledger.dispatch()]
    client: redis.Redis = ledger._redis.client
    for ref, age in zip(refs, (500, 200, 100), strict=True):
        client.zadd("is:stage:fetch", {ref: ledger._redis.now() - age})
    assert ledger.workers.backlog().queues[0].oldest_wait_s == pytest.approx(500, abs=50)
    assert [claim.chunk.ref for claim in ledger.claim_ready(Stage.FETCH, 1)] == refs[:1]
    assert ledger.workers.backlog().queues[0].oldest_wait_s == pytest.approx(200, abs=50)
    assert ledger.workers.backlog().queues[0].lag_s == pytest.approx(500, abs=50), "with a worker or without"
    assert ledger.workers.backlog().queues[1].oldest_wait_s is None


def test_breakers_are_counted_from_their_opening_to_an_answer(ledger: Ledger) -> None:
    trouble = ItemError("http_status", "503", http_status=503)
    for host in ("a.example", "b.example"):
        for _ in range(hosts.FAILURES_TO_OPEN):
            assert ledger.hosts.turn(host, 100, 60).refusal is None
            ledger.hosts.failed(host, trouble, 0)
    assert ledger.workers.backlog().breakers_open == 2
    ledger.hosts.answered("a.example")
    assert ledger.workers.backlog().breakers_open == 1
    ledger._redis.client.zadd("is:breakers", {"b.example": ledger._redis.now() - 1})
    assert ledger.workers.backlog().breakers_open == 0
    for _ in range(hosts.FAILURES_TO_OPEN):
        ledger.hosts.failed("c.example", trouble, 0)
    assert ledger._redis.client.zrange("is:breakers", 0, -1) == ["c.example"], "those that ended are removed"


def test_totals_are_told_by_state(ledger: Ledger) -> None:
    make_job(ledger, total=3, chunk_size=3)
    ledger.advance(claim_next(ledger), transitions=[(0, INDEXED), (1, INDEXED), (2, FAILED)])
    ledger.workers.add_encoder_seconds(busy=2.5, stalled=1)
    totals = ledger.workers.totals()
    assert {name: totals[name] for name in ("indexed", "failed")} == {"indexed": 2, "failed": 1}
    assert (totals["encoder_busy_seconds"], totals["encoder_stalled_seconds"]) == (2.5, 1)


def test_what_a_cancelled_job_left_waiting_for_its_model_counts_no_more(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=4)
    ledger.release([claim_next(ledger)], 300, count_delivery=True, waits=True, reason="No such model.")
    assert ledger.workers.backlog().queues[0].put_back == 1
    ledger.cancel(job_id)
    queue = ledger.workers.backlog().queues[0]
    assert (queue.waiting, queue.put_back, queue.items) == (0, 0, 0)


def test_a_chunk_that_is_queued_again_is_not_put_back_once_another_got_past(ledger: Ledger) -> None:
    make_job(ledger, total=8)
    first, second = (ledger.claim(chunk, Stage.FETCH) for chunk in ledger.dispatch())
    assert first is not None
    assert second is not None
    for claim in (first, second):
        ledger.release([claim], 0, count_delivery=False, waits=True, reason="Chroma cannot be reached.")
    ledger.sweep()
    assert ledger.workers.backlog().queues[0].put_back == 2
    hand_on(ledger, claim_at(ledger, first, Stage.FETCH), Stage.ENCODE)
    assert ledger.workers.backlog().queues[0].put_back == 0


def test_a_claim_that_lasts_until_it_is_renewed_is_no_longer_put_back(ledger: Ledger) -> None:
    make_job(ledger, total=4)
    ledger.release([claim_next(ledger)], 0, count_delivery=False, reason="Chroma cannot be reached.")
    (_, chunk), *_ = ledger.sweep()
    again = ledger.claim(chunk, Stage.FETCH)
    assert again is not None
    assert ledger.workers.backlog().queues[0].put_back == 1
    ledger.renew([again])
    assert ledger.workers.backlog().queues[0].put_back == 0


def test_a_stage_is_idle_for_as_long_as_no_worker_had_what_waits_there(ledger: Ledger) -> None:
    make_job(ledger, total=8)
    claim = claim_next(ledger)
    assert ledger.workers.backlog().queues[0].idle_s is None
    ledger._redis.call("zadd", "is:stage:fetch", {claim.chunk.ref.replace(":0:0:0", ":0:1:0"): 1})
    hand_on(ledger, claim, None, INDEXED)
    between = ledger.workers.backlog().queues[0]
    assert between.oldest_wait_s is not None
    assert between.idle_s is not None
    assert between.idle_s < between.oldest_wait_s
    ledger._redis.call("hset", "is:stages", "fetch:had", 1)
    assert ledger.workers.backlog().queues[0].idle_s == pytest.approx(between.oldest_wait_s, abs=60)


def test_a_job_that_made_room_for_another_leaves_the_number_of_open_jobs_as_it_is(ledger: Ledger) -> None:
    ledger._most_jobs = 1
    ledger.cancel(make_job(ledger, made_by="key"))
    make_job(ledger, made_by="key")
    assert ledger.workers.backlog().open_jobs == 1


def test_a_stage_is_stuck_while_nothing_gets_past_it_though_new_chunks_come(ledger: Ledger) -> None:
    def stuck() -> bool:
        return ledger.workers.backlog().queues[0].stuck

    make_job(ledger, total=8)
    first, second = ledger.dispatch()
    ledger.release([claim_at_fetch(ledger, first)], 300, count_delivery=False, reason="Chroma is down.")
    assert stuck()
    other = claim_at_fetch(ledger, second)
    assert not stuck()
    hand_on(ledger, other, Stage.ENCODE)
    make_job(ledger, total=4)
    ledger.dispatch()
    assert not stuck()
    ledger._redis.call("zadd", "is:due", {first.ref: 1})
    ledger.sweep()
    ledger.release([claim_at_fetch(ledger, first)], 300, count_delivery=False, reason="Chroma is down.")
    assert not stuck()  # others got past while it came back again and again


def test_items_of_a_job_that_waits_for_its_model_are_not_held_by_hosts(ledger: Ledger) -> None:
    make_job(ledger, total=8)
    ledger.release([claim_next(ledger)], 300, count_delivery=True, waits=True, reason="No such model.")
    backlog = ledger.workers.backlog()
    assert (backlog.held_items, backlog.lacking_items) == (0, 8)
