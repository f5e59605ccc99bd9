"""What decoding takes: the estimates, how much of it is at work at once, and that it is given back."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import Unavailable
from shared.image_files.jpeg_scans import keeps_coefficients
from shared.imaging import decode as decode_module
from shared.imaging import memory
from shared.imaging.decode import estimate, open_query_image
from shared.imaging.memory import Budget, decoding
from tests.decoder_process import CLIP, ROOT, DecoderProcess
from tests.hostile_files import grey_tiff
from tests.icc_profiles import gray, press, scanner
from tests.sample_files import deep_png, png, samples, save

SIDE = 3_000
PIXELS = SIDE * SIDE
MIB = 2**20
FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("RGB", "JPEG", {}),
    "jpeg, progressive": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "jpeg, progressive CMYK": ("CMYK", "JPEG", {"progressive": True}),
    "png": ("RGB", "PNG", {"compress_level": 1}),
    "png, alpha": ("RGBA", "PNG", {"compress_level": 1}),
    "jpeg, baseline": ("RGB", "JPEG", {"subsampling": 0, "quality": 95}),
    "png, palette": ("P", "PNG", {"compress_level": 1, "transparency": 3}),
    "png, alpha and a profile": ("RGBA", "PNG", {"compress_level": 1, "icc_profile": scanner()}),
    "png, grey and a profile": ("LA", "PNG", {"compress_level": 1, "icc_profile": gray(1.0)}),
    "tiff, inks of a press": ("CMYK", "TIFF", {"compression": "tiff_lzw", "icc_profile": press()}),
    "png, 16 bits": ("I;16", "PNG", {"compress_level": 1}),
    "webp": ("RGB", "WEBP", {"method": 0}),
    "webp, lossless": ("RGBA", "WEBP", {"method": 0, "lossless": True, "quality": 0}),
    "gif": ("P", "GIF", {}),
    "bmp": ("RGB", "BMP", {}),
    "tiff, one strip": ("RGBA", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),
    "tiff, floats": ("F", "TIFF", {"compression": "tiff_lzw"}),
    "tiff, 32 bits": ("I", "TIFF", {"compression": "tiff_lzw"}),
    "png, grey and alpha": ("LA", "PNG", {"compress_level": 1}),
    "avif": ("RGB", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
    "heic": ("RGB", "HEIF", {"quality": 20, "enc_params": {"preset": "ultrafast"}}),
}


def ramp(mode: str, width: int = SIDE, height: int = SIDE) -> Image.Image:
    grey = np.linspace(0, 255, width).astype(np.uint8) ^ np.linspace(0, 255, height).astype(np.uint8)[:, None]
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32) * 1000 - 9000)
    return Image.merge("RGB", [Image.fromarray(grey >> bits) for bits in range(3)]).convert(mode)


@pytest.mark.parametrize("name", FORMATS)
def test_decoding_takes_no_more_than_estimated(name: str) -> None:
    mode, format_name, options = FORMATS[name]
    data = save(ramp(mode), format_name, **options)
    with DecoderProcess() as decoder:
        decoder.read(samples()["png"])  # what the first picture loads is no picture's
        ending = decoder.read(data)
    assert ending.kind == "picture", ending
    # The child holds the file twice, as it comes from the pipe.
    assert ending.peak_bytes < 1.1 * estimate(data, CLIP, PIXELS) + 2 * len(data) + 16 * MIB


def test_a_damaged_png_takes_no_more_than_estimated_either() -> None:
    data = png((8, 8, 8, 2), (b"IDAT", bytes(40 * MIB)))
    with DecoderProcess() as decoder:
        decoder.read(samples()["png"])
        ending = decoder.read(data)
    assert ending.kind == "corrupt_image"
    assert ending.peak_bytes < 1.1 * estimate(data, CLIP, PIXELS) + 2 * len(data) + 16 * MIB


@pytest.mark.parametrize("profile", [None, scanner()], ids=["srgb", "profile"])
def test_a_picture_that_cannot_be_made_smaller_counts_as_often_as_it_is_copied(profile: bytes | None) -> None:
    data = save(ramp("RGB", 450, 60_000), "PNG", exif=_turned(), icc_profile=profile)
    with DecoderProcess() as decoder:
        decoder.read(samples()["png"])
        ending = decoder.read(data)
    assert ending.kind == "picture"
    assert ending.peak_bytes < 1.1 * estimate(data, CLIP, 10**8) + 16 * MIB


@pytest.mark.parametrize("most", [2**12 - 1, 2**16 - 1])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_of_16_bits_counts_as_often_as_it_is_read(mode: str, most: int) -> None:
    values = np.asarray(ramp(mode, 2_000, 2_000)).astype(np.uint32) * most // 255
    data = deep_png(values)
    with DecoderProcess() as decoder:
        decoder.read(samples()["png"])
        ending = decoder.read(data)
    assert ending.kind == "picture"
    assert ending.peak_bytes < 1.1 * estimate(data, CLIP, PIXELS) + 2 * len(data) + 16 * MIB


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def test_all_coefficients_count_where_a_jpeg_has_several_scans() -> None:
    plain, scans = (save(ramp("RGB"), "JPEG", progressive=progressive) for progressive in (False, True))
    assert estimate(scans, CLIP, PIXELS) - estimate(plain, CLIP, PIXELS) > 5 * PIXELS


def test_a_tiles_pixels_count_where_it_is_larger_than_its_picture() -> None:
    data = grey_tiff(8, 8, t322=3_000, t323=3_000)
    assert estimate(data, CLIP, PIXELS) > PIXELS


def _jpeg(frame: int, components: int, first_scan: int) -> bytes:
    def segment(code: int, body: bytes) -> bytes:
        return bytes([0xFF, code]) + (len(body) + 2).to_bytes(2) + body

    tables = segment(0xE1, b"\xff\xda\0\3\1") + segment(0xFE, b"a comment")
    size = bytes([8, 0, 9, 0, 9, components]) + bytes(3 * components)
    return b"\xff\xd8" + tables + segment(frame, size) + segment(0xDA, bytes([first_scan]) + bytes(9))


@pytest.mark.parametrize(
    ("data", "keeps"),
    [
        (_jpeg(0xC0, 3, 3), False),
        (_jpeg(0xC1, 1, 1), False),
        (_jpeg(0xC0, 3, 1), True),  # each colour in a scan of its own, though it is not progressive
        (_jpeg(0xC2, 1, 1), True),
        (_jpeg(0xCA, 3, 3), True),
        (b"\xff\xd8\xff", False),
        (_jpeg(0xC0, 3, 3)[:60], False),
    ],
)
def test_a_jpeg_of_several_scans_is_known_by_its_header(data: bytes, keeps: bool) -> None:
    assert keeps_coefficients(data) is keeps


# The budget


def test_pictures_at_work_are_never_over_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [save(ramp("RGB", side, side), "PNG", compress_level=1) for side in (300, 600, 900, 1200)]
    sizes = {data: estimate(data, CLIP, PIXELS) for data in pictures}
    most = sizes[pictures[2]] + sizes[pictures[0]]  # less than the last alone
    monkeypatch.setattr(memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "_large", Budget(most, 64))
    at_work: list[int] = []
    found: list[tuple[int, int]] = []
    lock, load = threading.Lock(), decode_module._load

    def watched(data: bytes, *others: Any) -> Any:
        with lock:
            at_work.append(sizes[data])
            found.append((sum(at_work), len(at_work)))
        time.sleep(0.01)
        loaded = load(data, *others)
        with lock:
            at_work.remove(sizes[data])
        return loaded

    monkeypatch.setattr(decode_module, "_load", watched)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda data: open_query_image(data, CLIP, PIXELS), pictures * 8))
    assert max(count for _, count in found) > 1
    assert all(total <= most or count == 1 for total, count in found)
    assert max(total for total, _ in found) > most, "one that is larger than all of it goes alone"


def test_no_more_are_at_work_than_there_may_be() -> None:
    budget, at_work, most = Budget(1_000, 3), 0, 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal at_work, most
        with budget.taking(1):
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.01)
            with lock:
                at_work -= 1

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(work, range(18)))
    assert most == 3


def test_who_waits_too_long_is_told_what_to_do_and_leaves_the_queue() -> None:
    budget = Budget(10, 10)
    refused = pytest.raises(Unavailable, match="try again in some seconds")
    with budget.taking(10), refused, budget.taking(1, wait_s=0.01):
        pytest.fail("there was no room")
    with pytest.raises(ZeroDivisionError), budget.taking(10, wait_s=0):
        1 / 0  # noqa: B018
    with budget.taking(99, wait_s=0):
        pass


def test_a_large_picture_is_not_overtaken_for_ever() -> None:
    budget = Budget(10, 10)
    order: list[str] = []

    def take(name: str, size: int) -> None:
        with budget.taking(size):
            order.append(name)

    with budget.taking(5):
        large = threading.Thread(target=take, args=("large", 10))
        large.start()
        while not budget._queue:
            time.sleep(0.001)
        small = threading.Thread(target=take, args=("small", 5))
        small.start()
        small.join(0.05)
        assert order == []
    large.join(10)
    small.join(10)
    assert order == ["large", "small"]


def test_small_pictures_do_not_wait_for_large_ones() -> None:
    with decoding(2**40, wait_s=0):
        assert open_query_image(samples()["png"], CLIP, PIXELS, 0).shape == (224, 224, 3)
        with pytest.raises(Unavailable), decoding(memory.SMALL_BYTES + 1, wait_s=0):
            pass


_HEAP = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shared.imaging.decode import open_query_image
from shared.imaging.memory import release_memory, limit_heap_arenas
from tests.decoder_process import CLIP, _status
small, large = (Path(path).read_bytes() for path in sys.argv[1:])
limit_heap_arenas()
open_query_image(small, CLIP, 10**8)
before, kept = _status("VmRSS"), []
def read(_):
    open_query_image(large, CLIP, 10**8)
    kept.append(bytearray(1000))  # on top of the heap
with ThreadPoolExecutor(16) as pool:
    list(pool.map(read, range(16)))
release_memory()
print(_status("VmRSS") - before, _status("VmHWM") - before)
"""


@pytest.mark.skipif(memory._libc is None, reason="not glibc, whose heap this is about")
@pytest.mark.parametrize(
    ("side", "format_name"), [(5_000, "PNG"), (SIDE, "JPEG")], ids=["large", "many small ones"]
)
def test_the_heap_is_given_back(tmp_path: Path, side: int, format_name: str) -> None:
    options = {"compress_level": 1} if format_name == "PNG" else {}
    data = save(ramp("RGB", side, side), format_name, **options)
    files = {tmp_path / "small": samples()["png"], tmp_path / "large": data}
    for path, content in files.items():
        path.write_bytes(content)
    command = [sys.executable, "-c", _HEAP, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    grown, peak = map(int, done.stdout.split())
    assert grown < max(0.3 * peak, 30 * MIB)
    if format_name == "PNG":
        assert peak > 4 * side * side, "it was not measured"
