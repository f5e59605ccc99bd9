"""The product's Encoder on one GPU, from ready crops to vectors, for a model of every kind.

Against a bare loop, transformers' own model compiled with CUDA graphs on a batch that lies on the GPU, and
against matrix products of the same shapes. A picture's floating point operations are counted by torch, two a
multiply-add; the ceiling is the rate at which the chip multiplies bf16 matrices as large as those of the
tower's two widest layers, by turns with the encoder. Crops are in ordinary memory, as a worker reads them, so
the copies to the GPU are in every rate but the bare loop's.
"""

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.jobs import ingest_rate
from benchmarks.random_checkpoint import Shape, make_random_checkpoint
from benchmarks.results import Curve, NotHere, Result, wall_seconds
from image_search import Client
from shared.embedding.encoder import Encoder
from tests.stack import Stack

# Pictures/s on an H100; of the other kinds, whose towers are alike, only that and how they run is shown.
GOALS: dict[Shape, float] = {"ViT-B/32": 40_000, "SigLIP 2 B/16": 10_000, "ViT-L/14": 2_500}
OTHERS: tuple[Shape, ...] = ("MetaCLIP 2 B/32", "Chinese-CLIP B/16", "AltCLIP")
BARE_GOAL = 0.95
BATCHES = (32, 64, 128, 256, 512, 1024)
OTHERS_BATCH = 256
CROPS = 4 * BATCHES[-1]
ROUNDS = 5
PRODUCTS = 20  # matrix products a round
SECONDS = 10.0  # of several processes at once
PROCESSES = (1, 2)
START_SECONDS = 300.0  # of all of them
STACK_BATCH, STACK_CHUNK = 256, 512  # what docs/deployment.md suggests for a GPU
GPU = "cuda:0"
COMPILES = importlib.util.find_spec("triton") is not None
COMPILED = "reduce-overhead"  # with CUDA graphs

Crops = NDArray[np.uint8]
_barrier: Barrier


@dataclass(frozen=True)
class Encoding:
    """Rounds of one batch size: pictures per second, and of the chip's ceiling in the same rounds."""

    rates: list[float]
    ceilings: list[float]

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def shares(self) -> list[float]:
        return [rate / ceiling for rate, ceiling in zip(self.rates, self.ceilings, strict=True)]


def measure(work: Path) -> list[Result | Curve]:
    """The encoder by itself. Raises NotHere without CUDA."""
    _need_cuda()
    results: list[Result | Curve] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for shape in (*GOALS, *OTHERS):
        checkpoint = work / shape.replace("/", "-")
        make_random_checkpoint(checkpoint, shape=shape)
        by_batch, found = _encoder(shape, checkpoint, BATCHES if shape in GOALS else (OTHERS_BATCH,))
        results += found
        if shape in GOALS:
            lines[shape] = [(float(size), encoding.rate) for size, encoding in by_batch.items()]
            best = max(by_batch, key=lambda size: by_batch[size].rate)
            results += _processes(shape, checkpoint, best)
    return [
        *results,
        *_copies(),
        Curve("Encoding on the GPU", "pictures a batch", "pictures/s", lines, log="xy"),
    ]


def road(work: Path, photos: Callable[[], AbstractContextManager[Sequence[str]]]) -> list[Result]:
    """Ingest by URL with a fetch process per core, with a model of every kind: decoding bounds it.

    `photos` serves them. Raises NotHere without CUDA.
    """
    _need_cuda()
    with photos() as urls:
        return [result for shape in (*GOALS, *OTHERS) for result in _road(shape, work, urls)]


def _road(shape: Shape, work: Path, urls: Sequence[str]) -> list[Result]:
    checkpoint = work / shape.replace("/", "-")
    make_random_checkpoint(checkpoint, shape=shape)
    cores = len(os.sched_getaffinity(0))
    settings = {"DEVICE": GPU, "CHUNK_SIZE": str(STACK_CHUNK), "BATCH_SIZE": str(STACK_BATCH)}
    folder = checkpoint / "stack"
    with (
        Stack(folder, fetch_workers=cores, encode_workers=2, MODEL=str(checkpoint), **settings) as stack,
        Client(stack.url) as client,
    ):
        rate = [ingest_rate(client, urls, collection) for collection in ("warm", "measured")][-1]
    return [
        Result(f"  ingest by URL with {shape} on the GPU", rate, "pictures/s"),
        Result(f"  ingest by URL with {shape}, a core", rate / cores, "pictures/s"),
    ]


def _need_cuda() -> None:
    if not torch.cuda.is_available():
        raise NotHere("It measures a CUDA device, and torch sees none.")


