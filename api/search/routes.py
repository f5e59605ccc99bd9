"""The search routes: terms and filters in, pictures with scores out. Needs only the encoder and Chroma."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import IO, Any

from flask import Response, jsonify, request
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest

from api.context import context, main_model, open_collection
from api.encoding.calibration import MIN_IMAGES, Calibration, strength
from api.http.auth import requires
from api.http.openapi import component, make_blueprint
from api.http.problems import MAX_BODY_BYTES, load_json, parse
from api.search.answers import hit_answer
from api.search.arrangement import Floor, Relevant, arrange, check, most_of, names_of, scope_of
from api.search.facets import Facets, count_values
from api.search.nsfw_filter import visible
from api.search.query import Query, Term, cut_off, encoded, refuse_blank, terms_of
from api.search.requests import (
    MAX_BASE64,
    SEARCHES,
    CompareRequest,
    SearchForm,
    SearchQuery,
    SearchRequest,
)
from api.search.unknown_names import warnings_of
from image_search import models
from image_search.models.search import FACET_BOUND
from shared.errors import InvalidRequest, UnsupportedMediaType
from shared.filters.conditions import And, Where
from shared.filters.keywords import HasKeywords, parse_keywords
from shared.filters.parsing import parse_where
from shared.index.collection import Collection
from shared.metrics.definitions import SEARCH_ENCODE_SECONDS, SEARCH_INDEX_SECONDS, SEARCHES_ANSWERED
from shared.models import Image
from shared.tracing import tracing
from shared.validation import pointer

MAX_FORM_BYTES = 128 * 2**20
MAX_JSON_BYTES = MAX_BASE64 + MAX_BODY_BYTES

blueprint = make_blueprint("search", __name__)

_BODY = {
    "required": True,
    "content": {
        "application/json": component(blueprint, SearchRequest) | {"examples": SEARCHES},
        "multipart/form-data": component(blueprint, SearchForm),
    },
}


@blueprint.before_request
def _take_pictures() -> None:
    request.max_content_length = MAX_JSON_BYTES


@blueprint.post(
    "/v1/search",
    summary="Search by texts, pictures or both",
    responses={200: models.SearchResult},
    openapi_extensions={"requestBody": _BODY},
)
@requires("search")
def search() -> Response:
    """Search by texts and pictures, best first, ties by id; `score` is the cosine similarity to the query.

    The query is the unit vector of the weighted sum of the positive terms' unit vectors less the negative
    ones'; `text`, `image_url`, `image_id`, `image_base64`, `vector` and uploaded pictures are positive terms
    of weight 1. Of a picture with a `box` only that part counts. A `vector` counts as a picture;
    `include: ["vectors"]` gives those of the pictures that were read, so that further pages need not send
    them again. Where texts and pictures are mixed, the pictures' weights are scaled so that they count as the
    texts' do. So the score
    is a weighted sum of the picture's cosines to the terms, over the norm of the weighted sum of the terms'
    vectors; `include: ["contributions"]` gives each summand. `include: ["confidence"]` and `min_confidence`
    rest on how the query scores among pictures of all kinds, so that "nothing fits" can be an answer. Pages
    of one query, by `offset` and `limit`, neither repeat nor miss a picture while the collection stays as it
    is; what is past an offset of 10,000 is reached by narrower `filters`. A query by `image_id` alone returns
    that picture too, first. A collection `images` that nothing was put into yet is searched as an empty one.
    With the setting `NSFW_MAX`, pictures whose `nsfw` is above it are left out, of the facets too, unless
    `filters` has a condition on `nsfw`.
    """
    query, uploads = _read_request()
    return _answer(query, uploads)


@blueprint.get("/v1/search", summary="Search by a text", responses={200: models.SearchResult})
@requires("search")
def search_by_text(query: SearchQuery) -> Response:
    """Search by a text: the simple case of `POST /v1/search`."""
    return _answer(SearchRequest(**query.model_dump()), [])


@blueprint.post("/v1/compare", summary="Compare two texts or pictures", responses={200: models.Comparison})
@requires("search")
def compare(body: CompareRequest) -> Response:
    """Return the cosine similarity of any two texts, pictures (or parts of them, by `box`) and vectors."""
    terms = [Term.of("/a", body.a), Term.of("/b", body.b)]
    refuse_blank(terms)
    (first, second), _, _ = encoded(terms, open_collection(body.collection))
    score = min(1.0, max(-1.0, float(first @ second)))
    return _json(models.Comparison(score=score))


def _read_request() -> tuple[SearchRequest, list[IO[bytes]]]:
    if request.mimetype == "application/json":
        return parse(SearchRequest, request.get_json()), []
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The body's Content-Type must be application/json or multipart/form-data.")
    request.max_content_length = MAX_FORM_BYTES
    names = {name or "" for name in (*request.files, *request.form)}  # a part may have none
    for name in sorted(names - {"image", "query"}):
        raise _bad_part(name, "unknown part; a search takes `image` and `query` parts")
    if "image" in request.form:
        raise _bad_part("image", "must be a file: the part has no file name")
    return parse(SearchRequest, _query_part()), [part.stream for part in request.files.getlist("image")]


def _bad_part(name: str, message: str) -> InvalidRequest:
    at = pointer(name)
    return InvalidRequest(f"{at}: {message}.", [{"pointer": at, "message": message}])


def _query_part() -> Any:
    parts = [*request.form.getlist("query"), *(part.read() for part in request.files.getlist("query"))]
    if len(parts) > 1:
        raise BadRequest("There is more than one `query` part.")
    return load_json(parts[0], "The `query` part") if parts else {}


def _answer(asked: SearchRequest, uploads: list[IO[bytes]]) -> Response:
    started = perf_counter()
    check(asked)
    filters, keywords = parse_where(asked.filters) if asked.filters else None, _keywords(asked)
    terms = terms_of(asked, uploads)
    collection = open_collection(asked.collection)
    if keywords and collection:
        collection.check_keywords()
    query, encode_s = _timed("encode", lambda: Query.of(terms, collection))
    found, index_s = _timed("index", lambda: _find(asked, query, filters, keywords, collection))
    SEARCH_ENCODE_SECONDS.observe(encode_s)
    SEARCH_INDEX_SECONDS.observe(index_s)
    SEARCHES_ANSWERED.labels(query.kind, str(query.cached).lower()).inc()
    total_s = perf_counter() - started
    return _json(
        models.SearchResult(
            results=found.results,
            took_ms=models.Took(encode=_ms(encode_s), index=_ms(index_s), total=_ms(total_s)),
            model=collection.pointer.model if collection else main_model().name,
            facets=found.facets,
            facet_scope=found.facet_scope,
            list_scope=found.list_scope,
            vectors=query.picture_vectors() if "vectors" in asked.include else None,
            warnings=[*cut_off(query), *found.warnings] or None,
        )
    )


def _keywords(asked: SearchRequest) -> HasKeywords | None:
    words = asked.keywords
    if words is None:
        return None
    return parse_keywords(words.all or words.any or (), words.names or (), every=bool(words.all))


@dataclass
class _Found:
    """The parts of the answer that come from the collection."""

    results: list[models.Hit] = field(default_factory=list)
    facets: Facets | None = None
    facet_scope: models.FacetScope | None = None
    list_scope: models.ListScope | None = None
    warnings: list[str] = field(default_factory=list)


def _find(
    asked: SearchRequest,
    query: Query,
    filters: Where | None,
    keywords: HasKeywords | None,
    collection: Collection | None,
) -> _Found:
    found = _Found()
    if collection is None:
        _count_facets(found, asked, [], complete=True)
        found.list_scope = scope_of(asked, None, 0, complete=True)
        return found
    calibration = _calibration(asked, query, collection, found.warnings)
    floor = _floor(asked, calibration)
    where = And((filters, keywords)) if filters and keywords else filters or keywords
    shown = visible(where)
    relevant = Relevant(query, collection, shown, floor, most_of(asked))
    listed = arrange(asked, relevant, floor)
    found.list_scope = listed.scope
    shown_parts = {name: name in asked.include for name in ("metadata", "tags")}
    found.results = [hit_answer(hit, asked.collection, **shown_parts) for hit in listed.hits]
    for result, group in zip(found.results, listed.groups or (), strict=False):
        result.group = group
    if keywords:
        for result, hit in zip(found.results, listed.hits, strict=True):
            result.matched = keywords.matched(hit.image)
    if "contributions" in asked.include:
        _add_contributions(found.results, query, collection)
    if "confidence" in asked.include and calibration is not None:
        for result in found.results:
            result.confidence = calibration.confidence(result.score)
            result.strength = strength(result.confidence)
    if asked.facets:
        least = None if floor is None else floor.score
        images, complete = collection.matching(query.vector, where=shown, min_score=least, most=FACET_BOUND)
        _count_facets(found, asked, images, complete=complete)
    if not asked.offset:  # said once, with the first page
        names = [*names_of(asked)]
        names += [("/facets", name) for name, counts in (found.facets or {}).items() if not counts]
        images, is_full = [hit.image for hit in listed.hits], len(listed.hits) == asked.limit
        found.warnings += warnings_of(where, names, images, collection, is_full=is_full)
    return found


def _calibration(
    asked: SearchRequest, query: Query, collection: Collection, warnings: list[str]
) -> Calibration | None:
    if asked.min_confidence is None and "confidence" not in asked.include:
        return None
    only_texts = all(term.text is not None for term in query.terms)
    words_of = query.encoder if only_texts else None
    calibration = context().backgrounds.calibrate(query.vector, collection, words_of)
    if calibration is None and asked.min_confidence is not None:
        warnings.append(
            f"/min_confidence: there is no confidence in a collection of fewer than {MIN_IMAGES} pictures, "
            "so none was asked for."
        )
    return calibration


def _floor(asked: SearchRequest, calibration: Calibration | None) -> Floor | None:
    """Return the least score that both bounds allow: confidence grows with the score."""
    floors = [] if asked.min_score is None else [Floor(asked.min_score, "min_score")]
    if asked.min_confidence is not None and calibration is not None:
        floors.append(Floor(calibration.score(asked.min_confidence), "min_confidence"))
    return max(floors, default=None)


def _add_contributions(results: list[models.Hit], query: Query, collection: Collection) -> None:
    vectors = collection.vectors([result.id for result in results])
    for result in results:
        if result.id in vectors:  # not deleted meanwhile
            shares = query.shares(vectors[result.id])
            result.contributions = [models.Contribution(**asdict(share)) for share in shares]


def _count_facets(found: _Found, asked: SearchRequest, images: list[Image], *, complete: bool) -> None:
    if asked.facets:
        found.facets, cut = count_values(images, asked.facets)
        found.facet_scope = models.FacetScope(
            pictures=len(images), complete=complete, bound=FACET_BOUND, cut_off=cut
        )


def _timed(name: str, call: Callable[[], Any]) -> tuple[Any, float]:
    started = perf_counter()
    with tracing.span(name, within=True):
        return call(), perf_counter() - started


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _json(answer: BaseModel) -> Response:
    # Optional parts (warnings, metadata that was not asked for) are left out instead of null.
    try:
        text = answer.model_dump_json(exclude_none=True)
    except ValueError:  # half a surrogate pair in some metadata, which is no UTF-8
        return jsonify(answer.model_dump(exclude_none=True))
    return Response(text, mimetype="application/json")
