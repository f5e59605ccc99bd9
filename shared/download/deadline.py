"""How long a download may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ItemError

_SETTING = "IMAGE_SEARCH_FETCH_TIMEOUT_S"


class Deadline:
    """The end of a download: after `silence_s` in which nothing came, and `whole_s` from now in any case."""

    def __init__(self, silence_s: float, whole_s: float) -> None:
        self.silence_s = silence_s
        self._whole_s = whole_s
        self._end = time.monotonic() + whole_s

    def left(self) -> float:
        """Return the seconds to the end, above zero. Raises a final ItemError `timeout` past it."""
        left = self._end - time.monotonic()
        if left <= 0:
            detail = f"the download took more than {self._whole_s:g} s ({_SETTING} is {self.silence_s:g})"
            raise ItemError("timeout", detail, final=True)
        return left

    def silence(self) -> ItemError:
        """Return the error of a host from which nothing came for too long."""
        return ItemError("timeout", f"nothing came for {self.silence_s:g} s ({_SETTING})")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take nothing off while the block runs."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - before
