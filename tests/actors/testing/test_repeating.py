"""A scenario run twice is compared line by line; what differs is named."""

from __future__ import annotations

import json
import os
import re

import pytest
import trio

from actors.runtime import message
from actors.testing import (
    AsyncPuppet,
    Call,
    Do,
    Note,
    NotRepeatable,
    Puppet,
    Simulation,
    check_repeatable,
    sleeping,
)
from actors.testing.trace import first_difference

RUNS: list[int] = []
WORDS = {f"word {number}" for number in range(40)}


@message
class Login:
    name: str
    password: str
    roles: frozenset[str]


async def steady(sim: Simulation) -> None:
    """Everything in it follows the seed."""
    a, b = await sim.start(Puppet, name="a"), await sim.start(AsyncPuppet, name="b")
    for _ in range(5):
        a.tell(Do(lambda _: b.tell(Note(sim.random.random()))))
    await b.ask(Call(lambda _: None))
    sim.crash(a, OSError("disk"))
    # The order of a set in a message is of no meaning, and is not written down.
    b.tell(Note(WORDS))
    await sim.settle()
    a.tell(Note("too late"))


async def remembers(sim: Simulation) -> None:
    """Leaves something to the next run."""
    ref = await sim.start(Puppet, name="x")
    RUNS.append(len(RUNS))
    ref.tell(Note("the same"))
    ref.tell(Note(RUNS[-1]))


async def walks_through_a_set(sim: Simulation) -> None:
    """The order depends on the hashes of the process."""
    ref = await sim.start(Puppet, name="x")
    for word in WORDS:
        ref.tell(Note(word))
    await sim.settle()


async def fails_elsewhere(_: Simulation) -> None:
    """In one process only."""
    if "PYTEST_CURRENT_TEST" not in os.environ or os.environ.get("PYTHONHASHSEED") == "1":
        raise LookupError("only here")


def test_a_repeatable_scenario_passes() -> None:
    # ACT-120
    assert check_repeatable(steady, seed=3) == Simulation(3).run(steady)


@pytest.mark.slow
def test_a_repeatable_scenario_passes_in_other_processes() -> None:
    # ACT-120
    assert check_repeatable(steady, seed=3, processes=True) == Simulation(3).run(steady)


def test_the_first_line_that_differs_is_named_with_its_neighbours() -> None:
    # ACT-120
    with pytest.raises(NotRepeatable, match="seed 4 gave another trace the second time") as caught:
        check_repeatable(remembers, seed=4)
    text = str(caught.value)
    assert re.search(r"line \d+ of the traces differs", text)
    assert re.search(
        r"\n    \{.*the same.*\n  - \{.*Note\(text=\d+\).*\n  \+ \{.*Note\(text=", text
    )
    assert caught.value.first != caught.value.second
    assert caught.value.seed == 4


@pytest.mark.slow
def test_the_order_of_a_set_of_texts_is_seen_in_another_process() -> None:
    # ACT-120
    check_repeatable(walks_through_a_set)
    with pytest.raises(NotRepeatable, match="PYTHONHASHSEED=") as caught:
        check_repeatable(walks_through_a_set, processes=True)
    assert "word" in str(caught.value)


@pytest.mark.slow
def test_what_fails_in_the_other_process_only_is_told() -> None:
    with pytest.raises(RuntimeError, match="only here"):
        check_repeatable(fails_elsewhere, processes=True)


def test_a_scenario_that_no_other_process_finds_is_refused() -> None:
    async def local(_: Simulation) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(ValueError, match="top of a module"):
        check_repeatable(local, processes=True)


def test_the_end_of_the_shorter_one_is_a_difference() -> None:
    assert first_difference(b"a\nb", b"a\nb") is None
    told = "line 2 of the traces differs:\n    a\n  - b\n  + (the end)"
    assert first_difference(b"a\nb", b"a") == told


def test_the_trace_tells_what_was_sent_begun_handled_and_lost() -> None:
    # ACT-120
    async def scenario(sim: Simulation) -> None:
        ref = await sim.start(AsyncPuppet, name="x")
        ref.tell(Note(object()))
        ref.tell(Do(sleeping(1.5)))
        await ref.ask(Call(print))
        await ref.stop()
        ref.tell(Note("nobody is there"))
        other = await sim.start(Puppet, name="y")
        sim.drop(other)
        other.tell(Note("dropped"))
        # Never handled, and written down all the same; without its secret.
        other.tell(Login("ann", "hunter2", frozenset(WORDS)))  # type: ignore[arg-type]

    trace = Simulation(1).run(scenario)
    told = [json.loads(line) for line in trace.decode().splitlines()]
    kinds = [line["kind"] for line in told if line.get("path") == "x"]
    assert kinds.count("sent") == kinds.count("begun") == kinds.count("message") == 3
    assert [line["reason"] for line in told if line["kind"] == "lost"] == ["no_such_actor"]
    assert [line["at"] for line in told if line["kind"] == "message"] == [0.0, 1.5, 1.5]
    sent = [line["message"] for line in told if line["kind"] == "sent" and line["path"] == "y"]
    assert sent[0] == "Note(text='dropped')"
    assert sent[1].startswith("Login(name='ann', password=***, roles=[\"'word 0'\"")
    assert not re.search(rb"0x[0-9a-f]", trace)


def test_ten_seeds_give_more_than_one_trace() -> None:
    # ACT-120
    assert len({Simulation(seed).run(steady) for seed in range(10)}) >= 2
