"""Several real processes that are one site: one database, one server of messages (CLU-42)."""

from __future__ import annotations

import asyncio
import base64
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import asyncpg

from actors.cluster import SHARDS, shard_of
from storage.postgres.embedded.server import start
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_process import MANY
from tests.nats_server import PASSWORD, USER, NatsServer, ServerFile, User
from tests.patience import PATIENCE_S

SECRET = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
# What the documented file permits a node.
OWN = ("gr.greenroom.>",)

_HELD = """
SELECT n.name, array_agg(s.id) FILTER (WHERE s.id < $1) AS held
FROM nodes n LEFT JOIN shards s ON s.owner = n.node_id::text AND s.lease_until > clock_timestamp()
WHERE n.state <> 'gone' AND n.heartbeat_at > clock_timestamp() - interval '6 s'
GROUP BY n.name, n.node_id
"""


class Nodes:
    """`with Nodes(folder, "abc") as nodes`: one node for each letter, all of one site.

    `sites` has them by name, `messages` is the server between them. Leaving ends all of it.
    """

    def __init__(self, folder: Path, names: str, **settings: str) -> None:
        self._folder, self._names = folder, names
        self._database = start(folder / "database", extra=("fsync=off",))
        own = ServerFile(users=[User(publish=OWN, subscribe=OWN)])
        self.messages = NatsServer(folder / "nats", own)
        password = folder / "password"
        password.write_text(PASSWORD)
        self.alone = {"DATABASE_URL": self._database.url, **MANY}
        self.settings = {
            **self.alone,
            "CLUSTER": "on",
            "CLUSTER_SECRET": SECRET,
            "NATS_URL": self.messages.url,
            "NATS_USER": USER,
            "NATS_PASSWORD_FILE": str(password),
            **settings,
        }
        self.sites: dict[str, SiteProcess] = {}

    def __enter__(self) -> Nodes:
        try:
            self.messages.start()
            for name in self._names:
                self.start(name)
            even = [SHARDS // len(self._names), -(-SHARDS // len(self._names))]
            until(lambda: all(len(one) in even for one in self._held_by_all()))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def start(self, name: str) -> SiteProcess:
        """Start a node; one state folder has the one secret that they share."""
        site = SiteProcess(self._folder / "state", **self.settings, NODE_NAME=name)
        self.sites[name] = site
        return site

    def held(self) -> Mapping[str, list[int]]:
        """By name which shards each living node owns."""

        async def ask() -> dict[str, list[int]]:
            connection = await asyncpg.connect(self._database.url)
            try:
                rows = await connection.fetch(_HELD, SHARDS)
                return {row["name"]: row["held"] or [] for row in rows}
            finally:
                await connection.close()

        return asyncio.run(ask())

    def _held_by_all(self) -> list[list[int]]:
        held = self.held()
        return [held.get(name, []) for name in self.sites]

    def owner(self, kind: str, id_: str) -> str:
        """The name of the node that owns an actor."""
        shard = shard_of(kind, id_, SHARDS)
        found: list[str] = []

        def is_owned() -> bool:
            found[:] = [name for name, mine in self.held().items() if shard in mine]
            return bool(found)

        until(is_owned)
        return found[0]

    def kill(self, name: str) -> None:
        """End a node without a word."""
        self.sites.pop(name).kill()

    def end(self) -> None:
        """End all of it."""
        for site in self.sites.values():
            site.process.send_signal(signal.SIGCONT)
            site.end()
        self.messages.go_on()
        self.messages.kill()
        self._database.stop()


def until(is_so: Callable[[], bool]) -> None:
    """Wait in real time for what other processes do."""
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.05)
