import io
import json
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.http import request_body
from api.http.request_body import MAX_LINE_BYTES, Body, read_lines
from api.jobs import ingest
from api.jobs import multipart as multipart_module
from api.jobs.ingest import Options, check_options, ingest_json, ingest_lines
from api.jobs.multipart import ingest_multipart
from api.jobs.requests import TableQuery
from shared.config import Settings
from shared.errors import (
    IdempotencyMismatch,
    InvalidRequest,
    ItemError,
    LedgerUnavailable,
    RequestTooLarge,
    TooManyJobs,
)
from shared.ledger import connection
from shared.models import Item, Job, JobStatus
from shared.services import Services
from shared.storage.blobs import Blobs
from shared.storage.manifest import read_items
from tests.redis_server import fake_ledger
from tests.sample_files import make_tar

OPTIONS = Options("images", None, None)
NDJSON = "application/x-ndjson"


class FakeDownloader:
    def check(self, url: str, timeout_s: float | None = None) -> None:
        if "10.0.0.1" in url:
            raise ItemError("blocked_address", "10.0.0.1 is a private address")


class FakeDispatcher:
    pumped = 0

    def pump(self) -> None:
        self.pumped += 1


@pytest.fixture
def services(tmp_path: Path) -> Services:
    stand_in = SimpleNamespace(
        settings=Settings(max_image_bytes=1000, max_upload_bytes=100_000),
        blobs=Blobs(f"file://{tmp_path}/blobs"),
        ledger=fake_ledger(),
        downloader=FakeDownloader(),
        dispatcher=FakeDispatcher(),
    )
    return cast(Services, stand_in)


