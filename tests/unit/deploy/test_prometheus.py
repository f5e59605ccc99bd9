"""deploy/prometheus/: ten alerts that ask for what there is, each with its runbook and its tests."""

import re
from typing import Any

import pytest
import yaml

from tests.observing import ALERTS_TEST, alerts
from tests.stack import ROOT
from tests.unit.deploy import promql

RUNBOOKS = ROOT / "docs/observing.md"
parametrized = pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])


def test_there_are_ten_alerts_each_with_a_runbook_and_no_runbook_without_alert() -> None:
    named = [one["alert"] for one in alerts()]
    assert len(set(named)) == len(named) == 10
    assert re.findall(r"^### (ImageSearch\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.M) == named


@parametrized
def test_an_alert_says_how_bad_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/observing.md#{rule['alert'].lower()}"


@parametrized
def test_an_alert_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert promql.unknown(rule["expr"]) == []
    if rule["alert"] != "ImageSearchLedgerDown":  # which names the targets that do not reach it
        assert promql.added_up(rule["expr"]) == []


@parametrized
def test_an_alert_is_tested_where_it_fires_and_where_it_does_not(rule: dict[str, Any]) -> None:
    groups = yaml.safe_load(ALERTS_TEST.read_text(encoding="utf-8"))["tests"]
    cases = [
        case for group in groups for case in group["alert_rule_test"] if case["alertname"] == rule["alert"]
    ]
    assert {bool(case.get("exp_alerts")) for case in cases} == {True, False}


@pytest.mark.parametrize(
    ("query", "odd"),
    [
        ("max by (stage) (image_search_backlog_items)", []),
        ("sum by (le) (rate(image_search_write_seconds_bucket[5m]))", []),
        ("image_search_backlog", ["image_search_backlog"]),
        ("image_search_write_seconds", ["image_search_write_seconds"]),
        ('image_search_backlog_items{code="x"}', ["image_search_backlog_items{code}"]),
        ("max by (code) (image_search_backlog_items)", ["code"]),
    ],
)
def test_the_guard_sees_metrics_and_labels_that_nothing_has(query: str, odd: list[str]) -> None:
    assert promql.unknown(query) == odd


@pytest.mark.parametrize(
    ("query", "added_up"),
    [
        ("sum(max by (stage) (image_search_backlog_items))", False),
        ("max(rate(image_search_items_total[5m]))", False),
        ("sum by (stage) (image_search_backlog_items)", True),
        ("image_search_items_total", True),
        ("sum(image_search_download_bytes_total)", False),
    ],
)
def test_the_guard_sees_what_is_added_up_over_targets(query: str, added_up: bool) -> None:
    assert bool(promql.added_up(query)) == added_up
