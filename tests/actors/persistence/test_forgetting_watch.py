"""Whoever holds opened texts is told when somebody was forgotten, by whom and where ever."""

import trio
from trio.testing import MockClock

from actors.persistence import FRESH_S, ForgettingWatch, StoreUnavailable
from actors.runtime import Secret, open_actors
from storage.keyring import SubjectKeyring
from storage.memory import MemoryDatabase, MemorySubjectKeys

_TURN_S = 2 * FRESH_S


def _ring(keys: MemorySubjectKeys) -> SubjectKeyring:
    return SubjectKeyring(keys, Secret(b"m" * 32))


async def test_it_tells_once_of_each_forgetting_wherever(autojump_clock: MockClock) -> None:
    # STORE-44
    keys = MemorySubjectKeys(MemoryDatabase())
    ours, theirs = _ring(keys), _ring(keys)
    await theirs.forget("user:0", by="ada")
    told: list[float] = []
    async with open_actors() as system:
        await system.start(lambda: ForgettingWatch(ours, lambda: told.append(trio.current_time())))
        await trio.sleep(10 * FRESH_S)
        assert told == []
        for number, ring in enumerate((theirs, ours), start=1):
            await ring.forget(f"user:{number}", by="ada")
            await trio.sleep(_TURN_S)
            assert len(told) == number
        # Nobody was forgotten that was not before.
        await theirs.forget("user:1", by="ada")
        await trio.sleep(_TURN_S)
        assert len(told) == 2


async def test_a_store_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    # STORE-44: and whoever read before the first look is told, as nobody knows what they read
    keys = MemorySubjectKeys(MemoryDatabase())
    told: list[float] = []
    keys.fail_next(StoreUnavailable("away"), 1_000_000)
    async with open_actors() as system:
        await system.start(
            lambda: ForgettingWatch(_ring(keys), lambda: told.append(trio.current_time()))
        )
        await trio.sleep(60)
        assert told == []
        keys.fail_next(StoreUnavailable("away"), 0)
        await trio.sleep(_TURN_S)
        assert len(told) == 1
        keys.slow(30.0)
        await trio.sleep(100)
        keys.slow(0.0)
        await trio.sleep(60)
        assert len(told) == 1
        assert system.totals().restarts == 0
