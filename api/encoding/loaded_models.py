"""The models that this process has loaded: the deployment's, and those of the collections asked for."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from api.encoding.encoder_loader import RETRY_SECONDS, EncoderLoader, ModelFailed, failure_of
from image_search.models.system import LoadedModel
from shared.embedding.checkpoints import files_of
from shared.embedding.encoder import Encoder
from shared.embedding.serving.downloads import at_hand
from shared.embedding.serving.slots import Slots
from shared.errors import ModelMismatch, ModelNotReady, ModelUnavailable, Unavailable
from shared.ledger.processes import LoadFailure
from shared.metrics.definitions import MODEL_INFO

_MAIN = ""  # the place of the deployment's model, whose name `auto` may leave open until it is loaded


@dataclass(frozen=True, slots=True)
class ModelInProcess:
    """A model that was asked for: its encoder if that is loaded, and why it cannot be if that has failed.

    `name` is None of the deployment's until that is known.
    """

    name: str | None
    encoder: Encoder | None = None
    failure: str | None = None
    is_loading: bool = False


class LoadedModels:
    """At most `most` encoders, loaded in the background; safe to share between threads.

    The deployment's model is loaded at the start, another when a collection that is bound to it is asked for.
    It takes the place of the one that was not used for longest, unless all are in use: then they take turns.
    One that is being loaded keeps its place; one that is yet to be downloaded, or has just failed, has none.
    """

    def __init__(
        self,
        load_main: Callable[[], Encoder],
        load: Callable[[str], Encoder],
        *,
        most: int,
        main_name: Callable[[], str | None] = lambda: None,
        at_hand: Callable[[str], object] = at_hand,
    ) -> None:
        """`main_name` tells the deployment's model before it is loaded; `at_hand` raises till one is here."""
        self._load_main, self._load = load_main, load
        self._main_name, self._at_hand = main_name, at_hand
        self._slots = Slots[EncoderLoader](most)
        self._most = most
        self._failed: dict[str, tuple[LoadFailure, float]] = {}  # and until when it is not tried again
        self._identity: LoadedModel | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            self._start(_MAIN)

    def stop(self) -> None:
        with self._lock:
            for _, loader in self._slots:
                loader.stop()

    def main(self) -> Encoder:
        """Return the deployment's encoder. Raises ModelNotReady while it loads, else Unavailable."""
        return self._get(_MAIN)

    def any(self) -> Encoder | None:
        """Return an encoder that is loaded, whichever; None while the only places change hands.

        Loads none but the deployment's, where nothing is. Raises as `main`, and until that has had its first
        try: another collection's model may be loaded before it.
        """
        with self._lock:
            loaded = [loader.encoder for _, loader in self._slots if loader.encoder is not None]
            loading = [n for n, one in self._slots if one.encoder is None and one.failure is None]
        if self._identity is None and _MAIN in loading:
            return self.main()
        if loaded:
            return loaded[-1]
        return None if self._identity and loading else self.main()

    def identity(self) -> LoadedModel:
        """Return what a new collection is bound to, wherever that is loaded now. Raises as `main`."""
        return self._identity or _identity(self.main())

    def of(self, model: str, fingerprint: str) -> Encoder:
        """Return the encoder that a collection is bound to.

        Raises ModelNotReady while it loads, Unavailable when that failed, and ModelMismatch when other
        weights have its name now.
        """
        if found := self._loaded(model, fingerprint):
            return found
        encoder = self.main() if self._is_main(model, fingerprint) else self._get(model)
        if encoder.fingerprint != fingerprint:
            raise _mismatch(model)
        return encoder

    def _loaded(self, model: str, fingerprint: str) -> Encoder | None:
        """Return the encoder of these weights. Raises ModelMismatch where the name's are still others."""
        others = []
        with self._lock:
            for name, loader in self._slots:
                if loader.encoder is not None and loader.encoder.fingerprint == fingerprint:
                    self._slots.get(name)
                    return loader.encoder
                if loader.encoder is not None and loader.encoder.name == model:
                    others.append((name, loader))
        for name, loader in others:
            if loader.encoder is not None and files_of(model) == loader.encoder.files:
                raise _mismatch(model)
            with self._lock:
                if name != _MAIN and self._is_placed(loader):  # its files may have been put right
                    self._slots.drop(name)
                    loader.stop()
        return None

    def _is_main(self, model: str, fingerprint: str) -> bool:
        """Return whether that is the deployment's model. Raises ModelNotReady while that is not known."""
        if self._identity is not None:
            return self._identity.fingerprint == fingerprint
        if (name := self._main_name()) is not None:
            return name == model
        try:
            return self.main().fingerprint == fingerprint
        except ModelNotReady:
            raise
        except Unavailable:
            return False

    def prepare(self, bound: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Load models, by name and fingerprint, into places that are free; return those yet to be loaded."""
        left = []
        for model, fingerprint in bound:
            with self._lock:
                has_place = self._slots.has_room or any(name == model for name, _ in self._slots)
            try:
                if has_place:
                    self.of(model, fingerprint)
            except ModelNotReady:
                left.append((model, fingerprint))
            except (Unavailable, ModelMismatch):  # whoever asks for it is told
                continue
        return left

    def announce(self, announced: Mapping[str, str]) -> dict[str, LoadFailure]:
        """Load models, names by fingerprints, beside those that are used, until they are announced no more.

        Returns why any cannot be loaded, by its fingerprint.
        """
        own = self._identity.fingerprint if self._identity else None
        with self._lock:
            self._slots.extra = {_MAIN if one == own else name for one, name in announced.items()}
            self._slots.trim(EncoderLoader.stop)
        failed = {}
        for fingerprint, model in announced.items():
            try:
                self.of(model, fingerprint)
            except ModelNotReady:
                continue
            except ModelFailed as error:
                failed[fingerprint] = error.failure
            except (Unavailable, ModelMismatch) as error:
                failed[fingerprint] = failure_of(error)
        return failed

    def fingerprints(self) -> list[str]:
        """List the fingerprints of the models that are loaded."""
        return [one.encoder.fingerprint for one in self.states() if one.encoder is not None]

    def states(self) -> list[ModelInProcess]:
        """List the models that are loaded, are being loaded, or have just failed; the deployment's first."""
        main = self._identity.name if self._identity else self._main_name()
        found = {_MAIN: ModelInProcess(main)}
        with self._lock:
            for name, (failed, _) in self._failed.items():
                found[name] = ModelInProcess(name or main, failure=failed.detail)
            for name, loader in self._slots:
                encoder, failure = loader.encoder, loader.failure
                is_loading = encoder is None and failure is None
                found[name] = ModelInProcess(name or main, encoder, failure and failure.detail, is_loading)
        return list(found.values())

    def _get(self, name: str) -> Encoder:
        with self._lock:
            loader = self._slots.get(name)
        if loader is None:
            self._check(name)
            with self._lock:
                loader = self._slots.get(name) or self._admit(name)
        return loader.get()

    def _check(self, name: str) -> None:
        """Raise Unavailable while a model is not here to be loaded, or that has just failed."""
        if (failed := self._failed.get(name)) and time.monotonic() < failed[1]:
            raise ModelFailed(failed[0])
        try:
            if name != _MAIN:
                self._at_hand(name)
        except ModelUnavailable as error:
            raise ModelFailed(failure_of(error)) from None

    def _admit(self, name: str) -> EncoderLoader:
        if not self._slots.make_room(name, EncoderLoader.stop):
            raise ModelNotReady(
                f"Other collections' models are in use, and this server keeps {self._most} "
                "(IMAGE_SEARCH_MODELS_LOADED): they take turns."
            )
        return self._start(name)

    def _start(self, name: str) -> EncoderLoader:
        def load() -> Encoder:
            with self._lock:
                if self._is_placed(loader):
                    self._slots.hold(name)
            encoder = self._load(name) if name else self._load_main()
            if name == _MAIN:
                one = self._identity = _identity(encoder)
                MODEL_INFO.labels(one.name, one.fingerprint, one.device, one.precision).set(1)
            return encoder

        loader = EncoderLoader(load, tell=lambda: self._settle(name, loader), again=name == _MAIN)
        self._slots.put(name, loader)
        self._slots.hold(name)
        loader.start()
        return loader

    def _settle(self, name: str, loader: EncoderLoader) -> None:
        """Let a model's turn begin when it is loaded; one that failed leaves the place to who asks for it."""
        with self._lock:
            if loader.failure is not None:
                self._failed[name] = loader.failure, time.monotonic() + RETRY_SECONDS
            if not self._is_placed(loader):
                return
            if loader.encoder is not None:
                self._failed.pop(name, None)
                self._slots.put(name, loader)
            elif name == _MAIN:
                self._slots.offer(name)
            else:
                self._slots.drop(name)

    def _is_placed(self, loader: EncoderLoader) -> bool:
        return any(one is loader for _, one in self._slots)


def _identity(encoder: Encoder) -> LoadedModel:
    return LoadedModel.model_validate(encoder, from_attributes=True)


def _mismatch(model: str) -> ModelMismatch:
    return ModelMismatch(
        f"The weights named {model} are not those any more that the collection's vectors were made with: put "
        f"those back in their place, or run `image-search reindex --model {model}` to encode it again."
    )
