"""Camera raw is refused as what it is, and nothing else is taken for it."""

import io
import random
import time

import pytest
from PIL import Image

from shared.errors import ItemError
from shared.image_files.camera_raw import camera_raw, directories
from shared.image_files.formats import open_image
from tests.sample_files import samples, save
from tests.tiff_files import PREVIEW, Tags, picture, raw_file, tiff_file


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (raw_file("NIKON CORPORATION"), "Nikon NEF"),
        (raw_file("NIKON CORPORATION", picture(2, 16, 3, 34713)), "Nikon NEF"),
        (raw_file("SONY", picture(32803, 12, 1, 32767)), "Sony ARW"),
        (raw_file("SAMSUNG", picture(32803, 12, 1, 32770), t259=6), "Samsung SRW"),
        (raw_file("EASTMAN KODAK COMPANY", picture(6, 12, 3, 65000)), "Kodak DCR or KDC"),
        (raw_file("SEIKO EPSON CORP.", order=">"), "Epson ERF"),
        (raw_file("Mamiya"), "Mamiya MEF"),
        (raw_file("Hasselblad"), "Hasselblad 3FR"),
        (raw_file("Leaf", picture(), t34310=b"PKTS"), "Leaf MOS"),
        (raw_file("NoName Cam"), ""),
        (tiff_file(picture(32803, 14, 1, 65535, t271="RICOH IMAGING")), "Pentax PEF"),
        (tiff_file(picture(t271="LGE", t50706=b"\1\4\0\0"), PREVIEW), "DNG"),
        (tiff_file(picture(34892, 16, 3, t50706=b"\1\4\0\0")), "DNG"),
        (tiff_file(picture(34892, 16, 3)), ""),
        (tiff_file(picture(t271="GoPro", t50706=b"\1\4\0\0"), PREVIEW), "GoPro GPR"),
        (tiff_file(picture(t50706=b"\1\4\0\0", start=16), PREVIEW, big=True), "DNG"),
        (tiff_file({271: "SAMSUNG", 330: [picture(32803, 12, 1)]}), "Samsung SRW"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(50), "Canon CR3"),
        (b"II\x1a\0\0\0HEAPCCDR\2\0" + bytes(50), "Canon CRW"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(50), "Fujifilm RAF"),
        (b"IIRO\x08\0\0\0" + bytes(50), "Olympus ORF"),
        (b"MMOR\0\0\0\x08" + bytes(50), "Olympus ORF"),
        (b"IIU\0" + raw_file("Panasonic")[4:], "Panasonic RW2"),
        (b"IIU\0" + raw_file("LEICA")[4:], "Leica RWL"),
        (b"IIU\0" + bytes(60), "Panasonic RW2"),
        (b"FOVb\3\0\2\0" + bytes(50), "Sigma X3F"),
        (b"\0MRM\0\0\x0a\x0c" + bytes(50), "Minolta MRW"),
        (b"II*\0\x40\0\0\0IIIICwaR" + bytes(99), "Phase One IIQ"),
    ],
)
def test_it_is_told_by_its_content_and_refused_as_what_it_is(data: bytes, name: str) -> None:
    assert camera_raw(data) == "a camera raw file" + (f" ({name})" if name else "")
    with pytest.raises(ItemError, match="develop it") as refused:
        open_image(data)
    assert refused.value.code == "unsupported_format"


SCANNED: Tags = picture(t271="NIKON", t272="LS-5000", t305="NikonScan")
EDITED: Tags = picture(t271="Canon", t272="EOS R5", t305="Lightroom", t34665=[{0xA302: b"\2\0\2\0\0\1\1\2"}])


@pytest.mark.parametrize(
    "data",
    [
        *samples().values(),
        tiff_file(SCANNED, PREVIEW),
        tiff_file(EDITED, PREVIEW),
        tiff_file({**EDITED, 330: [picture(t254=1), picture(t254=1)]}, PREVIEW),  # a pyramid
        tiff_file(picture(t271="NIKON", t33421=(2, 2), t33422=b"\0\1\1\2"), PREVIEW),  # a camera's own TIFF
        tiff_file(picture(1, 8, 1, t271="Zeiss", t330=[]), PREVIEW),
        save(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0" + raw_file("NIKON")),
        save(Image.new("RGB", (8, 8)), "JPEG") + raw_file("NIKON"),
        b"MMOR is no number, and II neither: words begin so, too" * 20,
        b"",
        b"II*\0",
    ],
)
def test_nothing_else_is_taken_for_it(data: bytes) -> None:
    assert camera_raw(data) is None


def test_directories_that_name_each_other_without_end_are_read_once() -> None:
    wide = tiff_file({**picture(), 330: [{330: [picture()] * 60}] * 60}, PREVIEW)
    nested: Tags = picture()
    for _ in range(60):
        nested = {**picture(), 330: [nested]}
    data = bytearray(raw_file("NIKON", picture()))
    own_place = int.from_bytes(data[4:8], "little")
    link = data.index(b"\x4a\x01\x04\0") + 8
    data[link : link + 4] = own_place.to_bytes(4, "little")
    for hostile, most in ((wide, 16), (tiff_file(nested, PREVIEW), 16), (bytes(data), 1)):
        assert 1 <= len(directories(hostile)) <= most
        assert camera_raw(hostile) is None


def test_a_directory_of_claims_costs_little() -> None:
    """2**32 values of each of 60,000 tags, in the first directory and 16 below it."""
    entry = (330).to_bytes(2, "little") + b"\4\0\xff\xff\xff\xff\x08\0\0\0"
    data = b"II*\0\x08\0\0\0" + (60_000).to_bytes(2, "little") + entry * 60_000
    started = time.process_time()
    assert camera_raw(data) is None
    assert time.process_time() - started < 0.5


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("seed", range(4))
def test_mutations_do_no_harm(seed: int) -> None:
    rng = random.Random(seed)
    sound = [raw_file("NIKON"), raw_file("SONY", order=">"), tiff_file(picture(start=16), PREVIEW, big=True)]
    started = time.process_time()
    for _ in range(300):
        data = bytearray(rng.choice(sound))
        start = rng.choice((0, int.from_bytes(data[4:8], "little") % len(data)))
        for _ in range(rng.randrange(1, 12)):
            data[min(start + rng.randrange(200), len(data) - 1)] = rng.choice((0, 1, 255, rng.randrange(256)))
        whole = bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            open_image(whole).load()
        except ItemError as error:
            assert error.code in {"unsupported_format", "corrupt_image", "not_an_image"}
        except Exception:  # decoding is another's part
            assert camera_raw(whole) is None
    assert time.process_time() - started < 20


def test_a_jpeg_of_any_name_is_a_jpeg() -> None:
    """Some programs write `.nef` and `.dng` files that are JPEGs."""
    assert open_image(samples()["jpeg"]).format == "JPEG"
    assert open_image(save(Image.open(io.BytesIO(samples()["jpeg"])), "JPEG")).format == "JPEG"
