"""Connections that land elsewhere than where they were made to, as a hostile network's would."""

from collections.abc import Iterator
from contextlib import contextmanager

import pycurl
import pytest

from shared.download.connections import Connections


def divert(monkeypatch: pytest.MonkeyPatch, port: int, *, but: str = "") -> None:
    """Every connection lands at this port of 127.0.0.1, but for those to `but`, a HOST:PORT."""
    lent = Connections.lent
    others = [f"{but}::"] if but else []

    @contextmanager
    def diverted(self: Connections, host: str, port_asked: int) -> Iterator[pycurl.Curl]:
        with lent(self, host, port_asked) as handle:
            handle.setopt(pycurl.CONNECT_TO, [*others, f"::127.0.0.1:{port}"])
            yield handle

    monkeypatch.setattr(Connections, "lent", diverted)
