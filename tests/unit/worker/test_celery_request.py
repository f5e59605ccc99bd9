import json
from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import Message
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.transport.virtual import Channel

from worker.celery_request import AcknowledgedRequest


class BrokenChannel(Channel):
    no_ack_consumers = None

    def __init__(self, *, broken: bool) -> None:
        self.broken = broken

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        if self.broken:
            raise TimeoutError("no answer")

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.basic_ack(delivery_tag)


@pytest.fixture
def hub() -> Iterator[Hub]:
    before = get_event_loop()
    hub = Hub()
    set_event_loop(hub)
    yield hub
    set_event_loop(before)
    hub.close()


def _task() -> None:
    pass


def request(*, broken: bool) -> AcknowledgedRequest:
    app = Celery(set_as_current=False)
    task = app.task(_task, name="t", Request=AcknowledgedRequest)
    headers = {"id": "1", "task": "t", "lang": "py"}
    message = Message(
        body=json.dumps([[], {}, {}]).encode(),
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        delivery_tag="1",
        channel=BrokenChannel(broken=broken),
        accept={"application/json"},
    )
    assert task.Request is AcknowledgedRequest
    later = (
        message.ack_log_error,
        message.reject_log_error,
    )  # as Celery's consumer takes them, before the request
    return AcknowledgedRequest(
        message,
        app=app,
        task=task,
        on_ack=later[0],
        on_reject=later[1],
        connection_errors=(OSError,),
    )


@pytest.mark.parametrize("end", ["acknowledge", "reject"])
def test_an_acknowledgement_that_the_broker_has_not_taken_makes_the_consumer_reconnect(
    hub: Hub, end: str
) -> None:
    getattr(request(broken=True), end)()
    with pytest.raises(ConnectionResetError):
        hub.run_once()


@pytest.mark.parametrize("end", ["acknowledge", "reject"])
def test_one_that_was_taken_leaves_the_connection_alone(hub: Hub, end: str) -> None:
    getattr(request(broken=False), end)()
    hub.run_once()
