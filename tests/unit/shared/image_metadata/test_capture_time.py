"""The texts of a time: whatever a camera or an editor spells, and what is none."""

import random
import time

import pytest

from shared.image_metadata.capture_time import moment, offset_s

NOON = 1717243200.0  # 2024-06-01 12:00:00 UTC
MIDNIGHT, HOUR = NOON - 12 * 3600, 3600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024:06:01 12:00:00", NOON),
        ("2024-06-01T12:00:00", NOON),
        ("2024-06-01t12:00:00z", NOON),
        ("2024/06/01 12:00:00", NOON),
        ("2024.06.01 12.00.00", NOON),
        ("20240601T120000Z", NOON),
        ("2024:06:01:12:00:00", NOON),
        ("2024:06:01  12:00:00", NOON),
        ("  2024:06:01 12:00:00 ", NOON),
        ("2024:06:01 12:00:00\0 garbage", NOON),
        ("2024:06:01 12:00:00 Mitteleurop\u00e4ische Zeit", NOON),
        ("2024: 6: 1 12: 0: 0", NOON),
        ("2024:6:1 12:0:0", NOON),
        ("2024:06:01 12:00", NOON),
        ("2024:06:01 12:00:  ", NOON),
        ("2024-06-01T12:00Z", NOON),
        ("2024:06:01 12:00:00 pm", NOON),
        ("2024:06:01 01:00:00 p.m.", NOON + HOUR),
        ("2024:06:01 12:00:00 AM", MIDNIGHT),
        ("2024:06:01 13:00:00 PM", NOON + HOUR),
        ("2024:06:01 12:00:00.125", NOON + 0.125),
        ("2024:06:01 12:00:00,9999999", NOON + 0.999),
        ("2024:06:01 12:00:00+02:00", NOON - 2 * HOUR),
        ("2024:06:01 12:00:00.5 -0530", NOON + 5.5 * HOUR + 0.5),
        ("2024-06-01T12:00-05:00", NOON + 5 * HOUR),
        ("2024:06:01 12:00:00 UTC+2", NOON - 2 * HOUR),
        ("2024:06:01 12:00:00+99:99", NOON),
        ("2024:06:01", MIDNIGHT),
        ("20240601", MIDNIGHT),
        ("2024:06:01   :  :  ", MIDNIGHT),
        ("2024-06-01+02:00", MIDNIGHT - 2 * HOUR),
        ("2024:06:01 24:10:00", MIDNIGHT + 600),
        ("2016:12:31 23:59:60", 1483228800.0),
        ("2024:02:29 00:00:00", 1709164800.0),
        ("1969:12:31 23:59:59.25", -0.75),
    ],
)
def test_a_time_is_read_however_it_is_spelled(text: str, seconds: float) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\0" * 20, "    :  :     :  :  ", "0000:00:00 00:00:00", "2024", "2024-06", "2024:  :  ",
        "2024:13:01 12:00:00", "2024:00:01 12:00:00", "2024:02:30 12:00:00", "2023:02:29 12:00:00",
        "2024:06:01 25:00:00", "2024:06:01 12:60:00", "2024:06:01 12:00:61", "2024:06:01 12:00:001",
        "10000:01:01 00:00:00", "02024:06:01 12:00:00", "24:06:01 12:00:00", "01/06/2024 12:00:00",
        "yesterday", "1717243200", "\u0662\u0660\u0662\u0664:06:01 12:00:00", "2024:06:01 at 3",
        "\ufffd" * 19, "9999:12:31 23:59:60", "0001:01:01 00:00:00+00:01",
    ],
)  # fmt: skip
def test_nonsense_is_no_time(text: str) -> None:
    assert moment(text) is None


def test_offsets_and_fractions_beside_the_text() -> None:
    assert moment("2024:06:01 12:00:00+02:00", offset=HOUR) == NOON - HOUR
    assert moment("2024:06:01 12:00:00+02:00", else_offset=HOUR) == NOON - 2 * HOUR
    assert moment("2024:06:01 12:00:00+99:99", else_offset=HOUR) == NOON - HOUR
    assert moment("2024:06:01 12:00:00", fraction="5  ") == NOON + 0.5
    assert moment("2024:06:01 12:00:00.25", fraction="5") == NOON + 0.25
    assert moment("2024:06:01 12:00:00", fraction="-5") == NOON
    assert moment("2024:06:01", fraction="5") == MIDNIGHT + 0.5


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("+02:00", 2 * HOUR), ("-05:30", -5.5 * HOUR), ("+0200", 2 * HOUR), ("+2:00", 2 * HOUR),
        ("-3", -3 * HOUR), (" +02:00\0", 2 * HOUR), ("Z", 0), ("utc", 0), ("-00:00", 0),
        ("+14:00", 14 * HOUR), ("-14:00", -14 * HOUR), ("+14:01", None), ("+15:00", None), ("+99:99", None),
        ("+02:60", None), ("02:00", None), ("   :  ", None), ("local", None), ("Zurich", None), ("", None),
        ("+", None), ("+020000", None),
    ],
)  # fmt: skip
def test_an_offset_is_one_of_up_to_fourteen_hours(text: str, offset: float | None) -> None:
    assert offset_s(text) == offset


def test_no_text_fails_or_takes_long() -> None:
    rng = random.Random(5)
    pieces = ["2024", ":", "06", "-", " ", "T", "12", ".", "5", "+", "Z", "PM", "\0", "\u0661", "e", "  "]
    texts = ["".join(rng.choices(pieces, k=rng.randrange(24))) for _ in range(5_000)]
    texts += [piece * 1_000_000 for piece in (*pieces, "2024:", " :", "+1", "UTC ", "2024:06:01 12:00:00.")]
    started = time.perf_counter()
    for text in texts:
        moment(text, fraction=text)
        offset_s(text)
    assert time.perf_counter() - started < 5
