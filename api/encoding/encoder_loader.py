"""Loading the encoder in the background."""

import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

from shared.embedding.automatic import recorded_model, resolve_auto
from shared.embedding.checkpoints import AUTO
from shared.embedding.encoder import Encoder
from shared.embedding.tagging import caveat_of
from shared.errors import ConfigError, ImageSearchError, ModelNotReady, ModelUnavailable, Unavailable
from shared.ledger.processes import LoadFailure
from shared.services import Services

RETRY_SECONDS = 30.0

log = structlog.get_logger()

LoadEncoder = Callable[[Services, str | None], Encoder]


class EncoderLoader:
    """A daemon thread that loads and warms an encoder, with `again` until it succeeds.

    `tell` is called after each try, when `encoder` or `failure` says how it ended.
    What Encoder.load has refused for good it refuses again at once: that costs nothing and is not logged.
    """

    def __init__(
        self,
        load: Callable[[], Encoder],
        *,
        tell: Callable[[], object] = lambda: None,
        again: bool = True,
        retry_s: float = RETRY_SECONDS,
    ) -> None:
        self._load = load
        self._tell, self._again = tell, again
        self._retry_s = retry_s
        self.encoder: Encoder | None = None
        self.failure: LoadFailure | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="encoder-loader", daemon=True).start()

    def stop(self) -> None:
        """Load no more, and let go of the encoder."""
        self._stopped.set()
        self.encoder = None

    def get(self) -> Encoder:
        """Return the encoder. Raises ModelNotReady while it loads, Unavailable when that failed."""
        encoder, failure = self.encoder, self.failure
        if encoder is not None:
            return encoder
        if failure is None:
            raise ModelNotReady("The model is still being loaded.")
        raise ModelFailed(failure)

    def _run(self) -> None:
        while not self._stopped.is_set():
            wait_s = self._retry_s
            try:
                encoder = self._load()
                encoder.warm()
            except ImageSearchError as error:
                if self.failure is None or error.detail != self.failure.detail:
                    log.error("the model cannot be loaded", detail=error.detail)  # noqa: TRY400
                self.failure = failure_of(error)
                if isinstance(error, Unavailable):  # of what `auto` asks at a start
                    wait_s = min(wait_s, error.retry_after_s)
            except Exception:
                self.failure = LoadFailure("The model cannot be loaded; the server's log says why.", True)
                log.exception("the model cannot be loaded", retry_s=self._retry_s)
            else:
                self.encoder, self.failure = None if self._stopped.is_set() else encoder, None
            self._tell()
            if self.failure is None or not self._again:
                return
            self._stopped.wait(wait_s)


def failure_of(error: ImageSearchError) -> LoadFailure:
    """Return why loading failed; it may succeed later unless the checkpoint, or a setting, is at fault."""
    passing = error.passing if isinstance(error, ModelUnavailable) else isinstance(error, Unavailable)
    return LoadFailure(error.detail, passing)


class ModelFailed(Unavailable):
    """A model that cannot be had now."""

    def __init__(self, failure: LoadFailure) -> None:
        super().__init__(failure.detail)
        self.code = ModelUnavailable.code
        self.failure = failure


def main_name(services: Services) -> str | None:
    """Return the name of the deployment's model; None while that is not decided, or cannot be read."""
    if services.settings.model != AUTO:
        return services.settings.model
    with suppress(ConfigError, Unavailable):
        return recorded_model(services.blobs)
    return None


def load_encoder(services: Services, model: str | None = None) -> Encoder:
    """Load a model; None is the one that the settings ask for. `auto` is looked up, or decided, here."""
    settings = services.settings
    model = model or settings.model
    if model == AUTO:
        model = resolve_auto(services.blobs, services.index.collections)
    encoder = Encoder.load(
        model,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
        one_core_each=True,
    )
    if caveat := caveat_of(encoder, settings):
        log.warning(caveat)
    return encoder
