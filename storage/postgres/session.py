"""One session with the database: how it is opened, how old it is, how it is cut off."""

import asyncio
import socket
import time
from typing import TypeAlias

import asyncpg

from storage.errors import StoreRejected
from storage.postgres.translate import translate

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_S_MAX = 4.0

# What a driver raises when a session is over, as against a statement that was wrong.
GONE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Member:
    """A connection of the pool with its birth and the time it was last used."""

    __slots__ = ("born_at", "connection", "used_at")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.born_at = self.used_at = time.monotonic()

    def is_older_than(self, seconds: float, now: float) -> bool:
        """Call this to ask whether it should be renewed."""
        return now - self.born_at > seconds

    async def answers(self, statement: str, within_s: float) -> bool:
        """Call this to run a harmless statement; False when it fails or takes too long."""
        try:
            async with asyncio.timeout(within_s):
                await self.connection.execute(statement)
        except GONE:
            return False
        return True

    def cut_off(self) -> None:
        """Call this from any thread to end the session of a loop that turns no more."""
        transport = getattr(self.connection, "_transport", None)
        sock = None if transport is None else transport.get_extra_info("socket")
        if sock is None:
            return
        try:
            # A copy of the descriptor: the original still belongs to the silent loop.
            with socket.socket(fileno=sock.dup().detach()) as copy:
                copy.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was closed already


async def connect(
    url: str, session: dict[str, str], timeout_s: float = CONNECT_S_MAX
) -> Connection:
    """Call this on the asyncio thread for one connection; errors are translated."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncpg.connect(url, server_settings=session, timeout=timeout_s)
    except (*GONE, ValueError) as error:
        word = translate(error, timeout_s)
        if word is None:
            word = StoreRejected(f"{type(error).__name__}: the address cannot be used")
        raise word from error
