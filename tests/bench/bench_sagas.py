"""What a saga costs: the hop from a stored reply to the next command, whole sagas, resuming.

PERF-56, SAGA-7, SAGA-15, on an embedded server of its own with fsync on. The participant
runs in this process, as do the relay and the sagas: all on one core, beside the server.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import trio

from actors.persistence import Appended, AppendRequest, NewEvent, StreamId
from actors.reducers import Environment
from actors.sagas import Outcome, SagaCommand, SagaIndex, Succeeded
from storage.postgres import Database, PostgresEventStore, migrate, open_database
from storage.postgres.embedded.server import start
from tests.actors.sagas.checkouts import Basket, Paid, Placed, Purchase
from tests.actors.sagas.desks import Desk, Player, open_desk
from tests.actors.sagas.shops import Plan, World, postgres_world
from tests.bench.rows import Row, row
from web.app import spare_what_stays
from web.wiring.environment import SystemClock, SystemIds

_RUNS = 3
_ALONE, _TOGETHER, _RESUMED = 50, 100, 1000


ANSWERS: dict[str, Callable[[SagaCommand], Outcome | None]] = {
    "place": lambda _: Succeeded(Placed(1)),
    "pay": lambda _: Succeeded(Paid("p")),
    "reserve": lambda _: Succeeded(),
}


class _Timed(Player):
    """Notes when the append was stored behind which each command came.

    Answers at once, or, with `later`, hands the command to whoever answers in a while.
    """

    def __init__(self, later: Callable[[SagaCommand], None] | None = None) -> None:
        super().__init__(ANSWERS)
        self.stored: dict[str, float] = {}
        self.hops: list[float] = []
        self.later = later

    async def __call__(self, command: SagaCommand) -> Outcome | None:
        now = time.perf_counter()
        if command.step != "place":
            self.hops.append((now - self.stored[command.saga]) * 1e3)
        if self.later is not None:
            self.later(command)
            return None
        return await super().__call__(command)


class _Events(PostgresEventStore):
    """Notes when a saga's append is stored, and when a saga is over."""

    timed: _Timed
    ended: dict[str, float]
    over: trio.Event

    async def append_request(self, request: AppendRequest) -> Appended:
        appended = await super().append_request(request)
        now = time.perf_counter()
        self.timed.stored[request.stream_id] = now
        if request.events[-1].type == "SagaCompleted":
            self.ended[request.stream_id] = now
            self.over.set()
            self.over = trio.Event()
        return appended


def _world(database: Database, timed: _Timed) -> World:
    world = postgres_world(database)
    # As a site's: the tests' ask the system for the chance of each id, and wait for the driver.
    world.env = Environment(SystemClock(), SystemIds())
    events = _Events(database, inline=[SagaIndex()])
    events.timed, events.ended, events.over = timed, {}, trio.Event()
    world.events = events
    world.set_plan = lambda plan: setattr(world.outbox, "plan", Plan())
    return world


async def _play(database: Database, count: int, *, together: bool) -> tuple[list[float], ...]:
    """Milliseconds of all hops, of each saga from start to end, and of processor time for one."""
    timed = _Timed()
    world = _world(database, timed)
    events = world.events
    assert isinstance(events, _Events)
    began: dict[str, float] = {}

    async def one(desk: Desk, name: str) -> None:
        began[f"purchase-{name}"] = time.perf_counter()
        await desk.sagas.start(Purchase, Basket("o", "c", 5), name=name)
        if not together:
            await all_over()

    async def all_over() -> None:
        while not set(began) <= set(events.ended):
            await events.over.wait()

    prefix = str(time.time_ns())
    async with open_desk(world, timed, Purchase) as desk:
        await one(desk, f"{prefix}-warm")
        await all_over()
        timed.hops.clear()
        began.clear()
        spent = time.process_time()
        async with trio.open_nursery() as nursery:
            for number in range(count):
                if together:
                    nursery.start_soon(one, desk, f"{prefix}-{number}")
                else:
                    await one(desk, f"{prefix}-{number}")
        await all_over()
        spent = time.process_time() - spent
    whole = [(events.ended[name] - at) * 1e3 for name, at in began.items()]
    return timed.hops, whole, [spent * 1e3 / count]


