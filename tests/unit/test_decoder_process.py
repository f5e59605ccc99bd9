"""The process that hostile files are read in: it says what became of it, and goes on."""

from collections.abc import Iterator

import pytest

from tests.decoder_process import DecoderProcess, decoded
from tests.image_server import make_photo
from tests.unit.deadly import deadly_outcome


@pytest.fixture(scope="module")
def deadly() -> Iterator[DecoderProcess]:
    name = f"{deadly_outcome.__module__}.{deadly_outcome.__name__}"
    with DecoderProcess(name, memory_bytes=2**30, deadline_s=3.0) as decoder:
        yield decoder


@pytest.mark.parametrize(
    ("data", "kind", "detail"),
    [
        (b"", "picture", ""),
        (b"segv", "died", "SIGSEGV"),
        (b"zero", "wrong", "ZeroDivisionError"),
        (b"hang", "timeout", ""),
        (b"grow", "wrong", "MemoryError"),
    ],
)
def test_every_ending_is_told_and_survived(
    deadly: DecoderProcess, data: bytes, kind: str, detail: str
) -> None:
    ending = deadly.read(data)
    assert ending.kind == kind
    assert detail in ending.detail
    assert deadly.read(b"sound").kind == "picture"


def test_the_peak_of_memory_is_that_of_each_file_alone(deadly: DecoderProcess) -> None:
    assert deadly.read(b"large").peak_bytes > 2**25
    assert deadly.read(b"sound").peak_bytes < 2**24


def test_it_reads_as_the_product_does() -> None:
    with DecoderProcess() as decoder:
        files = {"picture": make_photo(1, 64, 48), "not_an_image": b"words", "corrupt_image": b"GIF89a"}
        for kind, data in files.items():
            assert decoder.read(data).kind == decoded(data) == kind
