"""Work beside a process's chunks."""

import threading

from tests.stack import eventually
from worker.aside import Aside


def test_so_many_pieces_of_work_go_on_at_once_and_another_when_one_has_ended() -> None:
    aside, ends, ran = Aside(2), [threading.Event() for _ in range(3)], []

    def start(number: int) -> bool:
        return aside.start(lambda: ran.append(number) if ends[number].wait(30) else None)

    assert [start(0), start(1), start(2)] == [True, True, False]
    ends[1].set()
    eventually(lambda: start(2))
    ends[0].set()
    ends[2].set()
    eventually(lambda: sorted(ran) == [0, 1, 2])
