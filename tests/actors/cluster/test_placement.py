"""Which node should own which shard: pure, minimal, and the same wherever it is computed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster import SHARDS, SINGLETONS_FROM, Move, counts_of, plan, shard_of, singleton_shard

NAMES = ("a", "b", "c", "d", "e")
some_nodes = st.sets(st.sampled_from(NAMES), min_size=1)


def carried_out(owners: dict[int, str | None], moves: list[Move]) -> dict[int, str | None]:
    return owners | {move.shard: move.to for move in moves}


def spread(count: int, *nodes: str) -> dict[int, str | None]:
    return {shard: nodes[shard % len(nodes)] for shard in range(count)}


def test_a_shard_is_the_checksum_of_kind_and_id() -> None:  # CLU-10
    """Golden: nodes of two releases must agree."""
    names = (("room", "lobby"), ("saga", "42"), ("Raum", "ä/ö"))
    assert [shard_of(kind, id_) for kind, id_ in names] == [29, 38, 102]


def test_a_third_node_is_given_exactly_42() -> None:  # CLU-11
    moves = plan(spread(SHARDS, "a", "b"), dict.fromkeys("abc", 1))
    assert len(moves) == 42
    assert {move.to for move in moves} == {"c"}
    assert counts_of({move.shard: move.source for move in moves}) == {"a": 21, "b": 21}


def test_nobody_to_own_them_moves_nothing() -> None:
    assert plan(spread(SHARDS, "a"), {}) == []


def test_what_a_dead_node_had_is_shared_and_nothing_else_moves() -> None:  # CLU-11
    owners = {s: None if o == "c" else o for s, o in spread(SHARDS, *"abc").items()}
    moves = plan(owners, dict.fromkeys("ab", 1))
    assert {move.source for move in moves} == {None}
    assert sorted(counts_of(carried_out(owners, list(moves))).values()) == [64, 64]


def test_what_nobody_owns_comes_first() -> None:
    owners: dict[int, str | None] = {0: "a", 1: "a", 2: "a", 3: "a", 4: None}
    assert [move.source for move in plan(owners, {"a": 1, "b": 1})] == [None, "a"]


def test_shares_go_by_weight() -> None:
    owners = spread(SHARDS, "a")
    moves = plan(owners, {"a": 1, "b": 3})
    assert counts_of(carried_out(owners, list(moves))) == {"a": 32, "b": 96}


@given(st.lists(st.sampled_from([None, *NAMES]), min_size=1, max_size=200), some_nodes)
def test_equal_nodes_differ_by_one_at_most(found: list[str | None], nodes: set[str]) -> None:
    owners = dict(enumerate(found))
    after = carried_out(owners, list(plan(owners, dict.fromkeys(nodes, 1))))
    counts = counts_of(after)
    assert counts.keys() <= nodes
    assert sum(counts.values()) == len(owners)
    numbers = [counts.get(node, 0) for node in nodes]
    assert max(numbers) - min(numbers) <= 1


@given(
    st.lists(st.sampled_from([None, *NAMES]), min_size=1, max_size=12),
    st.sets(st.sampled_from(NAMES), min_size=1, max_size=4),
)
def test_no_smaller_set_of_moves_would_do(found: list[str | None], nodes: set[str]) -> None:
    """Against every way to share them fairly."""  # CLU-11
    owners = dict(enumerate(found))
    low, rest = divmod(len(owners), len(nodes))
    held = counts_of(owners)
    most_kept = max(
        sum(min(held.get(node, 0), share) for node, share in zip(nodes, shares, strict=True))
        for shares in product((low, low + 1), repeat=len(nodes))
        if sum(shares) == len(owners)
    )
    assert rest < len(nodes)
    assert len(plan(owners, dict.fromkeys(nodes, 1))) == len(owners) - most_kept


@given(st.data(), st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5), min_size=1))
def test_what_is_left_of_a_plan_is_its_rest(data: st.DataObject, nodes: dict[str, int]) -> None:
    """Nodes carry out different parts of it at different times, and plan anew all the while."""
    owners = dict(enumerate(data.draw(st.lists(st.sampled_from([None, *NAMES]), min_size=1))))
    moves = list(plan(owners, nodes))
    done = [move for move in moves if data.draw(st.booleans())]
    assert len(plan(carried_out(owners, done), nodes)) == len(moves) - len(done)


@given(st.lists(st.sampled_from([None, *NAMES]), min_size=1), some_nodes)
def test_every_node_computes_the_same_plan(found: list[str | None], nodes: set[str]) -> None:
    owners = dict(enumerate(found))
    turned = dict(reversed(owners.items()))
    assert plan(owners, dict.fromkeys(sorted(nodes), 1)) == plan(
        turned, dict.fromkeys(sorted(nodes, reverse=True), 1)
    )


@pytest.mark.parametrize("name", ["", "timers", "x" * 1000, "ä"])
def test_a_singleton_has_a_shard_above_all_others(name: str) -> None:  # CLU-15
    assert SINGLETONS_FROM <= singleton_shard(name) < 2**31
