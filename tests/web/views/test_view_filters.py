"""How figures and times are written."""

from datetime import UTC, datetime

import pytest

from web.views.renderer import clock, duration, grouped, iso, milliseconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_duration_has_two_units(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.418, "0.42"), (1.84, "1.8"), (99.94, "99.9"), (1234.5, "1,234")],
)
def test_milliseconds_have_the_digits_that_matter(value: float, text: str) -> None:
    assert milliseconds(value) == text


def test_times_are_utc_for_machines_and_people() -> None:
    # SITE-22
    at = datetime(2026, 11, 21, 8, 4, 5, 999, tzinfo=UTC)
    assert iso(at) == "2026-11-21T08:04:05Z"
    assert clock(at) == "08:04:05 UTC"


def test_thousands_are_kept_apart() -> None:
    assert grouped(1234567) == "1,234,567"
