"""`greenroom cluster`: who serves the store together, what each owns, and what changes hands.

Everything stands in the store, so a command needs no node to speak with. A node carries the plan
out by itself, within a second; `rebalance` waits for that.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import trio

from actors.cluster import (
    SHARDS,
    Move,
    Node,
    NodeState,
    Survey,
    counts_of,
    living,
    moves,
    named,
    owner_name,
    owners,
)
from storage.postgres import Database, PostgresNodes
from web.cli.answering import Teller
from web.cli.opening import changing, open_store
from web.observability import Code, CommandFailed

# Eight shards a second are handed over at the least; 128 take less than half of it.
WAIT_S_MAX = 60.0
LOOK_S = 0.25


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    async with open_store(environment) as database:
        nodes = PostgresNodes(database)
        survey = await nodes.survey()
        match parsed.action:
            case "status":
                teller.rows(_status(survey), "No node is there: CLUSTER is off, or nobody serves.")
            case "plan":
                rows = [_row(survey, move) for move in _planned(survey)]
                teller.rows(rows, "Nothing is to be moved.")
            case "rebalance":
                return await _rebalance(nodes, teller)
            case _:
                return await _drain(parsed, teller, database, survey)
    return Code.DONE


def _planned(survey: Survey) -> Sequence[Move]:
    """The plan that every node computes."""
    return moves(survey, SHARDS) if survey.nodes else []


def _status(survey: Survey) -> Sequence[Mapping[str, object]]:
    held = counts_of({shard: row.owner for shard, row in survey.shards.items()})
    return [
        {
            "name": node.name,
            "state": node.state.value,
            "link": node.link.value,
            "shards": held.get(str(node.node_id), 0),
            "round_trips_ms": _trips(survey, node),
            "silent_s": round(max(0.0, (survey.now - node.heartbeat_at).total_seconds()), 1),
            "version": node.version,
            "started_at": node.started_at,
            "node_id": str(node.node_id),
        }
        for node in living(survey)
    ]


def _trips(survey: Survey, node: Node) -> str:
    """How long a word from a node to each other and back takes, by the other's name."""
    return ", ".join(
        f"{other.name} {node.trips[other.node_id] * 1000:.1f}"
        for other in living(survey)
        if other.node_id in node.trips
    )


def _row(survey: Survey, move: Move) -> Mapping[str, object]:
    return {
        "shard": move.shard,
        "from": owner_name(survey, move.source),
        "to": owner_name(survey, move.to),
    }


async def _until(nodes: PostgresNodes, is_so: Callable[[Survey], bool]) -> bool:
    with trio.move_on_after(WAIT_S_MAX):
        while True:
            if is_so(await nodes.survey()):
                return True
            await trio.sleep(LOOK_S)
    return False


async def _rebalance(nodes: PostgresNodes, teller: Teller) -> int:
    first = await nodes.survey()
    if not living(first):
        raise CommandFailed(Code.UNKNOWN, "no node is there", "CLUSTER is off, or nobody serves")
    moved = len(_planned(first))
    done = await _until(nodes, lambda survey: not _planned(survey))
    last = await nodes.survey()
    teller.one({"moved": moved - len(_planned(last)), "left": len(_planned(last))})
    return Code.DONE if done else Code.FAILED


async def _drain(
    parsed: argparse.Namespace, teller: Teller, database: Database, survey: Survey
) -> int:
    node = named(survey, parsed.node)
    if node is None:
        raise CommandFailed(Code.UNKNOWN, f"no living node is called {parsed.node!r:.60}")
    nodes, mine = PostgresNodes(database), str(node.node_id)
    held = counts_of(owners(survey, SHARDS)).get(mine, 0)
    what = f"have {node.name} hand over all that it owns and take no more until it is started anew"
    async with changing(parsed, teller, database, what, mine):
        if not await nodes.set_state(node.node_id, NodeState.DRAINING):
            raise CommandFailed(Code.UNKNOWN, f"{node.name} has gone in this moment")

    def is_empty(now: Survey) -> bool:
        return all(row.owner != mine for row in now.shards.values())

    done = await _until(nodes, is_empty)
    left = sum(row.owner == mine for row in (await nodes.survey()).shards.values())
    teller.one({"node": node.name, "moved": held - left, "left": left})
    return Code.DONE if done else Code.FAILED
