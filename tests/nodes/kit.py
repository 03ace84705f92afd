"""`Nodes`: the database, the servers of messages, the processes and what stands before them."""

from __future__ import annotations

import asyncio
import base64
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

import asyncpg

from actors.cluster import SHARDS, SINGLETONS_FROM, shard_of, singleton_shard
from storage.postgres.embedded.server import start
from tests import nats_server
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_process import MANY
from tests.nats_server import PASSWORD, USER, NatsServer, ServerFile, User, three
from tests.nodes.balancer import Balancer, program_of
from tests.nodes.lines import Line, Lines
from tests.patience import PATIENCE_S
from tests.processes.ports import free_ports

SECRET = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
# What the documented file permits a node.
OWN = ("gr.greenroom.>",)

_HELD = """
SELECT n.name, n.node_id::text AS id,
    array_agg(s.id) FILTER (WHERE s.id < $1) AS held,
    count(s.id) FILTER (WHERE s.id >= $1) AS single
FROM nodes n LEFT JOIN shards s ON s.owner = n.node_id::text AND s.lease_until > clock_timestamp()
WHERE n.state <> 'gone' AND n.heartbeat_at > clock_timestamp() - interval '6 s'
GROUP BY n.name, n.node_id
"""


_HAS = """
SELECT n.name FROM nodes n
JOIN shards s ON s.owner = n.node_id::text AND s.lease_until > clock_timestamp()
WHERE s.id = $1
"""


@dataclass(frozen=True)
class Setup:
    """What stands around the nodes."""

    # One, or three that are one cluster.
    servers: int = 1
    # `haproxy` or `nginx`; empty for none: then each node is asked by its own address.
    balancer: str = ""
    # Whether each node reaches the database and each server of messages by a line of its own.
    has_lines: bool = False


@dataclass(frozen=True)
class Owned:
    """What one living node has: its id, which shards, and how many singletons."""

    node_id: str
    shards: Sequence[int]
    singletons: int


@dataclass
class NodeLines:
    """The lines of one node."""

    database: Line
    messages: Sequence[Line]

    def all(self) -> Sequence[Line]:
        """All of them."""
        return [self.database, *self.messages]


class Program(Protocol):
    """What a node runs: `SiteProcess`, or another that says its address as the site does."""

    def __call__(self, state_dir: Path, /, **environment: str) -> SiteProcess:
        """Start it, and wait until it has said its address."""
        ...


