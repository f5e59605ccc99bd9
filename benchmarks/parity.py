"""How close the fast decoding and low precision stay to the reference path."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.baseline import Baseline
from benchmarks.results import Result
from shared.embedding.encoder import Encoder
from shared.imaging.decode import decode

MAX_PIXELS = 100_000_000


def measure(checkpoint: Path, photos: list[Path], *, centred: bool, precision: str = "auto") -> list[Result]:
    """Cosine similarity of the product's embeddings to CLIPProcessor and fp32 CLIPModel on the same files.

    `centred`: see `centred_cosines`.
    """
    baseline, encoder = Baseline(checkpoint), Encoder.load(str(checkpoint), precision=precision)
    files = [photo.read_bytes() for photo in photos]
    reference = np.stack([baseline.embed(Image.open(io.BytesIO(data))) for data in files])
    crops = [
        decode(data, encoder.preprocess, max_pixels=MAX_PIXELS, keep="rendition").pixels for data in files
    ]
    ours = encoder.encode_images(np.stack(crops))
    cosines = centred_cosines(ours, reference) if centred else (ours * reference).sum(axis=1)
    label = f"embedding parity ({'centred, ' if centred else ''}{encoder.precision})"
    return [
        Result(f"{label}, mean cosine", float(cosines.mean()), goal=0.998),
        Result(f"{label}, least cosine", float(cosines.min()), goal=0.98),
    ]


def centred_cosines(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Row by row, without the reference's mean: all vectors of a random checkpoint are nearly that."""
    a, b = vectors - reference.mean(axis=0), reference - reference.mean(axis=0)
    cosines: NDArray[np.float32] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines
