"""The blob store: every file of the project behind one fsspec URL, and the keys of all of them.

jobs/<job>/manifest/<segment>.jsonl      the items of a job, SEGMENT_ITEMS per file (manifest.py)
jobs/<job>/results/<chunk>/…json         what became of them
jobs/<job>/validators/<chunk>….parquet   with what its URLs were asked for (validators.py)
jobs/<job>/since/<segment>.parquet       what those had in an earlier job (validators.py)
jobs/<job>/uploads/<index>               uploaded files, until their job expires: a retry needs them
jobs/<job>/export/<chunk>.parquet        what an export job wrote, until it expires (parquet.py)
jobs/<job>/change.json                   what an update merges into each picture's metadata
jobs/<job>/dry-run/<chunk>.json          what would become of a chunk's items
jobs/<job>/rows.json                     which files, and row groups of them, an import job takes
scratch/<job>/…npz                       model-size crops on their way from fetch to encode
scratch/doctor/…                         what `image-search doctor` writes, reads and deletes
log/<collection>/<fingerprint>/…npz      the vector log (vector_log.py)
collections/<collection>/<id>.<kind>     thumbnails, renditions, originals
discarded/<collection>/<id>.<kind>       the trash: those of replaced images, for a while (trash.py)
deployment/model.json                    the model that the first start chose
keys/<key id>.json                       API keys
"""

import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, get_args

import fsspec
from fsspec.implementations.local import LocalFileSystem

from shared.errors import BlobsUnavailable, ConfigError

FileKind = Literal["thumbnail", "rendition", "original"]
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)

# Under each of these, one folder per job, or one file per API key.
JOBS, SCRATCH, API_KEYS = "jobs/", "scratch/", "keys/"
MODEL_KEY = "deployment/model.json"

_READ_BYTES = 256 * 1024
_AT_ONCE = 8  # files that are moved: an object store answers in its own time


def job_prefix(job_id: str) -> str:
    return f"{JOBS}{job_id}/"


def scratch_prefix(job_id: str) -> str:
    return f"{SCRATCH}{job_id}/"


def probe_key(token: str) -> str:
    return f"{SCRATCH}doctor/{token}"


def upload_key(job_id: str, index: int) -> str:
    return f"{JOBS}{job_id}/uploads/{index:09d}"


def export_prefix(job_id: str) -> str:
    return f"{JOBS}{job_id}/export/"


def change_key(job_id: str) -> str:
    return f"{JOBS}{job_id}/change.json"


def dry_run_prefix(job_id: str) -> str:
    return f"{JOBS}{job_id}/dry-run/"


def dry_run_key(job_id: str, number: int) -> str:
    return f"{dry_run_prefix(job_id)}{number:07d}.json"


def rows_key(job_id: str) -> str:
    return f"{JOBS}{job_id}/rows.json"


def api_key_key(key_id: str) -> str:
    return f"{API_KEYS}{key_id}.json"


def collection_prefix(collection: str) -> str:
    return f"collections/{collection}/"


def log_prefix(collection: str) -> str:
    return f"log/{collection}/"


def file_key(collection: str, image_id: str, kind: FileKind) -> str:
    return f"collections/{collection}/{image_id[:2]}/{image_id}.{kind}"


def trash_prefix(collection: str) -> str:
    return f"discarded/{collection}/"


def trash_key(collection: str, image_id: str, kind: FileKind) -> str:
    return f"discarded/{collection}/{image_id[:2]}/{image_id}.{kind}"


