"""Who may start beside whom, and when a node may be sent work: over the twin, in virtual time."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import (
    HEARTBEAT_S,
    LEASE_S,
    Holding,
    LinkState,
    Member,
    NewNode,
    Node,
    NodeState,
    Owned,
    Survey,
)
from actors.cluster.link import NoLink
from actors.cluster.membership import ISOLATED_AFTER_S, RETURNS_AFTER_S
from actors.cluster.node import ALONE_AFTER_S
from actors.runtime import Secret
from storage.memory import MemoryDatabase, MemoryNodes
from tests.actors.cluster.reaching.talkers_kit import Echo, talkers
from tests.engines import virtual_environment
from tests.logged import captured
from web.app.clustering import (
    EXIT_REFUSED,
    EXIT_SETTINGS,
    Refused,
    check_company,
    check_member,
    marks_of,
    node_name,
    part_of,
    suspended_too,
)
from web.settings import BadSettings, Cluster, Settings, read_settings

OFF = Settings()
ON = Settings(cluster=Cluster.ON, node_name="a", cluster_secret=Secret(b"x" * 32))
GIVEN = {
    "CLUSTER": "on",
    "DATABASE_URL": "postgres://localhost/x",
    "NATS_URL": "nats://127.0.0.1",
    "CLUSTER_SECRET": base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("="),
}


def nodes_of_virtual_time() -> MemoryNodes:
    return MemoryNodes(MemoryDatabase(now=virtual_environment().clock.now))


async def _beat_for_ever(nodes: MemoryNodes, node_id: UUID) -> None:
    while True:
        await nodes.beat(node_id)
        await trio.sleep(1)


@pytest.mark.parametrize(
    ("settings", "code", "named"),
    [(OFF, EXIT_REFUSED, "CLUSTER"), (ON, EXIT_SETTINGS, "NODE_NAME")],
)
async def test_a_start_beside_a_living_node_is_refused(
    autojump_clock: MockClock, settings: Settings, code: int, named: str
) -> None:  # CLU-2
    nodes = nodes_of_virtual_time()
    await nodes.join(NewNode(node_id := uuid4(), "a", "1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat_for_ever, nodes, node_id)
        with pytest.raises(Refused, match=rf"^{named}: .*\ba\b") as refused:
            await check_company(settings, nodes)
        nursery.cancel_scope.cancel()
    assert refused.value.code == code


@pytest.mark.parametrize("settings", [OFF, ON])
async def test_of_a_node_that_was_killed_the_end_of_its_lease_is_awaited(
    autojump_clock: MockClock, settings: Settings
) -> None:  # CLU-2
    nodes = nodes_of_virtual_time()
    await nodes.join(NewNode(uuid4(), "a", "1"))
    await trio.sleep(1)
    began = trio.current_time()
    with captured() as lines:
        await check_company(settings, nodes)
    assert LEASE_S - 1 <= trio.current_time() - began <= LEASE_S
    assert "cluster.lease_awaited" in [line["event"] for line in lines]


async def test_nodes_of_other_names_are_no_obstacle(autojump_clock: MockClock) -> None:
    nodes = nodes_of_virtual_time()
    await nodes.join(NewNode(uuid4(), "b", "1"))
    began = trio.current_time()
    await check_company(ON, nodes)
    assert trio.current_time() == began


async def test_a_node_is_refused_beside_a_process_without_a_cluster(
    autojump_clock: MockClock,
) -> None:  # CLU-2
    nodes = nodes_of_virtual_time()
    nodes.database.alone.append("greenroom:site (pid 7)")
    await check_company(OFF, nodes)
    with pytest.raises(Refused, match=r"greenroom:site \(pid 7\)") as refused:
        await check_company(ON, nodes)
    assert refused.value.code == EXIT_REFUSED
    # Sessions of one that was killed are in the server's list for a moment.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(check_company, ON, nodes)
        await trio.sleep(1)
        nodes.database.alone.clear()


def _node_of(secrets: str, name: str = "greenroom") -> Settings:
    """A node that signs with the first of these, and believes the second besides."""
    now, *former = (Secret(one.encode() * 32) for one in secrets)
    return Settings(
        cluster=Cluster.ON,
        node_name="b",
        cluster_name=name,
        cluster_secret=now,
        cluster_secret_previous=former[0] if former else None,
    )


@pytest.mark.parametrize(
    ("there", "comes", "is_refused"),
    [
        # A change in three steps: both believe both, then sign with the new, then forget the old.
        (_node_of("x"), _node_of("xy"), False),
        (_node_of("xy"), _node_of("yx"), False),
        (_node_of("yx"), _node_of("y"), False),
        # In two, one of both is not believed.
        (_node_of("x"), _node_of("yx"), True),
        (_node_of("x"), _node_of("y"), True),
        (_node_of("x"), _node_of("x", "other"), True),
    ],
)
async def test_a_start_beside_a_node_of_another_secret_is_refused(
    autojump_clock: MockClock, there: Settings, comes: Settings, is_refused: bool
) -> None:
    # CLU-4, CLU-55
    nodes = nodes_of_virtual_time()
    await nodes.join(NewNode(node_id := uuid4(), "a", "1", marks=marks_of(there)))
    assert marks_of(Settings(cluster=Cluster.ON)).hears_and_is_heard(marks_of(there))
    for one, other in ((there, comes), (comes, there)):
        assert marks_of(one).hears_and_is_heard(marks_of(other)) is not is_refused
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat_for_ever, nodes, node_id)
        if is_refused:
            with pytest.raises(Refused, match=r"^CLUSTER_SECRET: .*\ba\b") as refused:
                await check_company(comes, nodes)
            assert refused.value.code == EXIT_SETTINGS
        else:
            await check_company(comes, nodes)
        nursery.cancel_scope.cancel()


async def test_of_a_dead_node_of_another_secret_the_end_of_its_lease_is_awaited(
    autojump_clock: MockClock,
) -> None:  # CLU-2: all nodes are stopped at once to change it
    nodes = nodes_of_virtual_time()
    await nodes.join(NewNode(uuid4(), "a", "1", marks=marks_of(_node_of("x"))))
    began = trio.current_time()
    await check_company(_node_of("y"), nodes)
    assert trio.current_time() - began <= LEASE_S + 1


async def test_a_store_that_is_divided_otherwise_is_told_at_a_start(
    autojump_clock: MockClock,
) -> None:  # CLU-10
    nodes = nodes_of_virtual_time()
    nodes.database.shard_count = 64
    with pytest.raises(Refused, match=r"^DATABASE_URL: .* 64 shards, .* 128") as refused:
        await check_company(_node_of("x"), nodes)
    assert refused.value.code == EXIT_SETTINGS
    await check_company(OFF, nodes)


def test_sessions_of_a_node_have_other_names() -> None:
    assert [part_of(one, "site") for one in (OFF, ON)] == ["site", "node-site"]
    assert (node_name(ON), bool(node_name(OFF))) == ("a", True)
    assert suspended_too() <= suspended_too()


def _member(state: NodeState, clock: Callable[[], float] = lambda: 10.0) -> Member:
    member = Member(clock, 2)
    member.begin(uuid4(), clock())
    member.state = state
    return member


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (NodeState.JOINING, "unhealthy"),
        (NodeState.UP, "healthy"),
        (NodeState.DRAINING, "unhealthy"),
        (NodeState.GONE, "unhealthy"),
    ],
)
def test_only_a_node_that_is_up_is_ready(state: NodeState, status: str) -> None:  # CLU-3
    assert check_member(_member(state)).status == status


def test_a_node_that_may_not_join_says_why() -> None:  # CLU-55
    member = _member(NodeState.JOINING)
    assert "waits_for" not in check_member(member).details
    member.waits_for = "other_secret"
    assert check_member(member).details["waits_for"] == "other_secret"


def test_a_node_whose_leases_are_over_is_not_ready() -> None:  # CLU-6
    now = [10.0]
    member = _member(NodeState.UP, lambda: now[0])
    now[0] += 4.0
    assert check_member(member).status == "unhealthy"
    assert isinstance(member.holding, Holding)


def test_a_shard_that_is_nobodys_for_long_is_told() -> None:  # CLU-40
    now = [10.0]
    member = _member(NodeState.UP, lambda: now[0])
    clock = MemoryDatabase().now()
    owned = {0: Owned(0, str(member.node_id), 1, clock + timedelta(seconds=5))}
    told = []
    for later in (0.0, 2.1, 31.0):
        now[0] = 10.0 + later
        member.holding.renewed(now[0], {0: 1})
        member.read(Survey(clock, {}, owned))
        told.append(check_member(member).status)
    assert told == ["healthy", "degraded", "unhealthy"]
    member.read(Survey(clock, {}, owned | {1: Owned(1, "b", 1, clock + timedelta(seconds=5))}))
    assert check_member(member).status == "healthy"


@pytest.mark.parametrize("other", [LinkState.UP, LinkState.DOWN])
def test_a_node_alone_without_a_link_is_not_ready(other: LinkState) -> None:  # CLU-5
    member = _member(NodeState.UP)
    now = MemoryDatabase().now()
    owned = {n: Owned(n, "b", 1, now + timedelta(seconds=5)) for n in (0, 1)}
    nodes = {
        node_id: Node(node_id, name, "1", now, now, link, NodeState.UP)
        for node_id, name, link in ((member.node_id, "a", LinkState.DOWN), (uuid4(), "b", other))
    }
    member.read(Survey(now, nodes, owned))
    assert check_member(member).status == ("unhealthy" if other is LinkState.UP else "healthy")


async def test_without_any_link_each_node_keeps_what_it_has_and_is_ready(
    autojump_clock: MockClock,
) -> None:
    # CLU-5
    async with talkers("a", "b") as some:
        before = some.owned()
        some.server.go_away()
        for name in "ab":
            local, remote = (some.talkers[name].shelf(some.id_on(one)) for one in ("a", "b"))
            if name == "b":
                local, remote = remote, local
            await trio.sleep(60 if name == "a" else 0)
            assert await local.ask(Echo("here")) == "here"
            with pytest.raises(NoLink):
                await remote.ask(Echo("there"), timeout=600)
            assert check_member(some[name].member).status == "healthy"
        assert some.owned() == before


async def test_a_node_alone_without_a_link_gives_back_what_it_has_and_returns(
    autojump_clock: MockClock,
) -> None:
    # CLU-5
    async with talkers("a", "b") as some:
        some.talkers["b"].link.disconnect()
        cut_at = trio.current_time()
        await some.until(lambda: some.is_shared_out("a"))
        after_s = trio.current_time() - cut_at
        assert ISOLATED_AFTER_S <= after_s <= ISOLATED_AFTER_S + ALONE_AFTER_S + 3 * HEARTBEAT_S
        assert check_member(some["b"].member).status == "unhealthy"
        assert check_member(some["a"].member).status == "healthy"
        some.talkers["b"].link.reconnect()
        back_at = trio.current_time()
        await some.until(lambda: check_member(some["b"].member).status == "healthy")
        after_s = trio.current_time() - back_at
        assert RETURNS_AFTER_S <= after_s <= RETURNS_AFTER_S + 3 * HEARTBEAT_S
        await some.until(lambda: some.is_shared_out("a", "b"))


def test_what_a_node_needs_is_read() -> None:
    settings = read_settings({**GIVEN, "NODE_NAME": "eins", "CLUSTER_NAME": "green-2"})
    assert (settings.cluster, settings.node_name, settings.cluster_name) == (
        Cluster.ON, "eins", "green-2",
    )  # fmt: skip
    assert settings.cluster_secret is not None
    assert read_settings({}).cluster is Cluster.OFF


@pytest.mark.parametrize(
    ("spoiled", "name"),
    [
        ({"CLUSTER": "yes"}, "CLUSTER"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"CLUSTER_SECRET": ""}, "CLUSTER_SECRET"),
        ({"CLUSTER_SECRET": "eHh4"}, "CLUSTER_SECRET"),
        ({"CLUSTER_SECRET": "not base64!"}, "CLUSTER_SECRET"),
        ({"CLUSTER_SECRET_PREVIOUS": "eHh4"}, "CLUSTER_SECRET_PREVIOUS"),
        ({"CLUSTER_NAME": "Green"}, "CLUSTER_NAME"),
        ({"CLUSTER_NAME": "x" * 33}, "CLUSTER_NAME"),
        ({"NATS_URL": ""}, "NATS_URL"),
        ({"NODE_NAME": "a\nb"}, "NODE_NAME"),
        ({"NODE_NAME": "x" * 256}, "NODE_NAME"),
    ],
)
def test_what_no_node_can_be_is_refused_with_its_name(spoiled: dict[str, str], name: str) -> None:
    with pytest.raises(BadSettings) as refused:
        read_settings({**GIVEN, **spoiled})
    assert [line.partition(":")[0] for line in refused.value.problems] == [name]
    assert "eHh4" not in str(refused.value)
