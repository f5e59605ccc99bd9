"""From a photo's file to the model's crop, by library and format: core time, and how close the vectors stay.

Every reader decodes to no smaller a picture than fetch needs for the rendition and the crop, with whatever
scaled decoding it has, and leaves the crop to the product. Libraries that are not installed are left out:
`pip install '.[decoders]'`. PyTurboJPEG calls the libjpeg-turbo that ours has, but one that the
system must bring; pillow-simd has no release for any Python that this package runs on.
"""

import importlib
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.baseline import Baseline
from benchmarks.parity import centred_cosines
from benchmarks.results import Result
from shared.embedding.encoder import Encoder
from shared.imaging.decode import RENDITION_SIDE, open_query_image
from shared.imaging.preprocess import Preprocess

ROUNDS = 3
MAX_PIXELS = 100_000_000
# As cameras and websites write them. Pillow and pillow-heif make the files.
FORMATS: Mapping[str, dict[str, Any]] = {
    "JPEG": {"quality": 88},
    "PNG": {"compress_level": 6},
    "WEBP": {"quality": 85, "method": 2},
    "AVIF": {"quality": 75, "speed": 9},
    "HEIF": {"quality": 75},
}
WORTH = 1.3  # what another library must bring to be worth its keep
OURS = "ours"

Pixels = NDArray[np.uint8]
Reader = Callable[[bytes], Pixels]


def measure(checkpoint: Path, photos: Sequence[Path]) -> list[Result]:
    """Medians over the photos and ROUNDS in which all readers of a format take their turns."""
    baseline, encoder = Baseline(checkpoint), Encoder.load(str(checkpoint), precision="fp32")
    readers = _readers(encoder.preprocess)
    results = []
    for name, options in FORMATS.items():
        files = [_file(photo, name, options) for photo in photos]
        reference = np.stack([baseline.embed(Image.open(io.BytesIO(data))) for data in files])
        able = {who: read for who, read in readers.items() if _reads(read, files[0])}
        seconds = _seconds(able, files)
        vectors = {
            who: encoder.encode_images(np.stack([read(data) for data in files])) for who, read in able.items()
        }
        cosines = {who: float(centred_cosines(found, reference).mean()) for who, found in vectors.items()}
        results += _of_format(name, seconds, cosines)
    return results


def _of_format(name: str, seconds: dict[str, float], cosines: dict[str, float]) -> list[Result]:
    fastest = min((taken for who, taken in seconds.items() if who != OURS), default=seconds[OURS])
    results = [
        Result(
            f"{name} to the crop, ours times the fastest other",
            fastest / seconds[OURS],
            goal=1 / WORTH if name == "JPEG" else None,
        ),
        Result(f"{name} to the crop, mean centred cosine of its vector", cosines[OURS], goal=0.998),
    ]
    for who in sorted(seconds, key=seconds.__getitem__):
        results += [
            Result(f"  {name}: {who}", 1 / seconds[who], "pictures/s per core"),
            Result(f"  {name}: {who}, mean centred cosine", cosines[who]),
        ]
    return results


def _file(photo: Path, name: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.open(photo).save(buffer, name, **options)
    return buffer.getvalue()


def _readers(preprocess: Preprocess) -> dict[str, Reader]:
    def cropped(decode: Callable[[bytes], Any]) -> Reader:
        def read(data: bytes) -> Pixels:
            width, height = Image.open(io.BytesIO(data)).size
            image = decode(data)
            image = image if isinstance(image, Image.Image) else Image.fromarray(image)
            return preprocess.crop(image, width / image.width, width, height)

        return read

    readers: dict[str, Reader] = {
        OURS: lambda data: open_query_image(data, preprocess, MAX_PIXELS),
        "Pillow, draft": cropped(_drafted),
    }
    if (opencv := _installed("cv2")) is not None:
        readers["OpenCV, halved"] = cropped(
            lambda data: opencv.imdecode(np.frombuffer(data, np.uint8), opencv.IMREAD_REDUCED_COLOR_2)[
                ..., ::-1
            ]
        )
    if (vips := _installed("pyvips")) is not None:
        vips.cache_set_max(0)
        readers["libvips, its thumbnail"] = cropped(
            lambda data: vips.Image.thumbnail_buffer(data, RENDITION_SIDE).numpy()
        )
    return readers


def _drafted(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (RENDITION_SIDE, RENDITION_SIDE))
    return image.convert("RGB")


def _installed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _reads(read: Reader, data: bytes) -> bool:
    try:
        read(data)
    except Exception:  # each library has its own
        return False
    return True


def _seconds(readers: Mapping[str, Reader], files: Sequence[bytes]) -> dict[str, float]:
    """Core time a picture: that of every thread of this process."""
    taken: dict[str, list[float]] = {who: [] for who in readers}
    for data in [*files] * ROUNDS:
        for who, read in readers.items():
            started = time.process_time()
            read(data)
            taken[who].append(time.process_time() - started)
    return {who: statistics.median(seconds) for who, seconds in taken.items()}
