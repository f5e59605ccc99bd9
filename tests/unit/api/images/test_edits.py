"""Listing pictures, looking them up and deleting them by key, changing their metadata."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from shared.index.write_batch import WriteBatch
from shared.models import Image, ItemState, MetadataValue, Stage
from shared.storage.arrays import unpack
from shared.storage.blobs import file_key
from shared.validation import MAX_METADATA_LISTED
from tests.unit.fakes import (
    DIMENSION,
    INDEX_DOWN,
    LEDGER_DOWN,
    Api,
    assert_problem,
    axis,
    image_id,
    make_api,
    make_services,
    with_services,
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def store(
    api: Api,
    number: int,
    key: str | None = None,
    *,
    version: int | None = None,
    collection: str = "images",
    **metadata: MetadataValue,
) -> str:
    """As the writer does when an item of a job made now, or of that `version`, is delivered."""
    model = {"model": api.encoder.name, "fingerprint": api.encoder.fingerprint}
    opened = api.services.index.ensure(collection, **model, dimension=DIMENSION)
    source = f"https://example.com/{number}.jpg"
    image = Image(
        id=image_id(number), source=source, sources=[source], format="jpeg", width=640, height=480,
        bytes=1234, created_at=1_700_000_000.25, metadata=metadata, keys=[key] if key else [],
    )  # fmt: skip
    removals = api.services.ledger.writer.removals(collection, [image.id])
    batch = WriteBatch(opened, ids=[image.id], keys=image.keys, removals=removals)
    order = version or api.services.ledger.writer.new_version()
    assert isinstance(batch.add(image, f"job:{order}", order, axis(number % DIMENSION)), ItemState)
    batch.save(lambda: None)
    api.services.blobs.put(file_key(collection, image.id, "thumbnail"), b"webp")
    return image.id


def listed(api: Api, query: str = "") -> list[str]:
    answer = api.http.get(f"/v1/images?{query}")
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in json.loads(answer.data)["images"]]


def log(api: Api, collection: str = "images") -> list[dict[str, Any]]:
    blobs = api.services.blobs
    return [record for key in blobs.list(f"log/{collection}/") for record in unpack(blobs.get(key))[1]]


# The list


def test_pictures_are_listed_page_by_page_in_the_order_of_their_ids(api: Api) -> None:
    for number in (3, 1, 5, 2, 4):
        store(api, number, f"sku-{number}", n=number)
    pages, cursor = [], ""
    while True:
        answer = json.loads(api.http.get(f"/v1/images?limit=2{cursor}").data)
        pages.append([one["metadata"]["n"] for one in answer["images"]])
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert pages == [[1, 2], [3, 4], [5]]
    (first,) = json.loads(api.http.get("/v1/images?limit=1").data)["images"]
    assert first == json.loads(api.http.get(f"/v1/images/{image_id(1)}").data)
    assert first["keys"] == ["sku-1"]


def test_the_list_is_filtered_as_a_search_is(api: Api) -> None:
    for number in range(1, 7):
        store(api, number, f"sku-{number}", shop="north" if number % 2 else "south", n=number)
    filters = quote(json.dumps({"shop": "north", "n": {"gte": 3}}))
    assert listed(api, f"filters={filters}") == [image_id(3), image_id(5)]
    by_key = quote(json.dumps({"key": {"in": ["sku-2", "sku-5", "nonesuch"]}}))
    assert listed(api, f"filters={by_key}") == [image_id(2), image_id(5)]
    found = json.loads(api.http.post("/v1/search", json={"text": "axis 0", "filters": {"key": "sku-4"}}).data)
    assert [one["id"] for one in found["results"]] == [image_id(4)]


def test_the_newest_come_first_page_by_page(api: Api) -> None:
    times = [3.5, None, 9.0, 3.5, 1_700_000_000.123456, None]
    for number, created_at in enumerate(times):
        api.add(number, axis(0), created_at=created_at)
    found: list[str] = []
    query = {"order_by": "-created_at", "limit": "1"}
    while True:
        page = api.http.get("/v1/images", query_string=query).json
        found += [one["id"] for one in page["images"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == [image_id(number) for number in (4, 2, 0, 3, 1, 5)]
    by_id = {"cursor": query["cursor"]}
    assert_problem(api.http.get("/v1/images", query_string=by_id), 422, "invalid_request", "/cursor")


def test_what_nsfw_max_hides_is_not_among_the_newest(tmp_path: Path) -> None:
    api = make_api(tmp_path, make_services(tmp_path, nsfw_max=0.5))
    shown, hidden = api.add(1, axis(0), nsfw=0.1), api.add(2, axis(0), nsfw=0.9, created_at=1_800_000_000.0)
    assert listed(api, "order_by=-created_at") == [shown]
    asked = quote(json.dumps({"nsfw": {"gte": 0}}))
    assert listed(api, f"order_by=-created_at&filters={asked}") == [hidden, shown]


def test_a_key_is_looked_up_in_any_order(api: Api) -> None:
    store(api, 1, "k")
    store(api, 2, "other")
    assert listed(api, "key=k&order_by=-created_at") == [image_id(1)]


def test_a_key_is_looked_up(api: Api) -> None:
    store(api, 1, "sku é/?&1")
    store(api, 2, "other", n=2)
    assert listed(api, "key=" + quote("sku é/?&1", safe="")) == [image_id(1)]
    assert listed(api, "key=nonesuch") == []
    n_is_1 = quote(json.dumps({"n": 1}))
    assert listed(api, f"key=other&filters={n_is_1}") == []


def test_the_list_of_what_is_not_there(api: Api) -> None:
    assert listed(api) == []
    assert listed(api, "key=k") == []
    assert_problem(api.http.get("/v1/images?collection=cats"), 404, "collection_not_found")


def test_the_list_needs_the_index_only(api: Api, tmp_path: Path) -> None:
    store(api, 1, "k")
    assert listed(with_services(api, tmp_path, ledger=LEDGER_DOWN), "key=k") == [image_id(1)]
    down = with_services(api, tmp_path, index=INDEX_DOWN)
    assert_problem(down.http.get("/v1/images"), 503, "index_unavailable")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("cursor=x", "/cursor"),
        ("order_by=-created_at&cursor=x", "/cursor"),
        ("order_by=-created_at&cursor=" + "a" * 64, "/cursor"),
        ("order_by=-created_at&cursor=W05hTiwgImEiXQ", "/cursor"),
        ("order_by=width", "/order_by"),
        ("key=", "/key"),
        ("key=" + "k" * 257, "/key"),
        ("filters=", "/filters"),
        ("filters={", "/filters"),
        ("filters=[]", "/filters"),
        ("filters=%7B%22width%22%3A%22x%22%7D", "/filters/width"),
        ("filters=%7B%22n%22%3A%7B%22like%22%3A1%7D%7D", "/filters/n/like"),
        ("offset=1", "/offset"),
    ],
)
def test_a_bad_parameter_of_the_list_is_pointed_at(api: Api, query: str, pointer: str) -> None:
    assert_problem(api.http.get(f"/v1/images?{query}"), 422, "invalid_request", pointer)


# Deleting


def test_a_deleted_key_takes_its_picture_along(api: Api) -> None:
    store(api, 1, "k")
    response = api.http.delete("/v1/images?key=k")
    assert (response.status_code, response.data) == (204, b"")
    assert_problem(api.http.get(f"/v1/images/{image_id(1)}"), 404, "image_not_found")
    assert_problem(api.http.get(f"/v1/images/{image_id(1)}/thumbnail"), 404, "image_not_found")
    assert listed(api, "key=k") == []
    assert_problem(api.http.delete("/v1/images?key=k"), 404, "image_not_found")
    assert [(one["op"], one["key"]) for one in log(api)] == [("delete_key", "k")] * 2


def test_a_picture_stays_while_another_key_or_an_item_without_one_has_brought_it(api: Api) -> None:
    for key in ("k", "l"):
        store(api, 1, key)
    store(api, 2, "m")
    store(api, 2)
    for key in ("k", "m"):
        assert api.http.delete(f"/v1/images?key={key}").status_code == 204
    assert json.loads(api.http.get(f"/v1/images/{image_id(1)}").data)["keys"] == ["l"]
    assert json.loads(api.http.get(f"/v1/images/{image_id(2)}").data)["keys"] == []
    assert api.http.get(f"/v1/images/{image_id(1)}/thumbnail").status_code == 200


def test_items_of_jobs_made_before_do_not_bring_a_deleted_key_back(api: Api) -> None:
    store(api, 9)
    before = api.services.ledger.writer.new_version()
    assert_problem(api.http.delete("/v1/images?key=k"), 404, "image_not_found")
    store(api, 1, "k", version=before)
    assert listed(api, "key=k") == []
    store(api, 2, "k")
    assert listed(api, "key=k") == [image_id(2)]


def test_a_key_must_be_named_to_be_deleted(api: Api) -> None:
    store(api, 1, "k")
    assert_problem(api.http.delete("/v1/images"), 422, "invalid_request", "/key")
    assert_problem(api.http.delete("/v1/images?key=k&all=1"), 422, "invalid_request", "/all")
    assert_problem(api.http.delete("/v1/images?key=k&collection=cats"), 404, "collection_not_found")
    assert listed(api) == [image_id(1)]


def test_a_deleted_picture_comes_back_with_a_later_job_only(api: Api) -> None:
    before = api.services.ledger.writer.new_version()
    store(api, 1, "k")
    assert api.http.delete(f"/v1/images/{image_id(1)}").status_code == 204
    store(api, 1, "k", version=before)
    assert listed(api) == []
    store(api, 1, "k")
    assert listed(api, "key=k") == [image_id(1)]
    assert [one["op"] for one in log(api)] == ["delete"]


# Changing


def patch(api: Api, number: int, metadata: dict[str, Any], **options: Any) -> dict[str, Any]:
    answer = api.http.patch(f"/v1/images/{image_id(number)}", json={"metadata": metadata, **options})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = json.loads(answer.data)
    return document


def test_metadata_is_merged_at_once(api: Api) -> None:
    store(api, 1, "k", shop="north", price=3, sizes=["s"])
    changed = patch(api, 1, {"price": 9.5, "sizes": None, "sold": True, "nothing": None})
    assert changed["metadata"] == {"shop": "north", "price": 9.5, "sold": True}
    assert changed == json.loads(api.http.get(f"/v1/images/{image_id(1)}").data)
    for filters, expected in (({"price": 9.5}, [image_id(1)]), ({"sizes": "s"}, []), ({"price": 3}, [])):
        assert listed(api, "filters=" + quote(json.dumps(filters))) == expected
    (record,) = log(api)
    assert (record["op"], record["id"]) == ("patch", image_id(1))
    assert record["metadata"] == {"price": 9.5, "sizes": None, "sold": True, "nothing": None}
    assert api.http.get(f"/v1/images/{image_id(1)}/embedding").status_code == 200


def test_a_change_stands_against_items_of_jobs_made_before_and_not_after(api: Api) -> None:
    before = api.services.ledger.writer.new_version()
    store(api, 1, shop="north")
    patch(api, 1, {"shop": "south", "price": None})
    store(api, 1, "late", version=before, shop="west", price=1, size="s")
    metadata = json.loads(api.http.get(f"/v1/images/{image_id(1)}").data)["metadata"]
    assert metadata == {"shop": "south", "size": "s"}
    store(api, 1, shop="east")
    assert json.loads(api.http.get(f"/v1/images/{image_id(1)}").data)["metadata"]["shop"] == "east"


def test_nothing_to_change_changes_nothing(api: Api) -> None:
    store(api, 1, shop="north")
    assert patch(api, 1, {})["metadata"] == {"shop": "north"}
    assert log(api) == []


def test_more_than_enough_metadata_can_be_taken_away(api: Api) -> None:
    store(api, 1)
    collection = api.services.index.collection("images")
    (stored,) = collection.stored([image_id(1)]).values()
    piled_up = {f"{letter}{n}": n for letter in "ab" for n in range(20)}  # as earlier versions let items do
    brought = replace(stored.contributions[0], metadata=piled_up)
    image = replace(stored.image, metadata=piled_up)
    collection.update([replace(stored, image=image, contributions=(brought,))])
    assert len(patch(api, 1, {"a0": None, "b0": "text"})["metadata"]) == 39
    answer = api.http.patch(f"/v1/images/{image_id(1)}", json={"metadata": {"c": 1}})
    assert_problem(answer, 422, "invalid_request", "/metadata")


def test_texts_in_lists_do_not_pile_up_by_patches_that_save_bytes(api: Api) -> None:
    texts = ["" for _ in range(MAX_METADATA_LISTED)]
    store(api, 1, a="x" * 9000, b="x" * 9000)
    assert patch(api, 1, {"a": texts})["metadata"]["a"] == texts
    answer = api.http.patch(f"/v1/images/{image_id(1)}", json={"metadata": {"b": texts}})
    assert_problem(answer, 422, "invalid_request", "/metadata")
    assert patch(api, 1, {"a": None, "b": texts})["metadata"] == {"b": texts}


def test_the_collection_is_in_the_body_or_in_the_query_string(api: Api) -> None:
    store(api, 1, collection="cats")
    assert patch(api, 1, {"a": 1}, collection="cats")["collection"] == "cats"
    url = f"/v1/images/{image_id(1)}?collection=cats"
    assert json.loads(api.http.patch(url, json={"metadata": {"b": 2}}).data)["metadata"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/metadata"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {}, "key": "k"}, "/key"),
        ({"metadata": {"width": 3}}, "/metadata/width"),
        ({"metadata": {"width": None}}, "/metadata/width"),
        ({"metadata": {"a b": None}}, "/metadata/a b"),
        ({"metadata": {"a": {"b": 1}}}, "/metadata/a"),
        ({"metadata": {"a": [1]}}, "/metadata/a"),
        ({"metadata": {"a": 2**63}}, "/metadata/a"),
        ({"metadata": {f"n{i}": 1 for i in range(32)}}, "/metadata"),
    ],
)
def test_a_bad_change_is_pointed_at_and_changes_nothing(api: Api, body: dict[str, Any], pointer: str) -> None:
    store(api, 1, shop="north")
    answer = api.http.patch(f"/v1/images/{image_id(1)}", json=body)
    assert_problem(answer, 422, "invalid_request", pointer)
    assert json.loads(api.http.get(f"/v1/images/{image_id(1)}").data)["metadata"] == {"shop": "north"}
    assert log(api) == []


def test_what_is_not_there_cannot_be_changed(api: Api) -> None:
    store(api, 1)
    for path, code in (
        (image_id(2), "image_not_found"),
        (f"{image_id(1)}?collection=cats", "collection_not_found"),
    ):
        assert_problem(api.http.patch(f"/v1/images/{path}", json={"metadata": {"a": 1}}), 404, code)


def test_a_change_needs_the_scope_ingest(api: Api) -> None:
    operations = json.loads(api.http.get("/openapi.json").data)["paths"]
    scopes = {
        (path, method): operations[path][method]["x-scope"]
        for path, method in (
            ("/v1/images", "get"),
            ("/v1/images", "delete"),
            ("/v1/images/{image_id}", "patch"),
        )
    }
    assert list(scopes.values()) == ["search", "ingest", "ingest"]


def test_changes_wait_for_the_writer_and_give_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    store(api, 1, "k")
    monkeypatch.setattr("shared.ledger.writer_lease.ACQUIRE_TIMEOUT_SECONDS", 0.2)
    assert api.services.ledger.writer.acquire("busy")
    for answer in (
        api.http.patch(f"/v1/images/{image_id(1)}", json={"metadata": {"a": 1}}),
        api.http.delete(f"/v1/images/{image_id(1)}"),
        api.http.delete("/v1/images?key=k"),
    ):
        assert_problem(answer, 503, "index_unavailable")
        assert answer.headers["Retry-After"]
    assert log(api) == []
    assert api.services.ledger.writer.is_wanted()
    api.services.ledger.writer.release("busy", force=True)
    monkeypatch.undo()
    assert patch(api, 1, {"a": 1})["metadata"] == {"a": 1}
    assert api.services.ledger.writer.acquire("next"), "the lease is given back"


def test_a_change_wakes_the_writer_for_what_waits_behind_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(api.services.dispatcher, "wake_writer", lambda: woken.append(True))
    store(api, 1)
    patch(api, 1, {"a": 1})
    assert woken == []
    ledger = api.services.ledger
    ledger.create("job", collection="images", total=1, chunk_size=1)
    claim = ledger.claim(ledger.dispatch()[0], Stage.FETCH)
    assert claim is not None
    ledger.advance(claim, transitions=[(0, ItemState.FETCHED)], next_stage=Stage.INDEX, payload="x")
    patch(api, 1, {"a": 2})
    assert woken == [True]
    assert ledger.writer.acquire("woken")


def test_changes_need_the_ledger(api: Api, tmp_path: Path) -> None:
    store(api, 1, "k")
    down = with_services(api, tmp_path, ledger=LEDGER_DOWN)
    answer = down.http.patch(f"/v1/images/{image_id(1)}", json={"metadata": {"a": 1}})
    assert_problem(answer, 503, "ledger_unavailable")
    assert_problem(down.http.delete("/v1/images?key=k"), 503, "ledger_unavailable")


def test_what_the_log_says_of_a_change_is_of_the_collection_s_model(api: Api) -> None:
    store(api, 1, "k")
    patch(api, 1, {"a": 1})
    (key,) = api.services.blobs.list("log/images/")
    assert key.startswith(f"log/images/{api.encoder.fingerprint}/")
    header, records, rows = unpack(api.services.blobs.get(key))
    assert header["version"] == records[0]["version"]
    assert len(rows) == 0
