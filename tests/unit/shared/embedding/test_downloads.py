"""Downloads in the background, from a hub on loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.embedding.checkpoint_files import fingerprint, fingerprint_by
from shared.embedding.hub import look, progress
from shared.embedding.serving import downloads
from shared.errors import ModelNotReady, ModelUnavailable
from tests.model_hub import served_hub
from tests.unit.fakes import wait_until

MODEL = "someone/clip"


@pytest.fixture(autouse=True)
def fresh(hub_cache: Path) -> Iterator[None]:
    downloads._failed.clear()
    yield
    wait_until(lambda: not downloads.running())
    downloads._failed.clear()


@pytest.fixture
def files(tiny: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tiny.iterdir()}


def test_a_model_is_downloaded_once_while_those_who_ask_are_told_how_far_it_is(
    tiny: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    gate = threading.Event()
    with served_hub(monkeypatch, MODEL, files, gate=gate) as downloaded:
        for _ in range(5):
            with pytest.raises(ModelNotReady, match=f"{MODEL} is being downloaded"):
                downloads.at_hand(MODEL)
        wait_until(lambda: (progress(MODEL) or 0) > 0.4)
        assert (progress(MODEL) or 1) < 0.6
        assert downloads.running() == {MODEL}
        with pytest.raises(ModelNotReady, match=r"[45][0-9]% of it is here"):
            downloads.at_hand(MODEL)
        gate.set()
        wait_until(lambda: not downloads.running())
        assert fingerprint(downloads.at_hand(MODEL)) == fingerprint(tiny)
        assert downloaded.count("model.safetensors") == 1
    assert progress(MODEL) is None


def test_the_fingerprint_is_known_before_the_weights_are_here(
    tiny: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_hub(monkeypatch, MODEL, files) as downloaded:
        remote = look(MODEL)
        assert remote.digests is not None
        assert fingerprint_by(remote.folder, remote.digests) == fingerprint(tiny)
        assert "model.safetensors" not in downloaded
        assert remote.progress == 0


def test_no_digest_is_made_up_where_the_hub_gives_none(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_hub(monkeypatch, MODEL, files, digests=False):
        assert look(MODEL).digests is None


def test_a_download_that_failed_is_tried_again_after_a_while(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def failing(model: str) -> Path:
        asked.append(model)
        raise ModelUnavailable("The hub is away.", passing=True)

    with monkeypatch.context() as away:
        away.setattr(downloads, "resolve_model", failing)
        downloads.begin(MODEL)
        wait_until(lambda: not downloads.running())
        for _ in range(3):
            with pytest.raises(ModelUnavailable, match="away") as caught:
                downloads.at_hand(MODEL)
            assert caught.value.passing
        assert asked == [MODEL]
    error, _ = downloads._failed[MODEL]
    downloads._failed[MODEL] = error, 0.0
    with served_hub(monkeypatch, MODEL, files):
        with pytest.raises(ModelNotReady):
            downloads.at_hand(MODEL)
        wait_until(lambda: not downloads.running())
        assert downloads.at_hand(MODEL).is_dir()
    assert downloads.failure(MODEL) is None


def test_weights_are_those_of_the_configuration_that_was_looked_at(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the hub's main branch has by then: of two commits a checkpoint would fit no fingerprint."""
    asked: list[str | None] = []

    def fetch(_: str, __: str, *, revision: str) -> None:
        asked.append(revision)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    with served_hub(monkeypatch, MODEL, files):
        downloads.begin(MODEL)
        wait_until(lambda: not downloads.running())
        assert asked == [look(MODEL).folder.name]


def test_a_folder_is_never_downloaded(tiny: Path, tmp_path: Path) -> None:
    assert downloads.at_hand(str(tiny)) == tiny
    with pytest.raises(ModelUnavailable, match="no checkpoint"):
        downloads.at_hand(str(tmp_path / "gone"))
    assert not downloads.running()
