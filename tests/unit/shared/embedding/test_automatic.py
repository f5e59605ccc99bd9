import json
from pathlib import Path

import pytest

from shared.embedding import checkpoints
from shared.embedding.automatic import DEFAULT_MODEL, resolve_auto
from shared.embedding.checkpoint_files import STARTER
from shared.errors import ConfigError, ModelUnavailable
from shared.storage.blobs import MODEL_KEY, Blobs
from tests.model_hub import cache_as


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


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
