"""Camera raw: what the sensor saw, before it was made a picture. Told by content, never by a file's name.

Most are TIFFs whose first directory is a small preview, which is not what the file is.
"""

from __future__ import annotations

from PIL.ExifTags import Base as Tag

from shared.image_files.archives import marked
from shared.image_metadata.tiff_tags import Directory

# Where, what, and whose.
_MARKS = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"IIRO\x08\0", "Olympus ORF"),
    (0, b"IIRS\x08\0", "Olympus ORF"),
    (0, b"MMOR\0\0", "Olympus ORF"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (0, b"ARRI\x12\x34\x56\x78", "ARRIRAW"),
    (4, b"ftypcrx ", "Canon CR3"),
    (6, b"HEAPCCDR", "Canon CRW"),
    (8, b"CR\x02", "Canon CR2"),
    (25, b"ARECOYK", "Contax RAW"),
)
_MAKERS = {
    "canon": "Canon",
    "nikon": "Nikon NEF",
    "sony": "Sony ARW",
    "pentax": "Pentax PEF",
    "ricoh": "Pentax PEF",
    "samsung": "Samsung SRW",
    "eastman kodak": "Kodak DCR or KDC",
    "kodak": "Kodak DCR or KDC",
    "seiko epson": "Epson ERF",
    "epson": "Epson ERF",
    "mamiya": "Mamiya MEF",
    "leaf": "Leaf MOS",
    "hasselblad": "Hasselblad 3FR",
    "imacon": "Hasselblad 3FR",
    "phase one": "Phase One IIQ",
    "panasonic": "Panasonic RW2",
    "leica": "Leica RWL",
    "gopro": "GoPro GPR",
}
_TIFF_MARKS = (b"*\0", b"\0*", b"+\0", b"\0+", b"U\0")  # also BigTIFF, either way round; Panasonic's raw
_MAX_DIRECTORIES = 16
_PHASE_ONE = ((b"IIII", b"waR"), (b"MMMM", b"Raw"))
_LEAF, _KODAK_RAW = 34310, 65024  # tags that these makers alone write
_SENSOR = frozenset({32803, 34892})  # colour filter array, linear raw
_FILTERS = frozenset({Tag.CFARepeatPatternDim, 33422})  # which colours the filters have
_GREY = frozenset({0, 1})
# Of Kodak, Panasonic, Sony, Samsung, Nikon and Pentax.
_COMPRESSIONS = frozenset({262, 65000, 34316, 32767, 32770, 32772, 34713, 65535})


def camera_raw(data: bytes) -> str | None:
    """Return what a camera raw file is, as `a camera raw file (Nikon NEF)`; None for any other file."""
    name = marked(data, _MARKS)
    if name is None and data[:2] in (b"II", b"MM"):
        name = _by_tags(data)
    return None if name is None else "a camera raw file" + (f" ({name})" if name else "")


def _by_tags(data: bytes) -> str | None:
    """Return the maker and kind, "" where they are unknown; None for what is no raw file."""
    if any(data.startswith(start, 8) and end in data[12:17] for start, end in _PHASE_ONE):
        return "Phase One IIQ"
    found = directories(data)
    if not found:
        return "Panasonic RW2" if data.startswith(b"IIU\0") else None
    make = found[0].text(Tag.Make).lower()
    maker = next((name for start, name in _MAKERS.items() if make.startswith(start)), "")
    if data.startswith(b"IIU\0"):
        return maker or "Panasonic RW2"
    if len(found[0].numbers(Tag.DNGVersion)) == 4:
        return maker if maker == "GoPro GPR" else "DNG"
    of_maker = (make.startswith("leaf") and _LEAF in found[0].entries) or (
        "kodak" in make and _KODAK_RAW in found[0].entries
    )
    return maker if of_maker or any(_is_sensor(one, bool(make)) for one in found) else None


def directories(data: bytes) -> list[Directory]:
    """Return the first directory of a file built as TIFF is, and those below it (SubIFDs).

    The next ones count while none holds a picture. All is bounded: a directory may name others without end,
    or itself.
    """
    found: dict[int, Directory] = {}
    waiting = [Directory(data).place] if data[2:4] in _TIFF_MARKS else []
    while waiting and len(found) < _MAX_DIRECTORIES:
        place = waiting.pop(0)
        if place not in found and (directory := Directory(data, place)).entries:
            found[place] = directory
            waiting += directory.numbers(Tag.SubIFDs, _MAX_DIRECTORIES)
            if not any(Tag.ImageWidth in one.entries for one in found.values()):
                waiting.append(directory.next)
    return list(found.values())


def _is_sensor(directory: Directory, has_make: bool) -> bool:
    colours = directory.number(Tag.PhotometricInterpretation, -1)
    return (
        colours in _SENSOR
        or (has_make and directory.number(Tag.Compression) in _COMPRESSIONS)
        or (
            not _FILTERS.isdisjoint(directory.entries)
            and (colours in _GREY or colours == -1)
            and directory.number(Tag.SamplesPerPixel, 1) == 1
        )
    )
