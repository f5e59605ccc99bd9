"""The models that docs/models.md compares: what each costs here, beside what others published of it.

Each is measured in a process of its own, by turns with the model that `auto` means, so that what else the
machine does meets both; and by turns with a bare loop: the same class and precision, on ready tensors.
"""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np

from benchmarks.processes import anonymous_mib, peak_mib
from benchmarks.random_checkpoint import Shape, make_random_checkpoint
from benchmarks.results import Result, wall_seconds
from shared.embedding.checkpoints import resolve_model
from shared.embedding.encoder import Encoder
from shared.embedding.kinds import LANGUAGES

BATCH = 8
ROUNDS = 5
ROUND_SECONDS = 0.3  # at least, in which a call is repeated
TEXT_TOKENS = 12  # a query of some eight words, end marks included; the API encodes one at a time
GOAL = 0.95
WORDS = "a photo of a red car on a wet street at night"


@dataclass(frozen=True, slots=True)
class Published:
    """A model as the hub has it, of `shape`, and figures that others measured, as docs/models.md quotes them.

    `english` and `others` (Chinese, Japanese, Arabic, Hindi, Greek) are the means of the recall at 1, 5 and
    10 of XM3600, in per cent; `besides` is one more figure, with the key of its source in SOURCES.
    """

    name: str
    shape: Shape | None
    english: str = ""
    others: str = ""
    besides: str = ""

    @property
    def languages(self) -> str:
        return LANGUAGES[self.name]


MODELS = (
    Published("starter", None),
    Published("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "laion ViT-B/32", "68.8", "", "COCO 39.3 [2]"),
    Published("openai/clip-vit-base-patch32", "ViT-B/32", "59.4", "", "COCO 30.4 [2]"),
    Published("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "laion ViT-L/14", "69.9", "", "COCO 46.5 [2]"),
    Published(
        "google/siglip2-base-patch32-256", "SigLIP 2 B/32", "73.2", "62.6 55.3 60.7 27.1 53.2",
        "COCO 47.2 [3]",
    ),
    Published(
        "google/siglip2-base-patch16-224", "SigLIP 2 B/16", "75.2", "64.4 58.1 61.7 27.9 53.4",
        "COCO 52.1 [3]",
    ),
    Published(
        "google/siglip2-so400m-patch14-224", "SigLIP 2 SO400M/14", "74.8", "65.6 65.8 68.2 33.6 60.1",
        "COCO 55.1 [3]",
    ),
    Published("facebook/metaclip-2-worldwide-b32", "MetaCLIP 2 B/32", besides="CVQA 49.1 [4]"),
    Published("OFA-Sys/chinese-clip-vit-base-patch16", "Chinese-CLIP B/16", besides="Flickr-CN 62.7 [5]"),
    Published("BAAI/AltCLIP", "AltCLIP", besides="Flickr-CN 69.8 [6]"),
)  # fmt: skip
DEFAULT = MODELS[1]


def measure(work: Path) -> list[Result]:
    """In turn, each with a checkpoint that is deleted again: the largest takes 4.5 GB."""
    default = work / "default"
    make_random_checkpoint(default, shape=_shape(DEFAULT))
    spawn = multiprocessing.get_context("spawn")
    results = []
    for model in MODELS:
        folder = default if model is DEFAULT else _checkpoint(model, work / "model")
        with (
            patch.dict(os.environ, {"OMP_WAIT_POLICY": "PASSIVE"}),
            ProcessPoolExecutor(1, mp_context=spawn) as pool,
        ):
            results += pool.submit(_measure, model.name, folder, default).result()
        shutil.rmtree(work / "model", ignore_errors=True)
    return results


def _shape(model: Published) -> Shape:
    assert model.shape is not None
    return model.shape


def _checkpoint(model: Published, folder: Path) -> Path:
    if model.shape is None:
        return resolve_model(model.name)
    make_random_checkpoint(folder, shape=model.shape)
    return folder


def _measure(name: str, folder: Path, default: Path) -> list[Result]:
    import torch  # noqa: PLC0415

    encoder = Encoder.load(str(folder))
    encoder.warm()
    memory, peak = anonymous_mib(os.getpid()), peak_mib(os.getpid())
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    parameters = sum(parameter.numel() for parameter in encoder.towers.model.parameters())
    encoders = [encoder] if folder == default else [encoder, Encoder.load(str(default))]
    pictures = [_pictures(one) for one in encoders]
    seconds = _by_turns([*pictures, _bare(encoder)])
    loops = [_texts(one) for one in encoders]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    text = _by_turns(loops)
    torch.set_num_threads(threads)
    return [
        _ratio(f"{name}: encode, share of a bare loop", seconds[-1], seconds[0], goal=GOAL),
        _ratio(f"{name}: pictures, times the default", seconds[len(encoders) - 1], seconds[0]),
        _ratio(f"{name}: seconds of a text, times the default", text[0], text[-1]),
        Result(f"  {name}: pictures", BATCH / median(seconds[0]), "pictures/s"),
        Result(f"  {name}: a text", 1000 * median(text[0]), "ms"),
        Result(f"  {name}: parameters", parameters / 1e6, "million"),
        Result(f"  {name}: weights", weights / 1e6, "MB"),
        Result(f"  {name}: memory when loaded", memory, "MiB"),
        Result(f"  {name}: most memory while loading, its mapped file too", peak, "MiB"),
        Result(f"  {name}: vector", encoder.dimension, "dimensions"),
    ]


def _pictures(encoder: Encoder) -> Callable[[], object]:
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, *encoder.preprocess.crop_shape, 3), np.uint8)
    return lambda: encoder.encode_images(crops)


def _bare(encoder: Encoder) -> Callable[[], object]:
    """transformers' own model, all of it in the encoder's precision, on tensors that are ready."""
    import torch  # noqa: PLC0415
    from transformers import AutoModel  # noqa: PLC0415

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[encoder.precision]
    model = AutoModel.from_pretrained(encoder.folder, dtype=dtype, attn_implementation="sdpa").eval()
    pixels = torch.randn(BATCH, 3, *encoder.preprocess.crop_shape, dtype=dtype)
    return torch.inference_mode()(lambda: model.get_image_features(pixels).pooler_output)


def _texts(encoder: Encoder) -> Callable[[], object]:
    """A text of TEXT_TOKENS by this tokenizer: random ones cut words smaller than trained ones do."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    beginnings = (WORDS[:end] for end in range(1, len(WORDS)))
    text = [one for one in beginnings if len(tokenizer(one)["input_ids"]) <= TEXT_TOKENS][-1]
    return lambda: encoder.encode_texts([text])


def _by_turns(calls: list[Callable[[], object]]) -> list[list[float]]:
    """Seconds of each call, by rounds."""
    for call in calls:
        call()
    often = [max(1, round(ROUND_SECONDS / wall_seconds(call))) for call in calls]

    def seconds(call: Callable[[], object], times: int) -> float:
        return wall_seconds(lambda: [call() for _ in range(times)]) / times

    rounds = [[seconds(*one) for one in zip(calls, often, strict=True)] for _ in range(ROUNDS)]
    return [list(one) for one in zip(*rounds, strict=True)]


def _ratio(name: str, above: list[float], below: list[float], *, goal: float | None = None) -> Result:
    """Of each round's seconds."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return Result(name, median(ratios), goal=goal, spread=(min(ratios), max(ratios)))
