"""Who may decide about a message that waits, as far as the store knows: on both engines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import Accounts, NewAccount, Role
from actors.chat import (
    DEMO_DISPLAY_NAME,
    DEMO_USER_ID,
    ROOM_NAMES,
    Author,
    ChatLog,
    Decided,
    ModerationOutcome,
    NotDecided,
    Status,
)
from storage.memory import MemoryAccounts, MemoryChatLog
from storage.postgres import Connection, Database, PostgresAccounts
from storage.testing.accounts.members import HASH, sign_in_of
from storage.testing.chat_log import draft, verdict
from tests.storage.test_chat_log_postgres import chat_log_on


@dataclass
class Deciders:
    """Accounts and a chat log of one database; `known` reads whose the sessions that ended were."""

    accounts: Accounts
    log: ChatLog
    known: Callable[[], Awaitable[set[UUID]]]

    async def moderator(self, name: str, session: str, former: str | None = None) -> UUID:
        """Register somebody who signs in, from a session or none, and may moderate."""
        account = NewAccount(uuid4(), name, f"{name}@example.org", HASH)
        assert await self.accounts.register(account, sign_in_of(session, former)) is None
        await self.accounts.grant(name, Role.MODERATOR)
        return account.user_id

    async def sign_in(self, user_id: UUID, session: str, former: str | None = None) -> None:
        assert await self.accounts.sign_in(user_id, HASH, sign_in_of(session, former)) is not None

    async def post_as_demo(self, session: str) -> UUID:
        author = Author(DEMO_USER_ID, session, DEMO_DISPLAY_NAME)
        waits = draft("see http://a", author=author, status=Status.PENDING)
        await self.log.post(waits)
        return waits.message_id

    async def decide(self, message_id: UUID, who: UUID, session: str) -> ModerationOutcome:
        asked = replace(verdict(message_id), reviewer_id=who, reviewer_session=session)
        return await self.log.moderate(asked)


def in_memory() -> Deciders:
    log = MemoryChatLog()

    async def known() -> set[UUID]:
        return set().union(*(end.members for end in log.database.session_ends.values()))

    return Deciders(MemoryAccounts(log.database), log, known)


def in_postgres(database: Database) -> Deciders:
    async def known(connection: Connection) -> set[UUID]:
        rows = await connection.fetch("SELECT unnest(members) AS member FROM session_ends")
        return {row["member"] for row in rows}

    return Deciders(PostgresAccounts(database), chat_log_on(database), lambda: database.run(known))


class DecidersSuite:
    """Fixture `deciders`: a database with rooms."""

    async def test_nobody_decides_about_what_they_wrote_in_a_session_before(
        self, deciders: Deciders
    ) -> None:
        # SITE-71: as the demo user, signed in; and as a guest, before signing in
        grace = await deciders.moderator("grace", "first")
        hedy = await deciders.moderator("hedy", "other")
        written = await deciders.post_as_demo("first")
        assert await deciders.decide(written, grace, "first") is NotDecided.OWN
        assert await deciders.decide(written, grace, "elsewhere") is NotDecided.OWN
        await deciders.accounts.sign_out(sign_in_of("first").session_id)
        as_guest = await deciders.post_as_demo("of a guest")
        await deciders.sign_in(grace, "second", former="of a guest")
        late = await deciders.post_as_demo("of a guest")  # was under way when they signed in
        for message_id in (written, as_guest, late):
            assert await deciders.decide(message_id, grace, "second") is NotDecided.OWN
        assert [one.members for one in (await deciders.log.waiting()).messages] == [{grace}] * 3
        assert (await deciders.log.waiting()).count == 3
        for message_id in (written, as_guest, late):
            assert isinstance(await deciders.decide(message_id, hedy, "other"), Decided)

    async def test_a_session_that_several_used_is_of_all_of_them(self, deciders: Deciders) -> None:
        # SITE-71: whoever signs in where another is signed in, and signs in there again
        grace = await deciders.moderator("grace", "first")
        written = await deciders.post_as_demo("first")
        hedy = await deciders.moderator("hedy", "second", former="first")
        await deciders.sign_in(hedy, "third", former="first")
        (waiting,) = (await deciders.log.waiting()).messages
        assert waiting.members == {grace, hedy}
        assert await deciders.decide(written, hedy, "third") is NotDecided.OWN

    async def test_of_a_deleted_account_no_session_is_known(self, deciders: Deciders) -> None:
        # SITE-47, SITE-71
        grace = await deciders.moderator("grace", "first")
        hedy = await deciders.moderator("hedy", "second", former="first")
        await deciders.post_as_demo("first")
        assert await deciders.known() == {grace, hedy}
        assert await deciders.accounts.delete(grace, HASH, by=None)
        assert await deciders.known() == {hedy}
        assert (await deciders.log.waiting()).messages[0].members == {hedy}

    async def test_of_fifty_messages_two_moderators_decide_each_once(
        self, deciders: Deciders
    ) -> None:
        # SITE-71, SEC-115, SEC-118
        grace = await deciders.moderator("grace", "first")
        hedy = await deciders.moderator("hedy", "second")
        before = (await deciders.log.audited(limit=1)).entries[0].id
        written = [await deciders.post_as_demo(f"guest {number}") for number in range(50)]
        outcomes: dict[UUID, list[ModerationOutcome]] = {one: [] for one in written}

        async def decide(message_id: UUID, who: UUID, session: str) -> None:
            outcomes[message_id].append(await deciders.decide(message_id, who, session))

        async with trio.open_nursery() as nursery:
            for one in written:
                nursery.start_soon(decide, one, grace, "first")
                nursery.start_soon(decide, one, hedy, "second")
        numbers = []
        for two in outcomes.values():
            (decided,) = (one for one in two if isinstance(one, Decided))
            assert NotDecided.NOT_WAITING in two
            numbers.append(decided.n)
        assert sorted(numbers) == [*range(51, 101)]
        assert (await deciders.log.waiting()).count == 0
        audit = (await deciders.log.audited(limit=50)).entries
        assert {one.action for one in audit} == {"chat.message.moderate"}
        assert len({one.metadata["message_id"] for one in audit}) == 50
        assert audit[-1].id == before + 51

    async def test_a_role_that_was_taken_away_decides_nothing(self, deciders: Deciders) -> None:
        # SEC-117: however it was judged before
        grace = await deciders.moderator("grace", "first")
        written = await deciders.post_as_demo("of a guest")
        for role in (Role.USER, Role.ADMIN):
            await deciders.accounts.grant("grace", role)
            assert await deciders.decide(written, grace, "first") is NotDecided.NO_MODERATOR
        await deciders.accounts.grant("grace", Role.MODERATOR)
        hedy = await deciders.moderator("hedy", "second")
        assert await deciders.accounts.delete(hedy, HASH, by=None)
        assert await deciders.decide(written, hedy, "second") is NotDecided.NO_MODERATOR
        assert (await deciders.log.waiting()).count == 1
        assert isinstance(await deciders.decide(written, grace, "first"), Decided)


class TestMemoryDeciders(DecidersSuite):
    @pytest.fixture
    async def deciders(self) -> Deciders:
        found = in_memory()
        await found.log.ensure_rooms(ROOM_NAMES)
        return found


class TestPostgresDeciders(DecidersSuite):
    @pytest.fixture
    async def deciders(self, database: Database) -> Deciders:
        found = in_postgres(database)
        await found.log.ensure_rooms(ROOM_NAMES)
        return found


async def test_a_decision_waits_for_a_role_that_is_being_taken_away(database: Database) -> None:
    # SEC-117, SEC-115: and the other way round, so that no decision is stored behind the end of it
    deciders = in_postgres(database)
    await deciders.log.ensure_rooms(ROOM_NAMES)
    grace = await deciders.moderator("grace", "first")
    written = await deciders.post_as_demo("of a guest")
    taken, token = trio.Event(), trio.lowlevel.current_trio_token()
    outcomes: list[ModerationOutcome] = []
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    async def take_away(connection: Connection) -> None:
        await connection.execute("UPDATE users SET role = 'user' WHERE id = $1", grace)
        token.run_sync_soon(taken.set)
        while not outcomes and await connection.fetchval(waiting) == 0:
            pass

    async def decide() -> None:
        outcomes.append(await deciders.decide(written, grace, "first"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.transact, take_away)
        await taken.wait()
        nursery.start_soon(decide)
    assert outcomes == [NotDecided.NO_MODERATOR]
    assert (await deciders.log.waiting()).count == 1
