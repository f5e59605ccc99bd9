"""Deleting and updating many pictures as jobs, the workers' stages in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.images import bulk
from shared.errors import IndexUnavailable
from shared.index.collection import Collection
from shared.index.write_batch import WriteBatch
from shared.ledger.ledger import Ledger
from shared.models import Stage
from shared.storage.blobs import file_key
from tests.unit.api.images.test_edits import listed, log, store
from tests.unit.fakes import Api, assert_problem, image_id, make_api, make_services
from worker.pipelines import handler_of, store_of
from worker.recovery import lease
from worker.stages import changes, index
from worker.stages.transition import fail_chunk


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def ask(api: Api, what: str, **body: Any) -> dict[str, Any]:
    answer = api.http.post(f"/v1/images/{what}", json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = json.loads(answer.data)
    assert answer.headers["Location"].endswith(f"/v1/jobs/{job['job_id']}")
    return job


def hand_on(api: Api) -> None:
    """What the fetch workers do."""
    tools = cast(Any, SimpleNamespace(services=api.services))
    for chunk in api.services.ledger.dispatch():
        claim = api.services.ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        handler_of(claim)(tools, claim)


def work(api: Api) -> None:
    for _ in range(30):
        hand_on(api)
        for stage, chunk in api.services.ledger.sweep():
            if stage is Stage.FETCH and (claim := api.services.ledger.claim(chunk, stage)):
                handler_of(claim)(cast(Any, SimpleNamespace(services=api.services)), claim)
        index.drain(api.services, store_of)
        jobs, _ = api.services.ledger.list_jobs(None, None, 100)
        if all(job.status.finished for job in jobs):
            return


def done(api: Api, what: str, **body: Any) -> dict[str, Any]:
    """Make a job, work on it, and return it as it ends."""
    job_id = ask(api, what, **body)["job_id"]
    work(api)
    return of(api, job_id)


def of(api: Api, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(api.http.get(f"/v1/jobs/{job_id}").data)
    assert sum(job["counts"].values()) == job["total"]
    return job


def counts(job: dict[str, Any]) -> dict[str, int]:
    return {state: count for state, count in job["counts"].items() if count}


def items(api: Api, job: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    found = json.loads(api.http.get(f"/v1/jobs/{job['job_id']}/items").data)["items"]
    return [(one["source"], one["status"], one["image_id"]) for one in found]


def metadata(api: Api, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(api.http.get(f"/v1/images/{image_id(number)}").data)["metadata"]
    return found


# Which pictures


def test_pictures_are_deleted_by_their_ids_with_their_files_and_keys(api: Api) -> None:
    for number in range(1, 5):
        store(api, number, f"k{number}" if number % 2 else None)
    job = done(api, "delete", ids=[image_id(n) for n in (1, 2, 9)], name="spring cleaning")
    assert (job["kind"], job["status"], job["name"], job["origin"]) == (
        "delete", "succeeded", "spring cleaning", "api",
    )  # fmt: skip
    assert counts(job) == {"removed": 2, "unchanged": 1}
    assert listed(api) == [image_id(3), image_id(4)]
    assert listed(api, "key=k1") == []
    assert_problem(api.http.get(f"/v1/images/{image_id(1)}/thumbnail"), 404, "image_not_found")
    assert items(api, job) == [
        (image_id(1), "removed", image_id(1)),
        (image_id(2), "removed", image_id(2)),
        (image_id(9), "unchanged", None),
    ]
    assert [(one["op"], one["id"]) for one in log(api)] == [("delete", image_id(1)), ("delete", image_id(2))]


def test_a_key_goes_and_its_picture_unless_something_else_has_brought_it(api: Api) -> None:
    store(api, 1, "a")
    store(api, 2, "b")
    store(api, 2, "c")
    store(api, 3, "d")
    store(api, 3)
    job = done(api, "delete", keys=["a", "b", "d", "nonesuch"])
    assert counts(job) == {"removed": 3, "unchanged": 1}
    assert listed(api) == [image_id(2), image_id(3)]
    assert listed(api, "key=c") == [image_id(2)]
    assert [source for source, _, _ in items(api, job)] == ["a", "b", "d", "nonesuch"]
    assert [one["op"] for one in log(api)] == ["delete_key"] * 4


def test_both_keys_of_a_picture_take_it_along(api: Api) -> None:
    for key in ("a", "b"):
        store(api, 1, key)
    assert counts(done(api, "delete", keys=["a", "b"])) == {"removed": 2}
    assert listed(api) == []
    assert not api.services.blobs.exists(file_key("images", image_id(1), "thumbnail"))


def test_what_filters_match_is_deleted(api: Api) -> None:
    for number in range(1, 7):
        store(api, number, shop="north" if number % 2 else "south")
    job = done(api, "delete", filters={"shop": "north"})
    assert counts(job) == {"removed": 3}
    assert listed(api) == [image_id(2), image_id(4), image_id(6)]


def test_metadata_is_merged_into_each(api: Api) -> None:
    for number in range(1, 4):
        store(api, number, f"k{number}", shop="north", n=number)
    job = done(api, "update", keys=["k1", "k2", "no"], metadata={"shop": "south", "n": None, "new": True})
    assert (job["kind"], counts(job)) == ("update", {"updated": 2, "unchanged": 1})
    assert [metadata(api, n) for n in (1, 2, 3)] == [
        {"shop": "south", "new": True}, {"shop": "south", "new": True}, {"shop": "north", "n": 3},
    ]  # fmt: skip
    again = done(api, "update", filters={"shop": "south"}, metadata={"shop": "south", "new": 1})
    assert counts(again) == {"updated": 2}, "1 is not true"
    same = done(api, "update", filters={"shop": "south"}, metadata={"new": 1})
    assert counts(same) == {"unchanged": 2}


def test_a_picture_that_would_have_too_much_metadata_fails_alone(api: Api) -> None:
    store(api, 1, **{f"n{i}": i for i in range(32)})
    store(api, 2, n=1)
    job = done(api, "update", filters={}, all=True, metadata={"shop": "south"})
    assert (job["status"], counts(job)) == ("partial", {"updated": 1, "failed": 1})
    (error,) = job["errors"]
    assert "33 metadata values; at most 32" in error["detail"]
    assert "shop" not in metadata(api, 1)
    assert [one["id"] for one in log(api)] == [image_id(2)]
    assert api.http.patch(f"/v1/images/{image_id(1)}", json={"metadata": {"n0": None}}).status_code == 200
    assert api.http.post(f"/v1/jobs/{job['job_id']}/retry").status_code == 202
    work(api)
    assert counts(of(api, job["job_id"])) == {"updated": 2}
    assert metadata(api, 1)["shop"] == "south"


# Order


def test_what_is_ingested_after_the_job_was_made_stays(api: Api) -> None:
    store(api, 1, "a")
    store(api, 2)
    job_id = ask(api, "delete", ids=[image_id(1), image_id(2), image_id(3)])["job_id"]
    store(api, 1)
    store(api, 3)
    work(api)
    assert counts(of(api, job_id)) == {"removed": 1, "unchanged": 2}
    assert listed(api) == [image_id(1), image_id(3)]
    assert listed(api, "key=a") == []
    assert api.services.blobs.exists(file_key("images", image_id(1), "thumbnail"))


def test_items_of_jobs_made_before_do_not_bring_back_what_was_deleted(api: Api) -> None:
    before = api.services.ledger.writer.new_version()
    store(api, 1)
    store(api, 2, "k")
    done(api, "delete", ids=[image_id(1)])
    done(api, "delete", keys=["k", "later"])
    store(api, 1, version=before)
    store(api, 2, "k", version=before)
    store(api, 3, "later", version=before)
    assert listed(api) == []
    assert listed(api, "key=later") == []


def test_an_older_deletion_in_bulk_does_not_undo_a_newer_one(api: Api) -> None:
    store(api, 1)
    job_id = ask(api, "delete", ids=[image_id(1)])["job_id"]
    between = api.services.ledger.writer.new_version()
    assert api.http.delete(f"/v1/images/{image_id(1)}").status_code == 204
    store(api, 1, version=between)
    work(api)
    assert counts(of(api, job_id)) == {"unchanged": 1}
    store(api, 1, version=between)
    assert listed(api) == []


def test_a_later_change_counts_more_than_a_job_that_was_made_before_it(api: Api) -> None:
    store(api, 1, n=1)
    ask(api, "update", ids=[image_id(1)], metadata={"n": 2, "m": 2})
    assert api.http.patch(f"/v1/images/{image_id(1)}", json={"metadata": {"n": 3}}).status_code == 200
    work(api)
    assert metadata(api, 1) == {"n": 3, "m": 2}


def test_a_collection_that_was_deleted_meanwhile_has_nothing_to_change(api: Api) -> None:
    store(api, 1, collection="cats")
    job_id = ask(api, "delete", ids=[image_id(1)], collection="cats")["job_id"]
    assert api.http.delete("/v1/collections/cats").status_code == 204
    work(api)
    assert counts(of(api, job_id)) == {"unchanged": 1}


# Deliveries


class Killed(BaseException):
    """As kill -9: nothing after it happens."""


def dies(*_: object, **__: object) -> Any:
    raise Killed


@pytest.mark.parametrize("where", ["before the log", "log", "removals", "save", "files", "told"])
def test_a_writer_killed_anywhere_leaves_nothing_half_deleted_and_no_count_changed(
    api: Api, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for number in range(1, 5):
        store(api, number, f"k{number}" if number < 3 else None)
    job_id = ask(api, "delete", ids=[image_id(n) for n in (1, 2, 3, 9)])["job_id"]
    hand_on(api)
    with monkeypatch.context() as patched:
        match where:
            case "before the log":
                patched.setattr(changes.vector_log, "write_changes", dies)
            case "log":
                patched.setattr(type(api.services.ledger.writer), "record_removals", dies)
            case "removals":
                patched.setattr(WriteBatch, "save", dies)
            case "save":
                patched.setattr(changes, "discard", dies)
            case "files":
                patched.setattr(Collection, "delete", _then_dies(Collection.delete))
            case "told":
                patched.setattr(Ledger, "advance", dies)
        with pytest.raises(Killed):
            claims = api.services.ledger.claim_ready(Stage.INDEX, 10)
            tell = changes.write(api.services, claims[0], lambda: None)
            assert tell is not None
            tell()
    api.services.ledger.release(claims, 0.0, count_delivery=True)  # as when its lease is over
    work(api)
    assert counts(of(api, job_id)) == {"removed": 3, "unchanged": 1}
    assert listed(api) == [image_id(4)]
    assert [one["id"] for one in log(api)] == [image_id(n) for n in (1, 2, 3)]
    for number in (1, 2, 3):
        assert not api.services.blobs.exists(file_key("images", image_id(number), "thumbnail"))
    assert listed(api, "key=k1") == []


def _then_dies(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> None:
        real(*args, **options)
        raise Killed

    return call


def test_a_redelivered_update_changes_no_count(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    store(api, 1, n=1)
    store(api, 2, n=2)
    store(api, 3, **{f"n{i}": i for i in range(32)})
    ids = [image_id(n) for n in (1, 2, 3, 9)]
    job_id = ask(api, "update", ids=ids, metadata={"n": 2})["job_id"]
    hand_on(api)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Collection, "update", _then_dies(Collection.update))
        claims = api.services.ledger.claim_ready(Stage.INDEX, 10)
        changes.write(api.services, claims[0], lambda: None)
    api.services.ledger.release(claims, 0.0, count_delivery=True)
    work(api)
    assert counts(of(api, job_id)) == {"updated": 1, "unchanged": 2, "failed": 1}
    assert [one["id"] for one in log(api)] == [image_id(1), image_id(2)]


def test_an_index_that_does_not_answer_is_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "UNAVAILABLE_DELAY_SECONDS", -1.0)
    store(api, 1)
    store(api, 2)
    job_id = ask(api, "delete", ids=[image_id(1)])["job_id"]

    def down(*_: object) -> None:
        raise IndexUnavailable("Chroma cannot be reached.")

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "delete", down)
        work(api)
    assert counts(of(api, job_id)) == {"fetched": 1}
    work(api)
    assert counts(of(api, job_id)) == {"removed": 1}


def test_a_chunk_that_always_fails_ends_failed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "ERROR_DELAY_SECONDS", -1.0)
    store(api, 1)
    job_id = ask(api, "delete", keys=["k", "l"])["job_id"]
    monkeypatch.setattr(WriteBatch, "save", lambda *_: 1 / 0)
    work(api)
    job = of(api, job_id)
    assert (job["status"], counts(job)) == ("failed", {"failed": 2})


def test_what_the_index_refuses_fails_alone_and_is_in_no_rebuild(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        store(api, number, n=number)
    real = Collection.update

    def refusing(self: Collection, stored: Any) -> None:
        if any(one.image.id == image_id(2) for one in stored):
            raise ValueError("no such value")
        real(self, stored)

    monkeypatch.setattr(Collection, "update", refusing)
    job = done(api, "update", ids=[image_id(n) for n in (1, 2, 3)], metadata={"n": 7})
    assert counts(job) == {"updated": 2, "failed": 1}
    assert [metadata(api, n)["n"] for n in (1, 2, 3)] == [7, 2, 7]
    assert [one["id"] for one in log(api)] == [image_id(1), image_id(3)]


def test_a_cancelled_job_changes_nothing_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_ITEMS", 2)
    for number in range(1, 6):
        store(api, number)
    job_id = ask(api, "delete", ids=[image_id(n) for n in range(1, 6)])["job_id"]
    hand_on(api)
    (claim, *_) = api.services.ledger.claim_ready(Stage.INDEX, 1)
    tell = changes.write(api.services, claim, lambda: None)
    assert tell is not None
    tell()
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 200
    work(api)
    job = of(api, job_id)
    assert (job["status"], counts(job)) == ("cancelled", {"removed": 2, "cancelled": 3})
    assert listed(api) == [image_id(n) for n in (3, 4, 5)]
    assert len(log(api)) == 2


def test_a_single_change_waits_for_one_batch_of_the_writer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_ITEMS", 1)
    monkeypatch.setattr(index, "MAX_BATCH_ITEMS", 2)
    for number in range(1, 6):
        store(api, number)
    ask(api, "delete", ids=[image_id(n) for n in range(1, 6)])
    for _ in range(3):
        hand_on(api)
    real = Collection.delete

    def asked_for(self: Collection, ids: Any) -> None:
        api.services.ledger.writer.want("a single change")
        real(self, ids)

    monkeypatch.setattr(Collection, "delete", asked_for)
    index.drain(api.services, store_of)
    assert listed(api) == [image_id(n) for n in (3, 4, 5)]
    assert api.services.ledger.writer.acquire("a single change")


def test_what_a_killed_writer_had_logged_is_done_though_its_job_is_cancelled_by_then(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        store(api, number, f"k{number}")
    job_id = ask(api, "delete", ids=[image_id(1), image_id(2)])["job_id"]
    hand_on(api)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Collection, "write_keys", _then_dies(Collection.write_keys))
        claims = api.services.ledger.claim_ready(Stage.INDEX, 10)
        changes.write(api.services, claims[0], lambda: None)
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 200
    index.drain(api.services, store_of)
    assert listed(api) == [image_id(3)], "record, key, log and files agree again"
    assert [one["id"] for one in log(api)] == [image_id(1), image_id(2)]
    assert not api.services.blobs.exists(file_key("images", image_id(1), "thumbnail"))
    assert api.services.ledger.writer.unfinished() == {}
    assert counts(of(api, job_id)) == {"cancelled": 2}


# Dry runs


def test_a_dry_run_says_what_would_be_and_changes_nothing(api: Api) -> None:
    for number in range(1, 4):
        store(api, number, f"k{number}", n=number)
    job = done(api, "delete", filters={"n": {"gte": 2}}, dry_run=True)
    assert job["result"] == {
        "dry_run": True,
        "detail": "Dry run, nothing was changed. It would be: 2 removed, 0 unchanged, 0 failed.",
        "counts": {"removed": 2, "unchanged": 0, "failed": 0},
        "ids": [image_id(2), image_id(3)],
    }
    assert (job["status"], counts(job)) == ("succeeded", {"unchanged": 2})
    job = done(api, "update", keys=["k1", "no"], metadata={"n": 9}, dry_run=True)
    assert job["result"]["counts"] == {"updated": 1, "unchanged": 1, "failed": 0}
    assert (listed(api), log(api)) == ([image_id(n) for n in (1, 2, 3)], [])
    assert metadata(api, 1) == {"n": 1}


def test_a_dry_run_shows_the_first_hundred(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_ITEMS", 30)
    for number in range(1, 121):
        store(api, number)
    job = done(api, "delete", filters={}, all=True, dry_run=True)
    assert (job["result"]["counts"]["removed"], len(job["result"]["ids"])) == (120, 100)


def test_a_dry_run_that_cannot_be_added_up_says_why_and_speaks_of_no_switch(api: Api) -> None:
    store(api, 1)
    job_id = ask(api, "delete", filters={}, all=True, dry_run=True)["job_id"]
    hand_on(api)
    ((stage, chunk),) = api.services.ledger.sweep()
    claim = api.services.ledger.claim(chunk, stage)
    assert claim is not None
    fail_chunk(api.services, claim, lease.exhausted(claim))
    job = of(api, job_id)
    assert job["result"].keys() == {"detail"}
    assert "failed on this chunk" in job["result"]["detail"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_filters_that_match_nothing_are_a_job_that_has_ended(api: Api, dry_run: bool) -> None:
    store(api, 1, n=1)
    job = done(api, "delete", filters={"n": 2}, dry_run=dry_run)
    assert (job["status"], job["total"]) == ("succeeded", 0)
    assert (job["result"] is not None) is dry_run
    assert job["notes"] == []
    assert listed(api) == [image_id(1)]


def test_a_filter_of_a_name_that_no_picture_has_is_noted(api: Api) -> None:
    store(api, 1, price=1)
    (note,) = done(api, "delete", filters={"prize": 1})["notes"]
    assert (note["code"], note["count"]) == ("no_match", 1)
    assert note["detail"].startswith("no picture of this collection has prize")


def test_a_collection_that_nobody_has_used_yet_has_nothing_to_delete(api: Api) -> None:
    assert counts(done(api, "delete", ids=[image_id(1)])) == {"unchanged": 1}
    assert done(api, "delete", filters={"n": 1})["status"] == "succeeded"


# Requests


def test_the_same_request_with_the_same_idempotency_key_is_one_job(api: Api) -> None:
    store(api, 1, n=1)
    store(api, 2)
    headers = {"Idempotency-Key": "k"}
    asked = [
        api.http.post("/v1/images/delete", json={"filters": {"n": 1}}, headers=headers) for _ in range(2)
    ]
    first, second = (json.loads(one.data)["job_id"] for one in asked)
    assert first == second
    work(api)
    again = api.http.post("/v1/images/delete", json={"filters": {"n": 1}}, headers=headers)
    assert json.loads(again.data)["job_id"] == first, "though it matches nothing now"
    other = api.http.post("/v1/images/delete", json={"filters": {"n": 1}, "dry_run": True}, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")
    update = {"ids": [image_id(1)], "metadata": {"n": 1}}
    other = api.http.post("/v1/images/update", json=update, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")


def test_what_is_named_twice_is_taken_once_and_the_job_says_so(api: Api) -> None:
    store(api, 1)
    store(api, 2)
    job = done(api, "delete", ids=[image_id(1)] * 3)
    assert (job["total"], counts(job)) == (1, {"removed": 1})
    (note,) = job["notes"]
    assert (note["code"], note["count"]) == ("repeated", 2)
    store(api, 3, "e\u0301")
    assert counts(done(api, "delete", keys=["e\u0301", "\u00e9"])) == {"removed": 1}


@pytest.mark.parametrize(
    ("what", "body", "pointer", "says"),
    [
        ("delete", {}, None, "exactly one of `ids`, `keys` and `filters`"),
        ("delete", {"ids": ["0" * 64], "keys": ["k"]}, None, "not `ids` and `keys`"),
        ("delete", {"ids": []}, "/ids", "empty"),
        ("delete", {"keys": []}, "/keys", "empty"),
        ("delete", {"keys": [""]}, "/keys/0", ""),
        ("delete", {"keys": ["k" * 257]}, "/keys/0", ""),
        ("delete", {"ids": ["0" * 64, "x"]}, "/ids/1", "Some ids"),
        ("delete", {"ids": ["A" * 64]}, "/ids/0", "Some ids"),
        ("delete", {"ids": [1]}, "/ids/0", ""),
        ("delete", {"ids": ["0" * 64] * 100_001}, "/ids", "100,001 entries; one job takes at most 100,000"),
        ("delete", {"filters": {}}, "/all", '"all": true'),
        ("delete", {"filters": {"n": {"gte": 1}}}, "/all", '"all": true'),
        ("delete", {"filters": {"or": [{"n": 1}, {"not": {"n": 1}}]}}, "/all", '"all": true'),
        ("delete", {"filters": {"width": "x"}}, "/filters/width", ""),
        ("delete", {"filters": [], "all": True}, "/filters", "object"),
        ("delete", {"ids": ["0" * 64], "all": True}, "/all", "filters"),
        ("delete", {"ids": ["0" * 64], "metadata": {"n": 1}}, "/metadata", "A deletion takes no metadata"),
        ("delete", {"ids": ["0" * 64], "dryrun": True}, "/dryrun", "unknown field"),
        ("update", {"ids": ["0" * 64]}, "/metadata", "required"),
        ("update", {"ids": ["0" * 64], "metadata": {}}, "/metadata", "empty"),
        ("update", {"ids": ["0" * 64], "metadata": {"width": None}}, "/metadata/width", "malformed"),
        ("update", {"ids": ["0" * 64], "metadata": {"n": {"a": 1}}}, "/metadata/n", "malformed"),
        ("update", {"ids": ["0" * 64], "metadata": "x"}, "/metadata", "object"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_meant_is_refused_in_a_sentence(
    api: Api, what: str, body: dict[str, Any], pointer: str | None, says: str
) -> None:
    for number in (1, 2):
        store(api, number, n=number)
    answer = api.http.post(f"/v1/images/{what}", json=body)
    assert_problem(answer, 422, "invalid_request", pointer)
    assert says in json.loads(answer.data)["detail"]
    assert listed(api) == [image_id(1), image_id(2)]
    assert json.loads(api.http.get("/v1/jobs").data)["jobs"] == []


@pytest.mark.parametrize("query", ["dry_run=true", "collection=cats"])
def test_what_is_said_in_the_query_is_refused_and_not_passed_over(api: Api, query: str) -> None:
    store(api, 1)
    answer = api.http.post(f"/v1/images/delete?{query}", json={"ids": [image_id(1)]})
    name = query.partition("=")[0]
    assert_problem(answer, 422, "invalid_request", f"/{name}")
    assert f"The query has `{name}`" in json.loads(answer.data)["detail"]
    assert json.loads(api.http.get("/v1/jobs").data)["jobs"] == []


def test_a_collection_that_is_not_there_is_not_found(api: Api) -> None:
    answer = api.http.post("/v1/images/delete", json={"ids": [image_id(1)], "collection": "cats"})
    assert_problem(answer, 404, "collection_not_found")


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[]", b"null", b"[" * 10_000])
def test_a_body_that_is_no_json_object_is_refused(api: Api, data: bytes) -> None:
    answer = api.http.post("/v1/images/delete", data=data, content_type="application/json")
    assert answer.status_code in (400, 422), answer.text
    assert api.http.post("/v1/images/delete", data=b"{}", content_type="text/plain").status_code == 415


def test_more_matches_than_a_job_takes_are_refused_with_their_number(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_ITEMS", 5)
    monkeypatch.setattr(bulk, "PAGE", 2)
    for number in range(1, 8):
        store(api, number, n=number)
    answer = api.http.post("/v1/images/delete", json={"filters": {"n": {"lte": 6}}})
    assert_problem(answer, 422, "invalid_request", "/filters")
    assert "match 6 pictures; one job changes at most 5" in json.loads(answer.data)["detail"]
    assert counts(done(api, "delete", filters={"n": {"lte": 5}})) == {"removed": 5}


def test_what_nsfw_max_hides_is_left_out_unless_the_filters_ask_for_it(tmp_path: Path) -> None:
    api = make_api(tmp_path, make_services(tmp_path, nsfw_max=0.5))
    api.add(1, api.encoder.text("a"), nsfw=0.9, metadata={"n": 1})
    api.add(2, api.encoder.text("b"), nsfw=0.1, metadata={"n": 1})
    api.add(3, api.encoder.text("c"), nsfw=0.1)
    assert counts(done(api, "delete", filters={"n": 1})) == {"removed": 1}
    answer = api.http.post("/v1/images/delete", json={"filters": {"id": {"ne": "x"}}})
    assert_problem(answer, 422, "invalid_request", "/all")
    assert counts(done(api, "delete", filters={}, all=True)) == {"removed": 1}
    assert counts(done(api, "delete", filters={"nsfw": {"gt": 0.5}}, all=True)) == {"removed": 1}
