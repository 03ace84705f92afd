"""The operator's files for risk, read at start, and again when one changed.

The table of addresses of the network, and the list of addresses of mail that were in a breach.

Each is read in a thread: a large one takes seconds. One that cannot be read leaves the former as
it is, and is told; so is each broken line, by its number (AUTH-31).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import trio

from actors.accounts.kept.risk.breached import BreachedList, parse_breached
from actors.accounts.kept.risk.places import PlaceTable, parse_places
from actors.accounts.kept.risk.words import Place
from actors.runtime import Actor, Log, message

_log = Log("web.accounts.risk")

# Seen soon by an operator who waits for it, and one look at a folder.
LOOK_S = 5.0
# The tables that are sold have some millions of lines, of 60 bytes each.
FILE_BYTES_MAX = 512 * 1024**2
# A million digests, which take some 100 MB while they are held.
BREACHED_BYTES_MAX = 64 * 1024**2

_Stamp = tuple[int, int]


class Table(Protocol):
    """What a file says."""

    lines_count: int
    broken_count: int
    problems: list[str]


T = TypeVar("T", bound=Table)


class Places:
    """The newest table; shared by who reads it and who asks. It begins empty."""

    def __init__(self) -> None:
        self.table = PlaceTable()

    def of(self, address: str) -> Place:
        """Call this for the place of an address of the network."""
        return self.table.of(address)


class Breached:
    """The newest list; shared by who reads it and who asks. It begins empty."""

    def __init__(self) -> None:
        self.table = BreachedList()

    def has(self, email: str) -> bool:
        """Call this for whether an address of mail is known from a breach."""
        return self.table.has(email)


@message
class Look:
    """Time to look at the file; the watch tells it itself."""


class FileWatch(Actor[Look], Generic[T]):
    """Reads a file at start and when it changed; `reads` counts how often.

    Derived from for each file: how it is parsed, who is given it, and how that is told.
    """

    def __init__(
        self,
        file: Path,
        bytes_max: int,
        parse: Callable[[Iterable[str]], T],
        take: Callable[[T], None],
        look_s: float,
    ) -> None:
        self._file, self._bytes_max, self._look_s = file, bytes_max, look_s
        self._parse, self._take = parse, take
        self._seen: _Stamp | None = None
        self.reads = 0

    async def on_start(self) -> None:
        """Read it before anybody is served."""
        await self._look()
        self.after(self._look_s, Look(), key="look")

    async def on_look(self, _: Look) -> None:
        """Read it when it changed."""
        await self._look()
        self.after(self._look_s, Look(), key="look")

    async def _look(self) -> None:
        try:
            found = await trio.to_thread.run_sync(self._read, self._seen)
        except (OSError, ValueError) as error:
            if self._seen != (0, 0):
                self.tell_unread(type(error).__name__)
            self._seen = (0, 0)  # told once, until it can be read
            return
        if found is None:
            return
        self._seen, table = found
        self._take(table)
        self.reads += 1
        self.tell_read(table.lines_count, table.broken_count, table.problems)

    def _read(self, seen: _Stamp | None) -> tuple[_Stamp, T] | None:
        """Give what the file says and looked like; None when that is as it was."""
        found = self._file.stat()
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp == seen:
            return None
        if found.st_size > self._bytes_max:
            raise ValueError(f"it has {found.st_size} bytes, the limit is {self._bytes_max}")
        with self._file.open(encoding="utf-8", errors="replace") as lines:
            return stamp, self._parse(lines)

    def tell_unread(self, error: str) -> None:
        """Called when the file cannot be read."""
        raise NotImplementedError

    def tell_read(self, lines: int, broken: int, problems: Sequence[str]) -> None:
        """Called when it was."""
        raise NotImplementedError


class PlacesWatch(FileWatch[PlaceTable]):
    """Reads the table of addresses of the network."""

    def __init__(self, places: Places, file: Path, look_s: float = LOOK_S) -> None:
        def take(table: PlaceTable) -> None:
            places.table = table

        super().__init__(file, FILE_BYTES_MAX, parse_places, take, look_s)

    def tell_unread(self, error: str) -> None:
        """See `FileWatch.tell_unread`."""
        _log.warning("risk.places_unread", error=error)

    def tell_read(self, lines: int, broken: int, problems: Sequence[str]) -> None:
        """See `FileWatch.tell_read`."""
        _log.info("risk.places_read", lines=lines, broken=broken)
        for problem in problems:
            _log.warning("risk.places_line", problem=problem)


class BreachedWatch(FileWatch[BreachedList]):
    """Reads the list of addresses of mail that were in a breach."""

    def __init__(self, breached: Breached, file: Path, look_s: float = LOOK_S) -> None:
        def take(table: BreachedList) -> None:
            breached.table = table

        super().__init__(file, BREACHED_BYTES_MAX, parse_breached, take, look_s)

    def tell_unread(self, error: str) -> None:
        """See `FileWatch.tell_unread`."""
        _log.warning("risk.breached_unread", error=error)

    def tell_read(self, lines: int, broken: int, problems: Sequence[str]) -> None:
        """See `FileWatch.tell_read`."""
        _log.info("risk.breached_read", lines=lines, broken=broken)
        for problem in problems:
            _log.warning("risk.breached_line", problem=problem)