class BrokenStream(io.RawIOBase):
    """Gives its pieces one read at a time, then breaks off as a server's stream of a lost client does."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1) -> bytes:
        if not self._pieces:
            raise OSError("connection reset")
        return self._pieces.pop(0)


def body_of(data: bytes | io.RawIOBase, *, length: int | None = None, limit: int | None = None) -> Body:
    environ: dict[str, Any] = {"wsgi.input": data, "wsgi.input_terminated": True}
    if isinstance(data, bytes):
        environ |= {
            "wsgi.input": io.BytesIO(data),
            "CONTENT_LENGTH": str(len(data) if length is None else length),
        }
    return Body(environ, limit)


def items_of(services: Services, job_id: str) -> tuple[Job, list[Item]]:
    job = services.ledger.get(job_id)
    return job, read_items(services.blobs, job_id, 0, job.total)


def stored_jobs(services: Services) -> set[str]:
    return {key.split("/")[1] for key in services.blobs.list("jobs/")}


def multipart(*parts: tuple[str, str | None, bytes]) -> bytes:
    whole = b""
    for name, filename, content in parts:
        shown = "" if filename is None else f'; filename="{filename}"'
        whole += (
            f'--B\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode()
            + content
            + b"\r\n"
        )
    return whole + b"--B--\r\n"


def upload(services: Services, data: bytes | io.RawIOBase, options: Options = OPTIONS) -> str:
    return cast(str, ingest_multipart(services, options, TableQuery(), body_of(data), {"boundary": "B"}))


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.jpg", data)
    return buffer.getvalue()


# JSON


def test_json_items_become_the_jobs_items_in_order(services: Services) -> None:
    rows = [{"url": f"http://x/{i}", "metadata": {"n": i}} for i in range(2500)]
    job_id = ingest_json(services, OPTIONS, json.dumps({"items": rows, "collection": "cats"}).encode())
    job, items = items_of(services, job_id)
    assert (job.total, job.collection, job.status) == (2500, "cats", JobStatus.QUEUED)
    assert [(item.url, item.source, item.metadata) for item in items] == [
        (f"http://x/{i}", f"http://x/{i}", {"n": i}) for i in range(2500)
    ]
    assert cast(FakeDispatcher, services.dispatcher).pumped == 1


def test_an_empty_url_fails_its_item_and_not_the_request(services: Services) -> None:
    _, items = items_of(services, ingest_json(services, OPTIONS, b'{"urls": ["", "not a url"]}'))
    assert items[0].error is not None
    assert items[0].error.startswith("invalid_url: ")
    assert (items[1].url, items[1].error) == ("not a url", None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"items": [{"url": "u", "keys": ["k"]}]}, "/items/0/keys"),
        ({"items": [{"url": "u", "key": ""}]}, "/items/0/key"),
        ({"items": [{"url": "u", "key": 7}]}, "/items/0/key"),
        ({"items": [{"url": "u"}, {"url": "u", "key": "k" * 257}]}, "/items/1/key"),
        ({"items": [{"url": "u"}, {"url": 3}]}, "/items/1/url"),
        ({"items": [{"metadata": {}}]}, "/items/0/url"),
        ({"items": [{"url": None}]}, "/items/0/url"),
        ({"urls": ["u", 7]}, "/urls/1"),
        ({"urls": []}, "/urls"),
        ({"items": []}, "/items"),
        ({"urls": ["u"], "colection": "x"}, "/colection"),
        ({"urls": ["u"], "collection": "-bad"}, "/collection"),
        ({"urls": ["u"], "collection": "a" * 64}, "/collection"),
        ({"urls": ["u"], "callback_url": "http://10.0.0.1/"}, "/callback_url"),
        ({"items": [{"url": "u", "metadata": {"id": 1}}]}, "/items/0/metadata/id"),
        ({"items": [{"url": "u", "metadata": {"1a": 1}}]}, "/items/0/metadata/1a"),
        ({"items": [{"url": "u", "metadata": {"a/b~c": 1}}]}, "/items/0/metadata/a~1b~0c"),
        ({"items": [{"url": "u", "metadata": {"a": None}}]}, "/items/0/metadata/a"),
        ({"items": [{"url": "u", "metadata": {"a": {"b": 1}}}]}, "/items/0/metadata/a"),
        ({"items": [{"url": "u", "metadata": {"a": [1]}}]}, "/items/0/metadata/a"),
        ({"items": [{"url": "u", "metadata": {"a": float("nan")}}]}, "/items/0/metadata/a"),
        ({"items": [{"url": "u", "metadata": {"a": 2**63}}]}, "/items/0/metadata/a"),
        ({"items": [{"url": "u", "metadata": {f"n{i}": 1 for i in range(33)}}]}, "/items/0/metadata"),
        ({"items": [{"url": "u", "metadata": []}]}, "/items/0/metadata"),
        ({"items": [{"url": "u", "metadata": {"a": "x" * 65_536}}]}, "/items/0/metadata"),
    ],
)
def test_a_fault_in_json_is_pointed_to_and_nothing_is_stored(
    services: Services, body: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        ingest_json(services, OPTIONS, json.dumps(body).encode())
    assert [fault["pointer"] for fault in raised.value.errors] == [pointer]
    assert stored_jobs(services) == set()
    assert services.ledger.list_jobs(None, None, 10) == ([], None)


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b"{}", b'{"urls": ["u"], "items": [{"url": "u"}]}', b'{"urls": ["\xff"]}'],
)
def test_json_that_describes_no_job_is_refused(services: Services, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ingest_json(services, OPTIONS, body)


def test_more_items_than_allowed_are_refused_by_naming_the_limit(services: Services) -> None:
    body = json.dumps({"urls": ["u"] * 100_001}).encode()
    with pytest.raises(InvalidRequest) as raised:
        ingest_json(services, OPTIONS, body)
    assert "100,000" in raised.value.errors[0]["message"]


def test_only_the_first_faults_of_many_are_listed(services: Services) -> None:
    with pytest.raises(InvalidRequest) as raised:
        ingest_json(services, OPTIONS, json.dumps({"urls": [1] * 5000}).encode())
    assert [fault["pointer"] for fault in raised.value.errors] == [f"/urls/{i}" for i in range(20)]


def test_every_kind_of_metadata_value_is_kept(services: Services) -> None:
    metadata = {"s": "x", "i": -3, "f": 1.5, "b": True, "l": ["a", "b"], "e": []}
    body = json.dumps({"items": [{"url": "u", "metadata": metadata}]}).encode()
    _, items = items_of(services, ingest_json(services, OPTIONS, body))
    assert items[0].metadata == metadata


def test_items_carry_their_keys(services: Services) -> None:
    rows: list[dict[str, Any]] = [{"url": "http://a", "key": "k" * 256}, {"url": "http://b", "key": None}]
    _, items = items_of(services, ingest_json(services, OPTIONS, json.dumps({"items": rows}).encode()))
    assert [item.key for item in items] == ["k" * 256, None]
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    _, items = items_of(services, ingest_lines(services, OPTIONS, body_of(lines), "application/x-ndjson"))
    assert [item.key for item in items] == ["k" * 256, None]


def test_another_key_is_another_request(services: Services) -> None:
    options = Options("images", None, "once")
    for key in ("a", "b"):
        body = json.dumps({"items": [{"url": "http://x", "key": key}]}).encode()
        with pytest.raises(IdempotencyMismatch) if key == "b" else nullcontext():
            ingest_json(services, options, body)


def test_a_repeated_key_answers_with_the_first_job_however_the_json_is_spelled(services: Services) -> None:
    options = Options("images", None, "key-1")
    first = ingest_json(services, options, b'{"items": [{"url": "u", "metadata": {"a": 1, "b": 2}}]}')
    second = ingest_json(
        services, options, b'{ "items":[{"metadata":{"b":2,"a":1},"url":"u"}],"callback_url":null}'
    )
    assert second == first
    assert stored_jobs(services) == {first}
    with pytest.raises(IdempotencyMismatch):
        ingest_json(services, options, b'{"urls": ["other"]}')
    assert stored_jobs(services) == {first}


def test_a_callback_that_must_not_be_called_is_refused_with_its_reason(services: Services) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_options(services, None, "http://10.0.0.1/hook", None)
    assert raised.value.code == "blocked_address"


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 63])
def test_collection_names_within_the_rules_are_taken(services: Services, name: str) -> None:
    assert check_options(services, name, None, None).collection == name


@pytest.mark.parametrize("name", ["", ".a", "a.", "a b", "ä", "x" * 64, "a\n", "a/b"])
def test_collection_names_outside_the_rules_are_refused(services: Services, name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_options(services, name, None, None)


# Streamed lines


def test_lines_are_taken_with_any_line_end_mark_and_blank_line(services: Services) -> None:
    body = body_of(b"\xef\xbb\xbfhttp://x/1\r\n\r\n  \nhttp://x/2 \nhttp://x/3")
    job, items = items_of(services, ingest_lines(services, OPTIONS, body, "text/plain"))
    assert [item.url for item in items] == ["http://x/1", "http://x/2", "http://x/3"]
    assert not job.truncated


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_and_utf_16_are_taken_wherever_text_is(services: Services, encoding: str) -> None:
    line = '{"url": "http://x/ü", "key": "k"}'
    lines = ingest_lines(services, OPTIONS, body_of(f"{line}\n{line}\n".encode(encoding)), NDJSON)
    text = ingest_lines(services, OPTIONS, body_of("http://x/ü\n".encode(encoding)), "text/plain")
    whole = ingest_json(services, OPTIONS, f'{{"items": [{line}]}}'.encode(encoding))
    form = upload(
        services,
        multipart(
            ("keys", None, '["k"]'.encode(encoding)),
            ("metadata", None, '{"name": "ü"}'.encode(encoding)),
            ("files", "a.jpg", b"x"),
        ),
    )
    assert {item.url for job_id in (lines, text, whole) for item in items_of(services, job_id)[1]} == {
        "http://x/ü"
    }
    (item,) = items_of(services, form)[1]
    assert (item.key, item.metadata) == ("k", {"name": "ü"})


def test_half_a_character_in_an_escape_costs_itself(services: Services) -> None:
    value = r"a\ud83d \\ud83d \ud83d\ude00 \udc00\ud800 \\\uDBFF"
    line = f'{{"url": "http://x/1", "metadata": {{"v": "{value}"}}}}'
    form = multipart(("metadata", None, f'{{"v": "{value}"}}'.encode()), ("files", "a.jpg", b"x"))
    jobs = [
        ingest_lines(services, OPTIONS, body_of(line.encode()), NDJSON),
        ingest_json(services, OPTIONS, f'{{"items": [{line}]}}'.encode()),
        upload(services, form),
    ]
    for job_id in jobs:
        (item,) = items_of(services, job_id)[1]
        assert item.metadata == {"v": "a\ufffd \\ud83d 😀 \ufffd\ufffd \\\ufffd"}


def test_comments_in_a_list_of_urls_are_left_out(services: Services) -> None:
    job_id = ingest_lines(services, OPTIONS, body_of(b"# mine\nhttp://x/1\n  # other\n"), "text/plain")
    assert [item.url for item in items_of(services, job_id)[1]] == ["http://x/1"]


def test_a_url_that_is_far_too_long_fails_alone_and_is_not_kept(services: Services) -> None:
    long = "https://example.com/" + "x" * 10_000_000
    body = json.dumps({"urls": [long, "https://example.com/a.jpg"]}).encode()
    _, items = items_of(services, ingest_json(services, OPTIONS, body))
    assert items[0].error == "invalid_url: The URL has 10,000,020 characters; at most 8,192 are allowed."
    assert len(items[0].source) == 200
    assert items[1].error is None


def test_ndjson_lines_carry_metadata(services: Services) -> None:
    body = body_of(b'{"url": "http://x/1", "metadata": {"a": 1}}\n{"url": "http://x/2"}\n')
    _, items = items_of(services, ingest_lines(services, OPTIONS, body, NDJSON))
    assert [(item.url, item.metadata) for item in items] == [("http://x/1", {"a": 1}), ("http://x/2", {})]


def test_a_long_stream_is_handed_over_while_it_is_read(services: Services) -> None:
    totals: list[tuple[JobStatus, int]] = []
    lines = [f"http://x/{i}\n".encode() for i in range(5000)]

    class Watched(io.RawIOBase):
        position = 0

        def read(self, size: int = -1) -> bytes:
            totals.extend((job.status, job.total) for job in services.ledger.list_jobs(None, None, 1)[0])
            piece = b"".join(lines[self.position : self.position + 500])
            self.position += 500
            return piece

    job, items = items_of(services, ingest_lines(services, OPTIONS, body_of(Watched()), "text/plain"))
    assert {status for status, _ in totals} == {JobStatus.RUNNING}
    assert [total for _, total in totals] == sorted(total for _, total in totals)
    assert totals[0][1] == 1024
    assert job.total == 5000
    assert [item.url for item in items] == [f"http://x/{i}" for i in range(5000)]


def test_a_slow_stream_shows_its_progress_before_a_segment_is_full(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(ingest, "monotonic", lambda: float(next(clock)))
    seen: list[int] = []

    class Slow(io.RawIOBase):
        count = 0

        def read(self, size: int = -1) -> bytes:
            seen.extend(job.total for job in services.ledger.list_jobs(None, None, 1)[0])
            self.count += 1
            return b"http://x/\n" if self.count <= 5 else b""

    job_id = ingest_lines(services, OPTIONS, body_of(Slow()), "text/plain")
    assert seen == [1, 2, 3, 4, 5]
    assert services.ledger.get(job_id).total == 5


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        (b"nonsense", "/3"),
        (b'{"url": "u", "key": ""}', "/3/key"),
        (b'{"url": 1}', "/3/url"),
        (b'{"url": "u", "metadata": {"id": 1}}', "/3/metadata/id"),
        (b'{"url": "\xff"}', "/3"),
        (b'{"url": "' + b"x" * MAX_LINE_BYTES + b'"}', "/3"),
    ],
)
def test_an_early_malformed_line_refuses_the_request(services: Services, line: bytes, pointer: str) -> None:
    good = b'{"url": "http://x"}\n'
    with pytest.raises(InvalidRequest) as raised:
        ingest_lines(services, OPTIONS, body_of(good + b"\n" + line + b"\n" + good * 3000), NDJSON)
    assert [fault["pointer"] for fault in raised.value.errors] == [pointer]
    assert stored_jobs(services) == set()
    assert services.ledger.list_jobs(None, None, 10) == ([], None)


def test_a_late_malformed_line_becomes_a_failed_item(services: Services) -> None:
    good = b'{"url": "http://x"}\n'
    bad = b'{"url": "http://late", "key": "' + b"k" * 500 + b'"}\n'
    job, items = items_of(
        services, ingest_lines(services, OPTIONS, body_of(good * 1500 + bad + good), NDJSON)
    )
    assert job.total == 1502
    assert items[1500].url is None
    assert items[1500].error is not None
    assert items[1500].error.startswith("invalid_url: Line 1501 is malformed: ")
    assert items[1500].source == bad.decode()[:200]
    assert items[1501].url == "http://x"


@pytest.mark.parametrize(
    ("make", "uploads"),
    [
        (lambda s: ingest_json(s, OPTIONS, b'{"urls": ["http://x/1", "http://x/2"]}'), 0),
        (lambda s: ingest_lines(s, OPTIONS, body_of(b"http://x/1\n" * 3000), "text/plain"), 0),
        (lambda s: upload(s, multipart(("files", "a", b"x" * 600), ("files", "b", b"y" * 300))), 900),
    ],
)
def test_a_job_counts_with_what_it_stores_and_nothing_stays_of_one_that_is_refused(
    services: Services, make: Any, uploads: int
) -> None:
    job, items = items_of(services, make(services))
    files = [key for key in services.blobs.list("jobs/") if "/manifest/" in key]
    written = sum(len(services.blobs.get(key)) for key in files) - len(files) * len(b'{"format": 1}\n')
    client = services.ledger._redis.client
    assert client.hget("is:held", "") == client.hget("is:held", ":active") == str(written + uploads)
    assert len(items) == job.total
    full = cast(Services, SimpleNamespace(**vars(services)))
    vars(full)["ledger"] = fake_ledger(most_bytes=written + uploads - 1)
    with pytest.raises(TooManyJobs):
        make(full)
    if job.total < 3000:
        assert stored_jobs(services) == {job.job_id}
        return
    (part,) = full.ledger.list_jobs(None, None, 10)[
        0
    ]  # a stream that outgrows the room ends as what was read
    assert (part.truncated, 0 < part.total < 3000) == (True, True)


SECRET = "https://u:XYZZY@h/a.jpg?w=1&token=XYZZY"
SHOWN = "https://REDACTED@h/a.jpg?w=1&token=REDACTED"


@pytest.mark.parametrize(
    "make",
    [
        lambda s: ingest_json(s, OPTIONS, json.dumps({"urls": [SECRET]}).encode()),
        lambda s: ingest_lines(s, OPTIONS, body_of(json.dumps({"url": SECRET}).encode()), NDJSON),
        lambda s: ingest_lines(s, OPTIONS, body_of(SECRET.encode()), "text/plain"),
    ],
)
def test_a_url_is_fetched_as_it_is_and_shown_without_its_credentials(services: Services, make: Any) -> None:
    _, (item,) = items_of(services, make(services))
    assert (item.url, item.source) == (SECRET, SHOWN)


def test_a_malformed_line_is_shown_without_credentials_wherever_it_is_cut_off(services: Services) -> None:
    good = b'{"url": "http://x"}\n'
    for length in (10, 180, 195, 300):
        bad = json.dumps({"url": f"https://u:{'XYZZY' * length}@h/?sig=XYZZY", "what": 1}).encode() + b"\n"
        job_id = ingest_lines(services, OPTIONS, body_of(good * 1500 + bad), NDJSON)
        _, items = items_of(services, job_id)
        assert items[1500].source == '{"url": "https://REDACTED@h/?sig=REDACTED", "what": 1}'


@pytest.mark.parametrize("data", [b"", b"\n\n \r\n"])
def test_a_stream_without_an_item_is_refused(services: Services, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no items"):
        ingest_lines(services, OPTIONS, body_of(data), "text/plain")


def test_a_body_shorter_than_announced_is_a_truncated_job_of_its_whole_lines(services: Services) -> None:
    body = body_of(b"http://x/1\nhttp://x/2\nhttp://x/par", length=500)
    job, items = items_of(services, ingest_lines(services, OPTIONS, body, "text/plain"))
    assert [item.url for item in items] == ["http://x/1", "http://x/2"]
    assert job.truncated


def test_a_broken_connection_is_a_truncated_job_of_what_was_read(services: Services) -> None:
    body = body_of(BrokenStream(b"http://x/1\nhttp://", b"x/2\nhttp://x/par"))
    job, items = items_of(services, ingest_lines(services, OPTIONS, body, "text/plain"))
    assert [item.url for item in items] == ["http://x/1", "http://x/2"]
    assert job.truncated


def test_bytes_that_a_server_kept_when_the_connection_broke_are_still_read() -> None:
    class KeepsRest(io.RawIOBase):
        calls = 0

        def read(self, size: int = -1) -> bytes:
            self.calls += 1
            if self.calls == 1:
                raise OSError("reset")
            return b"a\nb\nc" if self.calls == 2 else b""

    body = body_of(KeepsRest())
    assert list(read_lines(body)) == [b"a", b"b"]
    assert body.truncated


def test_too_many_lines_end_the_job_as_truncated(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MAX_LINES", 3)
    job, _ = items_of(services, ingest_lines(services, OPTIONS, body_of(b"u\n" * 10), "text/plain"))
    assert (job.total, job.truncated) == (3, True)


def test_a_streamed_body_is_repeated_by_its_key_alone(services: Services) -> None:
    options = Options("images", None, "key-1")
    first = ingest_lines(services, options, body_of(b"http://x/1\n"), "text/plain")
    assert ingest_lines(services, options, body_of(b"http://other\n"), "text/plain") == first
    assert stored_jobs(services) == {first}
    with pytest.raises(IdempotencyMismatch):
        ingest_lines(services, Options("cats", None, "key-1"), body_of(b"http://x/1\n"), "text/plain")


def test_of_two_streams_with_one_key_the_later_gives_way(services: Services) -> None:
    options = Options("images", None, "key-1")
    first: list[str] = []

    class Overtaken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            if first:
                return b""
            first.append(ingest_lines(services, options, body_of(b"http://x/1\n"), "text/plain"))
            return b"http://x/1\nhttp://x/2\n"

    assert ingest_lines(services, options, body_of(Overtaken()), "text/plain") == first[0]
    assert services.ledger.get(first[0]).total == 1
    assert stored_jobs(services) == set(first)


def test_a_job_that_is_cancelled_while_it_is_read_takes_no_more(services: Services) -> None:
    class Cancelling(io.RawIOBase):
        reads = 0

        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            if self.reads == 3:
                services.ledger.cancel(services.ledger.list_jobs(None, None, 1)[0][0].job_id)
            return b"http://x\n" * 1024 if self.reads < 50 else b""

    source = Cancelling()
    job_id = ingest_lines(services, OPTIONS, body_of(source), "text/plain")
    assert services.ledger.get(job_id).status is JobStatus.CANCELLED
    assert source.reads < 10


def test_a_ledger_that_restarts_costs_a_stream_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to one extend is lost after Redis has counted it: it must not count twice."""
    monkeypatch.setattr(connection, "FIRST_PAUSE_SECONDS", 0.0)
    extend = services.ledger.extend
    calls: list[int] = []

    def flaky(job_id: str, count: int, size: int) -> None:
        calls.append(count)
        if len(calls) != 1:
            extend(job_id, count, size)
        if len(calls) in (1, 3):
            raise LedgerUnavailable("away")

    monkeypatch.setattr(services.ledger, "extend", flaky)
    job_id = ingest_lines(services, OPTIONS, body_of(b"http://x\n" * 4096), "text/plain")
    assert services.ledger.get(job_id).total == 4096


