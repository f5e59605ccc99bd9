"""What is said of a file that is none of the pictures that are read, or of a kind of one that is not."""

import gzip
import io
import json
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from shared.image_files.formats import open_image
from tests.sample_files import PNG_START, chunk, samples, save
from tests.unit.shared.imaging.pictures import failure, read, refusal

PLAIN = Image.new("RGB", (16, 16), (200, 30, 30))


def said(data: bytes) -> str:
    """The code and the sentence, without what it is told to do."""
    error = refusal(data)
    return f"{error.code}: {error.detail.partition(' is not read')[0]}"


def bmp(
    *, header: int = 40, bits: int = 24, compression: int = 0, colours: int = 0, body: bytes = b""
) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, 16, 16, 1, bits, compression, 0, 0, 0, colours, 0)
    info = info[:header].ljust(header, b"\0") + body
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + len(info)) + info + bytes(16 * 16 * 8)


MASKS = struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bmp(compression=4), "a BMP that holds a JPEG"),
        (bmp(compression=5, bits=0), "a BMP that holds a PNG"),
        (bmp(compression=11, bits=32), "a BMP that holds uncompressed CMYK"),
        (bmp(header=64, compression=3, bits=1), "an OS/2 BMP of Huffman coding"),
        (bmp(header=64, compression=4), "an OS/2 BMP of 24-bit runs"),
        (bmp(header=16), "a BMP with a header of 16 bytes"),
        (bmp(bits=2), "a BMP of 2 bits a pixel"),
        (bmp(bits=64), "a BMP of 64 bits a pixel"),
        (bmp(bits=32, compression=3, body=MASKS), "a BMP of 32 bits a pixel with unusual colour masks"),
        (bmp(bits=16, compression=6, body=MASKS), "a BMP of 16 bits a pixel with unusual colour masks"),
        (bmp(bits=8, colours=300, body=bytes(1200)), "a BMP with a palette of 300 colours"),
    ],
)
def test_a_bmp_that_is_not_read_is_named(data: bytes, kind: str) -> None:
    assert said(data) == f"unsupported_format: {kind}"


@pytest.mark.parametrize(
    "data", [bmp(bits=7), bmp(header=41), bmp(bits=2)[:-2000], bmp()[:-2000], b"BM" + bytes(20)]
)
def test_a_bmp_that_is_damaged_is_called_damaged(data: bytes) -> None:
    assert failure(data) == "corrupt_image"


def jpeg_frame(marker: int, bits: int = 8, components: int = 3) -> bytes:
    data = samples()["jpeg"]
    place = data.index(b"\xff\xc0")
    frame = struct.pack(">BHHB", bits, 48, 64, components)
    body = frame + b"".join(bytes([one + 1, 0x11, 0]) for one in range(components))
    size = int.from_bytes(data[place + 2 : place + 4])
    return (
        data[:place]
        + bytes([0xFF, marker])
        + struct.pack(">H", len(body) + 2)
        + body
        + data[place + 2 + size :]
    )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (jpeg_frame(0xC1, bits=12), "a JPEG of 12 bits a sample"),
        (jpeg_frame(0xC3, bits=16), "a lossless JPEG of 16 bits a sample"),
        (jpeg_frame(0xCB), "a lossless JPEG of arithmetic coding"),
        (jpeg_frame(0xC5), "a hierarchical JPEG"),
        (jpeg_frame(0xC0, components=2), "a JPEG of 2 components"),
        (jpeg_frame(0xC0, components=5), "a JPEG of 5 components"),
        (jpeg_frame(0xF7), "a JPEG-LS picture"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x30\0\x40\1\1\x11\0" + bytes(99), "a JPEG-LS picture"),
    ],
)
def test_a_jpeg_that_is_not_read_is_named(data: bytes, kind: str) -> None:
    assert said(data) == f"unsupported_format: {kind}"


def test_a_png_of_apple_s_own_is_named() -> None:
    """As Xcode packs them into applications: without a header of zlib, and blue before red."""
    squeeze = zlib.compressobj(wbits=-15)
    pixels = squeeze.compress(bytes(16 * (1 + 16 * 4))) + squeeze.flush()
    ihdr = struct.pack(">IIBBBBB", 16, 16, 8, 6, 0, 0, 0)
    chunks = ((b"CgBI", b"\x50\0\x20\2"), (b"IHDR", ihdr), (b"IDAT", pixels), (b"IEND", b""))
    data = PNG_START + b"".join(chunk(*one) for one in chunks)
    assert said(data) == "unsupported_format: an Apple-optimised PNG (CgBI)"
    assert failure(PNG_START.replace(b"\r\n", b"\n") + samples()["png"][8:]) == "corrupt_image"


@pytest.mark.parametrize(("kind", "name"), [(b"vvc1", "H.266"), (b"j2k1", "JPEG 2000"), (b"avc1", "H.264")])
def test_what_a_heif_holds_is_named(kind: bytes, name: str) -> None:
    assert b"hvc1" in samples()["heic"]
    assert said(samples()["heic"].replace(b"hvc1", kind)) == f"unsupported_format: a HEIF of {name}"


