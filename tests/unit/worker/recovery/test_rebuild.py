"""The vector log against Chroma: what it finds, and a collection made anew from it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from deploy import maintenance
from deploy.cli import main
from shared.errors import CollectionNotFound, ConfigError, IndexUnavailable
from shared.index import index as index_module
from shared.index.collection import Collection
from shared.models import Image
from shared.services import Services
from shared.storage import vector_log
from shared.storage.arrays import pack
from shared.storage.blobs import log_prefix
from shared.storage.vector_log import Addition, Segment
from tests.unit.fakes import DIMENSION, axis, image_id, make_services
from tests.unit.stages import StubDispatcher, image
from worker.recovery import rebuild

FINGERPRINT = "5" * 16


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setattr(index_module, "POINTER_TTL_SECONDS", 0.0)
    return replace(make_services(tmp_path), dispatcher=cast(Any, StubDispatcher()))


def log(services: Services, version: int, numbers: Sequence[int], **fields: Any) -> None:
    additions = [
        Addition(n, 1, f"job:{n}", replace(image(image_id(n), f"{version}/{n}"), **fields), version)
        for n in numbers
    ]
    vectors = np.stack([axis(n % DIMENSION) for n in numbers])
    segment = Segment(version, "stub/model", FINGERPRINT, additions, vectors)
    vector_log.write_segment(services.blobs, "images", "x", segment)


def log_record(services: Services, version: int, **record: Any) -> None:
    header = {"version": version, "model": "", "fingerprint": FINGERPRINT}
    key = f"{log_prefix('images')}{FINGERPRINT}/{version:020d}-{record['op']}.npz"
    services.blobs.put(key, pack(header, [{"version": version, **record}], np.empty((0, 0), np.float32)))


def stored(services: Services, images: Sequence[Image]) -> None:
    collection = services.index.ensure(
        "images", model="stub/model", fingerprint=FINGERPRINT, dimension=DIMENSION
    )
    vectors = np.stack([axis(int(one.id, 16) % DIMENSION) for one in images])
    collection.upsert(images, vectors, [f"job:{int(one.id, 16)}" for one in images])


def ids(*numbers: int) -> list[str]:
    return [image_id(n) for n in numbers]


def test_a_collection_that_is_as_its_log_has_no_faults(services: Services) -> None:
    log(services, 1, [1, 2, 3])
    stored(services, [image(image_id(n)) for n in (1, 2, 3)])
    faults = rebuild.verify(services, "images")
    assert not faults
    assert faults.total == 3


def test_missing_extra_and_wrong_pictures_are_told_apart(services: Services) -> None:
    log(services, 1, [1, 2, 3])
    log(services, 2, [4])
    stored(services, [image(image_id(n)) for n in (1, 2, 9)])
    collection = services.index.collection("images")
    collection.upsert([image(image_id(2))], axis(5)[None], ["job:2"])
    faults = rebuild.verify(services, "images")
    assert (faults.missing, faults.extra, faults.wrong) == (ids(3, 4), ids(9), ids(2))


def test_a_vector_that_differs_by_rounding_is_right(services: Services) -> None:
    log(services, 1, [1])
    stored(services, [image(image_id(1))])
    nearly = axis(1) + np.float32(0.004)
    services.index.collection("images").upsert(
        [image(image_id(1))], (nearly / np.linalg.norm(nearly))[None], ["job:1"]
    )
    assert not rebuild.verify(services, "images")


def test_a_rebuild_makes_what_the_log_says_and_what_came_before_counts(services: Services) -> None:
    log(services, 1, [1, 2, 3], metadata={"shop": "north", "price": 5})
    log(services, 2, [1], metadata={"shop": "south"})
    log_record(services, 3, op="delete", id=image_id(2))
    log_record(services, 4, op="patch", id=image_id(3), metadata={"price": None, "colour": "red"})
    stored(services, [image(image_id(n)) for n in (1, 2)])
    before = services.index.collection("images").physical
    faults = rebuild.rebuild(services, "images")
    assert (faults.missing, faults.extra) == (ids(3), ids(2))
    made = services.index.collection("images")
    assert made.physical != before
    assert sorted(made.ids()) == ids(1, 3)
    assert made.get(image_id(1)).sources == ["1/1", "2/1"]
    assert made.get(image_id(1)).metadata == {"shop": "south", "price": 5}
    assert made.get(image_id(3)).metadata == {"shop": "north", "colour": "red"}
    assert made.owners(ids(1))[image_id(1)][0] == "job:1"
    assert np.array_equal(made.vector(image_id(3)), axis(3))
    assert not rebuild.verify(services, "images")
    assert [info.name for info in services.index.collections()] == ["images"]


def test_a_picture_that_was_deleted_and_brought_again_is_there(services: Services) -> None:
    log(services, 1, [1], metadata={"old": True})
    log_record(services, 2, op="delete", id=image_id(1))
    log(services, 3, [1], metadata={"new": True})
    rebuild.rebuild(services, "images")
    assert services.index.collection("images").get(image_id(1)).metadata == {"new": True}


def test_an_odd_record_of_the_log_costs_itself_alone(services: Services) -> None:
    log(services, 1, [1], taken_at=1e300, width=-5, metadata={"n": float("nan"), "width": 3, "shop": "north"})
    log(services, 2, [2], keys=["Zu\u0308rich"])
    log(services, 3, [3])
    for version, record in enumerate(
        [
            {"op": "patch", "id": image_id(2), "metadata": {"a b": 1, "n": float("inf"), "shop": "south"}},
            {"op": "patch", "id": image_id(2)},
            {"op": "delete"},
            {"op": "add", "image": {"source": "x"}},
            {"op": "delete_key", "key": 5},
        ],
        start=4,
    ):
        log_record(services, version, **record)
    rebuild.rebuild(services, "images")
    made = services.index.collection("images")
    assert sorted(made.ids()) == ids(1, 2, 3)
    first = made.get(image_id(1))
    assert (first.taken_at, first.width, first.height, first.metadata) == (None, None, 1, {"shop": "north"})
    assert made.get(image_id(2)).metadata == {"shop": "south"}
    held = made.by_key("Z\u00fcrich")
    assert held is not None
    assert held.image.id == image_id(2)
    assert not rebuild.verify(services, "images")


def test_a_rebuild_knows_where_each_key_points(services: Services) -> None:
    log(services, 1, [1], keys=["sku"])
    log(services, 2, [2], keys=["sku"])
    log(services, 3, [3], keys=["gone"])
    log(services, 4, [4], keys=["other"])
    log(services, 5, [4])
    log_record(services, 6, op="delete_key", key="gone")
    log_record(services, 7, op="delete_key", key="other")
    stored(services, [image(image_id(9))])
    before = services.index.collection("images").pointer.keys
    rebuild.rebuild(services, "images")
    made = services.index.collection("images")
    assert sorted(made.ids()) == ids(2, 4)
    holder = made.by_key("sku")
    assert holder is not None
    assert (holder.image.id, holder.key_versions("sku")) == (image_id(2), [2])
    assert (made.by_key("gone"), made.by_key("other")) == (None, None)
    assert made.get(image_id(4)).keys == []
    assert made.key_records(["gone"])["gone"].floor == 6
    assert made.pointer.keys != before
    assert not rebuild.verify(services, "images")


def test_a_key_pointed_elsewhere_through_the_old_pointer_during_the_switch_is_kept(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(services, 1, [1], keys=["sku"])
    log(services, 2, [2])

    def meanwhile() -> None:
        log(services, 8, [2], keys=["sku"], metadata={"shop": "north"})

    monkeypatch.setattr(index_module.Index, "wait_for_pointers", staticmethod(meanwhile))
    rebuild.rebuild(services, "images")
    made = services.index.collection("images")
    holder = made.by_key("sku")
    assert holder is not None
    assert (holder.image.id, holder.image.metadata) == (image_id(2), {"shop": "north"})
    assert list(made.ids()) == ids(2)


def test_a_collection_that_chroma_has_lost_comes_back(services: Services) -> None:
    log(services, 1, range(20))
    faults = rebuild.rebuild(services, "images")
    assert len(faults.missing) == 20
    opened = services.index.collection("images")
    assert (opened.count(), opened.pointer.model, opened.pointer.fingerprint) == (
        20,
        "stub/model",
        FINGERPRINT,
    )


def test_a_change_made_through_the_old_pointer_during_the_switch_is_kept(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(services, 1, [1, 2])
    stored(services, [image(image_id(n)) for n in (1, 2)])

    def deleted_meanwhile() -> None:
        log_record(services, 9, op="delete", id=image_id(2))

    monkeypatch.setattr(index_module.Index, "wait_for_pointers", staticmethod(deleted_meanwhile))
    rebuild.rebuild(services, "images")
    assert list(services.index.collection("images").ids()) == ids(1)


def test_a_rebuild_that_died_is_made_again_from_the_start(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(services, 1, [1, 2])
    stored(services, [image(image_id(1))])
    with monkeypatch.context() as patch:
        patch.setattr(index_module.Index, "switch", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rebuild.rebuild(services, "images")
    assert services.index.collection("images").count() == 1
    rebuild.rebuild(services, "images")
    assert sorted(services.index.collection("images").ids()) == ids(1, 2)


def test_nothing_is_made_of_no_log(services: Services) -> None:
    with pytest.raises(CollectionNotFound):
        rebuild.rebuild(services, "none")
    stored(services, [image(image_id(1))])
    with pytest.raises(CollectionNotFound, match="no pictures"):
        rebuild.rebuild(services, "images")
    assert services.index.collection("images").count() == 1


def test_records_of_a_later_version_are_not_guessed_at(services: Services) -> None:
    log(services, 1, [1])
    log_record(services, 2, op="fold", id=image_id(1))
    with pytest.raises(ConfigError, match="fold"):
        rebuild.rebuild(services, "images")


def test_a_rebuild_waits_for_the_writer(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.ledger.writer_lease.ACQUIRE_TIMEOUT_SECONDS", 0.0)
    log(services, 1, [1])
    assert services.ledger.writer.acquire("another")
    with pytest.raises(IndexUnavailable, match="being written"):
        rebuild.rebuild(services, "images")
    assert services.ledger.writer.release("another", force=True)
    rebuild.rebuild(services, "images")
    assert services.ledger.writer.acquire("free again")


COUNT = 600


@pytest.fixture
def crowded(services: Services) -> Services:
    """Shots of one product, nearly equal, written past the writer: HNSW loses some."""
    random = np.random.default_rng(3)
    rows = random.normal(size=64) + 0.0005 * random.normal(size=(COUNT, 64))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    images = [image(image_id(n), f"1/{n}") for n in range(COUNT)]
    additions = [Addition(n, 1, f"job:{n}", one, 1) for n, one in enumerate(images)]
    vector_log.write_segment(
        services.blobs, "images", "x", Segment(1, "stub/model", FINGERPRINT, additions, vectors)
    )
    collection = services.index.ensure("images", model="stub/model", fingerprint=FINGERPRINT, dimension=64)
    collection.upsert(images, vectors, [f"job:{n}" for n in range(COUNT)])
    return services


def all_found(services: Services) -> bool:
    collection = services.index.collection("images")
    vectors = collection.vectors(list(collection.ids()))
    return len(vectors) == COUNT and not collection.lost(vectors)


def test_verify_names_what_no_search_finds_and_repairs_it(crowded: Services) -> None:
    collection = crowded.index.collection("images")
    faults = rebuild.verify(crowded, "images")
    assert faults
    assert set(faults.unreachable) == set(collection.lost(collection.vectors(list(collection.ids()))))
    assert (faults.missing, faults.extra, faults.wrong) == ([], [], [])
    assert rebuild.verify(crowded, "images").unreachable == faults.unreachable, "it only looks"
    assert not rebuild.verify(crowded, "images", repair=True)
    assert not rebuild.verify(crowded, "images")
    assert all_found(crowded)
    assert crowded.ledger.writer.acquire("free again")


def test_a_sample_is_spread_and_none_asks_for_none(
    crowded: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Collection, "lost", lambda _, vectors: asked.extend(vectors) or [])
    assert not rebuild.verify(crowded, "images", sample=0)
    assert asked == []
    told: list[tuple[int, int]] = []
    rebuild.verify(crowded, "images", sample=100, told=lambda *done: told.append(done))
    assert told[-1] == (COUNT, COUNT)
    assert sorted(int(one, 16) for one in asked) == list(range(0, COUNT, 6))
    asked.clear()
    rebuild.verify(crowded, "images", sample=10_000)
    assert len(asked) == COUNT


def test_a_rebuilt_collection_has_no_unreachable_picture_when_it_is_switched_to(crowded: Services) -> None:
    rebuild.rebuild(crowded, "images")
    assert not rebuild.verify(crowded, "images")
    assert all_found(crowded)


def test_a_repair_that_died_is_gone_on_with(crowded: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = rebuild.verify(crowded, "images").unreachable
    assert len(lost) > 1
    real = Collection.mark_strays
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "mark_strays", lambda c, ids: (real(c, ids[:1]), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            rebuild.verify(crowded, "images", repair=True)
    assert rebuild.verify(crowded, "images").unreachable == lost[1:]
    assert not rebuild.verify(crowded, "images", repair=True)


def test_a_repair_waits_for_the_writer(crowded: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.ledger.writer_lease.ACQUIRE_TIMEOUT_SECONDS", 0.0)
    assert crowded.ledger.writer.acquire("another")
    assert rebuild.verify(crowded, "images").unreachable, "to look takes no lease"
    with pytest.raises(IndexUnavailable, match="being written"):
        rebuild.verify(crowded, "images", repair=True)


def test_a_picture_deleted_meanwhile_is_not_unreachable(services: Services) -> None:
    log(services, 1, [1, 2])
    stored(services, [image(image_id(n)) for n in (1, 2)])
    collection = services.index.collection("images")
    vectors = collection.vectors(ids(1, 2))
    collection.delete(ids(2))
    assert collection.lost(vectors) == []


def test_verify_prints_the_unreachable_and_how_to_repair_them(
    crowded: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_services", lambda _: crowded)
    found = CliRunner().invoke(main, ["verify"])
    assert found.exit_code == 3
    assert "found by no search" in found.output
    assert "image-search verify --repair --collection images" in found.output
    assert "rebuild" not in found.output
    told = json.loads(CliRunner().invoke(main, ["verify", "--json"]).stdout)
    assert len(told["unreachable"]) > 1
    assert CliRunner().invoke(main, ["verify", "--sample", "0"]).exit_code == 0
    assert CliRunner().invoke(main, ["verify", "--repair"]).exit_code == 0
    assert CliRunner().invoke(main, ["verify"]).exit_code == 0


def test_the_commands_print_a_table_and_tell_by_their_exit_status(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_services", lambda _: services)
    log(services, 1, [1, 2])
    stored(services, [image(image_id(1))])
    found = CliRunner().invoke(main, ["verify"])
    assert found.exit_code == 3
    assert f"missing {image_id(2)}" in found.output
    assert "image-search rebuild --collection images" in found.output
    told = json.loads(CliRunner().invoke(main, ["verify", "--json"]).stdout)
    assert told["missing"] == [image_id(2)]
    made = CliRunner().invoke(main, ["rebuild", "--collection", "images"])
    assert made.exit_code == 0, made.output
    assert CliRunner().invoke(main, ["verify"]).exit_code == 0
    again = json.loads(CliRunner().invoke(main, ["rebuild", "--json"]).stdout)
    assert (again["collection"], again["missing"]) == ("images", [])
    assert CliRunner().invoke(main, ["verify", "-c", "none"]).exit_code == 1
