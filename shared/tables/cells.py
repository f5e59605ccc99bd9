"""The cells of one column: which type they have together, and what each is as a value of metadata."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from shared.models import MetadataValue
from shared.tables.rows import Cell
from shared.validation import is_unicode, whole_text

TEXT, NUMBER, BOOLEAN, LIST = "text", "number", "boolean", "list"
BYTES = "bytes cannot be metadata"
UNREAL = "not a number, or infinite"
DEEP = "nested too deeply"
NESTED = "nested values are kept as JSON text"
LONG = "integers of more than 64 bits are kept as text"
NO_NUMBER = "no number"
_LONGEST_NUMBER = 32  # characters
_TOO_LARGE = 10**308  # for a float
_SPELLED_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"-?[0-9]+(?:\.0)?")
_UNREAL = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_WORDS = {True: "true", False: "false"}

Convert = Callable[[Any], MetadataValue | None]


class Cells:
    """What the cells of a column are, as far as it was read.

    `kinds` counts them by the type that each has alone, `left_out` and `as_text` by the reason, `halves` the
    texts with half a character. `first_text` is the first that makes the column one of text, with its row's
    number. `typed` is False where each cell is a text; one like `1.5` or `true` is then a number or boolean.
    `as_numbers` takes each cell for a number however it is spelled, and leaves out what is none.
    """

    def __init__(self, *, typed: bool, as_numbers: bool = False) -> None:
        self.typed = typed
        self._as_numbers = as_numbers
        self.kinds: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.as_text: Counter[str] = Counter()
        self.first_text: tuple[int, Cell] | None = None
        self.halves = self.most_listed = 0
        self._empty = self._settled = False

    @property
    def kind(self) -> str | None:
        """Return the one type of all values: text as soon as one is of another kind."""
        kinds = {kind for kind, count in self.kinds.items() if count}
        if not self.typed and self.left_out[UNREAL] and kinds != {NUMBER}:
            kinds.add(TEXT)  # the word, as far as one knows
        if len(kinds) == 1:
            return kinds.pop()
        return TEXT if kinds or self._empty else None

    def add(self, cells: Sequence[Any], numbers: Sequence[int]) -> None:
        """Count the next cells, those of the rows of these numbers."""
        if self._as_numbers:
            present = [cell for cell in cells if cell not in (None, "")]
            numeric = sum(_spelled_number(cell) is not None for cell in present)
            self.kinds[NUMBER] += numeric
            self.left_out[NO_NUMBER] += len(present) - numeric
            return
        if not self.typed:
            self._add_texts(cells, numbers)
            return
        if cells.count(None) == len(cells):
            return  # as most are where a table has many columns
        types = Counter(map(type, cells))
        types.pop(type(None), None)
        for kind in types:
            self._add_kind(kind, [cell for cell in cells if type(cell) is kind])
        if self.first_text is None and self.kinds[TEXT]:
            self.first_text = next(
                ((number, cell) for number, cell in zip(numbers, cells, strict=True) if _makes_text(cell)),
                None,
            )

    def _add_texts(self, cells: Sequence[str], numbers: Sequence[int]) -> None:
        if self._settled or not (present := [cell for cell in cells if cell]):
            return
        if kind := _same_kind(present):
            self.kinds[kind] += len(present)
            return
        for number, cell in zip(numbers, cells, strict=True):
            if not cell:
                continue
            kind = _kind_of(cell)
            if kind is None:
                self.left_out[UNREAL] += 1
                continue
            self.kinds[kind] += 1
            if kind == TEXT and self.first_text is None:
                self.first_text = number, cell
        # Only of what is mostly numbers it is worth saying why it is text.
        self._settled = self.kinds[TEXT] >= max(self.kinds[NUMBER], 1)

    def _add_kind(self, kind: type, cells: list[Any]) -> None:
        if kind is str:
            self._empty = self._empty or "" in cells
            self.kinds[TEXT] += len(cells) - cells.count("")
            self.halves += 0 if is_unicode("".join(cells)) else sum(not is_unicode(cell) for cell in cells)
        elif kind is bool:
            self.kinds[BOOLEAN] += len(cells)
        elif kind is int:
            long = sum(map(_is_long, cells)) if _is_long(max(cells)) or _is_long(min(cells)) else 0
            self.kinds[NUMBER] += len(cells) - long
            self.kinds[TEXT] += long
            self.as_text[LONG] += long
        elif kind is float:
            real = sum(map(math.isfinite, cells))
            self.kinds[NUMBER] += real
            self.left_out[UNREAL] += len(cells) - real
        elif kind is list:
            for cell in cells:
                self._add_list(cell)
        elif kind is dict:
            for cell in cells:
                self._add_nested(cell)
        else:
            self.left_out[BYTES] += len(cells)

    def _add_list(self, cell: list[Cell]) -> None:
        if _is_nested(cell):
            self._add_nested(cell)
            return
        self.kinds[LIST] += 1
        self.most_listed = max(self.most_listed, len(cell))
        self.left_out[BYTES] += any(isinstance(member, bytes) for member in cell)
        self.halves += any(isinstance(member, str) and not is_unicode(member) for member in cell)

    def _add_nested(self, cell: Cell) -> None:
        lost: Counter[str] = Counter()
        text = _json_text(cell, lost)
        self.kinds[TEXT] += text is not None
        self.as_text[NESTED] += text is not None
        self.halves += lost.pop("half", 0) > 0
        self.left_out.update(reason for reason, count in lost.items() if count)

    def convert(self) -> Convert | None:
        """Return what makes a cell a value, or None of one that is left out; None where each is one."""
        kind = self.kind
        if self._as_numbers:
            return _spelled_number
        if not self.typed:
            return {NUMBER: _number, BOOLEAN: _boolean}.get(kind or "")
        if kind == TEXT:
            plain = sum(self.kinds.values()) == self.kinds[TEXT] and not (self.halves or self.as_text.total())
            return None if plain and not self.left_out.total() else _as_text
        if kind == LIST:
            return _as_list
        same = not self._empty and not self.left_out.total()
        return None if same else _as_real


class Keys:
    """The column of keys: `whole` while each is a whole number, maybe with the `.0` that a gap gives it."""

    def __init__(self) -> None:
        self.whole = True

    def add(self, cells: Iterable[Cell]) -> None:
        if self.whole:
            texts = (scalar_text(cell) for cell in cells if cell is not None)
            keys = (key.strip() for key in texts if key is not None)
            self.whole = all(_WHOLE.fullmatch(key) or not key or _UNREAL.fullmatch(key) for key in keys)

    def key(self, cell: Cell) -> str | None:
        """Return a cell as a key, None without one."""
        text = whole_text((scalar_text(cell) or "").strip())
        if self.whole:
            text = "" if _UNREAL.fullmatch(text) else text.removesuffix(".0")
        return text or None


def scalar_text(value: Cell) -> str | None:
    """Return a single value as text; None of what is none, or no number that can be said."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return None


