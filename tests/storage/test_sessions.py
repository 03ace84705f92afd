"""What the store knows of browser sessions: both engines pass the suite."""

from collections import Counter
from datetime import timedelta

import pytest
import trio
import trio.lowlevel

from actors.accounts import Allowed, Limit, Limited, SessionEndWatch, Verdict
from actors.accounts.words import SessionId
from actors.chat import LOBBY, Posted, PostLimit, PostOutcome, TooManyPosts
from actors.runtime import Secret, open_actors
from storage.errors import InvalidField
from storage.keyring import SubjectKeyring
from storage.postgres import (
    Database,
    PostgresChatLog,
    PostgresRateLimiter,
    PostgresSessionEnds,
    PostgresSocketTickets,
    PostgresSubjectKeys,
    open_database,
)
from storage.testing import SessionsSuite
from storage.testing.chat_log import draft
from storage.testing.sessions import (
    KeptSessions,
    sessions_in_memory,
    sessions_in_postgres,
)
from tests.patience import FOR_EVER_S, PATIENCE_S, PATIENT_POOL


class TestMemorySessions(SessionsSuite):
    @pytest.fixture
    def sessions(self) -> KeptSessions:
        return sessions_in_memory()


class TestPostgresSessions(SessionsSuite):
    @pytest.fixture
    def sessions(self, database: Database) -> KeptSessions:
        return sessions_in_postgres(database)


@pytest.mark.parametrize("is_real", [False, True])
async def test_nonsense_is_refused_before_it_is_sent(database: Database, is_real: bool) -> None:
    kept = sessions_in_postgres(database) if is_real else sessions_in_memory()
    for wrong in ("", "\0", "\ud800", "x" * 256, None, 5, b"x"):
        with pytest.raises(InvalidField):
            await kept.ends.end([wrong])  # type: ignore[list-item]
        with pytest.raises(InvalidField):
            await kept.ends.ended([wrong])  # type: ignore[list-item]
        with pytest.raises(InvalidField):
            await kept.tickets.issue(b"x" * 32, wrong)  # type: ignore[arg-type]
    for too_much in ([SessionId("s")] * 1001, "ada", None):
        with pytest.raises(InvalidField):
            await kept.ends.ended(too_much)  # type: ignore[arg-type]
    for digest in (b"", b"x" * 31, b"x" * 33, "x" * 32, None):
        with pytest.raises(InvalidField):
            await kept.tickets.take(digest)  # type: ignore[arg-type]
    with pytest.raises(InvalidField):
        await kept.ends.end([SessionId("s")], "ended")  # type: ignore[arg-type]


async def test_an_end_in_another_process_rings_here(database_url: str) -> None:
    # SEC-44: long before anybody would look without it
    async with (
        open_database(database_url, settings=PATIENT_POOL) as here,
        open_database(database_url, settings=PATIENT_POOL) as there,
    ):
        ends, told = PostgresSessionEnds(here), trio.Event()
        opened: list[SessionId] = []

        def watch() -> SessionEndWatch:
            return SessionEndWatch(ends, lambda: opened, lambda _: told.set(), look_s=FOR_EVER_S)

        async with open_actors() as system:
            await system.start(watch)
            await trio.lowlevel.checkpoint()
            opened.append(SessionId("ada"))
            with trio.fail_after(PATIENCE_S):
                await PostgresSessionEnds(there).end(opened)
                await told.wait()


async def test_a_ticket_is_taken_once_in_any_process(database_url: str) -> None:
    # SEC-42, CLU-33
    async with (
        open_database(database_url, settings=PATIENT_POOL) as here,
        open_database(database_url, settings=PATIENT_POOL) as there,
    ):
        await PostgresSocketTickets(here).issue(b"d" * 32, SessionId("ada"))
        got: list[SessionId | None] = []

        async def take(database: Database) -> None:
            got.append(await PostgresSocketTickets(database).take(b"d" * 32))

        async with trio.open_nursery() as nursery:
            for _ in range(25):
                nursery.start_soon(take, here)
                nursery.start_soon(take, there)
    assert [one for one in got if one] == ["ada"]


async def test_limits_and_quotas_count_what_all_processes_allow(database_url: str) -> None:
    # CLU-33, SEC-76, SITE-65: 50 tries at once, half of them at each
    async with (
        open_database(database_url, settings=PATIENT_POOL) as here,
        open_database(database_url, settings=PATIENT_POOL) as there,
    ):
        limit, quota = Limit("key", 10, timedelta(minutes=15)), PostLimit("key", 5, 10.0)
        logs = [
            PostgresChatLog(one, SubjectKeyring(PostgresSubjectKeys(one), Secret(b"k" * 32)))
            for one in (here, there)
        ]
        await logs[0].ensure_rooms([LOBBY])
        told: list[Verdict | PostOutcome] = []

        async def hit(database: Database) -> None:
            told.append(await PostgresRateLimiter(database).hit(limit))

        async def post(log: PostgresChatLog) -> None:
            told.append(await log.post(draft(limits=(quota,))))

        async with trio.open_nursery() as nursery:
            for _ in range(25):
                for database, log in zip((here, there), logs, strict=True):
                    nursery.start_soon(hit, database)
                    nursery.start_soon(post, log)
    kinds = Counter(type(one) for one in told)
    assert kinds == {Allowed: 10, Limited: 40, Posted: 5, TooManyPosts: 45}
