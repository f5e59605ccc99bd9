"""The models that one encode process has loaded, and the times that its encoder computes and idles."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shared.config import Settings
from shared.embedding import tagging
from shared.errors import LedgerUnavailable, ModelUnavailable
from shared.ledger.ledger import FINAL, Ledger
from shared.models import Claim


class Encoders:
    """The deployment's model, and at most one other: that of the latest reindex, until it has finished."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._settings = settings
        self.main = _load_encoder(settings, model)
        self._other: Any = None

    def of(self, claim: Claim) -> Any:
        """Return the encoder that a claim's job asks for.

        Raises ModelUnavailable, also when its weights are not those that the job was made for.
        """
        encoder = self._named(claim.options.get("model", self.main.name))
        if claim.payload == FINAL:
            self._other = None
        if encoder.fingerprint != claim.options.get("fingerprint", encoder.fingerprint):
            raise ModelUnavailable(
                f"This worker has other weights under the name {encoder.name} than the API when the job "
                "was made: give both the same, and start it again."
            )
        return encoder

    def _named(self, name: str) -> Any:
        if name == self.main.name:
            return self.main
        if self._other is None or self._other.name != name:
            self._other = None  # its memory goes before the next one's is taken
            self._other = _load_encoder(self._settings, name)
        return self._other


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
                ledger.add_encoder_seconds(busy=self._free_since - begun, stalled=stalled)
