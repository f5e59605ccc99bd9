"""What a file is that is none of the pictures that are read, by its content."""

from __future__ import annotations

import codecs
import json
import re
import struct

from shared.image_files.archives import archive_name, marked

# Pictures, but of formats that are refused: their decoders are rare, scriptable, vectorial or unmaintained.
_PICTURES = (
    (0, b"8BPS", "Photoshop"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"icns", "icon"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"gimp xcf", "GIMP"),
    (20, b"GIMP", "GIMP brush"),
    (0, b"DDS ", "DirectDraw surface"),
    (0, b"\xabKTX ", "KTX"),
    (0, b"qoif", "QOI"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance"),
    (0, b"#?RGBE", "Radiance"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"AT&TFORM", "DjVu"),
    (128, b"DICM", "DICOM"),
    (0, b"\xd7\xcd\xc6\x9a", "Windows metafile"),
    (0, b"\1\0\x09\0\0\3", "Windows metafile"),
    (40, b" EMF", "Windows metafile"),
    (0, b"\x01\xda\0\1", "SGI"),
    (0, b"\x01\xda\1\1", "SGI"),
    (0, b"\x01\xda\0\2", "SGI"),
    (0, b"\x01\xda\1\2", "SGI"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\xb1\x68\xde\x3a", "DCX"),
    (0, b"SDPX", "DPX"),
    (0, b"XPDS", "DPX"),
    (0, b"id=ImageMagick", "MIFF"),
    (0, b"\xb6\xa6\xf2\x08", "VIPS"),
    (0, b"\x08\xf2\xa6\xb6", "VIPS"),
    (0, b"Paint Shop Pro Image File", "Paint Shop Pro"),
    (0, b"BLP1", "BLP"),
    (0, b"BLP2", "BLP"),
    (0, b"FTEX", "FTEX"),
    (0, b"DanM", "Microsoft Paint (MSP)"),
    (0, b"LinS", "Microsoft Paint (MSP)"),
    (0, b"\x80\xe8\0\0", "PIXAR"),
    (0, b"\0\0\0\0\0\0\0\x04", "McIDAS"),
    (0, b"Image type: ", "IFUNC (IM)"),
    (2048, b"PCD_", "Photo CD"),
    (522, b"\0\x11\x02\xff\x0c\0", "PICT"),
    (0, b"ZISRAWFILE", "CZI microscope"),
    (0, b"\x89LFP\r\n\x1a\n", "Lytro"),
)
_NETPBM = re.compile(rb"P(?:[1-6]\s+[\d#]|[Ff]\s+\d|7\s+(?:332|[A-Z#]))")
_VIDEO, _SOUND, _PROGRAM = "a video", "a sound file", "a program"
_CONTENTS = (
    (0, b"%PDF-", "a PDF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document of the old kind"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"version https://git-lfs.github.com/", "a pointer of Git LFS"),
    (0, b"\0\5\x16\7", "a resource fork of macOS"),
    (0, b"L\0\0\0\1\x14\2\0", "a Windows shortcut"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (0, b"FLV\1", _VIDEO),
    (0, b"\0\0\1\xba", _VIDEO),
    (0, b"\0\0\1\xb3", _VIDEO),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video or sound file"),
    (4, b"moov", _VIDEO),
    (4, b"mdat", _VIDEO),
    (4, b"wide", _VIDEO),
    (0, b"ID3", _SOUND),
    (0, b"fLaC", _SOUND),
    (0, b"OggS", "a video or sound file"),
    (8, b"AIFF", _SOUND),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"MZ\x90\0", _PROGRAM),
    (0, b"\xcf\xfa\xed\xfe", _PROGRAM),
)
_RIFF = {b"AVI ": _VIDEO, b"WAVE": _SOUND, b"ACON": "an animated cursor", b"CDR": "a CorelDRAW drawing"}
_BRANDS = {
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), _SOUND),
    **dict.fromkeys(
        (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"qt  "), _VIDEO
    ),
    **dict.fromkeys((b"M4V ", b"MSNV", b"dash", b"XAVC", b"f4v ", b"niko", b"mmp4"), _VIDEO),
}
_HEIF_BRANDS = {
    **dict.fromkeys((b"j2ki", b"j2is"), "HEIF of JPEG 2000"),
    **dict.fromkeys((b"avci", b"avcs"), "HEIF of H.264"),
    **dict.fromkeys((b"vvic", b"vvis"), "HEIF of H.266"),
    **dict.fromkeys((b"jpeg", b"jpgs"), "HEIF of JPEG"),
}
_OS2_ICONS = (b"IC", b"PT", b"CI", b"CP")
_HEAD = 4_096
_ELEMENT = re.compile(rb"<(?:!doctype\s+)?(html|head|body|svg)\b", re.IGNORECASE)
_TEXTS = (
    (re.compile(rb"<\?xml\b"), "XML"),
    (re.compile(rb"/\* XPM \*/"), "an X pixmap (XPM), which is a text"),
    (
        re.compile(rb"(/\*.*?\*/\s*)?#define\s+\S*width\s+\d+\s+#define\s+\S*height\s", re.DOTALL),
        "an X bitmap (XBM), which is a text",
    ),
)
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_JSON_BYTES = 2**20


