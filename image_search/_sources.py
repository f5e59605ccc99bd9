"""What the SOURCE arguments of `image-search ingest` stand for: files to upload and URLs to send."""

import errno
import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from image_search._bodies import LocalFile, Unsent, is_archive, list_type
from image_search.errors import InvalidSource
from image_search.models.image_files import (
    HEAD_BYTES,
    Skipped,
    has_image_suffix,
    is_hidden,
    is_image,
    is_open,
)
from image_search.models.images import MetadataValue

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRETS = re.compile(r"^([^:/?#]+://)[^/?#]*@|[?#].*", re.DOTALL)  # where a URL may have some
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # also what a name that is no UTF-8 has instead of a byte
MAX_NAME = 200  # characters


class LeftOut:
    """What a folder has that is not sent: files by suffix, links and what cannot be read by name."""

    def __init__(self) -> None:
        self._skipped = Skipped()
        self._others: dict[str, tuple[str, int]] = {}

    def add(self, name: str) -> None:
        """Count a file that is no picture."""
        self._skipped.add(name)

    def note(self, what: str, name: str) -> None:
        """Count what is not even a file that can be read; the first of a kind is named."""
        first, count = self._others.get(what, (name, 0))
        self._others[what] = first, count + 1

    def __bool__(self) -> bool:
        return bool(len(self._skipped) or self._others)

    def __str__(self) -> str:
        said = [str(self._skipped)] if len(self._skipped) else []
        for what, (first, count) in self._others.items():
            more = f"s ({first}, …)" if count > 1 else f" ({first})"
            said.append(f"{count:,} {what}{more}")
        return ", ".join(said)


@dataclass(slots=True)
class Sources:
    """`files` are uploaded; `tables` are those to send each as a table or list of URLs.

    `from_stdin` is whether URLs come on standard input. Once all was sent, `unsent` are the files that are in
    no job, and `broken_off` is whether the server may have made another job of what came of a first try.
    `names` are what the sources are called, `kinds` what they are, for people who look at the job.
    """

    files: list[LocalFile] = field(default_factory=list)
    tables: list[LocalFile] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    from_stdin: bool = False
    left_out: LeftOut = field(default_factory=LeftOut)
    unsent: list[Unsent] = field(default_factory=list)
    broken_off: bool = False
    names: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in (*self.files, *self.tables))

    @property
    def name(self) -> str | None:
        """Return the first source's name, and how many others there are."""
        if not self.names:
            return None
        more = f" and {len(self.names) - 1:,} more" if len(self.names) > 1 else ""
        return shortened(_whole(self.names[0]), MAX_NAME - len(more)) + more

    @property
    def made_of(self) -> str | None:
        """Return the kind of all sources, None of several kinds."""
        return next(iter(self.kinds)) if len(self.kinds) == 1 else None


def collect(sources: Sequence[str]) -> Sources:
    """Sort sources into files, tables and URLs. Raises InvalidSource for one that cannot be ingested."""
    collected = Sources()
    for source in sources:
        try:
            _collect(source, collected)
        except OSError as error:
            raise InvalidSource(f"{source}: {error.strerror or error}") from None
    if not (collected.files or collected.tables or collected.urls or collected.from_stdin):
        left_out = f"; left out: {collected.left_out}" if collected.left_out else ""
        raise InvalidSource(f"no pictures in {', '.join(sources)}{left_out}")
    return collected


def sources_of(source: object) -> Sources | None:
    """Return what a name, or a list of names, stands for; None for items as they come."""
    if isinstance(source, Sources):
        return source
    if isinstance(source, bytes):
        raise InvalidSource("bytes are no source: write them to a file and give its path")
    if isinstance(source, str | Path):
        names = [str(source)]
    elif isinstance(source, Sequence) and source and all(map(_is_file, source)):
        names = [str(one) for one in source]
    else:
        return None
    return collect(names)


def _is_file(one: object) -> bool:
    """Tell whether a member of a list names a file or folder (an empty text none), or is an item."""
    if isinstance(one, str):
        # Not Path.exists, which raises for what is too long for a name: an item, which fails by itself.
        return not one or ("://" not in one and os.path.exists(one))  # noqa: PTH110
    return isinstance(one, Path)


