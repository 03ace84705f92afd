"""A process that dies behind any append or send: the checkout ends as it would have."""

import pytest
import trio.testing

from storage.postgres import Database
from tests.actors.sagas.shops import (
    STORIES,
    Plan,
    Story,
    World,
    memory_world,
    postgres_world,
    stock,
)

# More places than any of the stories passes.
PLACES_MAX = 40


async def _crash_everywhere(world: World, story: Story) -> int:
    """One checkout for each place; the last of each kind passes it by. Returns the crashes."""
    numbers = iter(range(1, 1000))
    await stock(world, *(str(number) for number in range(1, 3 * PLACES_MAX)))
    crashes = 0
    for place in ("append", "taken", "sent"):
        for at in range(1, PLACES_MAX):
            number = str(next(numbers))
            is_whole = await story.play(world, number, Plan(place, at))
            if not is_whole:
                crashes += 1
                assert await story.play(world, number, Plan()), "the second life is whole"
            await story.check(world, number)
            if is_whole:
                break
        else:
            raise AssertionError(f"{place} was passed {PLACES_MAX} times")
    return crashes


@pytest.mark.parametrize("story", STORIES, ids=lambda one: one.name)
async def test_a_crash_anywhere_ends_the_same_in_memory(
    autojump_clock: trio.testing.MockClock, story: Story
) -> None:
    # SAGA-6, SAGA-9
    assert await _crash_everywhere(memory_world(), story) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda one: one.name)
async def test_a_crash_anywhere_ends_the_same_on_postgresql(
    database: Database, story: Story
) -> None:
    # SAGA-6, SAGA-9
    assert await _crash_everywhere(postgres_world(database), story) >= 10
