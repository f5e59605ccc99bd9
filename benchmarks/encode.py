"""How many pictures per second each precision encodes on this CPU, and how close its vectors are to fp32."""

import multiprocessing
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.parity import centred_cosines
from benchmarks.results import Result
from shared.embedding.encoder import Encoder
from shared.imaging.decode import decode

ROUNDS = 15
BATCH = 32
MAX_PIXELS = 100_000_000
GOAL = 1.3  # what a second library must bring to be worth its keep
COMPILED = "bf16 compiled"


def measure(checkpoint: Path, photos: list[Path], work: Path) -> list[Result]:
    """In a process of its own, whose threads wait as those of workers do, and whose cache is empty."""
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "HOME": str(work)}
    spawn = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, environment), ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_measure, checkpoint, photos).result()


def _measure(checkpoint: Path, photos: list[Path]) -> list[Result]:
    """Medians of ROUNDS batches that alternate between the precisions, so that other load meets all alike."""
    starts, encoders = [], {}
    for _ in range(2):
        started = time.perf_counter()
        encoders["int8"] = _load(checkpoint, "int8")
        starts.append(time.perf_counter() - started)
    encoders |= {precision: _load(checkpoint, precision) for precision in ("fp32", "bf16")}
    if shutil.which("g++"):
        encoders[COMPILED] = _load(checkpoint, "bf16")
        encoders[COMPILED].towers.model.vision_model.compile(dynamic=False)
    crops = np.stack([_crop(photo, encoders["fp32"]) for photo in photos])
    vectors = {name: encoder.encode_images(crops) for name, encoder in encoders.items()}
    seconds = _seconds(encoders, crops[:BATCH])
    against_bf16 = {name: float(np.median(seconds["bf16"] / taken)) for name, taken in seconds.items()}
    results = [Result("encode in int8, times bf16", against_bf16["int8"], goal=GOAL)]
    for name in sorted(encoders, key=against_bf16.__getitem__):
        cosines = (vectors[name] * vectors["fp32"]).sum(axis=1)
        results += [
            Result(f"  {name}", BATCH / float(np.median(seconds[name])), "pictures/s"),
            Result(f"  {name}, times bf16", against_bf16[name]),
            Result(f"  {name}, least cosine to fp32", float(cosines.min()), goal=0.98),
            Result(
                f"  {name}, mean centred cosine to fp32",
                float(centred_cosines(vectors[name], vectors["fp32"]).mean()),
            ),
        ]
    return [
        *results,
        Result("  first start in int8", starts[0], "s"),
        Result("  later starts in int8", starts[1], "s"),
    ]


def _load(checkpoint: Path, precision: str) -> Encoder:
    return Encoder.load(str(checkpoint), device="cpu", precision=precision, batch_size=BATCH)


def _crop(photo: Path, encoder: Encoder) -> NDArray[np.uint8]:
    return decode(photo.read_bytes(), encoder.preprocess, max_pixels=MAX_PIXELS, keep="none").pixels


def _seconds(encoders: dict[str, Encoder], crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Of each round; the encoders have run before, with a batch of this size."""
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            started = time.perf_counter()
            encoder.encode_images(crops)
            taken[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in taken.items()}
