"""The real site for bench_site: whole tree, embedded PostgreSQL, caps raised for one machine.

    python -m tests.bench.site_server

Prints the port; then `publish N` on standard input sends N events of the Lobby through its feed
and closes every stream, and the end of the input ends the process.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
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
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.postgres import (
    Database,
    DatabaseActor,
    PoolSettings,
    PostgresChatLog,
    PostgresSessionEnds,
    PostgresSocketTickets,
    PostgresSubjectKeys,
    migrate,
    open_database,
    open_embedded,
)
from supervision import open_system
from tests.web.views.samples import static
from web.app import check_store
from web.realtime import StreamCaps
from web.server import Server
from web.settings import Settings
from web.wiring.composition import Secrets, Web
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.site_tree import Site, SiteParts
from web.wiring.stopping import ServingActor

MANY = 10**6
# Events between two looks at who is behind, so that nobody is sent a window instead.
BATCH = 16


async def publish(web: Web, directory: Directory, first: int, count: int) -> None:
    """Send `count` events through the Lobby's feed, as fast as its readers take them."""
    body = "a line of chat as people write it, neither long nor short"
    topics = directory.system.topics
    for n in range(first, first + count):
        message = Message(
            uuid4(), LOBBY, n, None, "somebody else", None, body, Status.VISIBLE, "c",
            datetime.now(UTC),
        )  # fmt: skip
        topics.publish(topic_of(LOBBY), MessagePosted(message, n))
        if n % BATCH == 0:
            while feed_is_behind(directory) or any(
                stream.statistics().backlog.chat_events for stream in web.streams.all()
            ):
                await trio.lowlevel.checkpoint()
    while feed_is_behind(directory):
        await trio.lowlevel.checkpoint()


def feed_is_behind(directory: Directory) -> bool:
    return bool(directory.system.cell_named("feed-lobby").mailbox.queued)


async def obey(web: Web, directory: Directory, log: PostgresChatLog) -> None:
    """Carry out what comes on standard input until it ends."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        history = await log.history(LOBBY, Viewer())
        await publish(web, directory, history.n + 1, int(line.split()[1]))
        await web.streams.close_all()
        print(web.streams.counts().resyncs, flush=True)


def chat_log(database: Database) -> PostgresChatLog:
    """Call this for the log with a key of the bench's own."""
    return PostgresChatLog(
        database, SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    )


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder:
        async with open_embedded(Path(folder)) as server:
            async with open_database(server.url, part="start") as opened:
                await migrate(opened)
                await chat_log(opened).ensure_rooms(ROOM_NAMES)
            await serve(Database(server.url, part="site", settings=PoolSettings()))


async def serve(database: Database) -> None:
    """Run the tree of the site until the input ends."""
    directory, clock, log = Directory(), SystemClock(), chat_log(database)
    caps = StreamCaps(per_session=MANY, per_address=MANY, total=MANY)
    web = Web(
        Settings(port=0), Secrets(Secret(b"s" * 64), None), clock, static(),
        directory=directory, check_store=partial(check_store, database), chat_log=log,
        stream_caps=caps, session_ends=PostgresSessionEnds(database),
        socket_tickets=PostgresSocketTickets(database),
    )  # fmt: skip

    def started(server: Server) -> None:
        print(server.port, flush=True)

    parts = SiteParts(
        directory=directory,
        database=lambda: DatabaseActor(database),
        chat=ChatEnvironment(clock, SystemIds(), log, MANY, MANY),
        rooms=web.rooms,
        room_feed=web.room_feed,
        socket_feed=web.socket_feed,
        tree_feed=web.tree_feed,
        proof_feed=web.proof_feed,
        server=lambda: ServingActor("127.0.0.1", lambda: 0, web.compose, started, lambda _: None),
        server_shutdown_s=7.0,
        close_streams=web.close_streams,
    )
    async with open_system(Site, parts, name="site"):
        await obey(web, directory, log)


if __name__ == "__main__":
    trio.run(main)
