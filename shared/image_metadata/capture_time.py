"""The texts in which cameras and editors write a time, and the moment that each means."""

import calendar
import re

from shared.models import in_range

_MAX_TEXT = 64  # characters that are looked at: no time has more
_MAX_OFFSET_S = 14 * 3600
_NUMBER = r"( ?\d{1,2})(?!\d)"  # some write a blank for a zero
_DATE = re.compile(rf"(?:(\d{{4}})[:./\- ]{_NUMBER}[:./\- ]{_NUMBER}|(\d{{4}})(\d\d)(\d\d)(?!\d))", re.ASCII)
_SECOND = rf"(?:(?P=by){_NUMBER}(?:[.,](?P<fraction>\d+))?|(?!(?P=by) ?\d))"
_CLOCK = re.compile(
    rf"[T: ] *(?:{_NUMBER}(?P<by>[:.\-]){_NUMBER}{_SECOND}|(\d\d)(\d\d)(\d\d)(?!\d))", re.ASCII | re.I
)
_HALF_DAY = re.compile(r" *([ap])\.?m\b\.?", re.ASCII | re.I)
_OFFSET = re.compile(
    r" *(?:(?:UTC|GMT)? *([+-])(\d{1,2})(?::?(\d\d))?(?!\d)|(?:Z|UTC|GMT)\b)", re.ASCII | re.I
)


def moment(text: str, *, fraction: str = "", offset: int | None = None, else_offset: int = 0) -> float | None:
    """Return the seconds since the epoch, to the millisecond, that a text means; None where it means none.

    A day alone is its midnight, a month alone is nothing. `fraction` are digits for a text without its own.
    Offsets are seconds east of Greenwich: `offset` goes before the text's own, `else_offset` behind it.
    """
    text = _beginning(text)
    date = _DATE.match(text)
    if date is None:
        return None
    year, month, day = (int(part) for part in date.groups() if part)
    rest = text[date.end() :]
    hour = minute = second = 0
    if clock := _CLOCK.match(rest):
        hours, minutes, seconds = (clock[n] or clock[packed] for n, packed in ((1, 6), (3, 7), (4, 8)))
        hour, minute, second = int(hours), int(minutes), int(seconds or 0)
        fraction = clock["fraction"] or fraction
        rest = rest[clock.end() :]
        if (half := _HALF_DAY.match(rest)) and 1 <= hour <= 12:
            hour = hour % 12 + (12 if half[1] in "pP" else 0)
            rest = rest[half.end() :]
    elif offset_s(rest) is None and any(character.isdigit() for character in rest):
        return None
    # 24:10 is what some phones write for ten past midnight of that day; 60 is a leap second
    if not _is_day(year, month, day) or hour > 24 or minute > 59 or second > 60:
        return None
    own = offset_s(rest)
    east = next(one for one in (offset, own, else_offset) if one is not None)
    whole = calendar.timegm((year, month, day, hour % 24, minute, second)) - east
    digits = re.match(r"\d{1,3}", fraction.strip(), re.ASCII)
    milliseconds = int(digits[0].ljust(3, "0")) if digits else 0
    taken_at = (whole * 1000 + milliseconds) / 1000
    return taken_at if in_range("taken_at", taken_at) else None


def offset_s(text: str) -> int | None:
    """Return the seconds east of Greenwich that a text begins with, None without any of up to 14 hours."""
    found = _OFFSET.match(_beginning(text))
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    if sign is None:
        return 0
    size = int(hours) * 3600 + int(minutes or 0) * 60
    if size > _MAX_OFFSET_S or int(minutes or 0) > 59:
        return None
    return size if sign == "+" else -size


def _beginning(text: str) -> str:
    """Return what may be a time: a buffer of a fixed length has the rest of an older text behind its NUL."""
    return text[: 16 * _MAX_TEXT].split("\0", 1)[0].strip()[:_MAX_TEXT]


def _is_day(year: int, month: int, day: int) -> bool:
    return year >= 1 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