def test_a_ledger_that_stays_away_ends_the_stream_as_unavailable(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("away")

    monkeypatch.setattr(services.ledger, "create", away)
    with pytest.raises(LedgerUnavailable):
        ingest_lines(services, OPTIONS, body_of(b"http://x\n"), "text/plain")


def test_reading_lines_keeps_memory_flat_on_a_line_without_end() -> None:
    class Endless(io.RawIOBase):
        left = 200

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"x" * 64 * 1024 if self.left > 0 else b"\nshort\n" if self.left == 0 else b""

    lines = list(read_lines(body_of(Endless())))
    assert [len(line) for line in lines] == [MAX_LINE_BYTES + 1, 5]


@pytest.mark.parametrize("cut", range(1, 14))
def test_lines_do_not_depend_on_how_the_bytes_arrive(cut: int) -> None:
    data = b"\xef\xbb\xbfab\r\ncd\n\nef"

    class Pieces(io.RawIOBase):
        position = 0

        def read(self, size: int = -1) -> bytes:
            piece = data[self.position : self.position + cut]
            self.position += cut
            return piece

    assert [line.rstrip() for line in read_lines(body_of(Pieces()))] == [b"ab", b"cd", b"", b"ef"]


def test_a_body_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(RequestTooLarge, match="larger than 10 bytes"):
        body_of(b"x" * 11, limit=10).read_all()


def test_a_body_of_unknown_length_over_its_limit_is_refused() -> None:
    with pytest.raises(RequestTooLarge):
        body_of(BrokenStream(b"x" * 6, b"x" * 6), limit=10).read_all()


def test_a_refused_body_is_drained_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO(b"x" * 300_000)
    body = Body({"wsgi.input": stream, "wsgi.input_terminated": True})
    body.drain()
    assert stream.tell() == 300_000
    stream.seek(0)
    monkeypatch.setattr(request_body, "_DRAIN_BYTES", 100_000)
    body.drain()
    assert stream.tell() < 300_000


# Multipart


def test_files_are_stored_with_their_names_and_metadata_for_all(services: Services) -> None:
    data = multipart(
        ("files", "a.jpg", b"first"), ("files", "../trip/b.jpg", b"second"),
        ("metadata", None, b'{"shop": "north"}'), ("collection", None, b"cats"),
    )  # fmt: skip
    job, items = items_of(services, upload(services, data))
    assert (job.total, job.collection, job.truncated) == (2, "cats", False)
    assert [(item.source, item.metadata) for item in items] == [
        ("a.jpg", {"shop": "north"}), ("trip/b.jpg", {"shop": "north"}),
    ]  # fmt: skip
    assert [services.blobs.get(item.upload or "") for item in items] == [b"first", b"second"]
    assert [item.upload for item in items if "jpg" in (item.upload or "")] == [], "no name is a path"


def test_metadata_can_be_a_list_in_file_order(services: Services) -> None:
    data = multipart(
        ("metadata", "meta.json", b'[{"n": 1}, null]'), ("files", "a.jpg", b"1"), ("files", "b.jpg", b"2")
    )
    _, items = items_of(services, upload(services, data))
    assert [item.metadata for item in items] == [{"n": 1}, {}]


def test_keys_are_a_list_in_file_order(services: Services) -> None:
    data = multipart(("files", "a.jpg", b"1"), ("keys", None, b'["sku-1", null]'), ("files", "b.jpg", b"2"))
    _, items = items_of(services, upload(services, data))
    assert [item.key for item in items] == ["sku-1", None]
    archive = multipart(("files", "a.zip", zipped(a=b"1", b=b"2")), ("keys", None, b'["sku-1", "sku-2"]'))
    _, items = items_of(services, upload(services, archive))
    assert [item.key for item in items] == ["sku-1", "sku-2"]


def test_a_file_over_the_limit_fails_alone(services: Services) -> None:
    data = multipart(("files", "big.jpg", b"x" * 1001), ("files", "ok.jpg", b"x" * 1000))
    _, items = items_of(services, upload(services, data))
    assert items[0].upload is None
    assert items[0].error is not None
    assert items[0].error.startswith("too_large: ")
    assert items[1].upload is not None


def test_an_archive_gives_an_item_for_each_picture(services: Services) -> None:
    archive = zipped(a=b"first", b=b"x" * 1001, c=b"third")
    data = multipart(("files", "photos.bin", archive), ("metadata", None, b'[{"n": 1}, {"n": 2}, {"n": 3}]'))
    _, items = items_of(services, upload(services, data))
    assert [(item.source, item.metadata["n"]) for item in items] == [("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 3)]
    assert [item.error is None for item in items] == [True, False, True]
    assert services.blobs.get(items[2].upload or "") == b"third"


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ([], "/files"),
        ([("files", "", b"")], "/files"),
        ([("files", None, b"text")], "/files"),
        ([("file", "a.jpg", b"x")], "/file"),
        ([("files", "a.jpg", b"x"), ("colection", None, b"x")], "/colection"),
        ([("files", "a.jpg", b"x"), ("collection", None, b"a"), ("collection", None, b"b")], "/collection"),
        ([("files", "a.jpg", b"x"), ("collection", None, b"-")], "/collection"),
        ([("files", "a.jpg", b"x"), ("metadata", None, b"{")], "/metadata"),
        ([("files", "a.jpg", b"x"), ("metadata", None, b"3")], "/metadata"),
        ([("files", "a.jpg", b"x"), ("metadata", None, b"[]")], "/metadata"),
        ([("files", "a.jpg", b"x"), ("metadata", None, b'{"id": 1}')], "/metadata/id"),
        ([("files", "a.jpg", b"x"), ("metadata", None, b'[{"a": null}]')], "/metadata/0/a"),
        ([("files", "a.jpg", b"x"), ("keys", None, b'["k"')], "/keys"),
        ([("files", "a.jpg", b"x"), ("keys", None, b'"k"')], "/keys"),
        ([("files", "a.jpg", b"x"), ("keys", None, b"[]")], "/keys"),
        ([("files", "a.jpg", b"x"), ("keys", None, b'[""]')], "/keys/0"),
        ([("files", "a.jpg", b"x"), ("callback_url", None, b"http://10.0.0.1/")], "/callback_url"),
        ([("files", "a.zip", zipped(a=b"x")), ("files", "b.jpg", b"x")], "/files"),
        ([("files", "b.jpg", b"x"), ("files", "a.zip", zipped(a=b"x"))], "/files"),
        ([("files", "a.zip", zipped())], "/files"),
    ],
)
def test_a_fault_in_a_form_is_pointed_to_and_nothing_is_stored(
    services: Services, parts: list[tuple[str, str | None, bytes]], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        upload(services, multipart(*parts))
    assert [fault["pointer"] for fault in raised.value.errors] == [pointer]
    assert stored_jobs(services) == set()


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b'; filename="a %22b%22.jpg"', 'a "b".jpg'),
        (b'; filename="a \\"b\\".jpg"', 'a "b".jpg'),
        (b"; filename=plain.jpg", "plain.jpg"),
        (b"; filename=\"a.jpg\"; filename*=UTF-8''%e6%97%a5.jpg", "日.jpg"),
        ('; filename="日本\u202f.jpg"'.encode(), "日本\u202f.jpg"),
        ('; filename="Größe.jpg"'.encode("latin-1"), "Größe.jpg"),
        (b'; filename="\xce\xa2\xd0\xc5.jpg"', "%CE%A2%D0%C5.jpg"),
        (b'; filename="a\xff\x00\x1b.jpg"', "a\xff\ufffd\ufffd.jpg"),
    ],
)
def test_a_files_name_is_read_as_it_was_sent(services: Services, header: bytes, source: str) -> None:
    parts = [b"--B\r\nContent-Disposition: form-data; name=files" + header + b"\r\n\r\nx\r\n--B--\r\n"]
    _, items = items_of(services, upload(services, b"".join(parts)))
    assert [item.source for item in items] == [source]


