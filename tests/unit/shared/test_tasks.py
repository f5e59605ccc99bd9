"""Messages to the queues, on the real ledger scripts; what is sent is only noted down."""

from typing import Any, cast

import pytest

from shared.ledger.ledger import Chunk, Ledger
from shared.models import Stage
from shared.tasks import Dispatcher
from tests.redis_server import fake_ledger

CHUNK = Chunk("job", 0, 0)


class NotedCelery:
    def __init__(self) -> None:
        self.queues: list[str] = []

    def send_task(self, _name: str, *, args: list[str], queue: str) -> None:
        self.queues.append(queue)


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def celery() -> NotedCelery:
    return NotedCelery()


def test_an_idle_writer_is_woken_for_each_chunk(ledger: Ledger, celery: NotedCelery) -> None:
    Dispatcher(cast(Any, celery), ledger).send(Stage.INDEX, CHUNK)
    assert celery.queues == ["index"]


def test_no_messages_pile_up_behind_a_writer_at_work(ledger: Ledger, celery: NotedCelery) -> None:
    dispatcher = Dispatcher(cast(Any, celery), ledger)
    ledger.writer.acquire("me")
    dispatcher.send(Stage.INDEX, CHUNK)
    assert celery.queues == []
    ledger.writer.release("me")
    dispatcher.send(Stage.INDEX, CHUNK)
    assert celery.queues == ["index"]


@pytest.mark.parametrize("stage", [Stage.FETCH, Stage.ENCODE])
def test_other_stages_get_their_chunks_while_a_writer_works(
    stage: Stage, ledger: Ledger, celery: NotedCelery
) -> None:
    ledger.writer.acquire("me")
    Dispatcher(cast(Any, celery), ledger).send(stage, CHUNK)
    assert celery.queues == [str(stage)]
