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

# 1: nothing in it says that the collection had an image. Files without such are still of that format.
FORMAT, PLAIN = 2, 1


def pack(header: JsonObject, records: list[JsonObject], array: NDArray[Any], *, plain: bool = True) -> bytes:
    """Return a file; `plain` if earlier versions understand all of it."""
    assert len(array) in (0, len(records))  # noqa: S101
    buffer = io.BytesIO()
    header_, records_, format_ = (
        _json_bytes(header),
        _json_bytes(records),
        np.uint8(PLAIN if plain else FORMAT),
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
