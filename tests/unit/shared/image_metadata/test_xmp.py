"""XMP: the properties that are read, however they are written; hostile packets cost nothing."""

import random
import time

import pytest

from shared.image_metadata.xmp import read_xmp

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
SPACES = (
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
)
WHEN = "2024-06-01T12:00:00Z"


def packet(attributes: str = "", elements: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {RDF}><rdf:Description rdf:about="" {SPACES} {attributes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


SOUND = packet(f'exif:DateTimeOriginal="{WHEN}"')


@pytest.mark.parametrize(
    "data",
    [
        SOUND,
        packet(elements=f"<exif:DateTimeOriginal> {WHEN}\n</exif:DateTimeOriginal>"),
        packet(elements=f"<exif:DateTimeOriginal><![CDATA[{WHEN}]]></exif:DateTimeOriginal>"),
        packet(elements="<exif:DateTimeOriginal>2024-06-01&#84;12:00:00Z</exif:DateTimeOriginal>"),
        SOUND.replace(b"exif:", b"a:").replace(b":exif=", b":a="),
        SOUND.replace(b"rdf:", b"b:").replace(b":rdf=", b":b="),
        b"\xef\xbb\xbf" + SOUND,
        b"\0\n " + SOUND + bytes(2_000),
        b'<?xml version="1.0" encoding="UTF-7"?>' + SOUND,
        SOUND.replace(b"</rdf:RDF>", b"</rdf:Broken>"),
        SOUND[: SOUND.index(b"</rdf:Desc")],
        packet(elements="<photoshop:Caption>\u00fc</photoshop:Caption>").replace(b"\xc3\xbc", b"\xfc")
        .replace(b"</rdf:Desc", f"<exif:DateTimeOriginal>{WHEN}</exif:DateTimeOriginal></rdf:Desc".encode()),
        SOUND.replace(b"<x:xmpmeta", b"<x:xapmeta").replace(b"/x:xmpmeta", b"/x:xapmeta"),
    ],
)  # fmt: skip
def test_a_property_is_read_however_it_is_written(data: bytes) -> None:
    assert read_xmp(data) == {"DateTimeOriginal": WHEN}


def test_only_the_pictures_own_properties_are_read() -> None:
    other = f'<rdf:li><rdf:Description xmp:CreateDate="{WHEN}"><xmp:CreateDate>{WHEN}</xmp:CreateDate>'
    pantry = f"<xmp:Pantry><rdf:Bag>{other}</rdf:Description></rdf:li></rdf:Bag></xmp:Pantry>"
    assert read_xmp(packet(elements=pantry)) == {}
    assert read_xmp(packet(f'xmp:ModifyDate="{WHEN}" xmp:MetadataDate="{WHEN}"')) == {}
    assert read_xmp(SOUND.replace(b"adobe.com/exif", b"example.org/exif")) == {}
    twice = packet(f'xmp:CreateDate="{WHEN}"', "<xmp:CreateDate>2020-01-01</xmp:CreateDate>")
    assert read_xmp(twice) == {"CreateDate": WHEN}


def test_no_entity_is_declared_or_followed() -> None:
    laughs = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    for kind in (
        f'[<!ENTITY a0 "lol">{laughs}]',
        '[<!ENTITY a12 SYSTEM "file:///etc/hostname">]',
        'SYSTEM "a.dtd"',
    ):
        hostile = f"<!DOCTYPE x {kind}>".encode() + packet(elements="<xmp:CreateDate>&a12;</xmp:CreateDate>")
        assert read_xmp(hostile) == {}
    assert read_xmp(packet(elements="<xmp:CreateDate>&a12;</xmp:CreateDate>")) == {}


def test_no_packet_fails_or_takes_long() -> None:
    rng = random.Random(7)
    hostile = [bytes(rng.randbytes(200)) for _ in range(200)]
    for _ in range(3_000):
        damaged = bytearray(SOUND)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        hostile.append(bytes(damaged))
    start = SOUND[: SOUND.index(b"</rdf:Desc")]
    pieces = [b"<a>", b"<a/>", b"&#65;", b"<", b"<!--", b"]]>", b"<a b='", b"\xff", b"x", b'<a xmlns:x="y">']
    hostile += [start + piece * (4_000_000 // len(piece)) for piece in pieces]
    hostile.append(start + b"<xmp:CreateDate>" + b"1<a/>" * 400_000)
    hostile.append(start[:-1] + b" " + b" ".join(b'a%d="1"' % n for n in range(200_000)))
    namespace = b'<a xmlns:x="' + b"y" * 500_000 + b'">'  # of which expat makes a name's part each time
    hostile += [start + namespace + b"<x:a/>" * 90_000, start + namespace + b"<b x:a='' x:b=''/>" * 30_000]
    started = time.perf_counter()
    for data in hostile:
        found = read_xmp(data)
        assert all(len(value) <= 200 for value in found.values())
    assert time.perf_counter() - started < 20
