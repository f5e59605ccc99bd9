"""CSV: delimiters, quotes, line ends, and rows that are not as long as the head."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from tests.unit.shared.tables.reading import HEAD, A, B, metadata, notes, table, values


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_recognised(delimiter: str, end: str) -> None:
    rows = [["url", "name", "n"], [A, "x", "1"], [B, "y", "2"]]

    read = table(end.join(delimiter.join(row) for row in rows) + end)

    assert [(row.number, row.url) for row in read.rows()] == [(2, A), (3, B)]
    assert metadata(read) == [{"name": "x", "n": 1}, {"name": "y", "n": 2}]


@pytest.mark.parametrize("head", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n", "sep=;,,\n"])
def test_a_sep_line_names_the_delimiter(head: str) -> None:
    read = table(f"{head}url;name, of it\r\n{A};x,y\r\n")

    assert [(row.number, row.metadata) for row in read.rows()] == [(3, {"name_of_it": "x,y"})]


def test_a_sep_line_may_name_any_delimiter() -> None:
    assert metadata(table(f"sep=^\nurl^name\n{A}^x\n")) == [{"name": "x"}]


@pytest.mark.parametrize("head", ["url;a,b;c", '"url";"a,b";"c"', "a,b;url;c", "a;b|c;url"])
def test_the_delimiter_is_the_one_by_which_there_is_a_url(head: str) -> None:
    place = head.split(";").index("url") if "url" in head.split(";") else 0
    cells = ["x"] * 3
    cells[place] = A

    assert [row.url for row in table(f"{head}\n{';'.join(cells)}\n").rows()] == [A]


def test_commas_of_urls_in_a_single_column_are_theirs() -> None:
    cloudinary = "https://example.com/w_200,h_200/a.jpg"

    assert [row.url for row in table(f"url\n{cloudinary}\n").rows()] == [cloudinary]


def test_quoted_cells_may_have_delimiters_quotes_and_line_ends() -> None:
    read = table(f'url,name,n\r\n{A},"a ""b"", c\r\nd",1\r\n{B},"",2\r\n')

    assert [(row.number, row.metadata) for row in read.rows()] == [
        (2, {"name": 'a "b", c\r\nd', "n": 1}),
        (4, {"n": 2}),
    ]


def test_blanks_after_each_delimiter_belong_to_it() -> None:
    read = table(f'url, "name", n\n{A}, "x, y", 3\n')

    assert metadata(read) == [{"name": "x, y", "n": 3}]


def test_text_is_kept_as_it_is_and_urls_are_stripped() -> None:
    read = table(f"url,name\n  {A}\t, x \n")

    assert [(row.url, row.metadata) for row in read.rows()] == [(A, {"name": " x "})]
    assert [row.url for row in table(f"url\n\ufeff{A}\u200b\n").rows()] == [A]


def test_short_rows_lack_values_and_long_ones_lose_what_is_beyond_the_head() -> None:
    read = table(f"url,name,n\n{A}\n{B},x,1,beyond,,more\n")

    assert metadata(read) == [{}, {"name": "x", "n": 1}]
    assert notes(read) == [("values_left_out", 2)]


def test_empty_rows_are_skipped_and_counted_but_for_blank_lines_at_the_end() -> None:
    read = table(f"\n\n{HEAD}{A},x\n\n,,\n , \n{B},y\n\n\n")

    assert [(row.number, row.url) for row in read.rows()] == [(4, A), (8, B)]
    assert read.total == 2
    assert notes(read) == [("rows_skipped", 3)]


def test_a_head_may_be_quoted_after_a_byte_order_mark_in_any_case_and_with_blanks() -> None:
    read = table(f'\ufeff" URL ","Name"\n{A},x\n')

    assert [(column.name, column.use) for column in read.columns] == [("URL", "url"), ("Name", "metadata")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_without_a_head_is_told_that_the_first_line_names_the_columns(name: str) -> None:
    with pytest.raises(InvalidRequest, match="first line must name the columns, one of them `url`") as caught:
        table(f"{A},x\n{B},y\n", name)
    assert caught.value.errors[0]["pointer"] == "/url_column"
    with pytest.raises(InvalidRequest, match="first line must name the columns"):
        table(f"{A}\n{B}\n", name)


def test_rows_that_an_open_quote_joins_fail_together_and_say_their_lines() -> None:
    rows = ['"12 inch,1', "x,2", 'a "quoted" word,3', '"two\nlines",4', '"x" y,5']

    read = table("url,name,n\n" + "".join(f"{A},{row}\n" for row in rows))

    assert [(row.number, row.metadata) for row in read.rows()] == [
        (2, {}),
        (5, {"name": "two\nlines", "n": 4}),
        (7, {"name": "x y", "n": 5}),
    ]
    assert [row.error for row in read.rows()] == [
        "invalid_url: Line 2 is malformed: a quote that is not closed, or not doubled, joins it with the "
        "lines to 4.",
        None,
        None,
    ]


def test_null_characters_and_long_cells_are_text_like_others() -> None:
    read = table(f"url,name,long\n{A},a\0b,{'x' * 60_000}\n")

    assert metadata(read) == [{"name": "a\0b", "long": "x" * 60_000}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=2),
        min_size=1,
        max_size=6,
    )
)
def test_what_the_csv_module_writes_comes_back(delimiter: str, quoting: int, rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["url", "a", "b"])
    for cells in rows:
        writer.writerow([A, *(f"_{cell}" if cell else "" for cell in cells)])  # all are text

    read = table(file.getvalue(), "a.csv")

    assert [row.url for row in read.rows()] == [A] * len(rows)
    assert metadata(read) == [
        {name: f"_{cell}" for name, cell in zip("ab", cells, strict=True) if cell} for cells in rows
    ]


def test_a_cut_line_and_a_cut_row_are_dropped_of_a_partial_table() -> None:
    whole = f'url,name\n{A},"Grö\nße"\n{B},日本\n'.encode()
    for end in range(len(f'url,name\n{A},"Grö\nße"\n'.encode()), len(whole)):
        read = table(whole[:end], partial=True)
        assert [row.url for row in read.rows()] == [A]
        assert read.partial
        assert read.notes == []
    assert values(table(whole[:-5], partial=True), "name") == ["Grö\nße"]
    assert len(list(table(whole, partial=True).rows())) == 2


def test_quotes_that_are_escaped_as_databases_write_them_are_read() -> None:
    read = table(f'"url","note","n"\n"{A}","a \\"q\\", b",1\n"{B}","5\\" \\\\ x",\\N\n')

    assert metadata(read) == [{"note": 'a "q", b', "n": 1}, {"note": '5" \\ x'}]
    assert notes(read) == []


@pytest.mark.parametrize("cell", ['"C:\\dir\\"', '"{""a"": ""say \\""hi\\"", you""}"', "5\\' x"])
def test_backslashes_are_kept_where_quotes_are_doubled(cell: str) -> None:
    read = table(f"url,name,n\n{A},{cell},1\n{B},{cell},2\n")

    (name,) = next(csv.reader([cell]))
    assert values(read, "name") == [name, name]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_databases_null_is_no_value(delimiter: str) -> None:
    rows = [["url", "key", "n", "name"], [A, "\\N", "\\N", "\\N"], [B, "k", "2.5", "a\\N"]]

    read = table("\n".join(map(delimiter.join, rows)))

    assert [(row.key, row.metadata) for row in read.rows()] == [(None, {}), ("k", {"n": 2.5, "name": "a\\N"})]
    assert notes(read) == []


@pytest.mark.parametrize(
    "before", ["Products of 2026\n", "Products of 2026,,\n,,\n", "# shop\n\n# all, new\n"]
)
def test_a_title_before_the_names_of_the_columns_is_skipped(before: str) -> None:
    read = table(f"{before}url,name,n\n{A},x,1\n")

    assert metadata(read) == [{"name": "x", "n": 1}]
    assert ("rows_skipped" in dict(notes(read))) == bool(before.strip(" ,\n"))


def test_a_row_that_says_url_is_no_head_where_the_table_has_one() -> None:
    with pytest.raises(InvalidRequest, match="it has `photo`, `kind`"):
        table(f"photo,kind\n{A},x\n{B},url\n")
    assert [row.url for row in table(f"photo,kind\n{A},x\n{B},url\n", url_column="photo").rows()] == [A, B]
