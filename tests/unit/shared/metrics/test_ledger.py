"""The ledger's page of metrics."""

from prometheus_client import CollectorRegistry

from shared.errors import ITEM_CODES
from shared.ledger.ledger import Ledger, new_job_id
from shared.metrics.ledger import LedgerMetrics
from shared.models import ItemState, Stage
from tests.redis_server import fake_ledger
from tests.unit.fakes import LEDGER_DOWN


def samples(ledger: Ledger) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerMetrics(ledger))
    return {
        "".join(
            [one.name.removeprefix("image_search_"), *(f"[{value}]" for value in one.labels.values())]
        ): one.value
        for family in registry.collect()
        for one in family.samples
    }


def test_every_series_is_there_before_anything_happens() -> None:
    found = samples(fake_ledger())
    assert {name: value for name, value in found.items() if value} == {
        "ledger_up": 1,
        "ingest_limited_by[nothing]": 1,
    }
    ended = set(ItemState) - {ItemState.PENDING, ItemState.FETCHED}
    stages = (
        "backlog_items",
        "waiting_chunks",
        "running_chunks",
        "oldest_waiting_chunk_seconds",
        "worker_slots",
    )
    assert found.keys() == {
        *("ledger_up", "encoder_busy_seconds_total", "encoder_stalled_seconds_total"),
        *("jobs_open", "retrying_items", "host_breakers_open"),
        *(f"items_total[{state}]" for state in ended),
        *(f"item_errors_total[{code}]" for code in ITEM_CODES),
        *(f"{name}[{stage}]" for name in stages for stage in Stage),
        *(f"ingest_limited_by[{by}]" for by in ("nothing", "fetch", "hosts", "encode", "index")),
    }


def test_what_was_done_and_what_waits_is_told() -> None:
    ledger = fake_ledger()
    ledger.create(new_job_id(), collection="images", total=9, chunk_size=2)
    ledger.workers.heartbeat("w", "host", ["fetch"], 3)
    first, second, *_ = ledger.dispatch()
    claim = ledger.claim(first, Stage.FETCH)
    assert claim is not None
    ledger.advance(
        claim, transitions=[(0, ItemState.FAILED), (1, ItemState.FETCHED)], next_stage=Stage.ENCODE
    )
    ledger.claim(second, Stage.FETCH)
    ledger.workers.add_encoder_seconds(busy=2.5, stalled=1)
    ledger._redis.client.hset("is:totals", mapping={"code:timeout": 4, "code:from_the_future": 1})
    found = samples(ledger)
    expected = {
        "items_total[failed]": 1,
        "item_errors_total[timeout]": 4,
        "encoder_busy_seconds_total": 2.5,
        "encoder_stalled_seconds_total": 1,
        "jobs_open": 1,
        "backlog_items[fetch]": 5,
        "backlog_items[encode]": 1,
        "running_chunks[fetch]": 1,
        "waiting_chunks[encode]": 1,
        "worker_slots[fetch]": 3,
        "ingest_limited_by[encode]": 1,
        "ingest_limited_by[nothing]": 0,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["oldest_waiting_chunk_seconds[encode]"] > 0
    assert "item_errors_total[from_the_future]" not in found


def test_a_ledger_that_is_down_tells_nothing_but_that() -> None:
    assert samples(LEDGER_DOWN) == {"ledger_up": 0}  # type: ignore[arg-type]
