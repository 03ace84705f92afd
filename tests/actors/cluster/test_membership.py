"""Who belongs to a cluster, who may own, and when a node must end what it owns: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from actors.cluster import (
    FENCE_S,
    HAND_OVER_S,
    LEASE_S,
    MAP_READ_S,
    HandOverStep,
    Holding,
    LinkState,
    LinkTold,
    Move,
    Moved,
    NewNode,
    Node,
    NodeState,
    Owned,
    OwnerMap,
    Survey,
    clock_offset,
    hand_over_step,
    living,
    may_own,
    moves,
    named,
    owner_name,
    owners,
    shard_of,
    singleton_shard,
)
from actors.persistence import InvalidField, Shard

NOW = datetime(2025, 1, 1, tzinfo=UTC)
A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


def node(
    id_: UUID,
    *,
    silent_s: float = 0.5,
    state: NodeState = NodeState.UP,
    link: LinkState = LinkState.UP,
) -> Node:
    beat = NOW - timedelta(seconds=silent_s)
    return Node(id_, f"node-{id_.int}", "1", NOW, beat, link, state)


def survey(*nodes: Node, shards: dict[int, tuple[UUID, float]] | None = None) -> Survey:
    rows = {
        shard: Owned(shard, str(owner), 1, NOW + timedelta(seconds=left_s))
        for shard, (owner, left_s) in (shards or {}).items()
    }
    return Survey(NOW, {one.node_id: one for one in nodes}, rows)


def test_a_node_that_is_silent_for_longer_than_its_lease_is_gone() -> None:  # CLU-1
    at_its_end, over = node(A, silent_s=LEASE_S), node(B, silent_s=LEASE_S + 0.001)
    assert living(survey(at_its_end, over)) == [at_its_end]
    assert living(survey(node(A, state=NodeState.GONE))) == []


@pytest.mark.parametrize("state", [NodeState.JOINING, NodeState.DRAINING, NodeState.GONE])
def test_only_a_node_that_is_up_is_given_shards(state: NodeState) -> None:  # CLU-11
    seen = survey(node(A), node(B, state=state), node(C, link=LinkState.DOWN))
    assert may_own(seen) == {str(A): 1}
    assert {move.to for move in moves(seen, 8)} == {str(A)}


def test_nobody_owns_what_no_lease_runs_for() -> None:
    given_back = Owned(2, "", 4, NOW + timedelta(seconds=9))
    seen = survey(node(A), shards={0: (A, 0.1), 1: (A, 0.0)})
    seen = Survey(NOW, seen.nodes, {**seen.shards, 2: given_back})
    assert owners(seen, 4) == {0: str(A), 1: None, 2: None, 3: None}


def test_singletons_are_shared_by_themselves() -> None:  # CLU-15
    """A node with one shard more may still have a singleton, and one without any row is planned."""
    timers = singleton_shard("timers")
    seen = survey(node(A), shards={0: (A, 5.0)})
    assert moves(seen, 1, [timers]) == [Move(timers, None, str(A))]
    seen = survey(node(A), shards={0: (A, 5.0), timers: (A, 5.0)})
    assert moves(seen, 1, [timers]) == []


def test_the_offset_of_a_clock_is_known_to_half_of_the_trip() -> None:  # CLU-1
    ahead = clock_offset(NOW, NOW + timedelta(seconds=3), NOW + timedelta(seconds=2))
    assert (ahead.offset_s, ahead.error_s) == (2.0, 1.0)
    # A wall clock that was set back meanwhile tells nothing of the trip.
    assert clock_offset(NOW, NOW, NOW - timedelta(seconds=5)).error_s == 0.0


def test_a_node_is_found_by_its_name_or_its_id() -> None:
    seen = survey(node(A), node(B, silent_s=60))
    assert named(seen, "node-1") == named(seen, str(A)) == node(A)
    assert named(seen, "node-2") is None
    assert [owner_name(seen, text) for text in (str(A), str(B), str(C), "", None)] == [
        "node-1", "node-2", str(C), "-", "-",
    ]  # fmt: skip


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def holding(held: dict[int, int], shards: int = 4) -> tuple[Holding, Clock]:
    clock = Clock()
    mine = Holding("a", clock, shards)
    mine.renewed(clock.now, held)
    return mine, clock


def test_a_node_that_has_renewed_nothing_owns_nothing() -> None:
    mine = Holding("a", Clock(), 4)
    mine.gained({0: 1})
    assert (mine.is_fenced, mine.left_s, mine.token_of(0)) == (True, 0.0, None)


def test_leases_end_two_thirds_after_they_were_asked_for() -> None:  # CLU-3
    """Not after the answer: a renewal that took three seconds leaves one."""
    mine, clock = holding({0: 7})
    token = Shard(0, "a", 7)
    clock.now += 3.0
    assert (mine.token_of(0), mine.may(token), mine.left_s) == (token, True, 1.0)
    clock.now = 100.0 + FENCE_S
    assert (mine.token_of(0), mine.may(token), mine.is_fenced) == (None, False, True)
    # An answer that was asked for long ago, and comes now, opens nothing again.
    mine.renewed(100.0, {0: 7})
    assert mine.is_fenced
    assert mine.fence() == {0}
    mine.renewed(clock.now, {})
    assert (mine.is_fenced, mine.may(token)) == (False, False)


def test_a_renewal_tells_what_was_lost() -> None:
    mine, clock = holding({0: 1, 1: 1, 2: 1})
    assert mine.renewed(clock.now, {0: 1, 1: 3}) == {1, 2}
    assert mine.epochs == {0: 1, 1: 3}
    assert not mine.may(Shard(1, "a", 1))


def test_a_shard_that_is_handed_over_begins_nothing_and_ends_what_it_has() -> None:  # CLU-12
    mine, _ = holding({0: 1})
    mine.close(0)
    mine.close(3)  # never held: nothing is noted
    assert (mine.token_of(0), mine.may(Shard(0, "a", 1))) == (None, True)
    mine.drop([0])
    assert not mine.may(Shard(0, "a", 1))
    mine.gained({0: 9, 3: 1})
    assert mine.token_of(0) == Shard(0, "a", 9)
    assert mine.token_of(3) is not None


def test_a_token_is_of_the_actors_own_shard() -> None:
    shard = shard_of("room", "lobby", 4)
    mine, _ = holding({shard: 5})
    assert mine.token("room", "lobby") == Shard(shard, "a", 5)
    mine.drop([shard])
    assert mine.token("room", "lobby") is None


def test_actors_have_five_seconds_to_end() -> None:  # CLU-12
    just = HAND_OVER_S - 0.001
    steps = [hand_over_step(10.0, 10.0 + after, count) for after, count in
             ((0, 2), (just, 1), (HAND_OVER_S, 1), (HAND_OVER_S, 0), (0, 0))]  # fmt: skip
    wait, kill, give = HandOverStep.WAIT, HandOverStep.KILL, HandOverStep.GIVE
    assert steps == [wait, wait, kill, give, give]


def test_a_map_believes_the_higher_epoch() -> None:  # CLU-16
    known = OwnerMap(1)
    assert known.owner_of("room", "lobby") == Moved(0, "", 0)
    assert known.is_outdated(0.0)
    known.read(survey(shards={0: (A, 5.0)}), 10.0)
    assert known.owner_of("room", "lobby") == Moved(0, str(A), 1)
    assert known.learn(Moved(0, "b", 3))
    assert not known.learn(Moved(0, "a", 3))
    assert not known.learn(Moved(0, "a", 2))
    # What the database said a moment before the hint does not undo it.
    known.read(survey(shards={0: (A, 5.0)}), 11.0)
    assert known.owner_of("room", "lobby") == Moved(0, "b", 3)
    assert not known.is_outdated(11.0 + MAP_READ_S - 0.1)
    assert known.is_outdated(11.0 + MAP_READ_S)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"node_id": "1"}, {"name": ""}, {"name": "\x00"}, {"name": "x" * 256}, {"version": None},
        {"weight": 0}, {"weight": 101}, {"shards": 0}, {"shards": 65_537}, {"shards": True},
    ],
)  # fmt: skip
def test_a_node_that_cannot_be_is_refused(spoiled: dict[str, object]) -> None:
    with pytest.raises(InvalidField):
        NewNode(**{"node_id": A, "name": "n", "version": "1", **spoiled})  # type: ignore[arg-type]


def test_a_short_loss_is_not_told_and_a_return_has_to_last() -> None:
    # CLU-5
    told = LinkTold()
    up, down = LinkState.UP, LinkState.DOWN
    seen = [
        (0.0, False, down),
        (1.0, True, up),
        (2.0, False, up),
        (11.9, False, up),
        (11.95, True, up),
        (12.0, False, up),
        (21.9, False, up),
        (22.0, False, down),
        (23.0, True, down),
        (24.0, False, down),
        (25.0, True, down),
        (27.9, True, down),
        (28.0, True, up),
    ]
    assert [told.look(is_up=is_up, now=now) for now, is_up, _ in seen] == [one[2] for one in seen]
