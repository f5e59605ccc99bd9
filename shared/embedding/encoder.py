"""Encoding images and texts to vectors of length 1, in batches, from any thread."""

import contextlib
import gc
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.batching.batching import Batching
from shared.embedding.checkpoints import files_of, resolve_model
from shared.embedding.load_failures import caching_failures, check_memory, most_memory
from shared.embedding.towers import (
    TEXTS_AT_ONCE,
    Towers,
    bytes_held,
    choose_device,
    choose_precision,
    device_name,
    one_core_per_call,
    read_checkpoint,
)
from shared.errors import ItemError, ModelUnavailable, Unavailable
from shared.metrics.definitions import GPU_MEMORY, OUT_OF_MEMORY_HALVINGS

if TYPE_CHECKING:
    import torch

    from shared.embedding.towers import Features, Rows

_NORM_TOLERANCE = 1e-3
_MEMORY_READ_SECONDS = 1.0  # at the least: torch walks through its statistics for each number

log = structlog.get_logger()


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Let imports pass by the garbage collector: it goes through all that stays again and again, for 1 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Encoder:
    """One checkpoint on one device, safe to share between threads.

    `name` is what MODEL said, `kind` a key of KINDS, `device` a torch device ("cuda:0"), `device_name` its
    maker's name, `precision` one of fp32, bf16, fp16, int8 (see Towers), `max_tokens` the longest text in
    tokens, both end marks included. `logit_scale` is what the checkpoint multiplies cosines by before a
    softmax: its inverse temperature, 100 in the published CLIP models. Where `logit_bias` is not None, it is
    added then, and a sigmoid takes the softmax's place. `worked_at` is when it last gave vectors, by
    time.monotonic().
    """

    def __init__(
        self, towers: Towers, *, name: str, folder: Path, precision: str, batch_size: int, at_once: int
    ) -> None:
        self.towers = towers
        self.name = name
        self.folder = folder
        self.kind = str(towers.model.config.model_type)
        self.fingerprint = towers.fingerprint
        self.preprocess = towers.preprocess
        self.dimension = towers.dimension
        self.logit_scale = towers.logit_scale
        self.logit_bias = towers.logit_bias
        self.knows_english = towers.kind.knows_english
        self.device = towers.device
        self.device_name = device_name(towers.device)
        self.precision = precision
        self.batch_size = batch_size
        self.max_tokens = towers.max_tokens
        self.files = files_of(name)  # as they were when they were read
        self.worked_at = self._memory_read_at = -math.inf
        self._asked = (name, self.device, precision)
        self._turns = Batching(at_once)
        self._image_turns = Batching(1) if towers.int8 else self._turns
        self._most_texts, self._most_images = TEXTS_AT_ONCE, batch_size

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 64,
        one_core_each: bool = False,
    ) -> Self:
        """Load what `resolve_model(model)` finds; only that call may use the network.

        One call computes at a time, on all cores; with `one_core_each`, on a CPU, as many as there are cores:
        torch then uses one core per call in this whole process, however many encoders it has.

        Raises ModelUnavailable, and ConfigError for a device or precision that is not there. What failed for
        good is not read again until its files change, or ten minutes have passed.
        """
        asked = (model, device, precision)
        with caching_failures(*asked):
            folder = resolve_model(model)
            check_memory(model, folder)
            files = files_of(model)
            with _collector_off():
                device = choose_device(device)
                precision = choose_precision(precision, device)
                read, tokenizer = read_checkpoint(folder, most_memory())
            at_once = one_core_per_call() if one_core_each and device == "cpu" else 1
            towers = Towers(read, tokenizer, folder, device=device, precision=precision, at_once=at_once)
            encoder = cls(
                towers, name=model, folder=folder, precision=precision, batch_size=batch_size, at_once=at_once
            )
            encoder._asked = asked
            if files_of(model) != files:
                raise ModelUnavailable(
                    f"The files of the model {model} changed while it was loaded; it is tried again.",
                    passing=True,
                )
        log.info(
            "model loaded", model=model, fingerprint=encoder.fingerprint, device=device, precision=precision
        )
        return encoder

    def encode_images(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode crops (n, *preprocess.crop_shape, 3) to vectors (n, dimension) of length 1.

        Raises ItemError `encode_error` for the whole call when any vector is not finite, which one image can
        cause in a low precision: encode the crops one at a time to learn which. Raises Unavailable when even
        one image finds no memory.
        """
        return self._of_crops(crops, self.towers.image_features, (self.dimension,))

    def encode_patches(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode crops, as in `encode_images`, to one vector per patch: (n, rows, columns, dimension).

        The vectors have length 1 and lie in the space of `encode_texts`. The method is MaskCLIP's (C. Zhou,
        C. C. Loy, B. Dai, Extract Free Dense Labels from CLIP, ECCV 2022): the last layer's attention is left
        out, so that a patch keeps its own value projection, which goes through the output projection, the
        last normalisation and the visual projection as the image's own vector does. Of a SigLIP, the last
        attention is its pooling head's, which then sees one patch at a time. Raises as `encode_images` does.
        """
        return self._of_crops(crops, self.towers.patch_features, (*self.towers.patches, self.dimension))

    def _of_crops(
        self,
        crops: NDArray[np.uint8],
        features: "Callable[[NDArray[np.uint8]], torch.Tensor]",
        shape: tuple[int, ...],
    ) -> NDArray[np.float32]:
        expected = (*self.preprocess.crop_shape, 3)
        if crops.dtype != np.uint8 or crops.shape[1:] != expected:
            raise ValueError(f"crops are {crops.dtype} {crops.shape}, not uint8 (n, {expected})")

        def compute(calls: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            rows = calls[0] if len(calls) == 1 else np.concatenate(calls)
            return self._in_batches(len(rows), lambda some: features(rows[some]), shape, self.batch_size)

        return self._image_turns.run(shape, crops, compute, self._most_images)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts to vectors (n, dimension) of length 1; what exceeds `max_tokens` is cut off.

        Raises as `encode_images` does.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        tokens = self.towers.tokens(texts)
        places: dict[int, list[int]] = defaultdict(list)
        for place, each in enumerate(tokens):
            places[self.towers.padded_length(each)].append(place)
        for length, some in places.items():
            rows = [tokens[place] for place in some]
            vectors[some] = self._turns.run(length, rows, self._of_tokens, self._most_texts)
        return vectors

    def _of_tokens(self, calls: Sequence[list[list[int]]]) -> NDArray[np.float32]:
        rows = [row for call in calls for row in call]
        shape, most = (self.dimension,), self._most_texts
        return self._in_batches(len(rows), lambda some: self.towers.text_features(rows[some]), shape, most)

    def truncated(self, text: str) -> bool:
        """Return whether `encode_texts` leaves out the end of `text`."""
        return self.towers.is_truncated(text)

    def warm(self) -> None:
        """Run both towers: it proves that they work and takes their first call's cost.

        Where a vector depends on what it is computed with, even by a bit, calls are from then on computed
        alone: pages of one query would be of several. Raises ModelUnavailable, also at the next `load`, where
        the towers do not work.
        """
        crops = np.random.default_rng(0).integers(0, 256, (2, *self.preprocess.crop_shape, 3), np.uint8)
        texts = [f"a photo of {number}" for number in "1234"]
        with caching_failures(*self._asked):
            if not np.array_equal(self.encode_images(crops)[:1], self.encode_images(crops[:1])):
                self._most_images = 1
            if not np.array_equal(self.encode_texts(texts)[:1], self.encode_texts(texts[:1])):
                self._most_texts = 1
        alone = {"images": self._most_images == 1, "texts": self._most_texts == 1}
        if any(alone.values()):
            log.info("vectors here depend on the batch: calls are computed alone", model=self.name, **alone)

    def _in_batches(
        self, count: int, features: "Features", shape: tuple[int, ...], size: int
    ) -> NDArray[np.float32]:
        """Encode `count` rows in batches of `size`; `features` makes `shape` per row."""
        vectors = np.empty((count, *shape), np.float32)
        start = 0
        started: list[tuple[slice, Rows]] = []
        while start < count:
            rows = slice(start, min(start + size, count))
            batch = self.towers.start(features, rows)
            if batch is None:
                size = self._halved(rows.stop - start)
                continue
            # Only now is the batch before waited for: a GPU has the next one while the host reads.
            for earlier, read in started:
                vectors[earlier] = read()
            started = [(rows, batch)]
            start = rows.stop
        for last, read in started:
            vectors[last] = read()
        norms = np.linalg.norm(vectors, axis=-1)
        if not (np.abs(norms - 1) < _NORM_TOLERANCE).all():  # false for NaN too
            raise ItemError("encode_error", f"The model {self.name} gave no finite vector for it.")
        self.worked_at = time.monotonic()
        if self.worked_at - self._memory_read_at >= _MEMORY_READ_SECONDS:
            self._memory_read_at = self.worked_at
            for state, held in bytes_held(self.device).items():
                GPU_MEMORY.labels(self.device, state).set(held)
        return vectors

    def _halved(self, size: int) -> int:
        """Return the next batch size, freeing the cache: by now the failed batch's tensors are gone."""
        if size == 1:
            raise Unavailable(f"The memory of {self.device_name} does not suffice to encode anything now.")
        self.towers.free_cache()
        OUT_OF_MEMORY_HALVINGS.inc()
        log.warning("out of memory, halving the batch", device=self.device, batch_size=size)
        return size // 2
