"""Which models an API process keeps, with stubs that load when they are told to."""

import gc
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from api.encoding import loaded_models
from api.encoding.loaded_models import LoadedModels
from shared.embedding.encoder import Encoder
from shared.embedding.serving import slots
from shared.errors import (
    ConfigError,
    IndexUnavailable,
    ModelMismatch,
    ModelNotReady,
    ModelUnavailable,
    Unavailable,
)
from shared.ledger.processes import LoadFailure
from tests.unit.counted import Counted
from tests.unit.fakes import StubEncoder, wait_until

A, B, C = ("stub/model", "a" * 16), ("b/b", "b" * 16), ("c/c", "c" * 16)


class Loads:
    """Loads of stubs by name: how many, those that wait for their gate, and those that fail."""

    def __init__(self) -> None:
        self.fingerprints = dict([A, B, C])
        self.count = Counter[str]()
        self.gates: dict[str, threading.Event] = {}
        self.failing: dict[str, Exception] = {}
        self.absent: dict[str, Exception] = {}

    def __call__(self, name: str) -> Encoder:
        self.count[name] += 1
        if name in self.gates:
            self.gates[name].wait(30)
        if name in self.failing:
            raise self.failing[name]
        return cast(Encoder, StubEncoder(name, self.fingerprints[name]))

    def at_hand(self, name: str) -> None:
        if name in self.absent:
            raise self.absent[name]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(loads: Loads, clock: Clock) -> Iterator[Callable[..., LoadedModels]]:
    made: list[LoadedModels] = []

    def make(most: int = 2, *, started: bool = True, main: str | None = A[0]) -> LoadedModels:
        models = LoadedModels(
            lambda: loads(A[0]), loads, most=most, main_name=lambda: main, at_hand=loads.at_hand
        )
        models._slots._clock = clock
        made.append(models)
        models.start()
        if started:
            wait_until(lambda: models.fingerprints() == [A[1]])
            settled(models)
        return models

    yield make
    for gate in loads.gates.values():
        gate.set()
    for models in made:
        models.stop()


def ready(models: LoadedModels, bound: tuple[str, str]) -> Encoder:
    found: list[Encoder] = []

    def ask() -> bool:
        try:
            found.append(models.of(*bound))
        except ModelNotReady:
            return False
        return True

    wait_until(ask)
    settled(models)
    return found[0]


def settled(models: LoadedModels) -> None:
    """Wait until the turn of what is loaded has begun, a moment after it can be had."""
    loaded = [name for name, loader in models._slots if loader.encoder is not None]
    kept = models._slots._kept
    wait_until(lambda: all(name not in kept or math.isfinite(kept[name].since) for name in loaded))


def test_a_collection_s_model_is_loaded_beside_the_default_one(make: Any, loads: Loads) -> None:
    models = make()
    with pytest.raises(ModelNotReady, match="being loaded"):
        models.of(*B)
    assert ready(models, B).fingerprint == B[1]
    assert models.main().fingerprint == A[1]
    assert models.of(*A) is models.main()
    assert loads.count == {A[0]: 1, B[0]: 1}


def test_many_who_ask_at_once_start_one_load(make: Any, loads: Loads) -> None:
    models = make()
    loads.gates[B[0]] = threading.Event()

    def ask() -> None:
        with pytest.raises(ModelNotReady):
            models.of(*B)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loads.gates[B[0]].set()
    ready(models, B)
    assert loads.count[B[0]] == 1


def test_one_that_loads_for_longer_than_a_turn_is_not_given_up(make: Any, loads: Loads, clock: Clock) -> None:
    models = make(1)
    loads.gates[B[0]] = threading.Event()
    clock.now += slots.IDLE_SECONDS
    with pytest.raises(ModelNotReady, match="being loaded"):
        models.of(*B)
    clock.now += 10 * slots.TURN_SECONDS
    with pytest.raises(ModelNotReady, match="take turns") as caught:
        models.of(*A)
    assert caught.value.retry_after_s > 0
    loads.gates[B[0]].set()
    assert ready(models, B).fingerprint == B[1]
    assert loads.count == {A[0]: 1, B[0]: 1}


def test_two_busy_models_take_turns_in_one_place_and_say_so(make: Any, clock: Clock) -> None:
    models = make(1)
    with pytest.raises(ModelNotReady, match=r"keeps 1 .*MODELS_LOADED"):
        models.of(*B)
    clock.now += slots.TURN_SECONDS
    assert models.of(*A)
    ready(models, B)
    assert models.fingerprints() == [B[1]]
    with pytest.raises(ModelNotReady):
        models.of(*A)
    assert models.identity().fingerprint == A[1], "a new collection is bound to it all the same"
    clock.now += slots.TURN_SECONDS
    assert ready(models, A).fingerprint == A[1]
    assert models.main().fingerprint == A[1]


