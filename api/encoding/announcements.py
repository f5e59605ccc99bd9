"""Following announcements: loading what collections will switch to, and saying when it is loaded."""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from api.encoding.loaded_models import LoadedModels
from shared.errors import Unavailable
from shared.index.records import Pointer
from shared.ledger.processes import ModelLedger

PERIOD_SECONDS = 1.0

log = structlog.get_logger()


class Announcements:
    """A daemon thread that tells the ledger, as long as it runs, which models this process has loaded.

    It begins with those of most collections, as many as there are places, lest their first searches wait.
    """

    def __init__(
        self, ledger: ModelLedger, models: LoadedModels, pointers: Callable[[], Sequence[Pointer]]
    ) -> None:
        self._ledger, self._models, self._pointers = ledger, models, pointers
        self._to_load: list[tuple[str, str]] | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="announcements", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        api_id = secrets.token_hex(8)  # containers share host names and process ids
        while not self._stopped.wait(PERIOD_SECONDS):
            try:
                self._prepare()
                announced = self._ledger.announced()
                failed = self._models.announce(announced)
                self._ledger.heartbeat(api_id, self._models.fingerprints(), failed)
            except Unavailable:  # search works without the ledger
                continue
            except Exception:  # without heartbeats nobody would wait for this process
                log.exception("announcement_not_followed")

    def _prepare(self) -> None:
        with suppress(Unavailable):
            if self._to_load is None:
                bound = Counter((one.model, one.fingerprint) for one in self._pointers())
                self._to_load = [one for one, _ in bound.most_common()]
            self._to_load = self._models.prepare(self._to_load)
