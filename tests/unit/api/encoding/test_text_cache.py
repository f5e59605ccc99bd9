import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from api.encoding.text_cache import TextCache
from shared.embedding.encoder import Encoder
from shared.errors import ItemError
from tests.stack import eventually
from tests.unit.fakes import MAX_TEXT_CHARS, StubEncoder, Vector, axis, image_id, make_api


class CountingEncoder(StubEncoder):
    """Keeps every text that it was asked to encode; may fail, and may be held up."""

    def __init__(self, fingerprint: str = "5" * 16) -> None:
        super().__init__(fingerprint=fingerprint)
        self.encoded: list[str] = []
        self.failing = False
        self.free = threading.Event()
        self.free.set()

    def encode_texts(self, texts: Sequence[str]) -> Vector:
        self.encoded += texts
        assert self.free.wait(30)
        if self.failing:
            raise ItemError("encode_error", "no finite vector")
        return super().encode_texts(texts)


def get(cache: TextCache, model: StubEncoder, text: str) -> Vector:
    return cache.get(cast(Encoder, model), text).vector


def test_a_repeated_text_is_encoded_once() -> None:
    cache, model = TextCache(), CountingEncoder()
    for _ in range(3):
        np.testing.assert_array_equal(get(cache, model, "axis 1"), axis(1))
    assert model.encoded == ["axis 1"]


def test_models_never_share_a_vector() -> None:
    cache, one, two = TextCache(), CountingEncoder("1" * 16), CountingEncoder("2" * 16)
    get(cache, one, "axis 1")
    get(cache, two, "axis 1")
    assert (one.encoded, two.encoded) == (["axis 1"], ["axis 1"])
    get(cache, CountingEncoder("1" * 16), "axis 1")  # the same weights, loaded again
    assert one.encoded == ["axis 1"]


def test_the_text_not_asked_for_longest_goes_first() -> None:
    cache, model = TextCache(most=2), CountingEncoder()
    for text in ("axis 1", "axis 2", "axis 1", "axis 3", "axis 1", "axis 2"):
        get(cache, model, text)
    assert model.encoded == ["axis 1", "axis 2", "axis 3", "axis 2"]


def test_a_failure_is_not_kept() -> None:
    cache, model = TextCache(), CountingEncoder()
    model.failing = True
    with pytest.raises(ItemError):
        get(cache, model, "axis 1")
    model.failing = False
    np.testing.assert_array_equal(get(cache, model, "axis 1"), axis(1))


def test_nobody_can_change_what_others_get() -> None:
    vector = get(TextCache(), CountingEncoder(), "axis 1")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 5


def test_whether_a_text_was_cut_off_is_kept_too() -> None:
    cache, model = TextCache(), cast(Encoder, CountingEncoder())
    assert cache.get(model, "x" * (MAX_TEXT_CHARS + 1)).truncated
    assert not cache.get(model, "x" * MAX_TEXT_CHARS).truncated


def test_of_many_that_ask_at_once_one_encodes_and_all_are_answered() -> None:
    cache, model = TextCache(), CountingEncoder()
    model.free.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(get, cache, model, "axis 3") for _ in range(8)]
        model.free.set()
    assert all((one.result() == axis(3)).all() for one in found)
    assert model.encoded == ["axis 3"]


def test_what_is_kept_waits_for_no_other_text() -> None:
    cache, model = TextCache(), CountingEncoder()
    get(cache, model, "axis 1")
    model.free.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(get, cache, model, "axis 2")
        np.testing.assert_array_equal(get(cache, model, "axis 1"), axis(1))
        assert not slow.done()
        model.free.set()
    np.testing.assert_array_equal(slow.result(), axis(2))


def test_a_new_text_waits_for_no_other() -> None:
    cache, model = TextCache(), CountingEncoder()
    model.free.clear()
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(get, cache, model, f"axis {n}") for n in (1, 2)]
        eventually(lambda: sorted(model.encoded) == ["axis 1", "axis 2"])
        model.free.set()
    for number, one in zip((1, 2), found, strict=True):
        np.testing.assert_array_equal(one.result(), axis(number))


def test_threads_get_what_they_asked_for_while_texts_come_and_go() -> None:
    cache, model = TextCache(most=3), CountingEncoder()
    numbers = [n % 8 for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: get(cache, model, f"axis {n}"), numbers))
    np.testing.assert_array_equal(np.stack(found), np.eye(8)[numbers])


def test_a_repeated_search_encodes_nothing(tmp_path: Path) -> None:
    model = CountingEncoder()
    api = make_api(tmp_path, encoder=model)
    api.add(1, axis(0))
    model.encoded.clear()  # the common words
    query = {"text": "axis 0", "negative": [{"text": "axis 1"}], "positive": [{"image_id": image_id(1)}]}
    first, second = (api.http.post("/v1/search", json=query).json for _ in range(2))
    assert sorted(model.encoded) == ["axis 0", "axis 1"]
    assert first is not None
    assert second is not None
    assert first["results"] == second["results"]
