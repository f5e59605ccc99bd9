import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

from benchmarks.parity import centred_cosines
from benchmarks.random_checkpoint import Shape
from shared.embedding import openvino_int8
from shared.embedding.checkpoints import resolve_model
from shared.embedding.encoder import Encoder
from shared.errors import ConfigError, ItemError, Unavailable
from tests.checkpoints import tiny_checkpoint

CPU = Path("/proc/cpuinfo")
# Without them sums of two products of 8 bits overflow 16, and int8 is less exact: `warm` refuses the worst.
exact_int8 = pytest.mark.skipif(
    CPU.exists() and not any(name in CPU.read_text() for name in ("vnni", "amx_int8", "asimddp")),
    reason="this processor has no 8-bit dot products (VNNI): int8 saturates",
)

TEXTS = ["a red car", "a cat on a roof", "", "two people who look at a map of the town"]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for all tests of this file, each of which may have another checkpoint."""
    folder = tmp_path_factory.getbasetemp() / "home"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def load(model: Path | str, precision: str = "int8", batch_size: int = 64) -> Encoder:
    return Encoder.load(str(model), device="cpu", precision=precision, batch_size=batch_size)


def drawings(count: int, side: int) -> NDArray[np.uint8]:
    """Outlined figures on white and on colours, with thin lines and letters."""
    rng = np.random.default_rng(7)
    pictures = []
    for number in range(count):
        ground, figure, line = (tuple(int(c) for c in rng.integers(0, 256, 3)) for _ in range(3))
        image = Image.new("RGB", (side, side), "white" if number % 2 else ground)
        draw = ImageDraw.Draw(image)
        left, top = rng.integers(0, side // 2, 2).tolist()
        right, bottom = left + side // 2, top + side // 3
        draw.ellipse((left, top, right, bottom), fill=figure, outline="black", width=1)
        draw.line((0, bottom, right, 0), fill=line, width=2)
        draw.text((left, top), f"A{number}", fill=line)
        pictures.append(np.asarray(image))
    return np.stack(pictures)


def least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((a * b).sum(axis=1).min())


@exact_int8
def test_the_starter_in_int8_is_close_to_fp32_for_pictures_and_texts() -> None:
    quick, exact = load("starter"), load("starter", "fp32")
    crops = drawings(64, exact.preprocess.crop_shape[0])
    assert quick.precision == "int8"
    assert least_cosine(quick.encode_images(crops), exact.encode_images(crops)) > 0.98
    assert least_cosine(quick.encode_texts(TEXTS), exact.encode_texts(TEXTS)) > 0.999
    patches = least_cosine(
        quick.encode_patches(crops).reshape(-1, quick.dimension),
        exact.encode_patches(crops).reshape(-1, exact.dimension),
    )
    assert patches > 0.98


@exact_int8
@pytest.mark.parametrize(
    "shape", ["tiny metaclip_2", "tiny siglip", "tiny siglip 2", "tiny chinese_clip", "tiny altclip"]
)
def test_pictures_of_every_kind_are_close_to_fp32(shape: Shape, tmp_path: Path) -> None:
    """Also without what all vectors have in common, which makes those of random weights alike."""
    tiny_checkpoint(tmp_path / "model", shape=shape)
    quick, exact = load(tmp_path / "model"), load(tmp_path / "model", "fp32")
    crops = drawings(64, exact.preprocess.crop_shape[0])
    found, wanted = quick.encode_images(crops), exact.encode_images(crops)
    assert not np.array_equal(found, wanted)
    assert least_cosine(found, wanted) > 0.995
    assert centred_cosines(found, wanted).min() > 0.98
    assert least_cosine(quick.encode_texts(TEXTS), exact.encode_texts(TEXTS)) > 0.995


def test_the_pictures_really_go_through_int8(tiny: Path) -> None:
    crops = drawings(8, 32)
    assert not np.array_equal(load(tiny).encode_images(crops), load(tiny, "fp32").encode_images(crops))
    names = [op.get_type_name() for op in _model_of(tiny).get_ops()]
    assert names.count("FakeQuantize") > 10


def _model_of(tiny: Path) -> Any:
    encoder = load(tiny)
    (path,) = (Path.home() / ".cache/image-search/int8").glob(f"{encoder.fingerprint}-*/model.xml")
    return openvino_int8._imported("openvino").Core().read_model(path)


def test_the_collection_of_a_model_is_that_of_its_int8_form(tiny: Path) -> None:
    assert load(tiny).fingerprint == load(tiny, "fp32").fingerprint


def test_the_batch_size_does_not_change_int8_vectors(tiny: Path) -> None:
    crops = drawings(7, 32)
    np.testing.assert_allclose(
        load(tiny, batch_size=3).encode_images(crops), load(tiny).encode_images(crops), atol=1e-5
    )


def test_threads_share_an_int8_encoder(tiny: Path) -> None:
    encoder = load(tiny)
    some = [drawings(count, 32) for count in (1, 5, 3)] * 4
    expected = [encoder.encode_images(crops) for crops in some]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(encoder.encode_images, some), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_second_start_takes_the_model_that_the_first_one_made(tiny: Path, empty_home: Path) -> None:
    with structlog.testing.capture_logs() as first:
        vectors = load(tiny).encode_images(drawings(3, 32))
    with structlog.testing.capture_logs() as second:
        again = load(tiny).encode_images(drawings(3, 32))
    assert "int8 model made" in [entry["event"] for entry in first]
    assert "int8 model made" not in [entry["event"] for entry in second]
    np.testing.assert_array_equal(again, vectors)


def test_a_spoilt_file_in_the_cache_is_made_anew(tiny: Path, empty_home: Path) -> None:
    vectors = load(tiny).encode_images(drawings(3, 32))
    for name in ("model.xml", "model.bin"):
        (path,) = (empty_home / ".cache/image-search/int8").glob(f"*/{name}")
        path.write_bytes(path.read_bytes()[:100])
        np.testing.assert_array_equal(load(tiny).encode_images(drawings(3, 32)), vectors)
        assert path.stat().st_size > 100


def test_a_disk_too_full_to_keep_the_model_is_a_warning(
    tiny: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_model: object, _path: Path) -> None:
        raise RuntimeError("Can't write bin file\nNo space left on device")

    monkeypatch.setattr("openvino.save_model", fail)
    with structlog.testing.capture_logs() as entries:
        assert load(tiny).encode_images(drawings(3, 32)).shape == (3, 32)
    events = [entry["event"] for entry in entries]
    assert events.count("the int8 model is not kept") == events.count("int8 model made") == 1
    assert not list((empty_home / ".cache/image-search/int8").rglob("model.xml"))


def test_where_nothing_can_be_kept_the_model_is_made_at_each_start(tiny: Path, empty_home: Path) -> None:
    (empty_home / ".cache").write_text("a file, no folder")
    with structlog.testing.capture_logs() as entries:
        assert load(tiny).encode_images(drawings(3, 32)).shape == (3, 32)
    assert "the int8 model is not kept" in [entry["event"] for entry in entries]


def test_starts_at_the_same_time_make_one_model(tiny: Path, empty_home: Path) -> None:
    with structlog.testing.capture_logs() as entries, ThreadPoolExecutor(3) as pool:
        list(pool.map(load, [tiny] * 3))
    assert [entry["event"] for entry in entries].count("int8 model made") == 1


@pytest.mark.parametrize("library", ["openvino", "nncf"])
def test_without_the_extra_one_line_says_what_to_install(
    tiny: Path, empty_home: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"{library} is not installed: .*\.\[openvino\]") as caught:
        load(tiny)
    assert "\n" not in caught.value.detail


def test_int8_on_another_device_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"IMAGE_SEARCH_PRECISION is int8.*the device is mps"):
        Encoder.load(str(tiny), device="mps", precision="int8")


def test_a_model_that_int8_takes_too_much_from_is_refused_and_not_kept(
    tiny: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_int8, "_MIN_COSINE", 1.0)
    with pytest.raises(ConfigError, match="int8 takes too much"):
        load(tiny)
    assert not list(empty_home.rglob("model.xml"))


def test_a_few_channels_much_larger_than_the_others_cost_nothing(empty_home: Path, tmp_path: Path) -> None:
    """As in published CLIPs: a LayerNorm's scale up, the next weights down, the same vectors in fp32."""
    folder = Path(shutil.copytree(resolve_model("starter"), tmp_path / "outliers"))
    weights = {
        name: array.astype(np.float32) for name, array in load_file(folder / "model.safetensors").items()
    }
    for layer in range(6):
        prefix = f"vision_model.encoder.layers.{layer}"
        attention = [f"self_attn.{name}_proj" for name in "qkv"]
        for norm, readers in (("layer_norm1", attention), ("layer_norm2", ["mlp.fc1"])):
            channels = [layer, 50 + layer, 100 + layer, 150 + layer]
            weights[f"{prefix}.{norm}.weight"][channels] *= 30
            weights[f"{prefix}.{norm}.bias"][channels] *= 30
            for reader in readers:
                weights[f"{prefix}.{reader}.weight"][:, channels] /= 30
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    crops = drawings(64, 48)
    exact = load("starter", "fp32").encode_images(crops)
    assert least_cosine(load(folder, "fp32").encode_images(crops), exact) > 0.9999
    assert least_cosine(load(folder).encode_images(crops), exact) > 0.98


