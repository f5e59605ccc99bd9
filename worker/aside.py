"""Work of minutes beside a process's chunks, so that other jobs need not wait for it."""

import threading
from collections.abc import Callable

import structlog

from shared.errors import ConfigError, Unavailable

BUSY_SECONDS = 2.0
BUSY_SECONDS_EACH = 0.1  # more for each sync: all ask again, and cost other jobs' messages time

log = structlog.get_logger(__name__)


class Aside:
    """Threads, for up to `most` pieces of such work at a time; what a stop breaks off is delivered again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], None]) -> bool:
        """Begin `work`, or return False while there are enough others."""
        self._threads = [one for one in self._threads if one.is_alive()]
        if len(self._threads) == self._most:
            return False
        thread = threading.Thread(target=_logged, args=[work], name="aside", daemon=True)
        self._threads.append(thread)
        thread.start()
        return True


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except (Unavailable, ConfigError) as error:
        log.warning("work_left_to_the_sweeper", reason=error.detail)
