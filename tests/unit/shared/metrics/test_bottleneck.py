"""What is said to limit ingestion, by what waits and who works."""

import pytest

from shared.ledger.ledger import INDEX_WINDOW
from shared.ledger.processes import Backlog, QueueInfo
from shared.ledger.writer import MAX_BATCH_ITEMS
from shared.metrics.bottleneck import IDLE_SECONDS, LATE_SECONDS, Limit, limit_of
from shared.models import Stage

ONE_EACH = dict.fromkeys(Stage, 1)


def limit(
    *,
    fetch: dict[str, object] | None = None,
    encode: dict[str, object] | None = None,
    index: dict[str, object] | None = None,
    slots: dict[Stage, int] = ONE_EACH,
    **others: int,
) -> Limit:
    queues = [
        QueueInfo(stage, **(said or {})) for stage, said in zip(Stage, (fetch, encode, index), strict=True)
    ]  # type: ignore[arg-type]
    return limit_of(Backlog(queues, **{"open_jobs": 1} | others), slots)


def test_an_idle_system_is_limited_by_nothing_also_without_workers() -> None:
    for slots in (ONE_EACH, dict.fromkeys(Stage, 0)):
        assert limit(slots=slots, open_jobs=0) == Limit("nothing", "Nothing waits.")


def test_a_client_that_still_sends_is_waited_for() -> None:
    assert limit() == Limit("nothing", "Nothing is left to do: 1 open job waits for the client to send more.")


@pytest.mark.parametrize(
    ("by", "queues"),
    [
        ("fetch", {"fetch": {"items": 9_800, "waiting": 2, "running": 1}}),
        ("fetch", {"fetch": {"items": 9_800}, "encode": {"waiting": 1, "items": 64, "running": 1}}),
        ("fetch", {"fetch": {"running": 1}, "encode": {"running": 1}}),
        ("fetch", {"fetch": {"waiting": 1}}),  # a listing that is to be read
        ("encode", {"fetch": {"items": 9_800}, "encode": {"waiting": 2, "items": 128, "running": 1}}),
        ("encode", {"encode": {"waiting": 1, "items": 3}, "index": {"running": 1}}),
        ("encode", {"encode": {"running": 1}}),
        ("index", {"fetch": {"items": 9}, "index": {"waiting": 30, "items": MAX_BATCH_ITEMS}}),
        ("index", {"fetch": {"items": 9}, "index": {"waiting": INDEX_WINDOW, "items": INDEX_WINDOW}}),
        ("index", {"encode": {"waiting": 8, "items": 512}, "index": {"waiting": 32, "items": 2_048}}),
        ("fetch", {"fetch": {"items": 9}, "index": {"waiting": 29, "items": MAX_BATCH_ITEMS - 1}}),
        ("index", {"index": {"waiting": 1, "items": 3}}),
        ("index", {"index": {"running": 1}}),
    ],
)
def test_the_last_stage_that_falls_behind_limits_else_the_first_with_work(
    by: str, queues: dict[str, dict[str, object]]
) -> None:
    assert limit(**queues).by == by  # type: ignore[arg-type]


def test_an_index_that_keeps_few_items_waiting_for_long_is_behind() -> None:
    late = {"waiting": 2, "items": 64, "lag_s": LATE_SECONDS}
    found = limit(fetch={"items": 900, "running": 1}, index=late | {"running": 1})
    assert found.by == "index"
    assert found.detail.startswith(
        "Index limits ingestion: 2 chunks (64 items) wait for the one writer, the oldest for 10 s. See"
    )
    assert limit(fetch={"items": 900}, index=late | {"lag_s": LATE_SECONDS - 1}).by == "fetch"
    held = limit(encode={"waiting": 9, "items": 288}, index={"running": 51, "lag_s": LATE_SECONDS})
    assert held.detail.startswith("Index limits ingestion: 51 chunks are being written, the oldest for 10 s.")


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("waiting", [1, 9])
def test_workers_that_leave_what_waits_are_told_from_those_between_two_chunks(
    stage: Stage, waiting: int
) -> None:
    late = {"waiting": waiting, "items": 288, "oldest_wait_s": 60.0, "lag_s": 60.0}
    idle = limit(**{stage: late | {"idle_s": IDLE_SECONDS}})  # type: ignore[arg-type]
    assert "No worker has taken one for 3 s" in idle.detail
    assert "Add" not in idle.detail
    assert "has taken one" not in limit(**{stage: late | {"idle_s": 0.1}}).detail  # type: ignore[arg-type]
    assert "has taken one" not in limit(**{stage: late | {"running": 1}}).detail  # type: ignore[arg-type]


def test_an_encode_worker_that_takes_nothing_limits_however_few_chunks_wait() -> None:
    few = {"waiting": 1, "items": 64, "oldest_wait_s": 99.0}
    queues: dict[str, dict[str, object]] = {"fetch": {"items": 900, "running": 1}}
    assert limit(**queues, encode=few | {"idle_s": LATE_SECONDS}).by == "encode"  # type: ignore[arg-type]
    assert limit(**queues, encode=few | {"running": 1}).by == "fetch"  # type: ignore[arg-type]


