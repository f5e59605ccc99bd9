"""Parsing `filters` of a request's JSON into a tree of conditions."""

import math
from collections.abc import Mapping, Sequence

from shared.errors import FieldError, InvalidRequest
from shared.filters.conditions import RANGES, And, In, Not, Or, Range, Scalar, Where, WithinRadius, kind_of
from shared.rfc3339 import parse_rfc3339
from shared.urls.redaction import redacted
from shared.validation import FIELDS, METADATA_NAME, Kind, is_unicode
from shared.validation import pointer as pointer_to

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1_000

_OPERATORS = ("eq", "ne", *RANGES, "in", "nin")


def parse_where(obj: object, pointer: str = "/filters") -> Where:
    """Parse a filter from a request's JSON, where it stands at `pointer` (RFC 6901).

    Dates without a time are midnight, times without an offset are UTC. Raises InvalidRequest, with one error
    for each fault, for anything that is not a filter.
    """
    parser = _Parser()
    where = parser.condition(obj, pointer, depth=1)
    if parser.errors:
        raise InvalidRequest("The filter is malformed: " + parser.errors[0]["message"], parser.errors)
    return where


class _Parser:
    """A parser that collects every fault on its way; after a fault the tree means nothing."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._conditions = 0

    def condition(self, obj: object, pointer: str, depth: int) -> Where:
        if not isinstance(obj, Mapping):
            return self._fault(pointer, "A filter is an object of field names and conditions.")
        if depth > MAX_DEPTH:
            return self._fault(pointer, f"A filter nests at most {MAX_DEPTH} levels deep.")
        self._conditions += len(obj)
        if self._conditions > MAX_CONDITIONS:
            return self._fault(pointer, f"A filter holds at most {MAX_CONDITIONS} conditions.")
        parts = [
            self._member(str(name), value, f"{pointer}{pointer_to(name)}", depth)
            for name, value in obj.items()
        ]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _member(self, name: str, value: object, pointer: str, depth: int) -> Where:
        if name == "not":
            return Not(self.condition(value, pointer, depth + 1))
        if name not in ("and", "or"):
            return self._field(name, value, pointer)
        if not isinstance(value, list) or not value:
            return self._fault(pointer, f"`{name}` takes a list of at least one filter.")
        places = [f"{pointer}/{position}" for position in range(len(value))]
        parts = tuple(self.condition(*part, depth + 1) for part in zip(value, places, strict=True))
        return And(parts) if name == "and" else Or(parts)

    def _field(self, name: str, value: object, pointer: str) -> Where:
        if name == "near":
            return self._within_radius(value, pointer)
        if name not in FIELDS and not METADATA_NAME.fullmatch(name):
            return self._fault(
                pointer, "A field name is 1 to 63 letters, digits and underscores, a letter first."
            )
        if not isinstance(value, Mapping):
            return self._comparison(name, "eq", value, pointer)
        if not value:
            return self._fault(pointer, f"A condition needs an operator: {', '.join(_OPERATORS)}.")
        parts = tuple(
            self._comparison(name, str(op), operand, f"{pointer}{pointer_to(op)}")
            for op, operand in value.items()
        )
        return parts[0] if len(parts) == 1 else And(parts)

    def _comparison(self, field: str, op: str, operand: object, pointer: str) -> Where:
        if op not in _OPERATORS:
            return self._fault(pointer, f"Unknown operator; known are {', '.join(_OPERATORS)}.")
        if op in RANGES:
            return self._range(field, op, operand, pointer)
        if op in ("eq", "ne"):
            values: Sequence[object] = [operand]
            pointers = [pointer]
        elif isinstance(operand, list) and len(operand) <= MAX_VALUES:
            values, pointers = operand, [f"{pointer}/{position}" for position in range(len(operand))]
        else:
            return self._fault(pointer, f"`{op}` takes a list of at most {MAX_VALUES} values.")
        checked = [self._value(field, value, at) for value, at in zip(values, pointers, strict=True)]
        if field == "source":  # is kept without a URL's credentials, but for what an earlier version kept
            checked += [redacted(value) for value in checked if isinstance(value, str)]
        matches = In(field, tuple(dict.fromkeys(value for value in checked if value is not None)))
        return Not(matches) if op in ("ne", "nin") else matches

    def _range(self, field: str, op: str, operand: object, pointer: str) -> Where:
        if kind_of(field) is Kind.TEXTS:
            return self._fault(pointer, f"`{field}` is a list of texts, which have no order: use eq or in.")
        if isinstance(operand, bool):
            return self._fault(pointer, f"`{op}` takes a number or a text.")
        bound = self._value(field, operand, pointer)
        return And(()) if bound is None else Range(field, op, bound)

    def _value(self, field: str, value: object, pointer: str) -> Scalar | None:
        """Return the value as it is compared, times in epoch seconds; None after a fault."""
        kind = kind_of(field)
        is_text, is_flag = isinstance(value, str), isinstance(value, bool)
        is_number = isinstance(value, int | float) and not is_flag
        if isinstance(value, float) and not math.isfinite(value):
            self._fault(pointer, "A number must be finite.")
        elif kind is Kind.TIME:
            if isinstance(value, str) and (seconds := parse_rfc3339(value)) is not None:
                return seconds
            self._fault(pointer, "Not a date or date-time of RFC 3339, such as 2024-01-31T12:00:00Z.")
        elif kind is Kind.NUMBER and not is_number:
            self._fault(pointer, f"`{field}` is compared with numbers.")
        elif kind in (Kind.TEXT, Kind.TEXTS) and not is_text:
            self._fault(pointer, f"`{field}` is compared with texts.")
        elif isinstance(value, str) and not is_unicode(value):
            self._fault(pointer, "The text is not valid Unicode.")
        elif isinstance(value, str | bool | int | float):
            return value
        else:
            self._fault(pointer, "A value is a text, a number, true or false.")
        return None

    def _within_radius(self, value: object, pointer: str) -> Where:
        if not isinstance(value, Mapping):
            return self._fault(pointer, "`near` takes an object with lat, lon and radius_km.")
        limits = {"lat": (-90, 90), "lon": (-180, 180), "radius_km": (0, math.inf)}
        numbers: dict[str, float] = {}
        for name in (*limits, *(str(other) for other in value if other not in limits)):
            at, number = f"{pointer}{pointer_to(name)}", value.get(name)
            if name not in limits:
                self._fault(at, "Unknown; `near` takes lat, lon and radius_km.")
            elif name not in value:
                self._fault(pointer, f"`near` needs {name}.")
            elif not isinstance(number, int | float) or isinstance(number, bool):
                self._fault(at, f"{name} is a number.")
            elif not limits[name][0] <= number <= limits[name][1] or number == math.inf:
                low, high = limits[name]
                self._fault(at, f"{name} is from {low} to {high}." if high < math.inf else "Not a distance.")
            else:
                numbers[name] = float(min(number, 1e9))
        return WithinRadius(**numbers) if len(numbers) == len(limits) else And(())

    def _fault(self, pointer: str, message: str) -> Where:
        self.errors.append({"pointer": pointer, "message": message})
        return And(())
