"""Every operation of the API once, as what is sent and how the answer is read."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from image_search._bodies import media_type
from image_search._core import Core, Flow, Request, refusal
from image_search.models.collections import CollectionOut, CollectionsOut
from image_search.models.duplicates import DuplicatesOut
from image_search.models.health import Readiness
from image_search.models.images import EmbeddingOut, ImageOut, ImagesOut
from image_search.models.search import CompareResponse, SearchResponse, SimilarResponse
from image_search.models.system import SystemOut
from shared.models import JsonObject, Metadata

if TYPE_CHECKING:
    import httpx

COMPARE_TIMEOUT_S = 300.0
DELETE_TIMEOUT_S = 600.0
MOST_GROUPS = 200  # in one answer
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
# A text, or an object of the API such as {"image_id": "…", "weight": 0.5}.
Term = str | Mapping[str, Any]
# A file, its bytes, a URL or a stored picture's id; a str is whichever it looks like.
Picture = Path | bytes | str


class Calls(Core):
    """Searching, pictures and collections."""

    def search(
        self,
        text: str | None = None,
        *,
        images: Sequence[Picture] = (),
        positive: Sequence[Term] = (),
        negative: Sequence[Term] = (),
        filters: Mapping[str, Any] | None = None,
        collection: str | None = None,
        limit: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        min_confidence: float | None = None,
        include: Sequence[str] | None = None,
        facets: Sequence[str] = (),
    ) -> Flow[SearchResponse]:
        """Pictures that `text`, example `images` and `positive` terms ask for and `negative` ones do not."""
        terms = [term for image in images if (term := _stored_or_url(image)) is not None]
        query: JsonObject = {
            "text": text,
            "positive": [*terms, *map(_term, positive)],
            "negative": [*map(_term, negative)],
            "filters": filters,
            "collection": collection,
            "limit": limit,
            "offset": offset,
            "facets": [*facets],
        }
        bounds = {"min_score": min_score, "min_confidence": min_confidence}
        query = {name: value for name, value in query.items() if value} | _given(bounds)
        if include is not None:
            query["include"] = [*include]
        uploads = [_upload(image) for image in images if _stored_or_url(image) is None]
        if not uploads:
            return self.ask(SearchResponse, Request("POST", "/v1/search", json=query))
        part = ("query", (None, json.dumps(query).encode(), "application/json"))
        return self.ask(SearchResponse, Request("POST", "/v1/search", files=[part, *uploads]))

    def similar(
        self,
        image_id: str,
        *,
        collection: str | None = None,
        limit: int = 20,
        min_score: float | None = None,
    ) -> Flow[SimilarResponse]:
        """A picture's nearest neighbours, without itself."""
        params = {"collection": collection, "limit": limit, "min_score": min_score}
        return self.ask(SimilarResponse, Request("GET", _image(image_id, "similar"), _given(params)))

    def compare(self, a: Term, b: Term, *, collection: str | None = None) -> Flow[float]:
        """The cosine similarity of any two of texts, pictures and URLs of pictures."""
        body = _given({"a": _term(a), "b": _term(b), "collection": collection})
        answer = yield from self.ask(CompareResponse, Request("POST", "/v1/compare", json=body))
        return answer.score

    def explain(self, image_id: str, text: str, *, collection: str | None = None) -> Flow[bytes]:
        """A PNG: the picture under a heat map of where it answers to the text."""
        params = _given({"image_id": image_id, "text": text, "collection": collection})
        return (yield from self._bytes("/v1/explain", params))

    def duplicates(
        self,
        *,
        collection: str | None = None,
        threshold: float | None = None,
        max_distance: int | None = None,
        limit: int = 50,
    ) -> Flow[DuplicatesOut]:
        """The first `limit` groups of near-duplicates, of as many pages as it takes."""
        params = _given({"collection": collection, "threshold": threshold, "max_distance": max_distance})
        answer: DuplicatesOut | None = None
        while answer is None or (len(answer.groups) < limit and answer.next_cursor):
            left = limit - len(answer.groups) if answer else limit
            cursor = {"cursor": answer.next_cursor} if answer else {}
            page = {**params, **cursor, "limit": min(left, MOST_GROUPS)}
            request = Request("GET", "/v1/duplicates", page, timeout=COMPARE_TIMEOUT_S)
            more = yield from self.ask(DuplicatesOut, request)
            answer = more.model_copy(update={"groups": [*(answer.groups if answer else ()), *more.groups]})
        return answer

    def image(self, image_id: str, *, collection: str | None = None) -> Flow[ImageOut]:
        return self.ask(ImageOut, Request("GET", _image(image_id), _given({"collection": collection})))

    def images(
        self,
        *,
        key: str | None = None,
        filters: Mapping[str, Any] | None = None,
        collection: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Flow[ImagesOut]:
        """One page of the pictures, in the order of their ids."""
        text = None if filters is None else json.dumps(filters)
        params = {"key": key, "filters": text, "collection": collection, "limit": limit, "cursor": cursor}
        return self.ask(ImagesOut, Request("GET", "/v1/images", _given(params)))

    def update_image(
        self, image_id: str, metadata: Mapping[str, Any], *, collection: str | None = None
    ) -> Flow[ImageOut]:
        """Merges `metadata` into the picture's; None takes a name away."""
        body = {"metadata": {**metadata}}
        request = Request("PATCH", _image(image_id), _given({"collection": collection}), json=body)
        return self.ask(ImageOut, request)

    def delete_image(self, image_id: str, *, collection: str | None = None) -> Flow[None]:
        yield from self.send(Request("DELETE", _image(image_id), _given({"collection": collection})))

    def delete_key(self, key: str, *, collection: str | None = None) -> Flow[None]:
        """Removes the key, and its picture unless something else has brought that too."""
        yield from self.send(Request("DELETE", "/v1/images", _given({"key": key, "collection": collection})))

    def thumbnail(self, image_id: str, *, collection: str | None = None) -> Flow[bytes]:
        """A WebP, longest side 256 px."""
        return (yield from self._bytes(_image(image_id, "thumbnail"), _given({"collection": collection})))

    def rendition(self, image_id: str, *, collection: str | None = None) -> Flow[bytes]:
        """A JPEG or WebP, longest side 768 px, where one was kept."""
        return (yield from self._bytes(_image(image_id, "rendition"), _given({"collection": collection})))

    def embedding(self, image_id: str, *, collection: str | None = None) -> Flow[EmbeddingOut]:
        """The picture's unit vector, as the index holds it."""
        params = _given({"collection": collection})
        return self.ask(EmbeddingOut, Request("GET", _image(image_id, "embedding"), params))

    def collections(self) -> Flow[list[CollectionOut]]:
        return (yield from self.ask(CollectionsOut, Request("GET", "/v1/collections"))).collections

    def collection(self, name: str) -> Flow[CollectionOut]:
        return self.ask(CollectionOut, Request("GET", collection_path(name)))

    def create_collection(self, name: str) -> Flow[CollectionOut]:
        request = Request("POST", "/v1/collections", json={"name": name}, repeatable=False)
        return self.ask(CollectionOut, request)

    def delete_collection(self, name: str) -> Flow[None]:
        yield from self.send(Request("DELETE", collection_path(name), timeout=DELETE_TIMEOUT_S))

    def ready(self, *, ingest: bool = False) -> Flow[Readiness]:
        """Whether the server can search (or take jobs), and what its dependencies say."""
        params = {"for": "ingest"} if ingest else {}
        request = Request("GET", "/readyz", params, expected=frozenset({503}))
        answer: httpx.Response = yield from self.send(request)
        try:
            return Readiness.model_validate(answer.json())
        except ValueError:
            raise refusal(answer) from None

    def system(self) -> Flow[SystemOut]:
        """Readiness, model, collections, queues, workers and the last errors, as far as they can be had."""
        return self.ask(SystemOut, Request("GET", "/v1/system"))

    def _bytes(self, path: str, params: Mapping[str, Any]) -> Flow[bytes]:
        answer: httpx.Response = yield from self.send(Request("GET", path, params))
        return answer.content


def collection_path(name: str, *more: str) -> str:
    return "/".join(["/v1/collections", quote(name, safe=""), *more])


def with_metadata(items: Iterable[Term], metadata: Metadata) -> Iterable[Term]:
    """The items of a job; `metadata` is under what each has itself."""
    for item in items:
        own: Mapping[str, Any] = {"url": item} if isinstance(item, str) else item
        yield {**own, "metadata": {**metadata, **(own.get("metadata") or {})}} if metadata else item


def _image(image_id: str, *more: str) -> str:
    return "/".join(["/v1/images", quote(image_id, safe=""), *more])


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _term(term: Term) -> Mapping[str, Any]:
    return {"text": term} if isinstance(term, str) else term


def _stored_or_url(image: Picture) -> Mapping[str, str] | None:
    """None for what is to be uploaded."""
    if not isinstance(image, str):
        return None
    if "://" in image:
        return {"image_url": image}
    return {"image_id": image} if _IMAGE_ID.fullmatch(image) else None


def _upload(image: Picture) -> tuple[str, tuple[str, bytes, str]]:
    if isinstance(image, bytes):
        return "image", ("image", image, "application/octet-stream")
    path = Path(image)
    return "image", (path.name, path.read_bytes(), media_type(path.name))
