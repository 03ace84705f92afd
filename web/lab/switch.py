"""What visitors may do in the lab just now: as the settings say, or less.

An operator changes it while the site runs (`greenroom lab readonly`) by a file in the state
folder, and a loop that comes late closes it for a while (LAB-92). The keeper of the sandboxes
looks twice a second; nobody waits here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from web.settings import LabMode

FILE_NAME = "lab-mode"
# LAB-92: so late is too much. In half a second there are some ten measures, so one late of them
# says nothing; half of them, in every half second for so long, is a site that cannot keep up.
LAG_US_MAX = 100_000
BUSY_S = 5.0
CALM_S = 30.0
# Of all streams that the process takes.
STREAMS_PART_MAX = 0.8


class LabSwitch:
    """Says the mode; `look` is called by the keeper, with its clock.

    `lags` gives how late turns of the loop came, by powers of two of a microsecond; `crowd` the
    part of the streams that is taken.
    """

    def __init__(
        self,
        mode: LabMode,
        file: Path | None = None,
        *,
        lags: Callable[[], Sequence[int]] = tuple,
        crowd: Callable[[], float] = float,
    ) -> None:
        self._set, self._file, self._lags, self._crowd = mode, file, lags, crowd
        self._told: LabMode | None = None
        self._seen: tuple[int, int] | None = None
        self._before: Sequence[int] = ()
        self._late_since: float | None = None
        self._closed_until: float | None = None

    @property
    def mode(self) -> LabMode:
        """Call this before each action."""
        wanted = self._told or self._set
        if wanted is LabMode.PUBLIC and self.is_overloaded:
            return LabMode.READONLY
        return wanted

    @property
    def is_overloaded(self) -> bool:
        """Whether the site has too much to do to have its actors crashed as well."""
        return self._closed_until is not None

    def look(self, now: float) -> None:
        """Call this twice a second: reads what an operator said, and how late the loop is."""
        self._look_at_file()
        lags = self._lags()
        new = [late - was for late, was in zip(lags, self._before, strict=False)] or list(lags)
        self._before = tuple(lags)
        is_late = _is_late(new)
        if not is_late:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        is_late_long = self._late_since is not None and now - self._late_since >= BUSY_S
        if is_late_long or self._crowd() >= STREAMS_PART_MAX:
            self._closed_until = now + CALM_S
        elif self._closed_until is not None and now >= self._closed_until:
            self._closed_until = None

    def _look_at_file(self) -> None:
        if self._file is None:
            return
        try:
            found = self._file.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            self._told = LabMode(self._file.read_text("ascii").strip())
            self._seen = seen
        except FileNotFoundError:
            self._told = self._seen = None
        except (OSError, ValueError):
            # Half written, or by somebody else: what was said last is true until it can be read.
            return


def _is_late(lags: Sequence[int]) -> bool:
    """Whether every second turn came later than is good."""
    # Number i counts lags of i bits: from 2**(i - 1) on.
    late = sum(count for bits, count in enumerate(lags) if 2 ** max(0, bits - 1) > LAG_US_MAX)
    return late * 2 >= sum(lags) > 0


def write_mode(folder: Path, mode: LabMode) -> None:
    """Call this to have the running site take another mode within a second; raises `OSError`."""
    # In one step: a reader finds the old word or the new one.
    half = folder / f"{FILE_NAME}.new"
    half.write_text(f"{mode.value}\n", "ascii")
    half.replace(folder / FILE_NAME)
