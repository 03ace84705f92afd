"""The tree as data: snapshots, changes without gaps, and the past."""

import asyncio
import json
from collections.abc import Mapping
from typing import Never

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, narrow
from supervision import (
    Backoff,
    ChildSpec,
    Decision,
    Dynamic,
    DynamicFlags,
    Flags,
    TellsOfItself,
    TreeChange,
    TreeSnapshot,
    handle_of,
    open_system,
    tree_of,
)
from supervision.tree import tree as tree_module
from supervision.tree.history import TreeHistory
from tests.supervision.puppets import Crash, Kit, Note, Troupe, Word, settle

BOOM = ValueError("boom")


class Follower:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[TreeChange] = []

    def changed(self, change: TreeChange) -> None:
        self.changes.append(change)

    def steps(self) -> list[tuple[str, str]]:
        return [(change.path.rpartition("/")[2], change.kind) for change in self.changes]


def specs(kit: Kit) -> list[ChildSpec]:
    inner = ChildSpec(
        "inner",
        lambda: Troupe(Flags("one_for_all", 5, 10.0), [kit.spec("x"), kit.spec("y")]),
        type="supervisor",
    )
    pool = ChildSpec(
        "pool",
        lambda: Dynamic[Word](
            DynamicFlags(key="child_id"),
            ChildSpec("one", lambda child_id: kit.maker(child_id)()),
        ),
        type="supervisor",
    )
    return [kit.spec("a", backoff=Backoff(1.0, jitter=0.0)), inner, pool]


async def test_a_snapshot_lists_the_whole_tree(kit: Kit, autojump_clock: MockClock) -> None:
    async with open_system(Troupe, Flags(intensity=9), specs(kit), name="app") as app:
        snap = app.tree.snapshot()
        assert [node.path for node in snap.actors] == [
            *("app", "app/a", "app/inner", "app/inner/x", "app/inner/y", "app/pool"),
        ]
        by_path = {node.path: node for node in snap.actors}
        assert by_path["app"].strategy == "one_for_one"
        assert by_path["app"].children == 3
        assert by_path["app/inner"].strategy == "one_for_all"
        assert by_path["app/pool"].strategy == "dynamic"
        leaf = by_path["app/inner/x"]
        assert (leaf.type, leaf.strategy, leaf.restart) == ("worker", None, "permanent")
        assert leaf.kind == ("task" if kit.is_async else "dispatched")
        assert leaf.class_name == kit.puppet.__name__
        assert leaf.parent == "app/inner"
        assert [node.path for node in app.tree.snapshot("app/inner").actors] == [
            *("app/inner", "app/inner/x", "app/inner/y"),
        ]
        json.dumps(snap.to_json())
        assert snap.epoch == app.system.id


