"""The models of a worker process: whose turn it is, other weights, and models that are yet to come."""

import gc
import json
import shutil
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.config import Settings
from shared.embedding.checkpoint_files import fingerprint, preprocessing
from shared.embedding.serving import downloads, slots
from shared.errors import (
    CollectionNotFound,
    IndexUnavailable,
    ModelNotReady,
    ModelUnavailable,
)
from shared.imaging.preprocess import Preprocess
from tests.checkpoints import tiny_checkpoint
from tests.model_hub import served_hub
from tests.unit.counted import Counted
from tests.unit.fakes import StubEncoder, wait_until
from tests.unit.shared.embedding.configurations import change_json
from worker import encoders
from worker.encoders import BoundModel, CollectionModels, Encoders

MODEL = "someone/clip"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each stub was loaded; its name is its fingerprint."""
    count = Counter[str]()

    def load(_: Settings, model: str) -> StubEncoder:
        count[model] += 1
        return StubEncoder(model, model)

    monkeypatch.setattr(encoders, "_load_encoder", load)
    monkeypatch.setattr(encoders, "at_hand", lambda _: None)
    return count


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    downloads._failed.clear()
    yield tmp_path / "hub"
    wait_until(lambda: not downloads.running())


def made(clock: Clock, most: int, main: str = "a") -> Encoders:
    made = Encoders(Settings(models_loaded=most), main)
    made._slots._clock = clock
    made._slots.put(main, made.of({}))
    return made


def test_chunks_of_two_collections_share_the_places_without_a_load_each(
    loads: Counter[str], clock: Clock
) -> None:
    of = made(clock, 2).of
    for _ in range(50):
        assert of({"model": "b", "fingerprint": "b"}).name == "b"
        assert of({}).name == "a"
        clock.now += 5
    assert loads == {"a": 1, "b": 1}


def test_more_models_than_places_take_turns_not_chunk_by_chunk(loads: Counter[str], clock: Clock) -> None:
    of = made(clock, 1).of
    done = Counter[str]()
    for step in range(400):  # a chunk of each comes every second, and is postponed or encoded
        clock.now = 1000.0 + step
        for name in ("a", "b"):
            try:
                of({"model": name, "fingerprint": name})
                done[name] += 1
            except ModelNotReady as error:
                assert "MODELS_LOADED is 1" in error.detail
    assert sum(loads.values()) <= 400 / slots.TURN_SECONDS + 2
    assert min(done.values()) > 100


def test_what_gave_its_place_up_is_freed_without_a_collection_of_cycles(
    loads: Counter[str], clock: Clock
) -> None:
    of = made(clock, 1).of
    gone = weakref.ref(of({}))
    clock.now += slots.IDLE_SECONDS
    gc.disable()
    try:
        of({"model": "b", "fingerprint": "b"})
        assert gone() is None
    finally:
        gc.enable()


def test_an_encoder_s_own_parts_do_not_keep_it(tiny: Path) -> None:
    """Its 600 MB would stay until Python's collector comes by, which is when objects, not bytes, pile up."""
    encoder = encoders._load_encoder(Settings(device="cpu", precision="fp32"), str(tiny))
    towers = weakref.ref(encoder.towers.model)
    gc.collect()
    gc.disable()
    try:
        del encoder
        assert towers() is None
    finally:
        gc.enable()


def test_other_weights_are_refused_and_read_again_only_when_the_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_checkpoint(tmp_path / "model")
    tiny_checkpoint(tmp_path / "right", seed=1)
    bound = {"model": str(tmp_path / "model"), "fingerprint": fingerprint(tmp_path / "right")}
    of = Encoders(Settings(device="cpu"), bound["model"]).of
    loaded: list[str] = []
    real = encoders._load_encoder
    monkeypatch.setattr(encoders, "_load_encoder", lambda s, name: loaded.append(name) or real(s, name))
    for _ in range(3):
        with pytest.raises(ModelUnavailable, match="other weights"):
            of(bound)
    assert loaded == []
    shutil.copy(tmp_path / "right" / "model.safetensors", tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="other weights"):
        of(bound)
    assert of(bound).fingerprint == bound["fingerprint"]
    assert loaded == [bound["model"]]


