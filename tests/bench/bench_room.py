"""Posts of one room through its actor into PostgreSQL, many posters at once.

    python -m tests.bench room

Beside the same room taking one post at a time, by turns: what is gained by storing the posts that
wait with one commit. No poster reaches a limit, and each waits for its answer.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import trio

from actors.chat import (
    LOBBY,
    ROOM_NAMES,
    Author,
    ChatEnvironment,
    ChatLog,
    Post,
    Posted,
    RoomActor,
    RoomRef,
)
from actors.runtime import open_actors
from storage.postgres import migrate, open_database, open_embedded
from tests.bench.rows import Row, row
from tests.bench.site_server import MANY, chat_log
from web.wiring.environment import SystemClock, SystemIds

POSTERS = (1, 8, 64)
# Long enough for some hundred commits.
SECONDS = 1.5
RUNS = 3
# As the limit of an author: no list of accepted posts grows beyond what it does on the site.
POSTS_OF_AN_AUTHOR = 5


class OneByOne(RoomActor):
    """A room that stores each post by itself."""

    batch_max = 1


async def post_for(room: RoomRef, posters: int, seconds: float) -> float:
    """Give how many posts a second were answered."""
    began, posts = perf_counter(), 0

    async def post() -> None:
        nonlocal posts
        while perf_counter() < began + seconds:
            author = Author(None, uuid4().hex, "poster")
            for number in range(POSTS_OF_AN_AUTHOR):
                answer = await room.ask(Post(author, "hello", str(number)), timeout=60)
                assert isinstance(answer, Posted)
                posts += 1

    async with trio.open_nursery() as nursery:
        for _ in range(posters):
            nursery.start_soon(post)
    return posts / (perf_counter() - began)


async def measure(log: ChatLog) -> list[Row]:
    """Measure each number of posters, with both rooms by turns."""
    environment = ChatEnvironment(SystemClock(), SystemIds(), log, MANY, MANY)
    rows: list[Row] = []
    async with open_actors() as system:
        kinds = (RoomActor, OneByOne)
        rooms: list[RoomRef] = [await system.start(kind, LOBBY, environment) for kind in kinds]
        for room in rooms:
            await post_for(room, 1, 0.2)
        for posters in POSTERS:
            runs = [[await post_for(room, posters, SECONDS) for room in rooms] for _ in range(RUNS)]
            alone = statistics.median(run[1] for run in runs)
            name = f"posts of one room, {posters} posters"
            rows.append(row(name, "posts/s", [run[0] for run in runs], peers={"one by one": alone}))
    return rows


async def measure_on_a_server() -> list[Row]:
    """Measure on a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_embedded(Path(folder)) as server, open_database(server.url) as database:
            await migrate(database)
            log = chat_log(database)
            await log.ensure_rooms(ROOM_NAMES)
            return await measure(log)


def room_posts() -> list[Row]:
    """Measure with 1, 8 and 64 posters."""
    return trio.run(measure_on_a_server)


benchmarks = [room_posts]