async def _bare(database: Database) -> list[float]:
    """Milliseconds of a hundred appends of one small event, each to a new stream, at once."""
    store, prefix, took = PostgresEventStore(database), str(time.time_ns()), list[float]()

    async def one(number: int) -> None:
        stream = StreamId(f"bare-{prefix}-{number}")
        event = NewEvent(uuid4(), "Noted", b"{}")
        began = time.perf_counter()
        await store.append_request(AppendRequest(stream, [event], 0))
        took.append((time.perf_counter() - began) * 1e3)

    async with trio.open_nursery() as nursery:
        for number in range(_TOGETHER):
            nursery.start_soon(one, number)
    return took


async def _in_flight(database: Database) -> list[float]:
    """Milliseconds of the hops of a hundred sagas whose steps each take up to two seconds."""
    chance = random.Random(7)
    async with trio.open_nursery() as nursery:
        timed = _Timed(lambda command: nursery.start_soon(answer, command))
        world = _world(database, timed)
        events, prefix = world.events, str(time.time_ns())
        assert isinstance(events, _Events)

        async def answer(command: SagaCommand) -> None:
            await trio.sleep(chance.uniform(0, 2))
            found = ANSWERS[command.step](command)
            assert found is not None
            await desk.sagas.reply(command, found)

        async with open_desk(world, timed, Purchase) as desk:
            for number in range(_TOGETHER):
                await desk.sagas.start(Purchase, Basket("o", "c", 5), name=f"{prefix}-{number}")
            while len(events.ended) < _TOGETHER:
                await events.over.wait()
    return timed.hops


async def _resumed(database: Database) -> float:
    """Seconds to resume a thousand sagas that wait for an answer."""
    player = Player({"place": lambda _: None})
    world = postgres_world(database)
    limit = trio.CapacityLimiter(50)
    async with open_desk(world, player, Purchase) as desk, trio.open_nursery() as nursery:
        for number in range(_RESUMED):
            nursery.start_soon(_begin, desk, number, limit)
    world = postgres_world(database)
    async with open_desk(world, player, Purchase) as desk:
        began = time.perf_counter()
        resumed = await desk.sagas.resume(world.index)
        took = time.perf_counter() - began
        assert resumed.woken >= _RESUMED
        assert not resumed.failed
    return took


async def _begin(desk: Desk, number: int, limit: trio.CapacityLimiter) -> None:
    async with limit:
        key = f"{number}-{time.time_ns()}"
        await desk.sagas.start(Purchase, Basket("o", "c", 5), key=key)


def _on_server(work: Callable[[Database], Awaitable[list[Row]]]) -> list[Row]:
    async def main(url: str) -> list[Row]:
        async with open_database(url, part="bench") as database:
            await migrate(database)
            return await work(database)

    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            return trio.run(main, server.url)
        finally:
            server.stop()


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def sagas() -> list[Row]:
    """The hop and the whole, alone and a hundred at once; a thousand resumed."""

    async def work(database: Database) -> list[Row]:
        await _play(database, _TOGETHER, together=True)
        spare_what_stays()  # as a site does
        alone = [await _play(database, _ALONE, together=False) for _ in range(_RUNS)]
        many = [await _play(database, _TOGETHER, together=True) for _ in range(_RUNS)]
        bare = [await _bare(database) for _ in range(_RUNS)]
        flight = [await _in_flight(database) for _ in range(_RUNS)]
        resumed = [await _resumed(database) for _ in range(_RUNS)]
        return [
            row("PERF-56 saga hop, one saga, p99", "ms", [_p99(hops) for hops, _, _ in alone]),
            row(
                "PERF-56 saga hop, 100 sagas whose steps take 0 to 2 s, p99",
                "ms",
                [_p99(hops) for hops in flight],
                target="p99 <= 25 ms",
                is_lower_better=True,
            ),
            row(
                "PERF-56 saga hop, 100 sagas begun in one moment, p99",
                "ms",
                [_p99(hops) for hops, _, _ in many],
                target="p99 <= 25 ms",
                is_lower_better=True,
            ),
            row(
                "PERF-56 saga of 3 steps end to end, 100 in one moment, p99",
                "ms",
                [_p99(whole) for _, whole, _ in many],
                target="p99 <= 150 ms",
                is_lower_better=True,
            ),
            row(
                "100 bare appends in one moment, of which a saga of 3 steps makes 4 in turn, p99",
                "ms",
                [_p99(took) for took in bare],
                is_lower_better=True,
            ),
            row(
                "processor time of this process for a saga of 3 steps, 100 in one moment",
                "ms",
                [spent for _, _, (spent,) in many],
                is_lower_better=True,
            ),
            row("SAGA-7 1000 sagas resumed", "s", resumed, target="<= 5 s", is_lower_better=True),
        ]

    return _on_server(work)


benchmarks = [sagas]
