"""Going through a stream by keys, and what is otherwise between two states; without a database."""

from __future__ import annotations

import argparse
import os
import pty
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import pytest
import trio
import trio.testing

from actors.persistence import StreamId
from actors.reducers import start_reducer
from actors.runtime import open_actors
from actors.testing import fixed_environment
from storage.memory import MemoryEventStore
from storage.testing.samples import new_event
from tests.web.cli.reading.shelves import TYPES, BookPlaced, PlaceBook, RegisterActor, Shelf
from web.cli.answering import Teller
from web.cli.reading.finding import find_aggregate
from web.cli.reading.folding import AggregateFold, Step
from web.cli.reading.showing import difference_lines, differences
from web.cli.reading.stepping import Keys, walk
from web.cli.reading.tape import KEPT, Shower, Tape
from web.observability import Code

SHELF = StreamId("shelf-a")


class Typing:
    """Keys of a list; a line is typed as one of them."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys)

    async def key(self) -> str:
        return self._keys.pop(0) if self._keys else ""

    async def line(self, prompt: str) -> str:
        return self._keys.pop(0)


class Seen(Shower):
    """What was shown, as versions."""

    def __init__(self, fold: AggregateFold) -> None:
        parsed = argparse.Namespace(private=None, diff=False, show_state=True, step=True)
        super().__init__(fold, parsed)
        self.versions: list[int] = []

    def lines(self, one: Step) -> list[str]:
        self.versions.append(one.stored.version)
        return super().lines(one)


class Counting(MemoryEventStore):
    """Counts how often a stream is read from its begin."""

    begun = 0

    def load(self, *args: object, **names: object):  # type: ignore[no-untyped-def]
        self.begun += 1
        return super().load(*args, **names)  # type: ignore[arg-type]


@asynccontextmanager
async def _tape(count: int, **bounds: int) -> AsyncIterator[tuple[Tape, Seen, Counting]]:
    store, fold = Counting(), AggregateFold(Shelf())
    for at in range(0, count, 500):
        titles = [f"book {number}" for number in range(at + 1, min(count, at + 500) + 1)]
        events = [TYPES.encode(BookPlaced(title), event_id=uuid4()) for title in titles]
        await store.append(SHELF, events)
    async with aclosing(Tape(store, SHELF, fold, **bounds)) as tape:  # type: ignore[arg-type]
        yield tape, Seen(fold), store


@pytest.mark.parametrize(
    ("keys", "versions"),
    [
        ("nnpq", [1, 2, 3, 2]),
        ("pq", [1]),  # there is none before the first
        ("nnnnnnnnnnnnnnq", list(range(1, 13))),  # nor behind the last
        (["g", "9", "p", "n", "q"], [1, 9, 8, 9]),
        (["g", "99", "g", "0", "g", "x", "n", "q"], [1, 2]),
        (["/", "BOOK 1", "n", "n", "n", "p", "p", "p"], [1, 10, 11, 12, 11, 10, 1]),
        (["/", "nothing", "n", "p", "/", "", "n", "?"], [1, 2]),
        ([], [1]),  # the terminal has gone
    ],
)
async def test_keys_go_through_a_stream(
    keys: Sequence[str], versions: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-3
    async with _tape(12) as (tape, seen, _):
        assert await walk(tape, seen, Typing(*keys), Teller(is_json=False)) == Code.DONE
        assert seen.versions == versions
        assert '"titles":["book 1"]' in capsys.readouterr().out


async def test_a_walk_begins_and_ends_where_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    # CLI-3
    async with _tape(12, last=8) as (tape, seen, _):
        await walk(tape, seen, Typing(*"nnnnpq"), Teller(is_json=False), begin=7)
        assert seen.versions == [7, 8, 7]
        assert await walk(tape, seen, Typing(), Teller(is_json=False), begin=9) == Code.UNKNOWN


async def test_a_long_stream_is_held_a_piece_at_a_time() -> None:
    # CLI-3: who goes back further than that has it folded from the begin, once
    async with _tape(2 * KEPT) as (tape, _, store):
        last = await tape.at(2 * KEPT)
        assert last is not None
        assert len(last.after.titles) == 2 * KEPT  # type: ignore[attr-defined]
        assert await tape.at(KEPT + 1) is not None
        assert store.begun == 1
        first = await tape.at(1)
        assert first is not None
        assert first.after.titles == ("book 1",)  # type: ignore[attr-defined]
        assert store.begun == 2
        assert await tape.at(0) is None
        assert await tape.at(2 * KEPT + 1) is None


async def test_a_reducer_is_folded_as_its_actor_has_done_it() -> None:
    # CLI-3: with the clock and the ids of then
    store, stream = MemoryEventStore(), StreamId("register-1")
    async with open_actors() as system:
        actor = await start_reducer(system, RegisterActor, fixed_environment(), "1", store)
        for title in ("Dune", "Emma"):
            await actor.run(PlaceBook(title))
        state = await actor.state()
    fold = find_aggregate(stream, ["tests.web.cli.reading.shelves"])
    async with aclosing(Tape(store, stream, fold)) as tape:
        found = await tape.at(2)
    assert found is not None
    assert (found.problem, found.after) == ("", state)
    assert len(state.lines) == 2
    assert (
        fold.name
        == find_aggregate(StreamId("other-1"), ["tests.web.cli.reading.shelves:RegisterActor"]).name
    )


async def test_what_cannot_be_read_is_passed_over() -> None:
    # CLI-3
    store, fold = MemoryEventStore(), AggregateFold(Shelf())
    await store.append(SHELF, [new_event(b"no json", type="BookPlaced")])
    await store.append(SHELF, [TYPES.encode(BookPlaced("Dune"), event_id=uuid4())])
    async with aclosing(Tape(store, SHELF, fold)) as tape:
        found = [one for version in (1, 2) if (one := await tape.at(version)) is not None]
    assert [bool(one.problem) for one in found] == [True, False]
    told = Seen(fold).lines(found[0])
    assert "no json" in told[0]
    assert "passed over" in told[1]


async def test_keys_come_from_a_terminal_which_is_left_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # CLI-3
    person, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    try:
        with Keys(terminal) as keys:
            assert not termios.tcgetattr(terminal)[3] & termios.ICANON
            os.write(person, b"ng1x\x7f2\n/caf\xc3\xa9\n")
            assert (await keys.key(), await keys.key()) == ("n", "g")
            assert await keys.line("go to version: ") == "12"
            assert await keys.key() == "/"
            assert await keys.line("filter: ") == "café"
            os.write(person, b"\x04")
            assert await keys.key() == ""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keys.key)  # who is asked waits, and can be let go
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(person)
        os.close(terminal)
    assert "go to version: 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"a": 1}, {"a": 1}, ["nothing is otherwise"]),
        ({"a": 1}, {"a": 2, "b": [1]}, ["  a: 1 -> 2", "+ b: [1]"]),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1]}}, ['- a.b[1]: {"c":2}']),
        ({"a": 1}, {"a": True}, ["  a: 1 -> true"]),
        ([], None, ["  (all): [] -> null"]),
        (3, 4, ["  (all): 3 -> 4"]),
    ],
)
def test_differences_are_told_by_their_paths(
    before: object, after: object, lines: list[str]
) -> None:
    # CLI-3
    assert difference_lines(differences(before, after)) == lines
