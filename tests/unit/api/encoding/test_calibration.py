import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from api.encoding import calibration as calibration_module
from api.encoding.calibration import MIN_IMAGES, SPREAD, Background, Backgrounds, Calibration, picture_scale
from shared.embedding.encoder import Encoder
from shared.index.collection import Collection
from shared.models import Image
from tests.unit.fakes import (
    DIMENSION,
    Api,
    StubEncoder,
    Vector,
    assert_problem,
    axis,
    image_id,
    index_in,
    make_api,
    unit,
)

PICTURES = 60


def cloud(count: int, dimension: int, seed: int = 0) -> Vector:
    rows: Vector = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def fill(collection: Collection, rows: Vector, start: int = 0) -> None:
    images = [Image(image_id(start + n), "s", ["s"], "jpeg", 1, 1, 1, 1.0) for n in range(len(rows))]
    collection.upsert(images, rows, ["job:0"] * len(rows))


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    index = index_in(tmp_path)
    return index.create("many", model="m", fingerprint="1" * 16, dimension=64)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Pictures near the first axes, none of them near axis 7; one right on axis 0."""
    api = make_api(tmp_path_factory.mktemp("api"))
    rng = np.random.default_rng(0)
    api.add(0, axis(0))
    for number in range(1, PICTURES):
        api.add(number, unit(0, *rng.normal(size=6), 0.2 * rng.normal()))
    for number in range(5):
        api.add(number, axis(number), "few")
    return api


def search(api: Api, **query: Any) -> dict[str, Any]:
    response = api.http.post("/v1/search", json={"include": ["confidence"], "limit": 100} | query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = json.loads(response.data)
    return document


# The formula


def test_confidence_is_the_chance_that_the_best_of_as_many_normal_draws_is_less() -> None:
    rng = np.random.default_rng(0)
    best = 0.2 + 0.05 * rng.normal(size=(20_000, 50)).max(axis=1)
    calibration = Calibration((Background(0.2, 0.05),), count=50)
    for score in (0.27, 0.3, 0.35):
        assert calibration.confidence(score) == pytest.approx(float((best < score).mean()), abs=0.015)


def test_where_nothing_fits_the_best_confidence_is_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 of 2,000 unrelated vectors are the sample, 300 unrelated queries each take the best of all.

    They score alike above and below their median, as those of a model do not.
    """
    monkeypatch.setattr(calibration_module, "SPREAD", 1.0)
    pictures, queries = cloud(2_000, 512, seed=1), cloud(300, 512, seed=2)
    found = [
        Calibration.of(query, pictures[::5], len(pictures)).confidence(float((pictures @ query).max()))
        for query in queries
    ]
    for threshold in (0.25, 0.5, 0.75, 0.9):
        assert float(np.mean(np.array(found) < threshold)) == pytest.approx(threshold, abs=0.1)


def test_confidence_grows_with_the_score_and_has_an_inverse() -> None:
    calibration = Calibration((Background(0.1, 0.03), Background(0.05, 0.06)), count=1_000_000)
    scores = np.linspace(-1, 1, 201)
    found = [calibration.confidence(score) for score in scores]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0.0, 1.0)
    for wanted in (1e-12, 0.1, 0.5, 0.9, 0.999999):
        assert calibration.confidence(calibration.score(wanted)) == pytest.approx(wanted, rel=1e-6)
    assert calibration.score(0) == -math.inf
    assert calibration.confidence(calibration.score(1.0)) == pytest.approx(1.0)
    assert math.isfinite(calibration.score(1.0))


def test_equal_vectors_give_no_division_by_zero() -> None:
    same = np.repeat(cloud(1, 8), 40, axis=0)
    calibration = Calibration.of(same[0], same, 40)
    assert calibration.confidence(1.0) == 1.0
    assert calibration.confidence(0.0) == 0.0


@pytest.mark.parametrize("apart", [3e-4, 1e-5, 1e-6, 1e-7])
def test_vectors_that_differ_by_hardly_more_than_rounding_are_nothing_sure(apart: float) -> None:
    """As those of a random tower are."""
    pictures = _unit(cloud(1, 768) + apart * cloud(1_000, 768, seed=1)).astype(np.float32)
    query = cloud(1, 768, seed=2)[0]
    calibration = Calibration.of(query, pictures[:400], len(pictures))
    assert all(0 <= calibration.confidence(score) < 0.9 for score in (pictures @ query).tolist())
    assert picture_scale(query[None], pictures[:1], pictures[:400]) == 0.6


