"""What several unit tests start from."""

import shutil
from pathlib import Path

import pytest

from deploy.checkpoint import make_random_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint, not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    make_random_checkpoint(folder, tiny=True)
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))
