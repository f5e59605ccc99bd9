"""Turns Arrow's arrays into lists of plain values: None, text, boolean, number, list or dictionary.

Bytes are left out, and so is the end of a text that is too long for metadata. What JSON has no word for is
text: UUIDs, times and dates in RFC 3339 (years that it cannot say have a sign and six digits, as in
JavaScript). Durations are seconds.
"""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pyarrow as pa
from pyarrow import types

from shared.validation import MAX_METADATA_BYTES

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_CYCLE_DAYS, _CYCLE_YEARS = 146_097, 400  # after which the calendar repeats
_BYTES = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
_TEXT = (types.is_string, types.is_large_string, types.is_string_view)


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether a column has nothing that can be read but bytes."""
    return not any(leaves(kind))


def leaves(kind: pa.DataType) -> Iterator[bool]:
    """Yield for each leaf of a column, in the file's order, whether it can be read: it is not of bytes."""
    if _is_uuid(kind):
        yield True
    elif isinstance(kind, pa.BaseExtensionType):
        yield from leaves(kind.storage_type)
    elif types.is_dictionary(kind):
        yield from leaves(kind.value_type)
    elif types.is_nested(kind):
        for number in range(kind.num_fields):
            yield from leaves(kind.field(number).type)
    else:
        yield not any(is_one(kind) for is_one in _BYTES)


class Cells:
    """Makes lists of arrays; `replaced` counts the texts that were not UTF-8, where U+FFFD now stands."""

    def __init__(self) -> None:
        self.replaced = 0

    def plain(self, array: pa.Array) -> list[Any]:  # noqa: PLR0911 - a line a kind
        """Return the array's values."""
        kind = array.type
        if isinstance(kind, pa.BaseExtensionType):
            return (
                [one and str(one) for one in array.to_pylist()]
                if _is_uuid(kind)
                else self.plain(array.storage)
            )
        if types.is_dictionary(kind):
            values = [*self.plain(array.dictionary), None]
            return [values[-1 if index is None else index] for index in array.indices.to_pylist()]
        if any(is_one(kind) for is_one in _TEXT):
            return self._texts(array)
        if types.is_nested(kind):
            return self._nested(array)
        if types.is_temporal(kind):
            return [one if one is None else _time(one, kind) for one in _whole_numbers(array)]
        if types.is_float16(kind) or types.is_float32(kind):  # 0.3 as it was meant, not 0.30000001192092896
            return array.cast(pa.float32()).cast(pa.string()).cast(pa.float64()).to_pylist()  # type: ignore[no-any-return]
        if types.is_decimal(kind):
            number = float if kind.scale > 0 else int
            return [one if one is None else number(one) for one in array.to_pylist()]
        return array.to_pylist() if any(leaves(kind)) else [None] * len(array)

    def _texts(self, array: pa.Array) -> list[str | None]:
        try:
            texts = array.to_pylist()
        except UnicodeDecodeError:
            known = array.cast(pa.binary_view() if types.is_string_view(array.type) else pa.large_binary())
            texts = [one if one is None else self._text(one) for one in known.to_pylist()]
        return [
            one if one is None or len(one) <= MAX_METADATA_BYTES else one[: MAX_METADATA_BYTES + 1]
            for one in texts
        ]

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.replaced += 1
            return data.decode(errors="replace")

    def _nested(self, array: pa.Array) -> list[Any]:
        kind, valid = array.type, array.is_valid().to_pylist()
        if types.is_struct(kind):
            names = [kind.field(number).name for number in range(kind.num_fields)]
            rows = zip(*map(self.plain, array.flatten()), strict=True) if names else iter([()] * len(array))
            return [
                dict(zip(names, row, strict=True)) if ok else None
                for row, ok in zip(rows, valid, strict=True)
            ]
        whole: list[Any]
        if types.is_map(kind):
            keys, values = self.plain(array.keys), self.plain(array.items)
            whole = [dict(zip(map(str, keys[a:b]), values[a:b], strict=True)) for a, b in _spans(array)]
        elif types.is_fixed_size_list(kind):
            step, members = kind.list_size, self.plain(array.values)
            first = array.offset * step
            whole = [members[at : at + step] for at in range(first, first + len(array) * step, step)]
        else:
            members = self.plain(array.values)
            whole = [members[a:b] for a, b in _spans(array)]
        return [one if ok else None for one, ok in zip(whole, valid, strict=True)]


def _spans(array: pa.Array) -> Iterator[tuple[int, int]]:
    """Yield where the members of each list begin and end."""
    offsets = array.offsets.to_pylist()
    if types.is_list_view(array.type) or types.is_large_list_view(array.type):
        return ((a, a + size) for a, size in zip(offsets, array.sizes.to_pylist(), strict=True))
    return pairwise(offsets)


def _is_uuid(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid"


def _whole_numbers(array: pa.Array) -> list[int | None]:
    return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64()).to_pylist()  # type: ignore[no-any-return]


def _time(count: int, kind: pa.DataType) -> str | float:
    if types.is_date32(kind):
        return _date(count)
    if types.is_date64(kind):
        return _date(count // (_DAY * 1_000))
    per_second = _PER_SECOND[kind.unit]
    if types.is_duration(kind):
        return count / per_second
    seconds, part = divmod(count, per_second)
    days, second = divmod(seconds, _DAY)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if part:
        clock += "." + str(per_second + part)[1:].rstrip("0")
    if types.is_time(kind):
        return clock
    return f"{_date(days)}T{clock}" + ("Z" if kind.tz else "")  # of whatever zone: the file has UTC


@lru_cache(4096)
def _date(days: int) -> str:
    ordinal = days + _EPOCH
    if 1 <= ordinal <= date.max.toordinal():
        return date.fromordinal(ordinal).isoformat()
    cycles, rest = divmod(ordinal - 1, _CYCLE_DAYS)
    known = date.fromordinal(rest + 1)
    return f"{known.year + cycles * _CYCLE_YEARS:+07}-{known.month:02}-{known.day:02}"
