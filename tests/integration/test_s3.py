"""The blob store in S3, as moto speaks it: what a role asks, what is said of trouble, how long is waited."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fsspec.config import conf
from s3fs import S3FileSystem

from shared.errors import BlobsUnavailable
from shared.imaging.isolation import run_isolated
from shared.storage.blobs import Blobs
from tests.object_store import ObjectStore


@pytest.fixture
def blobs(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    return Blobs(store.url)


def unavailable(store: Blobs) -> str:
    """What every call says, which is the same."""
    calls = [
        lambda: store.put("a/k", b"x"),
        lambda: store.get("a/k"),
        lambda: store.exists("a/k"),
        lambda: store.list("a/"),
        lambda: store.delete("a/k"),
        lambda: store.delete("a/k", "a/l"),
        lambda: store.move([("a/k", "a/l")]),
        lambda: store.folders("a/"),
        lambda: store.put_new("a/k", b"x"),
        lambda: store.open_read("a/k").__enter__(),
    ]
    said = set()
    for call in calls:
        with pytest.raises(BlobsUnavailable) as raised:
            call()
        said.add(raised.value.detail)
    (sentence,) = said
    return sentence


def test_each_call_is_as_few_requests_as_can_be(blobs: Blobs, store: ObjectStore) -> None:
    def asked(call: object, *arguments: object) -> dict[str, int]:
        with store.counted() as requests:
            call(*arguments)  # type: ignore[operator]
        return dict(requests)

    many = [f"few/{number:04d}" for number in range(1_005)]
    assert asked(blobs.put, "few/0000", b"x") == {"PUT": 1}
    assert asked(blobs.put_new, "few/0001", b"x") == {"PUT": 1}
    assert asked(blobs.get, "few/0000") == {"GET": 1}
    assert asked(blobs.exists, "few/0000") == {"GET": 1}
    assert asked(blobs.exists, "few/absent") == {"GET": 1}
    assert asked(blobs.list, "few/") == {"LIST": 1}
    assert asked(blobs.list, "absent/") == {"LIST": 1}
    assert asked(blobs.modified_at, "few/") == {"LIST": 1}
    assert asked(blobs.move, [("few/0000", "few/0002")]) == {"PUT": 1, "DELETE": 1}
    assert asked(blobs.delete, "few/0000") == {"DELETE": 1}
    assert asked(blobs.delete, *many) == {"POST": 2}
    blobs.put("few/0000", b"x")
    assert asked(blobs.delete_prefix, "few/") == {"LIST": 1, "DELETE": 1}


def test_what_others_wrote_is_seen_at_once(blobs: Blobs, store: ObjectStore) -> None:
    other = pickle.loads(pickle.dumps(blobs))
    assert blobs.list("seen/") == []
    other.put("seen/k", b"one")
    assert (blobs.list("seen/"), blobs.exists("seen/k"), blobs.get("seen/k")) == (["seen/k"], True, b"one")
    other.put("seen/k", b"another")
    with blobs.open_read("seen/k") as file:
        assert file.read() == b"another"
    other.delete("seen/k")
    assert not blobs.exists("seen/k")
    blobs.move([("seen/k", "seen/l")])
    assert not blobs.exists("seen/l")
    for number in range(100):
        blobs.put(f"many/{number:03d}", str(number).encode())
    keys = ["many/absent", *blobs.list("many/")]
    assert list(blobs.get_each(keys)) == [str(number).encode() for number in range(100)]
    assert time.time() - 60 < (blobs.put("seen/m", b"x") or blobs.modified_at("seen/")) < time.time() + 60
    blobs.delete_prefix("seen/")
    assert blobs.folders("seen/") == []


def test_of_many_new_ones_the_first_stays(blobs: Blobs) -> None:
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: blobs.put_new("new/k", str(number).encode()), range(8)))
    first = blobs.get("new/k")
    blobs.put_new("new/k", b"later")
    assert (blobs.get("new/k"), blobs.list("new/")) == (first, ["new/k"])


@pytest.mark.parametrize("size", [4, 20 * 2**20])
def test_half_a_file_is_never_published(blobs: Blobs, size: int) -> None:
    blobs.put("half/k", b"old")
    with pytest.raises(RuntimeError), blobs.open_write("half/k") as file:
        file.write(bytes(size))
        raise RuntimeError
    assert blobs.get("half/k") == b"old"
    with blobs.open_write("half/k") as file:
        file.write(bytes(size))
    with blobs.open_read("half/k") as read:
        assert len(read.read()) == size
    blobs.delete("half/k")


def test_a_throwaway_process_reads_it_too(blobs: Blobs) -> None:
    blobs.put("isolated/k", b"there")
    assert run_isolated(Blobs.get, blobs, "isolated/k", timeout_s=60) == b"there"


def test_a_fork_makes_its_own(blobs: Blobs, store: ObjectStore) -> None:
    """As workers do whose parent has asked the store what `auto` means."""
    blobs.put("forked/k", b"there")
    if (pid := os.fork()) == 0:
        os._exit(0 if Blobs(store.url).get("forked/k") == b"there" else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_bucket_that_is_not_there_is_no_absent_key(blobs: Blobs) -> None:
    assert unavailable(Blobs("s3://nobodys/prefix")) == "The blob store failed: there is no such bucket."


def test_credentials_that_are_refused_or_missing_are_said(
    blobs: Blobs, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.checking_keys():
        said = unavailable(Blobs(store.url))
    assert said == "The blob store failed: it denies access; check the credentials, and what they allow."
    S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    said = unavailable(Blobs(store.url))
    S3FileSystem.clear_instance_cache()
    assert said == "The blob store failed: there are no credentials for it."


def test_a_store_that_is_away_is_one_sentence_without_its_address(blobs: Blobs, store: ObjectStore) -> None:
    with store.away():
        started = time.monotonic()
        with pytest.raises(BlobsUnavailable) as raised:
            blobs.get("a/k")
        assert time.monotonic() - started < 60
    assert raised.value.detail == "The blob store failed: it does not answer."
    blobs.put("a/k", b"again")
    assert blobs.get("a/k") == b"again"


def test_a_store_that_hangs_is_given_up(
    blobs: Blobs, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three tries, each as long as fsspec's own configuration may say."""
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 2}})
    blobs = Blobs(store.url)
    blobs.put("a/k", b"x")
    with store.hanging():
        started = time.monotonic()
        with pytest.raises(BlobsUnavailable):
            blobs.get("a/k")
        assert 6 <= time.monotonic() - started < 60
    assert blobs.get("a/k") == b"x"