# Of a CLIP and of SigLIPs: the mean and the deviation of what does not fit.
@pytest.mark.parametrize(("mean", "deviation"), [(0.18, 0.02), (0.0, 0.02), (-0.05, 0.01), (0.05, 0.03)])
def test_confidence_is_the_same_wherever_a_model_has_its_cosines(mean: float, deviation: float) -> None:
    pictures, query = world(mean, deviation, 2_000)
    scores = pictures @ query
    assert (scores.mean(), scores.std()) == (
        pytest.approx(mean, abs=deviation / 4),
        pytest.approx(deviation, rel=0.1),
    )
    calibration = Calibration.of(query, pictures[:400], len(pictures))
    z = [(calibration.score(wanted) - mean) / deviation for wanted in (0.1, 0.9, 0.99)]
    assert z == pytest.approx([3.5, 4.8, 5.4], abs=0.5)
    assert calibration.confidence(float(scores.max())) < 0.9
    assert calibration.confidence(mean + 7 * deviation) > 0.99


def test_what_fits_is_no_background_even_where_it_is_a_third_of_all() -> None:
    rng = np.random.default_rng(0)
    unrelated, fitting = rng.normal(0.1, 0.05, 400), rng.normal(0.4, 0.03, 200)
    alone, both = (
        Background.of_pictures(scores.astype(np.float32))
        for scores in (unrelated, np.concatenate([unrelated, fitting]))
    )
    assert alone.mean == pytest.approx(0.1, abs=0.01)
    assert alone.deviation == pytest.approx(SPREAD * 0.05, rel=0.1)
    assert (0.4 - both.mean) / both.deviation > 2.5
    everything = np.concatenate([unrelated, fitting])
    assert (0.4 - everything.mean()) / everything.std() < 1.5


def test_what_most_pictures_are_is_sure_beside_words_that_fit_none() -> None:
    """Nine pictures in ten are near the query: among themselves they do not stand out."""
    query = np.eye(64, dtype=np.float32)[0]
    pictures = cloud(1_000, 64) + np.where(np.arange(1_000) % 10 > 0, 1.0, 0.0)[:, None] * query
    pictures = (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).astype(np.float32)
    words = cloud(50, 64, seed=9)
    words[:, 0] = 0
    score = float(np.median(pictures @ query))
    alone = Calibration.of(query, pictures, 1_000)
    beside = Calibration.of(query, pictures, 1_000, Background.of_words(pictures @ words.T))
    assert alone.confidence(score) < 0.1
    assert beside.confidence(score) > 0.9


def test_nothing_is_surer_than_the_picture_that_was_asked_for() -> None:
    """Cosines between pictures are large and spread, so that 1 is few deviations above them."""
    calibration = Calibration((Background(0.6, 0.15),), count=1_000_000)
    assert calibration.confidence(1.0) == 1.0
    assert calibration.confidence(0.9) < 0.1
    assert calibration.score(0.9) <= 1.0
    assert calibration.score(1.0) == pytest.approx(1.0)


# The scale of pictures beside texts


def test_a_weight_of_one_spreads_the_scores_as_far_for_a_picture_as_for_a_text() -> None:
    pictures, shared = cloud(200, 64), cloud(1, 64, seed=1)
    pictures = _unit(0.5 * pictures + shared * np.linspace(0, 0.5, 200)[:, None]).astype(np.float32)
    texts = _unit(0.2 * shared + cloud(2, 64, seed=2)).astype(np.float32)
    of_texts, of_pictures = (
        np.mean([(pictures @ term)[pictures @ term < 0.95].var(ddof=1) for term in terms])
        for terms in (texts, pictures[:3])
    )
    scale = picture_scale(texts, pictures[:3], pictures)
    assert scale == pytest.approx(math.sqrt(of_texts / of_pictures), rel=1e-4)


@pytest.mark.parametrize(("mean", "deviation"), [(0.18, 0.02), (0.0, 0.02), (-0.05, 0.01)])
def test_narrow_scores_of_texts_scale_pictures_down_to_them(mean: float, deviation: float) -> None:
    """Of pictures that have 0.6 in common and differ by 0.1, and of a text that hardly moves."""
    pictures, text = world(mean, deviation, 400)
    scale = picture_scale(text[None], pictures[:1], pictures)
    assert scale == pytest.approx(
        float((pictures @ text).std() / (pictures[1:] @ pictures[0]).std()), rel=0.02
    )
    mixed = text + scale * pictures[0]
    of_text, of_picture = pictures[1:] @ text, scale * (pictures[1:] @ pictures[0])
    moved = pictures[1:] @ (mixed / np.linalg.norm(mixed))
    by_text, by_picture = (np.corrcoef(moved, part)[0, 1] for part in (of_text, of_picture))
    assert by_text == pytest.approx(by_picture, abs=0.1)


