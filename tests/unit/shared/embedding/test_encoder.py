import gc
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from shared.embedding import encoder as encoder_module
from shared.embedding.checkpoint_files import STARTER
from shared.embedding.encoder import Encoder
from shared.errors import ConfigError, ItemError, ModelUnavailable, Unavailable
from tests.checkpoints import tiny_checkpoint
from tests.stack import ROOT
from tests.unit.counted import Counted

Crops = NDArray[np.uint8]
TEXTS = ["a red car", "", "ÜNÏCÖDE 猫 🐈", "two  spaces\tand more words than the others have"]


def load(folder: Path, *, precision: str = "fp32", batch_size: int = 64) -> Encoder:
    return Encoder.load(str(folder), device="cpu", precision=precision, batch_size=batch_size)


@pytest.fixture
def encoder(tiny: Path) -> Encoder:
    return load(tiny)


@pytest.fixture(scope="module")
def crops() -> Crops:
    """Five pictures of the tiny checkpoint's crop size: noise, flat colours and a ramp."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 32, 32, 3))
    flat = np.broadcast_to(np.array([[250, 5, 5], [5, 5, 250]])[:, None, None], (2, 32, 32, 3))
    ramp = np.broadcast_to(np.linspace(0, 255, 32)[None, :, None, None], (1, 32, 32, 3))
    return np.concatenate([noise, flat, ramp]).astype(np.uint8)


def reference(
    folder: Path, crops: Crops, texts: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Image and text vectors of transformers' own model and processor, in fp32."""
    import torch  # noqa: PLC0415 - seconds to import, here and where it is a fixture
    from transformers import CLIPModel, CLIPProcessor  # noqa: PLC0415

    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = processor(
            images=[Image.fromarray(crop) for crop in crops], text=texts, return_tensors="pt", padding=True
        )
        outputs = model(**inputs)
    return outputs.image_embeds.numpy(), outputs.text_embeds.numpy()


def test_vectors_are_those_of_transformers(tiny: Path, encoder: Encoder, crops: Crops) -> None:
    images, texts = reference(tiny, crops, TEXTS)
    np.testing.assert_allclose(encoder.encode_images(crops), images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)


def test_vectors_are_float32_of_length_one(encoder: Encoder, crops: Crops) -> None:
    for vectors, count in ((encoder.encode_images(crops), 5), (encoder.encode_texts(TEXTS), 4)):
        assert vectors.dtype == np.float32
        assert vectors.shape == (count, encoder.dimension) == (count, 32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_nothing_in_gives_nothing_out(encoder: Encoder, crops: Crops) -> None:
    assert encoder.encode_images(crops[:0]).shape == (0, 32)
    assert encoder.encode_texts([]).shape == (0, 32)


def test_unlike_pictures_get_unlike_vectors(encoder: Encoder, crops: Crops) -> None:
    vectors = encoder.encode_images(crops)
    assert np.triu(vectors @ vectors.T, 1).max() < 0.99


def test_the_batch_size_does_not_change_the_vectors(tiny: Path, encoder: Encoder, crops: Crops) -> None:
    small = load(tiny, batch_size=2)
    np.testing.assert_allclose(small.encode_images(crops), encoder.encode_images(crops), atol=1e-5)
    np.testing.assert_allclose(small.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-5)


def test_bf16_stays_close_to_fp32(tiny: Path, encoder: Encoder, crops: Crops) -> None:
    half = load(tiny, precision="bf16")
    assert half.precision == "bf16"
    assert (half.encode_images(crops) * encoder.encode_images(crops)).sum(axis=1).min() > 0.999
    assert (half.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(axis=1).min() > 0.999


def test_vectors_without_a_projection_have_length_1_in_bf16_too(tmp_path: Path, crops: Crops) -> None:
    tiny_checkpoint(tmp_path / "model", shape="tiny siglip")
    half = load(tmp_path / "model", precision="bf16")
    for vectors in (half.encode_images(crops), half.encode_texts(TEXTS)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_read_only_crops_are_encoded_and_left_alone(encoder: Encoder, crops: Crops) -> None:
    frozen = np.frombuffer(crops.tobytes(), np.uint8).reshape(crops.shape)
    np.testing.assert_array_equal(encoder.encode_images(frozen), encoder.encode_images(crops))


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 31, 32, 3), np.uint8), np.zeros((1, 32, 32, 3)), np.zeros((32, 32, 3), np.uint8)]
)
def test_crops_of_another_shape_or_type_are_refused(encoder: Encoder, wrong: Crops) -> None:
    with pytest.raises(ValueError, match="crops are"):
        encoder.encode_images(wrong)


def scarce_memory(
    features: Callable[[Crops], Any], fits: int, error: Exception, tried: list[int]
) -> Callable[[Crops], Any]:
    def limited(crops: Crops) -> Any:
        tried.append(len(crops))
        if len(crops) > fits:
            raise error
        return features(crops)

    return limited


