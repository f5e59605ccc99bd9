from typing import Any

import click
import pytest

from image_search.cli.filters import parse_filters


@pytest.mark.parametrize(
    ("conditions", "filters"),
    [
        ((), {}),
        (("shop=north",), {"shop": {"eq": "north"}}),
        (("width>=100", "width<500"), {"width": {"gte": 100, "lt": 500}}),
        ((" price  <=  9.5 ",), {"price": {"lte": 9.5}}),
        (("a!=b", "n>-3", "sold=true"), {"a": {"ne": "b"}, "n": {"gt": -3}, "sold": {"eq": True}}),
        (('n="3"', 'e=""', 't>="m"'), {"n": {"eq": "3"}, "e": {"eq": ""}, "t": {"gte": "m"}}),
        (("taken_at>=2024-01-31", "m<2024-05"), {"taken_at": {"gte": "2024-01-31"}, "m": {"lt": "2024-05"}}),
        (('sign="=>"', "text=a=b", "url=http://x/?a>b", "word=:x"), {
            "sign": {"eq": "=>"}, "text": {"eq": "a=b"}, "url": {"eq": "http://x/?a>b"}, "word": {"eq": ":x"},
        }),
        (("a=1.50", "b!=7.0", "c>=1.50", "d<-0", "lat=47.50", "e=007", 'f="1.50"'), {
            "a": {"in": [1.5, "1.50"]}, "b": {"ne": 7.0}, "c": {"gte": 1.5}, "d": {"lt": 0},
            "lat": {"eq": 47.5}, "e": {"eq": "007"}, "f": {"eq": "1.50"},
        }),
        (("a!=1.10", "a=2.50", "a=3.50"), {
            "a": {"nin": [1.1, "1.10"], "in": [2.5, "2.50"]}, "and": [{"a": {"in": [3.5, "3.50"]}}],
        }),
        (("tags=cat", "tags=dog", "tags=cow"), {
            "tags": {"eq": "cat"}, "and": [{"tags": {"eq": "dog"}}, {"tags": {"eq": "cow"}}],
        }),
    ],
)  # fmt: skip
def test_conditions_are_read(conditions: tuple[str, ...], filters: dict[str, Any]) -> None:
    assert parse_filters(conditions) == filters


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("price=>3", "did you mean 'price>=3'?"),
        ("price=<3", "did you mean 'price<=3'?"),
        ("shop == north", "did you mean 'shop=north'?"),
        ("shop=!north", "did you mean 'shop!=north'?"),
        ("shop<>north", "did you mean 'shop!=north'?"),
        ("shop!north", "did you mean 'shop!=north'?"),
        ("price≥3", "did you mean 'price>=3'?"),
        ("shop:north", "did you mean 'shop=north'?"),
        ("price>>3", "the unknown operator >> (known are =, !=, <, <=, >, >=)"),
        ("arrow==>x", """a value that begins so is quoted: 'arrow="=>x"'"""),
        ("price>=", """has no value. The empty text is 'price>=""'"""),
        ("shop= ", """has no value. The empty text is 'shop=""'"""),
        ("price>=cheap", """'price>="cheap"'"""),
        ("price>1,5", "compares with 1,5, which is no number or date"),
        ("sold>true", "compares with true, which is no number or date"),
        ("price", "A shell takes < and > for itself unless the condition is quoted: 'price>3'"),
        ("two words=3", "is not NAME=VALUE (or !=, <, <=, >, >=)"),
        ("=3", "is not NAME=VALUE"),
        ("", "is not NAME=VALUE"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_was_probably_meant(condition: str, says: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parse_filters([condition])
    assert says in refused.value.message
    assert refused.value.message.startswith(f"--filter '{condition.strip()}' ")
