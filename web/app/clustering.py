"""This process as a node of a cluster, or refused as one: what `CLUSTER` is carried out by.

Who serves without a cluster is known by the name of its sessions at the database, which costs it
nothing; nodes are known by their heartbeats. A start looks for the other kind before it serves.
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

import trio

from actors.cluster import (
    LEASE_S,
    SHARDS,
    UNOWNED_S,
    UNOWNED_S_MAX,
    ClusterNode,
    Identity,
    LinkState,
    Member,
    Node,
    Nodes,
    NodeState,
    SecretMarks,
    living,
)
from actors.cluster.link import FrameKeys
from actors.reducers import Environment
from actors.runtime import AnyActor, Log, Secret
from storage.postgres import Database, PostgresNodes
from web.observability.health import Component, Finding, degraded, healthy, unhealthy
from web.settings import Cluster, Settings
from web.site.pages import program_version
from web.wiring.environment import SystemClock, SystemIds

EXIT_SETTINGS = 2
EXIT_REFUSED = 4
# A dead node's lease, and a second for its last heartbeat to have been written.
COMPANY_S_MAX = LEASE_S + 1.0
# The server ends the sessions of a process that was killed within this.
SESSIONS_END_S_MAX = 2.0
LOOK_S = 0.25

log = Log(__name__)


class Refused(Exception):
    """Raised at a start beside others that it cannot serve with; nothing was begun."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True, slots=True)
class SiteNode:
    """What this process knows of its cluster, and how the actor is made that keeps it true."""

    member: Member
    nodes: Nodes
    identity: Identity

    def make(
        self,
        link: Callable[[], LinkState],
        trips: Callable[[], Mapping[UUID, float]] = dict,
    ) -> AnyActor:
        """Call this for the actor, at each start anew; `link` tells whether it is heard.

        `trips` gives the seconds of the last round trip to each other node.
        """
        return ClusterNode(
            self.nodes,
            self.member,
            self.identity,
            Environment(SystemClock(), SystemIds()),
            link=link,
            trips=trips,
        )


def node_name(settings: Settings) -> str:
    """Call this for what people call this process."""
    return settings.node_name or socket.gethostname() or "node"


def part_of(settings: Settings, part: str) -> str:
    """Call this for the name of sessions: a node's are none of a process that serves alone."""
    return f"node-{part}" if settings.cluster is Cluster.ON else part


def node_of(settings: Settings, database: Database) -> SiteNode | None:
    """Call this for the node that this process is, None with `CLUSTER=off`."""
    if settings.cluster is Cluster.OFF:
        return None
    identity = Identity(node_name(settings), program_version(), marks=marks_of(settings))
    return SiteNode(Member(suspended_too), PostgresNodes(database), identity)


def frame_keys(settings: Settings) -> FrameKeys:
    """Call this for what frames are sealed and believed with."""
    secret, previous = settings.cluster_secret, settings.cluster_secret_previous
    assert secret is not None, "settings are refused without one"
    former = None if previous is None else Secret(previous.reveal().hex())
    return FrameKeys(settings.cluster_name, Secret(secret.reveal().hex()), former)


def marks_of(settings: Settings) -> SecretMarks:
    """Call this for what a node's secret and its cluster's name are told by to others.

    Who signs nothing, without a link, tells nothing; the settings of a site are refused so.
    """
    if settings.cluster_secret is None:
        return SecretMarks()
    return SecretMarks(*frame_keys(settings).marks)