def test_a_vector_that_is_not_finite_is_an_error_in_int8_too(tiny: Path) -> None:
    encoder = load(tiny)
    encoder.towers.int8 = lambda crops: np.full((len(crops), 32), np.nan, np.float32)
    with pytest.raises(ItemError) as caught:
        encoder.encode_images(drawings(2, 32))
    assert caught.value.code == "encode_error"


@pytest.mark.parametrize(
    "said",
    [
        "Exception from src/plugins/intel_cpu/src/node.cpp:794:\nFailed to allocate 1541406 bytes of memory",
        "std::bad_alloc",
    ],
)
def test_too_little_memory_for_openvino_halves_the_batch(tiny: Path, said: str) -> None:
    encoder, tried = load(tiny), []
    crops = drawings(5, 32)
    expected, features = encoder.encode_images(crops), encoder.towers.int8
    assert features is not None

    def scarce(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        tried.append(len(crops))
        if len(crops) > fits:
            raise RuntimeError(said)
        return features(crops)

    encoder.towers.int8, fits = scarce, 2
    np.testing.assert_allclose(encoder.encode_images(crops), expected, atol=1e-5)
    assert tried == [5, 2, 2, 1]
    fits = 0
    with pytest.raises(Unavailable):
        encoder.encode_images(crops)


def test_making_an_int8_model_prints_nothing_and_calls_nobody(
    tiny: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name was looked up"))
    load(tiny).warm()
    assert "openvino_telemetry.main" not in sys.modules
    printed = "".join(capfd.readouterr())
    assert "Statistics" not in printed
    assert "Warning" not in printed
    assert not (empty_home / "intel").exists()
