"""What the SOURCE arguments of `image-search ingest` stand for: files to upload and URLs to send."""

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from image_search._bodies import is_archive
from image_search.errors import InvalidSource, NotInstalled
from image_search.models.image_files import IMAGE_SUFFIXES
from image_search.models.images import Metadata, MetadataValue

LIST_SUFFIXES = frozenset({".txt", ".csv", ".jsonl", ".ndjson", ".parquet"})
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRETS = re.compile(r"^([^:/?#]+://)[^/?#]*@|[?#].*", re.DOTALL)  # where a URL may have some
_PARQUET_ROWS = 4096
KEY_COLUMN = "key"
_Row = tuple[str, str | None, Metadata]  # URL, key, metadata


MAX_NAME = 200  # characters


@dataclass(slots=True)
class Sources:
    """`files` are (path, name to show); `lists` are files of URLs (None: standard input), read when sent.

    `key_column` is the column of a table that has the items' keys; without it KEY_COLUMN is, if there is one.
    `names` are what the sources are called, `kinds` what they are, for people who look at the job.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    lists: list[Path | None] = field(default_factory=list)
    skipped: int = 0
    key_column: str | None = None
    names: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    @property
    def name(self) -> str | None:
        """Return the first source's name, and how many others there are."""
        if not self.names:
            return None
        more = f" and {len(self.names) - 1:,} more" if len(self.names) > 1 else ""
        first = self.names[0].encode(errors="replace").decode()
        return shortened(first, MAX_NAME - len(more)) + more

    @property
    def made_of(self) -> str | None:
        """Return the kind of all sources, None of several kinds."""
        return next(iter(self.kinds)) if len(self.kinds) == 1 else None

    @property
    def has_urls(self) -> bool:
        return bool(self.urls or self.lists)

    def check(self) -> None:
        """Read every file of URLs once, so that a fault in its middle is found before anything is sent."""
        for path in self.lists:
            if path is not None:
                for _ in _read_list(path, self.key_column):
                    pass

    def items(self, metadata: Metadata) -> Iterator[dict[str, Any]]:
        """Yield every URL as an item; `metadata` is under what a list says itself."""
        for url in self.urls:
            yield {"url": url, "metadata": metadata}
        for path in self.lists:
            for url, key, own in _read_list(path, self.key_column):
                named = {} if key is None else {"key": key}
                yield {"url": url, **named, "metadata": {**metadata, **own}}


def collect(sources: Sequence[str], key_column: str | None = None) -> Sources:
    """Sort sources into files, URLs and lists. Raises InvalidSource for one that cannot be ingested."""
    collected = Sources(key_column=key_column)
    for source in sources:
        path = Path(source)
        if not source.strip():  # Path("") is the current folder
            raise InvalidSource("a source is empty: name a file, a folder or a URL")
        if source == "-":
            collected.lists.append(None)
            _note(collected, "list", "standard input")
        elif _URL.match(source):
            collected.urls.append(source)
            _note(collected, "urls", _SECRETS.sub(r"\1", source))
        elif path.is_dir():
            _collect_folder(path, collected)
            _note(collected, "folder", path.resolve().name or source)
        elif not path.is_file():
            raise InvalidSource(f"{source}: there is no such file, folder or URL")
        elif path.suffix.lower() in LIST_SUFFIXES:
            collected.lists.append(path)
            _note(collected, "list", path.name)
        else:
            collected.files.append((path, path.name))
            _note(collected, "archive" if is_archive(path) else "files", path.name)
    if not collected.files and not collected.has_urls:
        raise InvalidSource(f"no pictures in {', '.join(sources)}")
    return collected


def _note(collected: Sources, kind: str, name: str) -> None:
    collected.kinds.add(kind)
    collected.names.append(name)