def _same_kind(cells: list[str]) -> str | None:
    """Return the kind that all cells have, where that is quickly seen."""
    with_words = {cell.lower() for cell in cells[:8]}
    if with_words <= set(_WORDS.values()):
        return BOOLEAN if {cell.lower() for cell in cells} <= set(_WORDS.values()) else None
    if max(map(len, cells)) > _LONGEST_NUMBER:
        return None
    try:
        whole = list(map(int, cells))
        if list(map(str, whole)) == cells and not (_is_long(max(whole)) or _is_long(min(whole))):
            return NUMBER
    except ValueError:
        pass
    try:
        reals = list(map(float, cells))
    except ValueError:
        return None
    return NUMBER if all(map(math.isfinite, reals)) and list(map(repr, reals)) == cells else None


def _kind_of(cell: str) -> str | None:
    """Return the kind of a text cell; None of one that says that it is no number, or an infinite one."""
    if len(cell) > _LONGEST_NUMBER:
        return TEXT
    if cell.lower() in _WORDS.values():
        return BOOLEAN
    if _UNREAL.fullmatch(cell):
        return None
    try:
        whole = int(cell)
        return NUMBER if str(whole) == cell and not _is_long(whole) else TEXT
    except ValueError:
        pass
    try:
        return NUMBER if repr(float(cell)) == cell else TEXT
    except ValueError:
        return TEXT


def _number(cell: str) -> int | float | None:
    try:
        return int(cell)
    except ValueError:
        value = float(cell)
        return value if math.isfinite(value) else None


def _spelled_number(cell: Cell) -> int | float | None:
    """Return a number, also of a text as anybody may spell one, such as `19.90`; None of what is none."""
    value: int | float | None = None
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        value = cell
    elif isinstance(cell, str) and len(cell) <= _LONGEST_NUMBER and _SPELLED_NUMBER.fullmatch(cell.strip()):
        value = _number(cell.strip())
    if isinstance(value, int) and _is_long(value):
        value = float(value) if abs(value) < _TOO_LARGE else None
    return value if value is not None and math.isfinite(value) else None


def _boolean(cell: str) -> bool:
    return cell[0] in "tT"


def _as_real(cell: Cell) -> int | float | None:
    """Return a number or boolean, None of what is neither."""
    return cell if isinstance(cell, int | float) and math.isfinite(cell) else None


def _as_list(cell: Cell) -> list[str] | None:
    if not isinstance(cell, list):
        return None
    texts = map(scalar_text, cell)
    return [whole_text(text) for text in texts if text is not None]


def _as_text(cell: Cell) -> str | None:
    if isinstance(cell, list | dict):
        return _json_text(cell, Counter())
    text = scalar_text(cell)
    return None if text is None else whole_text(text)


def _json_text(value: Cell, lost: Counter[str]) -> str | None:
    """Return a nested value as JSON, without its bytes; `lost` counts what was changed, by the reason."""
    try:
        plain = _plain(value, lost)
        return None if value and not plain else json.dumps(plain, ensure_ascii=False)
    except RecursionError:
        lost[DEEP] += 1
        return None


def _plain(value: Any, lost: Counter[str]) -> Any:
    if isinstance(value, dict):
        lost[BYTES] += (count := sum(isinstance(member, bytes) for member in value.values()))
        return {
            _plain(name, lost): _plain(member, lost)
            for name, member in value.items()
            if not count or not isinstance(member, bytes)
        }
    if isinstance(value, list):
        lost[BYTES] += sum(isinstance(member, bytes) for member in value)
        return [_plain(member, lost) for member in value if not isinstance(member, bytes)]
    if isinstance(value, str) and not is_unicode(value):
        lost["half"] += 1
        return whole_text(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _makes_text(cell: Cell) -> bool:
    if isinstance(cell, bool | float | bytes) or cell is None or cell == "":
        return False
    return _is_long(cell) if isinstance(cell, int) else not isinstance(cell, list) or _is_nested(cell)


def _is_nested(cell: list[Cell]) -> bool:
    return any(isinstance(member, list | dict) for member in cell)


def _is_long(value: int) -> bool:
    return not -(2**63) <= value < 2**63
