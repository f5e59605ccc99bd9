"""The loop that people write today: download, open, CLIPProcessor, fp32 CLIPModel, one `add` a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Baseline:
    def __init__(self, checkpoint: Path) -> None:
        from transformers import CLIPModel, CLIPProcessor  # noqa: PLC0415 - seconds, and only a run needs it

        self._model = CLIPModel.from_pretrained(checkpoint).eval()
        self._processor = CLIPProcessor.from_pretrained(checkpoint)
        self.embed(Image.new("RGB", (640, 480)))

    def embed(self, image: Image.Image) -> NDArray[np.float32]:
        """A unit vector (dimension,), by the reference path."""
        import torch  # noqa: PLC0415 - the same

        inputs = self._processor(images=image.convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            features = self._model.get_image_features(**inputs)
        vector: NDArray[np.float32] = getattr(features, "pooler_output", features)[0].numpy()
        return vector / np.linalg.norm(vector)

    def ingest(self, urls: Sequence[str], collection: Any) -> None:
        for url in urls:
            image = Image.open(io.BytesIO(httpx.get(url).content))
            collection.add(ids=[url], embeddings=[self.embed(image)])
