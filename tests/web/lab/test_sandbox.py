"""A sandbox as it runs: the table of LAB-2, its strategies, its end, and what reaches it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import AnyRef, Cell, Context, System, edge_context
from supervision import (
    REPORTS,
    ChildSpec,
    Dynamic,
    Flags,
    Node,
    Plan,
    Report,
    Supervisor,
    Tree,
    handle_of,
    open_system,
    tree_of,
)
from tests.patience import until
from web.lab.sandbox.desk import SANDBOXES_MAX, sandboxes_supervisor
from web.lab.sandbox.keeper import Keeper, Wanted
from web.lab.sandbox.sandboxes import HEALED_AFTER_S, KEPT_S, STAGE, NotNow, Sandbox, Sandboxes
from web.lab.sandbox.words import PLACES, QUEUED_MAX, ROOM_PLACES, Place
from web.lab.switch import LabSwitch
from web.realtime import Stream, StreamKey
from web.settings import LabMode

CREW = [Place("crew-alpha"), Place("crew-beta"), Place("crew-gamma")]
FEED = [Place("feed-source"), Place("feed-router"), Place("feed-sink")]


class Site(Supervisor):
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def plan(self) -> Plan:
        self._kit.systems.append(self.system)
        return Plan(
            Flags(intensity=1, period=5.0),
            [
                ChildSpec(
                    "sandboxes",
                    lambda: sandboxes_supervisor(self._kit.sandboxes.props_of),
                    name="sandboxes",
                    type="supervisor",
                ),
                ChildSpec("keeper", self._kit.keeper, name="keeper"),
            ],
        )


@dataclass
class Kit:
    """A tree with sandboxes, and no web around it."""

    systems: list[System]
    most: int

    def __post_init__(self) -> None:
        self.sandboxes = Sandboxes(
            lambda: self.systems[0],
            wake_keeper=self.tell_keeper,
            wake_feed=lambda: None,
            path="site/sandboxes",
            most=self.most,
        )

    def keeper(self) -> Keeper:
        return Keeper(self.sandboxes, LabSwitch(LabMode.PUBLIC), self.supervisor, lambda: None)

    def supervisor(self) -> AnyRef:
        found = self.systems[0].whereis("sandboxes")
        assert found is not None
        return found

    def tell_keeper(self) -> None:
        keeper = self.systems[0].whereis("keeper", Keeper)
        assert keeper is not None
        keeper.tell(Wanted())

    def open(self, session: UUID | None = None) -> Stream:
        stream = Stream(StreamKey(session or uuid4(), str(uuid4())), "127.0.0.1")
        self.sandboxes.join(stream, STAGE)
        return stream

    async def ready(self, stream: Stream) -> Sandbox:
        sandbox = self.sandboxes.of(stream.key.session)
        await until(lambda: len(self.running(sandbox)) == len(PLACES))
        return sandbox

    def running(self, sandbox: Sandbox) -> list[Place]:
        cells = self.sandboxes.cells(sandbox)
        return [place for place, cell in cells.items() if cell.status == "running"]

    def lives(self, sandbox: Sandbox) -> dict[Place, int]:
        cells = self.sandboxes.cells(sandbox)
        return {place: cell.incarnation for place, cell in cells.items()}

    async def act(self, sandbox: Sandbox, place: str, action: str, count: int = 500) -> None:
        self.sandboxes.check(sandbox, Place(place), action, count)
        self.sandboxes.act(sandbox, Place(place), action, count)

    async def settled(self, sandbox: Sandbox, stories: int) -> None:
        kept = sandbox.stories.kept
        await until(lambda: len(kept) >= stories and all(story.is_over for story in kept))


class Reported:
    """Keeps what supervisors report."""

    def __init__(self) -> None:
        self.all: list[Report] = []

    def deliver(self, event: object) -> None:
        assert isinstance(event, Report)
        self.all.append(event)


@asynccontextmanager
async def open_kit(most: int = 200) -> AsyncIterator[Kit]:
    kit = Kit([], most)
    async with open_system(Site, kit, name="site"):
        yield kit


async def test_the_sandbox_is_the_table(autojump_clock: MockClock) -> None:
    """LAB-2 LAB-3: made with the first stage that is shown, each session's its own."""
    async with open_kit() as kit:
        assert len(kit.sandboxes) == 0
        stream = kit.open()
        sandbox = await kit.ready(stream)
        tree = tree_of(kit.systems[0])
        nodes = {place: tree.node(cell) for place, cell in kit.sandboxes.cells(sandbox).items()}
        assert list(nodes) == list(PLACES)
        told = {place: node.strategy for place, node in nodes.items() if node.strategy}
        assert told == {
            "desk": "one_for_one", "feed": "rest_for_one", "crew": "one_for_all",
            "rooms": "dynamic",
        }  # fmt: skip
        budgets = {place: (one.window.max, one.window.period) for place, one in nodes.items()
                   if place in told and one.window}  # fmt: skip
        assert budgets == {"desk": (5, 10.0), "feed": (3, 5.0), "crew": (3, 5.0),
                           "rooms": (5, 5.0)}  # fmt: skip
        other = await kit.ready(kit.open())
        assert other is not sandbox
        await kit.act(sandbox, "crew-beta", "crash")
        await kit.settled(sandbox, 1)
        assert set(kit.lives(other).values()) == {1}


