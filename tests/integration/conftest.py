"""What the modules share: a server of pictures, and a stack unless they need settings of their own."""

from collections.abc import Iterator

import pytest

from tests.image_server import ImageServer
from tests.integration import poisoned
from tests.stack import Stack

MAX_JOBS = 400  # that the stack keeps: more than any module looks back
VOCABULARY = ["zeppelin", "accordion", "lighthouse", "octopus", "cathedral", "tulip"]


class PoisonedStack(Stack):
    """Two fetch workers that read pictures as `image-search` does, but for those that are to kill them."""

    module = poisoned.__name__


@pytest.fixture(scope="module")
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Shared by modules, each of which keeps to its own collections and leaves every role alive."""
    settings = {"FETCH_TIMEOUT_S": "2", "MAX_IMAGE_BYTES": "3000000", "CALLBACK_SECRET": "shh"}
    settings |= {"MAX_JOBS_PER_KEY": str(MAX_JOBS)}
    with Stack(tmp_path_factory.mktemp("stack"), **settings) as running:
        yield running


@pytest.fixture(scope="package")
def small_chunks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same for modules whose few pictures are to be many chunks, which they may break and start again."""
    with Stack(tmp_path_factory.mktemp("chunks"), CHUNK_SIZE="4") as running:
        yield running


@pytest.fixture(scope="package")
def poisoned_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A PoisonedStack with a vocabulary of its own, on which every picture is over NSFW_MAX."""
    folder = tmp_path_factory.mktemp("poisoned")
    vocabulary = folder / "tags.txt"
    vocabulary.write_text("# ours\n" + "\n".join(VOCABULARY), encoding="utf-8")
    settings = {"TAG_VOCABULARY": str(vocabulary), "TAG_MIN_SCORE": "0", "NSFW_MAX": "0", "CHUNK_SIZE": "4"}
    with PoisonedStack(folder, fetch_workers=2, **settings) as running:
        yield running
