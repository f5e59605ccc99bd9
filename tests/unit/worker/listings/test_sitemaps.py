"""Sitemaps: their pictures, indexes of them, and XML that is made to harm."""

import gzip
from collections.abc import Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.models import Note
from tests.unit.worker.listings.listed import failure, failure_of, listing, listing_of, web
from worker.listings import sitemaps
from worker.listings.entries import Entry

compress = partial(gzip.compress, mtime=0)  # the same in every process that collects the tests

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
NAMES = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" '
    'xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"'
)
PICTURE = "<url><loc>http://a.example/1.jpg</loc></url>"


def urlset(inner: str, names: str = NAMES) -> bytes:
    return f"{HEAD}<urlset {names}>{inner}</urlset>".encode()


def index(*locs: str) -> bytes:
    inner = "".join(f"<sitemap><loc> {loc}\n</loc></sitemap>" for loc in locs)
    return f"{HEAD}<sitemapindex {NAMES}>{inner}</sitemapindex>".encode()


def listing_at(pages: Mapping[str, str | bytes], path: str = "/map.xml") -> tuple[list[Entry], list[Note]]:
    """The listing of one of several pages, in which BASE is the server."""
    served: dict[str, bytes] = {}
    with web(served) as server:
        for name, page in pages.items():
            served[name] = (
                page.replace(b"BASE", server.url("").encode()) if isinstance(page, bytes) else page.encode()
            )
        return listing(server.url(path))


def test_images_of_pages_and_pages_that_are_pictures_are_entries() -> None:
    entries, notes = listing_of(
        urlset(
            "<url><loc>http://a.example/page</loc><lastmod>2024-01-01</lastmod>"
            "<image:image><image:loc>http://a.example/a.jpg?w=1&amp;h=2</image:loc>"
            "<image:title> A\n title </image:title><image:caption><![CDATA[<b>&]]></image:caption>"
            "</image:image>"
            "<image:image><image:loc>http://cdn.example/b</image:loc><image:title/></image:image></url>"
            "<url><loc>http://a.example/c.PNG#x</loc></url>"
            "<url><loc>http://a.example/about.html</loc></url><url><loc>http://a.example</loc></url>"
        )
    )
    assert entries == [
        Entry("http://a.example/a.jpg?w=1&h=2", metadata={"title": "A title", "caption": "<b>&"}),
        Entry("http://cdn.example/b"),
        Entry("http://a.example/c.PNG#x"),
    ]
    assert notes == [Note("files_skipped", "No pictures: 1 about.html, 1 without a suffix.", 2)]


@pytest.mark.parametrize(
    "body",
    [
        urlset(PICTURE),
        compress(urlset(PICTURE)),
        b"\xef\xbb\xbf\n\n  " + urlset(PICTURE),
        urlset(PICTURE, names=""),
        urlset(PICTURE).replace(b"<url", b"<s:url").replace(b"</url", b"</s:url"),
        urlset(PICTURE).decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    ],
    ids=["plain", "gzip", "blanks before", "no namespace", "undeclared prefix", "utf-16"],
)
def test_a_sitemap_is_known_by_its_content(body: bytes) -> None:
    assert listing_of(body, "/whatever.csv")[0] == [Entry("http://a.example/1.jpg")]


def test_titles_of_videos_are_not_the_pictures() -> None:
    inner = "<video:video><video:title>V</video:title></video:video><image:image><image:loc>http://a.example/a</image:loc></image:image>"
    assert listing_of(urlset(f"<url>{inner}</url>"))[0] == [Entry("http://a.example/a")]


def test_an_image_that_is_no_url_costs_itself_alone() -> None:
    images = "".join(
        f"<image:image><image:loc>{loc}</image:loc></image:image>"
        for loc in (
            "",
            "/relative.jpg",
            "file:///etc/passwd",
            f"http://a.example/{'a' * 9_000}",
            "http://a.example/b",
        )
    )
    entries, notes = listing_of(urlset(f"<url>{images}</url>"))
    assert [entry.error and entry.error[:40] for entry in entries] == [
        "invalid_url: The URL does not begin with",
        "invalid_url: The URL does not begin with",
        "invalid_url: The URL has 8,193 character",
        None,
    ]
    assert notes == [Note("files_skipped", "No pictures: 1 images without a URL.", 1)]


def test_a_caption_that_is_too_long_is_left_out() -> None:
    inner = f"<image:loc>http://a.example/a</image:loc><image:caption>{'x' * 5_000}</image:caption>"
    entries, notes = listing_of(urlset(f"<url><image:image>{inner}</image:image></url>"))
    assert entries == [Entry("http://a.example/a")]
    assert [note.code for note in notes] == ["values_left_out"]


def test_the_sitemaps_of_an_index_are_read_in_turn() -> None:
    entries, notes = listing_at(
        {
            "/map.xml": index("BASE/a.xml.gz", "BASE/inner.xml"),
            "/a.xml.gz": compress(urlset(PICTURE)),
            "/inner.xml": index("BASE/b.xml"),
            "/b.xml": urlset("<url><loc>http://a.example/2.jpg</loc></url>"),
        }
    )
    assert [entry.url for entry in entries] == ["http://a.example/1.jpg", "http://a.example/2.jpg"]
    assert notes == []


