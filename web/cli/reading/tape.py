"""The steps of a stream, and how each is told.

Rule: a few hundred steps are held, however long the stream is. Going back further than that folds
from the begin again.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import cast

from actors.persistence import EventStore, StoredEvent, StreamId
from web.cli.reading.folding import Fold, Step, step
from web.cli.reading.showing import (
    Row,
    as_text,
    difference_lines,
    differences,
    event_line,
    event_row,
    plain,
)

# Steps that one can go back without folding again; each holds two states, which share their parts.
KEPT = 500


class Shower:
    """How a step is told, as it was asked for."""

    def __init__(self, fold: Fold, parsed: argparse.Namespace) -> None:
        self._fold, self._is_open = fold, parsed.private is not None
        self.has_difference = parsed.diff
        self.has_state = parsed.show_state or (parsed.step and not parsed.diff)

    def state(self, state: object) -> object:
        """Call this for a state as plain data, what is private hidden."""
        return plain(self._fold.told(state), is_private_shown=self._is_open)

    def row(self, one: Step) -> Row:
        """Call this for a step as JSON has it."""
        row = event_row(one.stored)
        if one.problem:
            row["problem"] = one.problem
        if self.has_difference:
            row["diff"] = differences(self.state(one.before), self.state(one.after))
        if self.has_state:
            row["state"] = self.state(one.after)
        return row

    def lines(self, one: Step) -> list[str]:
        """Call this for a step as a person reads it."""
        lines = [event_line(one.stored)]
        if one.problem:
            lines.append(f"        passed over: {one.problem}")
        elif self.has_difference:
            found = differences(self.state(one.before), self.state(one.after))
            lines += [f"        {line}" for line in difference_lines(found)]
        if self.has_state:
            lines.append(f"        {as_text(self.state(one.after))}")
        return lines


class Tape:
    """The steps of a stream, by version: forward as they are read, back from what is kept.

    Whoever asks by version closes it.
    """

    def __init__(
        self,
        store: EventStore,
        stream: StreamId,
        fold: Fold,
        *,
        last: int | None = None,
        as_of: datetime | None = None,
    ) -> None:
        self.stream, self.fold = stream, fold
        self._store, self._last, self._as_of = store, last, as_of
        self._kept: deque[Step] = deque(maxlen=KEPT)
        self._coming: AsyncGenerator[StoredEvent, None] | None = None

    def anew(self) -> Tape:
        """Call this for the same from its begin, for a look that leaves this one where it is."""
        return Tape(self._store, self.stream, self.fold, last=self._last, as_of=self._as_of)

    async def at(self, version: int) -> Step | None:
        """Call this for the step of a version; None behind the last, and before the first."""
        if version < 1:
            return None
        if self._kept and version <= self._kept[-1].stored.version:
            # Versions have no holes.
            place = version - self._kept[0].stored.version
            if place >= 0:
                return self._kept[place]
            await self.aclose()
        return await self._read_to(version)

    async def aclose(self) -> None:
        """Call this when no more is asked of it; who asks again begins anew."""
        self._kept.clear()
        if self._coming is not None:
            await self._coming.aclose()
            self._coming = None

    async def _read_to(self, version: int) -> Step | None:
        if self._coming is None:
            coming = self._store.load(self.stream, to_version=self._last)
            self._coming = cast("AsyncGenerator[StoredEvent, None]", coming)
        state = self._kept[-1].after if self._kept else self.fold.initial()
        async for stored in self._coming:
            if self._as_of is not None and stored.recorded_at > self._as_of:
                return None
            made = step(self.fold, state, stored)
            state = made.after
            self._kept.append(made)
            if stored.version >= version:
                return made
        return None
