"""The API in this process: real ledger scripts, blobs and Chroma, a stub encoder, no network."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, cast

import numpy as np
from flask.testing import FlaskClient
from flask_openapi3.openapi import OpenAPI
from numpy.typing import NDArray
from PIL import Image as PillowImage
from werkzeug.test import TestResponse

from api.app import create_app
from api.context import Context
from api.web.problem_codes import MEANINGS
from shared.config import Settings
from shared.embedding.encoder import Encoder
from shared.errors import ITEM_CODES, IndexUnavailable, ItemError, LedgerUnavailable, ModelUnavailable
from shared.imaging.preprocess import Preprocess
from shared.index.connection import in_process_server
from shared.index.index import Index
from shared.ledger.ledger import Ledger
from shared.models import Image
from shared.services import Services
from shared.storage.blobs import Blobs
from tests.redis_server import fake_ledger

Vector = NDArray[np.float32]

DIMENSION = 8
MAX_TEXT_CHARS = 40
RED, BLUE = (250, 10, 10), (10, 10, 250)
PREPROCESS = Preprocess((4, 4), None, PillowImage.Resampling.BICUBIC, (0.0,) * 3, (1.0,) * 3, 1.0)


def axis(number: int) -> Vector:
    """A unit vector; the texts `axis 0`, `axis 1`, … have these."""
    row: Vector = np.eye(DIMENSION, dtype=np.float32)[number]
    return row


def unit(*parts: float) -> Vector:
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(parts)] = parts
    return vector / np.float32(np.linalg.norm(vector))


class StubEncoder:
    """Unit vectors that depend on the text or crop alone; a text `axis N` is the N-th basis vector."""

    dimension = DIMENSION
    preprocess = PREPROCESS
    logit_scale = 100.0
    logit_bias: float | None = None
    knows_english = True
    device = "cpu"
    device_name = "a stub"
    kind = "clip"
    max_tokens = 77
    precision = "fp32"
    files: Sequence[tuple[str, int, int]] = []
    worked_at = float("-inf")

    def __init__(self, name: str = "stub/model", fingerprint: str = "5" * 16) -> None:
        self.name = name
        self.fingerprint = fingerprint

    def warm(self) -> None:
        pass

    def truncated(self, text: str) -> bool:
        return len(text) > MAX_TEXT_CHARS

    def encode_texts(self, texts: Sequence[str]) -> Vector:
        return np.array([self.text(text) for text in texts], np.float32).reshape(len(texts), self.dimension)

    def encode_images(self, crops: NDArray[np.uint8]) -> Vector:
        assert crops.shape[1:] == (4, 4, 3)
        return np.stack([_hashed(crop.tobytes()) for crop in crops])

    def text(self, text: str) -> Vector:
        return axis(int(text.split()[1])) if text.startswith("axis ") else _hashed(text.encode())


def _hashed(data: bytes) -> Vector:
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    return unit(*np.random.default_rng(seed).normal(size=DIMENSION))


class FakeDownloader:
    """Serves `files` by URL; an ItemError there is raised."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | ItemError] = {}

    def get(self, url: str, *, whole_s: float, hold: Callable[[int], None]) -> bytes:
        found = self.files.get(url) or ItemError("dns_error", "the host's name is not known")
        if isinstance(found, ItemError):
            raise found
        hold(len(found))
        return found

    def check(self, url: str, timeout_s: float | None = None) -> None:
        pass


class FakeDispatcher:
    def send(self, *_: object) -> None:
        pass

    def pump(self) -> None:
        pass

    def wake_writer(self) -> None:
        pass


class Down:
    """A service of which every method, and every method of its parts, raises `error`."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> "Down":
        return self

    def __call__(self, *_args: object, **_options: object) -> NoReturn:
        raise self._error


LEDGER_DOWN = cast(Ledger, Down(LedgerUnavailable("The job ledger (Redis) does not answer.")))
INDEX_DOWN = cast(Index, Down(IndexUnavailable("Chroma cannot be reached.")))


def index_in(folder: Path) -> Index:
    """Make an index in a folder, without a server; those of one folder share their data."""
    if not (database := folder / "chroma.sqlite3").exists():
        folder.mkdir(parents=True, exist_ok=True)
        database.write_bytes(_empty_database())
    return _index_in(folder)


def _index_in(folder: Path) -> Index:
    index = Index("")
    index._connect = partial(in_process_server, folder)  # type: ignore[assignment]
    return index


@cache
def _empty_database() -> bytes:
    """Chroma's, with a registry: a copy takes a fraction of what making it does, commit by commit."""
    with TemporaryDirectory() as folder:
        _index_in(Path(folder)).collections()
        return (Path(folder) / "chroma.sqlite3").read_bytes()


