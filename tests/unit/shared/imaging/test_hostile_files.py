"""Files made to do harm, and files that were damaged: each ends as a picture or with an item's code.

They are read in a process of their own, which must not die, hang, or grow much beyond the pixels.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import ItemError
from shared.image_files.decompression_bombs import MAX_SCANS, MAX_SEGMENTS, bomb_of
from shared.imaging.decode import decode
from shared.models import Item, ItemState
from shared.storage.arrays import unpack
from shared.storage.vector_log import Addition
from tests.decoder_process import CLIP, DecoderProcess
from tests.hostile_files import (
    BOMBS,
    CORRUPT,
    IMPOSTORS,
    LIARS,
    NO_IMAGE,
    PICTURE,
    POLYGLOTS,
    SIDE,
    TOO_MANY,
    UNSUPPORTED,
    Hostile,
    jpeg_of_scans,
    jpeg_with,
)
from tests.mutations import mutated
from tests.sample_files import png, samples, save
from tests.unit.stages import StubModel, make_services
from tests.unit.worker.stages.test_fetch import PREPROCESS
from worker.stages.fetch import run

# Pillow warns of the damage that these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

ENDINGS = {PICTURE, CORRUPT, NO_IMAGE, TOO_MANY, UNSUPPORTED}
MAX_BYTES_PER_PIXEL = 17  # WebP's; other formats take four to eight
SPARE_BYTES = 100 * 2**20
MUTATIONS = 320
ODD_SHAPES = [
    (name, size)
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
    for size in ((1, 1), (1, 10_000), (10_000, 1))
    if name != "HEIF" or size == (1, 1)  # x265 encodes no others
]


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess() as running:
        yield running


def cases(*tables: dict[str, Hostile]) -> Any:
    return [pytest.param(*hostile, id=name) for table in tables for name, hostile in table.items()]


@pytest.mark.parametrize(("build", "kind"), cases(BOMBS, POLYGLOTS, IMPOSTORS, LIARS))
def test_a_hostile_file_ends_as_it_should_in_bounded_memory(
    build: Any, kind: str, decoder: DecoderProcess
) -> None:
    data = build()
    ending = decoder.read(data)
    assert ending.kind == kind, ending.detail
    pixels = SIDE * SIDE if kind == PICTURE else 0
    assert ending.peak_bytes < MAX_BYTES_PER_PIXEL * pixels + SPARE_BYTES


@pytest.mark.parametrize("name", samples())
def test_a_sample_is_sound_and_cut_off_anywhere_does_no_harm(name: str, decoder: DecoderProcess) -> None:
    data = samples()[name]
    assert decoder.read(data).kind == PICTURE
    for length in {*range(1, 24), *range(24, len(data), max(1, len(data) // 12))}:
        ending = decoder.read(data[:length])
        assert ending.kind in ENDINGS, (length, ending)


@pytest.mark.parametrize("name", samples())
def test_bits_that_flip_do_no_harm(name: str, decoder: DecoderProcess) -> None:
    data = samples()[name]
    for place in range(0, len(data), max(1, len(data) // 24)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        ending = decoder.read(bytes(flipped))
        assert ending.kind in ENDINGS, (place, ending)


@pytest.mark.parametrize("start", range(0, MUTATIONS, 40))
def test_mutations_do_no_harm(start: int, decoder: DecoderProcess) -> None:
    for seed in range(start, start + 40):
        name, data = mutated(seed)
        assert mutated(seed) == (name, data)
        ending = decoder.read(data)
        assert ending.kind in ENDINGS, (seed, name, ending)


@pytest.mark.parametrize(("name", "size"), ODD_SHAPES)
def test_the_oddest_shapes_are_pictures(name: str, size: tuple[int, int]) -> None:
    picture = decode(
        save(Image.new("RGB", size, (200, 30, 30)), name), CLIP, max_pixels=10_000, keep="rendition"
    )
    assert (picture.width, picture.height) == size
    assert picture.pixels.shape == (224, 224, 3)
    assert np.abs(picture.pixels.astype(int) - (200, 30, 30)).max() < 12


@pytest.mark.parametrize("name", [name for name in samples() if "animated" in name or "several" in name])
def test_of_several_pictures_in_a_file_the_first_counts(name: str) -> None:
    alone = read(samples()[name.partition(",")[0]])
    picture = read(samples()[name])
    upright = alone.pixels if picture.height == alone.height else np.rot90(alone.pixels)
    assert np.abs(picture.pixels.astype(int) - upright).mean() < 12


def read(data: bytes) -> Any:
    return decode(data, CLIP, max_pixels=10**6, keep="none")


def test_ycck_is_read_as_the_photo_that_it_was() -> None:
    plain = np.rot90(read(samples()["jpeg"]).pixels)
    assert np.abs(read(samples()["jpeg, YCCK"]).pixels.astype(int) - plain).mean() < 12


@pytest.mark.parametrize("bits", [16, 32])
def test_deep_grey_is_the_same_in_one_strip_and_in_many(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(0, 60_000, 1200 * 1000).reshape(1200, 1000)
    image = Image.fromarray(values.astype(np.uint16 if bits == 16 else np.int32))
    data = save(image, "TIFF")
    whole = decode(data, CLIP, max_pixels=10**7, keep="none").pixels
    monkeypatch.setattr("shared.imaging.to_rgb._STRIP_PIXELS", 7 * 1000)
    strips = decode(data, CLIP, max_pixels=10**7, keep="none").pixels
    assert np.array_equal(whole, strips)
    assert int(whole[-1].mean()) - int(whole[0].mean()) > 150


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK", "RGB"])
def test_strips_make_no_seams(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.open(io.BytesIO(samples()["png"])).convert("RGB").resize((1700, 1600))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    options = {"transparency": 5} if mode == "P" else {}
    data = save(image.convert(mode), "TIFF" if mode == "CMYK" else "PNG", **options)
    whole = decode(data, CLIP, max_pixels=10**7, keep="rendition")
    monkeypatch.setattr("shared.imaging.to_rgb._STRIP_PIXELS", 5000)
    assert np.array_equal(decode(data, CLIP, max_pixels=10**7, keep="rendition").pixels, whole.pixels)


def test_what_encoders_write_is_not_costly() -> None:
    for behind in (b"", bytes(3 * 2**20)):  # as cards leave it
        assert not [name for name, data in samples().items() if bomb_of(data + behind)]
    assert not bomb_of(jpeg_of_scans(MAX_SCANS - 20))
    assert bomb_of(jpeg_of_scans(MAX_SCANS))
    assert not bomb_of(jpeg_with(b"\xff\xe5\0\2" * (MAX_SEGMENTS - 30)))
    assert not bomb_of(samples()["jpeg"] + b"\xff\xda\0\2" * 1000)  # after its end, as a phone's video
    assert not bomb_of(jpeg_with(b"\xff\xfe\xff\xff" + b"\xff\xda\0\2" * 16_383 + b"\0"))  # in a comment


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_strips_are_counted_in_every_kind_of_tiff(order: str, big: bool) -> None:
    head = struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8)))
    entry = struct.pack(order + ("HHQQ" if big else "HHII"), 273, 4, 10**6, 8)
    directory = struct.pack(order + ("Q" if big else "H"), 1) + entry
    data = (b"II" if order == "<" else b"MM") + head + directory
    assert bomb_of(data)
    assert not bomb_of(data[:-1])


def test_a_name_says_nothing_about_a_file(tmp_path: Path) -> None:
    services = make_services(tmp_path, fetch_concurrency=2, keep="none")
    names = {"http://x/photo.png": "jpeg", "http://x/page.html": "webp", "http://x/tool.exe": "avif"}
    services.downloader.pages = {url: samples()[name] for url, name in names.items()}
    job_id = services.job([Item(source=url, url=url) for url in names])
    run(services.real, StubModel(PREPROCESS), services.claim())
    assert services.states(job_id) == [ItemState.FETCHED] * 3
    (key,) = services.blobs.list("scratch/")
    additions = [Addition.from_record(record) for record in unpack(services.blobs.get(key))[1]]
    assert [addition.image.format for addition in additions] == list(names.values())


def test_no_size_at_all_is_corrupt_not_a_crash() -> None:
    for width, height in ((0, 0), (0, 1), (1, 0)):
        with pytest.raises(ItemError) as caught:
            read(png((width, height, 8, 2)))
        assert caught.value.code == CORRUPT
