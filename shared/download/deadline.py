"""How long a download may take."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ItemError

_SETTING = "IMAGE_SEARCH_FETCH_TIMEOUT_S"
_OTHER_CLOCK_S = 0.05


class Deadline:
    """The end of a download: after `silence_s` in which nothing came, and `whole_s` from now in any case.

    Or within a second once `called_off` is set.
    """

    def __init__(self, silence_s: float, whole_s: float, called_off: threading.Event | None = None) -> None:
        self.silence_s = silence_s
        self._whole_s = whole_s
        self._called_off = called_off
        self._end = time.monotonic() + whole_s

    def left(self) -> float:
        """Return the seconds to the end, above zero. Raises a final ItemError past it: `timeout`."""
        if self._called_off is not None and self._called_off.is_set():
            raise ItemError("connect_error", "nobody needs the download any longer", final=True)
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._over()
        return left

    def passed(self) -> ItemError:
        """Return the error of whichever end has come by another clock, which may be a little fast."""
        return self._over() if self._end - time.monotonic() < _OTHER_CLOCK_S else self.silence()

    def silence(self) -> ItemError:
        """Return the error of a host from which nothing came for too long."""
        return ItemError("timeout", f"nothing came for {self.silence_s:g} s ({_SETTING})")

    def _over(self) -> ItemError:
        detail = f"the whole took more than {self._whole_s:g} s ({_SETTING} is {self.silence_s:g})"
        return ItemError("timeout", detail, final=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take nothing off while the block runs."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - before
