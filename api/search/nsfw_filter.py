"""The filter that NSFW_MAX puts on searches and listings that do not ask for `nsfw` themselves."""

from api.context import services
from shared.filters.conditions import And, In, Not, Or, Range, Where


def visible(where: Where | None) -> Where | None:
    """Return `where`, and not above NSFW_MAX if that is set and `where` has no condition on `nsfw`.

    Images without a score, ingested before there was one, are not left out.
    """
    most = services().settings.nsfw_max
    if most is None or (where is not None and _asks_for_nsfw(where)):
        return where
    harmless = Not(Range("nsfw", "gt", most))
    return harmless if where is None else And((where, harmless))


def _asks_for_nsfw(where: Where) -> bool:
    match where:
        case In() | Range():
            return where.field == "nsfw"
        case And() | Or():
            return any(map(_asks_for_nsfw, where.parts))
        case Not():
            return _asks_for_nsfw(where.part)
    return False
