"""Three real processes on one database: they share the shards, die, hang, drain and come back."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from actors.cluster import SINGLETONS_FROM
from storage.postgres.embedded.server import start
from tests.journeys.site_process import ROOT, SiteProcess
from tests.journeys.test_process import MANY
from tests.journeys.visitor import Visitor
from tests.nats_server import PASSWORD, USER, NatsServer, ServerFile, User, missing
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

# What the documented file permits a node.
OWN = ("gr.greenroom.>",)

SECRET = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")


_HELD = """
SELECT n.name, n.node_id::text AS id,
    count(s.id) FILTER (WHERE s.id < $1) AS held, count(s.id) FILTER (WHERE s.id >= $1) AS single
FROM nodes n LEFT JOIN shards s ON s.owner = n.node_id::text
WHERE n.state <> 'gone' AND n.heartbeat_at > clock_timestamp() - interval '6 s'
GROUP BY n.name, n.node_id
"""


def told(url: str) -> dict[str, tuple[int, str, int]]:
    """By name how many shards each living node owns, its id, and how many singletons it has.

    As `cluster status`, sooner.
    """

    async def ask() -> dict[str, tuple[int, str, int]]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(_HELD, SINGLETONS_FROM)
            return {row["name"]: (row["held"], row["id"], row["single"]) for row in rows}
        finally:
            await connection.close()

    return asyncio.run(ask())


def until(is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.2)


def shares(url: str) -> list[int]:
    return sorted(count for count, _, _ in told(url).values())


def singletons(url: str) -> list[int]:
    return sorted(count for _, _, count in told(url).values())


def is_ready(site: SiteProcess) -> bool:
    return Visitor(site.url).get("/ready").status == 200


def refused(state: Path, **settings: str) -> tuple[int, str]:
    """A start that must not come about: its code and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "web.cli", "serve"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PORT": "0", "STATE_DIR": str(state), **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_three_nodes_share_what_there_is(tmp_path: Path) -> None:
    # CLU-2, CLU-3, CLU-11, CLU-13, CLU-40, CLU-41
    server = start(tmp_path / "database", extra=("fsync=off",))
    alone = {"DATABASE_URL": server.url, **MANY}
    sites: list[SiteProcess] = []
    messages = NatsServer(tmp_path / "nats", ServerFile(users=[User(publish=OWN, subscribe=OWN)]))
    messages.start()
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    node = {
        **alone,
        "CLUSTER": "on",
        "CLUSTER_SECRET": SECRET,
        "NATS_URL": messages.url,
        "NATS_USER": USER,
        "NATS_PASSWORD_FILE": str(password),
    }
    try:
        sites.extend(SiteProcess(tmp_path / "state", **node, NODE_NAME=name) for name in "abc")
        a, b, c = sites
        until(lambda: shares(server.url) == [42, 43, 43])
        until(lambda: singletons(server.url) == [2, 3, 3])  # the eight parts of the outbox
        rows = [json.loads(line) for line in a.run("cluster", "status", "--json").splitlines()]
        assert {(row["name"], row["state"]) for row in rows} == {(name, "up") for name in "abc"}
        assert sum(row["shards"] for row in rows) == 128 + 8
        assert all(is_ready(site) for site in sites)
        code, said = refused(tmp_path / "state", **alone)
        assert (code, "CLUSTER: the node" in said) == (4, True), said
        # One is killed and one hangs: the third owns all, and the hanging one finds it out.
        first_id = told(server.url)["b"][1]
        c.kill()
        b.process.send_signal(signal.SIGSTOP)
        until(lambda: shares(server.url) == [128])
        b.process.send_signal(signal.SIGCONT)
        until(lambda: shares(server.url) == [64, 64])
        assert told(server.url)["b"][1] != first_id
        until(lambda: is_ready(b))
        assert any("cluster.node_fenced" in line for line in b.lines)
        # Drained it owns nothing, and a balancer sends its visitors elsewhere.
        drained = json.loads(a.run("cluster", "drain", "b", "--yes", "--json"))
        assert (drained["node"], drained["left"]) == ("b", 0)
        until(lambda: not is_ready(b))
        assert shares(server.url) == [0, 128]
        # A planned end hands over first, and then lets go of its clients: what they see next is
        # the other's.
        sites.append(SiteProcess(tmp_path / "state", **node, NODE_NAME="d"))
        until(lambda: shares(server.url) == [0, 64, 64])
        assert a.stop() == 0
        steps = [line for line in a.lines if "site.stop_step" in line or "drain_step" in line]
        assert "shards" in steps[0], a.last_words()
        assert "drain_step" in steps[1], a.last_words()
        assert shares(server.url) == [0, 128]
        # It leaves nothing to wait for, also for one without a cluster.
        assert [site.stop() for site in (b, sites[-1])] == [0, 0]
        sites.append(SiteProcess(tmp_path / "state", **alone))
        assert not any("lease_awaited" in line for line in sites[-1].lines)
        code, said = refused(tmp_path / "state", **node)
        assert (code, "greenroom:site" in said) == (4, True), said
        # CLU-4: one sentence, and the code of a setting that has to change.
        assert sites[-1].stop() == 0
        password.write_text("another")
        code, said = refused(tmp_path / "state", **node)
        assert (code, said.strip().splitlines()[-1].startswith("NATS_URL: ")) == (2, True), said
    finally:
        for site in sites:
            site.process.send_signal(signal.SIGCONT)
            site.end()
        messages.kill()
        server.stop()
