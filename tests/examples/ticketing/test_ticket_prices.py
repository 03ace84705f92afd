"""What a ticket costs when, and money between cents and the units that clients write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.persistence import Refusal
from docs.examples.ticketing.amounts import (
    CENTS_MAX,
    Tier,
    amount_of,
    cents_of,
    price_in,
    tier_at,
)

START = datetime(2030, 6, 1, 20, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("before", "tier"),
    [
        (timedelta(days=400), Tier.EARLY_BIRD),
        (timedelta(days=30) + TICK, Tier.EARLY_BIRD),
        (timedelta(days=30), Tier.EARLY_BIRD),
        (timedelta(days=30) - TICK, Tier.REGULAR),
        (timedelta(days=7) + TICK, Tier.REGULAR),
        (timedelta(days=7), Tier.LAST_MINUTE),
        (timedelta(days=7) - TICK, Tier.LAST_MINUTE),
        (timedelta(0), Tier.LAST_MINUTE),
    ],
)
def test_a_tier_begins_at_its_border(before: timedelta, tier: Tier) -> None:  # EX-43
    assert tier_at(START - before, START) is tier


def test_a_border_is_a_moment_and_not_an_hour_on_the_wall() -> None:  # EX-43
    east = (START - timedelta(days=30)).astimezone(tz=None)
    assert tier_at(east, START) is Tier.EARLY_BIRD


@pytest.mark.parametrize(
    ("tier", "cents", "price"),
    [
        (Tier.EARLY_BIRD, 5000, 4000),
        (Tier.REGULAR, 5000, 5000),
        (Tier.LAST_MINUTE, 5000, 5500),
        (Tier.LAST_MINUTE, 5, 6),  # 5.5 and up
        (Tier.LAST_MINUTE, 4, 4),
        (Tier.EARLY_BIRD, 1, 1),
        (Tier.EARLY_BIRD, 2, 2),
        (Tier.EARLY_BIRD, 3, 2),
    ],
)
def test_a_price_is_rounded_half_up(tier: Tier, cents: int, price: int) -> None:  # EX-43
    assert price_in(tier, cents) == price


@settings(max_examples=100, derandomize=True, database=None)
@given(st.sampled_from(Tier), st.integers(1, CENTS_MAX))
def test_whole_numbers_round_as_decimals_do(tier: Tier, cents: int) -> None:  # EX-43
    factor = {"EarlyBird": "0.8", "Regular": "1", "LastMinute": "1.1"}[tier]
    exact = Decimal(cents) * Decimal(factor)
    assert price_in(tier, cents) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@settings(max_examples=100, derandomize=True, database=None)
@given(st.integers(-CENTS_MAX, CENTS_MAX))
def test_an_amount_goes_out_and_comes_back(cents: int) -> None:  # EX-40
    told = amount_of(cents)
    assert cents_of(told) == cents
    assert str(told)[-3] == "."


@pytest.mark.parametrize(
    "amount",
    [
        "0.001",
        "1E-3",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1E+999999",
        "1E-999999",
        "12.5" + "0" * 40 + "1",
    ],
)
def test_what_is_no_amount_is_refused(amount: str) -> None:  # EX-40
    assert isinstance(cents_of(Decimal(amount)), Refusal)


@pytest.mark.parametrize(("amount", "cents"), [("12.50", 1250), ("12.500", 1250), ("1E+2", 10_000)])
def test_the_same_amount_in_other_digits_is_the_same(amount: str, cents: int) -> None:  # EX-40
    assert cents_of(Decimal(amount)) == cents
