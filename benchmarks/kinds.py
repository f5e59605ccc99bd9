"""How close each kind of model stays to transformers' own processor and model class, at its real shape.

With random weights all vectors are nearly their mean, so cosines are those of what is left without it: a
wrong text or picture then has one of about 0.
"""

import gc
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.parity import centred_cosines
from benchmarks.random_checkpoint import Shape, make_random_checkpoint
from benchmarks.results import Result, show
from shared.embedding.encoder import Encoder
from shared.errors import ConfigError

SHAPES: tuple[Shape, ...] = (
    "ViT-B/32",
    "MetaCLIP 2 B/32",
    "SigLIP B/16",
    "SigLIP 2 B/16",
    "Chinese-CLIP B/16",
    "AltCLIP",
)
TEXTS = [
    "",
    "a",
    "red car",
    "μια κόκκινη ομπρέλα",
    "красная машина стоит на улице",
    "قطة سوداء تنام على الطاولة الخشبية",
    "रात में गीली सड़क पर लाल कार",
    "夜の濡れた道にある赤い車、木のテーブルの上で眠る黒い猫",
    "🎉 two black cats sleep on the old wooden table, and a fox jumps over the lazy dog",
    "the quick brown fox jumps over the lazy dog " * 30,
]
GOALS = {"fp32": 0.999, "bf16": None, "int8": None}

Vectors = NDArray[np.float32]


def measure(work: Path, photos: list[Path]) -> list[Result]:
    """Least and mean cosine of images and texts, by kind and precision, of a few photos and ten texts.

    With int8, texts are in what `auto` means: only the image tower has an int8 form.
    """
    images = [Image.open(photo).convert("RGB") for photo in photos]
    results = []
    for shape in SHAPES:
        folder = work / "checkpoint"
        make_random_checkpoint(folder, shape=shape)
        found = _of_shape(shape, folder, images)
        show(found)  # each takes minutes, and a later one may break
        results += found
        shutil.rmtree(folder)
    return results


def _of_shape(shape: str, folder: Path, images: list[Image.Image]) -> list[Result]:
    expected = {"image": _reference_images(folder, images), "text": _reference_texts(folder, TEXTS)}
    others = np.roll(expected["text"], 1, axis=0)
    wrong = float(centred_cosines(others, expected["text"]).max())
    results = [Result(f"{shape}, a wrong text at most", wrong, goal=0.9, most=True)]
    for precision, goal in GOALS.items():
        try:
            encoder = Encoder.load(str(folder), device="cpu", precision=precision)
        except ConfigError as error:
            print(f"{shape}, {precision}: left out. {error.detail}")
            continue
        sizes = [(image, 1, image.width, image.height) for image in images]
        ours = {"image": encoder.encode_images(np.stack([encoder.preprocess.crop(*size) for size in sizes]))}
        ours["text"] = encoder.encode_texts(TEXTS)
        for what, vectors in ours.items():
            cosines = centred_cosines(vectors, expected[what])
            for name, value in (("least", cosines.min()), ("mean", cosines.mean())):
                results.append(
                    Result(f"{shape}, {precision}, {what}, {name} cosine", float(value), goal=goal)
                )
        del encoder
        gc.collect()
    return results


def _reference_images(folder: Path, images: list[Image.Image]) -> Vectors:
    import torch  # noqa: PLC0415 - seconds to import
    from transformers import AutoImageProcessor, AutoModel  # noqa: PLC0415

    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = processor(images, return_tensors="pt")
        return _unit(model.get_image_features(**inputs).pooler_output)


def _reference_texts(folder: Path, texts: list[str]) -> Vectors:
    """One text at a time, as the models' documentation says."""
    import torch  # noqa: PLC0415
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    siglip = model.config.model_type == "siglip"
    longest = {"siglip": 64, "clip": 77, "metaclip_2": 77}.get(model.config.model_type, 512)
    vectors = []
    for text in texts:
        inputs = tokenizer(
            text.lower() if siglip else text,
            padding="max_length" if siglip else False,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        )
        if siglip:
            inputs.pop("attention_mask", None)
        with torch.inference_mode():
            vectors.append(model.get_text_features(**inputs).pooler_output[0])
    return _unit(torch.stack(vectors))


def _unit(features: Any) -> Vectors:
    return np.asarray(features / features.norm(dim=-1, keepdim=True), np.float32)
