"""Searches at a steady rate beside what a test does, and the check that no collection's vectors are mixed."""

import threading
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import numpy as np

from shared.embedding.encoder import Encoder
from shared.errors import ItemError
from shared.services import Services
from worker.stages.reindex import crop_of

SAME = 0.999  # cosine of one picture's vectors by one model


class Searches:
    """From `__enter__` to `__exit__` `per_second` new texts, one at a time.

    `statuses` counts the answers, 0 where there was none; `others` has the first that were not 200; `times`
    has for each answer when it was asked for (monotonic) and for how many seconds it took.
    """

    def __init__(self, url: str, collection: str, per_second: float = 20.0) -> None:
        self._url, self._collection, self._per_second = url, collection, per_second
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.statuses: Counter[int] = Counter()
        self.others: list[str] = []
        self.models: Counter[str] = Counter()
        self.times: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            due = time.monotonic()
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due = max(due + 1 / self._per_second, time.monotonic() - 1)  # a pause is not made up for
                self._search(http)

    def _search(self, http: httpx.Client) -> None:
        began = time.monotonic()
        asked = {"text": f"text {len(self.times)}", "collection": self._collection, "limit": 3}
        try:
            answer = http.post("/v1/search", json=asked)
        except httpx.TransportError as error:
            self.statuses[0] += 1
            self._note(repr(error))
            return
        self.times.append((began, time.monotonic() - began))
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            self.models[Path(answer.json()["model"]).name] += 1
        else:
            self._note(answer.text)

    def _note(self, text: str) -> None:
        if len(self.others) < 5:
            self.others.append(text)


@lru_cache(maxsize=8)
def _encoder(model: str) -> Encoder:
    return Encoder.load(model, device="cpu")


def mixed(services: Services, collection: str, sample: int = 1_000) -> list[str]:
    """Encodes what was kept of pictures with the collection's model; returns those with another vector."""
    opened = services.index.collection(collection)
    encoder = _encoder(opened.pointer.model)
    assert encoder.fingerprint == opened.pointer.fingerprint
    found = opened.vectors(sorted(opened.ids())[:sample])
    crops = [crop_of(services, collection, image_id, encoder.preprocess) for image_id in found]
    sound = [crop for crop in crops if not isinstance(crop, ItemError)]
    assert len(sound) == len(crops), crops
    if not found:
        return []
    own = encoder.encode_images(np.stack(sound))
    return [
        image_id
        for (image_id, vector), mine in zip(found.items(), own, strict=True)
        if float(vector @ mine) < SAME * float(np.linalg.norm(vector))
    ]
