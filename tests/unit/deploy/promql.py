"""What a query of Prometheus' language is made of, as far as this repository's queries go."""

import re

from shared.metrics import exporter, ledger
from shared.metrics.definitions import DEFINITIONS, PREFIX, Definition

assert exporter and ledger, "importing them completes DEFINITIONS"
_OF_TARGETS = {"instance", "job"}  # labels that Prometheus gives
_NAME = re.compile(rf"\b{PREFIX}\w+")
_OF_ONE = re.compile(r"m(?:ax|in)(?: by \([\w, ]+\) )?\((?:(?:rate|increase)\()?$")


def _definitions() -> dict[str, Definition]:
    """Each metric by the names that its samples have."""
    found = {}
    for one in DEFINITIONS:
        endings = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        found |= {one.name + ending: one for ending in endings}
    return found


def metrics(query: str) -> set[str]:
    """The metrics of ours that a query names, histograms without their ending."""
    known = _definitions()
    return {known[name].name for name in _NAME.findall(query) if name in known}


def grouped_by(query: str) -> set[str]:
    """The labels that aggregations keep."""
    return {label for labels in re.findall(r"by \(([\w, ]+)\)", query) for label in labels.split(", ")}


def unknown(query: str) -> list[str]:
    """The metrics of ours and the labels in a query that nothing has."""
    known = _definitions()
    missing = [name for name in _NAME.findall(query) if name not in known]
    labels = _OF_TARGETS.union(*(known[name].labels for name in _NAME.findall(query) if name in known))
    if "_bucket" in query:
        labels.add("le")
    for name, matchers in re.findall(rf"({PREFIX}\w+|\bup)\{{([^}}]*)\}}", query):
        own = _OF_TARGETS.union(known[name].labels if name in known else ())
        missing += [
            f"{name}{{{label}}}" for label in re.findall(r"(\w+)(?:=|!)", matchers) if label not in own
        ]
    return missing + sorted(grouped_by(query) - labels)


def added_up(query: str) -> list[str]:
    """The ledger's metrics that a query does not first take the `max` or `min` of over all targets."""
    theirs = {one.name for one in DEFINITIONS if one.exporters == ("api", "sweep")}
    named = [match for match in _NAME.finditer(query) if match[0] in theirs]
    return [match[0] for match in named if not _OF_ONE.search(query[: match.start()])]
