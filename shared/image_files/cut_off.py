"""Whether a damaged picture's file ends too early."""

from itertools import islice

from shared.errors import ItemError
from shared.image_files.decompression_bombs import MAX_STRIPS
from shared.image_files.jpeg_scans import has_end
from shared.image_files.tiff import strips
from shared.image_metadata.tiff_tags import Directory


def damaged(data: bytes, failure: Exception | None = None) -> ItemError:
    """Return the error of a picture that a decoder refused with `failure`, or that does not even open."""
    if _is_cut_off(data) or "truncated" in str(failure):
        return ItemError("corrupt_image", "the picture is cut off: its file ends too early")
    return ItemError("corrupt_image", "the picture is damaged or incomplete")


def _is_cut_off(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):
        return not has_end(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"GIF8"):
        return not data.endswith(b";")
    return _claimed_end(data) > len(data)


def _claimed_end(data: bytes) -> int:
    """Return where another picture's file ends, as far as its own numbers tell."""
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little")
    return _boxes_end(data) if data[4:8] == b"ftyp" else _tiff_end(data)


def _boxes_end(data: bytes) -> int:
    """Of an AVIF or HEIC: its last box."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16])
        if length < 8:  # 0: to the end of the file
            break
        position += length
    return position


def _tiff_end(data: bytes) -> int:
    """Of a TIFF: its first directory, what that points to, its last strip or tile."""
    first = Directory(data)
    values = (entry.place + entry.size for entry in islice(first.table(), MAX_STRIPS))
    return max([first.end, *values, *(end for _, end in strips(first))])
