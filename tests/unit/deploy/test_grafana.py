"""deploy/grafana/image-search.json: Grafana takes it, and it asks for what there is."""

import re
from itertools import combinations

import pytest

from tests.observing import alerts, dashboard, panels, queries
from tests.unit.deploy import promql


def test_its_rows_are_the_questions_that_it_answers() -> None:
    rows = [one["title"] for one in dashboard()["panels"] if one["type"] == "row"]
    questions = ["Is it keeping up", "What limits it", "What fails", "How is search"]
    assert rows == [*questions, "Models and GPU"]


def test_no_panel_lies_on_another_or_beside_the_grid() -> None:
    board = dashboard()["panels"]
    assert len({one["id"] for one in board}) == len(board)
    areas = [one["gridPos"] for one in board]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= 24 for one in areas)
    for a, b in combinations(areas, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_it_asks_whatever_prometheus_is_chosen_about_the_chosen_deployment() -> None:
    variables = {one["name"]: one for one in dashboard()["templating"]["list"]}
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["job"]["datasource"] == chosen
    # Of several at once the `max` would show the largest deployment as if it were all of them.
    assert not variables["job"]["multi"] and not variables["job"]["includeAll"]
    for panel in panels():
        asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert asked == [chosen] * len(asked), panel["title"]
    for title, query in queries():
        assert len(re.findall(r"(?:image_search_\w+|\bup)\{", query)) == query.count('{job=~"$job"'), title


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, object]) -> None:
    assert panel["title"] and str(panel["description"]).endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]  # type: ignore[index]
    targets = panel["targets"]
    assert isinstance(targets, list) and targets
    assert len({target["refId"] for target in targets}) == len(targets)
    for target in targets:
        legend, expression = target["legendFormat"], target["expr"]
        assert legend or target.get("format") == "table"
        assert set(re.findall(r"{{(\w+)}}", legend)) <= promql.grouped_by(expression)


@pytest.mark.parametrize("query", [query for _, query in queries()])
def test_a_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    assert promql.unknown(query) == []


@pytest.mark.parametrize("query", [query for _, query in queries()])
def test_a_query_never_adds_up_what_every_target_says_of_the_ledger(query: str) -> None:
    assert promql.added_up(query) == []


def test_what_alerts_ask_about_is_on_the_dashboard() -> None:
    shown = set().union(*(promql.metrics(query) for _, query in queries()))
    assert {one["alert"] for one in alerts() if not promql.metrics(one["expr"]) <= shown} == set()
