"""Keywords: what counts as a word in which script, and which pictures have it."""

import pytest

from shared.errors import InvalidRequest
from shared.filters.conditions import And, In
from shared.filters.keywords import HasKeywords, document_of, parse_keywords, words_of
from shared.models import Image, Metadata


def image(**metadata: object) -> Image:
    values: Metadata = metadata  # type: ignore[assignment]
    return Image("a" * 64, "a.jpg", ["a.jpg"], "jpeg", 1, 1, 1, metadata=values)


def has(text: str, keyword: str) -> bool:
    """Whether a picture with the text has the keyword, decided alike here and by what Chroma looks at."""
    words = HasKeywords((keyword,))
    narrowed = words.to_document()
    assert narrowed is not None
    decided = words.matches(image(title=text))
    assert decided == (narrowed["$contains"] in document_of({"title": text}))
    return decided


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  North-Face,\tjacket_XL\n(new!) ", "north face jacket xl new"),
        ("Don't", "don t"),
        ("STRASSE Straße STRAẞE", "strasse strasse strasse"),
        ("İSTANBUL", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("ﬁsh ﬀ Ⅳ ①", "fish ff iv 1"),
        ("\uff21\uff22\uff23\uff11\uff12", "abc12"),
        ("ﾄｳｷｮｳ ｶﾞ", "トウキョウ ガ"),
        ("e\u0301te\u0301", "été"),
        ("3M胶带 x东y", "3m 胶带 x 东 y"),
        ("スカイツリー東京", "スカイツリー東京"),
        ("ภาษาไทยEnglish", "ภาษาไทย english"),
        ("ก\u200bข", "ก ข"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("חולצה אדומה", "חולצה אדומה"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u062e\u0648"),
        ("Kauf\u00adhaus", "kaufhaus"),
        ("I ❤️ NY 👩🏽‍🚀", "i ny"),
        ("\u0301 x", "x"),
        ("a\ud800b", "a b"),
        ("!!! — …", ""),
        ("", ""),
    ],
)
def test_the_words_of_a_text(text: str, words: str) -> None:
    assert words_of(text) == words
    assert words_of(words) == words


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("The North Face jacket", "north face"),
        ("red BOOTS", "Boots"),
        ("red boots", "red"),
        ("wi-fi router", "Wi Fi"),
        ("Große Straße", "GROSSE STRASSE"),
        ("透明胶带", "胶带"),
        ("3M胶带", "3M 胶带"),
        ("东京塔 Tower", "京塔 tower"),
        ("ภาษาไทย", "ไทย"),
        ("cafe\u0301", "Café"),
    ],
)
def test_a_text_has_whole_words_and_phrases_in_any_case_and_any_part_where_there_are_no_blanks(
    text: str, keyword: str
) -> None:
    assert has(text, keyword)


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("bootstrap", "boot"),
        ("reboot", "boot"),
        ("face north", "north face"),
        ("north the face", "north face"),
        ("café", "cafe"),
        ("30M胶带", "0M胶"),
        ("दुनिया", "दुन"),
    ],
)
def test_a_part_of_a_word_or_a_broken_phrase_is_not_had(text: str, keyword: str) -> None:
    assert not has(text, keyword)


def test_a_phrase_does_not_go_from_one_text_into_the_next() -> None:
    apart = image(title="north", brand="face", tags_of=["red north", "face"])
    assert not HasKeywords(("north face",)).matches(apart)
    assert "north face" not in document_of(apart.metadata)


def test_numbers_and_flags_are_no_texts() -> None:
    assert not HasKeywords(("42",)).matches(image(size=42, sold=True))
    assert document_of({"size": 42, "sold": True}) == "\n"


def test_any_all_and_names() -> None:
    shoe = image(title="red boot", brand="North", notes=["for snow", "warm"])
    assert HasKeywords(("boot", "hat")).matches(shoe)
    assert not HasKeywords(("boot", "hat"), every=True).matches(shoe)
    assert HasKeywords(("boot", "north", "snow"), every=True).matches(shoe)
    assert not HasKeywords(("boot",), names=("brand", "nobody_has_this")).matches(shoe)


def test_what_matched_is_told_as_it_was_asked_for_with_the_names_that_have_it() -> None:
    shoe = image(title="red boot", notes=["a Boot", "warm"], brand="North")
    words = HasKeywords(("BOOT", "hat", "north"))
    assert words.matched(shoe) == {"BOOT": ["title", "notes"], "north": ["brand"]}
    assert HasKeywords(("BOOT",), names=("notes",)).matched(shoe) == {"BOOT": ["notes"]}


def test_chroma_looks_for_several_at_once() -> None:
    assert HasKeywords(("a", "胶", "A")).to_document() == {"$regex": " a |胶"}
    several = HasKeywords(("a", "bb", "cccc", "ddd"), every=True).to_document()
    assert several == {"$and": [{"$contains": f" {one} "} for one in ("cccc", "ddd", "bb")]}
    both = And((In("shop", ("north",)), HasKeywords(("a",))))
    assert both.to_document() == {"$contains": " a "}
    assert both.to_chroma() == And((In("shop", ("north",)),)).to_chroma()


def test_a_keyword_without_a_word_and_a_built_in_field_are_refused_where_they_stand() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_keywords(["boot", "!!!", "❤️"], ["title", "tags"], every=False)
    assert [one["pointer"] for one in raised.value.errors] == [
        "/keywords/any/1", "/keywords/any/2", "/keywords/in/1",
    ]  # fmt: skip
    assert "no letter or digit" in raised.value.detail
    assert parse_keywords(["a"], ["x", "x"], every=True) == HasKeywords(("a",), every=True, names=("x",))
