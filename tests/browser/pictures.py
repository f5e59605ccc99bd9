"""What the browser tests' stack holds: some dozens of drawings, and photos with dates and places."""

import io
import json
from pathlib import Path

import httpx
from PIL import ExifTags, Image

from examples.demo.pictures import Pictures
from tests.image_server import make_photo
from tests.stack import Stack, finished

EVERY = 9  # of the demo's 496 drawings
NAMED = ("automobile", "red-apple", "grinning-face", "rowboat", "bicycle", "elephant", "cat-face", "rainbow")
SHAPES = ((320, 320), (480, 320), (320, 420), (560, 320))
PLACES = (("Zurich", 47.37, 8.54), ("Paris", 48.86, 2.35), ("Lisbon", 38.72, -9.14))
PHOTOS = 12


File = tuple[bytes, dict[str, object]]  # and its metadata


def fill(stack: Stack, drawings: Pictures) -> None:
    """Ingests everything into the default collection.

    A drawing has the metadata `name` and `group` and is called after its name; `photo-N.jpg` has a `place`,
    taken in month N + 1 of 2021 to 2023 in turn.
    """
    photos = {f"photo-{number}.jpg": _photo(number) for number in range(PHOTOS)}
    ingest(stack, {**framed(drawings, EVERY), **photos})


def ingest(stack: Stack, files: dict[str, File]) -> None:
    parts = [("files", (name, data, "application/octet-stream")) for name, (data, _) in files.items()]
    metadata = json.dumps([about for _, about in files.values()])
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        job = finished(http, http.post("/v1/jobs", files=parts, data={"metadata": metadata}))
    assert job["status"] == "succeeded", job


def framed(drawings: Pictures, every: int) -> dict[str, File]:
    """Each `every`-th drawing, besides those that tests name, in frames of several shapes."""
    chosen = sorted({*list(drawings.metadata)[::every], *(f"{name}.png" for name in NAMED)})
    return {
        name: (
            _framed(drawings.folder / name, SHAPES[number % len(SHAPES)]),
            dict(drawings.metadata[name]),
        )
        for number, name in enumerate(chosen)
    }


def _framed(path: Path, size: tuple[int, int]) -> bytes:
    """The drawing on white of another shape, so that rows of results have something to justify."""
    with Image.open(path) as drawing:
        frame = Image.new("RGB", size, "white")
        frame.paste(drawing, ((size[0] - drawing.width) // 2, (size[1] - drawing.height) // 2))
    file = io.BytesIO()
    frame.save(file, "PNG")
    return file.getvalue()


def _photo(number: int) -> File:
    place, lat, lon = PLACES[number % len(PLACES)]
    exif = Image.Exif()
    taken = f"{2021 + number % 3}:{number + 1:02}:15 12:00:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N" if lat >= 0 else "S",
            ExifTags.GPS.GPSLatitude: (abs(lat), 0.0, 0.0),
            ExifTags.GPS.GPSLongitudeRef: "E" if lon >= 0 else "W",
            ExifTags.GPS.GPSLongitude: (abs(lon), 0.0, 0.0),
        }
    )
    width, height = (900, 600) if number % 2 else (600, 900)
    file = io.BytesIO()
    with Image.open(io.BytesIO(make_photo(number, width, height))) as photo:
        photo.save(file, "JPEG", quality=85, exif=exif)
    return file.getvalue(), {"place": place}
