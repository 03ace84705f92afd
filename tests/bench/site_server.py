"""The real site for the benchmarks: whole tree, embedded PostgreSQL, caps raised for one machine.

    python -m tests.bench.site_server

Prints the port. Lines on standard input are obeyed, each with a line of JSON when it is done:

- `publish COUNT TOGETHER SIZE`: a run of the fan-out, as `fanout_servers.py` tells, through the
  Lobby's feeds; tells the processor time and how many readers were sent a window instead
- `beat COUNT PER_S`: so many events a second, each with the moment it was published in its body
- `memory`: the bytes of this process, after a full collection
- `store COUNT`: so many messages of one guest are in the Lobby, as if posted before the start
- `state`: how many streams are open

`BENCH_OBSERVED=on` has spans and figures taken, `off` neither; otherwise it is as sites are. With
`BENCH_REST_S` a connection may rest for so long between two requests.

The end of the input ends the process.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import structlog
import trio
import trio.lowlevel

from actors.chat import (
    LOBBY,
    ROOM_NAMES,
    ChatEnvironment,
    Message,
    MessagePosted,
    Status,
    Viewer,
    topic_of,
)
from actors.chat.words import Author, Draft
from actors.runtime import Context, Secret, System, edge_context
from actors.runtime.telling.spans import root_of
from storage.keyring import SubjectKeyring
from storage.postgres import (
    Database,
    DatabaseActor,
    PoolSettings,
    PostgresChatLog,
    PostgresSubjectKeys,
    migrate,
    open_database,
    open_embedded,
)
from supervision import open_system
from tests.bench.fanout_load import LAST, numbered
from tests.bench.fanout_servers import AHEAD_MAX, used_s
from tests.web.views.samples import static
from web.app import spare_what_stays, store_components, store_of
from web.realtime import StreamCaps
from web.server import Server
from web.settings import Settings, Tracing
from web.wiring.composition import Secrets, Web
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.site_tree import Site, SiteParts
from web.wiring.stopping import Served, ServingActor

MANY = 10**6


class Lobby:
    """Publishes events of the Lobby that nobody stored, numbered on behind those that are."""

    def __init__(self, web: Web, directory: Directory, log: PostgresChatLog) -> None:
        self._web, self._directory, self._log = web, directory, log
        self._n: int | None = None
        self._said = 0

    async def obey(self, command: str, *numbers: int) -> dict[str, float]:
        """Do what a line says."""
        match command:
            case "publish":
                return await self.publish(*numbers)
            case "beat":
                return await self.beat(*numbers)
            case "memory":
                gc.collect()
                return {"bytes": resident_bytes()}
            case "state":
                return {"streams": len(self._web.streams.all())}
            case "store":
                return await self.store(*numbers)
        raise ValueError(command)

    async def publish(self, count: int, together: int, size: int) -> dict[str, float]:
        """Send as fast as the readers take it, `together` events in each turn of the loop."""
        resyncs, used = self._web.streams.counts().resyncs, used_s()
        for number in range(1, count + 1):
            # A page's window shows events of the run before: numbers never begin anew.
            self._said += 1
            await self._say(numbered(self._said, size, is_last=number == count))
            if number % together == 0:
                await trio.lowlevel.checkpoint()
            if number % AHEAD_MAX == 0:
                await self._caught_up()
        await self._caught_up()
        return {
            "cpu": used_s() - used,
            "resyncs": self._web.streams.counts().resyncs - resyncs,
        }

    async def store(self, count: int) -> dict[str, float]:
        """Have so many messages of one guest stored, for pages that are loaded later."""
        author = Author(None, str(uuid4()), "somebody else")
        for number in range(count):
            body = f"{number}: a line of chat as people write it, neither long nor short"
            await self._log.post(
                Draft(
                    uuid4(), uuid4(), LOBBY, author, body, str(number), Status.VISIBLE, None,
                    datetime.now(UTC),
                )
            )  # fmt: skip
        return {"stored": count}

    async def beat(self, count: int, per_s: int) -> dict[str, float]:
        """Send at an even pace; each body says when it was published."""
        began, resyncs, used = trio.current_time(), self._web.streams.counts().resyncs, used_s()
        words = "x" * 100
        for number in range(1, count + 1):
            await trio.sleep_until(began + number / per_s)
            last = LAST.decode() if number == count else ""
            await self._say(f"at={time.monotonic_ns()};{words}{last}")
        await self._caught_up()
        return {
            "cpu": used_s() - used,
            "resyncs": self._web.streams.counts().resyncs - resyncs,
        }

    async def _say(self, body: str) -> None:
        if self._n is None:
            self._n = (await self._log.history(LOBBY, Viewer())).n
        self._n += 1
        message = Message(
            uuid4(), LOBBY, self._n, None, "somebody else", None, body, Status.VISIBLE, "c",
            datetime.now(UTC),
        )  # fmt: skip
        # As a post has one: each begins a trace.
        context = Context("c", traceparent=root_of(f"{self._n:032x}"))
        with edge_context(context):
            self._directory.system.topics.publish(topic_of(LOBBY), MessagePosted(message, self._n))

    async def _caught_up(self) -> None:
        """Wait until the feeds have handed everything out and nothing waits for a reader."""
        feed, web = self._directory.system.cell_named("feed-lobby"), self._web
        while feed.mailbox.queued or web.said[LOBBY].known != self._n:
            await trio.lowlevel.checkpoint()
        while any(stream.is_behind for stream in web.streams.all()):  # noqa: ASYNC110 - nobody tells when a reader caught up
            await trio.sleep(0.001)
        assert web.sockets is not None
        while web.sockets.queued:  # noqa: ASYNC110 - nobody tells when a reader caught up
            await trio.sleep(0.001)


def resident_bytes() -> int:
    """Tell how much memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def keyring(database: Database) -> SubjectKeyring:
    """Call this for a keyring with a key of the bench's own."""
    return SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))