def picture_format(data: bytes) -> str | None:
    """Return the name of a picture's format that is not read, as `JPEG 2000`; None for anything else."""
    if data[4:8] == b"ftyp":
        return _HEIF_BRANDS.get(data[8:12])
    if _NETPBM.match(data):
        return "Netpbm"
    if name := marked(data, _PICTURES):
        return name
    return _os2(data) or _icon(data) or _film(data) or _pcx(data) or _tga(data) or _bare_bitmap(data)


def content_name(data: bytes) -> str | None:
    """Return what else a file is, as `a web page`; None for what is not known."""
    if not data.strip(b"\0"):
        return "zeros and nothing else" if data else "empty"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return _BRANDS.get(brand) or (_VIDEO if brand.startswith((b"3g", b"iso", b"mp4")) else None)
    if data.startswith(b"RIFF"):
        return next((name for kind, name in _RIFF.items() if data.startswith(kind, 8)), None)
    return marked(data, _CONTENTS) or archive_name(data) or _text(data)


def _text(data: bytes) -> str | None:
    head = data[:_HEAD]
    head = head.decode("utf-16", "ignore").encode() if head[:2] in (b"\xff\xfe", b"\xfe\xff") else head
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _CONTROL.search(head):
        return None
    if head.startswith(b"<") and (element := _ELEMENT.search(head)):
        return "an SVG drawing" if element[1].lower() == b"svg" else "a web page"
    if name := next((name for start, name in _TEXTS if start.match(head)), None):
        return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # its last character may be cut off
    except UnicodeDecodeError:
        return None
    return "JSON" if _is_json(data) else "a text" if len(head) > 4 else None


def _is_json(data: bytes) -> bool:
    if len(data) > _JSON_BYTES or data.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _os2(data: bytes) -> str | None:
    """Arrays of bitmaps or icons, and icons and pointers alone."""
    if data.startswith(b"BA") and data[14:16] in (b"BM", *_OS2_ICONS):
        return "bitmap array (BA)"
    return "OS/2 icon" if data[:2] in _OS2_ICONS and data[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0") else None


def _icon(data: bytes) -> str | None:
    """Tell icons and cursors from what else begins with zeros, such as TGA."""
    if len(data) < 22 or data[:4] not in (b"\0\0\1\0", b"\0\0\2\0"):
        return None
    count, size, offset = *struct.unpack_from("<H", data, 4), *struct.unpack_from("<II", data, 14)
    if not count or data[9] not in (0, 255) or not size or not 6 + 16 * count <= offset < 2**31:
        return None
    return "icon" if data[2] == 1 else "cursor"


def _film(data: bytes) -> str | None:
    """FLI and FLC animations."""
    return "FLIC" if data[4:6] in (b"\x11\xaf", b"\x12\xaf") and data[0x14:0x16] == b"\0\0" else None


def _pcx(data: bytes) -> str | None:
    if len(data) < 128 or data[0] != 10 or data[1] not in (0, 2, 3, 4, 5) or data[2] not in (0, 1):
        return None
    left, top, right, bottom = struct.unpack_from("<HHHH", data, 4)
    return "PCX" if data[3] in (1, 2, 4, 8) and left <= right and top <= bottom and data[64] == 0 else None


def _tga(data: bytes) -> str | None:
    """By the mark at its end, which old files lack, or a header that makes sense and has all its pixels."""
    if data.endswith(b"TRUEVISION-XFILE.\0"):
        return "TGA"
    if len(data) < 20:
        return None
    identity, has_map, kind, _, colours, colour_bits, _, _, width, height, bits, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", data
    )
    sound = (
        (has_map, kind & 7) in ((1, 1), (0, 2), (0, 3), (1, 2), (1, 3))
        and kind & ~8 == kind & 7
        and bits in ((8, 16) if kind & 7 != 2 else (15, 16, 24, 32))
        and (colour_bits in (15, 16, 24, 32) if has_map else not colour_bits and not colours)
        and width > 0
        and height > 0
        and not flags & 0xC0
    )
    if not sound:
        return None
    pixels = len(data) - 18 - identity - colours * -(-colour_bits // 8)
    least = width * height * -(-bits // 8)
    return "TGA" if pixels >= (least // 128 if kind & 8 else least) else None


def _bare_bitmap(data: bytes) -> str | None:
    if len(data) < 40 or data[:4] != b"\x28\0\0\0" or data[12:14] != b"\1\0":
        return None
    return (
        "DIB (a BMP without its file header)" if data[14] in (1, 4, 8, 16, 24, 32) and not data[15] else None
    )
