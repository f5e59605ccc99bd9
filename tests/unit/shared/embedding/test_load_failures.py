"""A checkpoint that was refused for good is not read again until something has changed."""

import errno
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from shared.embedding import encoder as encoder_module
from shared.embedding import load_failures
from shared.embedding.encoder import Encoder
from shared.errors import ItemError, ModelUnavailable, Unavailable

Reads = list[Path]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The folders that were read so far."""
    found: Reads = []
    real: Any = encoder_module.read_checkpoint

    def read(folder: Path, *most: object) -> Any:
        found.append(folder)
        return real(folder, *most)

    monkeypatch.setattr(encoder_module, "read_checkpoint", read)
    return found


def load(folder: Path, **options: Any) -> Encoder:
    return Encoder.load(str(folder), **{"device": "cpu", "precision": "fp32"} | options)


def refused(folder: Path) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    return caught.value


def lose_a_tensor(folder: Path) -> None:
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    safetensors.numpy.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


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
    def fail(*_: object) -> Any:
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


def test_a_pickle_that_is_refused_is_told_so_and_not_how_to_run_it(copy: Path, torch: Any) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"logit_scale": Path("/")}, copy / "pytorch_model.bin")
    assert "more than the plain tensors" in refused(copy).detail


@pytest.mark.parametrize(
    ("trouble", "whose"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has\nmore lines"), "the GPU"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "this machine"),
        (MemoryError(), "this machine"),
    ],
)
def test_out_of_memory_says_whose_memory_and_what_to_do(
    tiny: Path, trouble: Exception, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise trouble

    monkeypatch.setattr(encoder_module, "read_checkpoint", fail)
    error = refused(tiny)
    assert f"the memory that {whose} has free does not suffice" in error.detail
    assert "smaller model" in error.detail
    assert "\n" not in error.detail


def sparse(folder: Path, shape: list[int], dtype: str, width: int) -> None:
    """Replaces the weights by one huge tensor of zeros, which takes no room on the disk."""
    size = math.prod(shape) * width
    head = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + size)


def test_a_model_that_cannot_fit_into_memory_is_refused_before_it_is_read(copy: Path, reads: Reads) -> None:
    sparse(copy, [2**20, 2**20], "F8_E4M3", 1)
    detail = refused(copy).detail
    assert re.search(
        r"weights take 4398\.0 GB of memory, and this machine or container has [\d.]+ [GM]B;", detail
    )
    assert "smaller model" in detail
    assert reads == []


@pytest.mark.parametrize(("dtype", "factor"), [("float32", 1), ("float16", 2)])
def test_the_memory_of_pickled_weights_is_told_by_their_length_and_dtype(
    copy: Path, dtype: str, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "model.safetensors").unlink()
    with (copy / "pytorch_model.bin").open("wb") as file:
        file.truncate(3 * 10**9)
    config = json.loads((copy / "config.json").read_text())
    config.pop("dtype", None)
    (copy / "config.json").write_text(json.dumps(config | {"torch_dtype": dtype}))
    monkeypatch.setattr(load_failures, "most_memory", lambda: 3 * 10**9 * factor - 1)
    assert f"take {3 * factor}.0 GB" in refused(copy).detail


def machine(root: Path, groups: dict[str, str], cgroup: str) -> Path:
    for name, text in {
        "proc/meminfo": "MemTotal: 1000 kB\nSwapTotal: 24 kB\n",
        "proc/self/cgroup": cgroup,
        **groups,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "cgroup", "most"),
    [
        ({}, "", 1024 * 1024),
        ({"sys/fs/cgroup/memory.max": "max\n"}, "0::/\n", 1024 * 1024),
        ({"sys/fs/cgroup/memory.max": "4096\n"}, "0::/\n", 4096 + 24 * 1024),
        (
            {"sys/fs/cgroup/a/memory.max": "4096", "sys/fs/cgroup/a/b/memory.max": "max"},
            "0::/a/b\n",
            4096 + 24 * 1024,
        ),
        ({"sys/fs/cgroup/memory.max": "4096"}, "0::/../../out/of/sight\n", 4096 + 24 * 1024),
        (
            {"sys/fs/cgroup/memory/memory.limit_in_bytes": "8192"},
            "4:memory:/docker/x\n3:cpu:/\n",
            8192 + 24 * 1024,
        ),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, "4:memory:/\n", 1024 * 1024),
    ],
)
def test_the_most_memory_is_the_machines_or_the_least_that_a_control_group_leaves(
    tmp_path: Path, groups: dict[str, str], cgroup: str, most: int
) -> None:
    assert load_failures.most_memory(machine(tmp_path, groups, cgroup)) == most


def test_where_nothing_says_how_much_memory_there_is_nothing_is_refused(tmp_path: Path) -> None:
    assert load_failures.most_memory(tmp_path) is None


def test_several_models_may_be_loaded_at_once_by_a_process_that_has_loaded_none(tiny: Path) -> None:
    program = """
import sys, threading
from pathlib import Path
from shared.embedding.towers import read_checkpoint

at_once = threading.Barrier(4)

def load():
    at_once.wait()
    read_checkpoint(Path(sys.argv[1]))
    print("read")

threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tiny)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout.split() == ["read"] * 4, ended.stderr