def chat_log(database: Database) -> PostgresChatLog:
    """Call this for the log with that key."""
    return PostgresChatLog(database, keyring(database))


async def main(answers: TextIO) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder:
        async with open_embedded(Path(folder)) as server:
            async with open_database(server.url, part="start") as opened:
                await migrate(opened)
                await chat_log(opened).ensure_rooms(ROOM_NAMES)
            await serve(Database(server.url, part="site", settings=PoolSettings()), answers)


async def serve(database: Database, answers: TextIO) -> None:
    """Run the tree of the site until the input ends."""
    directory, clock, keys = Directory(), SystemClock(), keyring(database)
    log = PostgresChatLog(database, keys)
    caps = StreamCaps(per_session=MANY, per_address=MANY, total=MANY)
    settings = Settings(port=0, sockets_per_address_max=MANY)
    observed = os.environ.get("BENCH_OBSERVED")
    if observed is not None:
        # What is compared is the work, on whatever machine: nobody is turned away.
        settings = replace(settings, overload_late_ms=60_000, overload_after_ms=60_000)
    if observed == "on":
        settings = replace(settings, metrics_token=Secret("of-nobody-else's-use"))
    elif observed == "off":
        settings = replace(settings, tracing=Tracing.OFF)
    web = Web(
        settings, Secrets(Secret(b"s" * 64), None), clock, static(),
        directory=directory, store_health=store_components(database, settings, clock.now),
        store=store_of(database, log, keys), ids=SystemIds(), stream_caps=caps,
    )  # fmt: skip

    def started(server: Server) -> None:
        print(server.port, file=answers, flush=True)

    def compose(system: System, port: int) -> Served:
        served, rest_s = web.compose(system, port), os.environ.get("BENCH_REST_S")
        if rest_s is None:
            return served
        transport = replace(served.settings.transport, keep_alive_s=float(rest_s))
        return replace(served, settings=replace(served.settings, transport=transport))

    parts = SiteParts(
        directory=directory,
        database=lambda: DatabaseActor(database),
        chat=ChatEnvironment(clock, SystemIds(), log, MANY, MANY, directory.newest),
        web=web,
        server=lambda: ServingActor("127.0.0.1", lambda: 0, compose, started, lambda _: None),
        server_shutdown_s=7.0,
    )
    spare_what_stays()
    async with open_system(Site, parts, name="site"):
        lobby = Lobby(web, directory, log)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command, *numbers = line.split()
            told = await lobby.obey(command, *map(int, numbers))
            print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    # What stands on standard output otherwise is the log of requests: written, and read by nobody.
    told, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    trio.run(main, told)
