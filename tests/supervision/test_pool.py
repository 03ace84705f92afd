"""One ref for several workers: who gets a message, and what becomes of it when workers end."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    Ask,
    ByName,
    DeadlockError,
    Exit,
    Later,
    MailboxFull,
    NoProc,
    Ref,
    UnhandledMessage,
    WrongActor,
    message,
)
from actors.runtime.life.cell import cell_of
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    Simulation,
    raising,
    sleeping,
)
from supervision import (
    Backoff,
    ChildSpec,
    Flags,
    Plan,
    Pool,
    Route,
    Router,
    SpecError,
    StartFailed,
    Supervisor,
    administer,
    by_key,
    child,
    open_system,
    router,
    router_method,
)
from supervision.partition import partition_of

# To the type checker both kinds are the same.
WAITING = cast("type[Puppet]", AsyncPuppet)
settle = trio.testing.wait_all_tasks_blocked


@pytest.fixture(params=[Puppet, AsyncPuppet], ids=["def", "async"])
def puppet(request: pytest.FixtureRequest) -> type[Puppet]:
    """Give both kinds of workers in turn."""
    kind: type[Puppet] = request.param
    return kind


class Shop(Supervisor, intensity=100):
    """A supervisor whose one child is a router."""

    workers = router(Puppet, size=1)


def shop_of(
    kind: type[Puppet],
    log: list[object],
    size: int,
    route: Route[PuppetMessage] = "round_robin",
    backoff: Backoff | None = None,
) -> type[Shop]:
    """Give a shop with workers of that kind that share a log."""
    options = {} if backoff is None else {"backoff": backoff}

    class Made(Shop, intensity=100):
        workers = router(kind, log, size=size, route=route, intensity=100, **options)

    Made.__name__ = "Shop"
    return Made


def mine(me: AnyPuppet) -> object:
    """What a worker answers with: its number."""
    return int(me.path.rpartition("/")[2])


async def answers(workers: Router[PuppetMessage], count: int) -> list[object]:
    return [await workers.ask(Call(mine)) for _ in range(count)]


def number_of(message: PuppetMessage) -> str:
    """Give the key of a note, and no key for anything else."""
    assert isinstance(message, Note)
    return str(message.text)


def who_noted(workers: Router[PuppetMessage]) -> dict[object, set[object]]:
    """For each text the workers that have noted it; they must not share a log."""
    found: dict[object, set[object]] = {}
    for number, ref in enumerate(workers.workers):
        life = cell_of(ref).life
        assert life is not None
        assert isinstance(life.instance, Puppet | AsyncPuppet)
        for text in life.instance.log:
            found.setdefault(text, set()).add(number)
    return found


# What it is


@message
class Price(Ask[int]):
    item: str


class Clerk(Actor[Price]):
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def on_price(self, message: Price) -> int:
        return self.factor * len(message.item)


def item_of(message: Price) -> str:
    return message.item


class Typed(Supervisor):
    """As an author writes it, with the types that a checker sees."""

    clerks = router(Clerk, 2, size=3, route="least_busy", restart="transient", name="clerks")
    named = router(Clerk, factor=7).options(size=2)
    keyed = router(Clerk, 3, size=2, route=by_key(item_of))

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @router_method(size=2, route="round_robin")
    def made(self) -> Clerk:
        return Clerk(self.factor)


async def test_it_reads_as_one_typed_ref(autojump_clock: MockClock) -> None:
    # SUP-53
    async with open_system(Typed, 5) as shop:
        clerks: Router[Price] = shop.clerks
        plain: Ref[Price] = clerks
        price: int = await plain.ask(Price("chair"))
        assert (price, await shop.keyed.ask(Price("oak")), await shop.made.ask(Price("x"))) == (
            10,
            9,
            5,
        )
        assert await shop.named.ask(Price("chair")) == 35
        assert (clerks.path, repr(clerks)) == ("typed/clerks", f"<Router {clerks.path}#2 running>")
        # One object, wherever it is got from.
        assert shop.system.whereis("clerks") is clerks is shop.clerks
        assert shop.system.whereis("clerks", Clerk) is clerks
        assert await ByName("clerks", Clerk).ask(Price("chair")) == 10
        with pytest.raises(WrongActor):
            shop.system.whereis("clerks", Puppet)
        # A supervised actor in the tree, with workers that are children of it.
        assert [ref.path for ref in clerks.workers] == [f"typed/clerks/{n}" for n in range(3)]
        assert clerks.size == 3
        children = await administer(clerks).which_children()  # type: ignore[attr-defined]
        assert [(one.id, one.restart) for one in children] == [
            (str(n), "transient") for n in range(3)
        ]
        stats = shop.system.stats(clerks)
        # It routes where it is asked: the supervisor itself has had nothing to do.
        assert (stats.status, stats.handled) == ("running", 0)


async def test_workers_restart_alone(autojump_clock: MockClock, puppet: type[Puppet]) -> None:
    # SUP-53
    async with open_system(shop_of(puppet, [], 3)) as shop:
        workers, kept = shop.workers, shop.workers.workers
        kept[1].tell(Do(raising(OSError())))
        await settle()
        assert (shop.workers, shop.workers.workers) == (workers, kept)
        assert [await ref.ask(Call(lambda me: me.incarnation)) for ref in kept] == [1, 2, 1]
        assert sorted(map(str, await answers(workers, 3))) == ["0", "1", "2"]


# Who gets a message


async def test_in_turn(autojump_clock: MockClock, puppet: type[Puppet]) -> None:
    """Who does not run is passed over; when nobody runs, messages wait for those that come back."""
    # SUP-54
    log: list[object] = []
    async with open_system(shop_of(puppet, log, 3, backoff=Backoff(10, 10, jitter=0))) as shop:
        workers = shop.workers
        assert await answers(workers, 4) == [0, 1, 2, 0]
        workers.workers[2].tell(Do(raising(OSError())))
        await settle()
        assert cell_of(workers.workers[2]).status == "backing_off"
        assert await answers(workers, 4) == [1, 0, 1, 0]
        for ref in workers.workers[:2]:
            ref.tell(Do(raising(OSError())))
        await settle()
        for number in range(3):
            workers.tell(Note(number))
        assert await workers.ask(Call(lambda me: me.incarnation), timeout=20) == 2
        await trio.sleep(20)
        assert sorted(map(str, log)) == ["0", "1", "2"]
        assert sorted(map(str, await answers(workers, 3))) == ["0", "1", "2"]


async def test_the_least_busy(autojump_clock: MockClock) -> None:
    # SUP-54
    async with open_system(shop_of(WAITING, [], 3, "least_busy")) as shop:
        workers = shop.workers
        # Of equals the next one.
        assert Counter(await answers(workers, 6)) == {0: 2, 1: 2, 2: 2}
        busy = workers.workers[1]
        busy.tell(Do(sleeping(5)))
        await settle()
        assert Counter(await answers(workers, 6)) == {0: 3, 2: 3}
        # All are at work: now what is queued counts as well, and what is in hand.
        for ref in (workers.workers[0], workers.workers[2]):
            ref.tell(Do(sleeping(5)))
        await settle()
        workers.workers[0].tell(Note("one more"))
        for _ in range(2):
            workers.tell(Note("x"))
        queued = [cell_of(ref).mailbox.queued for ref in workers.workers]
        assert queued == [1, 1, 1]
        for _ in range(3):
            workers.tell(Note("x"))
        assert [cell_of(ref).mailbox.queued for ref in workers.workers] == [2, 2, 2]


async def test_what_is_in_hand_counts_as_much_as_what_is_queued(
    autojump_clock: MockClock,
) -> None:
    # SUP-54
    async with open_system(shop_of(WAITING, [], 2, "least_busy")) as shop:
        workers = shop.workers
        workers.tell(Do(sleeping(5)))
        await settle()
        first, second = workers.workers
        second.tell(Note("queued"))
        # Both have one message now: it is the turn of the second.
        workers.tell(Note("x"))
        assert [cell_of(ref).mailbox.queued for ref in (first, second)] == [0, 2]


async def test_who_waits_for_room_counts_too(autojump_clock: MockClock) -> None:
    # SUP-54
    class Narrow(AsyncPuppet):
        capacity = 1

    async with open_system(shop_of(cast("type[Puppet]", Narrow), [], 2, "least_busy")) as shop:
        for count in (2, 2):
            for _ in range(count):
                shop.workers.tell(Do(sleeping(5)))
            await settle()
        first, second = shop.workers.workers
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.send, Note("waits"))
            await settle()
            nursery.start_soon(shop.workers.send, Note("goes to the other"))
            nursery.start_soon(partial(shop.workers.ask, Call(mine), timeout=None))
            await settle()
            waiting = [cell_of(ref).mailbox.waiting_senders for ref in (first, second)]
            assert sorted(waiting) == [1, 2]
            assert cell_of(second).mailbox.waiting_senders


async def test_many_at_once_are_spread_evenly(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    """Told in one turn of the loop, before any worker has handled one."""
    # SUP-54
    async with open_system(shop_of(puppet, [], 4, "least_busy")) as shop:
        for _ in range(100):
            shop.workers.tell(Do(lambda me: None))
        assert [cell_of(ref).mailbox.queued for ref in shop.workers.workers] == [25] * 4


async def test_one_worker_a_key(autojump_clock: MockClock, puppet: type[Puppet]) -> None:
    """The same one for all time, in order; it is waited for while it is being restarted."""
    # SUP-54
    log: list[object] = []
    kind = shop_of(puppet, log, 4, by_key(number_of), Backoff(10, 10, jitter=0))
    async with open_system(kind) as shop:
        workers = shop.workers
        for number in range(40):
            workers.tell(Note(number))
            assert cell_of(workers.workers[partition_of(str(number), 4)]).mailbox.queued > 0
        await settle()
        own = workers.workers[partition_of("7", 4)]
        own.tell(Do(raising(OSError())))
        await settle()
        for _ in range(2):
            workers.tell(Note(7))
        await trio.sleep(1)
        assert (log.count(7), cell_of(own).mailbox.queued) == (1, 2)
        await trio.sleep(20)
        assert (log.count(7), len(shop.system.dead_letters)) == (3, 1)


async def test_a_key_that_raises_whatever_concerns_its_message_alone(
    autojump_clock: MockClock,
) -> None:
    # SUP-54, ACT-5, ACT-30
    class Own(BaseException):
        """None that is caught by `except Exception`."""

    def fails(_: object) -> str:
        raise Own

    async with open_system(shop_of(Puppet, [], 2, by_key(fails))) as shop:
        shop.workers.tell(Do(lambda me: None))
        with pytest.raises(UnhandledMessage) as caught:
            await shop.workers.ask(Call(mine))
        assert isinstance(caught.value.__cause__, Own)
        await settle()
        assert [letter.reason for letter in shop.system.dead_letters] == ["unhandled"]


async def test_a_message_without_its_key_is_unhandled(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # SUP-54
    async with open_system(shop_of(puppet, [], 2, by_key(number_of))) as shop:
        with pytest.raises(UnhandledMessage) as caught:
            await shop.workers.ask(Call(mine))
        assert caught.value.path == "shop/workers"
        assert isinstance(caught.value.__cause__, AssertionError)
        with pytest.raises(UnhandledMessage):
            await shop.workers.send(Call(mine))
        shop.workers.tell(Do(lambda me: None))
        await settle()
        assert [letter.reason for letter in shop.system.dead_letters] == ["unhandled"]
        assert shop.system.stats(shop.workers).incarnation == 1


# Nobody left


async def test_with_nobody_left_everybody_is_told(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # SUP-55
    class Mortal(Supervisor):
        workers = router(puppet, size=2, restart="temporary")
        keyed = router(puppet, size=2, restart="temporary", route=by_key(number_of))

    async with open_system(Mortal) as shop:
        for workers in (shop.workers, shop.keyed):
            first, second = workers.workers
            first.tell(Do(raising(OSError())))
            await settle()
            assert workers.workers == [second]
            second.kill()
            await shop.system.wait_down(second)
            assert workers.workers == []
            with pytest.raises(NoProc, match="ended for good") as caught:
                await workers.ask(Note("a"))  # type: ignore[arg-type]  # any message will do
            gone = workers.path if workers is shop.workers else f"{workers.path}/1"
            assert caught.value.path == gone
            with pytest.raises(NoProc):
                await workers.send(Note("a"))
            before = len(shop.system.dead_letters)
            workers.tell(Note("a"))
            await settle()
            letter = list(shop.system.dead_letters)[-1]
            assert len(shop.system.dead_letters) == before + 1
            assert (letter.path, letter.reason) == (workers.path, "no_such_actor")
        # A worker of the same number is found again.
        handle = administer(shop.workers)
        assert isinstance(handle, Pool)
        assert (await handle.which_children()) == []


async def test_a_worker_that_was_stopped_by_hand_may_come_back(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # SUP-55
    async with open_system(shop_of(puppet, [], 2)) as shop:
        pool = administer(shop.workers)
        assert isinstance(pool, Pool)
        await pool.terminate_child("0")
        assert await answers(shop.workers, 2) == [1, 1]
        await pool.restart_child("0")
        assert Counter(await answers(shop.workers, 4)) == {0: 2, 1: 2}
        # Stopped, and then too many; and in the way of the one that comes again.
        await pool.terminate_child("1")
        await shop.workers.resize(1)
        assert [one.id for one in await pool.which_children()] == ["0"]
        await shop.workers.resize(2)
        await pool.terminate_child("1")
        await pool.terminate_child("0")
        with pytest.raises(NoProc):
            await shop.workers.ask(Call(mine))
        await pool.restart_child("0")
        assert await answers(shop.workers, 2) == [0, 0]


async def test_a_stop_of_the_router_is_one_of_all(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # SUP-55
    async with open_system(shop_of(puppet, [], 2)) as shop:
        workers, first = shop.workers, shop.workers.workers[0]
        await administer_root(shop).terminate_child("workers")
        for ref in (workers, first):
            with pytest.raises(NoProc):
                await ref.ask(Call(mine))
        with pytest.raises(NoProc):
            _ = workers.size
        assert workers._pool is None  # Nothing is left of it.
        workers.tell(Note("x"))
        assert [letter.reason for letter in shop.system.dead_letters] == ["no_such_actor"]


def administer_root(shop: Shop) -> Supervisor:
    """Give the handle of the root, for its calls."""
    return shop


# The pool's own ends


async def test_the_router_outlives_a_restart_of_its_pool(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    """Its workers are other actors then; what comes meanwhile waits, and stays in order."""
    # SUP-55
    log: list[object] = []

    class Fragile(Supervisor, intensity=10):
        workers = router(puppet, log, size=2, route=by_key(lambda m: "all"), intensity=0)

    async with open_system(Fragile) as shop:
        workers, before = shop.workers, shop.workers.workers
        workers.tell(Do(raising(OSError())))
        workers.tell(Note("lost with its worker"))
        await settle()
        assert shop.workers is workers
        assert shop.system.stats(workers).incarnation == 2
        assert not set(before) & set(workers.workers)
        workers.tell(Note("new"))
        await settle()
        assert log == ["new"]

        await shop.system.suspend(workers)
        # More than the pool passes on in one turn.
        for number in range(200):
            workers.tell(Note(number))
        await settle()
        assert log == ["new"]
        resumed = partial(shop.system.resume, workers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resumed)
            for number in range(200, 220):
                workers.tell(Note(number))
                await trio.lowlevel.checkpoint()
        await settle()
        assert log == ["new", *range(220)]


async def test_an_ask_that_waits_for_the_pool_is_answered_by_a_worker(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # SUP-55
    async with open_system(shop_of(puppet, [], 2)) as shop:
        await shop.system.suspend(shop.workers)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def asks() -> None:
                assert await shop.workers.ask(Call(mine)) in (0, 1)

            await settle()
            await shop.system.resume(shop.workers)


# By other ways than the router


async def test_whatever_way_it_comes(autojump_clock: MockClock, puppet: type[Puppet]) -> None:
    """A topic, passing on, many at once, a thread, a name, a timer, a pool made by a function."""
    # SUP-53
    log: list[object] = []

    class Front(Actor[Call]):
        def on_call(self, message: Call) -> Later[object]:
            return self.forward(shop.workers, message)

    def made() -> Pool[PuppetMessage]:
        return Pool(ChildSpec("worker", partial(puppet, log)), 2)

    class Both(Shop, intensity=100):
        workers = router(puppet, log, size=2, name="workers")

        def plan(self) -> Plan:
            plan = super().plan()
            assert isinstance(plan, Plan)
            return Plan(Flags(), [*plan.specs, ChildSpec("made", made, type="supervisor")])

    async with open_system(Both) as shop:
        system, workers = shop.system, shop.workers
        system.topics.subscribe("news", workers)
        assert system.topics.publish("news", Note("by topic")) == 1
        front = await system.start(Front)
        assert await front.ask(Call(mine)) in (0, 1)
        replies, none = await system.ask_all([workers], Call(mine), timeout=1)
        assert (list(replies), none) == ([workers], [])
        await trio.to_thread.run_sync(system.portal.send, workers, Note("by thread"))
        by_name = ByName("workers", puppet, system=system)
        by_name.tell(Note("by name"))
        await by_name.send(Note("sent by name"))
        assert await by_name.ask(Call(mine)) in (0, 1)
        plain: Ref[PuppetMessage] = shop.ref_of("made")  # type: ignore[assignment]
        assert not isinstance(plain, Router)
        plain.tell(Note("by its mailbox"))
        assert await plain.ask(Call(mine)) in (0, 1)
        await settle()
        assert sorted(map(str, log)) == [
            "by its mailbox",
            "by name",
            "by thread",
            "by topic",
            "sent by name",
        ]
        # Only the topic went by the mailbox of the pool itself.
        assert system.stats(workers).handled == 1


async def test_a_send_waits_for_the_worker_it_is_for(autojump_clock: MockClock) -> None:
    # SUP-54
    class Narrow(AsyncPuppet):
        capacity = 1

    class Tight(Supervisor):
        workers = router(Narrow, size=1)

    async with open_system(Tight) as shop:
        shop.workers.tell(Do(sleeping(5)))
        await settle()
        await shop.workers.send(Note("fills it"))
        with pytest.raises(MailboxFull) as caught:
            await shop.workers.send(Note("too much"), timeout=1)
        assert caught.value.path == "tight/workers/0"
        await shop.workers.send(Note("in time"))
        assert trio.current_time() == 5


async def test_a_ring_through_a_router_is_seen(autojump_clock: MockClock) -> None:
    # ACT-35
    async with open_system(shop_of(WAITING, [], 1)) as shop:

        async def asks_itself(me: AnyPuppet) -> object:
            with pytest.raises(DeadlockError) as caught:
                await shop.workers.ask(Call(mine))
            return caught.value.cycle

        cycle = await shop.workers.ask(Call(asks_itself))
        assert cycle == ("shop/workers/0", "shop/workers/0")


# Another number of workers


async def test_it_grows_and_shrinks_while_it_runs(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    """Those that are too many handle what they have, and are not started again."""
    # SUP-55
    log: list[object] = []
    async with open_system(shop_of(puppet, log, 2)) as shop:
        workers = shop.workers
        await workers.resize(4)
        assert (workers.size, [ref.path for ref in workers.workers]) == (
            4,
            [f"shop/workers/{n}" for n in range(4)],
        )
        assert Counter(await answers(workers, 8)) == {0: 2, 1: 2, 2: 2, 3: 2}
        last = workers.workers[-1]
        for number in range(50):
            last.tell(Note(number))
        await workers.resize(1)
        assert (workers.size, log) == (1, list(range(50)))
        assert await answers(workers, 3) == [0, 0, 0]
        pool = administer(workers)
        assert isinstance(pool, Pool)
        assert [one.id for one in await pool.which_children()] == ["0"]
        await workers.resize(3)
        assert Counter(await answers(workers, 6)) == {0: 2, 1: 2, 2: 2}
        # What was started later is restarted as all others are.
        workers.workers[2].tell(Do(raising(OSError())))
        await settle()
        assert await workers.workers[2].ask(Call(lambda me: me.incarnation)) == 2
        for size in (0, -1, True, 1.5):
            with pytest.raises(SpecError, match="bad_limit"):
                await workers.resize(size)  # type: ignore[arg-type]


async def test_somebody_who_loses_patience_with_a_change_of_size(
    autojump_clock: MockClock,
) -> None:
    # SUP-55
    log: list[object] = []
    slow_start = False

    async def start(me: AnyPuppet) -> None:
        if slow_start:
            await trio.sleep(2)

    class Slow(Supervisor):
        workers = router(AsyncPuppet, log, start, size=2)

    async with open_system(Slow) as shop:
        workers = shop.workers
        workers.workers[1].tell(Do(sleeping(3)))
        workers.workers[1].tell(Note("handled"))
        await settle()
        with trio.move_on_after(1):
            await workers.resize(1)
        assert (workers.size, log) == (1, [])
        # It waits for the end of the one before.
        await workers.resize(2)
        assert (trio.current_time(), log, workers.size) == (3, ["handled"], 2)
        slow_start = True
        with trio.move_on_after(1):
            await workers.resize(4)
        assert workers.size == 2
        await trio.sleep(5)
        began = trio.current_time()
        await workers.resize(4)
        # The one that was begun is there already.
        assert (workers.size, trio.current_time() - began) == (4, 2)
        assert Counter(await answers(workers, 8)) == {0: 2, 1: 2, 2: 2, 3: 2}


async def test_workers_that_do_not_start(autojump_clock: MockClock, puppet: type[Puppet]) -> None:
    # SUP-55
    fails = False

    def start(_: AnyPuppet) -> None:
        if fails:
            raise OSError

    class Picky(Supervisor):
        workers = router(puppet, None, start, size=1)

    async with open_system(Picky) as shop:
        fails = True
        with pytest.raises(StartFailed):
            await shop.workers.resize(3)
        assert (shop.workers.size, await answers(shop.workers, 2)) == (1, [0, 0])
    with pytest.raises(StartFailed):
        async with open_system(Picky):
            raise AssertionError


def test_a_simulated_run_with_a_router_can_be_repeated() -> None:
    # SUP-53
    answered: list[list[object]] = []

    async def scenario(sim: Simulation) -> None:
        kind = shop_of(Puppet, [], 3, "least_busy", Backoff(1, 1, jitter=0))
        async with open_system(kind) as shop:
            found = await answers(shop.workers, 3)
            sim.crash(shop.workers.workers[1], OSError())
            for _ in range(10):
                shop.workers.tell(Note("x"))
                found += await answers(shop.workers, 1)
            answered.append(found)

    first, second = (Simulation(seed=7).run(scenario) for _ in range(2))
    assert first == second
    assert answered[0] == answered[1]
    assert len(answered[0]) == 13


def test_what_makes_no_router() -> None:
    # SUP-53
    with pytest.raises(SpecError, match="bad_limit"):
        router(Puppet, size=0)
    with pytest.raises(SpecError, match="bad_route"):
        router(Puppet, size=1, route="random")  # type: ignore[call-overload, call-arg]
    with pytest.raises(SpecError, match="bad_start"):
        router(5, size=1)  # type: ignore[call-overload]
    with pytest.raises(SpecError, match="bad_restart"):

        class Bad(Supervisor):
            w = router(Puppet, size=1, restart="sometimes")  # type: ignore[call-overload, call-arg]

    with pytest.raises(SpecError, match="bad_combination: name"):
        Pool(ChildSpec("worker", Puppet, name="one"), 2)
    with pytest.raises(SpecError, match="bad_combination: significant"):
        Pool(ChildSpec("worker", Puppet, significant=True, restart="transient"), 2)
    with pytest.raises(SpecError, match="bad_intensity"):
        router(Puppet, size=1, intensity=-1)


def test_a_key_is_the_same_everywhere() -> None:
    # SUP-54
    assert [partition_of(key, 4) for key in ("a", "b", "7")] == [3, 1, 2]
    assert by_key(item_of).key(Price("oak")) == "oak"


STOP_S = 20.0


async def sleeps(_: AnyPuppet, __: Exit) -> None:
    await trio.sleep(STOP_S)


class Lasting(Supervisor):
    """A supervisor whose child needs longer to stop than a worker may."""

    only = child(WAITING, stop=sleeps, shutdown=60.0)


def make_lasting() -> Lasting:
    return Lasting()


async def test_a_pool_learns_what_its_factory_makes(autojump_clock: MockClock) -> None:
    # SUP-21: supervisors have all the time they need, also those that a factory has made
    class Root(Supervisor):
        workers = router(make_lasting, size=2)

    async with open_system(Root) as root:
        handle = administer(root.workers)
        assert isinstance(handle, Pool)
        kinds = {one.type for one in await handle.which_children()}
        began = trio.current_time()
    assert kinds == {"supervisor"}
    assert trio.current_time() - began >= STOP_S
