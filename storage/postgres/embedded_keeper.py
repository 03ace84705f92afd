"""The life of the embedded server on the trio side: opened, watched, brought back, closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from storage.postgres import embedded, embedded_process

# What stopping may take in all: the fast way, then the immediate one, then force.
STOP_S_MAX = embedded.STOP_S_MAX + 2 * embedded_process.IMMEDIATE_S_MAX

# How soon a dead server is noticed. Its clients notice at once; this only brings it back.
WATCH_S = 0.1


async def start_embedded(state_dir: Path) -> embedded.EmbeddedServer:
    """Call this to start the server of a folder without holding up the loop.

    Raises `StateDirInUse` and `EmbeddedFailed`. A cancelled caller waits for the end of the
    start: half a server would be left running.
    """
    return await trio.to_thread.run_sync(partial(embedded.start, state_dir))


async def stop_embedded(server: embedded.EmbeddedServer) -> None:
    """Call this to shut the server down, also while being cancelled."""
    with trio.move_on_after(STOP_S_MAX, shield=True):
        await trio.to_thread.run_sync(server.stop)


@asynccontextmanager
async def open_embedded(state_dir: Path) -> AsyncIterator[embedded.EmbeddedServer]:
    """Call this to have the embedded server for as long as the block runs.

    A server that dies meanwhile is started again on the same data and address; if that
    fails, `EmbeddedFailed` leaves the block.
    """
    server = await start_embedded(state_dir)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_revive, server)
            yield server
            nursery.cancel_scope.cancel()
    finally:
        await stop_embedded(server)


async def _revive(server: embedded.EmbeddedServer) -> None:
    while True:
        # A process has no event to wait for that does not cost a thread.
        while server.is_running:  # noqa: ASYNC110
            await trio.sleep(WATCH_S)
        await trio.to_thread.run_sync(server.restart)