async def test_ten_numbered_messages_a_second_run_while_somebody_looks(
    autojump_clock: MockClock,
) -> None:  # LAB-2 LAB-5
    async with open_kit() as kit:
        stream = kit.open()
        sandbox = await kit.ready(stream)
        before = sandbox.props.received
        await trio.sleep(10.05)
        assert sandbox.props.received - before == 100
        assert (sandbox.props.lost, sandbox.props.doubled) == (0, 0)
        kit.sandboxes.leave(stream)
        await trio.sleep(1)
        rested = sandbox.props.sent
        await trio.sleep(60)
        assert sandbox.props.sent == rested
        assert not tree_of(kit.systems[0]).is_watched
        kit.open(stream.key.session)
        await trio.sleep(1.05)
        assert sandbox.props.sent > rested
        assert sandbox.props.lost == 0
        assert kit.sandboxes.shared.props.sent == 0


@pytest.mark.parametrize(
    ("place", "decision", "reborn"),
    [
        ("crew-beta", "restart_all", CREW),
        ("feed-router", "restart_rest", FEED[1:]),
        ("feed-source", "restart_rest", FEED),
        ("feed-sink", "restart_rest", FEED[2:]),
    ],
)
async def test_a_crash_restarts_whom_its_strategy_says(
    place: str, decision: str, reborn: list[Place], autojump_clock: MockClock
) -> None:  # LAB-12
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        await kit.act(sandbox, place, "crash")
        await kit.settled(sandbox, 1)
        assert [one for one, life in kit.lives(sandbox).items() if life == 2] == reborn
        (story,) = sandbox.stories.kept
        assert story.decision is not None
        assert story.decision.decision == decision
        assert {story.place, *story.affected} == set(reborn)
        times = [story.exit_at, story.told_at, story.decided_at, story.made_at, story.began_at,
                 story.running_at]  # fmt: skip
        known = [at for at in times if at is not None]
        assert len(known) == 6
        assert known == sorted(known)
        assert story.in_hand == 1


@pytest.mark.parametrize("action", ["crash", "kill"])
@pytest.mark.parametrize("place", ["crew-alpha", "feed-source", "feed-router", "feed-sink"])
async def test_an_exit_is_of_who_pressed_whichever_message_was_in_hand(
    place: str, action: str, autojump_clock: MockClock
) -> None:
    """LAB-30: what waited before the press is another flow's, or nobody's."""
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        await until(lambda: sandbox.props.received > 0)
        reports = Reported()
        kit.systems[0].topics.subscribe(REPORTS, reports)
        with edge_context(Context("of the flood")):
            await kit.act(sandbox, place, "flood", 3)
        for flow in ("of the press", "of one that came too late"):
            with edge_context(Context(flow)):
                await kit.act(sandbox, place, action)
        await kit.settled(sandbox, 1)
        (report,) = [one for one in reports.all if one.context == "child_terminated"]
        assert report.correlation_id != "of the press", "another message was in hand"
        assert kit.sandboxes.cause_of(report) == "of the press"
        kit.sandboxes.forget(sandbox)
        assert kit.sandboxes.cause_of(report) in {"of the press", None}, "its sandbox is gone"