def shortened(text: str, most: int) -> str:
    """Leave out the middle of what is longer: the ends of a URL or path say more."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def typed(text: str) -> MetadataValue:
    """Read a value of a command line or CSV cell: numbers, true and false become such; "quoted" stays text.

    What a number's spelling would not survive, such as a leading zero, stays text too.
    """
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if match := _NUMBER.fullmatch(text):
        return float(text) if match[2] else int(text)
    return text


def _collect_folder(folder: Path, collected: Sources) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES:
            collected.files.append((path, f"{folder.resolve().name}/{name.as_posix()}"))
        else:
            collected.skipped += 1


def _read_list(path: Path | None, key_column: str | None) -> Iterator[_Row]:
    if path is None:
        yield from _read_lines(sys.stdin.buffer, "standard input")
        return
    kind = path.suffix.lower()
    if kind == ".parquet":
        yield from _read_parquet(path, key_column)
    elif kind == ".csv":
        yield from _read_csv(path, key_column)
    else:
        with path.open("rb") as file:
            if kind == ".txt":
                yield from _read_lines(file, str(path))
            else:
                yield from _read_json_lines(file, str(path), key_column or KEY_COLUMN)


def _read_lines(file: IO[bytes], name: str) -> Iterator[_Row]:
    for number, line in enumerate(file, 1):
        try:
            url = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise InvalidSource(f"{name}, line {number}: not UTF-8") from None
        if url and not url.startswith("#"):
            yield url, None, {}


def _read_json_lines(file: IO[bytes], name: str, key_column: str) -> Iterator[_Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except ValueError:
            raise InvalidSource(f"{name}, line {number}: not JSON") from None
        if not isinstance(row, dict) or not isinstance(row.get("url"), str):
            raise InvalidSource(f"{name}, line {number}: not an object with a `url`")
        nested, key = row.pop("metadata", None), _key(row.pop(key_column, None))
        yield row.pop("url"), key, _metadata({**row, **nested} if isinstance(nested, dict) else row)


def _read_csv(path: Path, key_column: str | None) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            _check_columns(path, reader.fieldnames or (), key_column)
            for row in reader:
                url = (row.pop("url") or "").strip()
                key = (row.pop(key_column or KEY_COLUMN, None) or "").strip() or None
                # A row that is longer than the header comes under None, a shorter one with None as values.
                cells = {name: cell for name, cell in row.items() if name and cell}
                yield url, key, {name: typed(cell) for name, cell in cells.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidSource(f"{path}, line {reader.line_num}: {error}") from None


def _read_parquet(path: Path, key_column: str | None) -> Iterator[_Row]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - a quarter of a second that others save
    except ImportError:
        raise NotInstalled(f"{path}: a Parquet file") from None

    try:
        file = parquet.ParquetFile(path)
        _check_columns(path, file.schema_arrow.names, key_column)
        for batch in file.iter_batches(_PARQUET_ROWS):
            for row in batch.to_pylist():
                key = _key(row.pop(key_column or KEY_COLUMN, None))
                yield str(row.pop("url") or ""), key, _metadata(row)
    except (ArrowException, OSError) as error:
        raise InvalidSource(f"{path}: {error}") from None


def _check_columns(path: Path, columns: Sequence[str], key_column: str | None) -> None:
    for name in ("url", key_column):
        if name is not None and name not in columns:
            raise InvalidSource(f"{path}: has no `{name}` column")


def _key(value: Any) -> str | None:
    """Return a typed cell as a key; 7.0, as tables keep a whole number of a column with gaps, is "7"."""
    if value is None or value != value or value == "":  # noqa: PLR0124 - NaN
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _metadata(row: dict[str, Any]) -> Metadata:
    """Return a row's other columns; what metadata cannot hold (dates, decimals) becomes text."""
    # A NaN, which is what tables write for a missing number, does not equal itself.
    return {name: _value(value) for name, value in row.items() if value is not None and value == value}  # noqa: PLR0124


def _value(value: Any) -> MetadataValue:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        return [str(member) for member in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
