import errno
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.embedding import hub
from shared.embedding.checkpoint_files import fingerprint
from shared.embedding.checkpoints import resolve_model
from shared.errors import ModelUnavailable
from tests.model_hub import cache_as, served_hub, use_hub
from tests.unit.shared.embedding.configurations import change_json


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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(model: str, match: str) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable, match=match) as caught:
        resolve_model(model)
    assert "\n" not in caught.value.detail
    return caught.value


def test_a_download_takes_sentencepiece_models_and_nothing_from_folders(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
    wanted = {name: name.encode() for name in names}
    others = dict.fromkeys(
        (
            "onnx/model.onnx",
            "onnx/config.json",
            "open_clip_pytorch_model.bin",
            "open_clip_model.safetensors",
            "flax_model.msgpack",
            "model.fp16.safetensors",
            "training_args.bin",
            "1_Pooling/config.json",
        ),
        b"not needed",
    )
    files = contents(tiny) | wanted
    with served_hub(monkeypatch, "someone/clip", files | others) as downloads:
        resolve_model("someone/clip")
    assert set(downloads) == set(files)


def test_shards_are_those_that_the_index_names(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(tiny)
    files["model-00001-of-00001.safetensors"] = files.pop("model.safetensors")
    files["model-00001-of-00009.safetensors"] = b"another save's"
    index = {"metadata": {}, "weight_map": {"logit_scale": "model-00001-of-00001.safetensors"}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    with served_hub(monkeypatch, "someone/clip", files) as downloads:
        resolve_model("someone/clip")
    assert set(files) - set(downloads) == {"model-00001-of-00009.safetensors"}


@pytest.mark.parametrize(
    ("files", "kind", "match"),
    [
        (
            {"config.json": b'{"model_type": "siglip2"}', "model.safetensors": b""},
            "siglip2",
            "NaFlex.*google/",
        ),
        ({"open_clip_config.json": b"{}", "open_clip_model.safetensors": b""}, None, "open_clip.*laion/"),
        ({"config.json": b"{}", "open_clip_model.safetensors": b""}, None, "open_clip.*laion/"),
        ({"modules.json": b"[]", "0_CLIPModel/config.json": b"{}"}, None, "sentence-transformers.*openai/"),
        ({"model.gguf": b""}, None, "GGUF"),
        ({"config.json": b'{"model_type": "clip"}', "adapter_config.json": b"{}"}, "clip", "adapter"),
        ({"README.md": b""}, None, "no config.json"),
    ],
)
def test_what_is_of_another_kind_is_refused_before_weights_are_downloaded(
    files: dict[str, bytes], kind: str | None, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_hub(monkeypatch, "someone/other", files, kind) as downloads:
        assert not refused("someone/other", match).passing
    assert not [name for name in downloads if not name.endswith(".json")]


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_refused_before_weights_are_downloaded(
    copy: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_json(copy / file, "auto_map", value={"AutoModel": "evil.Evil", "AutoTokenizer": ["a.B", "a.C"]})
    files = contents(copy) | {"evil.py": b"raise SystemExit"}
    with served_hub(monkeypatch, "someone/clip", files) as downloads:
        refused("someone/clip", f"{file} has an auto_map")
    assert not {"model.safetensors", "evil.py"} & set(downloads)


def test_weights_of_another_framework_are_refused_before_they_are_downloaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(tiny)
    files["flax_model.msgpack"] = files.pop("model.safetensors")
    with served_hub(monkeypatch, "someone/clip", files) as downloads:
        refused("someone/clip", "Flax")
    assert "flax_model.msgpack" not in downloads


def test_a_disk_too_full_is_found_before_the_weights_are_downloaded(
    tiny: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=400_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    sizes = {"model.safetensors": 1_700_000_000}
    with served_hub(monkeypatch, "someone/clip", contents(tiny), sizes=sizes) as downloads:
        error = refused(
            "someone/clip", f"takes 1.7 GB more, and the cache {hub_cache} has 400 MB free; free some"
        )
        assert "HF_HOME" in error.detail
        assert error.passing
        assert "model.safetensors" not in downloads
        usage.free = 1_700_000_000
        assert resolve_model("someone/clip")


@pytest.mark.parametrize(
    ("trouble", "match", "passing"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "is full", True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "or your quota is", True),
        (
            RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"),
            "is full",
            True,
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/cache/x"),
            "cannot be written .*HF_HOME",
            False,
        ),
        (OSError(errno.EROFS, "Read-only file system", "/cache/x"), "cannot be written .*HF_HOME", False),
    ],
)
def test_a_download_that_the_cache_does_not_take_is_one_sentence_and_is_taken_up_again(
    tiny: Path, trouble: Exception, match: str, passing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise trouble

    with served_hub(monkeypatch, "someone/clip", contents(tiny)) as downloads:
        with monkeypatch.context() as during:
            during.setattr("huggingface_hub.hf_hub_download", fail)
            assert refused("someone/clip", match).passing is passing
        first = list(downloads)
        assert fingerprint(resolve_model("someone/clip")) == fingerprint(tiny)
        assert downloads[len(first) :] == ["model.safetensors"]


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_page_that_came_instead_of_a_file_is_replaced_the_next_time(
    tiny: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(tiny)
    sound = dict(files)
    files[file] = b"<html>log in</html>"
    with served_hub(monkeypatch, "someone/clip", files) as downloads:
        refused("someone/clip", file)
        files.update(sound)
        downloads.clear()
        assert fingerprint(resolve_model("someone/clip")) == fingerprint(tiny)
    assert file in downloads


def test_names_of_the_hub_s_that_lead_elsewhere_touch_nothing_there(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim.json"
    victim.write_text("mine")
    files = contents(tiny)
    with served_hub(monkeypatch, "someone/clip", files) as downloads:
        folder = resolve_model("someone/clip")
        (folder / "model.safetensors").unlink()
        names = (f"../../../../{victim.name}", str(victim), f"a/../../../../../{victim.name}", "..", ".")
        files |= dict.fromkeys(names, b"{}")
        downloads.clear()
        assert resolve_model("someone/clip") == folder
    assert downloads == []  # the client has it still, under its hash
    assert victim.read_text() == "mine"


def test_a_cached_file_that_is_cut_short_is_downloaded_again(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_hub(monkeypatch, "someone/clip", contents(tiny)) as downloads:
        weights = (resolve_model("someone/clip") / "model.safetensors").resolve()
        weights.write_bytes(weights.read_bytes()[:1000])
        downloads.clear()
        assert fingerprint(resolve_model("someone/clip")) == fingerprint(tiny)
    assert downloads == ["model.safetensors"]


def test_what_no_small_file_has_is_not_downloaded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"tokenizer.json": 500_000_000}
    with served_hub(monkeypatch, "someone/clip", contents(tiny), sizes=sizes) as downloads:
        refused("someone/clip", "tokenizer.json has 500 MB, which no checkpoint's has")
    assert not downloads


def test_a_disk_too_full_for_the_small_files_is_found_before_they_are_downloaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with served_hub(monkeypatch, "someone/clip", contents(tiny)) as downloads:
        assert refused("someone/clip", "more, and the cache .* has 1 MB free").passing
    assert not downloads


@pytest.mark.parametrize("status", [403, 404, 451])
def test_a_refusal_of_one_file_is_told_by_its_status(
    tiny: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = {"model.safetensors": status}
    with served_hub(monkeypatch, "someone/clip", contents(tiny), statuses=statuses):
        assert not refused("someone/clip", f"the model hub answers {status}").passing


def test_a_model_the_hub_does_not_have_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        served_hub(monkeypatch, "someone/clip", {}),
        pytest.raises(ModelUnavailable, match="the hub has no such model") as caught,
    ):
        resolve_model("someone/else")
    assert not caught.value.passing
