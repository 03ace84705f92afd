"""The words storage speaks when something goes wrong; callers need no other.

The errors of the ports stand in `actors/persistence/errors.py` and go by these names too; the
ones added here concern starting, migrating and moving a store: what an operator acts on.
"""

from collections.abc import Sequence
from datetime import datetime

# All of them, without a list to keep true: whoever catches what an adapter raises needs one import.
from actors.persistence.errors import *  # noqa: F403
from actors.persistence.errors import StoreError, StoreMisuse


class StoreRejected(StoreError):
    """Raised when the database cannot be used: address, name, password, or how it is set up.

    Waiting does not help; the setting must change, or the database be made otherwise. The
    address is shown without password.
    """

    code = "store_rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database cannot be used: {reason}; check DATABASE_URL")
        self.reason = reason


class StatementRefused(StoreError):
    """Raised when the database refuses a statement for a reason that no check foresaw.

    A bug of ours, or a table that was changed by hand. Nothing was written. What the driver
    said is told without its details, which quote stored values: `kind` is its class, `sqlstate`
    the server's code, `constraint` and `table` what was violated where there is one.
    """

    code = "statement_refused"

    def __init__(
        self, kind: str, sqlstate: str | None, constraint: str | None, table: str | None
    ) -> None:
        at = "".join(f", {name}" for name in (sqlstate, constraint, table) if name)
        super().__init__(f"the database refused a statement ({kind}{at}); nothing was written")
        self.kind, self.sqlstate, self.constraint, self.table = kind, sqlstate, constraint, table


class UnknownUser(StoreMisuse, LookupError):
    """Raised when a user id names nobody; nothing was written."""

    code = "unknown_user"

    def __init__(self, user_id: str) -> None:
        super().__init__(f"there is no user {user_id}; nothing was written")
        self.user_id = user_id


class EmbeddedFailed(StoreError):
    """Raised when the embedded PostgreSQL does not start; no server is left running.

    `reason` says what was tried and `log_tail` holds the server's last words.
    """

    code = "embedded_failed"

    def __init__(self, reason: str, log_tail: str = "") -> None:
        tail = f"\nIts log ends:\n{log_tail}" if log_tail else ""
        super().__init__(f"the embedded PostgreSQL did not start: {reason}{tail}")
        self.reason, self.log_tail = reason, log_tail


class EmbeddedOutdated(EmbeddedFailed):
    """Raised when the data of the embedded PostgreSQL are of another major version than it is.

    Nothing was touched. Older data are brought up by `greenroom db upgrade`; for newer ones start
    the newer program.
    """

    code = "embedded_outdated"

    def __init__(self, path: str, found: int, ours: int) -> None:
        remedy = (
            "Bring them up, once, with `greenroom db upgrade`"
            if found < ours
            else "Start the newer program"
        )
        super().__init__(
            f"the data in {path} are of PostgreSQL {found}, this program brings {ours}; nothing "
            f"was touched. {remedy}"
        )
        self.path, self.found, self.ours = path, found, ours


class BackupRefused(StoreError):
    """Raised when the state of things does not allow a backup or what is done with one.

    Another backup is under way, a folder is another server's or not empty, nothing is archived.
    Nothing was done; the message says what must change.
    """

    code = "backup_refused"


class BackupFailed(StoreError):
    """Raised when a backup could not be made, or its recovery not be ended; nothing half is left.

    A full disk, a program of the server that failed. What was there before is there still.
    """

    code = "backup_failed"


class BackupBroken(StoreError):
    """Raised when a file of a backup or of the archive is missing or damaged; names it.

    What needs it cannot be restored. Restore to a moment before it, or to the end of a backup, and
    make a new base: it begins what can be restored anew.
    """

    code = "backup_broken"


class OutsideBackups(StoreError):
    """Raised when a moment is asked for that no backup reaches; nothing was done.

    The message tells what can be restored; `spans` has it as moments.
    """

    code = "outside_backups"

    def __init__(self, asked: datetime, spans: Sequence[tuple[datetime, datetime]]) -> None:
        told = " and ".join(
            f"from {first.isoformat()} to {last.isoformat()}" for first, last in spans
        )
        super().__init__(
            f"{asked.isoformat()} cannot be restored; what can is {told or 'nothing'}. Nothing "
            "was done."
        )
        self.asked, self.spans = asked, tuple(spans)


class StateDirInUse(StoreError):
    """Raised when another process keeps its embedded PostgreSQL in the same folder.

    Nothing was touched. Stop that process, or give this one a STATE_DIR of its own.
    """

    code = "state_dir_in_use"

    def __init__(self, path: str, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"{holder} keeps its database in {path}; nothing was touched. "
            "Stop it, or set another STATE_DIR."
        )
        self.path, self.pid = path, pid


