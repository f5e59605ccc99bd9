"""Requests whose collection is switched to another model while they are answered."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.index import index as index_module
from tests.unit.fakes import Api, StubEncoder, axis, make_api, picture, wait_until

NEW = "6" * 16


class SwitchingEncoder(StubEncoder):
    """Switches the collection `images` while it encodes for the first time."""

    api: Api | None = None

    def encode_texts(self, *given: Any) -> Any:
        self._switch()
        return super().encode_texts(*given)

    def encode_images(self, *given: Any) -> Any:
        self._switch()
        return super().encode_images(*given)

    def _switch(self) -> None:
        if self.api is None:
            return
        api, self.api = self.api, None
        index = api.services.index
        old, staged = (
            index.collection("images"),
            index.stage("images", model="big/model", fingerprint=NEW, dimension=8),
        )
        old.copy_records(staged, {one: axis(1) for one in old.ids()})
        index.switch("images", staged)
        index.unstage("images")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(index_module, "POINTER_TTL_SECONDS", 0.0)
    encoder = SwitchingEncoder()
    api = make_api(tmp_path, None, encoder, StubEncoder("big/model", NEW))
    api.add(0, axis(0))
    api.context.models.announce({NEW: "big/model"})
    wait_until(lambda: NEW in api.context.models.fingerprints())
    encoder.api = api
    return api


def test_a_search_whose_collection_is_switched_meanwhile_is_answered_by_the_new_model(api: Api) -> None:
    answer = api.http.post("/v1/search", json={"text": "a cat"})
    assert (answer.status_code, answer.json["model"]) == (200, "big/model")
    assert len(answer.json["results"]) == 1


def test_an_upload_is_read_again_for_the_new_model(api: Api) -> None:
    form = {"image": (io.BytesIO(picture((1, 2, 3))), "a.png"), "query": json.dumps({"limit": 1})}
    answer = api.http.post("/v1/search", data=form)
    assert (answer.status_code, answer.json["model"]) == (200, "big/model")
    assert np.isfinite(answer.json["results"][0]["score"])