def make_services(folder: Path, **settings: Any) -> Services:
    return Services(
        # Rate limits are counted in the memory of this one app.
        settings=Settings(_env_file=None, **{"redis_url": "memory://", **settings}),
        blobs=Blobs(f"file://{folder}/blobs"),
        ledger=fake_ledger(),
        index=index_in(folder / "chroma"),
        downloader=cast(Any, FakeDownloader()),
        celery=cast(Any, None),
        dispatcher=cast(Any, FakeDispatcher()),
    )


@dataclass
class Api:
    """A served application; `http` is on this machine, and `services` may be taken apart with `without`."""

    app: OpenAPI
    services: Services
    encoder: StubEncoder
    http: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.http = self.app.test_client()

    @property
    def context(self) -> Context:
        found: Context = self.app.extensions["image_search"]
        return found

    @property
    def downloads(self) -> dict[str, bytes | ItemError]:
        return cast(FakeDownloader, self.services.downloader).files

    def add(self, number: int, vector: Vector, collection: str = "images", **fields: Any) -> str:
        """Stores a picture; returns its id, which sorts by `number`."""
        values: dict[str, Any] = {
            "id": image_id(number),
            "source": f"https://example.com/{number}.jpg",
            "sources": [f"https://example.com/{number}.jpg"],
            "format": "jpeg",
            "width": 640,
            "height": 480,
            "bytes": 1234,
            "created_at": 1_700_000_000.25,
        }
        image = Image(**values | fields)
        model = {"model": self.encoder.name, "fingerprint": self.encoder.fingerprint}
        opened = self.services.index.ensure(collection, **model, dimension=DIMENSION)
        opened.upsert([image], vector[None], ["job:0"])
        return image.id


def halves(width: int = 96, height: int = 48) -> PillowImage.Image:
    """Red on the left, blue on the right."""
    image = PillowImage.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def image_id(number: int) -> str:
    return f"{number:064x}"


def make_api(
    folder: Path, services: Services | None = None, encoder: StubEncoder | None = None, *others: StubEncoder
) -> Api:
    """Its default model is `encoder`; it can load `others` beside."""
    services, encoder = services or make_services(folder), encoder or StubEncoder()

    def load(_: Services, model: str | None) -> Encoder:
        found = next((one for one in (encoder, *others) if model in (None, one.name)), None)
        if found is None:
            raise ModelUnavailable(f"The model {model} is not here.")
        return cast(Encoder, found)

    app = create_app(services.settings, services, load=load, at_hand=lambda _: None)
    api = Api(app, services, encoder)
    wait_until(lambda: api.context.models.fingerprints() != [])
    return api


def with_services(api: Api, folder: Path, **parts: Any) -> Api:
    """The same data, some of the services replaced."""
    return make_api(folder, replace(api.services, **parts), api.encoder)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def assert_problem(
    response: TestResponse, status: int, code: str, pointer: str | None = None
) -> dict[str, Any]:
    """The problem document, of this status and code and, unless None, with a first fault at `pointer`."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    document: dict[str, Any] = json.loads(response.data)
    assert document["code"] == code, document
    assert code in MEANINGS or code in ITEM_CODES, "/docs/errors does not say what it means"
    assert document["status"] == status
    assert document["type"] == f"/docs/errors#{code}"
    assert document["title"]
    assert document["detail"]
    assert response.headers["X-Request-ID"]
    if pointer is not None:
        assert document["errors"][0]["pointer"] == pointer, document
        assert document["errors"][0]["message"]
    return document


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: int = 16) -> bytes:
    """A PNG file of one colour."""
    file = io.BytesIO()
    PillowImage.new("RGB", (size, size), colour).save(file, "PNG")
    return file.getvalue()
