"""The image tower of a model in int8, for CPUs. The only module that touches OpenVINO and NNCF.

At ViT-B/32, on two cores with AMX, it is 2.2 times as fast as torch in bf16. The recipe was chosen by the
least cosine to fp32 over 900 drawings, with the starter, which has 0.99 with it. Variants and their least
cosines: ranges from the means of the calibration instead of its extremes 0.97; the first convolution
quantized, too, up to 0.03 less. SmoothQuant is for models in which a few channels are thirty times the
others, as published CLIPs are said to be: made so, the starter has 0.25 without it. At its usual strength,
0.95, it relies more on the calibration than generated images bear: 0.95. Real drawings calibrate no better
than generated ones.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rich
import structlog
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.imaging.preprocess import Preprocess

Pixels = NDArray[np.uint8]
Features = Callable[[Pixels], NDArray[np.float32]]

_RECIPE = 1  # part of the cache's name: count up when what _quantized makes changes
_SMOOTHING = 0.15
_CALIBRATION = 32  # pictures; 300 gave the same cosines
_CHECKED = 16  # pictures, others
_MIN_COSINE = 0.98

log = structlog.get_logger()


def int8_features(
    module: Callable[[], Any],
    exact: Features,
    preprocess: Preprocess,
    fingerprint: str,
    *,
    bf16: bool,
    threads: int,
) -> Features:
    """Return a function from crops to features (n, dimension), not normalised, for one thread at a time.

    `module` makes a torch module in fp32, from normalised pixels (n, 3, height, width) to features, and
    `exact` says what they should be; both are asked only where no earlier start left the int8 model in the
    user's cache. With `bf16`, what is not int8 runs in bf16 instead of fp32. Raises ConfigError where
    OpenVINO or NNCF is not installed, or int8 takes too much from this model.
    """
    core = _imported("openvino").Core()

    def compiled(model: Any) -> Features:
        return _compiled(core, model, bf16=bf16, threads=threads)

    def make() -> Any:
        model = _quantized(module(), preprocess)
        _check(compiled(model), exact, preprocess)
        return model

    return compiled(_cached(core, fingerprint, make))


def _imported(library: str) -> Any:
    # Both libraries report their use to Google Analytics unless this package cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(library)
    except ImportError:
        raise ConfigError(
            f"IMAGE_SEARCH_PRECISION is int8, but {library} is not installed: pip install '.[openvino]'"
        ) from None


def _cached(core: Any, fingerprint: str, make: Callable[[], Any]) -> Any:
    """Return the model that an earlier start stored, else make it, in one of the processes that start now."""
    from filelock import FileLock  # noqa: PLC0415 - comes with the extra

    openvino = _imported("openvino")
    root = Path("~/.cache/image-search/int8").expanduser()
    folder = root / f"{fingerprint}-{_RECIPE}-{openvino.__version__.partition('-')[0]}"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(f"{folder}.lock", mode=0o600)
        with lock:
            return _read(core, folder) or _stored(folder, make())
    except OSError as error:
        _not_kept(root, error)
        return make()


def _read(core: Any, folder: Path) -> Any:
    try:
        return core.read_model(folder / "model.xml")
    except RuntimeError:  # there is none, or a spoilt one
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _stored(folder: Path, model: Any) -> Any:
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            _imported("openvino").save_model(model, made / "model.xml")
            made.rename(folder)  # both of the model's files at once
    except (OSError, RuntimeError) as error:  # OpenVINO's, of a full disk
        _not_kept(folder.parent, error)
    return model


def _not_kept(root: Path, error: Exception) -> None:
    log.warning("the int8 model is not kept", folder=str(root), reason=str(error).partition("\n")[0])


def _quantized(module: Any, preprocess: Preprocess) -> Any:
    nncf = _imported("nncf")
    log.info("making an int8 model, once a machine")
    started = time.monotonic()
    model = _from_torch(module, preprocess)
    unquantized = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "Convolution"]
    crops = _generated_crops(_CALIBRATION, preprocess.crop_shape, seed=0)
    ranges = importlib.import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet
    with _quiet(nncf):
        quantized = nncf.quantize(
            model,
            nncf.Dataset([crop[None] for crop in crops]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=_CALIBRATION,
            ignored_scope=nncf.IgnoredScope(names=unquantized),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHING),
                activations_range_estimator_params=ranges.MINMAX,
            ),
        )
    log.info("int8 model made", seconds=round(time.monotonic() - started, 1))
    return quantized


def _from_torch(module: Any, preprocess: Preprocess) -> Any:
    """Convert a torch module to an OpenVINO model of crops, uint8 (n, height, width, 3), whatever n."""
    openvino = _imported("openvino")
    shape = (3, *preprocess.crop_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the picture's size is taken for a constant: it is one
        model = openvino.convert_model(
            module, example_input=np.zeros((2, *shape), np.float32), input=[(-1, *shape)]
        )
    steps = importlib.import_module("openvino.preprocess").PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    mean, std = (np.asarray(value) / preprocess.rescale for value in (preprocess.mean, preprocess.std))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean.tolist()).scale(std.tolist())
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


@contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """Silence NNCF, which logs and draws progress bars on stdout."""
    nncf.set_log_level(logging.ERROR)
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _check(features: Features, exact: Features, preprocess: Preprocess) -> None:
    """Raise ConfigError when `features` are too far from the `exact` ones."""
    crops = _generated_crops(_CHECKED, preprocess.crop_shape, seed=1)
    found, wanted = features(crops), exact(crops)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    least = float(((found * wanted).sum(axis=1) / norms).min())
    log.info("int8 model checked", least_cosine=round(least, 4))
    if not least >= _MIN_COSINE:  # true for NaN too
        raise ConfigError(
            f"int8 takes too much from this model (a cosine of {least:.2f} to fp32); "
            "set IMAGE_SEARCH_PRECISION to auto"
        )


def _compiled(core: Any, model: Any, *, bf16: bool, threads: int) -> Features:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # two encode processes would pin themselves to the same cores
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def features(crops: Pixels) -> NDArray[np.float32]:
        found: NDArray[np.float32] = request.infer({0: crops})[0]
        return found

    return features


def _generated_crops(count: int, shape: tuple[int, int], *, seed: int) -> Pixels:
    """Generate images (count, height, width, 3) to calibrate on, from a seed.

    By turns coloured 1/f noise, whose spectrum is that of photographs, and the flat shapes of drawings.
    """
    rng = np.random.default_rng(seed)
    return np.stack([(_shapes if number % 2 else _noise)(rng, *shape) for number in range(count)])


def _noise(rng: np.random.Generator, height: int, width: int) -> Pixels:
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    spectrum = rng.normal(size=(3, *frequency.shape)) + 1j * rng.normal(size=(3, *frequency.shape))
    fields = np.fft.irfft2(spectrum / frequency ** rng.uniform(0.8, 1.6), s=(height, width))
    colours = np.tensordot(rng.normal(0.7, 0.4, (3, 3)), fields / fields.std(), axes=1)
    shades = colours * rng.uniform(20, 70) + rng.uniform(40, 215, (3, 1, 1))
    return np.clip(shades, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _shapes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.choice([rng.integers(0, 256, 3), np.full(3, 255)])
    y, x = np.mgrid[: 1 : height * 1j, : 1 : width * 1j]
    for _ in range(rng.integers(1, 8)):
        down, across = (
            (y - rng.random()) / rng.uniform(0.05, 0.5),
            (x - rng.random()) / rng.uniform(0.05, 0.5),
        )
        inside = np.hypot(down, across) < 1 if rng.random() < 0.5 else np.maximum(abs(down), abs(across)) < 1
        picture[inside] = rng.integers(0, 256, 3)
    return picture
