import hashlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.random_checkpoint import make_random_checkpoint
from shared.embedding import checkpoints
from shared.embedding.checkpoints import (
    DEFAULT_MODEL,
    STARTER,
    fingerprint,
    resolve_auto,
    resolve_model,
)
from shared.errors import ConfigError, ModelUnavailable
from shared.storage.blobs import MODEL_KEY, Blobs

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub at which nothing listens."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    use_hub(monkeypatch, "http://127.0.0.1:9")
    return cache


@pytest.fixture
def no_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_STARTER_FOLDER", tmp_path / "absent")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", url, raising=False)


def cache_as(hub_cache: Path, model: str, folder: Path) -> Path:
    repo = hub_cache / f"models--{model.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, repo / "snapshots" / COMMIT))


@contextmanager
def served_hub(
    monkeypatch: pytest.MonkeyPatch, model: str, files: dict[str, bytes], kind: str = "clip"
) -> Iterator[list[str]]:
    """A hub on loopback that holds `model` alone; yields the names of the files that were downloaded."""
    downloads: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path in (f"/api/models/{model}", f"/api/models/{model}/revision/main"):
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                self.reply({"id": model, "sha": COMMIT, "siblings": siblings, "config": {"model_type": kind}})
            elif path == f"/api/models/{model}/tree/{COMMIT}":
                self.reply(
                    [
                        {
                            "type": "file",
                            "path": name,
                            "size": len(data),
                            "oid": hashlib.sha1(data).hexdigest(),
                        }
                        for name, data in files.items()
                    ]
                )
            elif path.startswith(f"/{model}/resolve/{COMMIT}/"):
                name = path.rsplit("/", 1)[1]
                if self.command == "GET":
                    downloads.append(name)
                self.reply(files[name])
            else:
                self.reply({"error": "Repository not found"}, status=404)

        def reply(self, body: object, status: int = 200) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    try:
        yield downloads
    finally:
        server.shutdown()
        server.server_close()


def test_importing_the_encoder_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, shared.embedding.encoder; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_folder_with_a_checkpoint_is_taken_as_it_is(tiny: Path) -> None:
    assert resolve_model(str(tiny)) == tiny


@pytest.mark.parametrize("name", ["./no-such-folder", "/no/such/folder", "~/no-such-folder"])
def test_an_absent_folder_is_named_and_never_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"no checkpoint .* in the folder " + name) as caught:
        resolve_model(name)
    assert "IMAGE_SEARCH_MODEL" in caught.value.detail


def test_auto_is_not_a_model_to_resolve() -> None:
    with pytest.raises(ValueError, match="resolve_auto"):
        resolve_model("auto")


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
        ("processor_config.json", "prepare pictures"),
    ],
)
def test_an_incomplete_checkpoint_says_what_it_lacks(copy: Path, lost: str, named: str) -> None:
    (copy / lost).unlink()
    with pytest.raises(ModelUnavailable, match=named):
        resolve_model(str(copy))


def test_a_missing_shard_makes_a_checkpoint_incomplete(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelUnavailable, match="only 1 of its 2 weight files"):
        resolve_model(str(copy))


@pytest.mark.parametrize(("config", "named"), [('{"model_type": "bert"}', "'bert'"), ("[", "config.json")])
def test_a_checkpoint_of_another_kind_is_refused(copy: Path, config: str, named: str) -> None:
    (copy / "config.json").write_text(config)
    with pytest.raises(ModelUnavailable, match=named):
        resolve_model(str(copy))


def test_weights_whose_copy_broke_off_are_refused_before_anything_is_loaded(copy: Path) -> None:
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for data in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole + b"\0",
        whole[:4],
        b"",
        b"\xff" * 64,
        b"{}" * 9,
    ):
        weights.write_bytes(data)
        with pytest.raises(ModelUnavailable, match=r"damaged \(model\.safetensors") as caught:
            resolve_model(str(copy))
        assert not caught.value.passing
    weights.write_bytes(whole)
    assert resolve_model(str(copy)) == copy


