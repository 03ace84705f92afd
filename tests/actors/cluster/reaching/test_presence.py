"""Who is present anywhere, over the link's twin, with losses, deaths and nonsense; virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import ClusterPresence
from actors.cluster.link import LinkMisuse
from actors.cluster.link.sayings import (
    ABOUT_BYTES_MAX,
    GROUP_MAX,
    MEMBER_MAX,
    PRESENT_AT_ONCE_MAX,
    Present,
    PresentDigest,
    PresentMember,
    PresentSet,
)
from actors.cluster.reaching.everyone import members
from actors.cluster.reaching.everyone.members import Copy, Own
from actors.cluster.reaching.everyone.presence import GONE_KEPT_S
from actors.cluster.words import LEASE_S
from tests.actors.cluster.reaching.talkers_kit import Talkers, talkers

ROOMS = ("lobby", "random")


def presence(some: Talkers, name: str) -> ClusterPresence:
    return some.talkers[name].cluster.presence


def shown(some: Talkers, names: str) -> list[dict[str, frozenset[str]]]:
    return [{room: presence(some, name).members(room) for room in ROOMS} for name in names]


def expected(some: Talkers, names: str) -> dict[str, frozenset[str]]:
    """What the nodes say of their own, together."""
    return {
        room: frozenset().union(*(presence(some, name).here(room) for name in names))
        for room in ROOMS
    }


def come_and_go(some: Talkers, names: str, chance: random.Random) -> None:
    """One person more, one with other words, or one less, anywhere."""
    at, room = presence(some, chance.choice(names)), chance.choice(ROOMS)
    person = f"p{chance.randrange(12)}"
    if chance.random() < 0.4:
        at.drop(room, person)
    else:
        at.put(room, person, str(chance.randrange(3)).encode())


def lose(some: Talkers, names: str, loses: float, chance: random.Random) -> None:
    for one in names:
        for other in names:
            some.server.direction(one, other).loses = lambda *_: chance.random() < loses


async def test_all_are_present_on_all_nodes_a_second_after_the_last_change(
    autojump_clock: MockClock,
) -> None:
    # CLU-32
    async with talkers("a", "b", "c") as some:
        chance = random.Random(1)
        for _ in range(200):
            come_and_go(some, "abc", chance)
            await trio.sleep(chance.uniform(0, 0.05))
        await trio.sleep(1)
        assert shown(some, "abc") == [expected(some, "abc")] * 3
        assert expected(some, "abc")["lobby"]
        # What is told of them too, and only of who is there.
        told = presence(some, "a").elsewhere("lobby")
        assert sorted(map(sorted, told)) == sorted(
            sorted(presence(some, name).here("lobby")) for name in "bc"
        )


@pytest.mark.parametrize("seed", range(2))
async def test_what_was_lost_heals(autojump_clock: MockClock, seed: int) -> None:
    # CLU-32: six seconds after the last change that a third of was lost
    async with talkers("a", "b", "c", shards=3) as some:
        chance = random.Random(seed)
        lose(some, "abc", 0.3, chance)
        for _ in range(100):
            come_and_go(some, "abc", chance)
            await trio.sleep(chance.uniform(0, 0.05))
        lose(some, "abc", 0.0, chance)
        await trio.sleep(6)
        assert shown(some, "abc") == [expected(some, "abc")] * 3


async def test_a_lost_last_change_is_noticed_by_the_digest(autojump_clock: MockClock) -> None:
    # CLU-32
    async with talkers("a", "b", shards=2) as some:
        presence(some, "a").put("lobby", "ada", b"1")
        await trio.sleep(1)
        way = some.server.direction("a", "b")
        way.loses = lambda subject, _: subject.endswith(".all")
        presence(some, "a").drop("lobby", "ada")
        await trio.sleep(0.5)
        way.loses = lambda *_: False
        assert presence(some, "b").members("lobby") == {"ada"}
        await trio.sleep(5.5)
        assert not presence(some, "b").members("lobby")


async def test_a_member_is_there_while_any_node_says_so(autojump_clock: MockClock) -> None:
    # CLU-32
    async with talkers("a", "b", shards=2) as some:
        for name in "ab":
            presence(some, name).put("lobby", "ada", name.encode())
        await trio.sleep(1)
        heard: list[str] = []
        end = presence(some, "b").watch(heard.append)
        presence(some, "a").drop("lobby", "ada")
        await trio.sleep(1)
        assert [presence(some, name).members("lobby") for name in "ab"] == [{"ada"}] * 2
        presence(some, "b").drop("lobby", "ada")
        await trio.sleep(1)
        assert [presence(some, name).members("lobby") for name in "ab"] == [frozenset()] * 2
        assert heard == ["lobby"], "it is told what changes elsewhere"
        end()
        end()
        presence(some, "a").put("lobby", "ada")
        await trio.sleep(1)
        assert heard == ["lobby"]


async def test_those_of_a_dead_node_leave_after_its_lease_and_a_while(
    autojump_clock: MockClock,
) -> None:
    # CLU-32, REL-37
    async with talkers("a", "b", "c", shards=3) as some:
        presence(some, "c").put("lobby", "ada")
        await trio.sleep(1)
        some.stop("c")
        died = trio.current_time()
        await some.until(lambda: not presence(some, "a").members("lobby"))
        after_s = trio.current_time() - died
        assert LEASE_S + GONE_KEPT_S - 1.5 <= after_s <= LEASE_S + GONE_KEPT_S + 1.5
        await some.until(lambda: not presence(some, "b").members("lobby"), within_s=1)
        # It wakes, joins anew, and its people are there again, and theirs with it.
        presence(some, "a").put("lobby", "grace")
        some.go_on("c")
        await some.until(lambda: shown(some, "abc") == [expected(some, "abc")] * 3)
        assert presence(some, "b").members("lobby") == {"ada", "grace"}


async def test_without_a_link_they_stay_and_it_heals(autojump_clock: MockClock) -> None:
    # CLU-32
    async with talkers("a", "b", shards=2) as some:
        presence(some, "a").put("lobby", "ada")
        await trio.sleep(1)
        some.server.go_away()
        presence(some, "a").drop("lobby", "ada")
        presence(some, "a").put("lobby", "grace")
        await trio.sleep(8)
        assert presence(some, "b").members("lobby") == {"ada"}, "both nodes live: nobody has left"
        some.server.come_back()
        await some.until(lambda: presence(some, "b").members("lobby") == {"grace"}, within_s=3)


async def test_many_are_told_in_parts(autojump_clock: MockClock) -> None:
    # CLU-32
    async with talkers("a", "b", shards=2) as some:
        crowd = {f"p{number}" for number in range(5 * PRESENT_AT_ONCE_MAX + 1)}
        for person in crowd:
            presence(some, "a").put("lobby", person, b"x" * ABOUT_BYTES_MAX)
        await trio.sleep(1)
        assert presence(some, "b").members("lobby") == crowd
        async with trio.open_nursery() as nursery:
            await some.settle("c", nursery)
            await some.until(lambda: presence(some, "c").members("lobby") == crowd)
            nursery.cancel_scope.cancel()


async def test_nonsense_is_refused_and_changes_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talkers("a", shards=2) as some:
        here = presence(some, "a")
        for group, member, about in (
            ("", "ada", b""),
            ("lobby", "", b""),
            ("x" * (GROUP_MAX + 1), "ada", b""),
            ("lobby", "x" * (MEMBER_MAX + 1), b""),
            ("lobby", "\ud800", b""),
            ("lobby", "ada", b"x" * (ABOUT_BYTES_MAX + 1)),
        ):
            with pytest.raises(LinkMisuse):
                here.put(group, member, about)
        here.drop("lobby", "nobody")
        assert not here.members("lobby")
        monkeypatch.setattr(members, "MEMBERS_MAX", 2)
        assert [here.put("lobby", person) for person in ("a", "b", "c")] == [True, True, False]
        assert here.put("lobby", "a", b"other words")
        here.drop("lobby", "b")
        assert here.put("lobby", "c")
        assert here.members("lobby") == {"a", "c"}


def copied(own: Own, told: Sequence[Present | PresentSet]) -> Copy:
    copy = Copy()
    for one in told:
        copy.whole(one) if isinstance(one, PresentSet) else copy.changed(one)
    return copy


def test_a_copy_believes_only_what_follows() -> None:
    own = Own()
    own.put("lobby", "ada", b"")
    (first,) = own.changes()
    whole = own.whole()
    own.put("lobby", "grace", b"")
    (second,) = own.changes()
    # The change overtook the whole, which then is asked for again.
    copy = copied(own, [second, *whole])
    assert (copy.is_behind, set(copy.members.of("lobby"))) == (True, {"ada"})
    for told in own.whole():
        copy.whole(told)
    assert (copy.is_behind, set(copy.members.of("lobby"))) == (False, {"ada", "grace"})
    # What is old changes nothing, nor does a digest that was overtaken.
    assert not copy.changed(first)
    assert not any(map(copy.whole, whole))
    copy.told_digest(PresentDigest(1, 0))
    is_behind = copy.is_behind
    # The same number with another sum is no copy.
    copy.told_digest(PresentDigest(2, own.digest().digest ^ 1))
    assert (is_behind, copy.is_behind) == (False, True)


def test_parts_of_two_wholes_are_never_mixed() -> None:
    old, new = PresentMember("lobby", "old", b""), PresentMember("lobby", "new", b"")
    copy = Copy()
    assert not copy.whole(PresentSet(1, 0, 2, [old]))
    assert not copy.whole(PresentSet(2, 1, 2, [new]))
    assert not copy.whole(PresentSet(2, 7, 2, [old])), "there is no such part"
    assert copy.whole(PresentSet(2, 0, 2, [])) == {"lobby"}
    assert set(copy.members.of("lobby")) == {"new"}
