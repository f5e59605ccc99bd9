"""What every kind of test needs."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_open_files_left() -> Iterator[None]:
    """An API and its Chroma refer to one another: hundreds of open files wait for the collector."""
    yield
    gc.collect()
