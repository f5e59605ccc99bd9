"""The models of one worker process: which a collection asks for, what is loaded, and how busy that is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog

from shared.config import Settings
from shared.embedding import tagging
from shared.embedding.checkpoint_files import fingerprint, preprocessing
from shared.embedding.checkpoints import files_of, folder_here
from shared.embedding.serving.downloads import at_hand
from shared.embedding.serving.slots import Slots
from shared.errors import (
    CollectionNotFound,
    ImageSearchError,
    IndexUnavailable,
    LedgerUnavailable,
    ModelNotReady,
    ModelUnavailable,
)
from shared.imaging.preprocess import Preprocess
from shared.index.index import Index
from shared.ledger.ledger import Ledger
from shared.metrics.definitions import MODEL_INFO
from shared.models import Claim, JsonObject

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BoundModel:
    """The model that a collection is bound to; of one that is to be made, `fingerprint` is empty."""

    name: str
    fingerprint: str = ""

    @property
    def preprocess(self) -> Preprocess:
        """Return how its pictures are prepared. Raises as at_hand does."""
        return preprocess_of(self.name)

    @property
    def header(self) -> JsonObject:
        """Return what says in a file of crops for which model they are, and how they were prepared."""
        prepared = self.preprocess.to_json()
        return {"model": self.name, "fingerprint": self.fingerprint, "preprocess": prepared}


def preprocess_of(model: str) -> Preprocess:
    return _preprocess(model, tuple(files_of(model)))


@lru_cache(maxsize=64)
def _preprocess(model: str, _: tuple[tuple[str, int, int], ...]) -> Preprocess:
    return preprocessing(at_hand(model))


class CollectionModels:
    """Which model each collection is bound to; `main` is the deployment's, for new collections."""

    def __init__(self, index: Index, main: str) -> None:
        self._index = index
        self._main = BoundModel(main)
        self._main_fingerprint: str | None = None
        self._known: dict[str, BoundModel] = {}

    def of(self, collection: str) -> BoundModel:
        """Return the collection's model, while Chroma is away what it was. Raises IndexUnavailable."""
        try:
            pointer = self._index.collection(collection).pointer
            self._known[collection] = self._here(BoundModel(pointer.model, pointer.fingerprint))
        except CollectionNotFound:
            self._known.pop(collection, None)
            return self._main
        except IndexUnavailable:
            if collection not in self._known:
                raise
        return self._known[collection]

    def _here(self, bound: BoundModel) -> BoundModel:
        """Return a model by the deployment's name if its weights are only there, as once a folder moved."""
        if bound.name != self._main.name:
            with suppress(ModelUnavailable):
                if folder_here(bound.name) is not None:
                    return bound
            with suppress(ModelUnavailable):
                if self._fingerprint_of_main() == bound.fingerprint:
                    return BoundModel(self._main.name, bound.fingerprint)
        return bound

    def _fingerprint_of_main(self) -> str | None:
        if self._main_fingerprint is None and (folder := folder_here(self._main.name)) is not None:
            self._main_fingerprint = fingerprint(folder)
        return self._main_fingerprint


class Encoders:
    """At most MODELS_LOADED encoders: the deployment's, and others when chunks of their collections come.

    Where more models have work than places, they take turns.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self._settings = settings
        self._main = model
        self._slots = Slots[Any](settings.models_loaded)
        try:
            self._slots.put(model, self._load(model))
        except ImageSearchError as error:  # chunks that need it try again
            log.error("process_not_ready", reason=error.detail)  # noqa: TRY400 - the sentence says it

    def of(self, header: JsonObject) -> Any:
        """Return the encoder that a file of crops was made for.

        Raises ModelUnavailable, also when its weights are not those that the collection is bound to, and
        ModelNotReady while it is being downloaded or others have their turn.
        """
        name, bound_to = header.get("model") or self._main, header.get("fingerprint")
        name = next((kept for kept, one in self._slots if one.fingerprint == bound_to), name)
        encoder = self._slots.get(name)
        if encoder is None:
            at_hand(name)
            if not self._slots.make_room(name):
                raise ModelNotReady(
                    f"{name} waits for its turn: MODELS_LOADED is {self._settings.models_loaded}."
                )
            encoder = self._load(name)
            self._slots.put(name, encoder)
        if bound_to and encoder.fingerprint != bound_to:
            if files_of(name) != encoder.files:  # they may have been put right
                self._slots.drop(name)
            raise ModelUnavailable(
                f"This worker has other weights under the name {encoder.name} than the collection is bound "
                "to: put those back in their place, or encode it again with `image-search reindex`."
            )
        return encoder

    def _load(self, name: str) -> Any:
        encoder = _load_encoder(self._settings, name)
        if name == self._main:
            MODEL_INFO.labels(name, encoder.fingerprint, encoder.device, encoder.precision).set(1)
        return encoder


def _load_encoder(settings: Settings, model: str) -> Any:
    from shared.embedding.encoder import Encoder  # noqa: PLC0415 - imports torch, which fetch workers do without

    encoder = Encoder.load(
        model, device=settings.device, precision=settings.precision, batch_size=settings.batch_size
    )
    encoder.warm()
    tagging.prepare(encoder, settings)
    return encoder


class EncoderClock:
    """The times that a process's encoder computes and idles, for the metrics; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_since = clock()

    @contextmanager
    def busy(self, ledger: Ledger, claim: Claim) -> Iterator[None]:
        """Count the block as computing, and as stalled the time before it with chunk and encoder there."""
        begun = self._clock()
        stalled = begun - max(self._free_since, claim.arrived)
        try:
            yield
        finally:
            self._free_since = self._clock()
            with suppress(LedgerUnavailable):
                ledger.workers.add_encoder_seconds(busy=self._free_since - begun, stalled=stalled)
