"""A checkpoint's image preprocessing: the geometry and the numbers of its image processor."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import ModelUnavailable
from shared.models import JsonObject

# What image processors take where a configuration says nothing: all, and those whose names contain the key.
_DEFAULTS: JsonObject = {
    "do_resize": True,
    "default_to_square": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
}
_DEFAULTS_OF: dict[str, JsonObject] = {
    "CLIP": {
        "size": {"shortest_edge": 224},
        "default_to_square": False,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "resample": Image.Resampling.BICUBIC,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "default_to_square": False,
        "resample": Image.Resampling.BICUBIC,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Resize, centre crop, then (pixel * rescale - mean) / std, each of RGB.

    `size` is the shortest edge in pixels, or the exact (height, width); `crop_size` is (height, width).
    `resample` is one of Pillow's filters. Only the geometry is applied here; the numbers are the encoder's.
    """

    size: int | tuple[int, int]
    crop_size: tuple[int, int] | None
    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float

    @classmethod
    def from_checkpoint(cls, folder: Path, processor: str = "CLIPImageProcessor") -> Self:
        """Read a checkpoint's preprocessing; `processor` is meant where it names no image processor.

        Raises ModelUnavailable if it is missing or not supported.
        """
        config = _processor_config(folder)
        try:
            return cls._from_config(_complete(config, processor))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelUnavailable(
                f"The image preprocessing of the checkpoint in {folder} is not supported: {error}"
            ) from None

    @classmethod
    def _from_config(cls, config: JsonObject) -> Self:
        if not config["do_resize"] or config.get("do_pad"):
            raise ValueError("it does not resize every picture to one shape")
        crop = _shape(config["crop_size"]) if config["do_center_crop"] else None
        preprocess = cls(
            size=_size(config["size"], square=config["default_to_square"]),
            crop_size=crop,
            resample=int(Image.Resampling(config["resample"])),
            mean=_rgb(config["image_mean"]) if config["do_normalize"] else (0.0, 0.0, 0.0),
            std=_rgb(config["image_std"]) if config["do_normalize"] else (1.0, 1.0, 1.0),
            rescale=float(config["rescale_factor"]) if config["do_rescale"] else 1.0,
        )
        smallest = preprocess.size if isinstance(preprocess.size, tuple) else (preprocess.size,) * 2
        if crop is None and isinstance(preprocess.size, int):
            raise ValueError("it keeps the shape of each picture")
        if crop is not None and (crop[0] > smallest[0] or crop[1] > smallest[1]):
            raise ValueError("its crop is larger than the resized picture")
        return preprocess

    @property
    def crop_shape(self) -> tuple[int, int]:
        """Return (height, width) of what `crop` returns."""
        if self.crop_size is not None:
            return self.crop_size
        assert isinstance(self.size, tuple)  # noqa: S101 - _from_config refuses anything else
        return self.size

    def to_json(self) -> JsonObject:
        return asdict(self)

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Invert `to_json`, also after a trip through JSON, which turns tuples into lists."""
        fields: dict[str, Any] = {
            name: tuple(part) if isinstance(part, list) else part for name, part in value.items()
        }
        return cls(**fields)

    def resized(self, height: float, width: float) -> tuple[int, int]:
        """Return (height, width) after resizing, with the rounding of transformers' CLIPImageProcessor."""
        if isinstance(self.size, tuple):
            return self.size
        short, long = sorted((height, width))
        longer = int(self.size * long / short)
        return (longer, self.size) if width <= height else (self.size, longer)

    def crop(self, image: Image.Image, scale: float, width: int, height: int) -> NDArray[np.uint8]:
        """Cut the model's crop, uint8 (*crop_shape, 3), out of an RGB image.

        The image is one of `width` by `height` made `scale` times smaller. The whole resized image is never
        made: Pillow's filters reach past the box, so the pixels are the same, and an image of 1 by 100,000
        pixels costs no more than any other.
        """
        new_height, new_width = self.resized(height, width)
        crop_height, crop_width = self.crop_shape
        top, left = (new_height - crop_height) // 2, (new_width - crop_width) // 2
        x, y = width / new_width / scale, height / new_height / scale
        box = (
            left * x,
            top * y,
            min((left + crop_width) * x, image.width),
            min((top + crop_height) * y, image.height),
        )
        return np.asarray(image.resize((crop_width, crop_height), Image.Resampling(self.resample), box=box))


def _processor_config(folder: Path) -> JsonObject:
    """Read `processor_config.json`, as transformers 5 writes it, or else `preprocessor_config.json`."""
    nested = _read_json(folder / "processor_config.json").get("image_processor")
    config = nested if isinstance(nested, dict) else _read_json(folder / "preprocessor_config.json")
    if not config:
        raise ModelUnavailable(
            f"The checkpoint in {folder} has no preprocessor_config.json, which says how to prepare pictures."
        )
    return config


def _read_json(path: Path) -> JsonObject:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelUnavailable(f"{path} cannot be read as JSON.") from None
    return value if isinstance(value, dict) else {}


def _complete(config: JsonObject, processor: str) -> JsonObject:
    """Add what the image processor takes where its configuration says nothing, or null."""
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or processor
    own = next((defaults for name, defaults in _DEFAULTS_OF.items() if name in str(named)), {})
    stated = {name: value for name, value in config.items() if value is not None}
    complete = _DEFAULTS | own | stated
    needed = ["size", "resample"]
    needed += ["image_mean", "image_std"] if complete["do_normalize"] else []
    needed += ["crop_size"] if complete["do_center_crop"] else []
    if missing := [name for name in needed if name not in complete]:
        raise ValueError(f"{named} is not known here, and it does not say {', '.join(missing)}")
    return complete


def _size(value: Any, *, square: bool) -> int | tuple[int, int]:
    if isinstance(value, dict) and set(value) == {"shortest_edge"}:
        return _side(value["shortest_edge"])
    if isinstance(value, int) and not square:
        return _side(value)
    return _shape(value)


def _shape(value: Any) -> tuple[int, int]:
    if isinstance(value, dict):
        if set(value) != {"height", "width"}:
            raise ValueError(f"its size is {value}")
        return _side(value["height"]), _side(value["width"])
    height, width = value if isinstance(value, list) else (value, value)
    return _side(height), _side(width)


def _side(value: Any) -> int:
    side = int(value)
    if not 1 <= side <= 4096:
        raise ValueError(f"a side of {side} pixels")
    return side


def _rgb(value: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, value if isinstance(value, list) else [value] * 3)
    return red, green, blue
