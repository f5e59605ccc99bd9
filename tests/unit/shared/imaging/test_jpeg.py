"""JPEGs without their end, cut off, of rare coding; and how many pixels one may have."""

import pytest
from PIL import Image

from shared.errors import ItemError
from shared.image_files.jpeg_scans import pixels_end
from shared.imaging.decode import estimate
from tests.decoder_process import DecoderProcess
from tests.sample_files import jpeg_of_planes, samples
from tests.unit.shared.imaging.pictures import CLIP, SAVED, difference, photo, read, save

MIB = 2**20
# Of the second, simplejpeg decodes the pixels; of the others, Pillow does.
SIZES = [(600, 450), (2048, 1536), (1700, 1275)]
KINDS = {
    "baseline": {"quality": 90},
    "progressive": {"quality": 90, "progressive": True},
    "restarts": {"quality": 90, "restart_marker_rows": 2},
    "progressive restarts": {"quality": 90, "progressive": True, "restart_marker_rows": 2},
}
MODES = {"grey": "L", "CMYK": "CMYK"}
ARITHMETIC = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb0043000d090a0b0a080d0b0a0b0e0e0d0f13201513121213271c1e17"
    "202e2931302e292d2c333a4a3e333646372c2d405741464c4e525352323e5a615a50604a51524fffc9000b08002000300101"
    "1100ffcc000600101005ffda0008010100003f00ff009bbbad68752ae5ed625a760f257d8a0077b48a5aac2b9cfd7727e725"
    "07ac7948ffd9"
)


def jpegs(size: tuple[int, int]) -> dict[str, bytes]:
    picture = photo(*size)
    kinds = {name: save(picture, format="JPEG", **options) for name, options in KINDS.items()}
    kinds |= {name: save(picture.convert(mode), format="JPEG") for name, mode in MODES.items()}
    return kinds | {"a scan a colour": jpeg_of_planes(picture)}


def cut_off(data: bytes) -> bool:
    with pytest.raises(ItemError) as caught:
        read(data)
    return caught.value.code == "corrupt_image" and "cut off" in caught.value.detail


@pytest.mark.parametrize("size", SIZES)
def test_all_rows_are_a_picture_whatever_stands_in_the_ends_place(size: tuple[int, int]) -> None:
    for kind, data in jpegs(size).items():
        whole = read(data).pixels
        rows = data[:-2]
        for end in (
            b"",
            b"\xff",
            bytes(64),
            b"\xff" + bytes(64),
            bytes(100_000),
            b"\xff" * 20,
            b"some text",
            b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40,
            samples()["jpeg"],
            b"ab\xff\xe5\x12\x34cd" * 20,
        ):
            assert difference(read(rows + end).pixels, whole) < 1, (kind, end[:9])
        assert difference(read(data + samples()["jpeg"]).pixels, whole) < 1, kind


@pytest.mark.parametrize("size", SIZES)
def test_one_that_lacks_rows_or_scans_is_cut_off(size: tuple[int, int]) -> None:
    for kind, data in jpegs(size).items():
        middle, last = len(data) // 2, data.rindex(b"\xff\xda")
        places = [300, middle, len(data) - 100, len(data) - 10, len(data) - 3, last, last + 6, last + 14]
        if b"\xff\xd3" in data:
            restart = data.rindex(b"\xff\xd3")
            places += [restart, restart + 1, restart + 2]
        for place in places:
            assert cut_off(data[:place]), (kind, place, len(data))
        assert cut_off(data[:middle] + bytes(middle)), kind
        assert cut_off(data[:middle] + bytes(9)), kind