def test_a_sitemap_that_names_itself_or_its_index_is_read_once() -> None:
    entries, (note,) = listing_at(
        {
            "/map.xml": index("BASE/map.xml", "BASE/inner.xml", "BASE/inner.xml#again"),
            "/inner.xml": index("BASE/map.xml", "BASE/a.xml"),
            "/a.xml": urlset(PICTURE),
        }
    )
    assert entries == [Entry("http://a.example/1.jpg")]
    assert (note.code, note.count) == ("sitemaps_skipped", 3)
    assert "/map.xml" in note.detail, "it says which"


@pytest.mark.parametrize(
    ("child", "said"),
    [
        (None, "/child cannot be fetched: 404 Not Found."),
        (b"", "/child has no bytes: the answer is empty."),
        (b"<html></html>", "is no sitemap"),
        (b"url\nhttp://a.example/1.jpg\n", "is no sitemap"),
        (urlset(PICTURE)[:-9], "/child breaks off or is no sound XML, in line 1: "),
    ],
)
def test_a_sitemap_of_an_index_that_fails_fails_the_listing(child: bytes | None, said: str) -> None:
    served: dict[str, bytes] = {} if child is None else {"/child": child}
    with web(served) as server:
        served["/map.xml"] = index(server.url("/child"))
        assert said in failure(server.url("/map.xml"))


@pytest.mark.parametrize("loc", ["", "child.xml", "file:///etc/passwd", "http://user:pass@a.example/x"])
def test_an_index_names_addresses_of_the_web_alone(loc: str) -> None:
    said = failure_of(index(loc))
    assert said.startswith("FEED names a sitemap that cannot be fetched: the URL ")
    assert "pass" not in said.replace("passwd", "")


def test_an_index_cannot_lead_to_an_address_that_is_not_public() -> None:
    with web(served := {}) as server:
        served["/map.xml"] = index("http://169.254.169.254/latest")
        said = failure(server.url("/map.xml"))
    assert said == (
        "http://169.254.169.254/latest cannot be fetched: the host's address is not a public one."
    )


def test_indexes_are_followed_to_a_depth() -> None:
    pages: dict[str, str | bytes] = {f"/{n}": index(f"BASE/{n + 1}") for n in range(sitemaps.MAX_INDEXES - 1)}
    pages[f"/{sitemaps.MAX_INDEXES - 1}"] = urlset(PICTURE)
    assert len(listing_at(pages, "/0")[0]) == 1
    served: dict[str, bytes] = {}
    with web(served) as server:
        served |= {f"/{n}": index(server.url(f"/{n + 1}")) for n in range(9)}
        assert "no more are read" in failure(server.url("/0"))


def test_an_index_has_a_largest_number_of_sitemaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemaps, "MAX_SITEMAPS", 3)
    assert failure_of(index(*(f"http://a.example/{n}" for n in range(4)))).startswith(
        "FEED leads to more than 3 sitemaps"
    )


def test_indexes_that_name_one_another_have_a_largest_number_of_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sitemaps, "MAX_NAMED", 3)
    served: dict[str, bytes] = {}
    with web(served) as server:
        served["/0"] = index(server.url("/1"), server.url("/1"))
        served["/1"] = index(server.url("/0"), server.url("/0"))
        assert "leads to more than" in failure(server.url("/0"))


LAUGHS = "<!DOCTYPE lolz [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]>"
EXTERNAL = "<!DOCTYPE urlset [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>"


@pytest.mark.parametrize("dtd", [LAUGHS, EXTERNAL, "<!DOCTYPE urlset SYSTEM 'http://a.example/x.dtd'>"])
def test_a_document_type_is_refused(dtd: str) -> None:
    body = f"{HEAD}{dtd}<urlset><url><loc>&b;</loc></url></urlset>".encode()
    assert failure_of(body) == (
        "FEED declares a document type (DTD), which no sitemap needs, and which is not read."
    )


def test_an_entity_that_is_not_declared_breaks_the_listing() -> None:
    assert "undefined entity" in failure_of(urlset("<url><loc>&nbsp;</loc></url>"))


def test_deep_nesting_is_refused() -> None:
    assert "nested more than 32 deep" in failure_of(urlset("<a>" * 40 + "</a>" * 40))


@pytest.mark.parametrize(
    "start", ["<!--", "<a b='", "<?pi ", "<"], ids=["comment", "attribute", "pi", "name"]
)
def test_a_tag_without_end_is_refused_before_it_is_kept(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemaps, "MAX_TAG_BYTES", 2**17)
    assert "has a tag or comment of over 131,072 bytes" in failure_of(urlset(start + "x" * 2**19))


def test_text_of_any_length_is_not_kept() -> None:
    filler = "x" * (2**18)
    entries, _ = listing_of(urlset(f"{filler}<url>{filler}<loc>http://a.example/1.jpg</loc>{filler}</url>"))
    assert entries == [Entry("http://a.example/1.jpg")]


@given(st.binary(max_size=300))
def test_any_bytes_after_a_sitemaps_start_are_read_or_named(rest: bytes) -> None:
    body = f"{HEAD}<urlset>{PICTURE}".encode() + rest
    assert failure_of(body).startswith("FEED breaks off or is no sound XML")
