"""What odd files, names and metadata become on the real stack: taken in as far as it can be said again."""

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tests.image_server import ImageServer
from tests.stack import finished

COMPOSED, DECOMPOSED = "Z\u00fcrich", "Zu\u0308rich"  # as most systems type it, and as macOS does
WHEN, OFFSET, EXIF, GPS = 36867, 36881, 0x8769, 0x8825
# What a camera may claim: a time with its offset, and what is shown.
TIMES = [
    ("2024:06:01 12:00:00", "+02:00", "2024-06-01T10:00:00.000Z"),
    ("0001:01:01 00:00:00", "", "0001-01-01T00:00:00.000Z"),
    ("0001:01:01 00:00:00", "+01:00", None),
    ("9999:12:31 23:59:59", "", "9999-12-31T23:59:59.000Z"),
    ("9999:12:31 23:59:59", "-05:00", None),
    ("9999:12:31 23:59:60", "", None),
    ("2024:06:01 12:00:00", "+99:99", "2024-06-01T12:00:00.000Z"),
    ("0000:00:00 00:00:00", "", None),
    ("10000:01:01 00:00:00", "", None),
    ("\u0662\u0660\u0662\u0664:06:01 12:00:00", "", None),
]
PLACES = [
    ((47, 22, 12), "N", (8, 32, 24), "E"),
    ((91, 0, 0), "N", (0, 0, 0), "E"),
    ((IFDRational(0, 0), 0, 0), "N", (1, 0, 0), "E"),
    ((4_000_000_000, 0, 0), "S", (0, 0, 0), "W"),
]
VALUES: dict[str, Any] = {
    "most": 2**63 - 1, "least": -(2**63), "far": 1.7e308, "near_nothing": 5e-324, "zero": -0.0,
    "long": "x" * 30_000, "blank": "", "controls": "\x00\x1b[31m\u202e", "none": [],
    "many": [str(number) for number in range(900)], "yes": True,
}  # fmt: skip


def photo(seed: int, when: str = "", offset: str = "", place: Any = None) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    camera = exif.get_ifd(EXIF)
    camera |= {tag: text.encode() for tag, text in ((WHEN, when), (OFFSET, offset)) if text}
    if place is not None:
        exif.get_ifd(GPS).update({2: place[0], 1: place[1], 4: place[2], 3: place[3]})
    buffer = io.BytesIO()
    Image.fromarray(small).resize((64, 48)).save(buffer, "JPEG", exif=exif.tobytes())
    return buffer.getvalue()


def ingested(http: httpx.Client, collection: str, files: list[Any], metadata: Any = None) -> list[str]:
    """Ingest files of which none may fail; return their ids."""
    data = {"collection": collection} | ({} if metadata is None else {"metadata": json.dumps(metadata)})
    job = finished(http, http.post("/v1/jobs", files=[("files", one) for one in files], data=data))
    assert job["status"] == "succeeded", job
    items = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return [item["image_id"] for item in items]


