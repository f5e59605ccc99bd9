"""The format of what is stored: an older one is read, a newer one is refused.

Whatever is stored says its format under FIELD; what says nothing is of format 1, from before there were any.
Format 1 is written so that versions from before can read it, too.
"""

from typing import Any

from shared.errors import NewerFormat

FIELD = "format"


def check_format(found: Any, known: int, what: str) -> None:
    """Raises NewerFormat when `found`, a number or None, is above `known`, the latest that can be read."""
    if int(found or 1) > known:
        raise NewerFormat(
            f"{what} was written by a newer version of image-search (format {found}, this one reads up to "
            f"{known}): update this installation."
        )
