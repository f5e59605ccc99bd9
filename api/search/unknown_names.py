"""Warnings of what can match nothing: a metadata name that no picture has, values of another type, a job.

They rest on a survey of the collection (shared/index/survey.py), which is asked for only where what was
found does not show that the name is known. A search that has found as much as it was asked for hardly waits.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from api.context import context
from api.search.nsfw_filter import visible
from shared.errors import Unavailable
from shared.filters.conditions import JOB, And, In, Not, Or, Range, Scalar, Where
from shared.filters.keywords import HasKeywords
from shared.index.collection import Collection
from shared.index.survey import Survey, Type, type_of
from shared.models import Image
from shared.validation import FIELDS

WAIT_SECONDS = 2.0
WAIT_OF_FULL_SECONDS = 0.1  # where there are as many results as were asked for
MAX_WARNINGS = 5
_MAX_QUOTED = 40
_MAX_NAMED = 4
_BUILT_IN = (*FIELDS, JOB, "near")
_TYPES: Mapping[Type, str] = {
    "text": "a text", "number": "a number", "boolean": "true or false", "texts": "a list of texts",
}  # fmt: skip
_Types = Mapping[str, set[Type]]


def warnings_of(
    where: Where | None,
    names: Sequence[tuple[str, str]],
    found: Sequence[Image],
    collection: Collection | None,
    *,
    is_full: bool,
) -> list[str]:
    """Return a sentence for each name of `where` or `names` that is unknown.

    `where` is what was asked for, `names` are others with what asked for them, such as `/facets`, and `found`
    the pictures of the answer; `is_full`: there may be more of them.
    """
    every = list(_conditions(where)) if where else []
    conditions = [one for one in every if one.field not in _BUILT_IN]
    jobs = [] if found else [one for one in every if one.field == JOB]
    shown: _Types = defaultdict(set)
    for image in found:
        for name, value in image.metadata.items():
            shown[name].add(type_of(value))
    doubtful = [one for one in conditions if not _comparable(one, shown[one.field])]
    asked = [*names, *(("/keywords/in", one) for one in _looked_in(where))]
    doubted = [(at, name) for at, name in asked if name not in _BUILT_IN and not shown[name]]
    if collection is None or not (doubtful or doubted or jobs):
        return []
    seen = visible(None) if visible(where) is not where else None
    wait_s = WAIT_OF_FULL_SECONDS if is_full else WAIT_SECONDS
    try:
        said = [_of_job(one) for one in jobs if not collection.page("", 1, visible(one))]
        survey = context().surveys.get(collection, seen, wait_s) if doubtful or doubted else None
    except Unavailable:  # what was found is an answer without it
        return []
    if survey is None or not survey.pictures:
        return said
    said += [
        *filter(None, (_of_condition(one, shown[one.field], survey) for one in doubtful)),
        *(f"{at}: {_unknown(name, survey)}" for at, name in doubted if name not in survey.names),
    ]
    return list(dict.fromkeys(said))[:MAX_WARNINGS]


def _conditions(where: Where) -> Iterator[In | Range]:
    match where:
        case In() | Range():
            yield where
        case And() | Or():
            for part in where.parts:
                yield from _conditions(part)
        case Not():
            yield from _conditions(where.part)


def _looked_in(where: Where | None) -> Iterator[str]:
    """Yield the names that keywords are looked for in."""
    match where:
        case HasKeywords():
            yield from where.names
        case And():
            for part in where.parts:
                yield from _looked_in(part)


def _of_job(condition: In | Range) -> str:
    jobs = ", ".join(map(str, _values(condition)[:_MAX_NAMED]))
    return f"/filters: no picture of this collection came with job {jobs}."


def _values(condition: In | Range) -> Sequence[Scalar]:
    return condition.values if isinstance(condition, In) else (condition.bound,)


def _comparable(condition: In | Range, types: set[Type]) -> bool:
    """Return whether some value of the condition is of one of the types."""
    members: set[Type] = {"text" if one == "texts" else one for one in types}
    values = _values(condition)
    return any(type_of(value) in members for value in values) if values else bool(types)


def _of_condition(condition: In | Range, shown: set[Type], survey: Survey) -> str | None:
    name = condition.field
    known = survey.names.get(name)
    types = shown | (set(known.types) if known else set())
    if not types:
        return f"/filters: {_unknown(name, survey)}"
    if _comparable(condition, types) or not _values(condition):
        return None
    value = _values(condition)[0]
    is_type = " or ".join(_TYPES[one] for one in _TYPES if one in types)
    where = "in this collection" if survey.complete else f"in the {survey.pictures:,} pictures looked at"
    return f"/filters: {name} is {is_type} {where}; {_quoted(value)} is {_a(value)}, so they never match."


def _unknown(name: str, survey: Survey) -> str:
    if survey.complete:
        said = f"no picture of this collection has {name}"
    else:
        said = f"none of the {survey.pictures:,} pictures looked at, of {survey.count:,}, has {name}"
    names = list(survey.names)
    # Later ones win where two differ in case alone: the most frequent.
    known = {one.casefold(): one for one in reversed([*names[:1_000], *_BUILT_IN])}
    if close := get_close_matches(name.casefold(), known, n=1):
        return f"{said}; did you mean {known[close[0]]}?"
    if not names:
        return f"{said}, nor any other metadata."
    more = f" and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
    return f"{said}; its metadata has {', '.join(names[:_MAX_NAMED])}{more}."


def _a(value: Scalar) -> str:
    return "a truth value" if isinstance(value, bool) else _TYPES[type_of(value)]


def _quoted(value: Scalar) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