def test_more_slots_keep_up_with_a_longer_queue() -> None:
    queues: dict[str, dict[str, object]] = {"fetch": {"items": 9}, "encode": {"waiting": 4, "items": 256}}
    assert limit(**queues, slots=ONE_EACH | {Stage.ENCODE: 2}).by == "encode"  # type: ignore[arg-type]
    assert limit(**queues, slots=ONE_EACH | {Stage.ENCODE: 3}).by == "fetch"  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_with_work_and_no_worker_comes_first_and_the_command_is_named(stage: Stage) -> None:
    queues: dict[str, dict[str, object]] = {
        "fetch": {"items": 9, "waiting": 3},
        "encode": {"waiting": 3, "items": 192},
        stage: {"waiting": 1, "items": 64},
    }
    found = limit(**queues, slots=ONE_EACH | {stage: 0})  # type: ignore[arg-type]
    assert found.by == stage
    assert f"ingestion: no worker was seen for {stage}, which has 64 items and 1 chunk to do." in found.detail
    assert f"image-search worker --queues {stage}" in found.detail


def test_of_several_stages_without_workers_the_last_is_named() -> None:
    queues: dict[str, dict[str, object]] = {"fetch": {"items": 9}, "index": {"waiting": 1, "items": 1}}
    assert limit(**queues, slots=dict.fromkeys(Stage, 0)).by == "index"  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_whose_chunks_all_come_back_names_why(stage: Stage) -> None:
    stuck = {"waiting": 2, "running": 1, "items": 128, "put_back": 3, "reason": "Chroma cannot be reached."}
    found = limit(**{stage: stuck})  # type: ignore[arg-type]
    assert found == Limit(
        stage.value,
        f"{stage.capitalize()} limits ingestion: nothing gets past {stage}, where 3 chunks are tried again: "
        "Chroma cannot be reached.",
    )


def test_a_stuck_index_is_named_while_the_stages_before_still_work() -> None:
    stuck = {"waiting": 2, "items": 64, "put_back": 1, "stuck": True, "reason": "Chroma cannot be reached."}
    assert limit(fetch={"items": 9_000, "running": 1}, encode={"waiting": 5}, index=stuck).by == "index"


def test_one_collection_that_waits_for_its_model_does_not_speak_for_the_others() -> None:
    some = {"waiting": 8, "items": 512, "put_back": 8, "reason": "There is no such model."}
    found = limit(encode=some, fetch={"items": 900, "running": 1})
    assert found.by == "fetch"
    assert "no such model" not in found.detail
    assert "no such model" in limit(encode=some).detail
    assert "no such model" not in limit(encode=some | {"waiting": 9}).detail
    assert limit(encode=some | {"waiting": 9}, fetch={"items": 900, "running": 1}).by == "fetch"


def test_hosts_limit_only_where_all_that_is_left_waits_for_them() -> None:
    found = limit(fetch={"items": 300}, held_items=300)
    assert found.by == "hosts"
    assert "300 items wait for hosts" in found.detail
    assert "IMAGE_SEARCH_HOST_RATE" in found.detail
    assert limit(fetch={"items": 301}, held_items=300).by == "fetch"


def test_what_only_waits_to_be_tried_again_is_never_nothing() -> None:
    found = limit(retrying_items=3, breakers_open=2)
    assert found.by == "hosts"
    assert "3 items wait to be tried again" in found.detail
    assert "2 hosts are not asked for a while" in found.detail


def test_more_fetch_workers_are_asked_for_only_where_all_are_busy() -> None:
    busy = {"items": 900, "waiting": 2, "running": 1}
    assert (
        "900 items wait to be fetched; 1 of 1 slot at fetch busy. Add fetch workers"
        in limit(fetch=busy).detail
    )
    assert "Add fetch workers" not in limit(fetch=busy, slots=ONE_EACH | {Stage.FETCH: 2}).detail


def test_a_list_that_is_read_aside_takes_no_slot() -> None:
    found = limit(
        fetch={"items": 900, "waiting": 2, "running": 4}, aside=3, slots=ONE_EACH | {Stage.FETCH: 2}
    )
    assert found.detail == (
        "Fetch limits ingestion: 900 items wait to be fetched; 1 of 2 slots at fetch busy."
    )


def test_items_of_which_none_is_sent_are_told_from_slow_ones() -> None:
    assert "none is sent" in limit(fetch={"items": 300}).detail
    assert "none is sent" not in limit(fetch={"items": 300, "running": 1}).detail


def test_jobs_that_wait_for_what_they_lack_do_not_wait_for_hosts() -> None:
    given_back = {"waiting": 3, "items": 192, "put_back": 2, "reason": "Chroma cannot be reached."}
    found = limit(fetch={"items": 536, "waiting": 1, "running": 1}, encode=given_back, lacking_items=536)
    assert found.by == "encode"
    assert found.detail.endswith("until their jobs have what they lack: Chroma cannot be reached.")
