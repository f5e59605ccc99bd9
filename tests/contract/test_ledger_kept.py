"""How many jobs, and bytes of them, are kept of one API key."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from shared.errors import JobNotFound, TooManyJobs
from shared.ledger.ledger import Ledger, new_job_id
from shared.ledger.scripts import PREFIX
from shared.models import ItemState, JobError, Label, Stage
from tests.redis_server import fake_redis

FAILED, INDEXED = ItemState.FAILED, ItemState.INDEXED
MakeLedger = Callable[..., Ledger]


@pytest.fixture(params=["fakeredis", "redis"])
def make_ledger(request: pytest.FixtureRequest) -> MakeLedger:
    if request.param == "fakeredis":
        return lambda **limits: Ledger("", client=fake_redis(), **limits)
    url = request.getfixturevalue("real_redis")
    redis.Redis.from_url(url).flushall()
    return lambda **limits: Ledger(url, **limits)


def make(ledger: Ledger, by: str = "k", size: int = 0, total: int = 1, **options: Any) -> str:
    return ledger.create(
        new_job_id(), collection="images", total=total, chunk_size=4, made_by=by, size=size, **options
    )


def end(ledger: Ledger, state: ItemState = INDEXED) -> None:
    """Ends all that there is."""
    while chunks := ledger.dispatch():
        for chunk in chunks:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            ledger.advance(claim, transitions=[(i, state) for i in ledger.pending(claim)])


def there(ledger: Ledger, *jobs: str) -> list[bool]:
    return [ledger.exists(job) for job in jobs]


def client_of(ledger: Ledger) -> Any:
    return ledger._redis.client


def held(ledger: Ledger) -> dict[str, int]:
    return {field: int(value) for field, value in client_of(ledger).hgetall(f"{PREFIX}held").items()}


def test_past_the_number_the_jobs_that_finished_first_go(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_jobs=3)
    first = make(ledger)
    running = make(ledger, reading=True)
    end(ledger)
    second = make(ledger)
    end(ledger)
    third = make(ledger)
    assert there(ledger, first, running, second, third) == [False, True, True, True]
    end(ledger)
    make(ledger)
    assert there(ledger, running, second, third) == [True, False, True]
    with pytest.raises(JobNotFound):
        ledger.get(first)
    assert sorted(ledger.expired_jobs()) == sorted([first, second]), "their files are the sweeper's"
    assert all(ledger.forget_job(job) for job in (first, second))
    assert ledger.expired_jobs() == []
    assert len(ledger.list_jobs(None, None, 10)[0]) == 3


def test_when_none_has_finished_the_next_is_refused_and_says_which_setting(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_jobs=2)
    jobs = [make(ledger) for _ in range(2)]
    with pytest.raises(TooManyJobs, match=r"more than 2 \(IMAGE_SEARCH_MAX_JOBS_PER_KEY\)") as caught:
        make(ledger)
    assert caught.value.retry_after_s > 0
    assert there(ledger, *jobs, make(ledger, by="another"), make(ledger, by="")) == [True] * 4
    ledger.cancel(jobs[0])
    make(ledger)
    assert there(ledger, *jobs) == [False, True]


def test_bytes_are_bounded_as_well(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_bytes=100)
    finished = [make(ledger, size=30) for _ in range(3)]
    end(ledger)
    open_job = make(ledger, size=45)
    assert there(ledger, *finished) == [False, False, True]
    assert held(ledger) == {"k": 75, "k:active": 45}
    with pytest.raises(TooManyJobs, match=r"100 bytes .*\(IMAGE_SEARCH_MAX_JOB_BYTES_PER_KEY\)"):
        make(ledger, size=56)
    assert there(ledger, *finished, open_job) == [False, False, True, True], "nothing goes in vain"
    make(ledger, size=55)
    assert there(ledger, *finished, open_job) == [False, False, False, True]


def test_a_stream_counts_as_it_grows(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_bytes=100)
    before = make(ledger, size=50)
    end(ledger)
    job = make(ledger, size=40, reading=True)
    ledger.extend(job, 1, 30)
    assert there(ledger, before, job) == [False, True]
    with pytest.raises(TooManyJobs, match="IMAGE_SEARCH_MAX_JOB_BYTES_PER_KEY"):
        ledger.extend(job, 1, 31)
    assert ledger.get(job).total == 2
    ledger.extend(job, 1, 30)
    assert held(ledger) == {"k": 100, "k:active": 100}


def test_a_job_that_is_retried_has_not_finished(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_jobs=2, most_bytes=100)
    retried, other = make(ledger, size=10), make(ledger, size=10)
    end(ledger, FAILED)
    ledger.retry(retried)
    assert held(ledger) == {"k": 20, "k:active": 10}
    make(ledger, size=90)
    assert there(ledger, retried, other) == [True, False]
    with pytest.raises(TooManyJobs):
        make(ledger)


def test_what_is_forgotten_leaves_nothing_behind(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_jobs=5, job_ttl_s=0.0)
    client = client_of(ledger)

    def keys() -> set[str]:
        """But for those that go by themselves after two minutes."""
        found = (key.removeprefix(PREFIX) for key in client.keys(f"{PREFIX}*"))
        return {key for key in found if not key.startswith("advanced:")}

    counts = []
    for number in range(60):
        make(ledger, size=7, idempotency=(f"key {number}", "digest"))
        end(ledger, FAILED)
        counts.append(len(keys()))
    assert set(counts[20:]) == {counts[20]}
    assert client.zcard(f"{PREFIX}jobs") == 5
    assert held(ledger) == {"k": 35}
    for job in ledger.expired_jobs():
        assert ledger.forget_job(job)
    assert keys() <= {"format", "clock", "stages", "totals"}


def test_an_idempotency_key_goes_with_its_job_and_answers_also_where_there_is_no_room(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger(most_jobs=1)
    first = make(ledger, idempotency=("once", "d"))
    assert make(ledger, idempotency=("once", "d")) == first
    with pytest.raises(TooManyJobs):
        make(ledger, idempotency=("refused", "d"))
    assert ledger.idempotent_job("refused", "d") is None
    end(ledger)
    make(ledger)
    assert ledger.idempotent_job("once", "d") is None


def test_a_job_of_an_earlier_version_counts_for_nobody(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_jobs=2)
    client = client_of(ledger)
    old = make(ledger, by="old")
    client.hdel(f"{PREFIX}job:{old}", "by", "bytes", "idempotency")
    client.delete(f"{PREFIX}active:old", f"{PREFIX}held")
    end(ledger, FAILED)
    ledger.retry(old)
    end(ledger)
    assert held(ledger) == {}
    for _ in range(5):
        make(ledger)
        end(ledger)
    assert ledger.exists(old)


def test_many_at_once_do_not_get_past_the_limit(real_redis: str) -> None:
    redis.Redis.from_url(real_redis).flushall()
    made: list[str] = []

    def try_to(ledger: Ledger) -> None:
        for _ in range(5):
            try:
                made.append(make(ledger))
            except TooManyJobs:
                return

    threads = [
        threading.Thread(target=try_to, args=(Ledger(real_redis, most_jobs=7),), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 7


def test_nothing_stays_of_a_forgotten_job_in_its_group(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(most_jobs=2)
    gone, kept = (make(ledger, label=Label(group="g")) for _ in range(2))
    (chunk, other) = ledger.dispatch()
    for one in (chunk, other):
        claim = ledger.claim(one, Stage.FETCH)
        assert claim is not None
        if one.job_id == gone:
            errors = [JobError(0, "http://x/0", "timeout", "too slow")]
            ledger.advance(claim, transitions=[(0, FAILED)], errors=errors, transient=[0])
        else:
            ledger.advance(claim, transitions=[], retry_delay_s=60.0, waiting=(1, 2, 4))
    make(ledger, label=Label(group="other"))
    assert [job.job_id for job in ledger.list_jobs(None, None, 9, group="g")[0]] == [kept]
    of_it = [key for key in client_of(ledger).keys("*") if gone in key]
    assert not [key for key in of_it if not key.startswith(f"{PREFIX}advanced:")]  # which expires
    ledger.cancel(kept)
    make(ledger)
    left = client_of(ledger).keys(f"{PREFIX}*")
    assert not [key for key in left if key.startswith((f"{PREFIX}retrying:", f"{PREFIX}failures:"))]
    assert f"{PREFIX}group:g" not in left
