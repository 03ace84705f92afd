"""Who shares a statement of the bus: with planted statements, on trio alone."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing

from actors.persistence.bus import BusUnavailable
from storage.bus.gathering import (
    BYTES_MAX,
    RECORDS_MAX,
    SHARED_BYTES_MAX,
    SHARED_RECORDS_MAX,
    Publishes,
    Row,
)


def row(value: str, size: int = 0) -> Row:
    return Row("orders", 0, "k", value.encode(), "x" * size)


class _Statements:
    """Notes each statement, which lands when `gate` opens; refuses those with a value."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery: trio.Nursery | None = nursery
        self.sent: list[list[str]] = []
        self.gate, self.refused = trio.Event(), ""
        self.failure: Exception | None = None
        self.publishes = Publishes(self, self.send)
        self.told: dict[str, str] = {}
        self.order: list[str] = []

    def start_soon(self, task: Callable[[], Awaitable[object]]) -> bool:
        if self.nursery is None:
            return False
        self.nursery.start_soon(task)
        return True

    async def send(self, rows: Sequence[Row]) -> None:
        values = [one.value.decode() for one in rows]
        self.sent.append(values)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if self.refused in values:
            raise ValueError(self.refused)

    async def publish(self, *rows: Row) -> None:
        name = rows[0].value.decode()
        try:
            await self.publishes.publish(rows)
        except (BusUnavailable, ValueError) as error:
            self.told[name] = type(error).__name__
        else:
            self.told[name] = "kept"

    async def begin(self, nursery: trio.Nursery, *rows: Row) -> None:
        """Have the first leave, and each of the others wait behind the one before it."""
        for one in rows:
            nursery.start_soon(self.publish, one)
            await trio.testing.wait_all_tasks_blocked()


async def test_who_comes_meanwhile_leaves_together_in_its_order() -> None:
    # PERF-57
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        await statements.begin(nursery, *(row(str(n)) for n in range(5)))
        assert statements.sent == [["0"]]
        statements.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert statements.sent == [["0"], ["1", "2", "3", "4"]]
        assert set(statements.told.values()) == {"kept"}
        await statements.publish(row("5"))
        assert statements.sent[-1] == ["5"]
        told = statements.publishes.statistics()
        assert (told.singles, told.statements, told.rows, told.waiting) == (2, 1, 4, 0)


async def test_a_statement_is_bounded() -> None:
    # PERF-57
    big = SHARED_BYTES_MAX - 10
    fits = BYTES_MAX // SHARED_BYTES_MAX
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        await statements.begin(nursery, row("0"), *(row(str(n), big) for n in range(fits + 1)))
        # What is a batch already waits for nobody.
        await statements.begin(nursery, row("alone", SHARED_BYTES_MAX))
        assert [len(one) for one in statements.sent] == [1, 1]
        statements.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [len(one) for one in statements.sent] == [1, 1, fits, 1]
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        await statements.begin(nursery, row("first"))
        whole = RECORDS_MAX // SHARED_RECORDS_MAX
        for n in range(whole + 1):
            nursery.start_soon(statements.publish, *[row(str(n))] * SHARED_RECORDS_MAX)
        await trio.testing.wait_all_tasks_blocked()
        statements.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [len(one) for one in statements.sent] == [1, RECORDS_MAX, SHARED_RECORDS_MAX]


async def test_who_is_cancelled_before_it_left_publishes_nothing() -> None:
    # BUS-1
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        await statements.begin(nursery, row("0"), row("1"))
        async with trio.open_nursery() as leaving:
            await statements.begin(leaving, row("2"))
            leaving.cancel_scope.cancel()
        await statements.begin(nursery, row("3"))
        statements.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert statements.sent == [["0"], ["1", "3"]]
        assert statements.told == {"0": "kept", "1": "kept", "3": "kept"}
    # The one that left first is cancelled: those behind it go on.
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        async with trio.open_nursery() as leaving:
            await statements.begin(leaving, row("0"))
            await statements.begin(nursery, row("1"), row("2"))
            leaving.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert statements.sent == [["0"], ["1", "2"]]
        statements.gate.set()


async def test_one_that_is_refused_takes_no_other_with_it() -> None:
    # BUS-1
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        statements.refused = "2"
        await statements.begin(nursery, *(row(str(n)) for n in range(4)))
        statements.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert statements.sent[:2] == [["0"], ["1", "2", "3"]]
        assert sorted(statements.sent[2:]) == [["1"], ["2"], ["3"]]
        assert statements.told == {"0": "kept", "1": "kept", "2": "ValueError", "3": "kept"}


async def test_a_bus_that_is_away_is_told_to_each_by_an_error_of_its_own() -> None:
    # BUS-9
    async with trio.open_nursery() as handle:
        statements = _Statements(handle)
        statements.failure = BusUnavailable("away")
        raised: list[BusUnavailable] = []

        async def publish(n: int) -> None:
            with pytest.raises(BusUnavailable, match="away") as caught:
                await statements.publishes.publish([row(str(n))])
            raised.append(caught.value)

        async with trio.open_nursery() as nursery:
            for n in range(4):
                nursery.start_soon(publish, n)
            await trio.testing.wait_all_tasks_blocked()
            statements.gate.set()
        assert len({id(one) for one in raised}) == 4
        assert len(statements.sent) == 2


async def test_when_the_loop_ends_nobody_waits_for_ever() -> None:
    # BUS-9
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as handle:
            statements = _Statements(handle)
            await statements.begin(nursery, row("0"), row("1"), row("2"))
            gate, statements.gate = statements.gate, trio.Event()
            gate.set()
            await trio.testing.wait_all_tasks_blocked()
            await statements.begin(nursery, row("3"))
            assert statements.sent == [["0"], ["1", "2"]]
            handle.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        # Under way when it ended: not known; behind that: never sent.
        assert statements.told == {"0": "kept", **dict.fromkeys("123", "BusUnavailable")}
        # Without a loop nobody waits for company: each finds out by itself.
        statements.nursery = None
        await statements.begin(nursery, row("4"), row("5"))
        assert statements.sent[2:] == [["4"], ["5"]]
        statements.gate.set()


async def test_one_that_is_cancelled_when_sent_is_told_what_became_of_it() -> None:
    # BUS-1
    async with trio.open_nursery() as handle, trio.open_nursery() as nursery:
        statements = _Statements(handle)
        await statements.begin(nursery, row("0"))
        async with trio.open_nursery() as leaving:
            await statements.begin(leaving, row("1"))
            await statements.begin(nursery, row("2"))
            gate, statements.gate = statements.gate, trio.Event()
            gate.set()
            await trio.testing.wait_all_tasks_blocked()
            leaving.cancel_scope.cancel()
            statements.gate.set()
        assert statements.sent == [["0"], ["1", "2"]]
        assert statements.told["1"] == "kept"
        await trio.testing.wait_all_tasks_blocked()
        assert statements.told["2"] == "kept"
