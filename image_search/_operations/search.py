"""Operations that find and compare, each once, as what is sent and how the answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_search._bodies import media_type
from image_search._core import Core, Flow, Request, given, listed, path_of
from image_search._runners import operation
from image_search.errors import INVALID_REQUEST, ApiError, InvalidSource
from image_search.models.search import Comparison, HeatMap, SearchResult, SimilarResult

if TYPE_CHECKING:
    import httpx

_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
# A text, or an object of the API such as {"image_id": "…", "weight": 0.5}.
Term = str | Mapping[str, Any]
# A file, its bytes, a URL or a stored image's id; a str is whichever it looks like.
ImageLike = Path | bytes | str
# Words and phrases, or an object of the API such as {"any": ["boot"], "in": ["title"]}.
Keywords = str | Sequence[str] | Mapping[str, Any]


class SearchOperations(Core):
    """Searching, and comparing what was found."""

    @operation
    def search(
        self,
        text: str | None = None,
        *,
        images: ImageLike | Sequence[ImageLike] = (),
        positive: Term | Sequence[Term] = (),
        negative: Term | Sequence[Term] = (),
        box: Sequence[float] | None = None,
        vector: Iterable[float] | None = None,
        filters: Mapping[str, Any] | None = None,
        keywords: Keywords | None = None,
        collection: str | None = None,
        limit: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        min_confidence: float | None = None,
        order_by: str | None = None,
        among: int | None = None,
        group_by: str | None = None,
        diversity: float | None = None,
        include: str | Sequence[str] | None = None,
        facets: str | Sequence[str] = (),
    ) -> Flow[SearchResult]:
        """Find images by words, by example images, or by both.

        Args:
            text: words that describe what to find.
            images: example images: files (Path), their bytes, URLs, ids of stored images. A str is a URL, an
                id or a file's name, whichever it looks like.
            positive: further terms: texts, or objects such as `{"image_id": "…", "weight": 0.5}`.
            negative: terms that a result should not be like.
            box: of the one example image the part that counts: left, top, right and bottom as shares, 0 to 1,
                of the sides of the image as it is shown. Objects in `positive` and `negative` have their own.
            vector: numbers of the collection's model, of any length but 0; counts as an image.
            filters: conditions on fields and metadata, such as `{"shop": "north", "width": {"gte": 1024}}`.
            keywords: words and phrases that the metadata must have, whole and in any case: all of these, or
                an object such as `{"any": ["boot", "north face"], "in": ["title"]}`.
            collection: where to search; `images` by default.
            limit: the most results, 1 to 500.
            offset: how many results to pass over.
            min_score: leaves out results of a lower cosine similarity, -1 to 1.
            min_confidence: leaves out results that are less sure to fit, 0 to 1.
            order_by: a field or metadata name to order what is relevant by, with `-` the largest first. It
                needs `min_score`, `min_confidence` or `among`.
            among: looks at the nearest so many alone, 1 to 10,000.
            group_by: a field or metadata name of which each value has one result, its best, or
                `near_duplicates`; each result has its `group`.
            diversity: how much a result is to differ from those before it, 0 to 1.
            include: what each result carries besides: `metadata` (the default), `tags`, `contributions`,
                `confidence` (with `strength`, the word for it). `vectors` gives those of the query's images,
                once, to ask for the next page with instead of them.
            facets: names of fields and metadata whose values are counted over all that match.

        Returns:
            `results`, best first, with a `score` (cosine similarity) each, with `keywords` also what
            `matched`; `took_ms`; `model`; `facets`; `list_scope`, what an order or groups were made over.
        """
        examples = listed(images)
        terms = [term for image in examples if (term := _stored_or_url(image)) is not None]
        part = None if box is None else _numbers(box)
        if part is not None and len(examples) != 1:
            raise ApiError(0, INVALID_REQUEST, "`box` is a part of one example image: give one in `images`")
        if part is not None and terms:
            terms, part = [{**terms[0], "box": part}], None
        query = given(
            {
                "text": text,
                "positive": [*terms, *map(_term, listed(positive))] or None,
                "negative": [*map(_term, listed(negative))] or None,
                "box": part,
                "vector": None if vector is None else _numbers(vector),
                "filters": filters or None,
                "keywords": None if keywords is None else _keywords(keywords),
                "collection": collection,
                "limit": limit,
                "offset": offset or None,
                "min_score": min_score,
                "min_confidence": min_confidence,
                "order_by": order_by,
                "among": among,
                "group_by": group_by,
                "diversity": diversity,
                "include": None if include is None else listed(include),
                "facets": listed(facets) or None,
            }
        )
        uploads = [_upload(image) for image in examples if _stored_or_url(image) is None]
        if not uploads:
            return self._ask(SearchResult, Request("POST", "/v1/search", json=query))
        described = ("query", (None, json.dumps(query).encode(), "application/json"))
        return self._ask(SearchResult, Request("POST", "/v1/search", files=[described, *uploads]))

    @operation
    def similar(
        self,
        image_id: str,
        *,
        collection: str | None = None,
        limit: int = 20,
        min_score: float | None = None,
    ) -> Flow[SimilarResult]:
        """Find the images nearest to a stored one, which is not among them."""
        params = {"collection": collection, "limit": limit, "min_score": min_score}
        return self._ask(SimilarResult, Request("GET", image_path(image_id, "similar"), given(params)))

    @operation
    def compare(self, a: Term, b: Term, *, collection: str | None = None) -> Flow[float]:
        """Return the cosine similarity, -1 to 1, of any two texts, images and vectors.

        A str is a text; the others are objects such as `{"image_id": "…"}` or `{"vector": […]}`.
        """
        body = given({"a": _term(a), "b": _term(b), "collection": collection})
        answer = yield from self._ask(Comparison, Request("POST", "/v1/compare", json=body))
        return answer.score

    @operation
    def explain(self, image_id: str, text: str, *, collection: str | None = None) -> Flow[HeatMap]:
        """Return a PNG of the image under a heat map of where it matches the text.

        Its `clear` says whether there is a clear spot at all.
        """
        params = given({"image_id": image_id, "text": text, "collection": collection})
        answer = yield from self._file("/v1/explain", params)
        return HeatMap.of(answer.content, answer.headers)

    def _file(self, path: str, params: Mapping[str, Any]) -> Flow[httpx.Response]:
        return self._send(Request("GET", path, params, media="image/"))


def image_path(image_id: str, *more: str) -> str:
    return path_of("/v1/images", image_id, *more)


def _term(term: Term) -> Mapping[str, Any]:
    return {"text": term} if isinstance(term, str) else term


def _keywords(keywords: Keywords) -> Mapping[str, Any]:
    return keywords if isinstance(keywords, Mapping) else {"all": listed(keywords)}


def _numbers(numbers: Iterable[float]) -> list[float]:
    """Return numbers as JSON takes them, also those of an array."""
    return [float(number) for number in numbers]


def _stored_or_url(image: ImageLike) -> Mapping[str, Any] | None:
    """Return the term for an image that the server has or fetches; None for what is to be uploaded."""
    if not isinstance(image, str):
        return None
    if "://" in image:
        return {"image_url": image}
    return {"image_id": image} if _IMAGE_ID.fullmatch(image) else None


def _upload(image: ImageLike) -> tuple[str, tuple[str, bytes, str]]:
    if isinstance(image, bytes):
        return "image", ("image", image, "application/octet-stream")
    path = Path(image)
    try:
        return "image", (path.name, path.read_bytes(), media_type(path.name))
    except OSError as error:
        raise InvalidSource(f"{image!r} cannot be read: {error.strerror}") from None
