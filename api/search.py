"""The search routes: a vector and filters in, pictures with scores out. Needs only the encoder and Chroma."""

from collections.abc import Callable
from functools import partial
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
from api.query import (
    Term,
    Vector,
    cut_off,
    open_collection,
    query_vector,
    refuse_blank,
    terms_of,
    unit_vectors,
)
from api.schemas import (
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
from shared.filters import Where, parse_where
from shared.index import Collection
from shared.metadata import pointer
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
    `image_id` alone returns that picture too, first. A collection `images` that nothing was put into yet is
    searched as an empty one.
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
    refuse_blank(terms)
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
    for name in sorted({*request.files, *request.form} - {"image", "query"}):
        raise _bad_part(name, "unknown part; a search takes `image` and `query` parts")
    if "image" in request.form:
        raise _bad_part("image", "must be a file: the part has no file name")
    uploads = [part.read() for part in request.files.getlist("image")]
    return parse(SearchRequest, _query_part()), uploads


def _bad_part(name: str, message: str) -> InvalidRequest:
    at = pointer(name)
    return InvalidRequest(f"{at}: {message}.", [{"pointer": at, "message": message}])


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
    hits, index_s = _timed(lambda: _hits(query, terms, vector, where, collection))
    metrics().encode_seconds.observe(encode_s)
    metrics().index_seconds.observe(index_s)
    total_s = perf_counter() - started
    return _json(
        SearchResponse(
            results=[result_of(hit, query.collection, metadata="metadata" in query.include) for hit in hits],
            took_ms=Took(encode=_ms(encode_s), index=_ms(index_s), total=_ms(total_s)),
            model=collection.pointer.model if collection else encoder().name,
            warnings=cut_off(terms) or None,
        )
    )


def _hits(
    query: SearchRequest,
    terms: list[Term],
    vector: Vector,
    where: Where | None,
    collection: Collection | None,
) -> list[Hit]:
    if collection is None:
        return []
    search = partial(collection.search, vector, where=where, min_score=query.min_score)
    asked_for = terms[0].image_id if len(terms) == 1 and terms[0].weight > 0 else None
    if asked_for is None:
        return search(limit=query.limit, offset=query.offset)
    # Rounding could put a picture of the same vector before the one that was asked for.
    image = collection.get(asked_for)
    own = [Hit(image, 1.0)] if where is None or where.matches(image) else []
    start, stop = query.offset - len(own), query.offset + query.limit - len(own)
    others = search(limit=stop - max(start, 0), offset=max(start, 0), exclude=asked_for) if stop else []
    return own[query.offset :] + others


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = perf_counter()
    return call(), perf_counter() - started


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _json(answer: BaseModel) -> Response:
    # Optional parts (warnings, metadata that was not asked for) are left out instead of null.
    return jsonify(answer.model_dump(exclude_none=True))
