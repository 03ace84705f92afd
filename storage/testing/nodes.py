"""The suite of the port `Nodes`: who is there, who owns what, and what an append under it is."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from actors.chat import LOBBY, ChatLog, Posted, Repeated
from actors.cluster import (
    LEASE_S,
    LinkState,
    NewNode,
    NodeNameTaken,
    Nodes,
    NodeState,
    NotMember,
    OtherSecret,
    OtherShardCount,
    Remembering,
    SecretMarks,
)
from actors.cluster.words import TRIPS_MAX
from actors.persistence import DurableTimers, EventStore, Outbox, Shard, StreamId
from actors.persistence.beside_log.outbox import partition_of
from actors.runtime import Secret
from actors.testing import FixedClock
from storage.errors import Fenced, InvalidField
from storage.keyring import SubjectKeyring
from storage.memory import (
    MemoryChatLog,
    MemoryDatabase,
    MemoryEventStore,
    MemoryNodes,
    MemoryOutbox,
    MemoryTimers,
)
from storage.postgres import (
    Connection,
    Database,
    PostgresChatLog,
    PostgresEventStore,
    PostgresNodes,
    PostgresOutbox,
    PostgresSubjectKeys,
    PostgresTimers,
)
from storage.testing.chat_log import draft
from storage.testing.samples import NOON, message, new_events, timer

A = StreamId("order-a")
OVER_S = LEASE_S + 0.5
_AGE = """
UPDATE nodes SET heartbeat_at = heartbeat_at - $1::interval;
UPDATE shards SET lease_until = lease_until - $1::interval
"""


@dataclass
class KeptNodes:
    """The ports of one database; `pass_time` lets it be later there."""

    nodes: Nodes
    memory: Remembering
    events: EventStore
    outbox: Outbox
    timers: DurableTimers
    chat: ChatLog
    pass_time: Callable[[float], Awaitable[None]]

    async def join(self, name: str = "a", state: NodeState = NodeState.UP) -> UUID:
        """Call this for a node that is there, in a state."""
        node = NewNode(uuid4(), name, "1")
        await self.nodes.join(node)
        if state is not NodeState.JOINING:
            assert await self.nodes.set_state(node.node_id, state)
        return node.node_id


def nodes_in_memory() -> KeptNodes:
    """Call this for the twins on one new database with a clock of its own."""
    clock = FixedClock()
    database = MemoryDatabase(now=clock.now)

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    nodes = MemoryNodes(database)
    beside = MemoryOutbox(database), MemoryTimers(database), MemoryChatLog(database)
    return KeptNodes(nodes, nodes, MemoryEventStore(database), *beside, pass_time)


def nodes_in_postgres(database: Database) -> KeptNodes:
    """Call this for the adapters on a fresh database; time passes by making rows older."""

    async def pass_time(seconds: float) -> None:
        async def work(connection: Connection) -> None:
            for statement in _AGE.split(";"):
                await connection.execute(statement, timedelta(seconds=seconds))

        await database.run(work)

    nodes = PostgresNodes(database)
    keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    chat = PostgresChatLog(database, keyring)
    beside = PostgresOutbox(database), PostgresTimers(database), chat
    return KeptNodes(nodes, nodes, PostgresEventStore(database), *beside, pass_time)


class NodesSuite:
    """Subclass it with a fixture `kept` that gives a `KeptNodes` of an empty database."""

    async def test_a_node_joins_and_is_seen(self, kept: KeptNodes) -> None:  # CLU-1
        beat = await kept.nodes.join(NewNode(node_id := uuid4(), "a", "1.2", weight=3))
        assert (beat.state, dict(beat.held)) == (NodeState.JOINING, {})
        survey = await kept.nodes.survey()
        node = survey.nodes[node_id]
        assert (node.name, node.version, node.weight) == ("a", "1.2", 3)
        assert (node.state, node.link) == (NodeState.JOINING, LinkState.UP)
        assert node.started_at == node.heartbeat_at == beat.now <= survey.now

    async def test_a_name_is_one_living_nodes(self, kept: KeptNodes) -> None:  # CLU-1
        await kept.join("a")
        with pytest.raises(NodeNameTaken):
            await kept.join("a")
        await kept.join("b")
        await kept.pass_time(OVER_S)
        await kept.join("a")

    async def test_the_number_of_shards_is_fixed_by_the_first(self, kept: KeptNodes) -> None:
        # CLU-10
        await kept.join("a")
        with pytest.raises(OtherShardCount) as refused:
            await kept.nodes.join(NewNode(uuid4(), "b", "1", shards=64))
        assert (refused.value.given, refused.value.kept) == (64, 128)
        survey = await kept.nodes.survey()
        assert (len(survey.nodes), survey.divided) == (1, 128)

    async def test_who_would_not_be_believed_does_not_join(self, kept: KeptNodes) -> None:
        # CLU-55: and whom it would not believe; who is gone, and who told nothing, is no obstacle
        assert (await kept.nodes.survey()).divided is None

        async def join(name: str, *marks: str) -> UUID:
            node = NewNode(uuid4(), name, "1", marks=SecretMarks(*marks))
            await kept.nodes.join(node)
            return node.node_id

        old = await join("a", "1")
        assert (await kept.nodes.survey()).nodes[old].marks == SecretMarks("1")
        for marks in (("2",), ("2", "1"), ("2", "3")):
            with pytest.raises(OtherSecret) as refused:
                await join("b", *marks)
            assert refused.value.name == "a"
        assert len((await kept.nodes.survey()).nodes) == 1
        # The three steps of a change: each believes both, then signs with the new, then forgets.
        await join("told-nothing")
        both = await join("b", "1", "2")
        await kept.nodes.set_state(old, NodeState.GONE)
        new = await join("a", "2", "1")
        with pytest.raises(OtherSecret):
            await join("c", "2")
        await kept.nodes.set_state(both, NodeState.GONE)
        await join("b", "2")
        assert (await kept.nodes.survey()).nodes[new].marks == SecretMarks("2", "1")
        await kept.pass_time(OVER_S)
        await join("c", "3")

    async def test_a_beat_renews_all_that_is_held(self, kept: KeptNodes) -> None:  # CLU-10
        one, other = await kept.join("a"), await kept.join("b")
        assert await kept.nodes.claim(one, {0: 0, 5: 0}) == {0: 1, 5: 1}
        assert await kept.nodes.claim(other, {7: 0}) == {7: 1}
        await kept.pass_time(3)
        beat = await kept.nodes.beat(one)
        assert (beat.state, dict(beat.held)) == (NodeState.UP, {0: 1, 5: 1})
        await kept.pass_time(3)
        survey = await kept.nodes.survey()
        assert {s for s, row in survey.shards.items() if row.lease_until > survey.now} == {0, 5}

    async def test_a_beat_notes_the_link(self, kept: KeptNodes) -> None:
        node = await kept.join()
        await kept.nodes.beat(node, link=LinkState.DOWN)
        assert (await kept.nodes.survey()).nodes[node].link is LinkState.DOWN

    async def test_a_beat_notes_how_long_a_word_to_others_takes(self, kept: KeptNodes) -> None:
        # CLU-40: and one that says nothing of it leaves what was noted
        node, other = await kept.join("a"), await kept.join("b")
        trips = {other: 0.00125, uuid4(): 2}
        await kept.nodes.beat(node, trips=trips)
        await kept.nodes.beat(node)
        survey = await kept.nodes.survey()
        assert dict(survey.nodes[node].trips) == trips
        assert dict(survey.nodes[other].trips) == {}
        await kept.nodes.beat(node, trips={})
        assert dict((await kept.nodes.survey()).nodes[node].trips) == {}

    async def test_who_was_silent_for_a_lease_is_gone_for_ever(self, kept: KeptNodes) -> None:
        # CLU-1: also when nobody has looked meanwhile
        node = await kept.join()
        await kept.nodes.claim(node, {0: 0})
        await kept.pass_time(OVER_S)
        with pytest.raises(NotMember):
            await kept.nodes.beat(node)
        survey = await kept.nodes.survey()
        assert survey.nodes[node].state is NodeState.GONE
        assert survey.shards[0].lease_until <= survey.now
        assert await kept.nodes.claim(node, {0: 1}) == {}
        assert not await kept.nodes.set_state(node, NodeState.UP)
        with pytest.raises(NotMember):
            await kept.nodes.beat(uuid4())

    async def test_a_clock_that_is_set_back_keeps_nothing_for_the_dead(
        self, kept: KeptNodes
    ) -> None:
        # REL-88: neither shards nor a name, and who lives loses nothing
        dead, alive = await kept.join("a"), await kept.join("b")
        assert await kept.nodes.claim(dead, {0: 0}) == {0: 1}
        assert await kept.nodes.claim(alive, {1: 0}) == {1: 1}
        await kept.pass_time(-3600)
        with pytest.raises(NodeNameTaken):
            await kept.join("a")
        assert dict((await kept.nodes.beat(alive)).held) == {1: 1}
        survey = await kept.nodes.survey()
        assert {s for s, row in survey.shards.items() if row.lease_until > survey.now} == {0, 1}
        assert await kept.nodes.claim(alive, {0: 1}) == {}
        await kept.pass_time(2.5)
        await kept.nodes.beat(alive)
        await kept.pass_time(OVER_S - 2.5)
        assert (await kept.nodes.survey()).nodes[dead].state is NodeState.GONE
        assert await kept.nodes.claim(alive, {0: 1}) == {0: 2}
        assert dict((await kept.nodes.beat(alive)).held) == {0: 2, 1: 1}
        await kept.join("a")

    async def test_a_clock_that_is_set_forward_lets_nobody_write_twice(
        self, kept: KeptNodes
    ) -> None:
        # REL-88: leases end at once for all; who held one is fenced, and joins anew
        former, other = await kept.join("a"), await kept.join("b")
        assert await kept.nodes.claim(former, {0: 0}) == {0: 1}
        await kept.pass_time(3600)
        with pytest.raises(NotMember):
            await kept.nodes.beat(other)
        other = await kept.join("b")
        assert await kept.nodes.claim(other, {0: 1}) == {0: 2}
        with pytest.raises(Fenced):
            await kept.events.append(A, new_events(1), shard=Shard(0, str(former), 1))
        await kept.events.append(A, new_events(1), shard=Shard(0, str(other), 2))

    @pytest.mark.parametrize("state", [NodeState.JOINING, NodeState.DRAINING, NodeState.GONE])
    async def test_only_who_is_up_claims(self, kept: KeptNodes, state: NodeState) -> None:
        node = await kept.join(state=state)
        assert await kept.nodes.claim(node, {0: 0}) == {}

    async def test_of_two_claimants_one_wins(self, kept: KeptNodes) -> None:  # CLU-11
        dead, one, other = [await kept.join(name) for name in "abc"]
        await kept.nodes.claim(dead, dict.fromkeys(range(4), 0))
        # Its lease runs.
        assert await kept.nodes.claim(one, {0: 1}) == {}
        await kept.pass_time(3)
        await kept.nodes.beat(one)
        await kept.nodes.beat(other)
        await kept.pass_time(3)
        assert await kept.nodes.claim(one, {0: 1, 1: 1, 2: 0, 9: 0}) == {0: 2, 1: 2, 9: 1}
        assert await kept.nodes.claim(other, {0: 1, 1: 2, 3: 1}) == {3: 2}
        shards = (await kept.nodes.survey()).shards
        owners = {shard: (row.owner, row.epoch) for shard, row in shards.items()}
        assert owners == {
            0: (str(one), 2), 1: (str(one), 2), 2: (str(dead), 1), 3: (str(other), 2),
            9: (str(one), 1),
        }  # fmt: skip

    async def test_a_shard_is_handed_over(self, kept: KeptNodes) -> None:  # CLU-12
        one, other = await kept.join("a"), await kept.join("b")
        late = await kept.join("c", NodeState.JOINING)
        await kept.nodes.claim(one, {0: 0})
        assert await kept.nodes.hand_over(one, 0, 2, other) is None
        assert await kept.nodes.hand_over(other, 0, 1, other) is None
        assert await kept.nodes.hand_over(one, 0, 1, late) is None
        assert await kept.nodes.hand_over(one, 0, 1, uuid4()) is None
        assert await kept.nodes.hand_over(one, 0, 1, other) == 2
        assert dict((await kept.nodes.beat(one)).held) == {}
        assert dict((await kept.nodes.beat(other)).held) == {0: 2}

    async def test_what_is_given_back_is_free_at_once(self, kept: KeptNodes) -> None:
        one, other = await kept.join("a"), await kept.join("b")
        await kept.nodes.claim(one, {0: 0, 1: 0, 2: 0})
        assert await kept.nodes.release(one, {0: 1, 1: 9, 7: 1}) == 1
        assert await kept.nodes.claim(other, {0: 2, 1: 1}) == {0: 3}
        assert await kept.nodes.set_state(one, NodeState.GONE)
        assert await kept.nodes.claim(other, {1: 2, 2: 2}) == {1: 3, 2: 3}
        with pytest.raises(NotMember):
            await kept.nodes.beat(one)

    async def test_an_append_of_a_former_owner_is_fenced(self, kept: KeptNodes) -> None:
        # STORE-16
        one, other = await kept.join("a"), await kept.join("b")
        await kept.nodes.claim(one, {3: 0})
        former = Shard(3, str(one), 1)
        await kept.events.append(A, new_events(1), shard=former)
        await kept.nodes.hand_over(one, 3, 1, other)
        for held in (former, Shard(3, str(one), 2), Shard(3, str(other), 1), Shard(4, "x", 1)):
            with pytest.raises(Fenced):
                await kept.events.append(A, new_events(1), shard=held)
        assert (await kept.events.append(A, new_events(1), shard=Shard(3, str(other), 2))).version
        assert await kept.events.head(A) == 2

    async def test_parts_of_the_outbox_go_with_their_shard(self, kept: KeptNodes) -> None:
        """Their own lease is no second one: whoever owns the shard has them at once."""
        # CLU-15, STORE-52
        one, other = await kept.join("a"), await kept.join("b")
        await kept.nodes.claim(one, {3: 0})
        former, part = Shard(3, str(one), 1), partition_of("k")
        await kept.events.append(A, new_events(1), outbox=[message(), message()])
        held = await kept.outbox.lease("r-1", [part], shard=former)
        assert await kept.outbox.lease("r-1", [part], shard=former) == held
        first, _ = await kept.outbox.next_batch(part, held[part])
        await kept.nodes.hand_over(one, 3, 1, other)
        present = Shard(3, str(other), 2)
        taken = await kept.outbox.lease("r-2", [part], shard=present)
        assert taken == {part: held[part] + 1}
        assert await kept.outbox.mark_sent(part, held[part], [first.id]) == 0
        assert await kept.outbox.next_batch(part, held[part]) == []
        for wrong in (former, Shard(3, str(other), 1), Shard(4, "x", 1)):
            with pytest.raises(Fenced):
                await kept.outbox.lease("r-1", [part], shard=wrong)
        assert await kept.outbox.lease("r-1", [part]) == {}
        assert len(await kept.outbox.next_batch(part, taken[part])) == 2

    async def test_timers_go_with_their_shard(self, kept: KeptNodes) -> None:
        """Whoever owns it takes also what another claimed, not what is to be tried later."""
        # CLU-15, STORE-50
        one, other = await kept.join("a"), await kept.join("b")
        await kept.nodes.claim(one, {3: 0})
        former, present = Shard(3, str(one), 1), Shard(3, str(other), 2)
        late, set_timers = NOON + timedelta(seconds=2), [timer(address="x"), timer(1, address="y")]
        for each in set_timers:
            await kept.timers.set(each)
        claimed = await kept.timers.claim_due("w-1", late, shard=former)
        assert [due.timer_id for due in claimed] == [each.timer_id for each in set_timers]
        assert await kept.timers.claim_due("w-1", late, shard=former) == []
        assert await kept.timers.claim_due("w-3", late) == []
        later = late + timedelta(minutes=1)
        assert await kept.timers.failed("w-1", set_timers[1].timer_id, "no", later)
        await kept.nodes.hand_over(one, 3, 1, other)
        for wrong in (former, Shard(3, str(other), 1), Shard(4, "x", 1)):
            with pytest.raises(Fenced):
                await kept.timers.claim_due("w-1", late, shard=wrong)
        (taken,) = await kept.timers.claim_due("w-2", late, shard=present)
        assert (taken.timer_id, taken.attempts) == (set_timers[0].timer_id, 2)
        assert await kept.timers.renew("w-1", [taken.timer_id], late) == 0
        assert not await kept.timers.failed("w-1", taken.timer_id, "no", late)
        (again,) = await kept.timers.claim_due("w-2", later, busy=["x"], shard=present)
        assert (again.timer_id, again.failures) == (set_timers[1].timer_id, 1)

    async def test_who_begins_without_a_message_is_known_by_the_shard(
        self, kept: KeptNodes
    ) -> None:
        # CLU-13
        one, other = await kept.join("a"), await kept.join("b")
        await kept.nodes.claim(one, {3: 0, 4: 0})
        memory, former = kept.memory, Shard(3, str(one), 1)
        for id_ in ("2", "1", "1"):
            await memory.remember(former, "room", id_)
        await memory.remember(Shard(4, str(one), 1), "saga", "1")
        assert await memory.remembered([3]) == [("room", "1"), ("room", "2")]
        assert await memory.remembered([3, 4, 5], after=("room", "1"), limit=1) == [("room", "2")]
        assert await memory.remembered({4}, after=("room", "2")) == [("saga", "1")]
        assert await memory.remembered([]) == []
        await kept.nodes.hand_over(one, 3, 1, other)
        # A former owner neither adds nor removes.
        with pytest.raises(Fenced):
            await memory.remember(former, "room", "3")
        assert not await memory.forget(former, "room", "1")
        present = Shard(3, str(other), 2)
        assert await memory.forget(present, "room", "1")
        assert not await memory.forget(present, "room", "1")
        assert not await memory.forget(present, "saga", "1")
        assert await memory.remembered([3, 4]) == [("room", "2"), ("saga", "1")]

    async def test_posts_of_a_former_owner_are_refused(self, kept: KeptNodes) -> None:
        # STORE-16, CLU-17: whether one or several at once
        await kept.chat.ensure_rooms([LOBBY])
        one, other = await kept.join("a"), await kept.join("b")
        await kept.nodes.claim(one, {3: 0})
        former = Shard(3, str(one), 1)
        first = draft("first")
        (posted,) = await kept.chat.post_as_owner([first], former)
        assert isinstance(posted, Posted)
        told = await kept.chat.post_as_owner([draft("second"), draft("third")], former)
        assert [type(verdict) for verdict in told] == [Posted, Posted]
        await kept.nodes.hand_over(one, 3, 1, other)
        for held in (former, Shard(3, str(one), 2), Shard(3, str(other), 1), Shard(4, "x", 1)):
            for late in ([draft()], [draft(), draft()], [first]):
                with pytest.raises(Fenced) as caught:
                    await kept.chat.post_as_owner(late, held)
                assert caught.value.current == (2 if held.id == 3 else None)
        # The next owner knows what the former has stored.
        told = await kept.chat.post_as_owner([first, draft("last")], Shard(3, str(other), 2))
        assert [type(verdict) for verdict in told] == [Repeated, Posted]
        assert list(await kept.chat.post_as_owner([], former)) == []
        assert dict(await kept.chat.versions())[LOBBY] == 4

    async def test_who_is_gone_for_a_day_is_forgotten(self, kept: KeptNodes) -> None:
        old = await kept.join("a")
        await kept.pass_time(23 * 3600)
        assert await kept.nodes.purge() == 0
        young = await kept.join("b")
        await kept.pass_time(2 * 3600)
        assert await kept.nodes.purge() == 1
        assert list((await kept.nodes.survey()).nodes) == [young]
        assert old != young

    async def test_nonsense_is_refused(self, kept: KeptNodes) -> None:
        node = await kept.join()
        nodes = kept.nodes
        with pytest.raises(InvalidField):
            await nodes.join("a")  # type: ignore[arg-type]
        for wrong in (None, "a", 5, str(node)):
            with pytest.raises(InvalidField):
                await nodes.beat(wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidField):
                await nodes.beat(node, link=wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidField):
                await nodes.set_state(node, wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidField):
                await nodes.hand_over(node, 0, 1, wrong)  # type: ignore[arg-type]
        for trips in (
            *(5, "a", {"a": 1.0}, {node: -1.0}, {node: math.nan}, {node: math.inf}, {node: "1"}),
            {uuid4(): 0.1 for _ in range(TRIPS_MAX + 1)},
        ):
            with pytest.raises(InvalidField):
                await nodes.beat(node, trips=trips)  # type: ignore[arg-type]
        for shards in (None, [1], {-1: 0}, {2**31: 0}, {"0": 0}, {0: -1}, {0: 2**63}, {0: True}):
            with pytest.raises(InvalidField):
                await nodes.claim(node, shards)  # type: ignore[arg-type]
            with pytest.raises(InvalidField):
                await nodes.release(node, shards)  # type: ignore[arg-type]
        for limit in (0, -1, 10**9, None):
            with pytest.raises((InvalidField, ValueError)):
                await nodes.purge(limit)  # type: ignore[arg-type]
        assert (await nodes.claim(node, {}), await nodes.release(node, {})) == ({}, 0)
