"""The lab's saga as a visitor meets it: begun, confirmed, cancelled, refused, crashed (LAB-35)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from actors.persistence import Refusal, Reply, StreamId
from actors.persistence.beside_log.outbox import LEASE
from tests.actors.persistence.accounts import environment
from tests.journeys.visitor import Answer
from tests.patience import PATIENCE_S
from tests.web.lab.test_lab_site import Guest, a_guest
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.lab.demos.checkout.actor import CLOCK_LOOK_S
from web.lab.demos.checkout.counterparts import Do, LabStep
from web.lab.demos.checkout.steps import SILENT_S, STEP_S, Checkout
from web.lab.demos.checkout.visitors import PER_VISITOR_MAX
from web.settings import LabMode

pytestmark = pytest.mark.slow


class StepTold(msgspec.Struct):
    step: str
    phase: str
    attempt: int
    undo: str | None

    @property
    def word(self) -> str:
        return self.undo or self.phase


class EventTold(msgspec.Struct):
    event: str
    step: str = ""
    attempt: int = 1
    kind: str = ""

    @property
    def word(self) -> str:
        return f"{self.event} {self.step}".strip()


class ActorTold(msgspec.Struct):
    status: str
    incarnation: int


class SagaTold(msgspec.Struct):
    """A saga as `/api/lab/tree` tells of it."""

    id: str
    status: str
    reason: str | None
    steps: list[StepTold]
    actor: ActorTold | None
    events: list[EventTold]

    @property
    def log(self) -> list[str]:
        return [one.word for one in self.events]

    def has_in_hand(self, step: str, attempt: int = 1) -> bool:
        return any(
            (one.step, one.phase, one.attempt) == (step, "started", attempt) for one in self.steps
        )

    @property
    def words(self) -> list[str]:
        return [one.word for one in self.steps]

    @property
    def waits(self) -> bool:
        return self.words[3] == "started"


class TreeTold(msgspec.Struct):
    sagas: list[SagaTold]


class Buyer:
    """A guest of the lab who looks at their sagas."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    async def press(self, what: str = "", **more: object) -> Answer:
        path = f"sagas/{what}" if what else "sagas"
        return await self.guest.act(path, str(uuid4()), **more)

    async def told(self) -> bytes:
        return (await in_thread(lambda: self.guest.visitor.get("/api/lab/tree"))).body

    async def sagas(self) -> list[SagaTold]:
        return msgspec.json.decode(await self.told(), type=TreeTold).sagas

    async def one(self, is_so: Callable[[SagaTold], bool]) -> SagaTold:
        """Wait until there is one that is so."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for saga in await self.sagas():
                    if is_so(saga):
                        return saga
                await trio.sleep(0.02)

    async def a_waiting_one(self) -> SagaTold:
        assert (await self.press(choice="well")).status == 202
        return await self.one(lambda saga: saga.waits and saga.status == "running")

    async def says(self, saga: SagaTold, step: str, action: str) -> None:
        """Wait until a step is in hand, and say for who has it what comes of it."""
        await self.one(lambda one: one.id == saga.id and one.has_in_hand(step))
        assert (await self.press(f"{saga.id}/{action}", step=step)).status == 202

    async def end_of(self, saga: SagaTold) -> SagaTold:
        return await self.one(
            lambda one: one.id == saga.id and one.status in ("completed", "failed")
        )


@asynccontextmanager
async def a_buyer(site: WholeSite) -> AsyncIterator[Buyer]:
    async with a_guest(site) as guest:
        yield Buyer(guest)


def test_a_step_outlives_what_a_killed_process_leaves() -> None:
    # LAB-35, SAGA-6: whoever was killed keeps its parts of the outbox for so long
    assert min(STEP_S, SILENT_S) > LEASE.total_seconds()
    definition = Checkout.definition()
    assert sum(step.timeout_s for step in definition.steps) <= definition.deadline_s
    # And no timer ends before the next look at them.
    assert min(step.timeout_s for step in definition.steps) > CLOCK_LOOK_S


async def test_a_checkout_waits_for_its_visitor_and_survives_a_crash() -> None:
    # LAB-35, SAGA-2, SAGA-6, SAGA-17
    async with open_whole_site() as site, a_buyer(site) as buyer:
        waiting = await buyer.a_waiting_one()
        assert waiting.words == ["done", "done", "done", "started", "new"]
        assert waiting.actor == ActorTold("running", 1)
        assert (await buyer.press(f"{waiting.id}/crash")).status == 202
        back = await buyer.one(lambda one: one.actor is not None and one.actor.incarnation == 2)
        assert back.words == waiting.words
        assert (await buyer.press(f"{waiting.id}/confirm")).status == 202
        over = await buyer.end_of(waiting)
        assert (over.status, over.words) == ("completed", ["done"] * 5)
        assert (await buyer.press(f"{waiting.id}/cancel")).status == 409
        # Its stream's name, which says whose it is, is nowhere in what is told.
        assert b"lab_checkout-" not in await buyer.told()
        own, session = site.web.checkouts, buyer.guest.sandbox.session
        assert own is not None
        assert isinstance(session, UUID)
        (saga,) = (await own.of(session)).values()
        for step in ("place", "reserve", "pay", "send"):
            stream = StreamId(f"lab_step-{saga.name}.{step}")
            assert [one.type async for one in site.events.load(stream)] == ["LabStepDone"]


async def test_what_was_done_is_taken_back_and_others_see_none_of_it() -> None:
    # LAB-35, SAGA-4, LAB-6, LAB-90, LAB-91, LAB-92
    async with open_whole_site() as site, a_buyer(site) as buyer, a_buyer(site) as other:
        # The same command twice begins one.
        for _ in range(2):
            assert (await buyer.guest.act("sagas", "same", choice="refused")).status == 202
        (begun,) = await buyer.sagas()
        failed = await buyer.end_of(begun)
        assert failed.words == ["done", "done", "failed", "new", "new"]
        assert [one.undo for one in failed.steps[:2]] == ["done", "done"]
        assert failed.reason == "pay: the card was refused"
        waiting = await buyer.a_waiting_one()
        assert (await buyer.press(f"{waiting.id}/cancel")).status == 202
        gone = await buyer.end_of(waiting)
        assert gone.status == "failed"
        assert [one.undo for one in gone.steps[:3]] == ["done", "done", "done"]
        for _ in range(PER_VISITOR_MAX):
            assert (await buyer.press(choice="well")).status == 202
        assert (await buyer.press(choice="well")).status == 409
        assert len(await buyer.sagas()) == PER_VISITOR_MAX
        one = await buyer.one(lambda saga: saga.waits)
        assert await other.sagas() == []
        for action in ("confirm", "cancel", "crash"):
            assert (await other.press(f"{one.id}/{action}")).status == 404
        assert (await buyer.press(f"{one.id}/explode")).status == 400
        assert (await buyer.press("x" * 17 + "/cancel")).status == 400
        assert (await buyer.press(choice="'; DROP")).status == 400
        site.web._lab_switch._set = LabMode.READONLY
        assert (await other.press(choice="well")).status == 503
        assert (await buyer.press(f"{one.id}/cancel")).status == 503


def test_who_carries_a_step_out_decides_once() -> None:
    # LAB-35, SAGA-2: whatever is said for them later, in whichever order it comes
    step, env = LabStep(), environment()
    for first, then in ((Do(), Do("no")), (Do("no"), Do())):
        decided = step.decide(step.initial(), first, env)
        assert not isinstance(decided, Refusal | Reply)
        (told,) = decided
        again = step.decide(step.apply(step.initial(), told), then, env)
        assert again == ([] if first == Do() else Refusal("refused", "no"))


async def test_steps_are_answered_by_hand_and_what_fails_is_undone_in_reverse() -> None:
    # LAB-35, SAGA-2, SAGA-3, SAGA-4, SAGA-6, LAB-90, LAB-91
    async with open_whole_site() as site, a_buyer(site) as buyer, a_buyer(site) as other:
        assert (await buyer.press(choice="hand")).status == 202
        begun = await buyer.one(lambda saga: saga.has_in_hand("place"))
        for step, status in (("pay", 409), ("confirm", 409), ("", 400), ("lunch", 400)):
            assert (await buyer.press(f"{begun.id}/fail", step=step)).status == status
        assert (await other.press(f"{begun.id}/answer", step="place")).status == 404
        await buyer.says(begun, "place", "answer")
        # It crashes in step 2, and again tries it once more: neither does anything twice.
        await buyer.one(lambda saga: saga.has_in_hand("reserve"))
        assert (await buyer.press(f"{begun.id}/crash")).status == 202
        await buyer.one(lambda one: one.actor is not None and one.actor.incarnation == 2)
        await buyer.says(begun, "reserve", "stumble")
        await buyer.one(lambda one: one.has_in_hand("reserve", attempt=2))
        assert (await buyer.press(f"{begun.id}/answer", step="reserve")).status == 202
        await buyer.says(begun, "pay", "fail")
        failed = await buyer.end_of(begun)
        assert failed.words == ["done", "done", "failed", "new", "new"]
        assert failed.reason == "pay: its visitor refused it"
        assert failed.log == [
            "SagaStarted",
            *("StepStarted place", "StepSucceeded place"),
            *("StepStarted reserve", "StepFailed reserve"),
            *("StepStarted reserve", "StepSucceeded reserve"),
            *("StepStarted pay", "StepFailed pay", "CompensationStarted"),
            *("UndoStarted reserve", "UndoSucceeded reserve"),
            *("UndoStarted place", "UndoSucceeded place", "SagaFailed"),
        ]
        own, session = site.web.checkouts, buyer.guest.sandbox.session
        assert own is not None
        assert isinstance(session, UUID)
        (saga,) = (await own.of(session)).values()
        for step in ("place", "reserve"):
            log = site.events.load(StreamId(f"lab_step-{saga.name}.{step}"))
            assert [one.type async for one in log] == ["LabStepDone", "LabStepUndone"]


async def test_an_hour_on_each_deadline_has_come_once_and_only_for_its_visitor() -> None:
    # LAB-35, SAGA-5, SAGA-7, LAB-90
    async with open_whole_site() as site, a_buyer(site) as buyer, a_buyer(site) as other:
        theirs = await other.a_waiting_one()
        waiting = await buyer.a_waiting_one()
        for _ in range(2):
            assert (await buyer.press(choice="hand")).status == 202
        own, session = site.web.checkouts, buyer.guest.sandbox.session
        assert own is not None
        assert isinstance(session, UUID)
        own._own.clear()  # as if another process had begun them
        one, another = [saga for saga in await buyer.sagas() if saga.has_in_hand("place")]
        assert (await buyer.press(f"{one.id}/timeout", step="place")).status == 202
        assert (await buyer.end_of(one)).reason == "place: nobody answered in time"
        assert (await buyer.press("clock/advance")).status == 202
        for saga in (waiting, another):
            gone = await buyer.end_of(saga)
            assert gone.status == "failed"
            ended = [event for event in gone.events if event.event == "StepFailed"]
            assert [event.kind for event in ended] == ["timeout"]
            assert gone.log.count("CompensationStarted") == 1
        assert own.ahead_h(session) == 1
        for saga_id in (await own.of(session)).values():
            assert await own._timers_of(saga_id) == []
        # Nothing is due on a clock that went on without anything to be due.
        assert (await buyer.press("clock/advance")).status == 202
        assert own.ahead_h(session) == 2
        (left,) = await other.sagas()
        assert (left.id, left.waits, left.status) == (theirs.id, True, "running")
