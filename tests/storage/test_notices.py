"""The listening session: whatever way it ends, the next one is opened."""

import asyncio
from collections.abc import Callable
from typing import cast

import asyncpg
import pytest

from storage.postgres.connecting import notices
from storage.postgres.connecting.notices import CHANNELS, EVENTS, Notices
from storage.postgres.connecting.pool import Pool
from storage.testing.samples import PATIENCE_S


class _Session:
    """A connection that listens, and breaks or falls silent as told at the first notice."""

    def __init__(self, end: Exception | None, *, is_silent: bool = False) -> None:
        self._end, self._is_silent = end, is_silent
        self.sent = asyncio.Event()
        self.said: list[str] = []

    def add_termination_listener(self, callback: Callable[[object], None]) -> None:
        """Never called: the statement meets the end first."""

    async def add_listener(self, channel: str, callback: object) -> None:
        """Listen."""

    async def execute(self, statement: str) -> None:
        self.said.append(statement)
        if self._end is not None:
            raise self._end
        if self._is_silent:
            await asyncio.Event().wait()
        self.sent.set()


class _Sessions:
    """What `Notices` sees of a pool."""

    def __init__(self, *sessions: _Session) -> None:
        self.left = list(sessions)
        self.closed: list[_Session] = []

    async def connect(self, part: str, **settings: str) -> _Session:
        return self.left.pop(0)

    def disconnect(self, session: _Session) -> None:
        self.closed.append(session)


@pytest.mark.parametrize(
    "end",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.AdminShutdownError("terminating connection"),
        ConnectionResetError(),
        # Whatever it is: the loop and its pool live on.
        RuntimeError("nobody thought of this"),
    ],
)
def test_a_session_that_ends_under_a_notice_is_opened_again(
    end: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-83
    monkeypatch.setattr(notices, "RECONNECT_S", 0.0)

    async def run() -> None:
        first, second = _Session(end), _Session(None)
        sessions = _Sessions(first, second)
        rung: list[str] = []
        hints = Notices(cast(Pool, sessions), rung.append)
        hints.hint(EVENTS)
        task = asyncio.ensure_future(hints.run_for_ever())
        async with asyncio.timeout(PATIENCE_S):
            while sessions.left:  # noqa: ASYNC110  (the first hint is lost with its session)
                await asyncio.sleep(0)
            hints.hint(EVENTS)
            await second.sent.wait()
        task.cancel()
        assert sessions.closed == [first]
        # Every channel rings at a new session: what was committed meanwhile is looked for.
        assert [rung.count(channel) for channel in CHANNELS] == [4, *[2] * (len(CHANNELS) - 1)]

    asyncio.run(run())


def _both(first: _Session, second: _Session, *, is_idle: bool) -> _Sessions:
    """Run until the second session was spoken on; the first one ends somehow."""
    sessions = _Sessions(first, second)

    async def run() -> None:
        hints = Notices(cast(Pool, sessions), lambda _channel: None)
        if not is_idle:
            hints.hint(EVENTS)
        task = asyncio.ensure_future(hints.run_for_ever())
        async with asyncio.timeout(PATIENCE_S):
            await second.sent.wait()
        task.cancel()

    asyncio.run(run())
    return sessions


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_session_that_fell_silent_is_found_out_by_speaking_on_it(
    is_idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-83: a network that swallows everything ends no connection
    monkeypatch.setattr(notices, "RECONNECT_S", 0.0)
    monkeypatch.setattr(notices, "SPEAK_EVERY_S", 0.01)
    monkeypatch.setattr(notices, "SPEAK_S_MAX", 0.01)
    first, second = _Session(None, is_silent=True), _Session(None)
    sessions = _both(first, second, is_idle=is_idle)
    assert sessions.closed[0] is first
    assert first.said == ["SELECT 1" if is_idle else f"NOTIFY {EVENTS}"]
