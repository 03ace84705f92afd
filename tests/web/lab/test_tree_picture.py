"""The picture drawn of a real supervision tree, with a real crash in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.runtime import Actor, Cell, Ref, System, message
from actors.sagas import Outcome, SagaCommand
from supervision import (
    Backoff,
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    Node,
    Plan,
    Supervisor,
    Tree,
    handle_of,
    open_system,
)
from tests.actors.sagas.checkouts import Basket, Fulfilment
from tests.actors.sagas.desks import Player, open_desk
from tests.actors.sagas.shops import memory_world
from web.lab.tree.picture import TreePicture, shown_above
from web.views import (
    ActorStatus,
    Branch,
    CountView,
    CrashTarget,
    Decision,
    StrategyBadge,
    element_id,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = "site/rooms/lobby"


@message
class Break:
    """Crash."""


class Broken(Exception):
    """Raised on purpose."""


class Worker(Actor[Break]):
    """Crashes when told to."""

    def on_break(self, _: Break) -> None:
        raise Broken("by a test\nin two lines")


@message
class Visit:
    """Be there."""


class Pages(Actor[Break | Visit]):
    """One of many, named by a visitor."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id

    def on_visit(self, _: Visit) -> None:
        return

    def on_break(self, _: Break) -> None:
        raise Broken("a visitor's own words")


class Rooms(Supervisor):
    """Two rooms; the second waits before it comes back."""

    def plan(self) -> Plan:
        slow = Backoff(first=2.0, max=2.0, jitter=0.0)
        return Plan(
            Flags(intensity=3, period=5.0),
            [ChildSpec("lobby", Worker), ChildSpec("demo", Worker, backoff=slow)],
        )


class Root(Supervisor):
    """A small site."""

    def plan(self) -> Plan:
        sessions = partial(Dynamic, DynamicFlags(key="session_id"), ChildSpec("session", Pages))
        return Plan(
            Flags(strategy="rest_for_one", intensity=3, period=5.0),
            [ChildSpec("rooms", Rooms), ChildSpec("sessions", sessions, type="supervisor")],
        )


