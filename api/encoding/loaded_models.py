"""The models that this process has loaded: the deployment's, and those of the collections asked for."""

import threading
from collections.abc import Callable, Mapping

from api.encoding.encoder_loader import EncoderLoader
from image_search.models.system import LoadedModel
from shared.embedding.encoder import Encoder
from shared.embedding.slots import Slots
from shared.errors import ModelMismatch, ModelNotReady, Unavailable

_MAIN = ""  # the place of the deployment's model, whose name `auto` may leave open until it is loaded


class LoadedModels:
    """At most `most` encoders, loaded in the background; safe to share between threads.

    The deployment's model is loaded at the start, another when a collection that is bound to it is asked for.
    It takes the place of the one that was not used for longest, unless all are in use: then they take turns.
    """

    def __init__(
        self, load_main: Callable[[], Encoder], load: Callable[[str], Encoder], *, most: int
    ) -> None:
        self._load_main, self._load = load_main, load
        self._slots = Slots[EncoderLoader](most)
        self._most = most
        self._identity: LoadedModel | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            self._start(_MAIN, self._load_main)

    def stop(self) -> None:
        with self._lock:
            for _, loader in self._slots:
                loader.stop()

    def main(self) -> Encoder:
        """Return the deployment's encoder. Raises ModelNotReady while it loads, else Unavailable."""
        return self._get(_MAIN, self._load_main)

    def any(self) -> Encoder:
        """Return an encoder that is loaded, whichever. Raises as `main` where none is."""
        with self._lock:
            loaded = [loader.encoder for _, loader in self._slots if loader.encoder is not None]
        return loaded[-1] if loaded else self.main()

    def identity(self) -> LoadedModel:
        """Return what a new collection is bound to, wherever that is loaded now. Raises as `main`."""
        return self._identity or _identity(self.main())

    def of(self, model: str, fingerprint: str) -> Encoder:
        """Return the encoder that a collection is bound to.

        Raises ModelNotReady while it loads, Unavailable when that failed, and ModelMismatch when other
        weights have its name now.
        """
        with self._lock:
            for name, loader in self._slots:
                if loader.encoder is not None and loader.encoder.fingerprint == fingerprint:
                    self._slots.get(name)
                    return loader.encoder
        if self._is_main(fingerprint):
            return self.main()
        encoder = self._get(model, lambda: self._load(model))
        if encoder.fingerprint != fingerprint:
            raise ModelMismatch(
                f"The collection was written by other weights named {model}: put those back in their place, "
                f"or run `image-search reindex --model {model}` to encode it again."
            )
        return encoder

    def _is_main(self, fingerprint: str) -> bool:
        """Return whether that is the deployment's model. Raises ModelNotReady while that is not known."""
        if self._identity is None:
            try:
                self.main()
            except ModelNotReady:
                raise
            except Unavailable:
                return False
        return self._identity is not None and self._identity.fingerprint == fingerprint

    def announce(self, announced: Mapping[str, str]) -> dict[str, str]:
        """Load models, names by fingerprints, beside those that are used, until they are announced no more.

        Returns why any cannot be loaded, by its fingerprint.
        """
        own = self._identity.fingerprint if self._identity else None
        with self._lock:
            self._slots.extra = {_MAIN if one == own else name for one, name in announced.items()}
        failed = {}
        for fingerprint, model in announced.items():
            try:
                self.of(model, fingerprint)
            except ModelNotReady:
                continue
            except (Unavailable, ModelMismatch) as error:
                failed[fingerprint] = error.detail
        return failed

    def fingerprints(self) -> list[str]:
        """List the fingerprints of the models that are loaded."""
        with self._lock:
            return [loader.encoder.fingerprint for _, loader in self._slots if loader.encoder is not None]

    def _get(self, name: str, load: Callable[[], Encoder]) -> Encoder:
        with self._lock:
            loader = self._slots.get(name)
            if loader is None:
                if not self._slots.make_room(name, EncoderLoader.stop):
                    raise ModelNotReady(
                        f"Other collections' models are in use, and this server keeps {self._most} "
                        "(IMAGE_SEARCH_MODELS_LOADED): they take turns."
                    )
                loader = self._start(name, load)
        return loader.get()

    def _start(self, name: str, load: Callable[[], Encoder]) -> EncoderLoader:
        def known() -> Encoder:
            encoder = load()
            if name == _MAIN:
                self._identity = _identity(encoder)
            return encoder

        loader = EncoderLoader(known)
        self._slots.put(name, loader)
        loader.start()
        return loader


def _identity(encoder: Encoder) -> LoadedModel:
    return LoadedModel.model_validate(encoder, from_attributes=True)
