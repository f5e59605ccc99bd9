"""XMP: what editors write about a picture, as XML. Hostile, as the file is: no entities, a bounded length."""

import contextlib
from typing import NoReturn
from xml.parsers import expat

_MAX_BYTES = 2**20
_MAX_VALUE = 200  # characters
_MAX_NAMESPACE = 1_000  # characters: each name in it comes with all of them
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXIF = "http://ns.adobe.com/exif/1.0/"
# By the names as expat gives them, the namespace by its URI; the first says best when a picture was taken.
# When it was edited (xmp:ModifyDate) says nothing of that.
_TIMES = {
    f"{_EXIF} DateTimeOriginal": "DateTimeOriginal",
    "http://ns.adobe.com/photoshop/1.0/ DateCreated": "DateCreated",
    f"{_EXIF} DateTimeDigitized": "DateTimeDigitized",
    "http://ns.adobe.com/xap/1.0/ CreateDate": "CreateDate",
    "http://ns.adobe.com/tiff/1.0/ DateTime": "DateTime",
    f"{_EXIF} GPSTimeStamp": "GPSTimeStamp",
}
TIMES = tuple(_TIMES.values())
_WANTED = _TIMES | {f"{_EXIF} GPSLatitude": "GPSLatitude", f"{_EXIF} GPSLongitude": "GPSLongitude"}
_PROPERTY_OF = (f"{_RDF} RDF", f"{_RDF} Description")  # deeper ones are those of other pictures


def read_xmp(packet: bytes) -> dict[str, str]:
    """Return the times (those of TIMES) and the place that a packet has, as far as it is sound."""
    found: dict[str, str] = {}
    path: list[str] = []
    reading: tuple[str, int, list[str]] | None = None  # a property, how deep it is, its text

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal reading
        if reading is None and name in _WANTED and tuple(path[-2:]) == _PROPERTY_OF:
            reading = (_WANTED[name], len(path), [])
        path.append(name)
        if tuple(path[-2:]) == _PROPERTY_OF:
            for attribute, value in attributes.items():
                if attribute in _WANTED:
                    found.setdefault(_WANTED[attribute], value[:_MAX_VALUE])

    def characters(text: str) -> None:
        if reading is not None and len(reading[2]) < _MAX_VALUE:
            reading[2].append(text[:_MAX_VALUE])

    def end(_: str) -> None:
        nonlocal reading
        path.pop()
        if reading is not None and reading[1] == len(path):
            found.setdefault(reading[0], "".join(reading[2]).strip()[:_MAX_VALUE])
            reading = None

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartNamespaceDeclHandler = _refuse_long
    # as text, so that the packet names no encoding and a wrong byte costs itself
    text = packet[:_MAX_BYTES].decode("utf-8-sig", "replace").lstrip("\0\t\n\r ")
    with contextlib.suppress(expat.ExpatError, ValueError):
        parser.Parse(text, True)
    return found


def _refuse(*_: object) -> NoReturn:
    """Stop at a document type, which XMP never has: without one no entity can be declared."""
    raise ValueError("a document type")


def _refuse_long(_: str | None, namespace: str | None) -> None:
    if len(namespace or "") > _MAX_NAMESPACE:
        raise ValueError("a namespace that is no name")