def test_an_archive_that_is_not_read_is_refused_alone_and_an_item_among_others(services: Services) -> None:
    seven_zip = b"7z\xbc\xaf\x27\x1c" + bytes(2000)
    with pytest.raises(InvalidRequest, match=r"a 7z archive; zip, tar and tar\.gz"):
        upload(services, multipart(("files", "a.7z", seven_zip)))
    assert stored_jobs(services) == set()
    _, items = items_of(
        services, upload(services, multipart(("files", "a", seven_zip), ("files", "b", b"x")))
    )
    assert [item.source for item in items] == ["a", "b"]


def test_a_broken_archive_is_refused_and_what_was_stored_of_it_is_deleted(services: Services) -> None:
    archive = make_tar({"a.jpg": b"first", "b.jpg": b"second" * 200})[: 3 * 512]
    with pytest.raises(InvalidRequest, match="breaks off"):
        upload(services, multipart(("files", "a.tar", archive)))
    assert stored_jobs(services) == set()


@pytest.mark.parametrize("data", [b"no parts at all", multipart(("files", "a.jpg", b"x"))[:-6]])
def test_a_form_that_is_malformed_is_refused(services: Services, data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        upload(services, data)
    assert stored_jobs(services) == set()


def test_a_form_without_a_boundary_is_refused(services: Services) -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        ingest_multipart(services, OPTIONS, TableQuery(), body_of(b""), {})


def test_a_form_that_breaks_off_is_a_truncated_job_of_its_whole_files(services: Services) -> None:
    data = multipart(("files", "a.jpg", b"first"), ("files", "b.jpg", b"second"))
    cut = data[: data.index(b"second") + 3]
    options = Options("images", None, "key-1")
    job_id = upload(services, BrokenStream(cut), options)
    job, items = items_of(services, job_id)
    assert [item.source for item in items] == ["a.jpg"]
    assert job.truncated
    assert upload(services, data, options) != job_id, "the repeat brings what the first try lost"


def test_the_same_files_under_the_same_key_are_the_same_job(services: Services) -> None:
    options = Options("images", None, "key-1")
    first = upload(services, multipart(("files", "a.jpg", b"first")), options)
    assert (
        upload(services, multipart(("files", "a.jpg", b"first"), ("metadata", None, b"{}")), options) == first
    )
    assert stored_jobs(services) == {first}
    with pytest.raises(IdempotencyMismatch):
        upload(services, multipart(("files", "a.jpg", b"other")), options)
    assert stored_jobs(services) == {first}


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65])
def test_a_form_does_not_depend_on_how_its_bytes_arrive(
    services: Services, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(multipart_module, "_READ_BYTES", size)
    content = b"\r\n--B not quite\r\n-\r\n--" + bytes(range(256))
    _, items = items_of(services, upload(services, multipart(("files", "a.jpg", content))))
    assert services.blobs.get(items[0].upload or "") == content


def test_a_form_field_is_bounded(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_module, "MAX_FIELD_BYTES", 100)
    with pytest.raises(RequestTooLarge):
        upload(services, multipart(("metadata", None, b" " * 101)))