@dataclass
class Nodes:
    """`with Nodes(folder, "abc") as nodes`: one node for each letter, all of one site.

    `sites` has them by name, `servers` those of messages, `lines` what can be cut. Entering waits
    until the shards are shared out; leaving ends all of it. `settings` go to every node, and
    `program` is what each of them runs: the site, unless told.
    """

    folder: Path
    names: str
    setup: Setup = field(default_factory=Setup)
    settings: Mapping[str, str] = field(default_factory=dict)
    # What each node runs; given its state folder, and its settings by name.
    program: Program = SiteProcess
    sites: dict[str, SiteProcess] = field(default_factory=dict, init=False)
    lines: dict[str, NodeLines] = field(default_factory=dict, init=False)
    balancer: Balancer | None = field(default=None, init=False)
    # Every node that ever started, in order, with what it has said; those that are dead too.
    lives: list[tuple[str, SiteProcess]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        file = ServerFile(users=[User(publish=OWN, subscribe=OWN)])
        self.database = start(self.folder / "database", extra=("fsync=off",))
        folder = self.folder / "nats"
        is_one = self.setup.servers == 1
        self.servers = [NatsServer(folder, file)] if is_one else three(folder, file)
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        self.password = self.folder / "password"
        self.password.write_text(PASSWORD)
        self._stack = ExitStack()

    def __enter__(self) -> Nodes:
        with ExitStack() as stack:
            stack.callback(self.database.stop)
            for server in self.servers:
                stack.callback(server.kill)
                server.start()
            if self.setup.has_lines:
                self._draw_lines(stack.enter_context(Lines()))
            if self.setup.balancer:
                self.balancer = Balancer(
                    self.setup.balancer, self.folder / "balancer", list(self.ports.values())
                )
                stack.callback(self.balancer.end)
            stack.callback(self._end_sites)
            for name in self.names:
                self.start(name)
            self.wait_shared_out()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # What is asked

    @property
    def messages(self) -> NatsServer:
        """The server of messages, the first of three."""
        return self.servers[0]

    @property
    def url(self) -> str:
        """What visitors type."""
        assert self.balancer is not None, "each node is asked by its own address"
        return self.balancer.url

    def own_url(self, name: str) -> str:
        """Where one node listens; behind a balancer it answers probes only, by this name."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def alone(self) -> dict[str, str]:
        """Settings of a process of this database without a cluster."""
        return {"DATABASE_URL": self.database.url, **MANY}

    def settings_of(self, name: str) -> dict[str, str]:
        """Settings of a node, which need not be one of `names`."""
        lines = self.lines.get(name)
        urls = [server.url for server in self.servers]
        settings = {**self.alone(), "CLUSTER": "on", "CLUSTER_SECRET": SECRET, "NODE_NAME": name}
        if lines is not None:
            database = lines.database.port
            role = node_role(name)
            settings["DATABASE_URL"] = f"postgresql://{role}@127.0.0.1:{database}/postgres"
            urls = [f"nats://127.0.0.1:{line.port}" for line in lines.messages]
        if self.balancer is not None:
            settings |= {"PUBLIC_ORIGIN": self.balancer.url, "TRUSTED_PROXIES": "127.0.0.0/8"}
        return {
            **settings,
            "PORT": str(self.ports.get(name, 0)),
            "NATS_URL": ",".join(urls),
            "NATS_USER": USER,
            "NATS_PASSWORD_FILE": str(self.password),
            **self.settings,
        }

    def owned(self) -> Mapping[str, Owned]:
        """What each living node has, by its name."""
        rows = self.rows(_HELD, SINGLETONS_FROM)
        return {
            row["name"]: Owned(row["id"], sorted(row["held"] or []), row["single"]) for row in rows
        }

    def held(self) -> Mapping[str, Sequence[int]]:
        """Which shards each living node has, by its name."""
        return {name: one.shards for name, one in self.owned().items()}

    def owner(self, kind: str, id_: str) -> str:
        """The name of the node that owns an actor; waits while nobody does."""
        shard = shard_of(kind, id_, SHARDS)
        found: list[str] = []

        def is_owned() -> bool:
            found[:] = [name for name, mine in self.held().items() if shard in mine]
            return bool(found)

        until(is_owned)
        return found[0]

    def owner_of_singleton(self, name: str) -> str:
        """The name of the node that has a singleton; waits while nobody does."""
        found: list[str] = []

        def is_owned() -> bool:
            found[:] = [str(node) for (node,) in self.rows(_HAS, singleton_shard(name))]
            return bool(found)

        until(is_owned)
        return found[0]

    def rows(self, statement: str, *values: object) -> Sequence[asyncpg.Record]:
        """What the database says, by a connection of its own that nothing cuts."""

        async def ask() -> Sequence[asyncpg.Record]:
            connection = await asyncpg.connect(self.database.url)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def run_all(self, statements: str) -> None:
        """Run several statements in one transaction, by such a connection."""

        async def run() -> None:
            connection = await asyncpg.connect(self.database.url)
            try:
                await connection.execute(statements)
            finally:
                await connection.close()

        asyncio.run(run())

    def wait_shared_out(self) -> None:
        """Wait until the nodes that run own all shards, each as many as the others."""
        count = len(self.sites)
        even = [SHARDS // count, -(-SHARDS // count)]

        def is_so() -> bool:
            held = self.held()
            counts = [len(held.get(name, ())) for name in self.sites]
            return sum(counts) == SHARDS and all(one in even for one in counts)

        until(is_so)

    # What is done

    def start(self, name: str) -> SiteProcess:
        """Start a node; one state folder has the one secret that they share."""
        site = self.program(self.folder / "state", **self.settings_of(name))
        self.sites[name] = site
        self.lives.append((name, site))
        return site

    def stop(self, name: str) -> int:
        """Have a node end as planned; its exit code."""
        return self.sites.pop(name).stop()

    def kill(self, name: str) -> None:
        """End a node without a word."""
        self.sites.pop(name).kill()

    def hang(self, name: str) -> None:
        """Stop a node: it holds what it has, and says nothing."""
        self.sites[name].process.send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Let it go on."""
        self.sites[name].process.send_signal(signal.SIGCONT)

    def _draw_lines(self, lines: Lines) -> None:
        path = self.database.sockets / ".s.PGSQL.5432"
        for name in self.names:
            # By which the database tells who wrote what.
            self.run_all(f"CREATE ROLE {node_role(name)} SUPERUSER LOGIN")
            messages = [lines.to_port(partial(getattr, one, "port")) for one in self.servers]
            self.lines[name] = NodeLines(lines.to_socket(path), messages)

    def _end_sites(self) -> None:
        for lines in self.lines.values():
            for line in lines.all():
                line.refuse(False)
                line.mend()
        for server in self.servers:
            if server.process is not None and server.process.poll() is None:
                server.go_on()
        for name, site in self.sites.items():
            self.go_on(name)
            site.end()


def node_role(name: str) -> str:
    """As whom a node with lines of its own connects."""
    return f"node_{name}"


def missing(setup: Setup | None = None) -> str:
    """Call this for why nodes cannot be had so; empty when they can."""
    kind = setup.balancer if setup is not None else ""
    if kind and program_of(kind) is None:
        return f"not run: no {kind}; {kind.upper()} names a program"
    return nats_server.missing()


def until(is_so: Callable[[], bool]) -> None:
    """Wait in real time for what other processes do."""
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.05)


def settled(judge: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Wait until nothing is wrong any more; gives what still is when patience is over."""
    limit = time.monotonic() + PATIENCE_S
    while (wrong := judge()) and time.monotonic() < limit:
        time.sleep(0.05)
    return wrong