def test_what_gave_its_place_up_is_freed_without_a_collection_of_cycles(make: Any, clock: Clock) -> None:
    models = make()
    gone = weakref.ref(ready(models, B))
    gc.disable()
    try:
        models.main()
        clock.now += slots.IDLE_SECONDS
        models.main()
        ready(models, C)
        wait_until(lambda: gone() is None)
    finally:
        gc.enable()


def test_a_model_that_fails_takes_no_place_and_is_tried_again_after_a_while(make: Any, loads: Loads) -> None:
    models = make()
    loads.failing[C[0]] = ModelUnavailable("c/c cannot be had.")
    for _ in range(3):
        with pytest.raises(Unavailable, match="c/c cannot be had") as caught:
            ready(models, C)
        assert caught.value.code == "model_unavailable"
    assert loads.count[C[0]] == 1
    assert [one.failure for one in models.states()] == [None, "c/c cannot be had."]
    assert ready(models, B), "the place is free"
    del loads.failing[C[0]]
    models.announce({C[1]: C[0]})
    assert loads.count[C[0]] == 1
    models._failed[C[0]] = models._failed[C[0]][0], 0.0
    assert ready(models, C).fingerprint == C[1]
    assert [one.failure for one in models.states()] == [None, None, None]


def test_one_that_is_being_downloaded_takes_no_place(make: Any, loads: Loads) -> None:
    models = make(1)
    loads.absent[B[0]] = ModelNotReady("b/b is being downloaded.")
    for _ in range(3):
        with pytest.raises(ModelNotReady, match="downloaded"):
            models.of(*B)
    assert models.main().fingerprint == A[1]
    loads.absent[B[0]] = ModelUnavailable("b/b is gone from the hub.")
    with pytest.raises(Unavailable, match="gone") as caught:
        models.of(*B)
    assert caught.value.code == "model_unavailable"
    assert loads.count[B[0]] == 0