class MigrationFailed(StoreError):
    """Raised when a migration's SQL fails; earlier ones stay.

    That one was rolled back, unless it runs outside a transaction: then it may be half done, and
    is begun again from its first statement by the next start.
    """

    code = "migration_failed"

    def __init__(
        self, version: int, name: str, reason: str, *, is_rolled_back: bool = True
    ) -> None:
        done = "failed and was rolled back" if is_rolled_back else "failed and may be half done"
        super().__init__(f"migration {version:04} {name} {done}: {reason}")
        self.version, self.name, self.reason = version, name, reason
        self.is_rolled_back = is_rolled_back


class MigrationChanged(StoreError):
    """Raised when the file of an applied migration is no longer what was applied.

    Nothing was done. Restore the file, and put the change into a new migration.
    """

    code = "migration_changed"

    def __init__(self, version: int) -> None:
        super().__init__(
            f"migration {version:04} was changed after it had been applied; nothing was done. "
            "Restore the file and write a new migration."
        )
        self.version = version


class MigrationGap(StoreError):
    """Raised when migration numbers leave one out, or one lies below an applied one."""

    code = "migration_gap"

    def __init__(self, version: int) -> None:
        super().__init__(
            f"migration {version:04} is missing between the others; nothing was done. "
            "Numbers follow each other, and new ones come after all applied ones."
        )
        self.version = version


class MigrationPending(StoreError):
    """Raised by a check (`MIGRATE=off`) when the schema is older than this program."""

    code = "migration_pending"

    def __init__(self, applied: int, wanted: int) -> None:
        super().__init__(
            f"the schema is at {applied}, this program needs {wanted}; nothing was done. "
            "Run `greenroom migrate` first."
        )
        self.applied, self.wanted = applied, wanted


class SchemaNewer(StoreError):
    """Raised when the database was migrated by a newer program; nothing was done."""

    code = "schema_newer"

    def __init__(self, applied: int, known: int) -> None:
        super().__init__(
            f"the schema is at {applied}, this program knows {known}; nothing was done. "
            "Start the newer program."
        )
        self.applied, self.known = applied, known


class MigrationRefused(StoreError):
    """Raised when going down would drop events, or is asked for a number that is not there."""

    code = "migration_refused"

    def __init__(self, version: int, why: str) -> None:
        super().__init__(f"going down to {version:04} is refused: {why}; nothing was done")
        self.version, self.why = version, why


class StoreRewound(StoreError):
    """Raised when the server has begun a new timeline since this store was last served.

    It was recovered to an earlier moment, or a replica was promoted: events that were read may
    be missing, and their places in the order are given out again. Nothing is served until
    `accept_rewind` says that this is known.
    """

    code = "store_rewound"

    def __init__(self, before: int, now: int) -> None:
        super().__init__(
            f"the store went back in time: it was served on timeline {before} of its server, this "
            f"is {now}. Nothing was done; say that this is known (`greenroom store rewound`), then "
            "serve."
        )
        self.before, self.now = before, now


class StoreMoved(StoreError):
    """Raised when the data lies in another cluster than the one that wrote it.

    Transaction numbers of another server break the order of events, so nothing is served
    until the store is renumbered (`renumber`), which gives it a new lineage.
    """

    code = "store_moved"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the store was moved: {reason}. Nothing was done; give its events a new order "
            "(`greenroom store renumber`) before serving."
        )
        self.reason = reason


class StoreInUse(StoreError):
    """Raised when something that must be alone on a store finds others connected to it.

    Nothing was done. `holders` are the names of their sessions. Stop them, then try again.
    """

    code = "store_in_use"

    def __init__(self, holders: Sequence[str]) -> None:
        super().__init__(
            f"the store is in use by {', '.join(holders)}; nothing was done. Stop that first."
        )
        self.holders = tuple(holders)


class RewindNotLossless(StoreError):
    """Raised when a store is said to have lost nothing, and its server never had all of it.

    Nothing was done. `replayed` is how far it came before it went its own way, `written` how far
    the former server had come, as it was stated.
    """

    code = "rewind_not_lossless"

    def __init__(self, replayed: str, written: str) -> None:
        super().__init__(
            f"this server had come to {replayed} when it took over, the one before had written up "
            f"to {written}: something is missing. Nothing was done; accept it as a loss, without "
            "lossless."
        )
        self.replayed, self.written = replayed, written
