"""Money and prices: whole cents inside, decimal units outside, and what a ticket costs when."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from actors.persistence import Refusal

# Ten thousand million in whole units: nine million such sums still fit 64 bits.
CENTS_MAX = 10**12
EARLY = timedelta(days=30)
LATE = timedelta(days=7)
CENT = Decimal("0.01")


class Tier(StrEnum):
    """When a ticket is bought, as its price knows it."""

    EARLY_BIRD = "EarlyBird"
    REGULAR = "Regular"
    LAST_MINUTE = "LastMinute"


PERCENT = {Tier.EARLY_BIRD: 80, Tier.REGULAR: 100, Tier.LAST_MINUTE: 110}


def tier_at(now: datetime, starts_at: datetime) -> Tier:
    """Call this for the tier of a moment.

    Exactly 30 days before the start is still early, exactly 7 days before is already late.
    """
    left = starts_at - now
    if left >= EARLY:
        return Tier.EARLY_BIRD
    return Tier.LAST_MINUTE if left <= LATE else Tier.REGULAR


def price_in(tier: Tier, price_cents: int) -> int:
    """Call this for what a ticket of this price costs in a tier, rounded half up to the cent."""
    return (price_cents * PERCENT[tier] + 50) // 100


def cents_of(amount: Decimal) -> int | Refusal:
    """Call this for an amount as a client wrote it; a refusal for what is no amount of money."""
    if not amount.is_finite():
        return Refusal("invalid", "An amount is a number.")
    if abs(amount) > CENTS_MAX // 100:
        return Refusal("invalid", f"An amount is at most {CENTS_MAX // 100}.")
    # Multiplied by 100 a number of thirty digits would be rounded, and seem to be whole.
    rounded = amount.quantize(CENT)
    if rounded != amount:
        return Refusal("invalid", "An amount has at most 2 decimals.")
    return int(rounded.scaleb(2))


def amount_of(cents: int) -> Decimal:
    """Call this for cents as clients are told them, with both decimals."""
    return (Decimal(cents) / 100).quantize(CENT)
