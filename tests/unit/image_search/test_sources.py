import json
import re
from pathlib import Path

import pytest

from image_search._sources import collect, typed
from image_search.errors import InvalidSource


def test_a_folder_gives_its_pictures_and_counts_the_rest(tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/a.png", ".hidden/c.jpg", "notes.txt", ".d.jpg"):
        path = tmp_path / "trip" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = collect([str(tmp_path / "trip")])
    assert sorted(name for _, name in found.files) == ["trip/b.JPG", "trip/sub/a.png"]
    assert found.skipped == 1


def test_a_csvs_other_columns_become_typed_metadata(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "﻿url,price,sku,empty,on\nhttp://x/1,9.5,007,,true\nhttp://x/2,12,A,,false\n", encoding="utf-8"
    )
    items = list(collect([str(path)]).items({"shop": "north", "price": 1}))
    assert items == [
        {"url": "http://x/1", "metadata": {"shop": "north", "price": 9.5, "sku": "007", "on": True}},
        {"url": "http://x/2", "metadata": {"shop": "north", "price": 12, "sku": "A", "on": False}},
    ]


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    rows = [
        {"url": "http://x/1", "n": 3, "t": ["a", "b"], "none": None},
        {"url": "u", "metadata": {"ok": True}},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list(collect([str(path)]).items({})) == [
        {"url": "http://x/1", "metadata": {"n": 3, "t": ["a", "b"]}},
        {"url": "u", "metadata": {"ok": True}},
    ]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    table = arrow.table({"url": ["http://x/1", "http://x/2"], "n": [1, None], "t": [["a"], ["b", "c"]]})
    parquet.write_table(table, path)
    assert list(collect([str(path)]).items({})) == [
        {"url": "http://x/1", "metadata": {"n": 1, "t": ["a"]}},
        {"url": "http://x/2", "metadata": {"t": ["b", "c"]}},
    ]


def test_a_table_s_key_column_becomes_the_items_keys(tmp_path: Path) -> None:
    csv = tmp_path / "list.csv"
    csv.write_text("key,url,sku,n\n 007 ,u1,A,1\n,u2,B,2\n", encoding="utf-8")
    assert list(collect([str(csv)]).items({})) == [
        {"url": "u1", "key": "007", "metadata": {"sku": "A", "n": 1}},
        {"url": "u2", "metadata": {"sku": "B", "n": 2}},
    ]
    by_sku = collect([str(csv)], "sku").items({})
    assert [item["key"] for item in by_sku] == ["A", "B"]
    lines = tmp_path / "list.jsonl"
    rows = [{"url": "u1", "sku": 7}, {"url": "u2", "sku": ""}, {"url": "u3", "sku": None}, {"url": "u4"}]
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list(collect([str(lines)], "sku").items({})) == [
        {"url": "u1", "key": "7", "metadata": {}}, *({"url": f"u{n}", "metadata": {}} for n in (2, 3, 4)),
    ]  # fmt: skip
    parquet = tmp_path / "list.parquet"
    columns = {"url": ["u1", "u2", "u3"], "key": [1.0, None, float("nan")]}
    table = pytest.importorskip("pyarrow").table(columns)
    pytest.importorskip("pyarrow.parquet").write_table(table, parquet)
    assert [item.get("key") for item in collect([str(parquet)]).items({})] == ["1", None, None]
    for path in (csv, parquet):
        with pytest.raises(InvalidSource, match="has no `article` column"):
            collect([str(path)], "article").check()


def test_a_text_list_skips_blank_lines_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfhttp://x/1\r\n\r\n# note\nhttp://x/2")
    assert [item["url"] for item in collect([str(path)]).items({})] == ["http://x/1", "http://x/2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "link\nhttp://x", "no `url` column"),
        ("a.jsonl", '{"url": "u"}\nnonsense', "line 2: not JSON"),
        ("a.jsonl", '{"link": "u"}', "line 1: not an object with a `url`"),
        ("a.parquet", "not parquet", "parquet"),
    ],
)
def test_a_faulty_list_is_named_before_anything_is_sent(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidSource, match=re.escape(message)):
        collect([str(tmp_path / name)]).check()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("0", 0), ("1.50", 1.5), ("true", True), ("True", "True"), ("", ""),
        ("007", "007"), ("1e5", "1e5"), ('"12"', "12"), ("2024-01-01", "2024-01-01"), ("9" * 30, "9" * 30),
    ],
)  # fmt: skip
def test_values_are_typed_by_their_spelling(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)
