"""Which archive a file is, by its first bytes: what is none of the pictures that are read may be one."""

from collections.abc import Iterable

_STARTS = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"\x04\x22\x4d\x18": "an LZ4 file",
    b"LZIP\x01": "an lzip file",
    b"\x1f\x9d": "a file of compress",
    b"\x1f\xa0": "a file of compress",
    b"!<arch>\n": "an ar archive",
    b"MSCF\0\0\0\0": "a cabinet archive",
    b"070701": "a cpio archive",
    b"070702": "a cpio archive",
    b"070707": "a cpio archive",
    b"\x60\xea": "an ARJ archive",
    b"xar!": "a xar archive",
    b"MSWIM\0\0\0": "a WIM image",
    b"hsqs": "a SquashFS image",
    b"StuffIt (c)1997-": "a StuffIt archive",
    b"SIT!": "a StuffIt archive",
    b"ALZ\x01": "an ALZ archive",
    b"EGGA": "an EGG archive",
}
# Elsewhere than at the start: where, how, and what.
_MARKS = (
    (7, b"**ACE**", "an ACE archive"),
    (257, b"ustar", "a tar archive"),
    (32_769, b"CD001", "an ISO 9660 image"),
)
_LHA = (b"-lh", b"-lz", b"-pm")
HEAD_BYTES = 32_774  # of a file, enough for archive_name


def archive_name(head: bytes) -> str | None:
    """Return what archive a file is, as `a 7z archive`; None for a file that is none, as far as is known."""
    if head[2:5] in _LHA and head[6:7] == b"-":
        return "an LHA archive"
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    return marked(head, _MARKS)


def marked(data: bytes, marks: Iterable[tuple[int, bytes, str]]) -> str | None:
    """Return what the first of the marks (where, how, what) that a file has says; None if it has none."""
    return next((name for place, mark, name in marks if data.startswith(mark, place)), None)