def test_copies_of_the_picture_do_not_count_in_its_scale() -> None:
    pictures, texts = cloud(40, 16), cloud(1, 16, seed=1)
    with_copies = np.concatenate([pictures, np.repeat(pictures[:1], 20, axis=0)])
    alone = picture_scale(texts, pictures[:1], pictures)
    copied = _of(texts, with_copies) / _of(pictures[:1], pictures[1:])
    assert picture_scale(texts, pictures[:1], with_copies) == pytest.approx(copied, rel=1e-4)
    assert alone == pytest.approx(_of(texts, pictures) / _of(pictures[:1], pictures[1:]), rel=1e-4)


@pytest.mark.parametrize("sample", [cloud(0, 8), cloud(9, 8), np.repeat(cloud(1, 8, seed=9), 40, axis=0)])
def test_a_typical_scale_is_taken_where_it_cannot_be_measured(sample: Vector) -> None:
    assert picture_scale(cloud(1, 8, seed=1), cloud(1, 8, seed=2), sample) == 0.6


def world(mean: float, deviation: float, count: int) -> tuple[Vector, Vector]:
    """Pictures of a few dimensions around what they have in common, and a text of these cosines to them."""
    rng = np.random.default_rng(3)
    pictures = np.zeros((count, 64))
    pictures[:, 0], pictures[:, 1:31] = math.sqrt(0.6), math.sqrt(0.4 / 30) * rng.normal(size=(count, 30))
    pictures = _unit(pictures)
    text = np.zeros(64)
    text[0], text[1] = mean / pictures[:, 0].mean(), deviation / pictures[:, 1].std()
    text[63] = math.sqrt(1 - float(text @ text))
    return pictures.astype(np.float32), text.astype(np.float32)


def _unit(rows: Vector) -> Vector:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _of(terms: Vector, sample: Vector) -> float:
    return float((sample @ terms[0]).std(ddof=1))


# The sample


def test_a_sample_is_taken_once_and_again_after_growth(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_module, "_COUNT_TTL_SECONDS", 0.0)
    taken: list[int] = []
    sample = Collection.sample

    def counted(self: Collection, count: int, of: int | None) -> Vector:
        taken.append(self.count())
        return sample(self, count, of)

    monkeypatch.setattr(Collection, "sample", counted)
    backgrounds, query = Backgrounds(), cloud(1, 64, seed=3)[0]
    seen = []
    for start, end in ((0, 400), (400, 420), (420, 450), (450, 480), (480, 500)):
        fill(collection, cloud(end - start, 64, seed=end), start)
        calibration = backgrounds.calibrate(query, collection)
        assert calibration is not None
        seen.append(calibration.count)
    assert seen == [400, 420, 450, 480, 500]
    assert taken == [400, 450, 500]


@pytest.mark.parametrize("counts", [(0, 12, 40), (300, 390), (390, 900), (900, 905)])
def test_processes_that_began_at_different_times_scale_alike(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...]
) -> None:
    monkeypatch.setattr(calibration_module, "_COUNT_TTL_SECONDS", 0.0)
    text, picture = cloud(1, 64, seed=5), cloud(1, 64, seed=6)
    early, end = Backgrounds(), 0
    for count in counts:
        if count > end:
            fill(collection, cloud(count - end, 64, seed=count), end)
        end = count
        scale = early.scale(text, picture, collection)
    assert Backgrounds().scale(text, picture, collection) == scale


@pytest.mark.parametrize("knows_english", [True, False])
def test_only_a_model_that_knows_english_is_asked_the_common_words(
    collection: Collection, knows_english: bool
) -> None:
    class Words(StubEncoder):
        def encode_texts(self, texts: Sequence[str]) -> Vector:
            assert knows_english
            return cloud(len(texts), 64)

    encoder = cast(Encoder, Words())
    encoder.knows_english = knows_english
    fill(collection, cloud(40, 64, seed=4))
    calibration = Backgrounds().calibrate(
        cloud(1, 64, seed=5)[0], collection, Backgrounds().prepared(encoder)
    )
    assert calibration is not None
    assert len(calibration.backgrounds) == 1 + knows_english