async def test_a_group_is_told_leaf_by_leaf_and_who_was_stopped_for_it(
    autojump_clock: MockClock,
) -> None:  # LAB-11
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        await kit.act(sandbox, "feed-router", "crash")
        await kit.settled(sandbox, 1)
        (note,) = sandbox.stories.exits[Place("feed-router")]
        assert note.leaves == ("ShelfFell: the left one", "ShelfFell: the right one")
        (sink,) = sandbox.stories.exits[Place("feed-sink")]
        assert sink.exit.kind == "shutdown"
        assert "router" in (sink.exit.because or "")


async def test_a_room_waits_its_backoff_and_cannot_be_crashed_meanwhile(
    autojump_clock: MockClock,
) -> None:  # LAB-6 LAB-12
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        place = Place("rooms-room-2")
        await kit.act(sandbox, place, "crash")
        await until(lambda: kit.sandboxes.cells(sandbox)[place].status == "backing_off")
        for action in ("crash", "kill", "flood"):
            with pytest.raises(NotNow):
                kit.sandboxes.check(sandbox, place, action, 1)
        await kit.settled(sandbox, 1)
        (story,) = sandbox.stories.kept
        assert story.restart_us is not None
        assert 0.2 <= story.restart_us / 1e6 < 0.4
        assert [one for one, life in kit.lives(sandbox).items() if life > 1] == [place]


async def test_a_flood_waits_and_drains_and_others_stay_flat(autojump_clock: MockClock) -> None:
    """LAB-20 LAB-3: 500 at 20 ms each; never more than the sandbox may hold."""
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        await kit.act(sandbox, "crew-alpha", "flood", 500)
        cells = kit.sandboxes.cells(sandbox)
        assert cells[Place("crew-alpha")].mailbox.queued >= 400
        assert all(cell.mailbox.queued < 5 for place, cell in cells.items() if place != CREW[0])
        with pytest.raises(NotNow):
            kit.sandboxes.check(sandbox, CREW[0], "flood", 1000)
        await trio.sleep(30)
        assert cells[CREW[0]].mailbox.queued == 0
        for place in CREW + FEED:
            await kit.act(sandbox, place, "flood", 1000 if place != "feed-sink" else 900)
            if sum(cell.mailbox.queued for cell in cells.values()) > 4000:
                break
        with pytest.raises(NotNow):
            kit.sandboxes.check(sandbox, Place("rooms-room-1"), "flood", 1000)


async def test_a_supervisor_that_gives_up_is_restarted_by_the_desk(
    autojump_clock: MockClock,
) -> None:  # LAB-12
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        for number in range(4):
            await kit.act(sandbox, "crew-alpha", "crash")
            await kit.settled(sandbox, number + 1)
        await kit.settled(sandbox, 5)
        story = sandbox.stories.kept[-1]
        assert (story.place, story.has_given_up) == ("crew", True)
        assert story.restart_us is not None
        assert kit.lives(sandbox)[Place("crew")] == 2
        assert len(kit.running(sandbox)) == len(PLACES)


async def test_the_site_survives_whatever_becomes_of_a_sandbox(autojump_clock: MockClock) -> None:
    """LAB-90 LAB-94: a desk that gives up is made anew, and no budget above it is touched."""
    async with open_kit() as kit:
        stream = kit.open()
        sandbox = await kit.ready(stream)
        for _ in range(3):
            remade = partial(lambda before: sandbox.remade > before, sandbox.remade)
            await kit.act(sandbox, "desk", "kill")
            await until(remade)
            await kit.ready(stream)
        for _ in range(6):
            await kit.act(sandbox, "feed", "kill")
            await until(
                lambda: (
                    sandbox.remade > 3
                    or kit.sandboxes.cell(sandbox, Place("feed-sink")) is not None
                )
            )
            await trio.sleep(0.01)
        await until(lambda: sandbox.remade >= 4)
        await kit.ready(stream)
        above = tree_of(kit.systems[0]).snapshot().actors
        mine = {node.path: node.incarnation for node in above if node.path.count("/") < 2}
        assert set(mine.values()) == {1}


