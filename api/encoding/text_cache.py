"""A cache of the vectors of texts, so that a repeated query costs only the index.

In this process, so that search does not need Redis. Of more than MAX_TEXTS the least recently used go first;
4,096 texts of 512 dimensions are 8 MB.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.embedding.encoder import Encoder

MAX_TEXTS = 4_096


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A unit vector, float32 (dimension,), read-only; `truncated`: the model read only the text's start."""

    vector: NDArray[np.float32]
    truncated: bool


class TextCache:
    """A cache that threads may share. A text is kept under its model's fingerprint, so models never mix."""

    def __init__(self, most: int = MAX_TEXTS) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], EncodedText] = OrderedDict()
        self._lock = threading.Lock()
        # Of many that ask for the same new text at once, one encodes; nobody waits for another text.
        self._encoding: dict[tuple[str, str], threading.Lock] = {}

    def has(self, model: Encoder, text: str) -> bool:
        return self._find((model.fingerprint, text)) is not None

    def get(self, model: Encoder, text: str) -> EncodedText:
        """Return a text, encoded if need be. Raises as Encoder.encode_texts does; keeps nothing then."""
        key = (model.fingerprint, text)
        if found := self._find(key):
            return found
        with self._lock:
            turn = self._encoding.setdefault(key, threading.Lock())
        try:
            with turn:
                return self._find(key) or self._keep(key, _encode(model, text))
        finally:
            with self._lock:
                self._encoding.pop(key, None)

    def _find(self, key: tuple[str, str]) -> EncodedText | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple[str, str], encoded: EncodedText) -> EncodedText:
        with self._lock:
            self._kept[key] = encoded
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return encoded


def _encode(model: Encoder, text: str) -> EncodedText:
    vector = model.encode_texts([text])[0]
    vector.setflags(write=False)
    return EncodedText(vector, model.truncated(text))
