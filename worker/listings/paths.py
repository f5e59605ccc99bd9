"""Files of folders: their URLs, and opening them without following a link."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from shared.validation import UNSHOWN

# A URL has a path's characters as they are, but for these, which are percent-encoded: so are bytes that are
# no UTF-8 (in Python lone surrogates), and no two paths have the same URL.
_ENCODED = re.compile(rf"[%?#{UNSHOWN}]")
_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def file_url(path: str) -> str:
    """Return the URL of an absolute path, as Python has it."""
    return "file://" + _ENCODED.sub(lambda found: "".join(f"%{b:02X}" for b in os.fsencode(found[0])), path)


def path_of(url: str) -> str:
    """Return the path that file_url made the URL of."""
    return os.fsdecode(unquote_to_bytes(url.removeprefix("file://")))


def open_without_links(path: Path, flags: int) -> int:
    """Open an absolute path, none of whose parts may be a link; return the descriptor. Raises OSError.

    So what was checked of a path stays true, whoever changes the folders on the way meanwhile.
    """
    *folders, name = path.parts[1:] or (".",)
    at = os.open("/", _THROUGH)
    try:
        for folder in folders:
            within = os.open(folder, _THROUGH, dir_fd=at)
            os.close(at)
            at = within
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)