def _encoder(
    shape: Shape, checkpoint: Path, batches: Sequence[int]
) -> tuple[dict[int, Encoding], list[Result]]:
    torch.cuda.reset_peak_memory_stats()
    encoder = _load(checkpoint)
    side, _ = encoder.preprocess.crop_shape
    crops = np.random.default_rng(0).integers(0, 256, (CROPS, side, side, 3), np.uint8)
    flops = _flops(encoder, crops[:1])
    by_batch = {size: _encoding(encoder, crops, size, flops) for size in batches}
    size, best = max(by_batch.items(), key=lambda item: item[1].rate)
    results = [
        Result(
            f"{shape}: encode in bf16",
            best.rate,
            "pictures/s",
            goal=GOALS.get(shape),
            spread=_ends(best.rates),
        ),
        Result(f"{shape}: share of the chip's ceiling", median(best.shares), spread=_ends(best.shares)),
        Result(f"  {shape}: best batch", size, "pictures"),
        Result(f"  {shape}: ceiling", median(best.ceilings), "pictures/s", spread=_ends(best.ceilings)),
        Result(f"  {shape}: ceiling in operations", median(best.ceilings) * flops / 1e12, "TFLOP/s"),
        Result(f"  {shape}: a picture", flops / 1e9, "GFLOP"),
        Result(f"  {shape}: most memory of the GPU", torch.cuda.max_memory_allocated() / 2**20, "MiB"),
    ]
    if COMPILES:
        encoder.batch_size = size
        bare = _bare(checkpoint, crops, size)
        bare()
        encoder.encode_images(crops)
        rounds = [(_rate(encoder, crops), len(crops) / wall_seconds(bare)) for _ in range(ROUNDS)]
        shares = [ours / theirs for ours, theirs in rounds]
        encoder.towers.model.vision_model.compile(dynamic=False, mode=COMPILED)
        encoder.encode_images(crops)
        compiled = [_rate(encoder, crops) / ours for ours, _ in rounds]
        results += [
            Result(
                f"{shape}: encode, share of a bare compiled loop",
                median(shares),
                goal=BARE_GOAL,
                spread=_ends(shares),
            ),
            Result(
                f"  {shape}: compiled, with CUDA graphs, times not", median(compiled), spread=_ends(compiled)
            ),
        ]
    return by_batch, results


def _bare(checkpoint: Path, crops: Crops, size: int) -> Callable[[], None]:
    """transformers' own model in bf16, compiled, on a batch that lies on the GPU, as often as crops need."""
    from transformers import AutoModel  # noqa: PLC0415

    model = AutoModel.from_pretrained(checkpoint, dtype=torch.bfloat16, attn_implementation="sdpa")
    model = model.eval().to(GPU)
    model.vision_model.compile(dynamic=False, mode=COMPILED)
    pixels = torch.randn(size, 3, *crops.shape[1:3], device=GPU, dtype=torch.bfloat16)

    def loop() -> None:
        with torch.inference_mode():
            for _ in range(len(crops) // size):
                model.get_image_features(pixels).pooler_output.float()
        torch.cuda.synchronize()

    return loop


def _load(checkpoint: Path) -> Encoder:
    encoder = Encoder.load(str(checkpoint), device=GPU, precision="bf16")
    encoder.warm()
    return encoder


def _encoding(encoder: Encoder, crops: Crops, size: int, flops: float) -> Encoding:
    """By turns with the ceiling, so that the chip's clock is alike for both."""
    encoder.batch_size = size
    encoder.encode_images(crops[: 2 * size])
    vision = encoder.towers.model.config.vision_config
    rows = size * ((vision.image_size // vision.patch_size) ** 2 + 1)  # a class token is one more row
    encoding = Encoding([], [])
    for _ in range(ROUNDS):
        encoding.ceilings.append(_matmul_rate(rows, vision.hidden_size, vision.intermediate_size) / flops)
        encoding.rates.append(_rate(encoder, crops))
    return encoding


def _rate(encoder: Encoder, crops: Crops) -> float:
    return len(crops) / wall_seconds(lambda: encoder.encode_images(crops))


def _flops(encoder: Encoder, crops: Crops) -> float:
    """Of one picture, in the tower and its projection."""
    with FlopCounterMode(display=False) as counter:
        encoder.encode_images(crops)
    return float(counter.get_total_flops())


def _matmul_rate(rows: int, narrow: int, wide: int) -> float:
    """FLOP/s of (rows, narrow) times (narrow, wide) and back again, in bf16."""
    states, out, back = (
        torch.randn(shape, device=GPU, dtype=torch.bfloat16)
        for shape in ((rows, narrow), (narrow, wide), (wide, narrow))
    )

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.mm(torch.mm(states, out), back)
        torch.cuda.synchronize()

    products()
    return PRODUCTS * 4 * rows * narrow * wide / wall_seconds(products)


def _processes(shape: Shape, checkpoint: Path, batch: int) -> list[Result]:
    rates = {count: _rate_of_processes(checkpoint, batch, count) for count in PROCESSES}
    return [
        Result(f"{shape}: 2 processes on the GPU, times one", rates[2] / rates[1]),
        *(Result(f"  {shape}: {count} processes", rate, "pictures/s") for count, rate in rates.items()),
    ]


def _rate_of_processes(checkpoint: Path, batch: int, count: int) -> float:
    """Pictures per second of `count` processes together, in the time that they share."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(count)
    with ProcessPoolExecutor(count, spawn, initializer=_share, initargs=(barrier,)) as pool:
        return sum(pool.map(_encode_for_a_while, [checkpoint] * count, [batch] * count))


def _share(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a barrier reaches a pool's process only when that starts
    _barrier = barrier


def _encode_for_a_while(checkpoint: Path, batch: int) -> float:
    encoder = _load(checkpoint)
    encoder.batch_size = batch
    crops = np.zeros((2 * batch, *encoder.preprocess.crop_shape, 3), np.uint8)
    encoder.encode_images(crops)
    _barrier.wait(START_SECONDS)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        encoder.encode_images(crops)
        done += len(crops)
    return done / (time.perf_counter() - started)


def _copies() -> list[Result]:
    """How fast crops reach the GPU, from memory that it can read itself and from any other."""
    pinned = torch.zeros(STACK_BATCH, 224, 224, 3, dtype=torch.uint8, pin_memory=True)

    def rate(crops: torch.Tensor) -> float:
        def copy() -> None:
            crops.to(GPU, non_blocking=True)
            torch.cuda.synchronize()

        copy()
        return crops.nbytes / median(wall_seconds(copy) for _ in range(PRODUCTS)) / 1e9

    return [
        Result("  copy to the GPU from pinned memory", rate(pinned), "GB/s"),
        Result("  copy to the GPU from pageable memory", rate(pinned.clone()), "GB/s"),
    ]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