@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("config.json", ["projection_dim"], "wide"),
        ("config.json", ["vision_config"], "none"),
        ("processor_config.json", ["image_processor", "resample"], "cubic"),
    ],
)
def test_a_checkpoint_whose_configuration_makes_no_sense_is_refused(
    copy: Path, file: str, keys: list[str], value: object
) -> None:
    change_json(copy / file, *keys, value=value)
    with pytest.raises(ModelUnavailable, match="cannot be used"):
        resolve_model(str(copy))


def test_the_starter_is_the_folder_in_the_package(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_STARTER_FOLDER", tiny)
    assert resolve_model(STARTER) == tiny


@pytest.mark.usefixtures("no_starter")
def test_a_build_without_the_starter_says_so() -> None:
    with pytest.raises(ModelUnavailable, match="carries no `starter` model"):
        resolve_model(STARTER)


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
    monkeypatch.setattr(checkpoints, "_HUB_DEADLINE_SECONDS", 0.2)
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


def test_the_fingerprint_survives_a_move(tiny: Path, copy: Path) -> None:
    assert fingerprint(copy) == fingerprint(tiny)
    assert len(fingerprint(tiny)) == 16
    assert set(fingerprint(tiny)) <= set("0123456789abcdef")


def change_json(path: Path, *keys: str, value: object) -> None:
    document = node = json.loads(path.read_text())
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(json.dumps(document))


def test_the_fingerprint_follows_weights_preprocessing_and_dimension(tiny: Path, copy: Path) -> None:
    seen = {fingerprint(copy)}
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    seen.add(fingerprint(copy))
    change_json(copy / "processor_config.json", "image_processor", "image_mean", value=[0.5, 0.5, 0.5])
    seen.add(fingerprint(copy))
    change_json(copy / "config.json", "projection_dim", value=64)
    seen.add(fingerprint(copy))
    change_json(copy / "config.json", "vision_config", "hidden_act", value="gelu")
    seen.add(fingerprint(copy))
    assert len(seen) == 5


def test_another_seed_is_another_model(tiny: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_random_checkpoint(tmp_path / str(seed), seed=seed, shape="tiny")
    assert fingerprint(tmp_path / "0") == fingerprint(tiny)
    assert fingerprint(tmp_path / "1") != fingerprint(tiny)


def test_auto_is_the_default_model_where_it_can_be_had(hub_cache: Path, tiny: Path, blobs: Blobs) -> None:
    cache_as(hub_cache, DEFAULT_MODEL, tiny)
    assert resolve_auto(blobs) == DEFAULT_MODEL


def test_auto_falls_back_to_the_starter_and_stays_with_it(
    hub_cache: Path, tiny: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_STARTER_FOLDER", tiny)
    assert resolve_auto(blobs) == STARTER
    cache_as(hub_cache, DEFAULT_MODEL, tiny)
    assert resolve_auto(blobs) == STARTER


@pytest.mark.usefixtures("no_starter")
def test_auto_without_any_model_names_both_and_records_nothing(blobs: Blobs) -> None:
    with pytest.raises(ModelUnavailable, match=rf"{DEFAULT_MODEL}.*no `starter`"):
        resolve_auto(blobs)
    assert not blobs.exists(MODEL_KEY)


@pytest.mark.usefixtures("no_starter")
def test_the_recorded_model_is_kept_even_when_it_cannot_be_loaded(blobs: Blobs) -> None:
    blobs.put(MODEL_KEY, json.dumps({"model": "someone/clip"}).encode())
    assert resolve_auto(blobs) == "someone/clip"


@pytest.mark.parametrize("record", [b"{", b"[]", b"{}"])
def test_a_spoilt_record_is_an_error_not_a_new_decision(blobs: Blobs, record: bytes) -> None:
    blobs.put(MODEL_KEY, record)
    with pytest.raises(ConfigError, match=MODEL_KEY):
        resolve_auto(blobs)