def assert_answers(http: httpx.Client, collection: str, ids: list[str]) -> None:
    """Each route that shows what is stored shows all of it."""
    where = {"collection": collection}
    query = {**where, "text": "red", "limit": 100, "include": ["metadata", "tags", "contributions"]}
    facets = ["taken_at", "lat", "source", "key", "most", "long", "half", "many", "yes"]
    answers = [
        http.get("/v1/images", params=where),
        http.post("/v1/search", json=query | {"facets": facets}),
        http.post("/v1/search", json=query | {"filters": {"not": {"taken_at": {"lt": "0001-01-01"}}}}),
        http.post(
            "/v1/search",
            files={"image": ("a.jpg", photo(1))},
            data={"query": json.dumps(query | {"text": None})},
        ),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        document = json.loads(answer.content, parse_constant=pytest.fail)
        assert {one["id"] for one in document.get("images") or document["results"]} == set(ids)
    for image_id in ids:
        for part in ("", "/similar", "/embedding", "/thumbnail"):
            assert http.get(f"/v1/images/{image_id}{part}", params=where).status_code == 200
        changed = http.patch(f"/v1/images/{image_id}", params=where, json={"metadata": {"seen": True}})
        assert changed.status_code == 200, changed.text
    for path in ("/v1/duplicates", f"/v1/collections/{collection}/metadata", "/v1/jobs", "/v1/system"):
        assert http.get(path, params=where if path == "/v1/duplicates" else {}).status_code == 200
    exported = finished(http, http.post(f"/v1/collections/{collection}/export", json={}))
    assert (exported["status"], exported["counts"]["indexed"]) == ("succeeded", len(ids))


def test_odd_times_and_places_cost_themselves_alone(http: httpx.Client) -> None:
    files = [(f"{n}.jpg", photo(n, when, offset)) for n, (when, offset, _) in enumerate(TIMES)]
    files += [(f"place {n}.jpg", photo(50 + n, place=place)) for n, place in enumerate(PLACES)]
    ids = ingested(http, "odd-exif", files)
    shown = [http.get(f"/v1/images/{one}", params={"collection": "odd-exif"}).json() for one in ids]
    assert [one["taken_at"] for one in shown[: len(TIMES)]] == [expected for *_, expected in TIMES]
    assert [one["lat"] is not None for one in shown[len(TIMES) :]] == [True, False, False, False]
    assert_answers(http, "odd-exif", ids)


def test_extreme_metadata_are_answered_as_they_were_given(http: httpx.Client) -> None:
    ids = ingested(http, "extremes", [("a.jpg", photo(1)), ("b.jpg", photo(2))], [VALUES, {}])
    where = {"collection": "extremes"}
    assert http.get(f"/v1/images/{ids[0]}", params=where).json()["metadata"] == VALUES

    def change(text: str) -> int:
        body = {"content": text, "headers": {"Content-Type": "application/json"}}
        return http.patch(f"/v1/images/{ids[1]}", params=where, **body).status_code

    assert change(r'{"metadata": {"half": "\ud83d"}}') == 200
    assert_answers(http, "extremes", ids)
    for value in (f"{2**63}", "9" * 400, "9" * 5_000, "1e999", "NaN", '["a", 1]', '{"a": 1}'):
        assert change(f'{{"metadata": {{"n": {value}}}}}') in (400, 422), value


def test_a_name_typed_on_one_system_finds_what_another_sent(http: httpx.Client) -> None:
    metadata = [{"city": DECOMPOSED, "places": [DECOMPOSED, "x"]}, {"city": COMPOSED}, {"city": "Basel"}]
    names = [f"{DECOMPOSED}.jpg", f"{COMPOSED}.jpg", "Basel.jpg"]
    ids = ingested(http, "names", [(name, photo(n)) for n, name in enumerate(names)], metadata)
    where = {"collection": "names"}
    first = http.get(f"/v1/images/{ids[0]}", params=where).json()
    assert (first["source"], first["metadata"]) == (names[0], metadata[0])
    for form in (COMPOSED, DECOMPOSED):
        for condition, expected in (
            ({"city": form}, ids[:2]),
            ({"city": {"in": ["Bern", form]}}, ids[:2]),
            ({"places": form}, ids[:1]),
            ({"source": f"{form}.jpg"}, ids[:2]),
            ({"city": {"ne": form}}, ids[2:]),
            ({"city": {"nin": [form]}}, ids[2:]),
            ({"city": {"gte": form, "lte": form}}, ids[:2]),
        ):
            found = http.post("/v1/search", json={**where, "text": "red", "filters": condition}).json()[
                "results"
            ]
            listed = http.get("/v1/images", params={**where, "filters": json.dumps(condition)}).json()[
                "images"
            ]
            assert {one["id"] for one in found} == set(expected), condition
            assert {one["id"] for one in listed} == set(expected), condition
    counted = http.post("/v1/search", json={**where, "text": "red", "facets": ["city"]}).json()["facets"][
        "city"
    ]
    assert counted == [{"value": COMPOSED, "count": 2}, {"value": "Basel", "count": 1}]
    (city,) = [
        one for one in http.get("/v1/collections/names/metadata").json()["names"] if one["name"] == "city"
    ]
    assert city["values"] == counted


def test_a_key_is_one_however_it_is_typed(http: httpx.Client, pictures: ImageServer) -> None:
    def ingest(number: int, key: str) -> str:
        items = [{"url": pictures.url(f"/photo/{number}.jpg"), "key": key}]
        job = finished(http, http.post("/v1/jobs", json={"items": items, "collection": "keys"}))
        assert job["counts"]["indexed"] == 1, job
        return str(
            http.get("/v1/images", params={"collection": "keys", "key": key}).json()["images"][0]["id"]
        )

    first, second = ingest(1, DECOMPOSED), ingest(2, COMPOSED)
    assert first != second
    for form in (COMPOSED, DECOMPOSED):
        (held,) = http.get("/v1/images", params={"collection": "keys", "key": form}).json()["images"]
        assert (held["id"], held["keys"]) == (second, [COMPOSED])
        filtered = {"collection": "keys", "filters": json.dumps({"key": form})}
        assert len(http.get("/v1/images", params=filtered).json()["images"]) == 1
    assert http.get("/v1/collections/keys").json()["count"] == 1  # what the key pointed at before is gone
    assert http.delete("/v1/images", params={"collection": "keys", "key": DECOMPOSED}).status_code == 204
    assert http.get("/v1/collections/keys").json()["count"] == 0
