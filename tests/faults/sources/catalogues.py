"""What the sources of these tests list: a feed, a folder or a bucket, whose entries a test changes."""

import csv
import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.faults.rig import Rig
from tests.image_server import small_picture
from tests.object_store import BUCKET
from tests.raw_server import raw_server

# By whom moto does not ask, but without it nothing is replaced or deleted.
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request"}
PIECES = 25  # in which a feed comes, if it is slow


@dataclass(frozen=True)
class Entry:
    """One entry: the number and version of its picture, its title, and whether the picture can be had."""

    picture: int
    version: int = 0
    title: str = ""
    is_there: bool = True

    @property
    def image_id(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def content(self) -> bytes:
        return small_picture(self.picture, self.version)


class Catalogue:
    """Entries by their names; `location` lists them as they were when `publish` was called."""

    location: str
    has_keys = False

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self.name = rig, name
        self.entries: dict[str, Entry] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def key(self, entry: str) -> str | None:
        return entry if self.has_keys else None

    def url(self, entry: str) -> str:
        """The URL of an entry's picture, by which it goes if it has no key."""
        return f"{self.location}/{entry}.png"

    def publish(self) -> None:
        raise NotImplementedError


class Feed(Catalogue):
    """A CSV of keys, URLs and titles.

    It takes `seconds` to come, as often as it is asked for, and ends after a `share` of its bytes.
    """

    has_keys = True

    def __init__(self, rig: Rig, name: str) -> None:
        super().__init__(rig, name)
        self.seconds, self.share = 0.0, 1.0
        self.asked = 0
        self._body = b""
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self._server = self._exits.enter_context(raw_server(self._answer))
        self.location = self._server.url("/feed.csv")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def url(self, entry: str) -> str:
        return self.rig.pictures.url(f"/kept/{self.entries[entry].picture}.png?ms=20")

    def publish(self) -> None:
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["key", "url", "title"])
        for key, entry in self.entries.items():
            self.rig.pictures.versions[entry.picture] = entry.version if entry.is_there else -1
            table.writerow([key, self.url(key), entry.title])
        self._body = text.getvalue().encode()

    def _answer(self, _: bytes) -> Iterator[bytes]:
        self.asked += 1
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: {len(self._body)}\r\n\r\n"
        yield head.encode()
        sent = self._body[: int(len(self._body) * self.share)]
        step = len(sent) // PIECES + 1
        for start in range(0, len(sent), step):
            yield sent[start : start + step]
            time.sleep(self.seconds / PIECES)


class Objects(Catalogue):
    """Files or objects, each by its entry's name; they have neither keys nor titles."""

    def __init__(self, rig: Rig, name: str) -> None:
        super().__init__(rig, name)
        self._published: dict[str, Entry] = {}

    def publish(self) -> None:
        for entry in self._published.keys() - self.entries.keys():
            self._delete(f"{entry}.png")
        for entry, now in self.entries.items():
            if now != self._published.get(entry):
                self._put(f"{entry}.png", now.content)
        self._published = dict(self.entries)

    def _put(self, file: str, content: bytes) -> None:
        raise NotImplementedError

    def _delete(self, file: str) -> None:
        raise NotImplementedError


class Folder(Objects):
    def __init__(self, rig: Rig, name: str) -> None:
        super().__init__(rig, name)
        self.path: Path = rig.source_folder / name
        self.path.mkdir(parents=True)
        self.location = f"file://{self.path}"

    def _put(self, file: str, content: bytes) -> None:
        (self.path / file).write_bytes(content)

    def _delete(self, file: str) -> None:
        (self.path / file).unlink()


class Bucket(Objects):
    def __init__(self, rig: Rig, name: str) -> None:
        super().__init__(rig, name)
        self.location = f"s3://{BUCKET}/{name}"
        self._http = f"{rig.bucket.env['AWS_ENDPOINT_URL']}/{BUCKET}/{name}"

    def _put(self, file: str, content: bytes) -> None:
        httpx.put(f"{self._http}/{file}", content=content, headers=SIGNED).raise_for_status()

    def _delete(self, file: str) -> None:
        httpx.delete(f"{self._http}/{file}", headers=SIGNED).raise_for_status()


KINDS: dict[str, type[Catalogue]] = {"feed": Feed, "folder": Folder, "bucket": Bucket}
