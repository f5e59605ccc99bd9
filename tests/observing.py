"""The queries that deploy/ has for Prometheus: those of the dashboard, and those of the alerts."""

import json
from typing import Any

import yaml

from tests.stack import ROOT

DASHBOARD = ROOT / "deploy/grafana/image-search.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
ALERTS_TEST = ROOT / "deploy/prometheus/alerts_test.yml"


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without its rows."""
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """Each query of the dashboard, with the title of its panel."""
    return [(one["title"], target["expr"]) for one in panels() for target in one["targets"]]


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules
