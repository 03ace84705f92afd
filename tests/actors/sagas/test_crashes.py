"""A process that dies behind any append or send: the checkout ends as it would have."""

import os

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
from tests.processes.forked import start

# `make soak` kills at all of them; the suite at these.
_SAMPLE = [("append", 3), ("append", 6), ("taken", 2), ("sent", 3)]

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


def _kill_at(url: str, story: Story, number: str, place: str, at: int) -> bool:
    """Let a process check out up to a place and end it without a word; False if it never came."""
    module = "tests.actors.sagas.checkout_process"
    process, output = start(module, [url, story.name, number, place, str(at)])
    with output:
        try:
            line = output.readline().strip()
            assert line in (place, "ended")
        finally:
            process.kill()
            process.wait()
    return line == place


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda one: one.name)
async def test_a_killed_process_leaves_a_checkout_that_ends_as_it_would_have(
    database: Database, database_url: str, story: Story
) -> None:
    # SAGA-6, SAGA-7: `kill -9` of a real process; PLACES=all for every place there is
    world = postgres_world(database)
    await stock(world, *(str(number) for number in range(1, 3 * PLACES_MAX)))
    places = _SAMPLE
    if os.environ.get("PLACES") == "all":
        places = [(one, at) for one in ("append", "taken", "sent") for at in range(1, PLACES_MAX)]
    over: set[str] = set()
    killed = 0
    for number, (place, at) in enumerate(places, start=1):
        if place in over:
            continue
        is_killed = await trio.to_thread.run_sync(
            _kill_at, database_url, story, str(number), place, at, abandon_on_cancel=True
        )
        killed += is_killed
        over |= set() if is_killed else {place}
        assert await story.play(world, str(number), Plan())
        await story.check(world, str(number))
    assert killed >= 3
