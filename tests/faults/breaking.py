"""What can be broken of a running stack: each of these breaks one thing, and returns when that is over."""

import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import Callable

from redis import Redis

from shared.models import Chunk, Stage
from shared.tasks import TASK_NAMES, make_celery
from tests.faults import up
from tests.faults.rig import POISON, POISONED, POISONED_JOB, Rig
from tests.short_waits import LEASE_SECONDS
from tests.stack import eventually

Injection = Callable[[Rig], None]

PAUSE_SECONDS = LEASE_SECONDS + 5
OUTAGE_SECONDS = 5.0
DELAY_SECONDS = 0.3
FLOOD = 50  # messages a chunk


def kill(role: str) -> Injection:
    """`kill -9` of every process of a role; over when `up` has started it again."""

    def inject(rig: Rig) -> None:
        before = rig.stack.leader(role)
        for pid in rig.stack.processes(role):
            _signal(pid, signal.SIGKILL)
        eventually(lambda: rig.stack.leader(role) not in (None, before), 60)

    return inject


def kill_child(role: str) -> Injection:
    """`kill -9` of one pool process: the worker's parent lives on, and replaces it."""

    def inject(rig: Rig) -> None:
        children = rig.stack.processes(role)[1:]
        if children:
            _signal(random.choice(children), signal.SIGKILL)

    return inject


def pause(role: str) -> Injection:
    """Stops a role for longer than its leases, and lets it go on where it was."""

    def inject(rig: Rig) -> None:
        stopped = rig.stack.processes(role)
        for pid in stopped:
            _signal(pid, signal.SIGSTOP)
        try:
            time.sleep(PAUSE_SECONDS)
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)

    return inject


def kill_everything(rig: Rig) -> None:
    """`kill -9` of `up` and of all that it started; over when it has been started again."""
    for pid in rig.stack.mine():
        _signal(pid, signal.SIGKILL)
    rig.stack.stop()
    rig.stack.start()


def restart_redis(rig: Rig) -> None:
    """An orderly end: Redis comes back from its append-only file."""
    before = rig.stack.leader("redis")
    _signal(before or 0, signal.SIGTERM)
    eventually(lambda: rig.stack.leader("redis") not in (None, before), 60)


def cut(store: str) -> Injection:
    """Resets all connections to Redis or Chroma, and all new ones for a while."""

    def inject(rig: Rig) -> None:
        proxy = getattr(rig, store)
        proxy.refusing = True
        proxy.cut()
        time.sleep(OUTAGE_SECONDS)
        proxy.refusing = False

    return inject


def cut_once(store: str) -> Injection:
    return lambda rig: getattr(rig, store).cut()


def delay(store: str) -> Injection:
    def inject(rig: Rig) -> None:
        proxy = getattr(rig, store)
        proxy.delay_s = DELAY_SECONDS
        time.sleep(2 * OUTAGE_SECONDS)
        proxy.delay_s = 0.0

    return inject


def hide_bucket(rig: Rig) -> None:
    """For a while nobody can connect to the bucket of the sources."""
    with rig.bucket.away():
        time.sleep(OUTAGE_SECONDS)


def fill_disk(rig: Rig) -> None:
    with rig.full_disk():
        time.sleep(OUTAGE_SECONDS)


def flood(rig: Rig) -> None:
    """Every message that may be under way, many times over, and for each stage."""
    settings = rig.services.settings
    celery = make_celery(settings)
    redis = Redis(unix_socket_path=str(up.redis_socket(rig.stack.data_dir)), decode_responses=True)
    refs = {key.removeprefix("is:chunk:") for key in redis.scan_iter("is:chunk:*")}
    for ref in sorted(refs):
        assert Chunk.parse(ref).ref == ref
        for stage in Stage:
            for _ in range(FLOOD // 3):
                celery.send_task(TASK_NAMES[stage], args=[ref], queue=str(stage))


def refuse_payload(rig: Rig) -> None:
    """Chroma takes no request with some pictures: they alone fail, among others of their job."""
    rig.chroma.refused = POISON.encode()
    try:
        job = rig.finished(rig.submit_poisoned(f"poisoned-{secrets.token_hex(4)}"))
    finally:
        rig.chroma.refused = b""
    assert {state: count for state, count in job["counts"].items() if count} == {
        "indexed": POISONED_JOB - POISONED,
        "failed": POISONED,
    }
    assert {error["code"] for error in job["errors"]} == {"index_error"}


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