class Site:
    """A running tree and its picture."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.picture = TreePicture(lambda: system, lambda: AT, TARGET)

    def ref(self, path: str) -> Ref[Break]:
        (cell,) = [cell for cell in self.system.cells() if cell.path == path]
        return cast("Ref[Break]", cell.ref)

    def visit(self, *names: str) -> None:
        sessions = handle_of(Dynamic, self.ref("site/sessions"))
        for name in names:
            sessions[name].tell(Visit())

    async def crash(self, path: str) -> None:
        self.ref(path).tell(Break())
        await wait_all_tasks_blocked()


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    async with open_system(Root, name="site") as root:
        yield Site(root.system)


def rows(branch: Branch | CountView, level: int = 0) -> list[tuple[int, str]]:
    if isinstance(branch, CountView):
        return [(level, f"{branch.count} {branch.kind}")]
    found = [(level, branch.node.name)]
    for child in branch.children:
        found += rows(child, level + 1)
    return found


def row_of(branch: Branch | CountView, name: str) -> Branch:
    found = [one for one in walk(branch) if one.node.name == name]
    return found[0]


def walk(branch: Branch | CountView) -> list[Branch]:
    if isinstance(branch, CountView):
        return []
    return [branch, *[below for child in branch.children for below in walk(child)]]


async def test_the_tree_is_drawn_in_start_order() -> None:  # LAB-10
    async with open_site() as site:
        root = site.picture.root()
        assert rows(root) == [
            (0, "site"), (1, "rooms"), (2, "lobby"), (2, "demo"), (1, "sessions"),
        ]  # fmt: skip
        assert root.node.strategy is StrategyBadge.REST_FOR_ONE
        lobby = row_of(root, "lobby").node
        assert (lobby.status, lobby.incarnation, lobby.restarts) == (ActorStatus.RUNNING, 1, 0)
        rooms = row_of(root, "rooms").node
        assert rooms.window is not None
        assert (rooms.window.used, rooms.window.most) == (0, 3)
        assert site.picture.crash() is None
        assert site.picture.restarts() == (0, None)


async def test_visitors_are_a_number_below_their_supervisor() -> None:  # LAB-10 LAB-93
    async with open_site() as site:
        site.visit("secret-one", "secret-two")
        await wait_all_tasks_blocked()
        root = site.picture.root()
        assert (2, "2 SessionActor") in rows(root)
        assert "secret" not in repr(root)
        assert site.picture.actor_count() == 7


async def test_a_crash_is_told_with_who_answered_it(autojump_clock: MockClock) -> None:
    async with open_site() as site:  # LAB-12 SITE-6
        await site.crash(TARGET)
        told = site.picture.crash()
        assert told is not None
        assert (told.name, told.supervisor, told.strategy) == (
            "lobby", "rooms", StrategyBadge.ONE_FOR_ONE,
        )  # fmt: skip
        assert (told.decision, told.incarnation) == (Decision.RESTART, 2)
        assert told.restart_ms is not None
        assert told.restart_ms < 50
        assert "Broken" in told.cause
        lobby = row_of(site.picture.root(), "lobby").node
        assert (lobby.incarnation, lobby.restarts) == (2, 1)
        assert "crashed" in (lobby.last_exit or "")
        count, milliseconds = site.picture.restarts()
        assert (count, milliseconds) == (1, told.restart_ms)
        await trio.sleep(3)
        assert site.picture.crash() == told, "the time of a crash does not flicker"


async def test_while_a_child_waits_its_crash_says_so(autojump_clock: MockClock) -> None:
    async with open_site() as site:  # LAB-12
        await site.crash("site/rooms/demo")
        told = site.picture.crash()
        assert told is not None
        assert (told.name, told.incarnation, told.restart_ms) == ("demo", None, None)
        assert row_of(site.picture.root(), "demo").node.status is ActorStatus.BACKING_OFF
        await trio.sleep(2.1)
        over = site.picture.crash()
        assert over is not None
        assert over.incarnation == 2
        assert over.at == told.at


async def test_only_a_running_target_is_offered(autojump_clock: MockClock) -> None:  # LAB-6
    async with open_site() as site:
        offered = site.picture.target()
        assert offered is not None
        assert offered.label == "the Lobby room"
        assert int(offered.id) == site.ref(TARGET).id
        nowhere = TreePicture(lambda: site.system, lambda: AT, None)
        assert nowhere.target() is None
        away = TreePicture(lambda: site.system, lambda: AT, "site/rooms/demo")
        await site.crash("site/rooms/demo")
        waiting = away.target()
        assert waiting is not None
        assert not waiting.is_running
        gone = TreePicture(lambda: site.system, lambda: AT, "site/rooms/nobody")
        assert gone.target() == CrashTarget(element_id("none"), "the Nobody room", is_running=False)
        assert site.picture.has_offered(offered.id)
        assert not site.picture.has_offered(str(site.ref("site/rooms/demo").id))


async def test_a_supervisor_that_gave_up_is_the_newest_crash(autojump_clock: MockClock) -> None:
    async with open_site() as site:  # LAB-12
        while (told := site.picture.crash()) is None or not told.has_given_up:
            await site.crash(TARGET)
        assert (told.name, told.supervisor) == ("rooms", "site")
        assert told.cause.startswith("lobby needed")
        assert (told.incarnation, told.children_back) == (2, 2)
        offered = site.picture.target()
        assert offered is not None
        assert offered.is_running


async def test_a_visitors_crash_is_no_news(autojump_clock: MockClock) -> None:  # LAB-93
    async with open_site() as site:
        site.visit("secret")
        await wait_all_tasks_blocked()
        await site.crash("site/sessions/secret")
        assert site.picture.crash() is None
        assert "secret" not in repr(site.picture.root())


async def test_what_visitors_brought_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    # LAB-10 LAB-93: the tree costs the same however many they are
    async with open_site() as site:
        site.visit(*(f"secret-{number}" for number in range(50)))
        await wait_all_tasks_blocked()
        looks: list[str] = []
        node = Tree.node

        def looked_at(tree: Tree, cell: Cell) -> Node:
            looks.append(cell.path)
            return node(tree, cell)

        monkeypatch.setattr(Tree, "node", looked_at)
        monkeypatch.setattr(System, "cells", None)  # Not even counted.
        facts = site.picture.read()
        own = ["site", "site/rooms", "site/rooms/lobby", "site/rooms/demo", "site/sessions"]
        assert looks == own
        assert (2, "50 SessionActor") in rows(facts.root)
        monkeypatch.undo()
        assert facts.root == site.picture.root()
        assert facts.target == site.picture.target()


async def test_a_nested_saga_is_drawn_below_its_parent(autojump_clock: MockClock) -> None:
    # SAGA-11
    waits: dict[str, Callable[[SagaCommand], Outcome | None]] = {"place": lambda _: None}
    async with open_desk(memory_world(), Player(waits), Fulfilment) as desk:
        for tenant in (None, "acme"):
            saga = await desk.sagas.start(Fulfilment, Basket("o", "c", 5), name="1", tenant=tenant)
            child = saga.child("purchase", "buy")
            while not any(str(one.saga) == str(child) for one in desk.player.got):
                await desk.player.came.wait()
        system = desk.tree.system
        picture = TreePicture(lambda: system, lambda: AT, None)
        sagas = row_of(picture.root(), "sagas")
        assert [row for row in rows(sagas) if "relay" not in row[1]] == [
            (0, "sagas"),
            (1, "fulfilment-1"),
            (2, "purchase-1:buy"),
            (1, "@acme:fulfilment-1"),
            (2, "@acme:purchase-1:buy"),
        ]


def _told(name: str, below: str | None) -> Node:
    return cast("Node", _Told(f"s/{name}", "s", "s" if below is None else f"s/{below}"))


@dataclass(frozen=True)
class _Told:
    path: str
    parent: str
    shown_below: str


@pytest.mark.parametrize(
    ("below", "drawn"),
    [
        ({"a": None, "b": "a"}, {"b": "a"}),
        ({"c": "b", "b": "a", "a": None}, {"c": "b", "b": "a"}),
        ({"a": "a"}, {}),
        ({"a": "b", "b": "a", "c": "a"}, {}),
        ({"a": "nobody", "b": "a"}, {}),
    ],
)
def test_who_names_itself_or_nobody_is_drawn_below_its_supervisor(
    below: dict[str, str | None], drawn: dict[str, str]
) -> None:
    # SAGA-11: nobody is drawn nowhere
    nodes = [_told(name, above) for name, above in below.items()]
    found = shown_above(nodes)
    assert found == {f"s/{name}": f"s/{above}" for name, above in drawn.items()}