@pytest.mark.parametrize(
    "error",
    [
        None,  # torch's own
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_too_little_memory_halves_the_batch_and_goes_on(
    encoder: Encoder, crops: Crops, error: Exception | None, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    expected = encoder.encode_images(crops)
    tried: list[int] = []
    monkeypatch.setattr(
        encoder.towers, "image_features", scarce_memory(encoder.towers.image_features, 2, error, tried)
    )
    counted = Counted()
    np.testing.assert_allclose(encoder.encode_images(crops), expected, atol=1e-5)
    assert tried == [5, 2, 2, 1]
    assert counted("out_of_memory_halvings_total") == 1


def test_a_gpus_memory_is_read_once_a_second_at_most(
    encoder: Encoder, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def held(device: str) -> dict[str, int]:
        read.append(device)
        return {"allocated": 7, "reserved": 8 + len(read)}

    monkeypatch.setattr(encoder_module, "bytes_held", held)
    monkeypatch.setattr(encoder, "device", "cuda:7")
    counted = Counted()
    for _ in range(3):
        encoder.encode_images(crops)
    assert read == ["cuda:7"]
    assert counted("gpu_memory_bytes", device="cuda:7", state="allocated") == 7
    assert counted("gpu_memory_bytes", device="cuda:7", state="reserved") == 9


def test_too_little_memory_in_a_later_batch_keeps_the_earlier_ones(
    tiny: Path, encoder: Encoder, crops: Crops, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load(tiny, batch_size=2)
    features, sizes = small.towers.image_features, []

    def scarce_after_the_first(batch: Crops) -> Any:
        sizes.append(len(batch))
        if len(sizes) > 1 and len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(batch)

    monkeypatch.setattr(small.towers, "image_features", scarce_after_the_first)
    np.testing.assert_allclose(small.encode_images(crops), encoder.encode_images(crops), atol=1e-5)
    assert sizes == [2, 2, 1, 1, 1]


def test_a_batch_is_started_before_the_one_before_it_is_read(
    tiny: Path, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load(tiny, batch_size=2)
    start, order = small.towers.start, []

    def watched(features: Any, rows: slice) -> Any:
        order.append(("start", rows.start))
        read = start(features, rows)
        return lambda: (order.append(("read", rows.start)), read())[1]

    monkeypatch.setattr(small.towers, "start", watched)
    small.encode_images(crops)
    assert order == [("start", 0), ("start", 2), ("read", 0), ("start", 4), ("read", 2), ("read", 4)]


def test_too_little_memory_for_one_picture_is_not_the_pictures_fault(
    encoder: Encoder, crops: Crops, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(
        encoder.towers, "image_features", scarce_memory(encoder.towers.image_features, 0, error, [])
    )
    with pytest.raises(Unavailable):
        encoder.encode_images(crops)


def test_other_runtime_errors_are_not_taken_for_memory(
    encoder: Encoder, crops: Crops, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    monkeypatch.setattr(
        encoder.towers, "image_features", scarce_memory(encoder.towers.image_features, 0, error, [])
    )
    with pytest.raises(RuntimeError, match="device-side assert"):
        encoder.encode_images(crops)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 0.0])
def test_a_vector_without_direction_is_an_error_not_a_result(
    encoder: Encoder, crops: Crops, weight: float
) -> None:
    encoder.towers.model.visual_projection.weight.data.fill_(weight)
    with pytest.raises(ItemError) as caught:
        encoder.encode_images(crops)
    assert caught.value.code == "encode_error"


def test_a_text_is_cut_at_the_longest_the_model_reads(encoder: Encoder) -> None:
    assert encoder.max_tokens == 77
    assert not encoder.truncated("x" * 75)  # a token a byte, and the two end marks
    assert encoder.truncated("x" * 76)
    cut, longer = encoder.encode_texts(["x" * 300, "x" * 80 + "y" * 300])
    np.testing.assert_allclose(cut, longer, atol=1e-6)


def test_a_lone_surrogate_is_encoded(encoder: Encoder) -> None:
    assert np.isfinite(encoder.encode_texts(["cat \ud800"])).all()
    assert not encoder.truncated("\ud800")


def test_threads_share_an_encoder(encoder: Encoder) -> None:
    texts = [["cat"], ["a rather longer text about a dog", "dog"], ["x" * 200]] * 8
    expected = [encoder.encode_texts(some) for some in texts]
    with ThreadPoolExecutor(8) as pool:
        flags = [pool.submit(encoder.truncated, "x" * 200) for _ in texts]
        found = list(pool.map(encoder.encode_texts, texts))
    assert all(flag.result() for flag in flags)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_with_one_core_each_as_many_compute_at_once_as_there_are_cores(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.embedding.encoder.one_core_per_call", lambda: 2)
    encoder = Encoder.load(str(tiny), device="cpu", one_core_each=True)
    both, features = Barrier(2, timeout=30), encoder.towers.text_features

    def together(texts: Any) -> Any:
        both.wait()
        return features(texts)

    expected = [encoder.encode_texts([text]) for text in ("cat", "dog")]
    monkeypatch.setattr(encoder.towers, "text_features", together)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(encoder.encode_texts, [["cat"], ["dog"]]))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_loading_opens_no_connection(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load(tiny).warm()


def test_the_garbage_collector_rests_while_a_checkpoint_is_read_and_only_then(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on: list[bool] = []

    def fail(*_: object) -> None:
        on.append(gc.isenabled())
        raise ValueError("spoilt")

    monkeypatch.setattr(encoder_module, "read_checkpoint", fail)
    with pytest.raises(ModelUnavailable):
        load(tiny)
    assert (on, gc.isenabled()) == ([False], True)


def test_loading_prints_nothing(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(tiny)
    assert "Loading weights" not in "".join(capfd.readouterr())


def test_weights_saved_in_half_precision_load(copy: Path, encoder: Encoder, crops: Crops) -> None:
    state = load_file(copy / "model.safetensors")
    halves = {name: tensor.astype(np.float16) for name, tensor in state.items()}
    save_file(halves, copy / "model.safetensors", metadata={"format": "pt"})
    cosines = (load(copy).encode_images(crops) * encoder.encode_images(crops)).sum(axis=1)
    assert cosines.min() > 0.9999


def test_pickled_weights_load(copy: Path, encoder: Encoder, crops: Crops, torch: Any) -> None:
    state = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, copy / "pytorch_model.bin")
    np.testing.assert_array_equal(load(copy).encode_images(crops), encoder.encode_images(crops))


class Code:
    """Whose pickle makes a folder when it is read."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("new_format", [True, False])
def test_pickled_weights_run_no_code(copy: Path, tmp_path: Path, new_format: bool, torch: Any) -> None:
    (copy / "model.safetensors").unlink()
    weights = {"logit_scale": Code(tmp_path / "made")}
    torch.save(weights, copy / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load(copy)
    assert not (tmp_path / "made").exists()


def test_the_legacy_end_of_text_id_of_published_checkpoints_is_understood(
    copy: Path, encoder: Encoder
) -> None:
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"eos_token_id": 513', '"eos_token_id": 2'))
    np.testing.assert_array_equal(load(copy).encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_a_checkpoint_that_lacks_a_tensor_is_refused_rather_than_filled_at_random(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=r"lack visual_projection\.weight"):
        load(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "processor_config.json"])
def test_a_spoilt_file_is_one_sentence_that_names_the_model(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"\0spoilt")
    with pytest.raises(ModelUnavailable, match="copy") as caught:
        load(copy)
    assert "\n" not in caught.value.detail


def test_preprocessing_for_another_picture_size_is_refused_at_the_start(copy: Path) -> None:
    config = copy / "processor_config.json"
    config.write_text(config.read_text().replace("32", "24"))
    with pytest.raises(ModelUnavailable, match=r"32 x 32 pixels .* makes them 24 x 24"):
        load(copy)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_a_configuration_error(tiny: Path, device: str, torch: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("asks for a GPU that is not there")
    with pytest.raises(ConfigError, match=f"IMAGE_SEARCH_DEVICE is {device}"):
        Encoder.load(str(tiny), device=device)


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "expected"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_auto_precision_on_a_cpu_is_bf16_where_the_chip_computes_in_it(
    tiny: Path, avx512_bf16: bool, amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert load(tiny, precision="auto").precision == expected


def test_an_encoder_says_what_it_is(tiny: Path, encoder: Encoder) -> None:
    assert encoder.name == str(tiny)
    assert encoder.folder == tiny
    assert (encoder.device, encoder.precision, encoder.batch_size) == ("cpu", "fp32", 64)
    assert encoder.preprocess.crop_shape == (32, 32)
    assert encoder.device_name


def test_a_gpu_agrees_with_the_cpu(tiny: Path, encoder: Encoder, crops: Crops, torch: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    gpu = Encoder.load(str(tiny), device="cuda", batch_size=2)
    assert gpu.precision in ("bf16", "fp16")
    assert (gpu.encode_images(crops) * encoder.encode_images(crops)).sum(axis=1).min() > 0.999
    assert (gpu.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(axis=1).min() > 0.999


def test_the_starter_is_a_plain_transformers_checkpoint_with_its_card() -> None:
    from transformers import CLIPModel, CLIPProcessor  # noqa: PLC0415

    folder = ROOT / "shared/embedding" / STARTER
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    tokens = processor(text=["a cat"], return_tensors="pt")
    assert model.get_text_features(**tokens).pooler_output.shape == (1, model.config.projection_dim)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20 * 2**20
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "CC-BY-4.0" in card
