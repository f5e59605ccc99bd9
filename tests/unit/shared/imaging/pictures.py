"""Pictures that tests make, and the shortest ways to have them read."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shared.errors import ItemError
from shared.imaging.decode import DecodedImage, Preprocess, decode
from tests.image_server import make_photo

CLIP = Preprocess(
    size=224,
    crop_size=(224, 224),
    resample=Image.Resampling.BICUBIC,
    mean=(0.48, 0.46, 0.41),
    std=(0.27, 0.26, 0.28),
    rescale=1 / 255,
)
SAVED = {
    "jpeg": {"format": "JPEG", "quality": 95},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "quality": 95},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    "avif": {"format": "AVIF", "quality": 90, "speed": 10},
    "heic": {"format": "HEIF", "quality": 90, "enc_params": {"preset": "ultrafast"}},
}


def read(data: bytes, max_pixels: int = 10_000_000, keep: Any = "rendition") -> DecodedImage:
    return decode(data, CLIP, max_pixels=max_pixels, keep=keep)


def save(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def photo(width: int, height: int, seed: int = 1) -> Image.Image:
    return Image.open(io.BytesIO(make_photo(seed, width, height)))


def difference(left: NDArray[Any], right: NDArray[Any]) -> float:
    return float(np.abs(left.astype(float) - right.astype(float)).mean())


def failure(data: bytes, **options: Any) -> str:
    with pytest.raises(ItemError) as caught:
        read(data, **options)
    assert "Error" not in caught.value.detail
    return caught.value.code


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        read(data)
    return caught.value