def suspended_too() -> float:
    """Call this for seconds that go on while the process is stopped, or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def node_components(node: SiteNode | None) -> Sequence[Component]:
    """Call this for the component of health that a node has."""
    return [] if node is None else [Component("cluster", partial(check_node, node))]


def check_node(node: SiteNode) -> Finding:
    """Call this for the same as `check_member`, with which node it is."""
    found = check_member(node.member)
    return replace(found, details={**found.details, "node": node.identity.name})


def check_member(member: Member) -> Finding:
    """Call this to learn whether this node may be sent work: with 503 the balancer goes elsewhere.

    A shard that is nobody's for more than 2 s degrades, for more than 30 s it is unhealthy.
    """
    if member.state is NodeState.DRAINING:
        return unhealthy("this node is drained: what it owned is handed over")
    if not member.is_serving:
        words = "this node owns nothing: it joins, or could not renew its leases"
        waits = {"waits_for": member.waits_for} if member.waits_for else {}
        return unhealthy(words, **waits)
    if _is_isolated(member):
        return unhealthy("this node has no link to the others, who have theirs")
    unowned_s = round(member.unowned_s(), 1)
    numbers = {"shards": len(member.holding.epochs), "unowned_s": unowned_s}
    if unowned_s > UNOWNED_S_MAX:
        return unhealthy("shards are nobody's", **numbers)
    if unowned_s > UNOWNED_S:
        return degraded("shards are nobody's", **numbers)
    return healthy(**numbers)


def _is_isolated(member: Member) -> bool:
    """CLU-5: what it owned is given to those who have a link."""
    survey = member.survey
    own = None if survey is None else survey.nodes.get(member.node_id)
    if survey is None or own is None or own.link is LinkState.UP:
        return False
    return any(node.link is LinkState.UP for node in living(survey))


async def check_company(settings: Settings, nodes: Nodes) -> None:
    """Call this at a start, once the schema is there; raises `Refused` (CLU-2).

    A node whose heartbeat goes on is there; of one that is silent the end of its lease is awaited,
    7 s at most. A process without a cluster is there while it has sessions.
    """
    if settings.cluster is Cluster.ON:
        await _refuse_beside_alone(nodes)
        await _refuse_other_division(nodes)
    await _refuse_beside_nodes(nodes, partial(beside, settings))


async def _refuse_beside_alone(nodes: Nodes) -> None:
    deadline = trio.current_time() + SESSIONS_END_S_MAX
    while alone := (await nodes.survey()).alone:
        if trio.current_time() >= deadline:
            raise Refused(
                f"CLUSTER: {alone[0]} serves this database with CLUSTER=off, so no node may; stop "
                "it, or give it CLUSTER=on",
                EXIT_REFUSED,
            )
        await trio.sleep(LOOK_S)


async def _refuse_other_division(nodes: Nodes) -> None:
    divided = (await nodes.survey()).divided
    if divided not in (None, SHARDS):
        raise Refused(
            f"DATABASE_URL: this store is divided into {divided} shards, and this release into "
            f"{SHARDS}; run the release that its nodes run",
            EXIT_SETTINGS,
        )


async def _refuse_beside_nodes(nodes: Nodes, judge: Callable[[Node], Refused | None]) -> None:
    """Raises what `judge` gives of a living node."""
    began = trio.current_time()
    first: dict[UUID, datetime] = {}
    while True:
        survey = await nodes.survey()
        found = [(node, why) for node in living(survey) if (why := judge(node)) is not None]
        if not found:
            return
        for node, why in found:
            before = first.setdefault(node.node_id, node.heartbeat_at)
            if node.heartbeat_at != before or trio.current_time() - began > COMPANY_S_MAX:
                raise why
        if trio.current_time() - began < LOOK_S:
            log.warning("cluster.lease_awaited", node=found[0][0].name, wait_s=COMPANY_S_MAX)
        await trio.sleep(LOOK_S)


def beside(settings: Settings, node: Node) -> Refused | None:
    """Call this for why a process may not serve beside a node that lives; None: it may."""
    if settings.cluster is Cluster.OFF:
        return Refused(
            f"CLUSTER: the node {node.name} serves this database with CLUSTER=on, so no process "
            "may without; stop it, or give CLUSTER=on here",
            EXIT_REFUSED,
        )
    if node.name == node_name(settings):
        return Refused(
            f"NODE_NAME: a living node is called {node.name}; give another name", EXIT_SETTINGS
        )
    if not marks_of(settings).hears_and_is_heard(node.marks):
        return Refused(
            f"CLUSTER_SECRET: the living node {node.name} has another, or another CLUSTER_NAME: "
            "one of the two would not believe the other; give all nodes the same, and change it "
            "in three rounds, with CLUSTER_SECRET_PREVIOUS",
            EXIT_SETTINGS,
        )
    return None
