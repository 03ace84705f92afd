"""Three real processes on one database: they share the shards, die, hang, drain and come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.nodes import Nodes, missing, until
from tests.processes.forked import run

_PUT = """
INSERT INTO outbox (partition, kind, target, key, message_id, payload, headers)
SELECT n % 8, 'bus', 'survived-events', 'k' || n, gen_random_uuid(), convert_to($2, 'UTF8'),
    '{"version": "0"}'
FROM generate_series(1, $1) n
"""
_RECORDS = """
SELECT count(*), count(DISTINCT headers ->> 'event_id') FROM bus_records
WHERE key LIKE 'k%' AND topic = 'survived-events'
"""
_RELAYS = "SELECT count(DISTINCT left(owner, 36)) FROM outbox_leases WHERE partition < 8"
LOBBY = "Lobby"
_NONE = {"rooms": 0, "others": 0, "lost": 0, "delivered": 0}
_NOTHING_SURVIVED = {"added": _NONE, "so_far": _NONE, "at": "2025-01-01T00:00:00Z"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


def shares(nodes: Nodes) -> list[int]:
    return sorted(len(one.shards) for one in nodes.owned().values())


def singletons(nodes: Nodes) -> list[int]:
    return sorted(one.singletons for one in nodes.owned().values())


def put(nodes: Nodes, count: int) -> None:
    """Records for the bus, as appends would have left them, in all parts of the outbox."""
    nodes.rows(_PUT, count, json.dumps(_NOTHING_SURVIVED))


def unsent(nodes: Nodes) -> int:
    ((count,),) = nodes.rows("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    return int(count)


def records(nodes: Nodes) -> tuple[int, int]:
    """How many are on the bus, and how many different ones."""
    ((count, different),) = nodes.rows(_RECORDS)
    return int(count), int(different)


def is_ready(site: SiteProcess) -> bool:
    return Visitor(site.url).get("/ready").status == 200


def trips(site: SiteProcess) -> dict[str, str]:
    """To whom each node has told a round trip, as the command tells it."""
    rows = [json.loads(line) for line in site.run("cluster", "status", "--json").splitlines()]
    return {
        row["name"]: "".join(sorted(one[0] for one in row["round_trips_ms"].split(", ") if one))
        for row in rows
    }


def node_of_health(site: SiteProcess) -> str:
    """Which node answers, as its component of health says."""
    told = json.loads(Visitor(site.url).get("/ready?verbose").body)
    return str(told["components"]["cluster"]["details"]["node"])


def owns_rooms(site: SiteProcess) -> bool:
    """Whether owners of rooms live on a node, as the tree of its lab shows them."""
    return "RoomOwner" in Visitor(site.url).get("/lab").text


def remembered(nodes: Nodes) -> int:
    """How many actors have begun and are to begin wherever their shard goes."""
    ((count,),) = nodes.rows("SELECT count(*) FROM remembered WHERE kind = 'room'")
    return int(count)


def bus_groups(site: SiteProcess) -> dict[str, tuple[int, int]]:
    """Of each group its members, and how many records it is behind, as the lab tells it."""
    told = json.loads(Visitor(site.url).get("/api/lab/tree").body)["cluster"]["groups"]
    return {
        one["group"]: (one["members"], sum(topic["records"] for topic in one["topics"]))
        for one in told
    }


def refused(state: Path, **settings: str) -> tuple[int, str]:
    """A start that must not come about: its code and what it says."""
    settings = {"PATH": "/usr/bin:/bin", "STATE_DIR": str(state), **settings, "PORT": "0"}
    done = run("web.cli", ["serve"], environment=settings)
    return done.returncode, done.stderr


@pytest.mark.long
def test_three_nodes_share_what_there_is(tmp_path: Path) -> None:
    # BUS-8, CLU-2, CLU-3, CLU-11, CLU-13, CLU-15, CLU-40, CLU-41, CLU-42
    state = tmp_path / "state"
    with Nodes(tmp_path, "abc") as nodes:
        # Who owns the room is the one that is killed: else nothing moves that anybody could see.
        killed = nodes.owner("room", LOBBY)
        left, hung = sorted({*"abc"} - {killed})
        a, b = nodes.sites[left], nodes.sites[hung]
        assert shares(nodes) == [42, 43, 43]
        # The eight parts of the outbox, mail, and who sends and who times the checkouts of the lab.
        until(lambda: singletons(nodes) == [3, 4, 4])
        rows = [json.loads(line) for line in a.run("cluster", "status", "--json").splitlines()]
        assert {(row["name"], row["state"]) for row in rows} == {(name, "up") for name in "abc"}
        assert sum(row["shards"] for row in rows) == 128 + 11
        until(lambda: all(is_ready(site) for site in nodes.sites.values()))
        # Each has told how long a word to the others takes, and its lines say whose they are.
        until(lambda: trips(a) == {"a": "bc", "b": "ac", "c": "ab"})
        joined = [line for line in b.lines if "cluster.node_joined" in line]
        assert [f"node={hung}" in line for line in joined] == [True]
        assert node_of_health(b) == hung
        code, said = refused(state, **nodes.alone())
        assert (code, "CLUSTER: the node" in said) == (4, True), said
        put(nodes, 400)
        until(lambda: unsent(nodes) == 0)
        ((relays,),) = nodes.rows(_RELAYS)
        assert (relays, records(nodes)) == (3, (400, 400))
        # Each hears them in a group of its own, and all see in the lab how far each is.
        until(lambda: bus_groups(a) == {f"site-{name}": (1, 0) for name in "abc"})
        # One is killed and one hangs: the third owns all, and the hanging one finds it out. The
        # owner of the room where somebody has posted begins there by itself.
        visitor = Visitor(a.url)
        visitor.open_lab()
        assert visitor.post("before any dies").status == 202
        until(lambda: remembered(nodes) == 1)
        assert (owns_rooms(a), owns_rooms(b)) == (False, False)
        first_id = nodes.owned()[hung].node_id
        nodes.kill(killed)
        nodes.hang(hung)
        put(nodes, 400)
        until(lambda: shares(nodes) == [128])
        until(lambda: owns_rooms(a))
        until(lambda: unsent(nodes) == 0)
        nodes.go_on(hung)
        until(lambda: shares(nodes) == [64, 64])
        assert nodes.owned()[hung].node_id != first_id
        until(lambda: is_ready(b))
        until(lambda: any("cluster.node_fenced" in line for line in b.lines))
        # What it had before it hung it has not sent since.
        put(nodes, 400)
        until(lambda: unsent(nodes) == 0)
        assert records(nodes) == (1200, 1200)
        # Drained it owns nothing, and a balancer sends its visitors elsewhere.
        drained = json.loads(a.run("cluster", "drain", hung, "--yes", "--json"))
        assert (drained["node"], drained["left"]) == (hung, 0)
        until(lambda: not is_ready(b))
        until(lambda: shares(nodes) == [0, 128])
        # A planned end hands over first, and then lets go of its clients: what they see next is
        # the other's.
        nodes.start("d")
        until(lambda: shares(nodes) == [0, 64, 64])
        # CLU-55: who would not be believed is told at its start.
        code, said = refused(state, **nodes.settings_of("e") | {"CLUSTER_SECRET": "A" * 43})
        assert (code, said.strip().splitlines()[-1][:15]) == (2, "CLUSTER_SECRET:"), said
        assert nodes.stop(left) == 0
        steps = [line for line in a.lines if "site.stop_step" in line or "drain_step" in line]
        assert "shards" in steps[0], a.last_words()
        assert "drain_step" in steps[1], a.last_words()
        until(lambda: shares(nodes) == [0, 128])
        # It leaves nothing to wait for, also for one without a cluster.
        assert [nodes.stop(name) for name in (hung, "d")] == [0, 0]
        alone = SiteProcess(state, **nodes.alone())
        try:
            assert not any("lease_awaited" in line for line in alone.lines)
            code, said = refused(state, **nodes.settings_of(left))
            assert (code, "greenroom:site" in said) == (4, True), said
        finally:
            alone.end()
        # CLU-4: one sentence, and the code of a setting that has to change.
        nodes.password.write_text("another")
        code, said = refused(state, **nodes.settings_of(left))
        assert (code, said.strip().splitlines()[-1].startswith("NATS_URL: ")) == (2, True), said
