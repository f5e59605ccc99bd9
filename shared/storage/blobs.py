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
jobs/<job>/listing.parquet               what a sync has found, in the order in which it found it
sources/<source>/definition.json         a source: where it reads from, how and when (shared/sources/store.py)
sources/<source>/brought.parquet         what it has brought, an entry of its listing a row (catalogues.py)
sources/<source>/runs/<run>.json         what its latest syncs did
deployment/model.json                    the model that the first start chose
keys/<key id>.json                       API keys
"""

import errno
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

import fsspec
from fsspec.implementations.local import LocalFileSystem

from shared.errors import BlobsUnavailable, ConfigError
from shared.storage.s3 import s3_options
from shared.storage.store_errors import Reader, Writer, translated

FileKind = Literal["thumbnail", "rendition", "original"]
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)

# Under each of these, one folder per job or source, or one file per API key.
JOBS, SCRATCH, API_KEYS, SOURCES = "jobs/", "scratch/", "keys/", "sources/"
MODEL_KEY = "deployment/model.json"

_READ_BYTES = 256 * 1024
_AT_ONCE = 8  # files that are moved or read: an object store answers in its own time
_READ_AHEAD = 64  # small files
_DELETED_AT_ONCE = 1_000  # what S3 takes


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


def listing_key(job_id: str) -> str:
    return f"{JOBS}{job_id}/listing.parquet"


def source_prefix(name: str) -> str:
    return f"{SOURCES}{name}/"


def source_key(name: str) -> str:
    return f"{SOURCES}{name}/definition.json"


def brought_key(name: str) -> str:
    return f"{SOURCES}{name}/brought.parquet"


def runs_prefix(name: str) -> str:
    return f"{SOURCES}{name}/runs/"


def run_key(name: str, run: str) -> str:
    return f"{SOURCES}{name}/runs/{run}.json"


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
        in_s3 = url.startswith(("s3:", "s3a:"))
        try:
            # What a process has listed says nothing of what others have written since.
            options = {"use_listings_cache": False, **(s3_options() if in_s3 else {})}
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError, OSError) as error:
            needs = ": pip install '.[s3]'" if in_s3 else ""
            raise ConfigError(f"IMAGE_SEARCH_BLOB_URL {url!r} cannot be opened: {error}{needs}") from None
        self._url = url
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self._s3 = in_s3
        if in_s3:
            self._fs.retries = 1  # botocore's are enough

    def __reduce__(self) -> tuple[type["Blobs"], tuple[str]]:
        return Blobs, (self._url,)

    def _path(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise KeyError(key)
        return f"{self._root}/{key}"

    def put(self, key: str, data: bytes) -> None:
        if self._local:
            with self.open_write(key) as file:
                file.write(data)
        else:
            with translated():
                self._fs.pipe_file(self._path(key), data)

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
                with translated():
                    self._fs.pipe_file(path, data, mode="create")
        except (OSError, BlobsUnavailable):
            if not self.exists(key):
                self.put(key, data)
        finally:
            if self._local:
                self.delete(proposal)

    @contextmanager
    def open_write(self, key: str) -> Iterator[IO[bytes]]:
        """Open a binary file that appears under `key` when the block ends, and not at all if it raises."""
        path = self._path(key)
        if not self._local:
            with translated():
                file = self._fs.open(path, "wb")
            try:
                yield cast(IO[bytes], Writer(file))
            except BaseException:
                with suppress(Exception):  # closing it would publish what there is
                    file.discard()
                    file.closed = True
                raise
            with translated():
                file.close()
            return
        with translated():
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
        with translated(key):
            data: bytes = self._fs.cat_file(self._path(key))
            return data

    def get_each(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Yield what is under those of `keys` that exist, in their order; an object store is asked ahead."""
        if self._local:
            yield from filter(None, map(self._found, keys))
            return
        with ThreadPoolExecutor(_AT_ONCE, "get") as pool:
            for start in range(0, len(keys), _READ_AHEAD):  # a pool takes all that it is given
                yield from filter(None, pool.map(self._found, keys[start : start + _READ_AHEAD]))

    def _found(self, key: str) -> bytes | None:
        with suppress(KeyError):
            return self.get(key)
        return None

    @contextmanager
    def open_read(self, key: str) -> Iterator[IO[bytes]]:
        """Open a binary file that can be read from any position."""
        with translated(key):
            file = self._fs.open(self._path(key), "rb")
        with file:
            yield io.BufferedReader(Reader(file), _READ_BYTES)

    def exists(self, key: str) -> bool:
        """Return whether there is something, of a byte at least, under `key`."""
        path = self._path(key)
        with suppress(KeyError), translated(key):
            # In S3 a byte, since the answer to a HEAD does not tell a missing key from a missing bucket.
            return bool(self._fs.cat_file(path, start=0, end=1) if self._s3 else self._fs.exists(path))
        return False

    def move(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Put what is under the first key of each pair under the second instead, where there is something."""
        if self._local:
            for pair in pairs:
                self._move_one(pair)
            return
        with ThreadPoolExecutor(_AT_ONCE, "move") as pool:
            for _ in pool.map(self._move_one, pairs):
                pass

    def _move_one(self, pair: tuple[str, str]) -> None:
        source, target = map(self._path, pair)
        with suppress(KeyError), translated(pair[0]):
            if self._local:
                _move_file(source, target)
                return
            if self._s3:
                (bucket, to, _), (_, key, _) = self._fs.split_path(target), self._fs.split_path(source)
                self._fs.call_s3(
                    "copy_object", Bucket=bucket, Key=to, CopySource={"Bucket": bucket, "Key": key}
                )
            else:
                self._fs.cp_file(source, target)
            self._fs.rm_file(source)

    def delete(self, *keys: str) -> None:
        """Delete those of `keys` that exist."""
        for some in _batches(keys):
            if not (self._s3 and len(some) > 1 and self._deleted_at_once(some)):
                self._delete_each(some)

    def _deleted_at_once(self, keys: Sequence[str]) -> bool:
        """Delete keys by one request of S3; False where it did not delete all of them."""
        paths = [self._fs.split_path(self._path(key)) for key in keys]
        objects = {"Objects": [{"Key": key} for _, key, _ in paths], "Quiet": True}
        with translated():
            try:
                return not self._fs.call_s3("delete_objects", Bucket=paths[0][0], Delete=objects).get(
                    "Errors"
                )
            except OSError:  # some that speak S3 do not know it
                return False

    def _delete_each(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                with translated(key):
                    self._fs.rm_file(self._path(key))
            except KeyError:
                continue

    def delete_prefix(self, prefix: str) -> None:
        """Delete every key under the folder `prefix` (ending in a slash)."""
        with translated(prefix):
            path = self._path(prefix).rstrip("/")
            if self._s3:
                self.delete(*(self._key(path) for path in self._find(prefix)))
            else:
                self._remove_folder(path)

    def _remove_folder(self, path: str, tries: int = 20) -> None:
        """Remove a local folder, though workers write into it or others remove it meanwhile."""
        while self._fs.exists(path):
            tries -= 1
            try:
                self._fs.rm(path, recursive=True)
            except OSError as error:
                meanwhile = isinstance(error, FileNotFoundError) or error.errno == errno.ENOTEMPTY
                if not (meanwhile and tries):
                    raise

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly under the folder `prefix`."""
        try:
            with translated(prefix):
                entries = self._fs.ls(self._path(prefix).rstrip("/"), detail=True)
        except KeyError:
            return []
        return [str(e["name"]).rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory"]

    def modified_at(self, prefix: str) -> float:
        """Return when the newest file under `prefix` was written, in epoch seconds; 0 without any."""
        moments = []
        for path, entry in self._find(prefix).items():
            with suppress(KeyError), translated(path):
                moment = entry.get("LastModified") or self._fs.modified(path)
                moments.append(float(moment.timestamp()))
        return max(moments, default=0.0)

    def list(self, prefix: str) -> list[str]:
        """Return the keys under the folder `prefix`, at any depth, sorted; unfinished writes are left out."""
        keys = (self._key(path) for path in self._find(prefix))
        return sorted(key for key in keys if not key.endswith(".tmp"))

    def _find(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return what fsspec knows of each file under the folder `prefix`, by its path."""
        path = self._path(prefix).rstrip("/")
        folder, _, name = path.rpartition("/")
        with translated():
            # Of a folder that is not there, s3fs asks again whether it is a file; not so of a prefix.
            found = self._fs.find(folder, prefix=f"{name}/", detail=True) if self._s3 else None
            return dict(self._fs.find(path, detail=True) if found is None else found)

    def _key(self, path: str) -> str:
        return path[len(self._root) + 1 :]


def root_of(url: str) -> str:
    """Return where a store's URL leads, as fsspec reads it: an absolute folder, or in S3 `bucket/prefix`."""
    return str(fsspec.core.strip_protocol(url.rpartition("::")[2])).rstrip("/")


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _DELETED_AT_ONCE):
        yield keys[start : start + _DELETED_AT_ONCE]


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
