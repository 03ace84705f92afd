"""How much each signal weighs, and where levels begin: each of them a setting (AUTH-30).

Weights are told by an operator as `name=weight,...`, borders as three numbers that ascend.
"""

from dataclasses import dataclass, field, fields, replace

from actors.persistence.errors import InvalidField

# A weight of more than that is a decision of its own.
WEIGHT_MAX = 1.0


@dataclass(frozen=True, slots=True)
class RiskWeights:
    """What each signal adds to a score, or takes from it. Table of AUTH-30."""

    passkey: float = 0.05
    link: float = 0.10
    password: float = 0.15
    device_new: float = 0.20
    device_familiar: float = -0.05
    device_trusted: float = -0.10
    device_highly_trusted: float = -0.15
    network_new: float = 0.05
    country_new: float = 0.15
    travel: float = 0.40
    anonymizer: float = 0.25
    bad_address: float = 0.40
    browser_changed: float = 0.10
    # For the third failure within 15 minutes and each behind it, five at most.
    failure: float = 0.05
    hour_new: float = 0.05
    long_away: float = 0.10
    account_young: float = 0.05
    breached: float = 0.15


WEIGHTS = RiskWeights()
WEIGHT_NAMES = tuple(one.name for one in fields(RiskWeights))


@dataclass(frozen=True, slots=True)
class RiskRules:
    """Weights, and the scores from which a sign-in is Medium, High and Critical."""

    weights: RiskWeights = field(default_factory=RiskWeights)
    medium: float = 0.30
    high: float = 0.60
    critical: float = 0.80


def parse_weights(text: str) -> RiskWeights:
    """Call this with what an operator set; raises `InvalidField`. What is not named stays."""
    given: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, mark, value = (piece.strip() for piece in part.partition("="))
        if not mark or name not in WEIGHT_NAMES:
            raise InvalidField("weights", f"are name=weight; names are {', '.join(WEIGHT_NAMES)}")
        given[name] = _number(value, -WEIGHT_MAX)
    return replace(WEIGHTS, **given)


def parse_levels(text: str) -> tuple[float, float, float]:
    """Call this with the borders an operator set, such as `0.3,0.6,0.8`; raises `InvalidField`."""
    found = [_number(part.strip(), 0.0) for part in text.split(",")]
    if len(found) != 3 or sorted(found) != found:
        raise InvalidField("levels", "are three numbers from 0 to 1 that ascend")
    medium, high, critical = found
    return medium, high, critical


def _number(text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= WEIGHT_MAX:
        raise InvalidField("a weight", f"is a number from {least:g} to {WEIGHT_MAX:g}")
    return value