def test_a_film_of_heif_is_named() -> None:
    data = b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + bytes(200)
    assert said(data) == "unsupported_format: a HEIF sequence without a still picture"


TGA = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 8, 24, 0) + bytes(8 * 8 * 3)
CURSOR = b"\0\0\2\0\1\0\x10\x10\0\0\1\0\1\0" + struct.pack("<II", 99, 22) + bytes(99)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (TGA, "TGA"),
        (TGA[:100] + b"\0" * 26 + b"TRUEVISION-XFILE.\0", "TGA"),
        (save(PLAIN, "TGA", compression="tga_rle"), "TGA"),
        (save(PLAIN, "ICO"), "icon"),
        (CURSOR, "cursor"),
        (save(PLAIN, "PCX"), "PCX"),
        (save(PLAIN, "SGI"), "SGI"),
        (save(PLAIN, "PPM"), "Netpbm"),
        (save(PLAIN.convert("1"), "MSP"), "Microsoft Paint (MSP)"),
        (save(PLAIN, "JPEG2000"), "JPEG 2000"),
        (save(PLAIN, "IM"), "IFUNC (IM)"),
        (save(PLAIN, "BMP")[14:], "DIB (a BMP without its file header)"),
        (b"BA" + bytes(12) + save(PLAIN, "BMP"), "bitmap array (BA)"),
        (b"\x59\xa6\x6a\x95" + bytes(60), "Sun raster"),
        (b"II\xbc\x01" + bytes(60), "JPEG XR"),
        (b"\x8bJNG\r\n\x1a\n" + bytes(60), "JNG"),
        (b"FLIF44\0" + bytes(60), "FLIF"),
        (b"AT&TFORM\0\0\0\x40DJVU" + bytes(60), "DjVu"),
        (bytes(128) + b"DICM" + bytes(60), "DICOM"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
        (b"\0\0\0\x18ftypavci" + bytes(60), "HEIF of H.264"),
        (bytes(40) + b" EMF" + bytes(60), "Windows metafile"),
    ],
)  # fmt: skip
def test_a_picture_of_another_format_is_named(data: bytes, name: str) -> None:
    assert said(data) == f"unsupported_format: {name} files are not supported"


PAGE = b"<!DOCTYPE html>\n<html><body><svg></svg></body></html>"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (bytes(5000), "zeros and nothing else"),
        (PAGE, "a web page"),
        (b"\xef\xbb\xbf\n <HTML><head></head></HTML>", "a web page"),
        (b"<!-- made by hand -->\n" + PAGE, "a web page"),
        (PAGE.decode().encode("utf-16"), "a web page"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html><html></html>", "a web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<!-- a -->\n<svg/>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
        (json.dumps({"error": "not found"}).encode(), "JSON"),
        (b"[1, 2]", "JSON"),
        (b"Not found.\n", "a text"),
        ("Nicht gefunden: Grüße".encode(), "a text"),
        (b"{not json", "a text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer of Git LFS"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"\0\0\0\x18ftypisom" + bytes(60), "a video"),
        (b"\0\0\0\x14ftypqt  " + bytes(60), "a video"),
        (b"\0\0\0\x18ftypM4A " + bytes(60), "a sound file"),
        (b"\x1aE\xdf\xa3" + bytes(60), "a video"),
        (b"RIFF\x10\0\0\0AVI LIST", "a video"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "a sound file"),
        (b"ID3\4\0" + bytes(60), "a sound file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60), "an Office document of the old kind"),
        (b"MZ\x90\0" + bytes(60), "a program"),
        (gzip.compress(PAGE, mtime=0), "a gzip file"),
        (save(PLAIN.convert("1"), "XBM"), "an X bitmap (XBM), which is a text"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_named_where_it_is_certain(data: bytes, name: str) -> None:
    assert said(data) == f"not_an_image: the content is {name}, not a picture"


@pytest.mark.parametrize(
    "data", [b"x", b"\0\0\1\0", b"\0\0\2\0" + bytes(60), b"\x0a\5\1\x08", b"\x93\x12\x88" * 99]
)
def test_what_is_not_known_is_not_said_to_be_anything(data: bytes) -> None:
    assert said(data) == "not_an_image: the content is no picture, or of a format that is not known"


def test_what_stands_behind_a_picture_does_not_matter() -> None:
    for data in (samples()["jpeg"], samples()["png"], samples()["tiff"]):
        assert read(data + b"TRUEVISION-XFILE.\0").pixels.any()


def test_names_are_found_in_little_time_whatever_the_content() -> None:
    for data in (
        b"<" * 10**6,
        b"/*" * 10**6,
        b"[" * 10**6,
        b"#define " * 10**5,
        b"\xff\xd8" + b"\xff\xc4\0\2" * 10**5,
    ):
        with io.BytesIO(data) as file:
            assert refusal(file.read()).code in {"not_an_image", "corrupt_image", "unsupported_format"}


def test_every_sample_is_opened() -> None:
    def name(data: bytes) -> Any:
        return open_image(data).format

    assert {sample: name(data) for sample, data in samples().items() if not name(data)} == {}