async def test_rooms_come_back_with_their_supervisor(autojump_clock: MockClock) -> None:  # LAB-2
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        await kit.act(sandbox, "rooms", "kill")
        await kit.settled(sandbox, 1)
        await kit.ready(kit.open(sandbox.session))
        assert kit.lives(sandbox)[Place("rooms")] == 2


async def test_it_heals_a_minute_after_the_last_action(autojump_clock: MockClock) -> None:
    """LAB-3: a room that gave up is back."""
    async with open_kit() as kit:
        stream = kit.open()
        sandbox = await kit.ready(stream)
        room = kit.sandboxes.cells(sandbox)[Place("rooms-room-1")]
        rooms = handle_of(Dynamic, kit.sandboxes.cells(sandbox)[Place("rooms")].ref)
        await rooms.terminate_child(room.ref)
        await kit.act(sandbox, "crew-alpha", "flood", 1)
        await trio.sleep(HEALED_AFTER_S / 2)
        assert len(kit.running(sandbox)) == len(PLACES) - 1
        await trio.sleep(HEALED_AFTER_S / 2 + 2)
        assert len(kit.running(sandbox)) == len(PLACES)


async def test_it_ends_ten_minutes_after_the_last_page(autojump_clock: MockClock) -> None:
    """LAB-3 LAB-94: made and gone, nothing is left; who comes back in time finds it."""
    async with open_kit() as kit:
        await until(lambda: len(kit.running(kit.sandboxes.shared)) == len(PLACES))
        system = kit.systems[0]
        before = len(list(system.cells())), len(kit.sandboxes._by_key)
        streams = [kit.open() for _ in range(5)]
        for stream in streams:
            await kit.ready(stream)
        for stream in streams:
            kit.sandboxes.leave(stream)
        await trio.sleep(KEPT_S - 10)
        first = kit.sandboxes.of(streams[0].key.session)
        back = kit.open(streams[0].key.session)
        assert kit.sandboxes.of(back.key.session) is first
        await trio.sleep(20)
        assert len(kit.sandboxes) == 1
        kit.sandboxes.leave(back)
        await trio.sleep(KEPT_S + 5)
        assert (len(list(system.cells())), len(kit.sandboxes._by_key)) == before


@pytest.mark.slow
async def test_two_hundred_are_made_and_gone_and_nothing_is_left(
    autojump_clock: MockClock,
) -> None:
    """LAB-3 LAB-94: and the next visitor meanwhile sees the shared one."""
    async with open_kit() as kit:
        await until(lambda: len(kit.running(kit.sandboxes.shared)) == len(PLACES))
        system = kit.systems[0]

        def counts() -> tuple[int, int, int]:
            tasks = trio.lowlevel.current_statistics().tasks_living
            return len(list(system.cells())), len(kit.sandboxes._by_key), tasks

        before = counts()
        streams = [kit.open() for _ in range(SANDBOXES_MAX)]
        assert kit.sandboxes.of(kit.open().key.session) is kit.sandboxes.shared
        sandboxes = [kit.sandboxes.of(stream.key.session) for stream in streams]
        await until(lambda: all(one.root for one in sandboxes))
        await kit.ready(streams[-1])
        assert counts()[0] == before[0] + SANDBOXES_MAX * len(PLACES)
        for stream in list(kit.sandboxes.viewers):
            kit.sandboxes.leave(stream)
        for sandbox in sandboxes:
            sandbox.left_at -= KEPT_S  # as if they had left so long ago
        await until(lambda: len(kit.sandboxes) == 0)
        await trio.sleep(1)
        assert (len(kit.sandboxes), counts()) == (0, before)
        assert not kit.sandboxes.viewers
        assert not kit.sandboxes.newcomers


async def test_who_comes_when_all_are_taken_sees_the_shared_one(autojump_clock: MockClock) -> None:
    """LAB-3: it is looked at, and never touched."""
    async with open_kit(most=1) as kit:
        await kit.ready(kit.open())
        late = kit.open()
        shared = await kit.ready(late)
        assert shared is kit.sandboxes.shared
        for action in ("crash", "kill", "flood"):
            with pytest.raises(NotNow):
                kit.sandboxes.check(shared, CREW[0], action, 1)


