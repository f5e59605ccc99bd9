import socket
from pathlib import Path

import pytest

from shared.embedding import hub
from shared.embedding.checkpoint_files import fingerprint
from shared.embedding.checkpoints import resolve_model
from shared.errors import ModelUnavailable
from tests.model_hub import cache_as, served_hub, use_hub


@pytest.mark.parametrize("name", ["./no-such-folder", "/no/such/folder", "~/no-such-folder"])
def test_an_absent_folder_is_named_and_never_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"no checkpoint .* in the folder " + name) as caught:
        resolve_model(name)
    assert "IMAGE_SEARCH_MODEL" in caught.value.detail


def test_a_cached_hub_model_needs_no_hub(hub_cache: Path, tiny: Path) -> None:
    cached = cache_as(hub_cache, "someone/clip", tiny)
    assert resolve_model("someone/clip") == cached


def test_a_half_cached_hub_model_is_not_used(hub_cache: Path, tiny: Path) -> None:
    (cache_as(hub_cache, "someone/clip", tiny) / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="cannot be downloaded"):
        resolve_model("someone/clip")


def test_a_hub_that_refuses_connections_ends_in_one_sentence_with_a_remedy() -> None:
    with pytest.raises(ModelUnavailable, match="someone/clip") as caught:
        resolve_model("someone/clip")
    assert "IMAGE_SEARCH_MODEL" in caught.value.detail
    assert "\n" not in caught.value.detail
    assert caught.value.passing


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_HUB_DEADLINE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ModelUnavailable, match="TimeoutError"):
            resolve_model("someone/clip")


def test_a_name_that_is_no_hub_id_says_so() -> None:
    with pytest.raises(ModelUnavailable, match="neither a folder nor a Hugging Face id"):
        resolve_model("a b/c/d")


def test_a_download_takes_safetensors_and_leaves_other_weights(
    tiny: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    others = {"pytorch_model.bin": b"pickle", "tf_model.h5": b"hdf", "README.md": b"read me"}
    with served_hub(monkeypatch, "someone/clip", files | others) as downloads:
        folder = resolve_model("someone/clip")
    assert hub_cache in folder.parents
    assert set(downloads) == set(files)
    assert fingerprint(folder) == fingerprint(tiny)
    assert resolve_model("someone/clip") == folder  # from the cache: the hub is gone


def test_a_download_takes_pickled_weights_where_there_are_no_others(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with served_hub(monkeypatch, "someone/clip", files):
        folder = resolve_model("someone/clip")
    assert (folder / "pytorch_model.bin").is_file()


def test_a_hub_model_of_another_kind_is_not_downloaded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with (
        served_hub(monkeypatch, "someone/bert", files, kind="bert") as downloads,
        pytest.raises(ModelUnavailable, match="'bert'"),
    ):
        resolve_model("someone/bert")
    assert downloads == []


def test_a_model_the_hub_does_not_have_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        served_hub(monkeypatch, "someone/clip", {}),
        pytest.raises(ModelUnavailable, match="the hub has no such model") as caught,
    ):
        resolve_model("someone/else")
    assert not caught.value.passing
