import subprocess
import sys
from pathlib import Path

import pytest

from shared.embedding import checkpoints
from shared.embedding.checkpoint_files import STARTER
from shared.embedding.checkpoints import resolve_model
from shared.embedding.encoder import Encoder
from shared.errors import ModelUnavailable


def test_importing_the_encoder_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, shared.embedding.encoder; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_folder_with_a_checkpoint_is_taken_as_it_is(tiny: Path) -> None:
    assert resolve_model(str(tiny)) == tiny


def test_auto_is_not_a_model_to_resolve() -> None:
    with pytest.raises(ValueError, match="resolve_auto"):
        resolve_model("auto")


def test_the_starter_is_the_folder_in_the_package(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_STARTER_FOLDER", tiny)
    assert resolve_model(STARTER) == tiny


@pytest.mark.usefixtures("no_starter")
def test_a_build_without_the_starter_says_so() -> None:
    with pytest.raises(ModelUnavailable, match="carries no `starter` model"):
        resolve_model(STARTER)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 10_000, "~nobody-at-all", "a\nb", ".."])
def test_a_name_that_no_file_system_takes_is_one_failure_like_any(name: str) -> None:
    """As a collection's that somebody wrote into Chroma may be."""
    with pytest.raises(ModelUnavailable) as caught:
        Encoder.load(name)
    assert len(caught.value.detail) < 600
