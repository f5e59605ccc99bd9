"""What every kind of test needs."""

import gc
from collections.abc import Iterator

import httpx
import pytest

from tests.stack import Stack


@pytest.fixture(autouse=True, scope="module")
def _no_open_files_left() -> Iterator[None]:
    """An API and its Chroma refer to one another: hundreds of open files wait for the collector."""
    yield
    gc.collect()


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the `stack` that a module or a package has of its own."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client
