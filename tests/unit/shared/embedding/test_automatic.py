import json
import os
import shutil
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.embedding import automatic, checkpoints, hub
from shared.embedding.automatic import HUB_MODELS, known_model, resolve_auto
from shared.embedding.checkpoint_files import STARTER, fingerprint
from shared.embedding.checkpoints import resolve_model
from shared.errors import ConfigError, IndexUnavailable, ModelUnavailable
from shared.models import CollectionInfo
from shared.storage.blobs import MODEL_KEY, Blobs
from tests.checkpoints import tiny_checkpoint
from tests.model_hub import cache_as, served_hub, use_hub
from tests.unit.fakes import INDEX_DOWN, index_in

BETTER, OLDER = HUB_MODELS


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def starter(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_STARTER_FOLDER", tiny)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint like `tiny` with other weights."""
    folder = tmp_path_factory.mktemp("other") / "tiny"
    tiny_checkpoint(folder, seed=1)
    return folder


def nothing() -> Sequence[CollectionInfo]:
    return []


def bound(name: str, model: str, digest: str, count: int = 1) -> CollectionInfo:
    return CollectionInfo(name, count, model, digest, dimension=16, created_at=0.0)


def record(blobs: Blobs) -> str | None:
    return json.loads(blobs.get(MODEL_KEY))["model"] if blobs.exists(MODEL_KEY) else None


def test_auto_is_the_better_of_the_models_that_are_cached(hub_cache: Path, tiny: Path, blobs: Blobs) -> None:
    for model in HUB_MODELS:
        cache_as(hub_cache, model, tiny)
    assert resolve_auto(blobs, nothing) == record(blobs) == BETTER


def test_auto_is_downloaded_where_only_the_other_is_cached(
    hub_cache: Path, tiny: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_as(hub_cache, OLDER, tiny)
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with served_hub(monkeypatch, BETTER, files) as downloads:
        assert resolve_auto(blobs, nothing) == BETTER
    assert "model.safetensors" in downloads


@pytest.mark.usefixtures("starter")
def test_auto_falls_back_to_the_starter_and_stays_with_it(hub_cache: Path, tiny: Path, blobs: Blobs) -> None:
    with capture_logs() as logged:
        assert resolve_auto(blobs, nothing) == STARTER
    assert "weak on photographs" in logged[-1]["event"]
    cache_as(hub_cache, BETTER, tiny)
    assert resolve_auto(blobs, nothing) == STARTER


@pytest.mark.usefixtures("starter")
@pytest.mark.parametrize("cached", [True, False])
def test_a_hub_that_does_not_answer_is_waited_for_once(
    hub_cache: Path, tiny: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if cached:
        cache_as(hub_cache, OLDER, tiny)
    asked, ask = [], hub._ask_hub
    monkeypatch.setattr(hub, "_HUB_DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_ask_hub", lambda model: (asked.append(model), ask(model))[1])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert resolve_auto(blobs, nothing) == (OLDER if cached else STARTER)
    assert asked == [BETTER]


@pytest.mark.usefixtures("starter")
@pytest.mark.parametrize("answer", [401, 403, 404, 451])
def test_a_hub_that_refuses_one_model_is_asked_for_the_other(
    tiny: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with served_hub(monkeypatch, OLDER, files, otherwise=answer):
        assert resolve_auto(blobs, nothing) == OLDER


@pytest.mark.usefixtures("starter")
@pytest.mark.parametrize("spoil", ["half", "garbage", "no snapshot", "truncated", "a file", "unreadable"])
def test_a_broken_cache_of_a_model_keeps_nobody_from_starting(
    hub_cache: Path, tiny: Path, blobs: Blobs, spoil: str
) -> None:
    folder = cache_as(hub_cache, BETTER, tiny)
    weights = folder / "model.safetensors"
    if spoil == "half":
        weights.unlink()
        weights.symlink_to("../../blobs/gone")
    elif spoil == "garbage":
        (folder / "config.json").write_bytes(b"\xff\x00{")
    elif spoil == "no snapshot":
        shutil.rmtree(folder)
    elif spoil == "truncated":
        os.truncate(weights, weights.stat().st_size // 2)
    elif spoil == "a file":
        shutil.rmtree(folder.parent.parent)
        folder.parent.parent.write_text("")
    else:
        (folder.parent.parent / "refs" / "main").unlink()
        (folder.parent.parent / "refs" / "main").mkdir()
    assert resolve_auto(blobs, nothing) == STARTER
    assert record(blobs) == STARTER


@pytest.mark.usefixtures("starter")
def test_a_disk_too_full_for_a_download_keeps_nobody_from_starting(
    tiny: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with served_hub(monkeypatch, BETTER, files):
        assert resolve_auto(blobs, nothing) == STARTER


@pytest.mark.usefixtures("no_starter")
def test_auto_without_any_model_names_both_and_records_nothing(blobs: Blobs) -> None:
    with pytest.raises(ModelUnavailable, match=rf"{BETTER}.*no `starter`"):
        resolve_auto(blobs, nothing)
    assert not blobs.exists(MODEL_KEY)


@pytest.mark.parametrize("recorded", ["someone/clip", STARTER, OLDER])
def test_the_recorded_model_is_kept_and_chroma_not_asked(
    hub_cache: Path, tiny: Path, blobs: Blobs, recorded: str
) -> None:
    cache_as(hub_cache, BETTER, tiny)
    blobs.put(MODEL_KEY, json.dumps({"model": recorded}).encode())
    assert resolve_auto(blobs, INDEX_DOWN.collections) == recorded
    assert blobs.get(MODEL_KEY) == json.dumps({"model": recorded}).encode()


SPOILT = [{"model": value, "format": 1} for value in (None, "", " ", "auto", 5, {"a": 1}, ["starter"])]


@pytest.mark.parametrize(
    "spoilt",
    [b"{", b"[]", b"{}", b"\xff", b"", b"[" * 100_000, *(json.dumps(one).encode() for one in SPOILT)],
)
def test_a_spoilt_record_is_an_error_not_a_new_decision(blobs: Blobs, spoilt: bytes) -> None:
    blobs.put(MODEL_KEY, spoilt)
    with pytest.raises(ConfigError, match=MODEL_KEY):
        resolve_auto(blobs, nothing)


def test_without_a_record_nothing_is_decided_before_chroma_answers(
    hub_cache: Path, tiny: Path, blobs: Blobs
) -> None:
    cache_as(hub_cache, BETTER, tiny)
    with pytest.raises(IndexUnavailable):
        resolve_auto(blobs, INDEX_DOWN.collections)
    assert not blobs.exists(MODEL_KEY)


def test_without_a_record_auto_is_the_model_that_wrote_the_collections(
    hub_cache: Path, tiny: Path, other: Path, tmp_path: Path, blobs: Blobs
) -> None:
    """Of real ones; what a reindex has begun to make is none of them."""
    cache_as(hub_cache, BETTER, tiny)
    index = index_in(tmp_path / "chroma")
    ours = {"model": str(other), "fingerprint": fingerprint(other), "dimension": 16}
    index.create("pictures", **ours)
    index.stage("pictures", model=BETTER, fingerprint=fingerprint(tiny), dimension=16)
    index.stage("another", model=BETTER, fingerprint=fingerprint(tiny), dimension=16)
    assert known_model(blobs, index.collections) == str(other)
    assert record(blobs) is None
    assert resolve_auto(blobs, index.collections) == record(blobs) == str(other)
    index.delete("pictures")
    assert resolve_auto(blobs, index.collections) == str(other)


def test_of_several_models_it_is_that_of_most_pictures_and_the_log_names_what_it_cannot_read(
    tiny: Path, other: Path, blobs: Blobs
) -> None:
    ours, theirs = fingerprint(tiny), fingerprint(other)
    collections = [
        bound("most", str(other), theirs, 5),
        bound("some", str(tiny), ours, 3),
        bound("more", str(tiny), ours, 3),
    ]
    with capture_logs() as logged:
        assert resolve_auto(blobs, lambda: collections) == str(tiny)
    assert (logged[-1]["of"], logged[-1]["unreadable"]) == (["some", "more"], ["most"])


@pytest.mark.parametrize("count", [0, 7])
def test_of_as_many_pictures_the_first_name_decides(
    tiny: Path, other: Path, blobs: Blobs, count: int
) -> None:
    collections = [
        bound("a", str(max(tiny, other)), fingerprint(max(tiny, other)), count),
        bound("b", str(min(tiny, other)), fingerprint(min(tiny, other)), count),
    ]
    assert resolve_auto(blobs, lambda: collections) == str(min(tiny, other))


def test_weights_that_moved_are_found_by_the_name_that_still_has_them(
    tiny: Path, tmp_path: Path, blobs: Blobs
) -> None:
    gone = str(tmp_path / "before")
    collections = [bound("a", gone, fingerprint(tiny), 9), bound("b", str(tiny), fingerprint(tiny))]
    assert resolve_auto(blobs, lambda: collections) == str(tiny)


@pytest.mark.usefixtures("starter")
@pytest.mark.parametrize("model", ["auto", "", "a\0b", "\ud800", "x" * 10_000, "\x1b[31m"])
def test_a_name_of_a_collections_model_that_is_none_is_one_failure(blobs: Blobs, model: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"which wrote the collection 'shoes'"):
        resolve_auto(blobs, lambda: [bound("shoes", model, "f" * 16, 5)])
    assert record(blobs) is None


@pytest.mark.usefixtures("starter")
@pytest.mark.parametrize("model", ["/models/gone", "someone/clip"])
def test_a_model_of_the_collections_that_cannot_be_had_is_named_and_nothing_recorded(
    hub_cache: Path, tiny: Path, blobs: Blobs, model: str
) -> None:
    cache_as(hub_cache, BETTER, tiny)
    collections = [bound("shoes", model, "f" * 16, 5), bound("small", str(tiny), fingerprint(tiny))]
    with pytest.raises(ModelUnavailable, match=f"needs the model {model}, which wrote .* 'shoes'") as caught:
        resolve_auto(blobs, lambda: collections)
    assert "IMAGE_SEARCH_MODEL" in caught.value.detail
    assert "With another one its pictures can be listed" in caught.value.detail
    assert caught.value.passing == (model == "someone/clip")
    assert record(blobs) is None


def test_other_weights_under_the_name_are_not_taken(tiny: Path, other: Path, blobs: Blobs) -> None:
    collections = [bound(f"c{number}", str(tiny), fingerprint(other)) for number in range(3)]
    with pytest.raises(ModelUnavailable, match=fingerprint(other)) as caught:
        resolve_auto(blobs, lambda: collections)
    assert f"weights of {tiny} that wrote the collection 'c0' and 2 more" in caught.value.detail
    assert "reindex" in caught.value.detail
    assert record(blobs) is None


def test_processes_that_decide_at_once_all_take_the_first_record(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take another, as if one had a cache, a slow line, or none."""
    meeting, own = threading.Barrier(8), threading.local()

    def decide() -> str:
        meeting.wait()
        return str(own.choice)

    monkeypatch.setattr(automatic, "_of_hub", decide)
    decided: dict[int, str] = {}

    def start(number: int) -> None:
        own.choice = f"m/{number}"
        decided[number] = resolve_auto(blobs, nothing)

    threads = [threading.Thread(target=start, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(decided.values()) == {record(blobs)}
    assert len(decided) == 8


def test_who_decides_late_takes_what_was_recorded_meanwhile(
    blobs: Blobs, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> str:
        blobs.put_new(MODEL_KEY, json.dumps({"model": str(tiny)}).encode())
        return STARTER

    monkeypatch.setattr(automatic, "_of_hub", slow)
    with capture_logs() as logged:
        assert resolve_auto(blobs, nothing) == record(blobs) == str(tiny)
    assert logged[-1]["instead_of"] == STARTER
    assert resolve_model(str(tiny)) == tiny
