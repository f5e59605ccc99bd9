"""Times as RFC 3339 text, and as seconds since the epoch."""

import re
from datetime import UTC, datetime

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> float | None:
    """Return the seconds since the epoch of a date, or a date and time; None for anything else."""
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    date, time, fraction, offset = found.groups()
    clock = f"{time or '00:00:00'}.{(fraction or '0').ljust(6, '0')}"
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{zone}")
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
