"""What is known of browser sessions, as tests. Fixture `sessions`, empty."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

import trio

from actors.accounts import ENDS_KEPT, TICKET_KEPT, HowEnded, SessionEnds, SocketTickets
from actors.accounts.words import SessionId
from actors.testing import FixedClock
from storage.memory import MemoryDatabase, MemorySessionEnds, MemorySocketTickets
from storage.postgres import Connection, Database, PostgresSessionEnds, PostgresSocketTickets
from storage.testing.samples import PATIENCE_S

ADA, BOB = SessionId("ada"), SessionId("bob")
TICKET = sha256(b"a ticket").digest()


@dataclass(frozen=True)
class KeptSessions:
    """Both ports of one database; `pass_time` lets it be later there."""

    ends: SessionEnds
    tickets: SocketTickets
    pass_time: Callable[[timedelta], Awaitable[None]]


def sessions_in_memory() -> KeptSessions:
    """Call this for the twins on one new database."""
    clock = FixedClock()
    database = MemoryDatabase(now=clock.now)

    async def pass_time(so_long: timedelta) -> None:
        clock.advance(so_long)

    return KeptSessions(MemorySessionEnds(database), MemorySocketTickets(database), pass_time)


def sessions_in_postgres(database: Database) -> KeptSessions:
    """Call this for the adapters; time passes by making rows older."""

    async def pass_time(so_long: timedelta) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE socket_tickets SET expires_at = expires_at - $1::interval", so_long
            )
            await connection.execute(
                "UPDATE session_ends SET ended_at = ended_at - $1::interval", so_long
            )

        await database.run(work)

    return KeptSessions(PostgresSessionEnds(database), PostgresSocketTickets(database), pass_time)


class SessionsSuite:
    """Ends are found until they are old; a ticket is used once, within its time."""

    async def test_a_ticket_is_used_once_by_one_of_many(self, sessions: KeptSessions) -> None:
        # SEC-42, SEC-115
        await sessions.tickets.issue(TICKET, ADA)
        got: list[SessionId | None] = []

        async def take() -> None:
            got.append(await sessions.tickets.take(TICKET))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(take)
        assert sorted(one for one in got if one is not None) == [ADA]
        assert await sessions.tickets.take(sha256(b"another").digest()) is None

    async def test_a_ticket_is_over_after_its_time(self, sessions: KeptSessions) -> None:
        # SEC-42
        for number in range(12):
            await sessions.tickets.issue(sha256(bytes([number])).digest(), ADA)
        await sessions.pass_time(TICKET_KEPT / 2)
        assert await sessions.tickets.take(sha256(b"\0").digest()) == ADA
        await sessions.pass_time(TICKET_KEPT / 2)
        assert await sessions.tickets.take(sha256(b"\1").digest()) is None
        await sessions.tickets.issue(TICKET, BOB)
        await sessions.tickets.issue(sha256(b"one more").digest(), BOB)
        assert await sessions.tickets.take(TICKET) == BOB

    async def test_ends_are_found_and_the_graver_stays(self, sessions: KeptSessions) -> None:
        # SEC-44
        ends = sessions.ends
        assert await ends.ended([ADA, BOB]) == {}
        await ends.end([ADA, ADA])
        assert await ends.ended([ADA, BOB]) == {ADA: HowEnded.ENDED}
        await ends.end([ADA, BOB], HowEnded.BANNED)
        await ends.end([ADA])
        assert await ends.ended([ADA]) == {ADA: HowEnded.BANNED}
        assert await ends.ended([]) == {}
        await ends.end([])

    async def test_ends_are_removed_when_they_are_old(self, sessions: KeptSessions) -> None:
        await sessions.ends.end([ADA])
        await sessions.pass_time(ENDS_KEPT - timedelta(hours=1))
        await sessions.ends.end([BOB])
        assert await sessions.ends.purge() == 0
        await sessions.pass_time(timedelta(hours=2))
        assert await sessions.ends.purge() == 1
        assert await sessions.ends.ended([ADA, BOB]) == {BOB: HowEnded.ENDED}

    async def test_who_listens_is_woken_by_an_end(self, sessions: KeptSessions) -> None:
        # SEC-44: also by one that comes while it looks
        with trio.fail_after(PATIENCE_S):
            async with aclosing(sessions.ends.rings(10 * PATIENCE_S)) as rings:
                await anext(rings)
                await sessions.ends.end([ADA])
                await anext(rings)
