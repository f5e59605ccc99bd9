"""The documents can be read: no paragraph is a page, and every path and link leads somewhere."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAX_CHARACTERS = {"docs/architecture.md": 500}  # of a paragraph, or of a list's item
MAX_ELSEWHERE = 600
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ", re.MULTILINE)
# A file by its whole path anywhere, also in a drawing; a folder only as code, since prose has slashes too.
TOP = "api|benchmarks|deploy|docs|examples|extras|image_search|shared|tests|training|worker"
FILE = re.compile(rf"(?<![\w/.:-])(?:{TOP})/[\w/.-]*\.(?:py|js|md|css|html|json|lua|toml|txt|yml|j2)\b")
FOLDER = re.compile(rf"`((?:{TOP})/(?:[\w.-]+/)*)`")
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def _ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _paragraphs(text: str) -> Iterator[str]:
    """Each paragraph and each list item; neither code, tables nor headings."""
    for block in re.split(r"\n\s*\n", FENCED.sub("", text)):
        begins = sorted({0, *(match.start() for match in ITEM.finditer(block)), len(block)})
        for begin, end in pairwise(begins):
            paragraph = block[begin:end].strip()
            if paragraph and not paragraph.startswith(("|", "#", "<!--")):
                yield paragraph


def _anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_ids)
def test_no_paragraph_is_longer_than_a_reader_s_breath(document: Path) -> None:
    most = MAX_CHARACTERS.get(_ids(document), MAX_ELSEWHERE)
    paragraphs = list(_paragraphs(document.read_text(encoding="utf-8")))
    assert paragraphs
    assert {one[:60]: len(one) for one in paragraphs if len(one) > most} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_ids)
def test_every_path_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = {*FILE.findall(re.sub(r"\]\([^)]*\)", "", text)), *FOLDER.findall(text)}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_ids)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for path, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_the_guard_sees_paragraphs_items_and_paths() -> None:
    text = "# A\n\none\ntwo\n\n- a\n- b\n  c\n1. d\n\n| t |\n\n```\ncode\n```\n\nsee api/none.py, `docs/`"
    assert list(_paragraphs(text)) == ["one\ntwo", "- a", "- b\n  c", "1. d", "see api/none.py, `docs/`"]
    assert (FILE.findall(text), FOLDER.findall(text)) == (["api/none.py"], ["docs/"])
    assert FILE.findall("jobs at https://example.com/docs/a.md or /docs/x.js") == []
