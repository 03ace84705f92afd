"""One session with the database: how it is opened, how old it is, how it is cut off.

A session is trusted while it can do the work. `connect` looks at what it was given, and
`ends_trust` tells which errors of one session speak against all that are as old.

What asyncpg and the operating system raise is said in the words of `storage.errors` by one
table, used where a connection is made or used (`connect` here, `run` of the pool). What is
not in it is a bug of ours (bad SQL, a broken constraint nobody expected): work sees it as the
driver raised it, and whoever called for the work gets a `StatementRefused` (`told`).
"""

from __future__ import annotations

import asyncio
import socket
import time
from functools import partial
from typing import TypeAlias

import asyncpg

from actors.runtime import Log, Secret
from actors.runtime.words.showing import without_passwords
from storage.errors import (
    StatementRefused,
    StoreError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)
from storage.postgres.connecting.address import named_in_environment, read_address
from storage.postgres.connecting.statements import HeardConnection

# A text, because asyncpg's classes take parameters for type checkers only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_log = Log("storage.postgres")

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
        # Not by the driver, whose calls belong to the loop that turns no more. Without this the
        # server would keep the session, and its locks, until the process ends.
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
    url: Secret[str], session: dict[str, str], timeout_s: float = CONNECT_S_MAX
) -> Connection:
    """Call this on the asyncio thread for one connection that can do the work.

    Raises `StoreUnavailable` while there is none, also where the server takes no writes, and
    `StoreRejected` for what no waiting mends: an address nobody can use, a database that is
    not UTF-8, sessions that are not set as they were asked to be.
    """
    connection: Connection | None = None
    is_trusted = False
    try:
        async with asyncio.timeout(timeout_s):
            address = read_address(url.reveal())
            connection = await asyncpg.connect(
                address.text,
                server_settings=session,
                timeout=timeout_s,
                connection_class=HeardConnection,
                # asyncpg's stub wants a member of an enum that the package does not export.
                target_session_attrs=address.session_attrs,  # type: ignore[arg-type]
            )
            await _check(connection, session)
            is_trusted = True
            return connection
    except (*GONE, ValueError) as error:
        raise _why_not(error, timeout_s) from error
    finally:
        if connection is not None and not is_trusted:
            connection.terminate()


async def _check(connection: Connection, session: dict[str, str]) -> None:
    """Refuse a session that is not what was asked for; a later statement would find it out."""
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        # It would take most texts, and fail for whoever writes with other letters.
        raise StoreRejected(f"it is {encoding}; create it with ENCODING 'UTF8'")
    # The name is cut by the server, and only a name.
    wanted = {name: value for name, value in session.items() if name != "application_name"}
    rows = await connection.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(wanted)
    )
    found = {row["name"]: row["setting"] for row in rows}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise StoreRejected(
                f"its sessions do not keep {name} ({found.get(name)}, not {value}): {_POOLER}"
            )


def _why_not(error: BaseException, timeout_s: float) -> StoreError:
    """Our word for what stopped a connection from being made."""
    match error:
        case asyncpg.ProtocolViolationError() if "startup parameter" in str(error):
            return StoreRejected(f"{first_words(error)}: {_POOLER}")
        case asyncpg.TargetServerAttributeNotMatched():
            return StoreUnavailable("no server there takes writes", nothing_written=True)
        case asyncpg.ClientConfigurationError():
            return StoreRejected(first_words(error) + named_in_environment())
        case asyncpg.UndefinedObjectError():
            # The server's words name the parameter, which it was sent as nobody here knew it.
            return StoreRejected(f"{first_words(error)}, nor is it known to us")
    word = translate(error, timeout_s, nothing_written=True)
    if word is not None:
        return word
    if isinstance(error, asyncpg.PostgresError):
        return StoreRejected(first_words(error))
    # A ValueError of the parser, which quotes what it could not read: it may be the password.
    return StoreRejected(f"the address cannot be read ({type(error).__name__})")


_POOLER = (
    "a connection pooler stands between, it seems; name the server itself, as prepared statements, "
    "notices and the lock of migrations need sessions of their own"
)


# Answers that no waiting mends: the address, the name, the password, the database's name.
_REJECTED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)

# The server goes, comes, or has no room: the same call may work in a moment. Deadlocks and
# serialization failures are rolled back by the server and count among them (RES-2).
_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
)

# What says that this server is no place for work, whatever it still answers: it was made a
# standby, it goes away, the line to it is cut. Sessions opened before it said so share its fate.
_NO_PLACE = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)


def ends_trust(url: Secret[str], error: BaseException) -> bool:
    """Call this to ask whether all sessions that are as old as this error should be ended."""
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        # Whoever chose the kind of server himself has his reasons, and another is not better.
        return read_address(url.reveal()).session_attrs is not None
    return isinstance(error, _NO_PLACE)


def translate(
    error: BaseException, timeout_s: float, *, nothing_written: bool = False
) -> StoreError | None:
    """Call this to get our word for a driver's error; None when it is not one of the world's.

    `nothing_written` when the connection was still being made: no statement can have run.
    """
    unavailable = partial(StoreUnavailable, nothing_written=nothing_written)
    match error:
        case StoreError():
            return error
        case TimeoutError() | asyncpg.QueryCanceledError():
            return StoreTimeout(timeout_s, nothing_written=nothing_written)
        case asyncpg.InvalidSQLStatementNameError() | asyncpg.DuplicatePreparedStatementError():
            # Our session was another one a moment ago. Nothing of the statement was done.
            return StoreRejected(f"{first_words(error)}: {_POOLER}")
        case asyncpg.PostgresError() if isinstance(error, _REJECTED):
            return StoreRejected(first_words(error))
        case asyncpg.PostgresError() if isinstance(error, _UNAVAILABLE):
            return unavailable(first_words(error))
        case asyncpg.ClientConfigurationError():
            return StoreRejected(first_words(error))
        case asyncpg.InternalClientError():
            return unavailable(first_words(error))
        case asyncpg.InterfaceError() if "clos" in str(error) or "cancelling" in str(error):
            # asyncpg has no class for "the connection went away before you used it".
            return unavailable(first_words(error))
        case OSError():
            return unavailable(first_words(error))
    return None


# What tables raise where a fact was to be written over: a sign-in, an event, a row of the audit.
_FIXED = "23001"

# What asyncpg raises and `translate` has no word for: the statement, or a value handed to it.
DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def told(error: BaseException) -> StatementRefused:
    """Call this where work ends: a driver's error that nobody foresaw, in our words.

    Raise it `from None`: the driver's own text quotes rows, and a traceback would tell them.
    """
    sqlstate, constraint, table = (
        getattr(error, name, None) for name in ("sqlstate", "constraint_name", "table_name")
    )
    if sqlstate == _FIXED:
        # No statement of ours does it: a fault of the program, or an attack (SEC-21, SEC-134).
        _log.critical("store.fixed_row", constraint=constraint, table=table)
    return StatementRefused(type(error).__name__, sqlstate, constraint, table)


def first_words(error: BaseException) -> str:
    """Call this for one line without the query, its values or addresses with passwords."""
    text = without_passwords((str(error).splitlines() or [""])[0])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def change_rows(connection: Connection, statement: str, *args: object) -> int:
    """Call this to run one statement and learn how many rows it changed."""
    # The server's answer is text, such as "UPDATE 3" or "INSERT 0 1".
    return int((await connection.execute(statement, *args)).rpartition(" ")[2])
