"""The search routes: one unit vector and filters in, pictures with scores out. Needs the encoder and Chroma only."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from flask import Response, jsonify, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest

from api.auth import requires
from api.context import encoder, metrics
from api.openapi import component
from api.problems import load_json, parse
from api.query import Term, cut_off, open_collection, query_vector, terms_of, unit_vectors
from api.schemas import (
    MAX_PICTURES,
    CompareRequest,
    CompareResponse,
    Result,
    SearchForm,
    SearchQuery,
    SearchRequest,
    SearchResponse,
    Took,
    thumbnail_url,
)
from shared.errors import InvalidRequest, UnsupportedMediaType
from shared.filters import parse_where
from shared.models import Hit

MAX_FORM_BYTES = 128 * 2**20

blueprint = APIBlueprint("search", __name__, abp_tags=[Tag(name="search", description="Search")])

_BODY = {
    "required": True,
    "content": {
        "application/json": component(blueprint, SearchRequest),
        "multipart/form-data": component(blueprint, SearchForm),
    },
}


@blueprint.post(
    "/v1/search",
    summary="Search by texts, pictures or both",
    responses={200: SearchResponse},
    openapi_extensions={"requestBody": _BODY},
)
@requires("search")
def search() -> Response:
    """Best first, ties by id. `score` is the cosine similarity to the query.

    The query is the unit vector of the weighted sum of the positive parts' unit vectors less the negative
    ones'; `text`, `image_url`, `image_id` and uploaded pictures are positive parts of weight 1. A query by
    `image_id` returns that picture too, first. The collection `images` exists from the beginning, empty.
    """
    query, uploads = _read_request()
    return _answer(query, uploads)


@blueprint.get("/v1/search", summary="Search by a text", responses={200: SearchResponse})
@requires("search")
def search_by_text(query: SearchQuery) -> Response:
    """The simple case of `POST /v1/search`."""
    return _answer(SearchRequest(**query.model_dump()), [])


@blueprint.post("/v1/compare", summary="Compare two texts or pictures", responses={200: CompareResponse})
@requires("search")
def compare(body: CompareRequest) -> Response:
    """The cosine similarity of any two of text, image_id and image_url."""
    terms = [Term.of("/a", body.a), Term.of("/b", body.b)]
    first, second = unit_vectors(terms, open_collection(body.collection))
    score = min(1.0, max(-1.0, float(first @ second)))
    return _json(CompareResponse(score=score))


def result_of(hit: Hit, collection: str, *, metadata: bool = True) -> Result:
    image = hit.image
    return Result(
        id=image.id,
        score=hit.score,
        source=image.source,
        thumbnail_url=thumbnail_url(collection, image.id),
        width=image.width,
        height=image.height,
        metadata=image.metadata if metadata else None,
    )


def _read_request() -> tuple[SearchRequest, list[bytes]]:
    if request.mimetype == "application/json":
        return parse(SearchRequest, request.get_json()), []
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The body's Content-Type must be application/json or multipart/form-data.")
    request.max_content_length = MAX_FORM_BYTES
    unknown = (set(request.files) | set(request.form)) - {"image", "query"}
    if unknown:
        name = min(unknown)
        raise InvalidRequest(
            f"/{name}: unknown part; a search takes `image` and `query` parts.",
            [{"pointer": f"/{name}", "message": "unknown part"}],
        )
    uploads = [part.read() for part in request.files.getlist("image")]
    if len(uploads) > MAX_PICTURES:
        raise InvalidRequest(f"A query takes at most {MAX_PICTURES} pictures.")
    return parse(SearchRequest, _query_part()), uploads


def _query_part() -> Any:
    parts = [*request.form.getlist("query"), *(part.read() for part in request.files.getlist("query"))]
    if len(parts) > 1:
        raise BadRequest("There is more than one `query` part.")
    return load_json(parts[0], "The `query` part") if parts else {}


def _answer(query: SearchRequest, uploads: list[bytes]) -> Response:
    started = perf_counter()
    where = parse_where(query.filters) if query.filters else None
    terms = terms_of(query, uploads)
    collection = open_collection(query.collection)
    vector, encode_s = _timed(lambda: query_vector(terms, collection))
    hits: list[Hit] = []
    index_s = 0.0
    if collection is not None:
        opened = collection
        hits, index_s = _timed(
            lambda: opened.search(
                vector, limit=query.limit, offset=query.offset, where=where, min_score=query.min_score
            )
        )
    metrics().encode_seconds.observe(encode_s)
    metrics().index_seconds.observe(index_s)
    total_s = perf_counter() - started
    return _json(
        SearchResponse(
            results=[result_of(hit, query.collection, metadata="metadata" in query.include) for hit in hits],
            took_ms=Took(encode=_ms(encode_s), index=_ms(index_s), total=_ms(total_s)),
            model=collection.info.model if collection else encoder().name,
            warnings=cut_off(terms) or None,
        )
    )


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = perf_counter()
    return call(), perf_counter() - started


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _json(answer: BaseModel) -> Response:
    # Optional parts (warnings, metadata that was not asked for) are left out instead of null.
    return jsonify(answer.model_dump(exclude_none=True))
