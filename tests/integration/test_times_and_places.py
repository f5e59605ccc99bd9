"""When and where a picture was taken, by whatever its file says of it: uploaded, shown, filtered on."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image, PngImagePlugin

from tests.image_server import make_photo
from tests.stack import finished

ORIGINAL, DIGITIZED, MODIFIED, OFFSET, EXIF, GPS = 36867, 36868, 306, 36880, 0x8769, 0x8825
TEXT, ZEROS = "2024:06:01 12:00:00", "0000:00:00 00:00:00"
NOON = "2024-06-01T12:00:00.000Z"
ZURICH = {1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 30.0, 0.0)}
ADOBE = "http://ns.adobe.com"
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<r:Description xmlns:p="{ADOBE}/photoshop/1.0/" xmlns:e="{ADOBE}/exif/1.0/"'
    f' xmlns:tiff="{ADOBE}/tiff/1.0/" p:DateCreated="2024-06-01T14:00:00+02:00"'
    ' e:GPSLatitude="47,22.5N" e:GPSLongitude="8,30.0E"'
    ' tiff:Orientation="6"/></r:RDF></x:xmpmeta>'
)


# A format, its first directory, its camera's, its GPS's; when it was taken, and whether it has a place.
CASES: list[tuple[str, dict[int, Any], dict[int, Any], dict[int, Any], str | None, bool]] = [
    ("JPEG", {MODIFIED: "2020:01:01 00:00:00"}, {ORIGINAL: TEXT}, ZURICH, NOON, True),
    ("JPEG", {MODIFIED: TEXT}, {}, {}, NOON, False),
    ("PNG", {MODIFIED: TEXT}, {ORIGINAL: ZEROS, DIGITIZED: "    :  :     :  :  "}, {}, NOON, False),
    ("WEBP", {}, {DIGITIZED: "2024-06-01T12:00:00"}, {}, NOON, False),
    ("TIFF", {}, {ORIGINAL: TEXT, OFFSET: "+02:00"}, ZURICH, "2024-06-01T10:00:00.000Z", True),
    ("AVIF", {}, {ORIGINAL: "2024: 6: 1 12: 0: 0.25"}, {}, "2024-06-01T12:00:00.250Z", False),
    ("HEIF", {}, {ORIGINAL: TEXT + "-05:30", OFFSET: "+99:99"}, ZURICH, "2024-06-01T17:30:00.000Z", True),
    ("JPEG", {}, {}, {29: "2024:06:01", 7: (12.0, 0.0, 0.0)}, NOON, False),
    ("JPEG", {}, {ORIGINAL: "2024:13:01 12:00:00"}, {}, None, False),
    ("JPEG", {}, {ORIGINAL: TEXT}, ZURICH | {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, NOON, False),
]


def saved(seed: int, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(make_photo(seed, 64, 48))).save(buffer, kind, **options)
    return buffer.getvalue()


def with_exif(seed: int, kind: str, first: Any, camera: Any, gps: Any) -> bytes:
    exif = Image.Exif()
    exif.update(first)
    exif.get_ifd(EXIF).update(camera)
    exif.get_ifd(GPS).update(gps)
    return saved(seed, kind, exif=exif.tobytes())


def ingested(http: httpx.Client, collection: str, files: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Upload files of which none may fail; return what is shown of each."""
    parts = [("files", one) for one in files]
    job = finished(http, http.post("/v1/jobs", files=parts, data={"collection": collection}))
    assert job["counts"]["indexed"] == len(files), job
    items = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    where = {"collection": collection}
    return [http.get(f"/v1/images/{item['image_id']}", params=where).json() for item in items]


def found(http: httpx.Client, collection: str, filters: dict[str, Any]) -> set[str]:
    query = {"text": "x", "collection": collection, "limit": 50, "filters": filters}
    return {hit["source"] for hit in http.post("/v1/search", json=query).json()["results"]}


def test_a_picture_says_when_and_where_it_was_taken(http: httpx.Client) -> None:
    files = [(f"{n}.{kind}", with_exif(900 + n, kind, *said)) for n, (kind, *said, _, _) in enumerate(CASES)]
    shown = ingested(http, "times-and-places", files)
    assert [one["taken_at"] for one in shown] == [when for *_, when, _ in CASES]
    for one, (*_, placed) in zip(shown, CASES, strict=True):
        place = (pytest.approx(47.375), pytest.approx(8.5)) if placed else (None, None)
        assert (one["lat"], one["lon"]) == place
    at_noon = {name for (name, _), (*_, when, _) in zip(files, CASES, strict=True) if when == NOON}
    assert found(http, "times-and-places", {"taken_at": {"gte": NOON, "lte": NOON}}) == at_noon
    a_moment = {"taken_at": {"gte": "2024-06-01T12:00:00.250Z", "lt": "2024-06-01T12:00:00.251Z"}}
    assert found(http, "times-and-places", a_moment) == {"5.AVIF"}
    near = {"near": {"lat": 47.4, "lon": 8.5, "radius_km": 10}}
    assert found(http, "times-and-places", near) == {"0.JPEG", "4.TIFF", "6.HEIF"}


def test_xmp_says_it_where_exif_does_not_and_turns_no_picture(http: httpx.Client) -> None:
    packet = PACKET.encode()
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", PACKET)
    files = [
        ("a.jpg", saved(920, "JPEG", xmp=packet)),
        ("b.png", saved(921, "PNG", pnginfo=text)),
        ("c.webp", saved(922, "WEBP", xmp=packet)),
        ("d.tif", saved(923, "TIFF", tiffinfo={700: packet})),
        ("e.avif", saved(924, "AVIF", xmp=packet)),
    ]
    for one in ingested(http, "times-by-xmp", files):
        assert (one["width"], one["height"], one["taken_at"]) == (64, 48, NOON)
        assert (one["lat"], one["lon"]) == (pytest.approx(47.375), pytest.approx(8.5))
    entities = "<!DOCTYPE x [<!ENTITY a '2024-06-01T12:00:00Z'>]>" + PACKET
    (one,) = ingested(http, "times-by-xmp", [("f.jpg", saved(925, "JPEG", xmp=entities.encode()))])
    assert (one["taken_at"], one["lat"]) == (None, None)