def test_other_weights_of_a_name_are_said_and_not_loaded_again_until_they_change(
    make: Any, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make()
    former = (B[0], "f" * 16)
    for _ in range(3):
        with pytest.raises(ModelMismatch, match="weights named b/b are not those any more"):
            ready(models, former)
    assert loads.count[B[0]] == 1
    with pytest.raises(ModelMismatch):
        models.of(A[0], "f" * 16)
    assert models.of(*B)
    loads.fingerprints[B[0]] = former[1]
    monkeypatch.setattr(loaded_models, "files_of", lambda _: [("model.safetensors", 1, 1)])
    assert ready(models, former).fingerprint == former[1]


def test_while_the_default_model_loads_others_go_on(make: Any, loads: Loads) -> None:
    loads.gates[A[0]] = threading.Event()
    models = make(started=False)
    assert ready(models, B).fingerprint == B[1]
    with pytest.raises(ModelNotReady):
        models.of(*A)
    loads.gates[A[0]].set()
    assert ready(models, A).fingerprint == A[1]
    assert loads.count[A[0]] == 1


def test_what_works_is_told_by_another_model_only_when_the_default_one_had_its_first_try(
    make: Any, loads: Loads
) -> None:
    loads.gates[A[0]] = threading.Event()
    loads.failing[A[0]] = ModelUnavailable("stub/model is broken.")
    models = make(started=False)
    other = ready(models, B)
    with pytest.raises(ModelNotReady):
        models.any()
    loads.gates[A[0]].set()
    wait_until(lambda: models.states()[0].failure is not None)
    assert models.any() is other


def test_a_default_model_that_fails_keeps_no_collection_of_another_waiting(make: Any, loads: Loads) -> None:
    loads.failing[A[0]] = ModelUnavailable("stub/model is broken.")
    models = make(1, started=False)
    wait_until(lambda: models.states()[0].failure is not None)
    assert ready(models, B).fingerprint == B[1]
    for _ in range(5):
        with pytest.raises(Unavailable, match="broken"):
            models.main()
    assert models.fingerprints() == [B[1]]


def test_announced_models_are_loaded_beside_those_in_use_and_stay_until_they_are_not(
    make: Any, loads: Loads, clock: Clock
) -> None:
    models = make(1)
    assert models.announce({B[1]: B[0]}) == {}
    wait_until(lambda: set(models.fingerprints()) == {A[1], B[1]})
    clock.now += 10 * slots.TURN_SECONDS
    models.announce({B[1]: B[0]})
    assert set(models.fingerprints()) == {A[1], B[1]}
    ready(models, B)
    clock.now += slots.IDLE_SECONDS
    models.of(*B)
    models.announce({})
    assert models.fingerprints() == [B[1]], "the one that is not asked for gives its place up"


def test_the_reason_why_an_announced_model_cannot_be_loaded_is_told(make: Any, loads: Loads) -> None:
    models = make(1)
    loads.failing[B[0]] = ModelUnavailable("b/b is damaged.")
    models.announce({B[1]: B[0]})
    wait_until(lambda: models.announce({B[1]: B[0]}) != {})
    assert models.announce({B[1]: B[0]}) == {B[1]: LoadFailure("b/b is damaged.", passing=False)}
    detail, passing = models.announce({"e" * 16: A[0]})["e" * 16]
    assert detail.startswith(f"The weights named {A[0]} are not those any more")
    assert not passing
    assert models.main().fingerprint == A[1]


@pytest.mark.parametrize(
    ("trouble", "passing"),
    [
        (ModelUnavailable("The hub is away.", passing=True), True),
        (ModelUnavailable("Its weights lack x."), False),
        (IndexUnavailable("Chroma does not answer."), True),
        (ConfigError("TAG_VOCABULARY: no such file"), False),
        (RuntimeError("out of memory"), True),
    ],
)
@pytest.mark.parametrize("of", ["load", "download"])
def test_of_an_announced_model_that_cannot_be_loaded_it_is_told_whether_that_may_pass(
    make: Any, loads: Loads, trouble: Exception, passing: bool, of: str
) -> None:
    if of == "download" and not isinstance(trouble, ModelUnavailable):
        pytest.skip("a download fails as ModelUnavailable")
    models = make()
    (loads.failing if of == "load" else loads.absent)[B[0]] = trouble
    wait_until(lambda: models.announce({B[1]: B[0]}) != {})
    assert models.announce({B[1]: B[0]})[B[1]].passing is passing


def test_at_its_start_a_process_loads_what_most_collections_are_of_into_the_places_that_are_free(
    make: Any, loads: Loads
) -> None:
    models = make(2)
    assert models.prepare([A, B, C]) == [B]
    wait_until(lambda: models.prepare([B]) == [])
    assert set(models.fingerprints()) == {A[1], B[1]}
    assert models.prepare([C]) == [], "no place is given up for it"
    assert loads.count == {A[0]: 1, B[0]: 1}


def test_what_is_to_be_downloaded_first_is_loaded_when_it_is_here(make: Any, loads: Loads) -> None:
    models = make(2)
    loads.absent[B[0]] = ModelNotReady("b/b is being downloaded.")
    assert models.prepare([B]) == models.prepare([B]) == [B]
    del loads.absent[B[0]]
    wait_until(lambda: models.prepare([B]) == [])
    assert B[1] in models.fingerprints()
    loads.failing[C[0]] = ModelUnavailable("c/c is damaged.")
    wait_until(lambda: models.prepare([C]) == [])


def test_a_look_at_what_works_loads_nothing_and_takes_no_turn(make: Any, loads: Loads, clock: Clock) -> None:
    models = make(1)
    loads.gates[B[0]] = threading.Event()
    clock.now += slots.IDLE_SECONDS
    assert models.any() is models.main()
    clock.now += slots.TURN_SECONDS
    with pytest.raises(ModelNotReady):
        models.of(*B)
    for _ in range(3):
        assert models.any() is None
    loads.gates[B[0]].set()
    ready(models, B)
    clock.now += slots.IDLE_SECONDS
    for _ in range(3):
        assert models.any() is models.of(*B)
    assert loads.count == {A[0]: 1, B[0]: 1}


def test_the_metrics_say_the_default_model_and_no_other(make: Any, loads: Loads) -> None:
    loads.fingerprints |= {A[0]: "0" * 15 + "1", B[0]: "0" * 15 + "2"}
    counted = Counted()
    models = make(started=False)
    wait_until(lambda: models.fingerprints() != [])
    ready(models, (B[0], "0" * 15 + "2"))
    kind = {"device": StubEncoder.device, "precision": StubEncoder.precision}
    assert counted("model_info", model=A[0], fingerprint="0" * 15 + "1", **kind) == 1
    assert counted("model_info", model=B[0], fingerprint="0" * 15 + "2", **kind) == 0
