"""Clock, ids and chance that a test sets, and the environment made of them.

Rule: there is one time. Where trio runs on a virtual clock, a fixed clock shows that one's time and
moves it, so that delays, deadlines and timers move along.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import trio
import trio.testing

from actors.reducers import Environment

# Where tests begin, unless they say otherwise.
TEST_EPOCH: Final = datetime(2025, 1, 1, tzinfo=UTC)


class FixedClock:
    """A clock that stands still until it is moved; under trio's `MockClock` it follows that one.

    ValueError for a time without a zone.
    """

    def __init__(self, at: datetime = TEST_EPOCH) -> None:
        self._base = _aware(at)
        self._began = _virtual_s()

    def __repr__(self) -> str:
        return f"<FixedClock {self.now().isoformat()}>"

    def now(self) -> datetime:
        """Call this to get the time, aware, in UTC."""
        return self._base + timedelta(seconds=_virtual_s() - self._began)

    def advance(self, delta: timedelta | float) -> None:
        """Call this to move it on, by seconds or a timedelta; a negative one sets it back.

        Under a `MockClock` what is due meanwhile happens at the next checkpoint. Only the time of
        day can be set back: delays and deadlines go on as they were.
        """
        step = delta if isinstance(delta, timedelta) else timedelta(seconds=delta)
        virtual = _virtual()
        if virtual is not None and step > timedelta(0):
            virtual.jump(step.total_seconds())
        else:
            self._base += step

    def set(self, at: datetime) -> None:
        """Call this to move it to a time; see `advance`."""
        self.advance(_aware(at) - self.now())


def test_clock() -> FixedClock:
    """Call this for a clock at 2025-01-01T00:00:00Z."""
    return FixedClock()


# It is named as a user would: to pytest it is no test.
test_clock.__test__ = False  # type: ignore[attr-defined]


class FixedIds:
    """UUIDv7 that are the same in every run; later ones sort behind earlier ones."""

    def __init__(self, first: int = 1) -> None:
        self._next = first

    def new_id(self) -> UUID:
        """Call this for the next one."""
        number, self._next = self._next, self._next + 1
        milliseconds = int(TEST_EPOCH.timestamp() * 1000) + number
        chance = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:10], "big")
        # As RFC 9562 lays it out: time, version, 12 bits, variant, 62 bits.
        value = (milliseconds << 80) | (0x7 << 76) | ((chance >> 62 & 0xFFF) << 64)
        return UUID(int=value | (0b10 << 62) | (chance & ((1 << 62) - 1)))


class FixedRandom:
    """Gives the numbers it was made with, in turn and from the start again; ValueError for none."""

    def __init__(self, *numbers: float) -> None:
        if not numbers or not all(0.0 <= one < 1.0 for one in numbers):
            raise ValueError(f"{numbers!r} must be numbers, 0.0 <= x < 1.0, at least one")
        self._numbers, self._at = numbers, 0

    def random(self) -> float:
        """Call this for the next one."""
        number = self._numbers[self._at % len(self._numbers)]
        self._at += 1
        return number


def fixed_environment(at: datetime = TEST_EPOCH) -> Environment:
    """Call this for an environment in which nothing is left to chance."""
    return Environment(FixedClock(at), FixedIds(), random=FixedRandom(0.5))


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no zone; give an aware time, in UTC")
    return at.astimezone(UTC)


def _virtual() -> trio.testing.MockClock | None:
    if not trio.lowlevel.in_trio_run():
        return None
    clock = trio.lowlevel.current_clock()
    return clock if isinstance(clock, trio.testing.MockClock) else None


def _virtual_s() -> float:
    clock = _virtual()
    return 0.0 if clock is None else clock.current_time()
