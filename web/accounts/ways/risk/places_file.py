"""The operator's table of addresses, read from its file at start, and again when that changed.

It is read in a thread: a large one takes seconds. One that cannot be read leaves the former as it
is, and is told; so is each broken line, by its number (AUTH-31).
"""

from pathlib import Path

import trio

from actors.accounts.kept.risk.places import PlaceTable, parse_places
from actors.accounts.kept.risk.words import Place
from actors.runtime import Actor, Log, message

_log = Log("web.accounts.risk")

# Seen soon by an operator who waits for it, and one look at a folder.
LOOK_S = 5.0
# The tables that are sold have some millions of lines, of 60 bytes each.
FILE_BYTES_MAX = 512 * 1024**2

_Stamp = tuple[int, int]


class Places:
    """The newest table; shared by who reads it and who asks. It begins empty."""

    def __init__(self) -> None:
        self.table = PlaceTable()

    def of(self, address: str) -> Place:
        """Call this for the place of an address of the network."""
        return self.table.of(address)


@message
class Look:
    """Time to look at the file; the watch tells it itself."""


class PlacesWatch(Actor[Look]):
    """Reads the file at start and when it changed; `reads` counts how often."""

    def __init__(self, places: Places, file: Path, look_s: float = LOOK_S) -> None:
        self._places, self._file, self._look_s = places, file, look_s
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
            found = await trio.to_thread.run_sync(_read, self._file, self._seen)
        except (OSError, ValueError) as error:
            if self._seen != (0, 0):
                _log.warning("risk.places_unread", error=type(error).__name__)
            self._seen = (0, 0)  # told once, until it can be read
            return
        if found is None:
            return
        self._seen, table = found
        self._places.table = table
        self.reads += 1
        _log.info("risk.places_read", lines=table.lines_count, broken=table.broken_count)
        for problem in table.problems:
            _log.warning("risk.places_line", problem=problem)


def _read(file: Path, seen: _Stamp | None) -> tuple[_Stamp, PlaceTable] | None:
    """Give the table and what its file looked like; None when that is as it was."""
    found = file.stat()
    stamp = (found.st_mtime_ns, found.st_size)
    if stamp == seen:
        return None
    if found.st_size > FILE_BYTES_MAX:
        raise ValueError(f"it has {found.st_size} bytes, the limit is {FILE_BYTES_MAX}")
    with file.open(encoding="utf-8", errors="replace") as lines:
        return stamp, parse_places(lines)
