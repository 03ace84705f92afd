"""Sagas as actors, with their outbox and timers: begun, told, asked, timed out, crashed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from math import inf, nan
from typing import ClassVar
from uuid import UUID

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    InvalidField,
    InvalidTenant,
    LookAtOutbox,
    OutboxEntry,
    OutboxRelay,
    StoreUnavailable,
    StreamGone,
)
from actors.persistence.beside_log.cleaning import CleanUp
from actors.runtime import (
    ActorCrashed,
    AskTimeout,
    Context,
    Secret,
    current_context,
    edge_context,
    open_actors,
)
from actors.sagas import (
    ENDED_KEPT,
    PURGED,
    Facts,
    InvalidSagaId,
    InvalidSagaTransition,
    Outcome,
    Refused,
    Saga,
    SagaActor,
    SagaAdministration,
    SagaCommand,
    SagaExists,
    SagaId,
    Sagas,
    SagaState,
    SagaVersionsUnknown,
    SignalRefused,
    Status,
    Succeeded,
    TakeTimer,
    Unavailable,
    UnknownSaga,
    UnknownSagaKind,
    is_moment,
    kind_graph,
    lines,
    step,
    wait,
)
from docs.examples.checkout import ended
from storage.keyring import SubjectKeyring
from storage.memory import MemoryEventStore
from storage.postgres import Database, PostgresSubjectKeys
from supervision import child_method, dynamic_method
from tests.actors.sagas.checkouts import (
    Basket,
    Charge,
    Fulfilment,
    Paid,
    Place,
    Placed,
    Purchase,
    Reserve,
    Unplace,
    refund,
)
from tests.actors.sagas.desks import Desk, Player, Tree, open_desk
from tests.actors.sagas.shops import World, memory_world, postgres_world
from tests.patience import PATIENCE_S, until
from tests.tallied import numbers, times
from web.app import make_cleaner

BASKET = Basket("o-1", "c-1", 500)
ONE = SagaId("purchase", "1")


def _steps(about: Mapping[str, object]) -> list[dict[str, object]]:
    return msgspec.convert(about["steps"], list[dict[str, object]])


async def _is_step_done(desk: Desk, saga: SagaId, step: str) -> bool:
    return (await desk.sagas.query(saga)).step(step).phase == "done"


async def _until(is_so: Callable[[], Awaitable[object]]) -> None:
    while not await is_so():  # noqa: ASYNC110  (virtual time; the store tells nobody)
        await trio.sleep(0.1)


def _player() -> Player:
    return Player(
        {"place": lambda _: Succeeded(Placed(1)), "pay": lambda _: Succeeded(Paid("p-1"))}
    )


async def _is_past(desk: Desk, saga: SagaId, *statuses: Status) -> bool:
    return (await desk.sagas.query(saga)).status not in statuses


async def _has_begun(desk: Desk, saga: SagaId, step: str) -> bool:
    return (await desk.sagas.query(saga)).step(step).phase != "new"


@asynccontextmanager
async def _desk(world: World | None = None) -> AsyncIterator[Desk]:
    async with open_desk(world or memory_world(), _player(), Purchase) as desk:
        yield desk


async def test_a_saga_goes_its_way_through_outbox_and_replies(autojump_clock: MockClock) -> None:
    # SAGA-1, SAGA-2
    async with _desk() as desk:
        saga = await desk.sagas.start(Purchase, BASKET, name="1")
        assert saga == ONE
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        assert desk.player.told == ["place", "pay", "reserve"]
        assert desk.player.got[1].opened() == Charge("o-1", 500)
        assert desk.parts.stats.completed == desk.parts.stats.started == 1
        # OBS-1
        assert numbers(desk.tree.system, "saga_started_total") == {("purchase",): 1}
        assert numbers(desk.tree.system, "saga_finished_total") == {("purchase", "completed"): 1}
        took = times(desk.tree.system, "saga_step_seconds")
        assert took == {("purchase", step): 1 for step in desk.player.told}


@pytest.mark.parametrize(
    ("is_on", "trace", "is_told"),
    [(True, "a" * 31 + "0", True), (True, "a" * 31 + "1", False), (False, "a" * 31 + "0", False)],
)
async def test_how_long_a_step_took_leads_to_its_trace_where_that_is_kept(
    autojump_clock: MockClock, is_on: bool, trace: str, is_told: bool
) -> None:
    # OBS-7
    async with _desk() as desk:
        system = desk.tree.system
        if is_on:
            system.trace()
        with edge_context(Context("c-1", traceparent=f"00-{trace}-{'1' * 16}-01")):
            saga = await desk.sagas.start(Purchase, BASKET, name="1")
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        led = {
            labels[1]: {found[1] for found in one.examples_since(0.0).values()}
            for name, labels, one in system.tallies.histograms()
            if name == "saga_step_seconds"
        }
        assert led == {step: {trace} if is_told else set() for step in desk.player.told}


async def test_all_that_a_saga_does_is_in_the_name_of_who_began_it(
    autojump_clock: MockClock,
) -> None:
    # CORE-30, CORE-31: steps, tries, time-outs and undos, also where nobody records spans
    world, trace = memory_world(), f"00-{'a' * 32}-{'b' * 16}-01"
    async with _desk(world) as desk:
        seen: list[tuple[str, Context | None]] = []
        replies: dict[str, list[Outcome | None]] = {
            "place": [Unavailable("busy"), Succeeded(Placed(1))],
            "pay": [None],
            "undo pay": [Succeeded()],
            "undo place": [Succeeded()],
        }

        def answer(name: str, _: SagaCommand) -> Outcome | None:
            seen.append((name, current_context()))
            return replies[name].pop(0)

        desk.player.rules = {name: partial(answer, name) for name in replies}
        with edge_context(Context("walk-1", traceparent=trace, user_id="ann")):
            saga = await desk.sagas.start(Purchase, BASKET)
        assert await ended(desk.sagas, saga) is Status.FAILED
        assert [name for name, _ in seen] == ["place", "place", "pay", "undo pay", "undo place"]
        told = [
            (one.correlation_id, one.user_id, (one.traceparent or "")[:36])
            for _, one in seen
            if one is not None
        ]
        assert told == [("walk-1", "ann", trace[:36])] * 5
        log = [one.metadata async for one in world.events.load(saga.stream)]
        kept = {(one["correlation_id"], one["user_id"], one["traceparent"][:36]) for one in log}
        assert kept == {("walk-1", "ann", trace[:36])}
        # Each cause is told with its system: in the next life of the program numbers begin anew.
        own = desk.tree.system.id
        assert all(one["causation_id"].startswith(f"{own}-") for one in log)


async def test_the_same_start_begins_one_saga(autojump_clock: MockClock) -> None:
    # SAGA-9
    async with _desk() as desk:
        saga = await desk.sagas.start(Purchase, BASKET, key="request-7")
        again = await desk.sagas.start(Purchase, BASKET, key="request-7")
        assert saga == again
        with pytest.raises(SagaExists):
            await desk.sagas.start(Purchase, Basket("o-1", "c-1", 1), key="request-7")
        assert saga != await desk.sagas.start(Purchase, BASKET)
        assert desk.parts.stats.started == 2


async def test_whoever_has_the_time_waits_longer_for_an_answer(autojump_clock: MockClock) -> None:
    # SAGA-13: as a person at a command line, beside a store that is busy
    async with _desk(world := memory_world()) as desk:
        patient = Sagas(desk.parts, lambda saga: desk.tree.sagas[saga.key], {}, answer_s=60.0)
        assert isinstance(world.events, MemoryEventStore)
        world.events.slow(8.0)
        with pytest.raises(AskTimeout):
            await desk.sagas.start(Purchase, BASKET, name="1")
        assert await patient.start(Purchase, BASKET, name="2") == SagaId("purchase", "2")
        world.events.reset()


async def test_fifty_starts_at_once_under_one_key_begin_one_saga(autojump_clock: MockClock) -> None:
    # SAGA-9
    async with _desk() as desk:
        begun = set[SagaId]()

        async def start() -> None:
            begun.add(await desk.sagas.start(Purchase, BASKET, key="k"))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(start)
        assert len(begun) == desk.parts.stats.started == 1


async def test_what_cannot_be_started_is_refused_and_nothing_is_written(
    autojump_clock: MockClock,
) -> None:
    world = memory_world()
    async with _desk(world) as desk:
        for name in ("", "a b", "../x", "a/b/c/d/e/f", "x" * 101, "-a"):
            with pytest.raises(InvalidSagaId):
                await desk.sagas.start(Purchase, BASKET, name=name)
        with pytest.raises(ValueError, match="not both"):
            await desk.sagas.start(Purchase, BASKET, name="1", key="1")
        with pytest.raises(UnknownSagaKind):
            await desk.sagas.start(Approved, BASKET)
        with pytest.raises(msgspec.ValidationError):
            await desk.sagas.start(Purchase, Basket("o", "c", "much"))  # type: ignore[arg-type]
        for ask in (
            desk.sagas.query(ONE),
            desk.sagas.cancel(ONE, "ann", "no"),
            desk.sagas.signal(ONE, Approval("ann")),
        ):
            with pytest.raises(UnknownSaga):
                await ask
    assert await world.types("purchase-1") == []


async def test_a_hundred_sagas_at_once_end_each_in_its_own_way(autojump_clock: MockClock) -> None:
    # SAGA-6
    async with _desk() as desk:
        desk.player.rules["pay"] = lambda command: (
            Refused("no") if command.body["cents"] == 7 else Succeeded(Paid(command.saga))
        )
        for number in range(100):
            basket = Basket(str(number), "c", 7 if number % 3 == 0 else 5)
            await desk.sagas.start(Purchase, basket, name=str(number))
        for number in range(100):
            status = await ended(desk.sagas, SagaId("purchase", str(number)))
            assert status is (Status.FAILED if number % 3 == 0 else Status.COMPLETED)
        keys = [one.key for one in desk.player.got]
        assert len(set(keys)) == len(keys) == 66 * 3 + 34 * 3


async def test_what_a_participant_raises_in_a_moment_of_trouble_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    # SAGA-3
    async with _desk() as desk:
        left = [
            StoreUnavailable("away"),
            ConnectionResetError("cut"),
            TimeoutError("late"),
        ]

        def busy(command: SagaCommand) -> Succeeded:
            if left:
                raise left.pop()
            return Succeeded(Placed(command.attempt))

        desk.player.rules["place"] = busy
        began = trio.current_time()
        saga = await desk.sagas.start(Purchase, BASKET)
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        assert (await desk.sagas.query(saga)).steps["place"].result == {"number": 4}
        # 0.1, 0.2 and 0.4 s, and what it takes to look.
        assert 0.7 <= trio.current_time() - began < 5
    assert not is_moment(ValueError("a bug"))


async def test_what_a_participant_raises_otherwise_comes_again_under_the_same_key(
    autojump_clock: MockClock,
) -> None:
    # SAGA-2
    async with _desk() as desk:
        left = [ValueError("a bug")]

        def buggy(command: SagaCommand) -> Succeeded:
            if left:
                raise left.pop()
            return Succeeded(Placed(1))

        desk.player.rules["place"] = buggy
        saga = await desk.sagas.start(Purchase, BASKET)
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        assert desk.player.got[0].key == desk.player.got[1].key


async def test_a_step_that_nobody_answers_is_undone_and_answered_late_is_ignored(
    autojump_clock: MockClock,
) -> None:
    # SAGA-2, SAGA-3, SAGA-5
    async with _desk() as desk:
        desk.player.rules["pay"] = lambda _: None
        saga = await desk.sagas.start(Purchase, BASKET)
        assert await ended(desk.sagas, saga) is Status.FAILED
        assert desk.player.told == ["place", "pay", "undo pay", "undo place"]
        undone = numbers(desk.tree.system, "saga_compensations_total")
        assert undone == {("purchase", "pay"): 1, ("purchase", "place"): 1}
        assert await desk.sagas.reply(desk.player.got[1], Succeeded(Paid("late"))) is False
        assert desk.parts.stats.ignored == 1


async def test_a_participant_may_answer_later(autojump_clock: MockClock) -> None:
    async with _desk() as desk:
        desk.player.rules["reserve"] = lambda _: None
        saga = await desk.sagas.start(Purchase, BASKET)
        while "reserve" not in desk.player.told:
            await desk.player.came.wait()
        assert await desk.sagas.reply(desk.player.got[-1], Succeeded())
        assert await ended(desk.sagas, saga) is Status.COMPLETED


async def test_deadlines_survive_a_restart_and_are_not_set_anew(autojump_clock: MockClock) -> None:
    # SAGA-5
    world = memory_world()
    async with _desk(world) as desk:
        desk.player.rules["place"] = lambda _: None
        await desk.sagas.start(Purchase, BASKET, name="1")
        while not desk.player.got:
            await desk.player.came.wait()
        await trio.sleep(20)
    began = trio.current_time()
    async with _desk(world) as desk:
        assert await ended(desk.sagas, ONE) is Status.FAILED
        # Ten of its thirty seconds were left, whoever waited for them.
        assert 9 <= trio.current_time() - began <= 12
        assert desk.player.told[-1] == "undo place"


async def test_a_command_whose_step_is_over_is_not_sent(autojump_clock: MockClock) -> None:
    # SAGA-2
    world = memory_world()
    async with _desk(world) as desk:
        await desk.sagas.start(Purchase, BASKET, name="1")
        await ended(desk.sagas, ONE)
        desk.player.rules["place"] = lambda _: None
        raising = [True]

        def down(command: SagaCommand) -> None:
            if raising:
                raise RuntimeError("down")

        desk.player.rules["place"] = down
        await desk.sagas.start(Purchase, BASKET, name="2")
        await _until(partial(_is_past, desk, SagaId("purchase", "2"), Status.RUNNING))
        raising.clear()
        before = len(desk.player.told)
        # The do would be sent again and again; it is dropped, and the undo behind it passes. That
        # may have waited for longer than its own time: then it is dropped too, and sent anew.
        assert await ended(desk.sagas, SagaId("purchase", "2")) is Status.FAILED
        assert desk.parts.stats.expired >= 1
        assert desk.player.told[before:] == ["undo place"]


async def test_a_stuck_saga_is_a_dead_letter_and_goes_on_when_somebody_says_so(
    autojump_clock: MockClock,
) -> None:
    # SAGA-4, SAGA-13
    world = memory_world()
    async with _desk(world) as desk:
        desk.player.rules["pay"] = lambda _: Refused("no money")
        desk.player.rules["undo place"] = lambda _: Refused("closed")
        await desk.sagas.start(Purchase, BASKET, name="1")
        assert await ended(desk.sagas, ONE) is Status.STUCK
        assert desk.player.told.count("undo place") == 4
        await _until(partial(world.dead_letters.list, kind="saga"))
        letters = await world.dead_letters.list(kind="saga")
        assert (letters[0].letter.source, letters[0].letter.error_message) == ("purchase", "closed")
        admin = _administration(world, desk)
        stuck = [line async for line in admin.list("purchase", Status.STUCK)]
        assert [(line.saga, line.step) for line in stuck] == [("purchase-1", "place")]
        with pytest.raises(ValueError, match="reason is empty"):
            await admin.retry_step(ONE, "ann", " ")
        del desk.player.rules["undo place"]
        await admin.retry_step(ONE, "ann", "it is open again")
        assert await ended(desk.sagas, ONE) is Status.FAILED
        for decide in (admin.retry_step, admin.skip_step, admin.force_compensate):
            with pytest.raises(InvalidSagaTransition, match="purchase-1 is failed"):
                await decide(ONE, "ann", "again")
        with pytest.raises(UnknownSaga):
            await admin.mark_failed(SagaId("purchase", "9"), "ann", "why")
        view = await admin.show(ONE)
        assert any(b'"ann"' in one.data and b"open again" in one.data for one in view.log)
        assert (list(view.timers), list(view.waiting)) == ([], [])
        assert "failed (permanent) at" in await admin.graph(ONE)


def _administration(world: World, desk: Desk, kept: timedelta = ENDED_KEPT) -> SagaAdministration:
    ports = (world.events, world.index, world.timers, world.outbox)
    return SagaAdministration(desk.sagas, *ports, kept=kept)


async def test_lists_tell_kinds_statuses_and_ages(autojump_clock: MockClock) -> None:
    # SAGA-13
    world = memory_world()
    async with open_desk(world, _player(), Purchase, Approved) as desk:
        admin = _administration(world, desk)
        await desk.sagas.start(Approved, BASKET, name="1")
        await desk.sagas.start(Purchase, BASKET, name="1")
        await ended(desk.sagas, ONE)
        await trio.sleep(100)
        await desk.sagas.start(Approved, BASKET, name="2")
        view = await admin.show(SagaId("approved", "2"))
        assert {one.name for one in view.timers} == {"deadline", "step:place"}
        while "place" not in desk.player.told[3:]:
            await desk.player.came.wait()

        async def found(
            kind: str | None = None,
            status: Status | None = None,
            older_than: timedelta | None = None,
        ) -> list[str]:
            return [line.saga async for line in admin.list(kind, status, older_than)]

        assert await found() == ["approved-1", "approved-2", "purchase-1"]
        assert await found("approved", older_than=timedelta(seconds=50)) == ["approved-1"]
        assert await found(status=Status.COMPLETED) == ["purchase-1"]
        assert await found("purchase", Status.RUNNING) == []
        assert [line.saga async for line in lines(world.index, kind="none")] == []


# The saga's own code fails


def _charge(facts: Facts[Basket]) -> Charge:
    if facts.data.cents < 0:
        raise ZeroDivisionError("a bug")
    return Charge(facts.data.order_id, facts.data.cents)


class Buggy(Saga[Basket]):
    place = step(Place, undo=Unplace)
    pay = step(_charge, undo=refund)


async def test_a_bug_crashes_the_actor_and_at_last_leaves_the_saga_stuck(
    autojump_clock: MockClock,
) -> None:
    # SAGA-3
    world = memory_world()
    async with open_desk(world, _player(), Buggy) as desk:
        saga = await desk.sagas.start(Buggy, Basket("o", "c", -1), name="1")
        assert await ended(desk.sagas, saga) is Status.STUCK
        assert desk.parts.stats.crashed == desk.parts.crashes_max
        state = await desk.sagas.query(saga)
        assert "ZeroDivisionError: a bug" in state.stuck
        # What came is kept: the order is placed, and can be taken back.
        assert state.steps["place"].phase == "done"
        await _until(partial(world.dead_letters.list, kind="saga"))
        await _administration(world, desk).force_compensate(saga, "ann", "cannot be paid")
        assert await ended(desk.sagas, saga) is Status.FAILED
        assert desk.player.told[-1] == "undo place"


@pytest.mark.parametrize("intensity", [0, 1])
async def test_the_supervisors_intensity_leaves_a_saga_stuck_before_the_supervisor_gives_up(
    autojump_clock: MockClock, intensity: int
) -> None:
    # SAGA-3
    class Strict(Tree):
        @dynamic_method(key="key", restart="transient", intensity=intensity, period=600)
        def sagas(self, key: str) -> SagaActor:
            return SagaActor(self.parts, key)

    world = memory_world()
    async with open_desk(world, _player(), Buggy, tree=Strict) as desk:
        other = await desk.sagas.start(Buggy, BASKET, name="2")
        assert await ended(desk.sagas, other) is Status.COMPLETED
        saga = await desk.sagas.start(Buggy, Basket("o", "c", -1), name="1")
        assert await ended(desk.sagas, saga) is Status.STUCK
        assert desk.parts.stats.crashed == intensity + 1
        (sagas,) = desk.tree.tree.snapshot("tree/sagas").actors[:1]
        assert (sagas.incarnation, sagas.status) == (1, "running")


BROKEN: set[str] = set()


def _maybe_charge(facts: Facts[Basket]) -> Charge:
    assert "pay" not in BROKEN
    return Charge(facts.data.order_id, facts.data.cents)


def _maybe_reserve(facts: Facts[Basket]) -> Reserve:
    assert "reserve" not in BROKEN
    return Reserve(facts.data.order_id)


class Fragile(Saga[Basket]):
    place = step(Place, undo=Unplace)
    pay = step(_maybe_charge, undo=refund)
    reserve = step(_maybe_reserve)


async def test_a_saga_can_be_stuck_twice_and_tells_each_time(autojump_clock: MockClock) -> None:
    # SAGA-3, SAGA-13
    BROKEN.update(("pay", "reserve"))
    world = memory_world()
    async with open_desk(world, _player(), Fragile) as desk:
        saga = await desk.sagas.start(Fragile, BASKET, name="1")
        admin = _administration(world, desk)
        assert await ended(desk.sagas, saga) is Status.STUCK
        with pytest.raises(ActorCrashed):
            await admin.retry_step(saga, "ann", "try")  # not mended: nothing has changed
        assert (await desk.sagas.query(saga)).status is Status.STUCK
        BROKEN.discard("pay")
        await admin.retry_step(saga, "ann", "mended")
        await _until(partial(_is_past, desk, saga, Status.RUNNING))
        assert await ended(desk.sagas, saga) is Status.STUCK
        assert (await desk.sagas.query(saga)).times_stuck == 2
        await _until(partial(_has_letter, world, 1))
        BROKEN.clear()
        await admin.retry_step(saga, "ann", "mended too")
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        # What came while it crashed came again, under the same key.
        assert list(dict.fromkeys(desk.player.told)) == ["place", "pay", "reserve"]


async def _has_letter(world: World, retries: int) -> bool:
    letters = await world.dead_letters.list(kind="saga")
    return bool(letters) and letters[0].retry_count >= retries


async def test_what_a_participant_gives_by_mistake_harms_no_saga(
    autojump_clock: MockClock,
) -> None:
    async with _desk() as desk:
        left: list[object] = [
            "done",
            Succeeded(["no", "mapping"]),
            Succeeded(7),
        ]

        def wrong(command: SagaCommand) -> Outcome | None:
            return left.pop() if left else Succeeded(Placed(1))  # type: ignore[return-value]

        desk.player.rules["place"] = wrong
        saga = await desk.sagas.start(Purchase, BASKET)
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        assert desk.parts.stats.crashed == 0
        assert [one.attempt for one in desk.player.got if one.step == "place"] == [1] * 4


@dataclass(frozen=True)
class Odd:
    """Data that JSON gives back as something else."""

    number: float = 1.0
    names: tuple[str, ...] = ("ann", "bob")
    tags: frozenset[str] = frozenset("abcdefgh")
    counts: Mapping[int, int] = field(default_factory=lambda: {2: 1, 1: 2})


def _place(_: Facts[Odd]) -> Place:
    return Place("1", "ann")


class OddSaga(Saga[Odd]):
    place = step(_place, result=Odd)


@pytest.mark.parametrize("wrong", [nan, inf])
async def test_a_number_that_is_none_is_neither_data_nor_a_result(
    autojump_clock: MockClock, wrong: float
) -> None:
    # SAGA-1, SAGA-9: the log would say null, and nobody could read it again
    world, player = memory_world(), _player()
    player.rules["place"] = lambda _: Succeeded(Odd(wrong))
    async with open_desk(world, player, OddSaga) as desk:
        with pytest.raises(msgspec.ValidationError, match="float"):
            await desk.sagas.start(OddSaga, Odd(wrong), name="1")
        with pytest.raises(UnknownSaga):
            await desk.sagas.query(SagaId("odd_saga", "1"))
        saga = await desk.sagas.start(OddSaga, Odd(), name="1")
        assert await ended(desk.sagas, saga) is Status.FAILED
        assert "not as declared" in (await desk.sagas.query(saga)).reason


async def test_a_start_is_known_again_when_the_saga_was_read_back(
    autojump_clock: MockClock,
) -> None:
    # SAGA-9: tuples, sets and keys that are numbers come back as JSON has them
    world, player = memory_world(), _player()
    player.rules["place"] = lambda _: None
    for _ in range(2):
        async with open_desk(world, player, OddSaga) as desk:
            for tags in ("abcdefgh", "hgfedcba"):
                same = Odd(tags=frozenset(tags), counts={1: 2, 2: 1})
                assert await desk.sagas.start(OddSaga, same, name="1") == ("odd_saga", "1", None)
            with pytest.raises(SagaExists):
                await desk.sagas.start(OddSaga, Odd(names=("ann",)), name="1")


async def test_nonsense_for_a_saga_that_runs_leaves_its_log_readable(
    autojump_clock: MockClock,
) -> None:
    # SAGA-17
    async with open_desk(memory_world(), _player(), Approved) as desk:
        desk.player.rules["place"] = lambda _: None
        saga = await desk.sagas.start(Approved, BASKET)
        with pytest.raises(InvalidField, match="key"):
            await desk.sagas.signal(saga, Approval("ann"), key=7)  # type: ignore[arg-type]
        with pytest.raises(SignalRefused, match="no step waits for Odd; they wait for Approval"):
            await desk.sagas.signal(saga, Odd())
        with pytest.raises(AttributeError):
            await desk.sagas.cancel(saga, 7, "no more")  # type: ignore[arg-type]
        assert (await desk.sagas.query(saga)).status is Status.RUNNING
        await desk.sagas.cancel(saga, "\ud800", "\x00")
        assert (await desk.sagas.query(saga)).status is Status.COMPENSATING


async def test_a_result_too_large_for_the_log_is_undone_in_the_end(
    autojump_clock: MockClock,
) -> None:
    async with _desk() as desk:
        desk.player.rules["pay"] = lambda _: Succeeded({"payment_id": "x" * 100_000})
        saga = await desk.sagas.start(Purchase, BASKET)
        assert await ended(desk.sagas, saga) is Status.FAILED
        assert desk.player.told[-2:] == ["undo pay", "undo place"]


async def test_two_processes_with_one_saga_do_nothing_twice(autojump_clock: MockClock) -> None:
    # SAGA-7: ownership is only an optimisation, the version of the stream decides
    world, player = memory_world(), _player()
    player.rules["place"] = lambda _: None
    async with (
        open_desk(world, player, Purchase) as one,
        open_desk(world, player, Purchase, owner="another") as other,
    ):
        for number in range(20):
            await one.sagas.start(Purchase, BASKET, name=str(number))
        await _until(partial(_has_come, player, 20))
        for desk in (one, other):
            assert (await desk.sagas.resume(world.index)).woken == 20
        async with trio.open_nursery() as nursery:
            for command in list(player.got):
                for desk in (one, other):
                    nursery.start_soon(desk.sagas.reply, command, Succeeded(Placed(1)))
        for number in range(20):
            for desk in (one, other):
                status = await ended(desk.sagas, SagaId("purchase", str(number)))
                assert status is Status.COMPLETED
    keys = [one.key for one in player.got]
    assert len(keys) == len(set(keys)) == 60


async def test_an_answer_counts_at_whichever_process_it_comes_to(autojump_clock: MockClock) -> None:
    # SAGA-2, SAGA-7: what means nothing to a process may answer what another has sent since
    world, player = memory_world(), Player(dict.fromkeys(("place", "pay", "reserve"), _nobody))
    async with (
        open_desk(world, player, Purchase) as one,
        open_desk(world, player, Purchase, owner="another") as other,
    ):
        saga = await one.sagas.start(Purchase, BASKET, name="1")
        # Both know of the first step, and one of them of none that is told to the other.
        assert (await other.sagas.resume(world.index)).woken == 1
        answers = {"place": Succeeded(Placed(1)), "pay": Succeeded(Paid("p-1"))}
        for number, desk in enumerate((one, other, one), start=1):
            await _until(partial(_has_come, player, number))
            command = player.got[-1]
            assert await desk.sagas.reply(command, answers.get(command.step, Succeeded()))
        assert await ended(other.sagas, saga) is Status.COMPLETED
        assert player.told == ["place", "pay", "reserve"]
        # A late answer is nobody's, and so is a wish for what is over.
        for desk in (one, other):
            assert not await desk.sagas.reply(player.got[0], Succeeded())
            with pytest.raises(InvalidSagaTransition):
                await desk.sagas.cancel(saga, "me", "too late")


async def test_a_time_out_counts_at_whichever_process_it_comes_to(
    autojump_clock: MockClock,
) -> None:
    # SAGA-5, SAGA-7
    world, player = memory_world(), Player({"pay": _nobody})
    async with (
        open_desk(world, player, Purchase) as one,
        open_desk(world, player, Purchase, owner="another") as other,
    ):
        player.rules["place"] = _nobody
        saga = await one.sagas.start(Purchase, BASKET, name="1")
        await other.sagas.resume(world.index)
        await _until(partial(_has_come, player, 1))
        assert await one.sagas.reply(player.got[0], Succeeded(Placed(1)))
        (timer,) = [
            timer
            for timer in await world.timers.open_timers(address=str(saga))
            if timer.name == "step:pay"
        ]
        # The process that knows nothing of the step is the one that is told its time is over.
        await other.sagas.tell(saga, TakeTimer(timer.name, timer.token))
        assert (await one.sagas.query(saga)).step("pay").phase == "unknown"
        assert await ended(one.sagas, saga) is Status.FAILED


def _nobody(_: SagaCommand) -> None:
    """Answers nothing."""


async def _has_come(player: Player, count: int) -> bool:
    return len(player.got) >= count


async def test_a_saga_knows_its_messages_and_timers_among_others(
    autojump_clock: MockClock,
) -> None:
    world = memory_world()
    async with _desk(world) as desk:
        desk.player.rules["place"] = lambda _: None
        await desk.sagas.start(Purchase, BASKET, name="1")
        await _until(partial(_has_come, desk.player, 1))
        now = world.env.clock.now() + timedelta(seconds=60)
        due = await world.timers.claim_due("test", now)
        assert due
        assert all(desk.sagas.takes_timer(one) for one in due)
        for address in ("saga/1", "mail-1", "purchase"):
            assert not desk.sagas.takes_timer(replace(due[0], address=address))
        entry = OutboxEntry(1, UUID(int=1), "mail", "mail", "k", b"", {}, 0, now)
        assert not desk.sagas.takes_message(entry)
        assert desk.sagas.takes_message(replace(entry, headers={"saga-id": "purchase-1"}))


# Sagas in sagas, signals, cancelling


async def test_nested_sagas_run_as_sagas_of_their_own(autojump_clock: MockClock) -> None:
    # SAGA-10, SAGA-11
    world = memory_world()
    async with open_desk(world, _player(), Fulfilment) as desk:
        saga = await desk.sagas.start(Fulfilment, BASKET, name="1")
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        state = await desk.sagas.query(SagaId("purchase", "1/buy"))
        assert state.parent is not None
        assert (state.status, state.parent.saga) == (Status.COMPLETED, "fulfilment-1")
        found = [line.parent async for line in lines(world.index)]
        assert sorted(found) == ["", "fulfilment-1", "fulfilment-1", "fulfilment-1"]


async def test_the_tree_shows_sagas_with_their_steps_and_their_place(
    autojump_clock: MockClock,
) -> None:
    # SAGA-11, SAGA-13: as the lab's data has them; nothing of what they are about
    world = memory_world()
    async with open_desk(world, _player(), Fulfilment) as desk:
        desk.player.rules["pack"] = lambda _: None
        saga = await desk.sagas.start(Fulfilment, BASKET, name="1")
        while not {"pack", "tell"} <= set(desk.player.told):
            await desk.player.came.wait()
        await _until(partial(_is_step_done, desk, saga, "notify"))
        nodes = desk.tree.tree.snapshot().actors
        told = {str(node.about["saga"]): node.about for node in nodes if node.about is not None}
        assert {name: one["parent"] for name, one in told.items()} == {
            "fulfilment-1": None,
            "purchase-1/buy": "fulfilment-1",
            "ship-1/ship": "fulfilment-1",
            "notify-1/notify": "fulfilment-1",
        }
        whole = told[str(saga)]
        assert (whole["status"], whole["version"], whole["reason"]) == ("running", 1, None)
        assert [(one["step"], one["phase"], one["child"]) for one in _steps(whole)] == [
            ("buy", "done", "purchase-1/buy"),
            ("ship", "started", "ship-1/ship"),
            ("notify", "done", "notify-1/notify"),
        ]
        (pack,) = _steps(told["ship-1/ship"])
        assert (pack["phase"], pack["attempt"], pack["undo"]) == ("started", 1, None)
        assert pack["due_at"] is not None
        assert BASKET.customer_id not in str(told)


async def test_what_fails_in_a_child_undoes_its_completed_siblings(
    autojump_clock: MockClock,
) -> None:
    # SAGA-11
    async with open_desk(memory_world(), _player(), Fulfilment) as desk:
        desk.player.rules["pack"] = lambda _: Refused("broken")
        saga = await desk.sagas.start(Fulfilment, BASKET, name="1")
        assert await ended(desk.sagas, saga) is Status.FAILED
        assert "ship-1/ship: pack: broken" in (await desk.sagas.query(saga)).reason
        assert desk.player.told[-3:] == ["undo reserve", "undo pay", "undo place"]
        inner = await desk.sagas.query(SagaId("purchase", "1/buy"))
        assert inner.status is Status.FAILED


async def test_a_stuck_child_stops_its_parent_until_it_is_helped(autojump_clock: MockClock) -> None:
    # SAGA-11, SAGA-13
    world = memory_world()
    async with open_desk(world, _player(), Fulfilment) as desk:
        desk.player.rules["pay"] = lambda _: Refused("no money")
        desk.player.rules["undo place"] = lambda _: Unavailable("closed")
        saga = await desk.sagas.start(Fulfilment, BASKET, name="1")
        assert await ended(desk.sagas, saga) is Status.STUCK
        assert "purchase-1/buy/place" in (await desk.sagas.query(saga)).stuck
        del desk.player.rules["undo place"]
        await _administration(world, desk).retry_step(SagaId("purchase", "1/buy"), "ann", "open")
        assert await ended(desk.sagas, SagaId("purchase", "1/buy")) is Status.FAILED
        await _until(partial(_is_past, desk, saga, Status.STUCK, Status.COMPENSATING))
        assert (await desk.sagas.query(saga)).status is Status.FAILED


@dataclass(frozen=True)
class Approval:
    by: str


class Approved(Saga[Basket]):
    place = step(Place, undo=Unplace)
    approve = wait(Approval, timeout=3600)


async def test_an_owner_signals_asks_and_cancels(autojump_clock: MockClock) -> None:
    # SAGA-17
    async with open_desk(memory_world(), _player(), Approved) as desk:
        # Its step is answered behind both signals, or it could be over before the second.
        place = desk.player.rules.pop("place")
        desk.player.rules["place"] = lambda _: None
        one = await desk.sagas.start(Approved, BASKET)
        await desk.sagas.signal(one, Approval("ann"), key="k")
        await desk.sagas.signal(one, Approval("bob"), key="k")
        while not desk.player.got:
            await desk.player.came.wait()
        desk.player.rules["place"] = place
        assert await desk.sagas.reply(desk.player.got[0], Succeeded(Placed(1)))
        assert await ended(desk.sagas, one) is Status.COMPLETED
        assert (await desk.sagas.query(one)).steps["approve"].result == {"by": "ann"}
        two = await desk.sagas.start(Approved, BASKET)
        await _until(partial(_has_begun, desk, two, "approve"))
        await desk.sagas.cancel(two, "ann", "changed my mind")
        assert await ended(desk.sagas, two) is Status.FAILED
        assert (await desk.sagas.query(two)).reason == "changed my mind"
        with pytest.raises(InvalidSagaTransition):
            await desk.sagas.cancel(two, "ann", "again")
        with pytest.raises(InvalidSagaTransition):
            await desk.sagas.signal(two, Approval("late"))


# At start


async def test_every_saga_that_is_not_over_is_resumed_a_hundred_at_a_time(
    autojump_clock: MockClock,
) -> None:
    # SAGA-7
    world = memory_world()
    async with open_desk(world, _player(), Approved) as desk:
        for number in range(230):
            await desk.sagas.start(Approved, BASKET, name=str(number))
        await desk.sagas.cancel(SagaId("approved", "7"), "ann", "no")
        await ended(desk.sagas, SagaId("approved", "7"))
    async with open_desk(world, _player(), Approved) as desk:
        assert desk.tree.sagas.keys() == []
        events = world.events
        assert isinstance(events, MemoryEventStore)
        events.slow(1.0)
        began = trio.current_time()
        resumed = await desk.sagas.resume(world.index)
        assert 3 <= trio.current_time() - began < 30  # three times a hundred, not all at once
        events.slow(0.0)
        assert (resumed.woken, resumed.failed) == (229, {})
        assert len(desk.tree.sagas.keys()) >= 229
    assert await world.types("approved-3") == [
        "SagaStarted",
        "StepStarted",
        "StepSucceeded",
        "StepStarted",
    ]


class Before(Saga[Basket]):
    kind = "deployed"
    place = step(Place, undo=Unplace)
    pay = step(Charge, undo=refund)


class After(Saga[Basket]):
    kind = "deployed"
    version = 2
    place = step(Place, undo=Unplace)
    pay = step(Charge, undo=refund)
    reserve = step(Reserve)


class Moved(Saga[Basket]):
    kind = "deployed"
    version = 3
    place = step(Place, undo=Unplace)
    pay = step(Charge, undo=refund)
    reserve = step(Reserve)

    @classmethod
    def migrate(cls, state: SagaState) -> str:
        busy = state.in_phase("started", "waiting")
        return busy[0] if busy else "reserve"


@pytest.mark.parametrize("kinds", [(Before, After), (Moved,)], ids=["kept", "migrated"])
async def test_sagas_at_every_step_survive_a_deploy_of_other_steps(
    autojump_clock: MockClock, kinds: tuple[type[Saga[Basket]], ...]
) -> None:
    # SAGA-16
    world, before = memory_world(), Player()
    async with open_desk(world, before, Before) as desk:
        for number in range(50):
            stop = ("place", "pay", "")[number % 3]
            before.rules = {stop: lambda _: None}
            saga = await desk.sagas.start(Before, BASKET, name=str(number))
            if stop:
                while (str(saga), stop) not in [(one.saga, one.step) for one in before.got]:
                    await before.came.wait()
            else:
                await ended(desk.sagas, saga)
    player = Player()
    async with open_desk(world, player, After) as desk:
        with pytest.raises(SagaVersionsUnknown) as caught:
            await desk.sagas.resume(world.index)
        assert list(caught.value.counts.values()) == [34]
        assert "34 of deployed v1" in str(caught.value)
        with pytest.raises(UnknownSagaKind):
            await desk.sagas.cancel(SagaId("deployed", "0"), "ann", "no")
    async with open_desk(world, player, *kinds) as desk:
        resumed = await desk.sagas.resume(world.index)
        assert (resumed.woken, resumed.failed) == (34, {})
        for one in before.got:  # the answers come now
            await desk.sagas.reply(one, Succeeded())
        for number in range(50):
            status = await ended(desk.sagas, SagaId("deployed", str(number)))
            assert status is Status.COMPLETED
    done = [(one.saga, one.step) for one in [*before.got, *player.got]]
    assert len(set(done)) == len(done)
    assert ("deployed-0", "reserve") in done or kinds != (Moved,)


@pytest.mark.parametrize(
    ("old_s", "status"), [(5.0, Status.COMPLETED), (40.0, Status.FAILED)], ids=["reply", "timer"]
)
@pytest.mark.parametrize(
    ("kind", "missing"), [(Before, "deployed v2"), (Purchase, "deployed;")], ids=["steps", "kind"]
)
async def test_what_comes_to_a_program_of_before_waits_for_one_of_today(
    autojump_clock: MockClock,
    old_s: float,
    status: Status,
    kind: type[Saga[Basket]],
    missing: str,
) -> None:
    # SAGA-2, SAGA-5, SAGA-16: while both run, either may be handed a reply or a timer of a saga
    # of the other's steps; passed over there, it would be lost to the saga
    world, player = memory_world(), Player({"place": lambda _: None})
    async with open_desk(world, player, Before, After) as desk:
        saga = await desk.sagas.start(After, BASKET, name="1")
        await _until(partial(_has_come, player, 1))
    (command,) = player.got
    async with open_desk(world, Player(), kind) as old:
        with pytest.raises(UnknownSagaKind, match=missing):
            await old.sagas.reply(command, Succeeded())
        assert len(old.tree.sagas.keys()) == (kind is Before), "none is made to fail"
        # Its timer comes as well, in time to be refused more than once.
        await trio.sleep(old_s)
        assert (await old.sagas.query(saga)).status is Status.RUNNING
    player = Player()
    async with open_desk(world, player, Before, After) as desk:
        if status is Status.COMPLETED:
            assert await desk.sagas.reply(command, Succeeded())
        assert await ended(desk.sagas, saga) is status
    done = ["pay", "reserve"] if status is Status.COMPLETED else ["undo place"]
    assert player.told == done


# Pictures


def test_a_kind_is_drawn_with_its_steps_undos_and_ends() -> None:
    # SAGA-14
    drawn = kind_graph(Fulfilment)
    assert drawn.startswith("stateDiagram-v2\n")
    for line in (
        'state "buy (saga purchase)" as buy',
        "[*] --> buy",
        "buy --> fork_1",
        "fork_1 --> ship",
        "notify --> join_1",
        "join_1 --> Completed",
        "ship --> undo_buy: refused",
        "undo_buy --> Failed",
    ):
        assert f"    {line}" in drawn.split("\n"), line
    assert 'state "approve (waits for Approval)" as approve' in kind_graph(Approved)


async def test_one_saga_is_drawn_with_what_happened_and_when(autojump_clock: MockClock) -> None:
    # SAGA-14
    world = memory_world()
    async with open_desk(world, _player(), Approved) as desk:
        saga = await desk.sagas.start(Approved, BASKET, name="1")
        await _until(partial(_has_begun, desk, saga, "approve"))
        drawn = await _administration(world, desk).graph(saga)
        assert 'state "place (orders: Place): done at ' in drawn
        assert 'state "approve (waits for Approval): attempt 1 at ' in drawn


# The store is away


async def test_a_store_that_is_away_loses_nothing_and_ends_no_saga(
    autojump_clock: MockClock,
) -> None:
    world = memory_world()
    async with _desk(world) as desk:
        events = world.events
        assert isinstance(events, MemoryEventStore)
        events.fail_next(StoreUnavailable("away"), times=3)
        with pytest.raises(StoreUnavailable):
            await desk.sagas.start(Purchase, BASKET, name="1")
        events.fail_next(StoreUnavailable("away"), times=0)
        saga = await desk.sagas.start(Purchase, BASKET, name="1")
        events.fail_next(StoreUnavailable("away"), times=10_000)
        await trio.sleep(5)
        events.fail_next(StoreUnavailable("away"), times=0)
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        assert await world.types("purchase-1") == [
            "SagaStarted",
            *("StepStarted", "StepSucceeded") * 3,
            "SagaCompleted",
        ]


# When they are over for long


@pytest.mark.slow
async def test_sagas_that_ended_long_ago_are_removed_and_their_names_stay_taken(
    autojump_clock: MockClock,
) -> None:
    # SAGA-9, SAGA-13: not those that run, are stuck, ended lately, or whose parent may ask them
    world = memory_world()
    async with open_desk(world, _player(), Fulfilment, Approved, Purchase) as desk:
        desk.player.rules["pack"] = lambda _: None
        done = [await desk.sagas.start(Purchase, BASKET, name=str(n)) for n in range(3)]
        for saga in done:
            assert await ended(desk.sagas, saga) is Status.COMPLETED
        waits = await desk.sagas.start(Approved, BASKET, name="waits")
        whole = await desk.sagas.start(Fulfilment, BASKET, name="1")
        buy = SagaId("purchase", "1/buy")
        await _until(partial(_is_step_done, desk, whole, "buy"))
        admin = _administration(world, desk, kept=timedelta(minutes=10))
        assert await admin.purge() == 0
        await trio.sleep(601)
        late = await desk.sagas.start(Purchase, BASKET, name="late")
        assert await ended(desk.sagas, late) is Status.COMPLETED
        # By now the fulfilment has given its step up and undoes: the purchase in it stays.
        assert await admin.purge(2) == 2
        assert await admin.purge(2) == 1
        left = {line.saga async for line in admin.list()}
        assert not left & {str(saga) for saga in done}
        assert {str(late), str(waits)} <= left
        assert await world.types(str(done[0])) == []
        with pytest.raises(UnknownSaga):
            await desk.sagas.query(done[0])
        assert await ended(desk.sagas, whole) is Status.FAILED
        assert (await desk.sagas.query(buy)).status is Status.FAILED
        await trio.sleep(601)
        assert await admin.purge() >= 3
        assert await world.types("purchase-1/buy") == []
        kept = [one async for one in world.events.load(PURGED)]
        assert b"purchase-0" in kept[0].data
    async with open_desk(world, _player(), Purchase) as desk:
        with pytest.raises(StreamGone):
            await desk.sagas.start(Purchase, BASKET, name="0")


async def test_a_purge_that_was_cut_is_done_again(autojump_clock: MockClock) -> None:
    # SAGA-13
    world = memory_world()
    async with _desk(world) as desk:
        saga = await desk.sagas.start(Purchase, BASKET, name="1")
        assert await ended(desk.sagas, saga) is Status.COMPLETED
        await world.events.tombstone(saga.stream)  # as far as it had come
        admin = _administration(world, desk, kept=timedelta(0))
        for limit in (0, -1, True):
            with pytest.raises(InvalidField, match="limit"):
                await admin.purge(limit)
        assert len([line async for line in admin.list()]) == 1
        assert await admin.purge() == 1
        assert [line async for line in admin.list()] == []
    with pytest.raises(InvalidField):
        _administration(world, desk, kept=timedelta(-1))


@pytest.mark.slow
async def test_the_cleaner_of_a_site_removes_sagas_that_ended_long_ago(database: Database) -> None:
    # SAGA-13, STORE-9: of its database, whoever ran them, and whosever they are
    world = postgres_world(database)
    with trio.fail_after(PATIENCE_S):
        async with _desk(world) as desk:
            desk.player.rules["reserve"] = lambda one: (
                None if one.saga == "purchase-2" else Succeeded()
            )
            await desk.sagas.start(Purchase, BASKET, name="2")
            for tenant in (None, "acme", "corp"):
                saga = await desk.sagas.start(Purchase, BASKET, name="1", tenant=tenant)
                assert await ended(desk.sagas, saga) is Status.COMPLETED
        keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
        cleaner = make_cleaner(database, keyring, sagas_kept=timedelta(0))
        async with open_actors() as system:
            (await system.start(lambda: cleaner)).tell(CleanUp())
            await until(lambda: cleaner.removed["sagas"] == 3)
        for tenant in ("acme", "corp"):
            assert [line async for line in lines(world.index, tenant=tenant)] == []
        assert [line.saga async for line in lines(world.index)] == ["purchase-2"]
        async with _desk(world) as desk:
            with pytest.raises(StreamGone):
                await desk.sagas.start(Purchase, BASKET, name="1")


# Whose they are


async def test_sagas_of_two_tenants_have_nothing_in_common_but_their_names(
    autojump_clock: MockClock,
) -> None:
    # STORE-9, SAGA-9, SAGA-11
    world = memory_world()
    async with open_desk(world, _player(), Fulfilment) as desk:
        desk.player.rules["pack"] = lambda command: (
            Refused("broken") if "@acme/" in command.saga else None
        )
        mine = await desk.sagas.start(Fulfilment, BASKET, name="1", tenant="acme")
        other = await desk.sagas.start(Fulfilment, Basket("o", "d", 1), name="1", tenant="corp")
        nobodys = await desk.sagas.start(Fulfilment, BASKET, name="1")
        assert [str(one) for one in (mine, other, nobodys)] == [
            "@acme/fulfilment-1",
            "@corp/fulfilment-1",
            "fulfilment-1",
        ]
        assert await ended(desk.sagas, mine) is Status.FAILED
        # One was undone with all below it; of the others no timer and no message is gone.
        assert (await desk.sagas.query(mine.child("purchase", "buy"))).status is Status.FAILED
        for saga in (other, nobodys):
            assert (await desk.sagas.query(saga)).status is Status.RUNNING
            assert [one.name for one in await world.timers.open_timers(address=str(saga))]
        admin = _administration(world, desk)
        for tenant, wanted in (("acme", 0), ("corp", 2), (None, 2)):
            running = [one async for one in admin.list(None, Status.RUNNING, tenant=tenant)]
            assert len(running) == wanted
            assert all(SagaId.parse(one.saga).tenant == tenant for one in running)
        view = await admin.show(other)
        assert {one.tenant for one in view.log} == {"corp"}
        with pytest.raises(UnknownSaga):
            await desk.sagas.query(SagaId("fulfilment", "1", "nobody"))
        with pytest.raises(InvalidTenant):
            await desk.sagas.start(Fulfilment, BASKET, name="2", tenant="a b")
    async with open_desk(world, _player(), Fulfilment) as desk:
        resumed = await desk.sagas.resume(world.index, tenant="corp")
        assert (resumed.woken, resumed.failed) == (2, {})
        admin = _administration(world, desk, kept=timedelta(0))
        assert await admin.purge(tenant="acme") == 4
        assert [one async for one in admin.list(tenant="acme")] == []
        assert len([one async for one in admin.list(tenant="corp")]) == 4
        assert await admin.purge_all() == 0  # what runs stays
        for saga in (other, nobodys):  # nobody answers them
            assert await ended(desk.sagas, saga) is Status.FAILED
        # Those of all together, in calls of a few.
        assert [await admin.purge_all(limit=5) for _ in range(3)] == [5, 3, 0]


class _Heard(Tree):
    """Notes the keys of all that is sent."""

    keys: ClassVar[set[str]] = set()

    @child_method()
    def relay(self) -> OutboxRelay:
        send = self.send

        async def noted(entry: OutboxEntry) -> None:
            self.keys.add(entry.key)
            await send(entry)

        self.send = noted
        return super().relay_actor()


async def test_the_relay_is_told_where_to_look_for_all_that_sagas_send(
    autojump_clock: MockClock,
) -> None:
    # SAGA-15, PERF-56: it looks at those parts alone
    world = memory_world()
    _Heard.keys.clear()
    async with open_desk(world, _player(), Fulfilment, tree=_Heard) as desk:
        told, look = set[str](), desk.parts.look_at_outbox

        def look_at(told_of: LookAtOutbox) -> None:
            told.update(told_of.keys, [one.key for one in told_of.entries])
            look(told_of)

        desk.parts.look_at_outbox = look_at
        rules = desk.player.rules
        rules["pack"] = lambda _: Refused("broken")
        failed = await desk.sagas.start(Fulfilment, BASKET, name="1", tenant="acme")
        assert await ended(desk.sagas, failed) is Status.FAILED
        rules["undo pay"] = lambda _: Refused("closed")
        stuck = await desk.sagas.start(Fulfilment, BASKET, name="2")
        assert await ended(desk.sagas, stuck) is Status.STUCK
        await _until(partial(world.dead_letters.list, kind="saga"))
        assert _Heard.keys <= told
        assert {one.partition(":")[2] for one in _Heard.keys} >= {"", "pack", "buy", "pay"}


async def test_the_letter_of_a_tenants_stuck_saga_is_the_tenants(
    autojump_clock: MockClock,
) -> None:
    # SAGA-4, STORE-9
    world = memory_world()
    async with open_desk(world, _player(), Purchase) as desk:
        desk.player.rules["reserve"] = lambda _: Refused("sold out")
        desk.player.rules["undo pay"] = lambda _: Refused("closed")
        saga = await desk.sagas.start(Purchase, BASKET, name="1", tenant="acme")
        assert await ended(desk.sagas, saga) is Status.STUCK
        await _until(partial(world.dead_letters.list, kind="saga"))
        (letter,) = await world.dead_letters.for_tenant("acme").list(kind="saga")
        assert (letter.letter.stream_id, letter.letter.tenant) == ("purchase-1", "acme")
        del desk.player.rules["undo pay"]
        await _administration(world, desk).retry_step(saga, "ann", "open")
        assert await ended(desk.sagas, saga) is Status.FAILED


@pytest.mark.slow
async def test_tenants_share_one_outbox_and_one_set_of_timers_on_postgresql(
    database: Database,
) -> None:
    # STORE-9, SAGA-9
    world = postgres_world(database)
    with trio.fail_after(PATIENCE_S):
        async with open_desk(world, _player(), Fulfilment) as desk:
            begun = [
                await desk.sagas.start(Fulfilment, BASKET, name="1", tenant=tenant)
                for tenant in ("acme", "corp", None)
            ]
            for saga in begun:
                assert await ended(desk.sagas, saga) is Status.COMPLETED
            for tenant in ("acme", "corp", None):
                found = [one async for one in _administration(world, desk).list(tenant=tenant)]
                assert [one.status for one in found] == [Status.COMPLETED] * 4
    assert await world.timers.pending() == 0
