"""The documents of earlier versions' collections."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import IndexUnavailable, KeywordsNotReady, NewerFormat
from shared.filters.keywords import HasKeywords
from shared.index import index as index_module
from shared.index.index import Index
from shared.index.records import to_record
from shared.services import Services
from tests.unit.fakes import axis, image_id, make_services
from tests.unit.stages import image
from worker.recovery import documents

MODEL: Any = {"model": "m", "fingerprint": "f" * 16, "dimension": len(axis(0))}


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """With a collection `old` of five pictures, as an earlier version left it, and an empty `new`."""
    services = make_services(tmp_path)
    monkeypatch.setattr(index_module, "BATCH", 2)
    monkeypatch.setattr(documents, "LEAST_PAUSE_SECONDS", 0.0)
    with monkeypatch.context() as before:
        before.setattr(index_module, "FORMAT", index_module.PLAIN)
        services.index.create("old", **MODEL)
        chroma = services.index.open("old").chroma
    images = [replace(image(image_id(n)), metadata={"title": "a boot"}) for n in range(5)]
    records: list[Any] = [to_record(one, "job:0") for one in images]
    chroma.upsert([one.id for one in images], [axis(0)] * 5, records)
    services.index.create("new", **MODEL)
    return services


def until_all_have(services: Services, monkeypatch: pytest.MonkeyPatch, looks: int = 1) -> None:
    """Run the sweeper's thread for so many looks."""
    stopped, left = threading.Event(), [looks]

    def wait(timeout_s: float) -> bool:
        if timeout_s == documents.INTERVAL_SECONDS:
            left[0] -= 1
        if not left[0]:
            stopped.set()
        return stopped.is_set()

    monkeypatch.setattr(stopped, "wait", wait)
    documents.add_documents_until(services, stopped)


def test_the_sweeper_prepares_what_an_earlier_version_wrote(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = services.index.collection("old")
    with pytest.raises(KeywordsNotReady):
        old.check_keywords()
    services.index.collection("new").check_keywords()
    until_all_have(services, monkeypatch)
    old.check_keywords()
    found = old.search(axis(0), limit=9, where=HasKeywords(("boot",)))
    assert [hit.image.id for hit in found] == [image_id(n) for n in range(5)]
    assert not services.ledger.writer.is_held()


def test_a_page_is_written_under_the_lease_which_others_get_between_two(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    write = Index.add_documents

    def adding(index: Index, name: str, check: Any) -> int:
        held.append(services.ledger.writer.is_held())
        return write(index, name, check)

    class Watched(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            held.append(services.ledger.writer.is_held())
            return False

    monkeypatch.setattr(Index, "add_documents", adding)
    documents.add_documents(services, "old", Watched())
    assert held == [True, False, True, False, True, False, True]


def test_an_outage_is_waited_for_and_does_not_end_the_thread(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = Index.add_documents, [IndexUnavailable("Chroma does not answer.")]

    def adding(index: Index, name: str, check: Any) -> int:
        if failures:
            raise failures.pop()
        return write(index, name, check)

    monkeypatch.setattr(Index, "add_documents", adding)
    until_all_have(services, monkeypatch, looks=2)
    services.index.collection("old").check_keywords()


def let_new_fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    known = Index.has_documents

    def has_documents(index: Index, name: str) -> bool:
        if name == "new":
            raise error
        return known(index, name)

    monkeypatch.setattr(Index, "has_documents", has_documents)


def test_a_collection_that_fails_keeps_no_other_from_its_documents(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_new_fail(monkeypatch, NewerFormat("A newer version wrote it."))
    until_all_have(services, monkeypatch)
    assert services.index.has_documents("old")


def test_what_nobody_expected_of_one_collection_ends_no_look(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_new_fail(monkeypatch, LookupError("new"))
    until_all_have(services, monkeypatch, looks=2)
    services.index.collection("old").check_keywords()