@pytest.mark.parametrize("side", [600, 2048])
def test_a_small_fault_before_is_no_reason_to_refuse_one_without_its_end(side: int) -> None:
    data = save(photo(side, side * 3 // 4), format="JPEG", quality=90, restart_marker_rows=4)
    place = data.index(b"\xff\xd3", 700)
    data = data[:place] + b"\x11" * 9 + data[place:]
    for whole in (data, data[:-1], data[:-2], data[:-2] + bytes(64)):
        assert read(whole).width == side
    assert cut_off(data[: len(data) * 3 // 4])
    assert cut_off(data[: data.rindex(b"\xff\xd2")])


@pytest.mark.parametrize("end", [b"", bytes(1), bytes(500), b"\xff"])
def test_pixels_that_end_in_zeros_keep_them(end: bytes) -> None:
    rows = save(Image.new("RGB", (29, 16), (13, 91, 99)), format="JPEG")[:-2]
    assert rows.endswith(b"\0")
    assert read(rows + end).width == 29
    assert cut_off(rows[:-3] + bytes(1))


def test_what_is_damaged_and_has_its_end_is_not_called_cut_off() -> None:
    data = save(photo(600, 450), format="JPEG", quality=90)
    middle = len(data) // 2
    with pytest.raises(ItemError, match="damaged") as caught:
        read(data[:middle] + b"\xff\xc8" + data[middle:])
    assert caught.value.code == "corrupt_image"


def test_a_whole_one_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.imaging.decode.with_end", lambda _: pytest.fail("it has its end"))
    assert read(samples()["jpeg"] + b"junk").format == "jpeg"


def test_scans_are_needed_until_all_bits_are_there() -> None:
    data = save(photo(600, 450), format="JPEG", progressive=True)
    assert pixels_end(data) == len(data) - 2
    assert pixels_end(data[: data.rindex(b"\xff\xda")]) is None
    assert pixels_end(data[:-2]) == len(data) - 2
    assert pixels_end(b"\xff\xd8") is None
    frame = data.index(b"\xff\xc2")
    assert pixels_end(data[:frame] + b"\xff\xd9" + data[frame:]) is None


def test_arithmetic_coding_is_read_in_one_piece() -> None:
    comment = 65_400  # so that the pixels lie over the end of the first 64 KiB
    data = ARITHMETIC[:2] + b"\xff\xfe" + (comment + 2).to_bytes(2) + bytes(comment) + ARITHMETIC[2:]
    assert data.index(b"\xff\xda") < 2**16 < len(data)
    assert read(data).width == 48
    assert cut_off(data[:-20])


# How many pixels


def too_many(data: bytes, most: int) -> str:
    with pytest.raises(ItemError) as caught:
        read(data, max_pixels=most)
    assert caught.value.code == "too_many_pixels"
    assert "IMAGE_SEARCH_MAX_IMAGE_PIXELS" in caught.value.detail
    return caught.value.detail


@pytest.mark.parametrize("name", ["JPEG", "MPO"])
def test_a_baseline_jpeg_may_have_more_pixels_than_are_decoded(name: str) -> None:
    data = save(Image.new("RGB", (3000, 2000)), format=name)
    assert read(data, max_pixels=2_400_000).width == 3000
    assert too_many(data, 2_399_999) == (
        "3000 x 2000 pixels are more than 2.5 times the limit of 2,399,999 (IMAGE_SEARCH_MAX_IMAGE_PIXELS), "
        "the most of a baseline JPEG"
    )


@pytest.mark.parametrize("options", [{"progressive": True}, {}], ids=["progressive", "a scan a colour"])
def test_one_that_is_decoded_whole_may_not(options: dict[str, bool]) -> None:
    image = Image.new("RGB", (3000, 2000))
    data = save(image, format="JPEG", **options) if options else jpeg_of_planes(image)
    assert read(data, max_pixels=6_000_000).width == 3000
    assert too_many(data, 5_999_999).endswith("; a baseline JPEG may have 2.5 times as many")


@pytest.mark.parametrize("size", [(1500, 1000), (6000, 400), (900, 900)])
def test_one_that_would_not_be_made_smaller_is_halved(size: tuple[int, int]) -> None:
    data = save(photo(*size), format="JPEG", quality=90)
    whole, most = read(data), size[0] * size[1] * 2 // 5
    halved = read(data, max_pixels=most)
    assert (halved.width, halved.height) == size
    assert difference(halved.pixels, whole.pixels) < 4
    assert "2.5 times the limit" in too_many(data, most - 1)


@pytest.mark.parametrize("name", sorted(set(SAVED) - {"jpeg"}))
def test_other_formats_may_not(name: str) -> None:
    data = save(Image.new("RGB", (1000, 800)), **SAVED[name])
    assert too_many(data, 799_999).endswith("the limit of 799,999 (IMAGE_SEARCH_MAX_IMAGE_PIXELS)")


@pytest.mark.parametrize("lacks", [0, 2])
def test_two_hundred_megapixels_take_little_memory(lacks: int) -> None:
    data = save(Image.new("RGB", (16_320, 12_240), "teal"), format="JPEG", optimize=True)
    data = data[: len(data) - lacks]
    with DecoderProcess() as decoder:
        decoder.read(samples()["jpeg"])
        ending = decoder.read(data)
    assert ending.kind == "picture", ending
    assert ending.peak_bytes < estimate(data, CLIP, 10**8) + 16 * MIB < 100 * MIB
