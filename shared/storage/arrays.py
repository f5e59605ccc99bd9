"""The one file format for arrays with records beside them: a plain, uncompressed `.npz`.

`array` holds one row per record; `records` is a JSON list as UTF-8 bytes; `header` a JSON object; `format` a
number (shared/formats.py). The vector log and scratch consist of such files.
"""

import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.formats import FIELD, check_format
from shared.models import JsonObject

# Each file is of the earliest that can hold it: 2 also that the collection had an image, 3 also that an item
# is an entry of a source.
FORMAT, KNOWN, PLAIN = 3, 2, 1


def pack(header: JsonObject, records: list[JsonObject], array: NDArray[Any], *, needs: int = 0) -> bytes:
    """Return a file of the format that it `needs`, or of the earliest."""
    assert len(array) in (0, len(records))  # noqa: S101
    buffer = io.BytesIO()
    header_, records_, format_ = (
        _json_bytes(header),
        _json_bytes(records),
        np.uint8(max(needs, PLAIN)),
    )
    np.savez(buffer, header=header_, records=records_, array=array, format=format_)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[JsonObject, list[JsonObject], NDArray[Any]]:
    """Return header, records and array of `pack`. Raises NewerFormat; ValueError for other bytes."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        check_format(stored.get(FIELD), FORMAT, "A file of vectors or pixels")
        return json.loads(bytes(stored["header"])), json.loads(bytes(stored["records"])), stored["array"]


def _json_bytes(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), dtype=np.uint8)
