"""Which column is what, and what it is called as metadata."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest, NoUrlColumn
from shared.tables.columns import metadata_names
from shared.tables.table import column_names
from shared.validation import metadata_faults
from tests.unit.shared.tables.reading import A, B, metadata, notes, table


def uses(head: str, **options: object) -> list[tuple[str, str | None, str]]:
    cells = [A] * (head.count(",") + 1)
    read = table(f"{head}\n{','.join(cells)}\n", "a.csv", **options)  # type: ignore[arg-type]
    return [(column.name, column.metadata_name, column.use) for column in read.columns]


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("name", "name"),
        ("Product Name", "Product_Name"),
        ("Price ($)", "Price"),
        ("width", "width_"),
        ("source", "source_"),
        ("Width", "Width"),
        ("near", "near_"),
        ("商品名", "column_2"),
        ("価格2", "column_2"),
        ("Größe", "Grosse"),
        ("Crème brûlée", "Creme_brulee"),
        ("Łódź", "Lodz"),
        ("ﬁle", "file"),
        ("2nd", "column_2nd"),
        ("2024", "column_2024"),
        ("_private", "private"),
        ("a.b-c", "a_b_c"),
        ("???", "column_2"),
        ("x" * 70, "x" * 63),
        ("a\ufeff", "a"),
    ],
)
def test_a_name_that_metadata_cannot_have_is_changed(name: str, stored: str) -> None:
    assert uses(f"url,{name}")[1][1:] == (stored, "metadata")


def test_what_collides_is_numbered_and_gives_way_to_what_can_stay() -> None:
    assert uses("url,n,n,n") == [
        ("url", None, "url"), ("n", "n", "metadata"), ("n", "n_2", "metadata"), ("n", "n_3", "metadata"),
    ]  # fmt: skip
    assert [stored for _, stored, _ in uses("url,a b,a_b,a-b,a_b_2")] == [
        None,
        "a_b_3",
        "a_b",
        "a_b_4",
        "a_b_2",
    ]
    assert [stored for _, stored, _ in uses("url,width,width_")] == [None, "width__2", "width_"]
    assert uses("url,url,key,key")[1:] == [
        ("url", "url_2", "metadata"), ("key", None, "key"), ("key", "key_", "metadata"),
    ]  # fmt: skip


def test_each_changed_name_is_a_note() -> None:
    read = table(f"url,Product Name,n,n\n{A},x,1,2\n")

    assert [(note.code, note.detail, note.count) for note in read.notes] == [
        ("column_renamed", "The column `Product Name` is stored as `Product_Name`.", 1),
        ("column_renamed", "The column `n` is stored as `n_2`.", 1),
    ]


@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0", "Unnamed: 12_level_1", ""])
def test_the_index_of_a_data_frame_is_left_out(name: str) -> None:
    read = table(f"{name},url,n\n0,{A},5\n1,{B},6\n")

    assert metadata(read) == [{"n": 5}, {"n": 6}]
    assert notes(read) == [("columns_left_out", 1)]
    if name:
        assert metadata(table(f"{name},url,n\n0,{A},5\n", columns=(name,))) != [{}]


def test_columns_past_the_most_are_left_out_and_empty_ones_do_not_count() -> None:
    names = [f"c{n}" for n in range(40)]
    cells = ["" if n < 4 else "x" for n in range(40)]

    read = table(f"url,{','.join(names)}\n{A},{','.join(cells)}\n")

    assert list(metadata(read)[0]) == names[4:36]
    assert notes(read) == [("columns_left_out", 4)]
    assert {column.type for column in read.columns[1:5]} == {None}


def test_the_columns_that_are_asked_for_are_taken_and_the_others_are_not() -> None:
    content = f"url,a,b,c\n{A},1,2,3\n"

    assert metadata(table(content, columns=("C", "a"))) == [{"a": 1, "c": 3}]
    assert metadata(table(content, skip_columns=("b",))) == [{"a": 1, "c": 3}]
    assert metadata(table(content, columns=("a", "b"), skip_columns=("b",))) == [{"a": 1}]
    assert table(content, skip_columns=("b",)).notes == []


@pytest.mark.parametrize("option", ["key_column", "columns", "skip_columns"])
def test_an_option_that_names_no_column_is_refused(option: str) -> None:
    value = "nope" if option == "key_column" else ("nope",)
    with pytest.raises(
        InvalidRequest, match=f"no column `nope`, which `{option}` names; it has `url`, `a`"
    ) as caught:
        table(f"url,a\n{A},1\n", **{option: value})
    assert caught.value.errors[0]["pointer"] == f"/{option}"
    lines = f'{{"url": "{A}"}}\n{{"url"'
    assert table(lines, partial=True, **{option: value}).total == 1  # a later line may have it


@pytest.mark.parametrize("head", ["URL", " Url ", "\u00a0url"])
def test_the_column_of_urls_is_found_in_any_case(head: str) -> None:
    assert [row.url for row in table(f"a,{head}\nx,{A}\n").rows()] == [A]


def test_the_exact_name_goes_before_one_in_another_case() -> None:
    assert uses("URL,url") == [("URL", "URL", "metadata"), ("url", None, "url")]


def test_another_column_of_urls_is_named() -> None:
    assert uses("Image Link,url", url_column="image link") == [
        ("Image Link", None, "url"), ("url", "url", "metadata"),
    ]  # fmt: skip


def test_without_a_column_of_urls_the_columns_are_listed() -> None:
    with pytest.raises(
        NoUrlColumn, match=r"no column `url`; it has `image`, `name`\. Say in `url_column`"
    ) as caught:
        table("image,name\nx,y\n")
    assert caught.value.columns == ["image", "name"]
    assert caught.value.errors[0]["pointer"] == "/url_column"
    with pytest.raises(NoUrlColumn) as caught:
        table('[{"image": "x"}, {"name": "y"}]')
    assert caught.value.columns == ["image", "name"]
    with pytest.raises(NoUrlColumn) as caught:
        table(",".join(f"c{n}" for n in range(2_000)) + "\nx\n")
    assert len(caught.value.detail) < 1_000


def test_names_in_sentences_are_one_line_without_characters_that_are_not_seen() -> None:
    with pytest.raises(NoUrlColumn) as caught:
        table('"im\x1b\nage",\u202ename\nx,y\n')
    assert caught.value.detail.isprintable()


def test_a_column_of_urls_that_is_empty_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="`URL` has no URL in any row") as caught:
        table("URL,name\n,x\n  ,y\n")
    assert caught.value.errors[0]["pointer"] == "/url_column"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ("a", "b")),
        ('"a, b",c', ("a, b", "c")),
        (" a , b ", ("a", "b")),
        ("", ()),
        (",", ()),
        ('"a', ("a",)),
    ],
)
def test_options_list_names_as_csv_does(text: str, names: tuple[str, ...]) -> None:
    assert column_names(text) == names


@given(names=st.lists(st.text(st.characters(), max_size=70), max_size=12))
def test_any_names_become_names_that_metadata_can_have(names: list[str]) -> None:
    stored = metadata_names(names, range(len(names)), {"url"}, set())

    assert len(set(stored.values())) == len(names)
    assert list(metadata_faults(dict.fromkeys(stored.values(), "x"))) == []
