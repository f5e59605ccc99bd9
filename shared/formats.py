"""The format number of everything that is stored: an older one is read, a newer one is refused.

It stands under FIELD; data without the field are of format 1. Format 1 is written without it, so that
versions from before there were formats can read it.
"""

from typing import Any

from shared.errors import NewerFormat

FIELD = "format"


def check_format(found: Any, known: int, what: str) -> None:
    """Raise NewerFormat when `found`, a stored format (None is 1), is above `known`, the latest we read."""
    if int(found or 1) > known:
        raise NewerFormat(
            f"{what} was written by a newer version of image-search (format {found}, this one reads up to "
            f"{known}): update this installation."
        )