async def test_a_keeper_that_crashed_goes_on(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        keeper = kit.systems[0].whereis("keeper")
        assert keeper is not None
        keeper.kill()
        await trio.sleep(0.1)
        await kit.act(sandbox, "desk", "kill")
        await until(lambda: sandbox.remade >= 1)
        assert await kit.ready(kit.open(sandbox.session)) is sandbox


@pytest.mark.parametrize("is_ending", [True, False])
async def test_a_keeper_that_is_killed_leaves_no_sandbox_without_owner(
    is_ending: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAB-94: between taking its name from a sandbox and ending it, or naming and starting it."""
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        keeper = kit.systems[0].whereis("keeper")
        assert keeper is not None
        step = "ended" if is_ending else "named"
        original = getattr(kit.sandboxes, step)

        def killed(*given: object) -> None:
            original(*given)
            monkeypatch.setattr(kit.sandboxes, step, original)
            keeper.kill()

        monkeypatch.setattr(kit.sandboxes, step, killed)
        kit.sandboxes.reset(sandbox)
        await trio.sleep(2.0)
        assert len(kit.running(sandbox)) == len(PLACES)
        cells = kit.systems[0].cells()
        desks = {cell.path for cell in cells if cell.path.count("/") == 2}
        assert desks == {sandbox.root, kit.sandboxes.shared.root}
        assert kit.sandboxes._by_key.keys() == {path.rpartition("/")[2] for path in desks}


async def test_after_a_reset_it_is_counted_from_the_first(autojump_clock: MockClock) -> None:
    """LAB-2: what was on its way is not lost, for nobody waits for it any more."""
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        await trio.sleep(3.0)
        kit.sandboxes.act(sandbox, Place("feed-sink"), "flood", 100)
        await trio.sleep(1.0)
        await kit.act(sandbox, "feed-router", "crash")
        await trio.sleep(1.0)
        kit.sandboxes.reset(sandbox)
        await trio.sleep(2.05)
        props = sandbox.props
        assert (props.lost, props.doubled) == (0, 0)
        assert 15 <= props.received == props.sent <= 21


async def test_unwatched_no_node_is_built(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAB-5: also not of others' changes while somebody watches a sandbox."""
    async with open_kit() as kit:
        stream = kit.open()
        await kit.ready(stream)
        tree = tree_of(kit.systems[0])
        built: list[str] = []
        original = type(tree).node

        def counted(self: Tree, cell: Cell) -> Node:
            built.append(cell.path)
            return original(self, cell)

        monkeypatch.setattr(type(tree), "node", counted)
        keeper = kit.systems[0].whereis("keeper")
        assert keeper is not None
        keeper.kill()
        await trio.sleep(1)
        kit.sandboxes.leave(stream)
        await trio.sleep(5)
        assert built == []


async def test_who_comes_back_while_it_ends_has_one_that_lives(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAB-3: the keeper waits for its actors to end, and a page opens meanwhile."""
    async with open_kit() as kit:
        stream = kit.open()
        sandbox = await kit.ready(stream)
        session, back = stream.key.session, list[Stream]()
        original = kit.sandboxes.ended

        def ended(one: Sandbox) -> None:
            original(one)
            if not back:
                back.append(kit.open(session))

        monkeypatch.setattr(kit.sandboxes, "ended", ended)  # what the keeper calls first
        kit.sandboxes.leave(stream)
        await trio.sleep(KEPT_S + 5)
        seen = kit.sandboxes.viewers[back[0]].sandbox
        assert kit.sandboxes.of(session) is seen
        assert len(kit.running(seen)) == len(PLACES)
        await kit.act(sandbox, "feed-source", "crash")


async def test_floods_that_come_together_fill_a_sandbox_and_no_more(
    autojump_clock: MockClock,
) -> None:
    """LAB-3: each was checked while the others were on their way."""
    async with open_kit() as kit:
        sandbox = await kit.ready(kit.open())
        places = [*CREW, *FEED, *ROOM_PLACES]
        for place in places:
            kit.sandboxes.check(sandbox, place, "flood", 1000)
        for place in places:
            kit.sandboxes.act(sandbox, place, "flood", 1000)
        cells = kit.sandboxes.cells(sandbox).values()
        assert 4900 <= sum(cell.mailbox.queued for cell in cells) <= QUEUED_MAX
        assert not any(kit.systems[0].stats(cell.ref).overflowed for cell in cells)
