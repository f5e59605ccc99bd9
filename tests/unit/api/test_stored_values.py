"""Every route has an answer whatever is stored: records as anybody may have written them into Chroma."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from image_search import models
from shared.errors import ItemError
from shared.index.connection import calls
from shared.index.index import Index
from shared.job_document import job_document
from shared.ledger.ledger import new_job_id
from shared.ledger.scripts import PREFIX
from shared.models import Chunk, Item, Stage
from shared.storage.manifest import ManifestWriter
from shared.storage.parquet import Source
from tests.chroma_server import ChromaServer
from tests.odd_records import BROKEN, CONTRIBUTIONS, EXTRAS, INSIDE, KEY, KEY_RECORDS, ODD_IDS, TEXTS, records
from tests.unit.fakes import DIMENSION, Api, axis, image_id, make_api, make_services, picture
from tests.unit.stages import StubDispatcher, drain
from worker.pipelines import handler_of
from worker.stages.transition import Outcome, end_chunk

SOUND = image_id(9)


class Asked:
    """How a route is asked, and which answers it may give."""

    def __init__(self, path: str, *statuses: int, model: Any = None, lists: bool = False, **options: Any):
        self.path, self.statuses, self.model = path, statuses or (200,), model
        self.lists, self.options = lists, options  # lists: the sound picture is in the answer


def refused(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


FILTERS = [
    {"shop": "north"},
    {"taken_at": {"gte": "0001-01-01", "lte": "9999-12-31"}},
    {"not": {"near": {"lat": 0, "lon": 0, "radius_km": 9000}}, "width": {"gte": 0}},
    {"or": [{"source": {"ne": "e\u0301"}}, {"tags": "x"}, {"key": KEY}, {"job": "x"}]},
]
FACETS = [
    "taken_at",
    "created_at",
    "width",
    "tags",
    "key",
    "source",
    "shop",
    "sizes",
    "job",
    "nsfw",
    "id",
    "lat",
]
SEARCH = {"text": "axis 0", "limit": 50, "facets": FACETS, "include": ["metadata", "tags", "contributions"]}
ITEM = {"image_id": ODD_IDS[0]}


def searches() -> Iterator[Asked]:
    for query in [*(SEARCH | {"filters": one} for one in FILTERS), SEARCH, ITEM]:
        yield Asked("/v1/search", model=models.SearchResult, json=query, lists=True)
    form = {"query": json.dumps(SEARCH | {"text": None}), "image": (BytesIO(picture()), "a.png")}
    yield Asked("/v1/search", model=models.SearchResult, data=form)


def lists() -> Iterator[Asked]:
    for query in [*({"filters": json.dumps(one)} for one in FILTERS), {}]:
        yield Asked("/v1/images", model=models.ImagePage, query_string=query, lists=True)
    yield Asked(f"/v1/images?key={KEY}", model=models.ImagePage)


def many(what: str, **change: object) -> Iterator[Asked]:
    for which in [*({"filters": one, "all": True} for one in FILTERS), {"ids": ODD_IDS}, {"keys": [KEY]}]:
        yield Asked(f"/v1/images/{what}", 202, model=models.Job, json=which | change)


# Routes that read nothing of what requests have stored.
APART = {
    *("POST /v1/jobs", "POST /v1/collections", "POST /v1/collections/<name>/import", "GET /healthz"),
    *("GET /metrics", "GET /openapi.json", "GET /docs", "GET /docs/errors", "GET /docs/init.js"),
    *("GET /docs/static/<path:name>", "GET /static/<path:name>", "GET /manifest.webmanifest", "GET /system"),
    *("GET /", "GET /ingest", "GET /jobs", "GET /jobs/<job_id>", "GET /duplicates", "GET /readyz"),
    # Their documents are files of ours, which tests/unit/shared/sources damages.
    *("GET /sources", "GET /v1/sources", "PUT /v1/sources/<name>", "GET /v1/sources/<name>"),
    *("DELETE /v1/sources/<name>", "POST /v1/sources/<name>/sync"),
}


def asked_of(job: str) -> dict[str, list[Asked]]:
    """Each other route of the application, in the order in which they are asked: what deletes comes last."""
    odd, here = ODD_IDS[0], "/v1/collections/images"
    change: Any = {"new": "x", "shop": None}
    return {
        "GET /v1/images": [*lists()],
        "GET /v1/images/<image_id>": [
            Asked(f"/v1/images/{one}", model=models.Image) for one in (*ODD_IDS, SOUND)
        ],
        "GET /v1/images/<image_id>/thumbnail": [Asked(f"/v1/images/{odd}/thumbnail", 404)],
        "GET /v1/images/<image_id>/rendition": [Asked(f"/v1/images/{odd}/rendition", 404)],
        "GET /v1/images/<image_id>/similar": [
            Asked(f"/v1/images/{one}/similar", model=models.SimilarResult) for one in (odd, SOUND)
        ],
        "GET /v1/images/<image_id>/embedding": [Asked(f"/v1/images/{odd}/embedding", model=models.Embedding)],
        "POST /v1/search": [*searches()],
        "GET /v1/search": [Asked("/v1/search?text=axis 0", model=models.SearchResult)],
        "POST /v1/compare": [Asked("/v1/compare", json={"a": ITEM, "b": {"text": "axis 1"}})],
        "GET /v1/explain": [Asked(f"/v1/explain?image_id={odd}&text=x", 409)],
        "GET /v1/duplicates": [Asked("/v1/duplicates?threshold=0.1", model=models.DuplicatePage)],
        "GET /v1/collections": [Asked("/v1/collections", model=models.CollectionList)],
        "GET /v1/collections/<name>": [Asked(here, model=models.Collection)],
        "GET /v1/collections/<name>/metadata": [Asked(f"{here}/metadata", model=models.CollectionMetadata)],
        "POST /v1/collections/<name>/export": [Asked(f"{here}/export", 202, model=models.Job, json={})],
        "POST /v1/collections/<name>/reindex": [Asked(f"{here}/reindex", 422, json={"model": "auto"})],
        "GET /v1/jobs": [Asked(f"/v1/jobs{query}", model=models.JobPage) for query in ("", "?grouped=true")],
        "GET /v1/jobs/<job_id>": [Asked(f"/v1/jobs/{job}", model=models.Job)],
        "GET /v1/jobs/<job_id>/items": [Asked(f"/v1/jobs/{job}/items", model=models.ItemPage)],
        "GET /v1/jobs/<job_id>/events": [Asked(f"/v1/jobs/{job}/events")],
        "GET /v1/jobs/<job_id>/export": [Asked(f"/v1/jobs/{job}/export", 404, 409)],
        "POST /v1/jobs/<job_id>/retry": [Asked(f"/v1/jobs/{job}/retry", 202, model=models.Job)],
        "DELETE /v1/jobs/<job_id>": [Asked(f"/v1/jobs/{job}", model=models.Job)],
        "GET /v1/models": [Asked("/v1/models", model=models.ModelList)],
        "GET /v1/system": [Asked("/v1/system", model=models.System)],
        "PATCH /v1/images/<image_id>": [
            Asked(f"/v1/images/{one}", model=models.Image, json={"metadata": change}) for one in ODD_IDS
        ],
        "POST /v1/images/update": [*many("update", metadata=change)],
        "POST /v1/images/delete": [*many("delete", dry_run=True)],
        "DELETE /v1/images": [Asked(f"/v1/images?key={KEY}", 204, 404)],
        "DELETE /v1/images/<image_id>": [Asked(f"/v1/images/{odd}", 204, 404)],
        "DELETE /v1/collections/<name>": [Asked(here, 204)],
    }


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    with ChromaServer(folder / "chroma") as server:
        parts = {"index": Index(server.url), "dispatcher": cast(Any, StubDispatcher())}
        yield make_api(folder, replace(make_services(folder), **parts))


def store(api: Api, odd: list[dict[str, Any]], key: dict[str, Any]) -> None:
    """Write the records as a foreign hand does, past everything of ours, beside a sound picture."""
    api.add(9, axis(0), metadata={"shop": "north"}, taken_at=1.6e9)
    opened = api.services.index.open("images", max_age_s=0.0)
    vectors = np.stack([axis(number % DIMENSION) for number in range(len(odd))])
    opened.chroma.upsert(ODD_IDS[: len(odd)], vectors, odd)
    key_id = hashlib.sha256(KEY.encode()).hexdigest()
    keys = api.services.index.make(opened.pointer.keys)
    keys.upsert([key_id], np.ones((1, 2), np.float32), [key])


@dataclass(frozen=True)
class OddJob:
    """A job as its keys in Redis and its files may have it."""

    source: str
    detail: str
    fields: dict[str, str]
    errors: list[str]

    def store(self, api: Api) -> str:
        services, job_id = api.services, new_job_id()
        services.ledger._redis.call("flushall")
        manifest = ManifestWriter(services.blobs, job_id)
        manifest.add(Item(self.source, error="internal: x"))
        manifest.flush()
        services.ledger.create(job_id, collection="images", total=1, chunk_size=1)
        services.ledger.dispatch()
        claim = services.ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
        assert claim is not None
        failure = ItemError("internal", self.detail)
        assert end_chunk(services, claim, [Outcome(0, self.source, error=failure)])
        with services.ledger._redis.pipeline(transaction=True) as redis:
            if self.fields:
                redis.hset(f"{PREFIX}job:{job_id}", mapping=self.fields)
            for error in self.errors:
                redis.rpush(f"{PREFIX}errors:{job_id}", error)
            redis.execute()
        return job_id


ANY_TEXT = TEXTS | st.sampled_from(["\ud800", "\udc00é", "x\u2028\n"])
ERRORS = st.fixed_dictionaries(
    {}, optional={"index": INSIDE, "source": INSIDE, "code": INSIDE, "detail": INSIDE, "new": INSIDE}
)
JOBS = st.builds(
    OddJob,
    ANY_TEXT,
    ANY_TEXT,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("name", "origin", "made_of"), TEXTS),
            **dict.fromkeys(("result", "options", "notes"), EXTRAS | CONTRIBUTIONS),
        },
    ),
    st.lists(ERRORS.map(json.dumps) | BROKEN, max_size=2),
)


@settings(
    max_examples=8,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(odd=st.tuples(*map(records, ODD_IDS)), key=KEY_RECORDS, job=JOBS)
def test_every_route_has_an_answer_whatever_is_stored(
    api: Api, odd: tuple[dict[str, Any], ...], key: dict[str, Any], job: OddJob
) -> None:
    with calls(20.0):
        store(api, list(odd), key)
    job_id = job.store(api)
    json.dumps(
        job_document(api.services.ledger.get(job_id)), allow_nan=False
    ).encode()  # as a callback has it
    for rule, ways in asked_of(job_id).items():
        for one in ways:
            answer = api.http.open(one.path, method=rule.partition(" ")[0], **one.options)
            assert answer.status_code in one.statuses, f"{rule} {one.options}: {answer.text}"
            answer.close()
            if one.model and answer.mimetype == "application/json":
                one.model.model_validate(json.loads(answer.data, parse_constant=refused))
            if one.lists:
                assert SOUND in answer.text, f"{rule} {one.options} lost a sound picture"


def test_no_route_is_forgotten(api: Api) -> None:
    rules = {
        f"{method} {rule.rule}"
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert APART | asked_of("job").keys() == rules, "ask each new route here, with what its answer is"


@settings(
    max_examples=4,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(odd=st.tuples(*map(records, ODD_IDS)))
def test_an_export_takes_whatever_is_stored_and_an_import_takes_what_is_sound(
    api: Api, odd: tuple[dict[str, Any], ...]
) -> None:
    with calls(20.0):
        store(api, list(odd), {"image_id": ODD_IDS[0]})
    api.services.ledger._redis.call("flushall")
    job = work(api, api.http.post("/v1/collections/images/export", json={}))
    assert job["status"] == "succeeded"
    data = api.http.get(f"/v1/jobs/{job['job_id']}/export").data
    assert Source(BytesIO(data)).group_rows == [len(odd) + 1]
    brought = api.http.post(
        "/v1/collections/copy/import", data=data, content_type="application/vnd.apache.parquet"
    )
    assert work(api, brought)["status"] in ("succeeded", "partial")
    assert api.http.get(f"/v1/images/{SOUND}?collection=copy").status_code == 200
    for name in ("images", "copy"):
        api.services.index.delete(name)


def work(api: Api, made: Any) -> dict[str, Any]:
    """Return the job that a request made, after what the workers do for it."""
    assert made.status_code == 202, made.text
    ledger = api.services.ledger
    for chunk in ledger.dispatch():
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        handler_of(claim)(cast(Any, SimpleNamespace(services=api.services)), claim)
    drain(api.services)
    job: dict[str, Any] = api.http.get(made.headers["Location"]).json
    return job
