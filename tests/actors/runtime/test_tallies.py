"""Figures for operators are plain numbers of their owners, and never go back."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import AskTimeout, Crashed, current_tallies, open_actors
from actors.runtime.system.system import System
from actors.runtime.words.counting import KindSums
from actors.runtime.words.tallies import LABEL_SETS_MAX, OTHER, SECONDS, Histogram, Tallies
from actors.testing import Call, Do, Puppet


async def kinds(system: System) -> dict[str, KindSums]:
    sums: dict[str, KindSums] = {}
    for _ in system.add_kinds(sums):
        await trio.lowlevel.checkpoint()
    return sums


def test_a_value_falls_into_the_first_bucket_that_holds_it() -> None:  # OBS-2
    took = Histogram()
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 10.0)
    for value in (0.0, 0.0005, 0.00051, 10.0, 11.0):
        took.note(value)
    assert took.counts[:2] == [2, 1]
    assert took.counts[-2:] == [1, 1]
    assert took.total == pytest.approx(21.00101)


def test_labels_beyond_the_hundredth_are_told_together_by_their_first() -> None:  # OBS-1
    tallies = Tallies()
    for number in range(LABEL_SETS_MAX + 50):
        tallies.add("http_requests_total", f"/{number}", "2xx")
    tallies.add("http_requests_total", "/another", "5xx")
    tallies.add("http_requests_total", "/7", "2xx")
    found = {labels: number for _, labels, number in tallies.counts()}
    assert len(found) == LABEL_SETS_MAX + 2
    # That something failed is not lost among all that did not.
    assert (found[OTHER, "2xx"], found[OTHER, "5xx"], found["/7", "2xx"]) == (50, 1, 2)
    for number in range(3 * LABEL_SETS_MAX):
        tallies.add("http_requests_total", "/y", f"{number}")
    assert len({labels for _, labels, _ in tallies.counts()}) <= 2 * LABEL_SETS_MAX
    assert sum(number for _, _, number in tallies.counts()) == LABEL_SETS_MAX + 52 + 300


async def test_what_actors_have_counted_outlives_them() -> None:
    # OBS-2: a counter is monotone, whatever becomes of who counted
    async with open_actors() as system:
        system.measure_all("full")
        first = await system.start(Puppet)
        for _ in range(3):
            await first.ask(Call(lambda me: None))
        before = (await kinds(system))["Puppet"]
        assert (before.actors, before.handled, sum(before.handling_us)) == (1, 3, 3)
        await first.stop()
        second = await system.start(Puppet)
        await second.ask(Call(lambda me: None))
        after = (await kinds(system))["Puppet"]
        assert (after.actors, after.handled, sum(after.handling_us)) == (1, 4, 4)
        assert after.busy_seconds >= before.busy_seconds
        assert after.waited_seconds >= before.waited_seconds > 0


async def test_a_kind_is_told_apart_always_or_never() -> None:
    # OBS-1, OBS-2: told with others once it has died, or since others have, its count would fall
    async with open_actors() as system:
        classes = [type(f"Puppet{n}", (Puppet,), {}) for n in range(LABEL_SETS_MAX + 20)]
        refs = [await system.start(cls) for cls in classes]
        for ref in refs:
            await ref.ask(Call(lambda me: None))
        before = await kinds(system)
        assert (len(before), before[OTHER].actors, before[OTHER].handled) == (
            LABEL_SETS_MAX + 1, 20, 20
        )  # fmt: skip
        for ref in reversed(refs):
            await ref.stop()
        after = await kinds(system)
        assert {kind: one.handled for kind, one in after.items()} == {
            kind: one.handled for kind, one in before.items()
        }


async def test_times_that_are_taken_no_longer_stay() -> None:  # OBS-2
    async with open_actors() as system:
        system.measure_all("full")
        ref = await system.start(Puppet)
        await ref.ask(Call(lambda me: None))
        system.set_level(Puppet, "counters")
        await ref.ask(Call(lambda me: None))
        system.set_level(Puppet, "full")
        await ref.ask(Call(lambda me: None))
        found = (await kinds(system))["Puppet"]
        assert (found.handled, sum(found.handling_us), sum(found.queue_us)) == (3, 2, 2)


async def test_an_actor_that_ends_during_a_scrape_is_counted_once() -> None:  # OBS-1
    async with open_actors() as system:
        refs = [await system.start(Puppet) for _ in range(600)]
        await refs[-1].ask(Call(lambda me: None))
        sums: dict[str, KindSums] = {}
        slices = system.add_kinds(sums)
        next(slices)
        await refs[-1].stop()
        assert len([*slices]) == 1
        assert (sums["Puppet"].actors, sums["Puppet"].handled) == (600, 1)
        assert (await kinds(system))["Puppet"].handled == 1


async def test_asks_that_nobody_answers_in_time_are_of_who_was_asked(
    autojump_clock: MockClock,
) -> None:  # OBS-1
    async with open_actors() as system:
        ref = await system.start(Puppet)
        await system.suspend(ref)
        for _ in range(2):
            with pytest.raises(AskTimeout):
                await ref.ask(Call(lambda me: None), timeout=1)
        assert (await kinds(system))["Puppet"].timed_out == 2


async def test_code_of_an_actor_counts_in_its_system() -> None:  # OBS-1
    def fail(_: object) -> None:
        current_tallies().add("saga_started_total", "order")
        raise ValueError("as it must")

    current_tallies().add("saga_started_total", "order")  # outside of actors: nowhere
    async with open_actors() as system:
        ref = await system.start(Puppet)
        ref.tell(Do(fail))
        assert isinstance(await system.wait_down(ref), Crashed)
        assert list(system.tallies.counts()) == [("saga_started_total", ("order",), 1)]
        assert (await kinds(system))["Puppet"].crashes == 1
