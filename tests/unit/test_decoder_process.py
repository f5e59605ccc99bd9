"""The process that hostile files are read in: it says what became of it, and goes on."""

from collections.abc import Iterator

import pytest

from tests.decoder_process import DecoderProcess, decoded
from tests.image_server import make_photo
from tests.unit.crashing import crashing_outcome


@pytest.fixture(scope="module")
def crashing_decoder() -> Iterator[DecoderProcess]:
    name = f"{crashing_outcome.__module__}.{crashing_outcome.__name__}"
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
    crashing_decoder: DecoderProcess, data: bytes, kind: str, detail: str
) -> None:
    ending = crashing_decoder.read(data)
    assert ending.kind == kind
    assert detail in ending.detail
    assert crashing_decoder.read(b"sound").kind == "picture"


def test_the_peak_of_memory_is_that_of_each_file_alone(crashing_decoder: DecoderProcess) -> None:
    assert crashing_decoder.read(b"large").peak_bytes > 2**25
    assert crashing_decoder.read(b"sound").peak_bytes < 2**24


def test_it_reads_as_the_product_does() -> None:
    with DecoderProcess() as decoder:
        files = {"picture": make_photo(1, 64, 48), "not_an_image": b"words", "corrupt_image": b"GIF89a"}
        for kind, data in files.items():
            assert decoder.read(data).kind == decoded(data) == kind
