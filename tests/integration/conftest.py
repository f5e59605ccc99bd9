"""What the modules share; each has a `stack` of its own, with the settings that it needs."""

from collections.abc import Iterator

import pytest

from tests.image_server import ImageServer


@pytest.fixture(scope="module")
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server
