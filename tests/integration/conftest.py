"""What the modules share; each has a `stack` of its own, with the settings that it needs."""

from collections.abc import Iterator

import httpx
import pytest

from tests.image_server import ImageServer
from tests.stack import Stack


@pytest.fixture(scope="module")
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client
