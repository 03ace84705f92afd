"""How much of a risk a sign-in is: the score by the table, pure (AUTH-30).

A signal without data adds nothing: without a table of addresses there is no country, and the first
sign-in of an account is new in nothing.
"""

from collections.abc import Iterator
from datetime import timedelta
from math import asin, cos, radians, sin, sqrt
from typing import Protocol

from actors.accounts.kept.devices.words import Trust
from actors.accounts.kept.risk.rules import RiskRules, RiskWeights
from actors.accounts.kept.risk.words import (
    Factor,
    LoginContext,
    PastLogin,
    Required,
    RiskAssessment,
    RiskLevel,
)

# Faster than a passenger aircraft; nearer than that, two places may be one by a coarse table.
SPEED_KM_H_MAX = 900.0
DISTANCE_KM_MIN = 100.0
FAILURES_FREE = 2
FAILURES_COUNTED_MAX = 5
LONG_AWAY = timedelta(days=90)
YOUNG_FOR = timedelta(hours=24)
EARTH_KM = 6371.0

_REQUIRED = {
    RiskLevel.LOW: Required.NOTHING,
    RiskLevel.MEDIUM: Required.SECOND_FACTOR,
    RiskLevel.HIGH: Required.PASSKEY,
    RiskLevel.CRITICAL: Required.ALLOWANCE,
}


class RiskCalculator(Protocol):
    """What says how much of a risk a sign-in is."""

    def assess(self, login: LoginContext) -> RiskAssessment:
        """Call this for an assessment. Pure: no clock, no I/O, and at most some 50 us."""
        ...


class WeighedRisk:
    """The calculator of the table."""

    def __init__(self, rules: RiskRules | None = None) -> None:
        self._rules = rules or RiskRules()

    def assess(self, login: LoginContext) -> RiskAssessment:
        """See `RiskCalculator.assess`."""
        weights = self._rules.weights
        found = [*_of_way(login, weights), *_of_device(login, weights)]
        found += [*_of_place(login, weights), *_of_time(login, weights)]
        factors = tuple(one for one in found if one.weight)
        score = round(min(1.0, max(0.0, sum(one.weight for one in factors))), 2)
        level = level_of(score, self._rules)
        return RiskAssessment(score, level, factors, _REQUIRED[level])


def level_of(score: float, rules: RiskRules) -> RiskLevel:
    """Call this for the level of a score; a border belongs to the graver one."""
    if score >= rules.critical:
        return RiskLevel.CRITICAL
    if score >= rules.high:
        return RiskLevel.HIGH
    return RiskLevel.MEDIUM if score >= rules.medium else RiskLevel.LOW


def _of_way(login: LoginContext, weights: RiskWeights) -> Iterator[Factor]:
    if login.method == "passkey":
        yield Factor("passkey", weights.passkey)
    elif login.method == "magic_link" or login.method.startswith("oauth"):
        yield Factor("link", weights.link)
    else:
        yield Factor("password", weights.password)
    counted = min(max(0, login.failures - FAILURES_FREE), FAILURES_COUNTED_MAX)
    if counted:
        yield Factor("failure", round(counted * weights.failure, 2))
    if login.is_breached:
        yield Factor("breached", weights.breached)


def _of_device(login: LoginContext, weights: RiskWeights) -> Iterator[Factor]:
    device = login.device
    if device is None:
        if login.past:
            yield Factor("device_new", weights.device_new)
        return
    match device.trust:
        case Trust.FAMILIAR:
            yield Factor("device_familiar", weights.device_familiar)
        case Trust.TRUSTED:
            yield Factor("device_trusted", weights.device_trusted)
        case Trust.HIGHLY_TRUSTED:
            yield Factor("device_highly_trusted", weights.device_highly_trusted)
        case Trust.UNKNOWN | Trust.RECOGNIZED:
            pass
    if device.browser and login.browser and device.browser != login.browser:
        yield Factor("browser_changed", weights.browser_changed)


def _of_place(login: LoginContext, weights: RiskWeights) -> Iterator[Factor]:
    place = login.place
    networks = {one.network for one in login.past if one.network is not None}
    if login.network is not None and networks and login.network not in networks:
        yield Factor("network_new", weights.network_new)
    countries = {one.country for one in login.past if one.country}
    if place.country and countries and place.country not in countries:
        yield Factor("country_new", weights.country_new)
    if is_too_fast(login):
        yield Factor("travel", weights.travel)
    if place.is_anonymizer:
        yield Factor("anonymizer", weights.anonymizer)
    if place.is_bad:
        yield Factor("bad_address", weights.bad_address)


def _of_time(login: LoginContext, weights: RiskWeights) -> Iterator[Factor]:
    if login.past and login.at.hour not in {one.at.hour for one in login.past}:
        yield Factor("hour_new", weights.hour_new)
    if login.past and login.at - login.past[0].at > LONG_AWAY:
        yield Factor("long_away", weights.long_away)
    if login.at - login.account_since < YOUNG_FOR:
        yield Factor("account_young", weights.account_young)


def is_too_fast(login: LoginContext) -> bool:
    """Call this for whether nobody travels from where the last sign-in was to here in that time."""
    here = login.place
    for one in login.past:
        km = _distance_km(one, here.latitude, here.longitude)
        if km is not None:
            hours = max(0.0, (login.at - one.at).total_seconds() / 3600)
            return km >= DISTANCE_KM_MIN and km > SPEED_KM_H_MAX * hours
    return False


def _distance_km(one: PastLogin, latitude: float | None, longitude: float | None) -> float | None:
    """Give the way along a great circle; None where one of the places is not known."""
    if one.latitude is None or one.longitude is None or latitude is None or longitude is None:
        return None
    north, north_too = radians(one.latitude), radians(latitude)
    east = radians(longitude - one.longitude)
    half = sin((north_too - north) / 2) ** 2 + cos(north) * cos(north_too) * sin(east / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(min(1.0, half)))
