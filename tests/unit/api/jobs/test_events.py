import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from api.app import create_app
from api.encoding.encoder_loader import LoadEncoder
from api.jobs import events
from shared.embedding.encoder import Encoder
from shared.errors import LedgerUnavailable
from shared.models import Chunk, JobKind, Stage
from tests.unit.fakes import Api, assert_problem, make_api

JOB = {"urls": ["https://example.com/1.jpg"]}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


@pytest.fixture
def job_id(api: Api) -> str:
    return str(api.http.post("/v1/jobs", json=JOB).get_json()["job_id"])


def with_threads(api: Api, threads: int) -> Api:
    load: LoadEncoder = lambda *_: cast(Encoder, api.encoder)  # noqa: E731
    return Api(
        create_app(api.services.settings, api.services, load=load, threads=threads), api.services, api.encoder
    )


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block
    ]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


def at_poll(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> list[int]:
    """Does `act` while the stream sleeps for the n-th time; returns a list of the sleeps so far."""
    polls: list[int] = []

    def sleep(_: float) -> None:
        polls.append(len(polls) + 1)
        if len(polls) == number:
            act()

    monkeypatch.setattr(events, "sleep", sleep)
    return polls


def test_events_show_each_change_and_end_with_the_job(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_poll(monkeypatch, 3, lambda: api.services.ledger.cancel(job_id))
    response = api.http.get(f"/v1/jobs/{job_id}/events")
    assert response.mimetype == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.text.startswith("retry: 2000\n\n")
    found = events_of(response.text)
    assert [(name, job["status"]) for name, job in found] == [
        ("status", "queued"), ("status", "cancelled"), ("end", "cancelled"),
    ]  # fmt: skip
    assert found[-1][1] == api.http.get(f"/v1/jobs/{job_id}").json


def test_the_events_of_a_cancelled_sync_end_when_its_last_chunk_has(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = api.services.ledger
    job_id = ledger.create(
        "sync", collection="images", total=0, chunk_size=4, kind=JobKind.SYNC, begins=True,
        final_stage=Stage.FETCH, source="feed",
    )  # fmt: skip
    begin = ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
    assert begin is not None
    ledger.plan(begin, "00")
    ledger.cancel(job_id)

    def finish() -> None:
        ((stage, chunk),) = ledger.sweep()
        final = ledger.claim(chunk, stage)
        assert final is not None
        ledger.advance(final, transitions=[], result={"detail": "noted"})

    at_poll(monkeypatch, 2, finish)
    found = events_of(api.http.get(f"/v1/jobs/{job_id}/events").text)
    assert [(name, job["status"], job["result"]) for name, job in found] == [
        ("status", "cancelled", None), ("end", "cancelled", {"detail": "noted"}),
    ]  # fmt: skip


def test_an_idle_stream_beats_and_outlives_a_ledger_outage(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = api.services.ledger.get
    polls = at_poll(monkeypatch, 5, lambda: api.services.ledger.cancel(job_id))

    def flaky(wanted: str) -> object:
        if 2 <= len(polls) <= 3:
            raise LedgerUnavailable("away")
        return get(wanted)

    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", -1.0)
    monkeypatch.setattr(api.services.ledger, "get", flaky)
    text = api.http.get(f"/v1/jobs/{job_id}/events").text
    assert ": heartbeat\n\n" in text
    assert [name for name, _ in events_of(text)] == ["status", "status", "end"]


def test_a_stream_ends_after_a_while_without_an_end_event(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_poll(monkeypatch, 3, lambda: monkeypatch.setattr(events, "STREAM_SECONDS", 0.0))
    text = api.http.get(f"/v1/jobs/{job_id}/events").text
    assert [name for name, _ in events_of(text)] == ["status"]


@pytest.mark.parametrize(("threads", "most"), [(4, 1), (12, 3), (32, 8)])
def test_streams_leave_most_threads_and_give_their_places_back(
    api: Api, job_id: str, threads: int, most: int
) -> None:
    http = with_threads(api, threads).http
    path = f"/v1/jobs/{job_id}/events"
    streams = [http.get(path) for _ in range(most)]
    assert [stream.status_code for stream in streams] == [200] * most
    refused = http.get(path)
    assert "poll" in assert_problem(refused, 503, "unavailable")["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    streams[0].close()
    streams[0].close()
    streams[0] = http.get(path)
    assert streams[0].status_code == 200
    assert_problem(http.get(path), 503, "unavailable")
    for stream in streams:
        stream.close()


def test_a_stream_of_no_job_takes_no_place(api: Api, job_id: str) -> None:
    http = with_threads(api, 4).http
    for _ in range(3):
        assert_problem(http.get("/v1/jobs/none/events"), 404, "job_not_found")
    stream = http.get(f"/v1/jobs/{job_id}/events")
    assert stream.status_code == 200
    stream.close()