def test_while_a_model_is_downloaded_chunks_of_others_go_on(
    tiny: Path, tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    model = {"model": MODEL, "fingerprint": fingerprint(tiny)}
    tiny_checkpoint(tmp_path / "main", seed=1)
    of = Encoders(Settings(device="cpu"), str(tmp_path / "main")).of
    gate = threading.Event()
    with served_hub(monkeypatch, MODEL, files, gate=gate) as downloaded:
        for _ in range(3):
            with pytest.raises(ModelNotReady, match="downloaded"):
                of(model)
            with pytest.raises(ModelNotReady, match="downloaded"):
                _ = BoundModel(MODEL).preprocess
            assert of({}).name == str(tmp_path / "main")
        gate.set()
        wait_until(lambda: not downloads.running())
        assert downloaded.count("model.safetensors") == 1
    assert of(model).name == MODEL
    assert BoundModel(MODEL).preprocess == preprocessing(tiny)


def test_crops_say_how_they_were_prepared_by_the_files_that_are_there(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model")
    bound = BoundModel(str(tmp_path / "model"), "f" * 16)
    before = bound.header
    assert Preprocess.from_json(json.loads(json.dumps(before["preprocess"]))) == bound.preprocess
    change_json(tmp_path / "model" / "processor_config.json", "image_processor", "resample", value=0)
    assert bound.header["preprocess"] == before["preprocess"] | {"resample": 0}


def test_a_collection_s_model_is_what_it_was_while_chroma_is_away() -> None:
    answers: list[Any] = [
        SimpleNamespace(pointer=SimpleNamespace(model="m/one", fingerprint="1")),
        IndexUnavailable("away"),
        SimpleNamespace(pointer=SimpleNamespace(model="m/two", fingerprint="2")),
        IndexUnavailable("away"),
        CollectionNotFound("gone"),
        IndexUnavailable("away"),
    ]

    def collection(_: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    index: Any = SimpleNamespace(collection=collection)
    models = CollectionModels(index, "m/main")
    one, two, main = BoundModel("m/one", "1"), BoundModel("m/two", "2"), BoundModel("m/main")
    assert [models.of("images") for _ in range(5)] == [one, one, two, two, main]
    with pytest.raises(IndexUnavailable):
        models.of("images")


def test_a_model_whose_folder_moved_is_the_deployment_s_where_that_has_its_weights(tiny: Path) -> None:
    bound = fingerprint(tiny)
    for name, weights, found in (
        ("/moved/away", bound, BoundModel(str(tiny), bound)),
        ("nobody/not-downloaded", bound, BoundModel(str(tiny), bound)),
        ("/moved/away", "0" * 16, BoundModel("/moved/away", "0" * 16)),
        ("starter", "1" * 16, BoundModel("starter", "1" * 16)),
    ):
        pointer = SimpleNamespace(model=name, fingerprint=weights)
        index: Any = SimpleNamespace(collection=lambda _, pointer=pointer: SimpleNamespace(pointer=pointer))
        assert CollectionModels(index, str(tiny)).of("images") == found


def test_the_metrics_say_the_deployments_own_model_and_no_other(loads: Counter[str], clock: Clock) -> None:
    counted = Counted()
    of = made(clock, 2, main="own").of
    of({"model": "another"})
    kind = {"device": StubEncoder.device, "precision": StubEncoder.precision}
    assert counted("model_info", model="own", fingerprint="own", **kind) == 1
    assert counted("model_info", model="another", fingerprint="another", **kind) == 0
    assert loads == {"own": 1, "another": 1}
