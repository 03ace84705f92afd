"""What asyncpg and the operating system raise, in the words of `storage.errors`.

One table, used once: where a connection is made or used (`pool.py`). What is not in it is
a bug of ours (bad SQL, a broken constraint nobody expected) and passes through unchanged.
"""

import asyncpg

from storage.errors import StoreError, StoreRejected, StoreTimeout, StoreUnavailable

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


def translate(error: BaseException, timeout_s: float) -> StoreError | None:
    """Call this to get our word for a driver's error; None when it is not one of the world's."""
    match error:
        case StoreError():
            return error
        case TimeoutError() | asyncpg.QueryCanceledError():
            return StoreTimeout(timeout_s)
        case asyncpg.PostgresError() if isinstance(error, _REJECTED):
            return StoreRejected(_words(error))
        case asyncpg.PostgresError() if isinstance(error, _UNAVAILABLE):
            return StoreUnavailable(_words(error))
        case asyncpg.ClientConfigurationError():
            return StoreRejected(_words(error))
        case asyncpg.InternalClientError():
            return StoreUnavailable(_words(error))
        case asyncpg.InterfaceError() if "clos" in str(error) or "cancelling" in str(error):
            # asyncpg has no class for "the connection went away before you used it".
            return StoreUnavailable(_words(error))
        case OSError():
            return StoreUnavailable(_words(error))
    return None


def _words(error: BaseException) -> str:
    """One line without the query, its values or addresses with passwords."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