class Blobs:
    """Whole-file reads and atomic whole-file writes under one root.

    A reader never sees half a file: local writes go to a temporary name and are renamed, object stores
    publish on close. Methods raise KeyError for an absent key and BlobsUnavailable for any other trouble.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            needs = ": pip install '.[s3]'" if url.startswith(("s3:", "s3a:")) else ""
            raise ConfigError(f"IMAGE_SEARCH_BLOB_URL {url!r} cannot be opened: {error}{needs}") from None
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def _path(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise KeyError(key)
        return f"{self._root}/{key}"

    def put(self, key: str, data: bytes) -> None:
        with self.open_write(key) as file:
            file.write(data)

    def put_new(self, key: str, data: bytes) -> None:
        """Write `data` unless there is something under `key`: of several writers at once the first wins.

        A folder does it by a hard link, an object store by a conditional write. Where there is neither, the
        last of those that write in the same moment wins.
        """
        path = self._path(key)
        proposal = f"{key}.{secrets.token_hex(4)}.tmp"
        try:
            if self._local:
                self.put(proposal, data)
                os.link(self._path(proposal), path)
            else:
                self._fs.pipe_file(path, data, mode="create")
        except OSError:
            self._fs.invalidate_cache()
            if not self.exists(key):
                self.put(key, data)
        finally:
            if self._local:
                self.delete(proposal)

    @contextmanager
    def open_write(self, key: str) -> Iterator[IO[bytes]]:
        """Open a binary file that appears under `key` when the block ends, and not at all if it raises."""
        path = self._path(key)
        with _translated():
            if not self._local:
                with self._fs.open(path, "wb") as file:
                    yield file
                return
            target = Path(path)
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
            try:
                with _open_making_folder(temporary) as file:
                    yield file
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def get(self, key: str) -> bytes:
        with _translated(key):
            data: bytes = self._fs.cat_file(self._path(key))
            return data

    @contextmanager
    def open_read(self, key: str) -> Iterator[IO[bytes]]:
        """Open a binary file that can be read from any position."""
        with _translated(key):
            file = self._fs.open(self._path(key), "rb")
        with file:
            yield io.BufferedReader(_Reader(file), _READ_BYTES)

    def exists(self, key: str) -> bool:
        with _translated(key):
            return bool(self._fs.exists(self._path(key)))

    def move(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Put what is under the first key of each pair under the second instead, where there is something."""

        def one(pair: tuple[str, str]) -> None:
            source, target = map(self._path, pair)
            with suppress(KeyError), _translated(pair[0]):
                if self._local:
                    _move_file(source, target)
                else:
                    self._fs.cp_file(source, target)
                    self._fs.rm_file(source)

        if self._local:
            for pair in pairs:
                one(pair)
            return
        with ThreadPoolExecutor(_AT_ONCE, "move") as pool:
            for _ in pool.map(one, pairs):
                pass

    def delete(self, *keys: str) -> None:
        """Delete those of `keys` that exist."""
        for key in keys:
            try:
                with _translated(key):
                    self._fs.rm_file(self._path(key))
            except KeyError:
                continue

    def delete_prefix(self, prefix: str) -> None:
        """Delete every key under the folder `prefix` (ending in a slash)."""
        with _translated(prefix):
            path = self._path(prefix).rstrip("/")
            if self._fs.exists(path):
                self._fs.rm(path, recursive=True)

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly under the folder `prefix`."""
        try:
            with _translated(prefix):
                self._fs.invalidate_cache()
                entries = self._fs.ls(self._path(prefix).rstrip("/"), detail=True)
        except KeyError:
            return []
        return [str(e["name"]).rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory"]

    def modified_at(self, prefix: str) -> float:
        """Return when the newest file under `prefix` was written, in epoch seconds; 0 without any."""
        moments = []
        for key in self.list(prefix):
            with suppress(KeyError), _translated(key):
                moments.append(float(self._fs.modified(self._path(key)).timestamp()))
        return max(moments, default=0.0)

    def list(self, prefix: str) -> list[str]:
        """Return the keys under the folder `prefix`, at any depth, sorted; unfinished writes are left out."""
        with _translated(prefix):
            self._fs.invalidate_cache()
            paths = self._fs.find(self._path(prefix).rstrip("/"))
        keys = (str(path)[len(self._root) + 1 :] for path in paths)
        return sorted(key for key in keys if not key.endswith(".tmp"))


class _Reader(io.RawIOBase):
    """A file whose I/O errors become BlobsUnavailable, so that none is taken for a parser's."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _translated():
            return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        with _translated():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _open_making_folder(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _move_file(source: str, target: str) -> None:
    try:
        os.replace(source, target)  # noqa: PTH105 - thousands at once
    except FileNotFoundError:
        if not os.path.exists(source):  # noqa: PTH110
            raise
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)  # noqa: PTH105


@contextmanager
def _translated(key: str | None = None) -> Iterator[None]:
    """Turn OSError into BlobsUnavailable; with `key`, an absent file into KeyError."""
    try:
        yield
    except OSError as error:
        if key is not None and isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise KeyError(key) from None
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise BlobsUnavailable(f"The blob store failed: {reason}.") from error