def test_a_small_collection_is_sampled_whole_and_a_large_one_evenly(collection: Collection) -> None:
    rows = cloud(1_000, 64)
    fill(collection, rows[:120])
    np.testing.assert_allclose(collection.sample(400), rows[:120], atol=1e-6)
    fill(collection, rows[120:], 120)
    found = collection.sample(400)
    places = (found @ rows.T).argmax(axis=1)
    assert len(set(places.tolist())) == len(found) == 400
    assert np.histogram(places, bins=5, range=(0, 1_000))[0].tolist() == [80] * 5
    np.testing.assert_array_equal(collection.sample(400), found)


def test_collections_asked_for_long_ago_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_module, "_MAX_COLLECTIONS", 2)
    index, backgrounds = index_in(tmp_path), Backgrounds()
    for name in ("a", "b", "c"):
        made = index.create(name, model="m", fingerprint="1" * 16, dimension=8)
        fill(made, cloud(40, 8))
        assert backgrounds.calibrate(cloud(1, 8)[0], made) is not None
    assert len(backgrounds._kept) == 2


# Over HTTP


def test_what_fits_is_sure_and_what_does_not_is_not(api: Api) -> None:
    found = search(api, text="axis 0")["results"]
    assert found[0]["id"] == image_id(0)
    assert found[0]["confidence"] > 0.99
    assert found[1]["confidence"] < 0.1
    values = [one["confidence"] for one in found]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)


def test_nothing_fits_is_an_answer(api: Api) -> None:
    assert [one["id"] for one in search(api, text="axis 0", min_confidence=0.9)["results"]] == [image_id(0)]
    document = search(api, text="axis 7", min_confidence=0.9)
    assert document["results"] == []
    assert "warnings" not in document
    assert len(search(api, text="axis 7")["results"]) == PICTURES


def test_min_confidence_means_the_confidence_that_is_shown(api: Api) -> None:
    everything = search(api, text="axis 1")["results"]
    for place, result in enumerate(everything):
        bounded = search(api, text="axis 1", min_confidence=result["confidence"])["results"]
        assert len(bounded) > place
        assert bounded == [one for one in everything if one["confidence"] >= result["confidence"]]
    floor = everything[3]["confidence"]
    assert search(api, text="axis 1", min_confidence=0)["results"] == everything
    stricter = everything[1]["score"] - 1e-6
    found = search(api, text="axis 1", min_confidence=floor, min_score=stricter)["results"]
    assert found == everything[:2]


def test_facets_count_what_is_sure_enough(api: Api) -> None:
    document = search(api, text="axis 0", min_confidence=0.9, facets=["format"])
    assert document["facets"] == {"format": [{"value": "jpeg", "count": 1}]}


def test_a_query_by_picture_has_confidence_too(api: Api) -> None:
    first, second = search(api, image_id=image_id(0), limit=2)["results"]
    assert first["confidence"] > 0.99 > second["confidence"]


def test_confidence_comes_only_when_asked_for(api: Api) -> None:
    assert all("confidence" not in one for one in search(api, text="axis 0", include=[])["results"])
    query = "/v1/search?text=axis 7&min_confidence=0.9"
    assert (api.http.get(query).json or {})["results"] == []


def test_too_few_pictures_give_no_confidence_and_a_bound_a_warning(api: Api) -> None:
    shown = search(api, text="axis 7", collection="few")
    assert "warnings" not in shown
    bounded = search(api, text="axis 7", collection="few", min_confidence=0.9)
    (warning,) = bounded["warnings"]
    assert warning.startswith("/min_confidence:")
    assert str(MIN_IMAGES) in warning
    for document in (shown, bounded):
        assert len(document["results"]) == 5
        assert all(not {"confidence", "strength"} & set(one) for one in document["results"])


def test_a_word_says_how_sure_it_is(api: Api) -> None:
    for one in search(api, text="axis 0")["results"] + search(api, text="axis 1")["results"]:
        sure = one["confidence"]
        assert one["strength"] == ("strong" if sure >= 0.99 else "likely" if sure >= 0.9 else "weak")
    assert all("strength" not in one for one in search(api, text="axis 0", include=[])["results"])


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", True])
def test_a_bad_bound_is_pointed_at(api: Api, value: object) -> None:
    response = api.http.post("/v1/search", json={"text": "x", "min_confidence": value})
    assert_problem(response, 422, "invalid_request", "/min_confidence")


def test_the_sample_has_the_collections_dimension(api: Api) -> None:
    assert api.services.index.collection("images").sample(400).shape == (PICTURES, DIMENSION)
