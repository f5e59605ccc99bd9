"""What the tests of models start from."""

from pathlib import Path

import pytest

from shared.embedding import checkpoints
from tests.model_hub import use_hub


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
