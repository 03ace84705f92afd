"""Whose a shard was at each append to it: kept by the database itself, and judged (CLU-43).

Triggers number what happens in one order: each change of a shard's owner, and each append of an
actor's stream with who wrote it. An append holds its shard's row when it takes its number, and a
change waits for that: so the last owner with a lower number is the one that had to be the writer.
Who writes is told by the role of its connection: each node has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.cluster import SHARDS, shard_of
from tests.nodes.kit import Nodes, node_role

EPOCHS = "every append to a shard is of the node that owns it, in the order of epochs"

_WATCH = """
CREATE SCHEMA watched;
CREATE SEQUENCE watched.place;
CREATE TABLE watched.owners (
    place bigint DEFAULT nextval('watched.place'), shard int, owner text, epoch bigint);
CREATE TABLE watched.appends (
    place bigint DEFAULT nextval('watched.place'), stream text, version bigint, writer text,
    is_owners boolean);
CREATE FUNCTION watched.note_owner() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO watched.owners (shard, owner, epoch) VALUES (NEW.id, NEW.owner, NEW.epoch);
    RETURN NULL;
END $$;
CREATE FUNCTION watched.note_append() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO watched.appends (stream, version, writer, is_owners)
        VALUES (NEW.stream_id, NEW.version, session_user,
            current_query() ~ 'FROM shards .* FOR KEY SHARE');
    RETURN NULL;
END $$;
LOCK TABLE shards IN SHARE MODE;
INSERT INTO watched.owners (shard, owner, epoch) SELECT id, owner, epoch FROM shards;
CREATE TRIGGER watched AFTER INSERT OR UPDATE OF owner, epoch ON shards
    FOR EACH ROW EXECUTE FUNCTION watched.note_owner();
CREATE TRIGGER watched AFTER INSERT ON events
    FOR EACH ROW EXECUTE FUNCTION watched.note_append();
"""
_OWNERS = """
SELECT o.place, o.shard, o.epoch, n.name AS node FROM watched.owners o
LEFT JOIN nodes n ON n.node_id::text = o.owner ORDER BY o.place
"""
_APPENDS = """
SELECT place, stream, version, writer, is_owners FROM watched.appends ORDER BY place
"""


@dataclass(frozen=True)
class Owner:
    """From when on a shard is a node's; None is nobody's, or one's that is forgotten."""

    place: int
    shard: int
    epoch: int
    node: str | None


@dataclass(frozen=True)
class Append:
    """One event of an actor's stream, and which node wrote it."""

    place: int
    what: str
    shard: int
    writer: str


# Of a stream: kind and id of the actor that writes it; None for what no actor writes.
WhoseStream = Callable[[str], tuple[str, str] | None]


def watch(nodes: Nodes) -> None:
    """Call this once the schema is there."""
    nodes.run_all(_WATCH)


def judge_epochs(nodes: Nodes, whose: WhoseStream, *, of_owners_only: bool) -> list[str]:
    """Call this for appends of others than the owner, and epochs that do not rise.

    Of the site's rooms only what is stored as their owner: a node that does not reach the owner
    stores a post by itself (docs/explain/cluster.md), in the order of the room's row.
    """
    owners = [
        Owner(row["place"], row["shard"], row["epoch"], row["node"]) for row in nodes.rows(_OWNERS)
    ]
    writers = {node_role(name): name for name in nodes.names}
    appends = [
        Append(
            row["place"],
            f"{row['stream']} {row['version']}",
            shard_of(*actor, SHARDS),
            writers.get(row["writer"], row["writer"]),
        )
        for row in nodes.rows(_APPENDS)
        if (actor := whose(row["stream"])) is not None and (row["is_owners"] or not of_owners_only)
    ]
    return misplaced(owners, appends)


def misplaced(owners: Sequence[Owner], appends: Sequence[Append]) -> list[str]:
    """Call this for what is wrong of both, each in the order of their places; pure."""
    if not appends:
        return ["nothing was appended: there is nothing to judge"]
    found: list[str] = []
    now: dict[int, Owner] = {}
    both: list[Owner | Append] = [*owners, *appends]
    for one in sorted(both, key=lambda one: one.place):
        before = now.get(one.shard)
        if isinstance(one, Owner):
            if before is not None and one.epoch <= before.epoch:
                found.append(f"shard {one.shard}: epoch {one.epoch} behind {before.epoch}")
            now[one.shard] = one
        elif before is None or before.node != one.writer:
            owner = None if before is None else f"{before.node} (epoch {before.epoch})"
            found.append(f"{one.what} is of {one.writer}, its shard of {owner}")
    return found
