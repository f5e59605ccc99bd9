"""Tiny checkpoints of each kind, in the product and in transformers as its documentation says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.random_checkpoint import Shape
from shared.embedding.encoder import Encoder
from tests.checkpoints import tiny_checkpoint

Vectors = NDArray[np.float32]

SAME = 0.999
DIFFERENT = 0.9

# Texts of ten lengths in seven scripts, in each of which every vector differs from all others.
TEXTS = [
    "",
    "a",
    "red car",
    "μια κόκκινη ομπρέλα",
    "красная машина стоит ночью",
    "قطة سوداء تنام على الطاولة",
    "रात में गीली सड़क पर लाल कार",
    "夜の濡れた道にある赤い車、木のテーブルの上の黒い猫",
    "two black cats sleep on the old wooden table, and a quick brown fox jumps",
    "the quick brown fox jumps over the lazy dog " * 30,
]


@dataclass(frozen=True)
class Tiny:
    """How a tiny checkpoint is made so that different texts' vectors differ, and how its texts are read."""

    spread: float
    longest: int
    seed: int = 0
    padding: bool | str = True
    lowered: bool = False


SHAPES: dict[Shape, Tiny] = {
    "tiny": Tiny(3, 77),
    "tiny metaclip_2": Tiny(16, 77, seed=1),
    "tiny siglip": Tiny(16, 64, seed=1, padding="max_length", lowered=True),
    "tiny siglip 2": Tiny(32, 64, padding="max_length", lowered=True),
    "tiny chinese_clip": Tiny(18, 512, seed=1),
    "tiny altclip": Tiny(20, 512, seed=1),
}


class Model:
    """A tiny checkpoint in the product and in transformers."""

    def __init__(self, shape: Shape, folder: Path, change: Callable[[Path], object] = Path.exists) -> None:
        """`change` is done to the folder before it is read."""
        self.shape, self.made = shape, SHAPES[shape]
        tiny_checkpoint(folder, seed=self.made.seed, shape=shape, spread=self.made.spread)
        change(folder)
        self.folder = folder
        self.encoder = self.load()

    def load(self, precision: str = "fp32") -> Encoder:
        return Encoder.load(str(self.folder), device="cpu", precision=precision)

    @cached_property
    def reference(self) -> Any:
        from transformers import AutoModel  # noqa: PLC0415

        return AutoModel.from_pretrained(self.folder).eval()

    def texts(self, texts: list[str], **changed: Any) -> Vectors:
        """The vectors of transformers, lower-cased where our rule cases; `changed` is what is done wrong."""
        import torch  # noqa: PLC0415 - seconds to import
        from transformers import AutoTokenizer  # noqa: PLC0415

        how = {"lowered": self.made.lowered, "padding": self.made.padding, "masked": None} | changed
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        vectors = []
        for text in texts:
            inputs = tokenizer(
                [(text.lower() if how["lowered"] else text).replace("\ud83d", "?")],
                padding=how["padding"],
                truncation=True,
                max_length=self.made.longest,
                return_tensors="pt",
            )
            if how["masked"] is False or (how["masked"] is None and self.made.padding == "max_length"):
                inputs.pop("attention_mask", None)
            if how["masked"]:
                inputs["attention_mask"] = (inputs["input_ids"] != tokenizer.pad_token_id).long()
            with torch.inference_mode():
                vectors.append(self.reference.get_text_features(**inputs).pooler_output.numpy()[0])
        return unit(vectors)

    def images(self, images: list[Image.Image], **changed: Any) -> Vectors:
        import torch  # noqa: PLC0415
        from transformers import AutoImageProcessor  # noqa: PLC0415

        processor = AutoImageProcessor.from_pretrained(self.folder)
        with torch.inference_mode():
            return unit(
                self.reference.get_image_features(
                    **processor(image, return_tensors="pt", **changed)
                ).pooler_output[0]
                for image in images
            )

    def ours(self, images: list[Image.Image]) -> Vectors:
        preprocess = self.encoder.preprocess
        return self.encoder.encode_images(
            np.stack([preprocess.crop(image, 1, image.width, image.height) for image in images])
        )


def unit(vectors: Any) -> Vectors:
    stacked = np.stack([np.asarray(vector) for vector in vectors])
    return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True))


def least(ours: Vectors, reference: Vectors) -> float:
    return float((ours * reference).sum(axis=1).min())