async def test_the_actors_of_a_tree_are_found_from_the_top(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # LAB-10: the same as the system has, but for what is below a closed path
    async with open_system(Troupe, Flags(intensity=9), specs(kit), name="app") as app:
        above = app.system.at("app/pool")
        assert above is not None
        pool = handle_of(Dynamic[Word], above.ref)
        for number in range(3):
            pool[f"key{number}"].tell(Note(f"{number}"))
        await settle()

        def paths(*closed: str) -> list[str]:
            return [cell.path for cell in app.tree.cells(closed)]

        for _ in range(2):
            assert paths() == [node.path for node in app.tree.snapshot().actors]
            assert paths("app/pool") == [path for path in paths() if "key" not in path]
            assert paths("app") == ["app"]
            cell = app.system.at("app/inner/x")
            assert cell is not None
            narrow(cell.ref, kit.puppet).tell(Crash(BOOM))
            await settle()


async def test_changes_tell_each_step_with_its_cause(kit: Kit, autojump_clock: MockClock) -> None:
    follower = Follower()
    async with open_system(Troupe, Flags(intensity=9), specs(kit), name="app") as app:
        inner = app.tree
        with inner.watch(follower) as snap:
            cell = app.system.at("app/inner/x")
            assert cell is not None
            narrow(cell.ref, kit.puppet).tell(Crash(BOOM))
            await settle()
        assert follower.steps() == [
            *(("x", "exited"), ("x", "decided"), ("x", "restarting")),
            *(("y", "stopping"), ("y", "exited")),
            *(("y", "restarting"), ("x", "starting"), ("x", "started")),
            *(("y", "starting"), ("y", "started")),
        ]
        seqs = [change.seq for change in follower.changes]
        assert seqs == list(range(snap.seq + 1, snap.seq + 11))
        decision = follower.changes[1].decision
        assert decision == Decision("restart_all", ("app/inner/x", "app/inner/y"), None)
        stopping = follower.changes[3]
        assert stopping.because == "one_for_all: x crashed"
        last = follower.changes[-1].node
        assert last is not None
        assert (last.status, last.incarnation, last.restarts) == ("running", 2, 1)
        assert follower.changes[0].exit is not None
        assert follower.changes[0].exit.error == "ValueError"
        own = inner.snapshot("app/inner").actors[0].window
        assert own is not None
        assert (own.used, own.max, own.period) == (1, 5, 10.0)


async def test_a_restart_is_measured(kit: Kit, autojump_clock: MockClock) -> None:
    async with open_system(Troupe, Flags(intensity=9), specs(kit), name="app") as app:
        (await app.refs())["a"].tell(Crash(BOOM))
        await settle()
        (node,) = app.tree.snapshot("app/a").actors
        assert (node.status, node.next_restart_at) == ("backing_off", 1.0)
        await trio.sleep(1.0)
        await settle()
        (node,) = app.tree.snapshot("app/a").actors
        assert node.restart_s == pytest.approx(1.0)
        assert node.last_exits[-1].message == "boom"


async def test_the_past_can_be_rebuilt(kit: Kit, autojump_clock: MockClock) -> None:
    history = TreeHistory()
    seen: list[TreeSnapshot] = []
    async with open_system(Troupe, Flags(intensity=9), specs(kit), name="app") as app:
        with history.record(app.tree):
            refs = await app.refs()
            for _ in range(4):
                seen.append(app.tree.snapshot())
                await trio.sleep(0.5)
                refs["a"].tell(Crash(BOOM))
                await app.start_child(kit.spec(f"more{len(seen)}"))
                await settle()
            assert history.since == 0.0
            for snap in seen:
                then = history.at(snap.at)
                words = {node.path: (node.status, node.incarnation) for node in then.actors}
                assert words == {node.path: (node.status, node.incarnation) for node in snap.actors}
            assert len({len(history.at(snap.at).actors) for snap in seen}) == 4


async def test_the_past_is_bounded(kit: Kit, autojump_clock: MockClock) -> None:
    history = TreeHistory(limit=10, under="app/inner")
    async with open_system(Troupe, Flags(intensity=99), specs(kit), name="app") as app:
        with history.record(app.tree):
            for _ in range(5):
                await trio.sleep(1.0)
                cell = app.system.at("app/inner/y")
                assert cell is not None
                narrow(cell.ref, kit.puppet).tell(Crash(BOOM))
                (await app.refs())["a"].tell(Note("not of this part"))
                await settle()
            assert len(history.changes) == 10
            now = history.at(trio.current_time())
            assert [node.path for node in now.actors] == [
                *("app/inner", "app/inner/x", "app/inner/y"),
            ]
            assert now.actors == app.tree.snapshot("app/inner").actors[:0] or {
                node.incarnation for node in now.actors
            } == {1, 6}
            with pytest.raises(ValueError, match="too early"):
                history.at(0.0)


async def test_unwatched_nothing_is_built(
    kit: Kit, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ACT-107
    built: list[object] = []

    def counting(*args: object, **options: object) -> object:
        built.append(args)
        raise AssertionError("nobody watches")

    async with open_system(Troupe, Flags(intensity=10_000), [kit.spec("a")]) as app:
        monkeypatch.setattr(tree_module, "TreeChange", counting)
        monkeypatch.setattr(tree_module, "Node", counting)
        ref = (await app.refs())["a"]
        for _ in range(300):
            ref.tell(Crash(BOOM))
        await settle()
        assert await app.numbers() == {"a": 301}
        assert built == []
        assert tree_of(app.system) is app.tree


async def test_a_sink_that_raises_is_removed_and_the_others_are_told(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-75
    class Bad(Follower):
        def changed(self, change: TreeChange) -> None:
            super().changed(change)
            raise asyncio.CancelledError

    bad, good = Bad(), Follower()
    async with open_system(Troupe, Flags(intensity=9), specs(kit), name="app") as app:
        with app.tree.watch(bad), app.tree.watch(good):
            (await app.refs())["a"].tell(Crash(BOOM))
            await trio.sleep(2.0)
            assert repr(app.tree).endswith(" 1 watching>")
        assert not app.tree.is_watched
    assert len(bad.changes) == 1
    assert good.steps()[-1] == ("a", "started")


async def test_a_passivated_child_leaves_the_tree(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-52
    follower = Follower()
    flags = DynamicFlags(key="child_id", passivate_after=1.0)
    template = ChildSpec("one", lambda child_id: kit.maker(child_id)())
    async with open_system(Dynamic[Word], flags, template, name="pool") as pool:
        with pool.tree.watch(follower):
            pool["oak"].tell(Note("hello"))
            await trio.sleep(2.0)
        assert follower.steps() == [
            *(("oak", "starting"), ("oak", "started")),
            *(("oak", "stopping"), ("oak", "exited"), ("oak", "gone")),
        ]
        assert [node.path for node in pool.tree.snapshot().actors] == ["pool"]


class _Chatty(Actor[Never]):
    """Tells what it is told to tell."""

    def __init__(self, about: Mapping[str, object] | None) -> None:
        self.about = about

    def tell_of_itself(self) -> Mapping[str, object]:
        if self.about is None:
            raise ValueError("not now")
        return self.about


async def test_an_actor_that_tells_of_itself_is_shown_so(kit: Kit) -> None:
    # SAGA-13: and one that cannot is shown all the same
    children = [
        ChildSpec("a", lambda: _Chatty({"step": 1})),
        ChildSpec("b", lambda: _Chatty(None)),
        kit.spec("c"),
    ]
    async with open_system(Troupe, Flags(), children, name="app") as app:
        nodes = app.tree.snapshot().actors
        assert {node.name: node.about for node in nodes} == {
            "app": None,
            "a": {"step": 1},
            "b": None,
            "c": None,
        }
        assert isinstance(_Chatty({}), TellsOfItself)


async def test_who_works_for_another_is_shown_below_it(kit: Kit) -> None:
    # SAGA-11
    children = [
        ChildSpec("a", lambda: _Chatty({"below": None})),
        ChildSpec("b", lambda: _Chatty({"below": "a"})),
        ChildSpec("c", lambda: _Chatty({"below": 7})),
        kit.spec("d"),
    ]
    async with open_system(Troupe, Flags(), children, name="app") as app:
        nodes = {node.name: node for node in app.tree.snapshot().actors}
        assert {name: node.shown_below for name, node in nodes.items()} == {
            "app": None,
            "a": "app",
            "b": "app/a",
            "c": "app",
            "d": "app",
        }
        assert nodes["b"].parent == "app"
        assert nodes["b"].to_json()["shown_below"] == "app/a"
