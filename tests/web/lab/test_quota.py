"""How often a visitor may act in the lab (LAB-7)."""

from __future__ import annotations

import uuid

import pytest

from web.lab.stage.quota import (
    ACTIONS_PER_ADDRESS_MAX,
    ACTIONS_PER_SESSION_MAX,
    PERIOD_S,
    LabQuota,
)
from web.routing.errors import RateLimited
from web.routing.quota import KEPT_MAX


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_the_31st_action_of_a_minute_waits() -> None:  # LAB-7 AUTH-40
    clock = Clock()
    quota, session = LabQuota(clock), uuid.uuid4()
    for _ in range(ACTIONS_PER_SESSION_MAX):
        quota.take(session, "address")
        clock.at += 1
    with pytest.raises(RateLimited) as raised:
        quota.take(session, "address")
    assert raised.value.retry_after == PERIOD_S - ACTIONS_PER_SESSION_MAX
    assert raised.value.rate_limits == (
        (b"ratelimit-policy", b'"lab";q=30;w=60'),
        (b"ratelimit", b'"lab";r=0;t=30'),
    )
    clock.at += raised.value.retry_after
    quota.take(session, "address")


def test_an_address_has_a_quota_of_its_own() -> None:  # LAB-7
    quota = LabQuota(Clock())
    for _ in range(ACTIONS_PER_ADDRESS_MAX):
        quota.take(uuid.uuid4(), "one")
    with pytest.raises(RateLimited):
        quota.take(uuid.uuid4(), "one")
    quota.take(uuid.uuid4(), "another")


def test_who_acts_is_remembered_within_bounds() -> None:  # REL-70
    quota = LabQuota(Clock())
    for number in range(KEPT_MAX):
        quota.take(uuid.UUID(int=number), f"address-{number}")
    assert len(quota) == KEPT_MAX
