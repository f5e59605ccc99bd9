"""Collections of a model that the request names: who may, which folders, and models of the hub."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.api_keys import create_key
from shared.embedding.checkpoint_files import fingerprint
from shared.embedding.checkpoints import resolve_model
from shared.embedding.serving import downloads
from tests.model_hub import served_hub
from tests.unit.fakes import Api, assert_problem, axis, make_api, make_services, wait_until

MODEL = "someone/clip"


@pytest.fixture
def models_folder(tmp_path: Path, tiny: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "models" / "team" / "clip")
    return tmp_path / "models"


@pytest.fixture
def api(tmp_path: Path, models_folder: Path) -> Api:
    return make_api(tmp_path, make_services(tmp_path, models_folder=models_folder))


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    downloads._failed.clear()
    yield cache
    wait_until(lambda: not downloads.running())


def make(api: Api, model: object, name: str = "mine", **options: Any) -> Any:
    return api.http.post("/v1/collections", json={"name": name, "model": model}, **options)


def bound(api: Api) -> str:
    return api.services.index.collection("mine").pointer.fingerprint


def test_a_folder_below_models_folder_binds_a_collection_to_its_weights(
    api: Api, models_folder: Path, tiny: Path
) -> None:
    response = make(api, str(models_folder / "team" / "clip"))
    assert response.status_code == 201, response.text
    assert response.json["model"] == str(models_folder / "team" / "clip")
    assert bound(api) == fingerprint(tiny)


def test_only_admins_may_name_a_model(api: Api, models_folder: Path) -> None:
    secrets = {scope: create_key(api.services.blobs, scope, {scope}) for scope in ("ingest", "admin")}
    for scope, status in (("ingest", 403), ("admin", 201)):
        header = {"Authorization": f"Bearer {secrets[scope]}"}
        response = make(api, str(models_folder / "team" / "clip"), headers=header)
        assert response.status_code == status, response.text
    assert (
        make(api, None, "default", headers={"Authorization": f"Bearer {secrets['ingest']}"}).status_code
        == 201
    )


def test_no_other_folder_is_taken_and_what_is_there_is_not_told(
    api: Api, models_folder: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models_folder / "linked").symlink_to(tiny)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, tmp_path / "here")
    others = [
        str(tiny), str(tmp_path / "gone"), "/etc", "/etc/passwd", f"{models_folder}/../here",
        str(models_folder / "linked"), "here", "./here", "~", "~root",
    ]  # fmt: skip
    told = {assert_problem(make(api, one), 422, "invalid_request", "/model")["detail"] for one in others}
    assert told == {f"The model's folder must be below {models_folder}."}


@pytest.mark.parametrize(
    "name",
    ["auto", "", "x" * 1024, "a/b/c", "~nobody-here/x", "a\0b", "no such\nmodel", "..", 7, ["starter"]],
)
def test_what_names_no_model_is_one_sentence(api: Api, name: object) -> None:
    document = assert_problem(make(api, name), 422, "invalid_request", "/model")
    assert "Traceback" not in document["detail"]
    assert "set IMAGE_SEARCH_MODEL" not in document["detail"], "a request named it, no setting"


def test_without_models_folder_no_folder_is_taken(tmp_path: Path, tiny: Path) -> None:
    document = assert_problem(make(make_api(tmp_path), str(tiny)), 422, "invalid_request", "/model")
    assert "IMAGE_SEARCH_MODELS_FOLDER" in document["detail"]


def test_a_model_of_the_hub_binds_a_collection_before_its_weights_are_here(
    api: Api, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    gate = threading.Event()
    with served_hub(monkeypatch, MODEL, files, gate=gate):
        response = make(api, MODEL)
        assert response.status_code == 201, response.text
        assert bound(api) == fingerprint(tiny)
        shown = {one["name"]: one for one in api.http.get("/v1/models").json["models"]}
        assert shown[MODEL]["state"] == "downloading"
        assert 0 <= shown[MODEL]["progress"] < 1
        assert MODEL in [one["name"] for one in api.http.get("/v1/system").json["models"]]
        gate.set()
        wait_until(lambda: not downloads.running())
        assert fingerprint(resolve_model(MODEL)) == bound(api)
    shown = {one["name"]: one for one in api.http.get("/v1/models").json["models"]}
    assert (shown[MODEL]["state"], shown[MODEL]["kind"], shown[MODEL]["progress"]) == ("absent", "clip", None)


def test_a_reindex_takes_a_model_of_the_hub_before_its_weights_are_here(
    api: Api, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.add(1, axis(0))
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    gate = threading.Event()
    with served_hub(monkeypatch, MODEL, files, gate=gate):
        response = api.http.post("/v1/collections/images/reindex", json={"model": MODEL})
        assert response.status_code == 202, response.text
        assert downloads.running() == {MODEL}
        job = api.services.ledger.get(response.json["job_id"])
        assert job.options["fingerprint"] == fingerprint(tiny)
        gate.set()
        wait_until(lambda: not downloads.running())


@pytest.mark.parametrize("name", ["./here", "here", "../work/here/"])
def test_a_folder_to_reindex_with_is_the_same_one_wherever_a_process_runs(
    api: Api, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    api.add(1, axis(0))
    work = tmp_path / "work"
    shutil.copytree(tiny, work / "here")
    monkeypatch.chdir(work)
    response = api.http.post("/v1/collections/images/reindex", json={"model": name})
    assert response.status_code == 202, response.text
    model = Path(api.services.ledger.get(response.json["job_id"]).options["model"])
    assert model.is_absolute()
    assert model.samefile(work / "here")


def test_what_the_hub_does_not_vouch_for_is_to_be_downloaded_first(
    api: Api, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with served_hub(monkeypatch, MODEL, files, digests=False):
        document = assert_problem(make(api, MODEL), 422, "invalid_request", "/model")
        assert f"hf download {MODEL}" in document["detail"]
        resolve_model(MODEL)
        assert make(api, MODEL).status_code == 201


def test_a_model_that_the_hub_does_not_have_or_that_is_none_of_ours_is_refused_and_not_downloaded(
    api: Api, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with served_hub(monkeypatch, MODEL, files, kind="bert") as downloaded:
        for name in (MODEL, "someone/else"):
            assert_problem(make(api, name), 422, "invalid_request", "/model")
        assert "model.safetensors" not in downloaded
    assert not downloads.running()
    assert [one["name"] for one in api.http.get("/v1/collections").json["collections"]] == []


def test_a_name_that_is_taken_starts_no_download(
    api: Api, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.http.post("/v1/collections", json={"name": "mine"})
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    with served_hub(monkeypatch, MODEL, files) as downloaded:
        assert_problem(make(api, MODEL), 409, "collection_exists")
        assert not downloads.running()
        assert "model.safetensors" not in downloaded


def test_models_are_listed_with_what_is_known_of_them(
    api: Api, models_folder: Path, tiny: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny, models_folder / "broken")
    (models_folder / "broken" / "model.safetensors").unlink()
    (models_folder / "linked").symlink_to(tiny)
    (models_folder / "team" / "deeper" / "still").mkdir(parents=True)
    (models_folder / "team" / "deeper" / "still" / "config.json").write_text("{}")
    other = {"model": "gone/model", "fingerprint": "9" * 16, "dimension": 7}
    api.services.index.create("others", **other)
    found = api.http.get("/v1/models").json["models"]
    default, *rest = [one["name"] for one in found]
    assert default == api.encoder.name
    assert rest == sorted(rest)
    shown = {one["name"]: one for one in found}
    assert set(rest) >= {"gone/model", str(models_folder / "broken"), str(models_folder / "team" / "clip")}
    assert not any("linked" in name or "deeper" in name for name in shown)
    assert shown[default]["state"] == "loaded"
    assert shown["gone/model"] | {"dimension": 7, "kind": None, "state": "absent"} == shown["gone/model"]
    assert "weights" in shown[str(models_folder / "broken")]["detail"]
    assert shown[str(models_folder / "team" / "clip")]["kind"] == "clip"
    if "starter" in shown:
        assert shown["starter"]["languages"] == "English, of drawings"
