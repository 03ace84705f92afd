"""Who is restarted when; green when the tower is written."""

import pytest
import trio
from tower import Crash, Life, Tower
from trio.testing import MockClock

from supervision import open_system

PARTS = ["log", "cache", "desk"]


async def lives(tower: Tower) -> list[int]:
    return [await getattr(tower, name).ask(Life(), timeout=1.0) for name in PARTS]


def after_a_crash_of(name: str) -> list[int]:
    async def main() -> list[int]:
        async with open_system(Tower) as tower:
            assert [one.id for one in await tower.which_children()] == PARTS
            assert await lives(tower) == [1, 1, 1]
            getattr(tower, name).tell(Crash())
            await trio.sleep(1)
            return await lives(tower)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_behind_the_cache_all_begins_anew() -> None:
    assert after_a_crash_of("cache") == [2, 1, 1]


def test_the_desk_is_restarted_alone() -> None:
    assert after_a_crash_of("desk") == [2, 2, 1]


def test_the_third_crash_is_too_many() -> None:
    async def main() -> None:
        async with open_system(Tower) as tower:
            for _ in range(3):
                tower.cache.tell(Crash())
                await trio.sleep(1)
            await trio.sleep(60)

    with pytest.raises(ExceptionGroup, match=r"tower gave up: .* 2 allowed"):
        trio.run(main, clock=MockClock(autojump_threshold=0))
