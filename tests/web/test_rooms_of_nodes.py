"""Rooms of several nodes, over the link's twin and in virtual time: nobody rings but the nodes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import cast
from uuid import UUID

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.chat import (
    LOBBY,
    Author,
    ChatEnvironment,
    ChatLogUnavailable,
    Draft,
    Message,
    Posted,
    PostRefused,
    PostVerdict,
    Repeated,
    RoomActor,
    RoomName,
    RoomRef,
    Rooms,
    Status,
    TooManyPosts,
    TooManyWaiting,
    UnknownRoom,
    Viewer,
    topic_of,
)
from actors.cluster import shard_of
from actors.persistence import Keyring, Shard
from actors.runtime import AskError, Shutdown, open_actors
from actors.timeline import Kind, Timeline
from storage.memory import MemoryChatLog
from storage.postgres import Database
from supervision import Supervisor, child, open_system
from tests.actors.chat.counting import CountingIds, SteppingClock
from tests.actors.chat.test_room import Listener
from tests.actors.chat.test_watching import Process
from tests.actors.cluster.reaching.talkers_kit import Talkers, talkers
from tests.patience import PATIENCE_S
from tests.web.chat.feed_kit import Page
from web.app.rooms import (
    POLL_S,
    ROOM,
    Ended,
    Kept,
    PeopleAcross,
    PostDrafts,
    Refused,
    RoomOwner,
    RoomsAcross,
    SharedChatLog,
    ended_of,
    verdict_of,
)
from web.chat.readers import LEFT_AFTER_S, NOBODY, Readers
from web.timeline.collector import asked_teller

# Within two lists of last numbers, and what the store is asked then.
TOLD_S = 5.0


@asynccontextmanager
async def open_node(some: Talkers, name: str, log: MemoryChatLog) -> AsyncIterator[Process]:
    """A node's room, which hears of the others' by the link alone."""
    environment = ChatEnvironment(
        SteppingClock(step_s=4.0), CountingIds(ord(name) * 10_000), log, 10_000, 10_000
    )
    listener, talker = Listener(), some.talkers[name]

    class Tree(Supervisor):
        room = child(partial(RoomActor, LOBBY, environment))

    async with open_system(Tree) as tree:
        room: RoomRef = tree.room
        tree.system.topics.subscribe(topic_of(LOBBY), listener)
        rooms = Rooms(lambda named: room if named == LOBBY else None)
        is_up = partial(lambda link: link.status().is_up, talker.link)
        await tree.system.start(RoomsAcross, talker.cluster, log, rooms, is_up)
        yield Process(room, listener)


@asynccontextmanager
async def open_nodes(names: str) -> AsyncIterator[tuple[Talkers, list[Process]]]:
    log = MemoryChatLog()
    await log.ensure_rooms([LOBBY])
    async with talkers(*names) as some, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_node(some, name, log)) for name in names]
        await trio.sleep(TOLD_S)
        for one in nodes:
            one.heard()
        yield some, nodes


async def test_every_list_is_complete_and_in_order_though_frames_are_lost(
    autojump_clock: MockClock,
) -> None:  # CLU-30
    async with open_nodes("abc") as (some, nodes):
        chance, lost = random.Random(7), 0

        def loses(subject: str, data: bytes) -> bool:
            nonlocal lost
            is_lost = ".t." in subject and chance.random() < 0.05
            lost += is_lost
            return is_lost

        for one in "abc":
            for other in "abc":
                some.server.direction(one, other).loses = loses
        said = []
        for number in range(300):
            await chance.choice(nodes).say(f"{number}")
            said.append(f"{number}")
            await trio.sleep(chance.uniform(0, 0.05))
        await trio.sleep(TOLD_S)
        assert [one.heard() for one in nodes] == [said] * 3
        assert lost > 10


async def test_a_last_word_that_was_lost_is_noticed(autojump_clock: MockClock) -> None:
    # CLU-30: by the list of last numbers, which comes every two seconds
    async with open_nodes("ab") as (some, (here, there)):
        await here.say("first")
        await trio.sleep(TOLD_S)
        lost: list[str] = []

        def loses(subject: str, data: bytes) -> bool:
            if ".t." in subject:
                lost.append(subject)
            return ".t." in subject

        some.server.direction("a", "b").loses = loses
        await here.say("last")
        await trio.sleep(TOLD_S)
        assert there.heard() == ["first", "last"]
        assert len(lost) == 1


async def test_without_a_link_the_store_is_asked_each_second(autojump_clock: MockClock) -> None:
    # CLU-30
    async with open_nodes("ab") as (some, (here, there)):
        some.server.go_away()
        await trio.sleep(TOLD_S)
        for number in range(3):
            await here.say(f"{number}")
            await trio.sleep(POLL_S + 0.1)
            assert there.heard() == [f"{number}"]
        some.server.come_back()
        await trio.sleep(TOLD_S)
        await there.say("again")
        await trio.sleep(0.5)
        assert here.heard() == ["0", "1", "2", "again"]


_NOW = datetime.now(UTC)
_MESSAGE = Message(
    UUID(int=1), LOBBY, 7, None, "of a guest", None, "hello", Status.PENDING, "client", _NOW
)


@pytest.mark.parametrize(
    "verdict",
    [
        Posted(_MESSAGE, 9),
        Repeated(_MESSAGE, None),
        TooManyPosts(2.5),
        TooManyWaiting(3),
        ChatLogUnavailable("away"),
        PostRefused("never"),
    ],
)
def test_what_became_of_a_post_crosses_whole(verdict: PostVerdict) -> None:  # CLU-20
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(ended_of(verdict)), type=Ended)
    got = verdict_of(crossed)
    if isinstance(verdict, Exception):
        assert (type(got), str(got)) == (type(verdict), str(verdict))
    else:
        assert got == verdict


def _draft(room: RoomName, number: int) -> Draft:
    ids = UUID(int=2 * number), UUID(int=2 * number + 1)
    author = Author(None, "of a guest", "a guest")
    return Draft(*ids, room, author, "hello", f"{number}", Status.VISIBLE, None, _NOW, [])


async def test_the_owner_stores_the_posts_of_its_room_and_no_others() -> None:
    log, other = MemoryChatLog(), RoomName("Support")
    log.database.shards[5] = "a", 3
    await log.ensure_rooms([LOBBY, other])
    drafts = [_draft(LOBBY, 1), _draft(other, 2), _draft(LOBBY, 3)]
    body = msgspec.msgpack.encode(PostDrafts(drafts))
    crossed = msgspec.msgpack.decode(body, type=PostDrafts)
    assert crossed == PostDrafts(drafts)
    async with open_actors() as system:
        owner = await system.start(RoomOwner, log, LOBBY, Shard(5, "a", 3))
        ended = await owner.ask(crossed)
    assert [type(one) for one in ended] == [Kept, Refused, Kept]
    assert dict(await log.versions())[LOBBY] == 2
    with pytest.raises(UnknownRoom):
        RoomOwner(log, "elsewhere", Shard(5, "a", 3))


async def test_an_owner_whose_shard_is_anothers_stores_nothing_and_ends() -> None:
    # CLU-14, CLU-17
    log = MemoryChatLog()
    await log.ensure_rooms([LOBBY])
    log.database.shards[5] = "b", 4
    async with open_actors() as system:
        owner = await system.start(RoomOwner, log, LOBBY, Shard(5, "a", 3))
        ends: list[AskError] = []
        exits: list[tuple[type, object]] = []

        async def wait() -> None:
            exit_ = await system.wait_down(owner)
            exits.append((type(exit_), getattr(exit_, "info", None)))

        async def post(number: int) -> None:
            try:
                await owner.ask(PostDrafts([_draft(LOBBY, number)]), timeout=600)
            except AskError as error:
                ends.append(error)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                for number in range(3):
                    nursery.start_soon(post, number)
    assert exits == [(Shutdown, "fenced")]
    assert len(ends) == 3
    assert dict(await log.versions())[LOBBY] == 0


@asynccontextmanager
async def open_people(some: Talkers, names: str) -> AsyncIterator[list[Readers]]:
    """The readers of the lobby on each node; nobody rings but the nodes."""
    async with open_actors() as system:
        all_readers = [Readers(lambda: None, lambda: _NOW) for _ in names]
        for name, readers in zip(names, all_readers, strict=True):
            await system.start(PeopleAcross, some.talkers[name].cluster, {LOBBY: readers})
        yield all_readers


def seen(readers: Readers) -> tuple[list[tuple[str, int]], int]:
    """Members with their tabs, and how many guests."""
    shown = readers.presence.seen()
    return [(one.name, one.tabs) for one in shown.names], shown.guests


async def test_people_of_all_nodes_are_in_a_room_and_each_once(
    autojump_clock: MockClock,
) -> None:
    # CLU-32, REL-37, LAB-56
    ada = Viewer(UUID(int=1), "s1")
    async with talkers("a", "b", shards=2) as some, open_people(some, "ab") as (here, there):
        pages = [Page("s1"), Page("s1"), Page("s2"), Page("s2"), Page("s3")]
        for readers, page in zip((here, there, here, there, there), pages, strict=True):
            is_ada = page.session_id == "s1"
            readers.join(page, None, ada if is_ada else NOBODY, "ada" if is_ada else None)
        await trio.sleep(1)
        assert [seen(one) for one in (here, there)] == [([("ada", 2)], 2)] * 2
        # Who moves from one node to another has not left, nor has who reloads.
        here.leave(pages[0])
        there.leave(pages[4])
        await trio.sleep(1)
        assert [seen(one) for one in (here, there)] == [([("ada", 1)], 2)] * 2
        await trio.sleep(LEFT_AFTER_S)
        assert [seen(one) for one in (here, there)] == [([("ada", 1)], 1)] * 2
        there.leave(pages[1])
        await trio.sleep(LEFT_AFTER_S + 1)
        assert [seen(one) for one in (here, there)] == [([], 1)] * 2
        # Another release may tell of people in words that are not known here, or that cannot be.
        for number, about in enumerate(
            (
                b"\xc1",
                msgspec.msgpack.encode({"name": " ", "tabs": 1, "since": _NOW}),
                msgspec.msgpack.encode({"name": "x", "tabs": -1, "since": _NOW}),
                msgspec.msgpack.encode({"name": "x", "tabs": 1, "since": "2026-01-01T00:00:00"}),
                msgspec.msgpack.encode({"name": "x", "tabs": 1, "since": "2026-01-01T00:00+02:00"}),
            )
        ):
            some.talkers["a"].cluster.presence.put(topic_of(LOBBY), f"s9{number}", about)
        await trio.sleep(1)
        assert seen(there) == ([], 1)


async def test_a_page_is_told_of_who_comes_at_another_node(autojump_clock: MockClock) -> None:
    # CLU-32
    async with talkers("a", "b", shards=2) as some:
        rung = 0

        def ring() -> None:
            nonlocal rung
            rung += 1

        async with open_actors() as system:
            here, there = Readers(ring, lambda: _NOW), Readers(lambda: None, lambda: _NOW)
            crashing = await system.start(PeopleAcross, some.talkers["a"].cluster, {LOBBY: here})
            await system.start(PeopleAcross, some.talkers["b"].cluster, {LOBBY: there})
            page = Page("s1")
            here.join(page)
            here.watch(page)
            before = rung
            there.join(Page("s2"))
            await trio.sleep(1)
            assert rung == before + 1
            await crashing.stop()
            there.join(Page("s3"))
            await trio.sleep(1)
            assert rung == before + 1, "nobody hears for it any more"
            assert seen(here) == ([], 3)


async def test_the_road_of_a_post_over_another_node_is_told(autojump_clock: MockClock) -> None:
    # CLU-17, CLU-40
    logs: list[MemoryChatLog] = []

    def prepare(some: Talkers) -> None:
        logs.append(MemoryChatLog(some.database))
        some.more_kinds[ROOM] = lambda _: partial(RoomOwner, logs[0])

    async with talkers("a", "b", prepare=prepare) as some:
        (log,), owns = logs, shard_of(ROOM, LOBBY, some.shards)
        await log.ensure_rooms([LOBBY])
        timeline = Timeline(trio.current_time)
        for number, name in enumerate("ab"):
            # Only the owner's store is there.
            cluster = some.talkers[name].cluster
            shared = SharedChatLog(
                Database("postgres://nobody@127.0.0.1:1/none"),
                cast("Keyring", None),
                partial(lambda one: one, cluster),
            )
            shared.tell_asked = asked_teller(timeline)
            timeline.begin(name, "session", "POST", "/demo/chat/messages", is_new=False)
            draft = replace(_draft(LOBBY, number), metadata={"correlation_id": name})
            (verdict,) = await shared.post_all([draft])
            assert isinstance(verdict, Posted)
            assert (shared.by_owner, shared.by_self) == (1, 0)
        owner = next(name for name in "ab" if owns in some[name].owned)
        asked, local = (timeline.maybe_flow(name) for name in ("ba" if owner == "a" else "ab"))
        assert asked is not None
        assert local is not None
        sent, back = (one for one in asked.entries if one.kind.startswith("node."))
        assert (sent.kind, sent.values) == (Kind.NODE_ASK, {"node": owner, "shard": owns})
        assert (back.kind, back.values["outcome"]) == (Kind.NODE_ASK_COMPLETE, "answered")
        assert back.at >= sent.at
        # What stays in its process crosses no node.
        assert not [one for one in local.entries if one.kind.startswith("node.")]