def table_options(
    url_column: str | None,
    key_column: str | None,
    columns: str | Sequence[str],
    skip: str | Sequence[str],
    numbers: str | Sequence[str],
) -> dict[str, str]:
    """Return the options that say how tables are read, those that are given."""
    options = {
        "url_column": url_column,
        "key_column": key_column,
        "columns": _joined(columns),
        "skip_columns": _joined(skip),
        "number_columns": _joined(numbers),
    }
    return {name: value for name, value in options.items() if value}


def _joined(names: str | Sequence[str]) -> str:
    """Return names with commas between them, those with commas or quotation marks quoted as in CSV."""
    if isinstance(names, str):
        return names
    return ",".join(
        '"' + name.replace('"', '""') + '"' if re.search('[,"]', name) else name for name in names
    )


def _collect(source: str, collected: Sources) -> None:
    path = Path(source)
    if not source.strip():  # Path("") is the current folder
        raise InvalidSource("a source is empty: name a file, a folder or a URL")
    if source == "-":
        collected.from_stdin = True
        _note(collected, "list", "standard input")
    elif _URL.match(source):
        collected.urls.append(source)
        _note(collected, "urls", _SECRETS.sub(r"\1", source))
    elif path.is_dir():
        _collect_folder(path, collected)
        _note(collected, "folder", path.resolve().name or source)
    elif not path.exists():
        raise InvalidSource(f"{source}: there is no such file, folder or URL")
    elif not path.is_file():
        raise InvalidSource(f"{source}: is no file or folder; URLs that a program writes come by `-`")
    else:
        file = LocalFile(path, _whole(path.name), path.stat().st_size)
        if list_type(path.name):
            collected.tables.append(file)
            _note(collected, "list", path.name)
        else:
            collected.files.append(file)
            _note(collected, "archive" if is_archive(path) else "files", path.name)


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
    """Read a value of a command line: numbers, true and false become such; what is "quoted" stays text.

    What a number's spelling would not survive, such as the zeros of 007 and 1.10, stays text, as in a table.
    """
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    number = number_of(text)
    return text if number is None or str(number) != text else number


def number_of(text: str) -> int | float | None:
    """Return the number that a text is, in whatever decimals; None for a code with leading zeros."""
    if match := _NUMBER.fullmatch(text):
        return float(text) if match[2] else int(text)
    return None


def _collect_folder(folder: Path, collected: Sources) -> None:
    """Collect a folder's pictures. Each folder in it counts once, by its own place before any link to it."""
    resolved = folder.resolve()
    above = {_identity(parent) for parent in resolved.parents}
    seen: set[object] = set()
    found: list[LocalFile] = []
    folders, linked = deque([(folder, _whole(resolved.name))]), deque[tuple[Path, str]]()
    while folders or linked:
        path, name = (folders or linked).popleft()
        if (identity := _identity(path)) in seen:
            continue
        if identity in above:
            collected.left_out.note("link to a folder above", name)
            continue
        seen.add(identity)
        try:
            with os.scandir(path) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            collected.left_out.note("unreadable folder", name)
            continue
        for entry in inside:
            own_name = f"{name}/{_whole(entry.name)}"
            if is_hidden(entry.name):
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append((Path(entry.path), own_name))
            elif file := _picture(entry, own_name, collected.left_out):
                found.append(file)
    collected.files += sorted(found, key=lambda file: file.name.split("/"))


def _identity(path: Path) -> object:
    """Return what is the same for a folder and every link to it, and different for others."""
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def _picture(entry: os.DirEntry[str], name: str, left_out: LeftOut) -> LocalFile | None:
    """Return a folder's file if it is a picture; its content decides where its suffix does not say."""
    try:
        if not entry.is_file():
            left_out.note("broken link" if entry.is_symlink() else "special file", name)
        elif has_image_suffix(name) or (is_open(name) and is_image(_head(entry))):
            return LocalFile(Path(entry.path), name, entry.stat().st_size)
        else:
            left_out.add(name)
    except OSError as error:
        if error.errno == errno.ELOOP:
            left_out.note("broken link", name)
        elif has_image_suffix(name):
            return LocalFile(Path(entry.path), name, 0)  # at its turn it is one that cannot be sent
        else:
            left_out.note("unreadable file", name)
    return None


def _head(entry: os.DirEntry[str]) -> bytes:
    if not entry.stat().st_size:  # such as those of /proc, some of which would be waited for
        return b""
    with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - of very many
        return file.read(HEAD_BYTES)


def _whole(name: str) -> str:
    return _HALF_CHARACTER.sub("\ufffd", name)
