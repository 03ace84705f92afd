"""The lab's saga as a visitor meets it: begun, confirmed, cancelled, refused, crashed (LAB-35)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from actors.persistence import StreamId
from actors.persistence.beside_log.outbox import LEASE
from tests.journeys.visitor import Answer
from tests.patience import PATIENCE_S
from tests.web.lab.test_lab_site import Guest, a_guest
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.lab.demos.checkout.actor import CLOCK_LOOK_S
from web.lab.demos.checkout.steps import SILENT_S, STEP_S, Checkout
from web.lab.demos.checkout.visitors import PER_VISITOR_MAX
from web.settings import LabMode

pytestmark = pytest.mark.slow


class StepTold(msgspec.Struct):
    step: str
    phase: str
    undo: str | None

    @property
    def word(self) -> str:
        return self.undo or self.phase


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
        (saga,) = own.of(session).values()
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
