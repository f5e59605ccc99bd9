"""Readiness: what the app can do now, by the state of everything it depends on."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

from api.encoding.loaded_models import LoadedModels
from image_search import models
from shared.embedding.encoder import Encoder
from shared.errors import ImageSearchError
from shared.services import Services
from shared.storage.blobs import MODEL_KEY

CHECK_TIMEOUT_SECONDS = 4.0
CACHE_SECONDS = 1.0
PROOF_TTL_SECONDS = 10.0  # how long one encode proves that the encoder works


class Probe:
    """The dependencies' states, asked for at once within CHECK_TIMEOUT_SECONDS and kept for CACHE_SECONDS."""

    def __init__(self, services: Services, loaded: LoadedModels) -> None:
        self._services = services
        self._models = loaded
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(max_workers=5, thread_name_prefix="probe")
        self._asked: dict[str, Future[Any]] = {}
        self._found: models.Readiness | None = None
        self._asked_at = 0.0
        self._proven_at = 0.0

    def look(self) -> models.Readiness:
        with self._lock:
            if self._found is None or time.monotonic() - self._asked_at > CACHE_SECONDS:
                self._found = self._ask()
                self._asked_at = time.monotonic()
            return self._found

    def _ask(self) -> models.Readiness:
        parts = self._services
        checks: dict[str, Callable[[], Any]] = {
            "redis": parts.ledger.ping,
            "chroma": parts.index.ping,
            "blobs": lambda: parts.blobs.exists(MODEL_KEY),
            "model": lambda: self._prove_encode(self._models.any()),
            "workers": parts.ledger.workers.seen,
        }
        for name, check in checks.items():
            # A check that hangs is not started again: it would take the others' threads.
            if name not in self._asked or self._asked[name].done():
                self._asked[name] = self._pool.submit(check)
        wait(self._asked.values(), CHECK_TIMEOUT_SECONDS)
        states = {name: _state(answer) for name, answer in self._asked.items()}
        slots = Counter[str]()
        if states.pop("workers").ok:
            for worker in self._asked["workers"].result():
                slots.update(dict.fromkeys(worker.queues, worker.slots))
        ready = states["chroma"].ok and states["model"].ok
        return models.Readiness(ready=ready, workers=models.Workers(**slots), **states)

    def _prove_encode(self, model: Encoder | None) -> None:
        # One that others keep busy proves itself: a text of ours would wait behind theirs.
        if model and time.monotonic() - max(self._proven_at, model.worked_at) > PROOF_TTL_SECONDS:
            model.encode_texts(["a photo"])
            self._proven_at = time.monotonic()


def _state(answer: Future[Any]) -> models.Dependency:
    if not answer.done():
        return models.Dependency(ok=False, detail=f"no answer within {CHECK_TIMEOUT_SECONDS:g} s")
    error = answer.exception()
    if error is None:
        return models.Dependency(ok=True)
    return models.Dependency(
        ok=False, detail=error.detail if isinstance(error, ImageSearchError) else type(error).__name__
    )
