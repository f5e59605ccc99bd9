"""The one file format for arrays with records beside them: a plain, uncompressed `.npz`.

`array` holds one row a record; `records` is a JSON list as UTF-8 bytes; `header` a JSON object.
"""

import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.models import JsonObject


def pack(header: JsonObject, records: list[JsonObject], array: NDArray[Any]) -> bytes:
    assert len(array) in (0, len(records))  # noqa: S101
    buffer = io.BytesIO()
    np.savez(buffer, header=_json_bytes(header), records=_json_bytes(records), array=array)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[JsonObject, list[JsonObject], NDArray[Any]]:
    """The header, records and array of `pack`. Raises ValueError for other bytes."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return json.loads(bytes(stored["header"])), json.loads(bytes(stored["records"])), stored["array"]


def _json_bytes(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), dtype=np.uint8)
