import pytest

from shared.embedding.serving.slots import IDLE_SECONDS, TURN_SECONDS, Slots


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def slots_of(clock: Clock, *names: str, most: int = 2) -> Slots[str]:
    slots = Slots[str](most, clock)
    for name in names:
        assert slots.make_room(name)
        slots.put(name, name.upper())
        clock.now += 1
    return slots


def kept(slots: Slots[str]) -> set[str]:
    return {name for name, _ in slots}


def test_those_in_use_keep_their_places_for_a_turn(clock: Clock) -> None:
    slots = slots_of(clock, "a", "b")
    gone: list[str] = []
    for _ in range(int(TURN_SECONDS) - 2):
        assert slots.get("a") == "A"
        assert slots.get("b") == "B"
        assert not slots.make_room("c", gone.append)
        clock.now += 1
    assert slots.make_room("c", gone.append)
    assert gone == ["A"]
    assert kept(slots) == {"b"}


def test_the_one_unused_for_longest_goes_first(clock: Clock) -> None:
    slots = slots_of(clock, "a", "b")
    slots.get("a")
    clock.now += IDLE_SECONDS
    assert slots.make_room("c")
    assert kept(slots) == {"a"}


def test_what_is_asked_for_never_counts_for_another(clock: Clock) -> None:
    slots = slots_of(clock, "a")
    assert slots.get("b") is None
    assert list(slots) == [("a", "A")]


def test_one_place_is_handed_on_as_soon_as_it_is_idle(clock: Clock) -> None:
    slots = slots_of(clock, "a", most=1)
    assert not slots.make_room("b")
    clock.now += IDLE_SECONDS
    assert slots.make_room("b")


def test_what_is_held_keeps_its_place_used_or_not(clock: Clock) -> None:
    """Else of two models that load for longer than a turn none would ever be ready."""
    slots = slots_of(clock, "a", most=1)
    slots.hold("a")
    clock.now += 100 * TURN_SECONDS
    assert slots.get("a") == "A"
    assert not slots.make_room("b")
    slots.put("a", "A")
    assert not slots.make_room("b")
    clock.now += IDLE_SECONDS
    assert slots.make_room("b")


def test_what_is_offered_goes_first_however_often_it_is_asked_for(clock: Clock) -> None:
    slots = slots_of(clock, "a", "b")
    slots.offer("b")
    slots.get("b")
    clock.now += TURN_SECONDS
    assert slots.make_room("c")
    assert kept(slots) == {"a"}


def test_extra_ones_take_no_place_and_give_it_back_when_they_are_that_no_more(clock: Clock) -> None:
    slots = slots_of(clock, "a", most=1)
    slots.extra = {"next"}
    assert slots.make_room("next")
    slots.put("next", "NEXT")
    assert not slots.make_room("b")
    slots.extra = set()
    slots.trim()
    assert kept(slots) == {"a", "next"}
    clock.now += IDLE_SECONDS / 2
    slots.get("next")
    clock.now += IDLE_SECONDS / 2
    slots.trim()
    assert kept(slots) == {"next"}
