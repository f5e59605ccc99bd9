"""The contract's rules for metadata, the same for whatever brings it: a request, or a row of a file."""

import math
from collections.abc import Iterator
from typing import Any

from shared.errors import FieldError
from shared.index.filters import METADATA_NAME, RESERVED_NAMES

MAX_METADATA = 32


def pointer(*parts: object) -> str:
    """An RFC 6901 pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1")[:200] for part in parts)


def metadata_faults(metadata: dict[str, Any], *prefix: object) -> Iterator[FieldError]:
    """What breaks the contract's rules for metadata, each under a pointer below `prefix`."""
    if len(metadata) > MAX_METADATA:
        message = f"has {len(metadata)} values; at most {MAX_METADATA} are allowed"
        yield {"pointer": pointer(*prefix), "message": message}
        return
    for name, value in metadata.items():
        if fault := _name_fault(name) or _value_fault(value):
            yield {"pointer": pointer(*prefix, name), "message": fault}


def _name_fault(name: str) -> str | None:
    if not METADATA_NAME.fullmatch(name):
        return "a metadata name is a letter, then at most 62 letters, digits or underscores"
    if name in RESERVED_NAMES:
        return f"{name} is the name of a built-in field"
    return None


def _value_fault(value: object) -> str | None:
    match value:
        case str() | bool():
            return None
        case int():
            return None if -(2**63) <= value < 2**63 else "an integer must fit in 64 bits"
        case float():
            return None if math.isfinite(value) else "a number must be finite"
        case list() if all(isinstance(member, str) for member in value):
            return None
    return "must be a string, a number, a boolean or a list of strings"
