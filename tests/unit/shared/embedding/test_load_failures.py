"""A checkpoint that was refused for good is not read again until something has changed."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from shared.embedding import encoder as encoder_module
from shared.embedding import load_failures
from shared.embedding.encoder import Encoder
from shared.errors import ItemError, ModelUnavailable, Unavailable

Reads = list[Path]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The folders that were read so far."""
    found: Reads = []
    real: Callable[[Path], Any] = encoder_module.read_checkpoint

    def read(folder: Path) -> Any:
        found.append(folder)
        return real(folder)

    monkeypatch.setattr(encoder_module, "read_checkpoint", read)
    return found


def load(folder: Path, **options: Any) -> Encoder:
    return Encoder.load(str(folder), **{"device": "cpu", "precision": "fp32"} | options)


def refused(folder: Path) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    return caught.value


def lose_a_tensor(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_broken_checkpoint_is_read_once_until_its_files_change(
    copy: Path, tiny: Path, reads: Reads
) -> None:
    lose_a_tensor(copy)
    first = refused(copy)
    assert str(copy) in first.detail
    assert "repair its files" in first.detail
    assert not first.passing
    assert {refused(copy).detail for _ in range(5)} == {first.detail}
    assert len(reads) == 1
    shutil.copy(tiny / "model.safetensors", copy / "model.safetensors")
    assert load(copy).dimension
    assert len(reads) == 2


def test_it_is_read_again_after_a_while(copy: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_failures, "REFUSAL_TTL_SECONDS", 0.0)
    lose_a_tensor(copy)
    assert refused(copy).detail == refused(copy).detail
    assert len(reads) == 2


def test_a_refusal_is_of_one_checkpoint_on_one_device_in_one_precision(
    copy: Path, tiny: Path, reads: Reads
) -> None:
    lose_a_tensor(copy)
    refused(copy)
    load(tiny)
    with pytest.raises(ModelUnavailable):
        load(copy, precision="bf16")
    assert len(reads) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("mmap failed: Cannot allocate memory"),
    ],
)
def test_a_passing_trouble_is_no_refusal_for_good(
    tiny: Path, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> Any:
        raise trouble

    with monkeypatch.context() as during:
        during.setattr(encoder_module, "read_checkpoint", fail)
        assert refused(tiny).passing
    assert load(tiny).dimension


@pytest.mark.parametrize(
    ("trouble", "passing"),
    [
        (ItemError("encode_error", "The model gave no finite vector for it."), False),
        (ValueError("shapes do not fit"), False),
        (Unavailable("The memory of the GPU does not suffice to encode anything now."), True),
    ],
)
def test_a_checkpoint_that_loads_but_does_not_encode_is_refused_as_well(
    copy: Path, reads: Reads, trouble: Exception, passing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Encoder, _crops: object) -> np.ndarray[Any, Any]:
        raise trouble

    monkeypatch.setattr(Encoder, "encode_images", fail)
    encoder = load(copy)
    with pytest.raises(ModelUnavailable) as caught:
        encoder.warm()
    assert caught.value.passing is passing
    if passing:
        load(copy)
    else:
        assert refused(copy).detail == caught.value.detail
    assert len(reads) == 1 + passing
