"""`--filter NAME=VALUE`: conditions as people type them, as a filter of the API."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from image_search._sources import number_of, typed

_OPERATORS = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_MEANT = {
    "=>": ">=", "=<": "<=", "==": "=", "===": "=", "=!": "!=", "<>": "!=", "><": "!=", "!==": "!=", "!": "!=",
    "≥": ">=", "≤": "<=", "≠": "!=", ":": "=", ":=": "=", "~": "=", "~=": "=",
}  # fmt: skip
_KNOWN = "=, !=, <, <=, >, >="
FILTER_HELP = 'Also !=, <, <=, >, >=; "3" in quotes is a text.'
_NUMBERS = frozenset({"width", "height", "bytes", "lat", "lon", "nsfw"})  # built-in fields
_CONDITION = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*([=<>!≥≤≠]+|[:~]=?)(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DATE = re.compile(r"\d{4}-\d\d(-\d\d.*)?")


def parse_filters(conditions: Sequence[str]) -> dict[str, Any]:
    """Read `width>=100 width<500` as {"width": {"gte": 100, "lt": 500}}; all of them have to hold.

    Raises UsageError, with what was probably meant, for what is no condition.
    """
    parsed: dict[str, Any] = {}
    for condition in conditions:
        name, operator, value = _read(condition.strip())
        if operator in parsed.get(name, {}):  # the same once more, such as two tags
            parsed.setdefault("and", []).append({name: {operator: value}})
        else:
            parsed.setdefault(name, {})[operator] = value
    return parsed


def _read(condition: str) -> tuple[str, str, Any]:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        advice = "is not NAME=VALUE (or !=, <, <=, >, >=)"
        if _NAME.fullmatch(condition):  # what a shell leaves of price>3
            advice += f". A shell takes < and > for itself unless the condition is quoted: '{condition}>3'"
        _refuse(condition, advice)
    name, operator, text = match[1], match[2], match[3].strip()
    if operator not in _OPERATORS:
        advice = f"has the unknown operator {operator} (known are {_KNOWN})"
        if operator in _MEANT:
            advice += f": did you mean '{name}{_MEANT[operator]}{text}'?"
        elif operator[0] == "=":
            advice += f"; a value that begins so is quoted: '{name}=\"{operator[1:]}{text}\"'"
        _refuse(condition, advice)
    if not text:
        _refuse(condition, f"has no value. The empty text is '{name}{operator}\"\"'")
    value, number = typed(text), number_of(text)
    if number is not None and value == text:  # 9.50, which may be stored as a number or as that text
        if operator in ("=", "!=") and name not in _NUMBERS:
            return name, "in" if operator == "=" else "nin", [number, text]
        value = number
    is_ordered = isinstance(value, int | float) or text[0] == '"' or _DATE.fullmatch(text)
    if operator not in ("=", "!=") and (isinstance(value, bool) or not is_ordered):
        _refuse(
            condition,
            f"compares with {text}, which is no number or date. "
            f"In quotes it is compared as a text, letter by letter: '{name}{operator}\"{text}\"'",
        )
    return name, _OPERATORS[operator], value


def _refuse(condition: str, advice: str) -> NoReturn:
    raise click.UsageError(f"--filter '{condition}' {advice}")
