"""Nodes, shards and the link become what the lab and `greenroom top` show, and the JSON of both.

Pure: what is known is handed in. Nothing here says where a node or a server is, apart from a server
that is given: who looks may be anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from actors.cluster import (
    SINGLETONS_FROM,
    ClusterFigures,
    Member,
    Move,
    Node,
    PeerFigures,
    Survey,
    living,
    moves,
    owner_name,
    owners,
)
from actors.cluster.link import WINDOW_BYTES_MAX, WINDOW_ENVELOPES_MAX, LinkStatus
from web.observability.bus_lag import GroupLag
from web.views import GroupLagView, NodesView, ShardMoveView, SiteNodeView, TopicLagView

# What is under way at once; how many more are planned is told as a number.
MOVES_SHOWN_MAX = 8
# Beats come each second: what is younger is no silence.
SILENT_S_MIN = 2


def nodes_view(
    member: Member,
    figures: ClusterFigures,
    link: LinkStatus,
    *,
    server: str = "",
    lags: Sequence[GroupLag] = (),
) -> NodesView | None:
    """Call this for how it stands now; None until this process has looked at the others once.

    `server` is where the link goes, for those who may see it; `lags` are the groups of the bus.
    """
    survey = member.survey
    if survey is None:
        return None
    whose = owners(survey, member.shards)
    peers = {peer.node_id: peer for peer in figures.peers}
    planned = moves(survey, member.shards, member.planned())
    return NodesView(
        nodes=tuple(
            _node(survey, node, whose, member, peers.get(node.node_id)) for node in living(survey)
        ),
        shards=member.shards,
        unowned=sum(owner is None for owner in whose.values()),
        moves=tuple(_move(survey, move, member) for move in planned[:MOVES_SHOWN_MAX]),
        more_moves=max(0, len(planned) - MOVES_SHOWN_MAX),
        is_linked=link.is_up,
        server=server,
        server_version=link.version,
        refused=sum(figures.refused.values()),
        groups=tuple(map(_group, lags)),
    )


def _group(lag: GroupLag) -> GroupLagView:
    topics = [TopicLagView(name, count, int(age)) for name, (count, age) in lag.by_topic().items()]
    return GroupLagView(lag.group, lag.members, tuple(topics))


def _node(
    survey: Survey,
    node: Node,
    whose: Mapping[int, str | None],
    member: Member,
    peer: PeerFigures | None,
) -> SiteNodeView:
    held = [shard for shard, owner in whose.items() if owner == str(node.node_id)]
    singletons = sum(shard >= SINGLETONS_FROM for shard in held)
    silent_s = int(max(0.0, (survey.now - node.heartbeat_at).total_seconds()))
    shown = SiteNodeView(
        node.name if node.name.strip() else str(node.node_id),
        node.state.value,
        node.link.value,
        len(held) - singletons,
        singletons,
        silent_s if silent_s >= SILENT_S_MIN else 0,
        node.version if node.version.strip() else "?",
        is_this=node.node_id == member.node_id,
    )
    return shown if peer is None else _with_way(shown, peer)


def _with_way(shown: SiteNodeView, peer: PeerFigures) -> SiteNodeView:
    trip_s = peer.round_trip_s
    share = max(peer.under_way / WINDOW_ENVELOPES_MAX, peer.bytes_under_way / WINDOW_BYTES_MAX)
    return replace(
        shown,
        round_trip_ms=None if trip_s is None else round(trip_s * 1000, 1),
        window_percent=round(100 * share),
        waiting=peer.waiting,
        delivered=peer.delivered,
        lost=peer.lost,
    )


def _move(survey: Survey, move: Move, member: Member) -> ShardMoveView:
    return ShardMoveView(
        move.shard,
        None if move.source is None else owner_name(survey, move.source),
        owner_name(survey, move.to),
        is_under_way=move.shard in member.holding.closing,
    )
