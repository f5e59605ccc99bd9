"""What an API process loads at its start, and tells the ledger, whatever does not answer."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from api.encoding import announcements
from api.encoding.announcements import Announcements
from shared.errors import IndexUnavailable, LedgerUnavailable
from shared.index.records import Pointer, new_pointer
from shared.ledger.processes import LoadFailure
from tests.unit.fakes import wait_until


class Models:
    """Of those to be loaded, the first is loaded with each call."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []

    def prepare(self, bound: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        self.asked.append(list(bound))
        return list(bound[1:])

    def announce(self, announced: dict[str, str]) -> dict[str, LoadFailure]:
        return {}

    def fingerprints(self) -> list[str]:
        return ["a"]


class Ledger:
    down = False
    beats = 0

    def announced(self) -> dict[str, str]:
        if self.down:
            raise LedgerUnavailable("Redis does not answer.")
        return {}

    def heartbeat(self, *_: object) -> None:
        self.beats += 1


class Pointers:
    down = True

    def __call__(self) -> list[Pointer]:
        if self.down:
            raise IndexUnavailable("Chroma does not answer.")
        bound = (("one", "m", "a"), ("two", "n", "b"), ("three", "n", "b"))
        return [new_pointer(name, model, fingerprint, 8) for name, model, fingerprint in bound]


def test_what_collections_are_of_is_loaded_at_the_start_even_without_the_ledger_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcements, "PERIOD_SECONDS", 0.01)
    ledger, models, pointers = Ledger(), Models(), Pointers()
    thread = Announcements(cast(Any, ledger), cast(Any, models), pointers)
    thread.start()
    try:
        wait_until(lambda: ledger.beats > 1)
        assert not models.asked, "Chroma is away, which delays no heartbeat"
        ledger.down, pointers.down = True, False
        wait_until(lambda: [] in models.asked)
    finally:
        thread.stop()
    assert models.asked[:3] == [[("n", "b"), ("m", "a")], [("m", "a")], []], "that of most collections first"
