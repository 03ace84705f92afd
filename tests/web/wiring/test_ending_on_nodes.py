"""What ends or changes at one node closes what is open at another (CLU-33), in virtual time.

The nodes share a database, in memory; of a deaf one every ring is lost, as when the notice of the
database does not arrive. The link between nodes has no part in it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import cast
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.accounts import HowEnded, NewAccount, Role, SessionEnded, SessionEndWatch
from actors.accounts.words import SessionId
from actors.runtime import open_actors
from storage.memory import MemoryAccounts, MemoryDatabase, MemorySessionEnds
from storage.testing.accounts.members import HASH, sign_in_of
from web.realtime import Stream
from web.server import SignedIn
from web.wiring.ending import OpenRoles

ADA = SessionId("ada")


class DeafEnds(MemorySessionEnds):
    """Hears no ring; the store is looked at now and then."""

    async def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        while True:
            yield
            await trio.sleep(every_s)


class OpenPage:
    """A page of a member, open at a node; it notes when it was closed."""

    def __init__(self) -> None:
        self.closings: list[float] = []

    def close(self, reason: str) -> None:
        self.closings.append(trio.current_time())

    def ended(self, ended: SessionEnded) -> None:
        if ended.session_id == ADA:
            self.close(ended.how)


Deed = Callable[[MemoryAccounts, MemorySessionEnds, UUID], Awaitable[object]]


async def revoke(accounts: MemoryAccounts, ends: MemorySessionEnds, user: UUID) -> object:
    return await accounts.revoke(user_id=user)


async def delete(accounts: MemoryAccounts, ends: MemorySessionEnds, user: UUID) -> object:
    return await accounts.delete(user, HASH, by=None)


async def ban(accounts: MemoryAccounts, ends: MemorySessionEnds, user: UUID) -> object:
    await ends.end([ADA], HowEnded.BANNED)
    return None


async def raise_role(accounts: MemoryAccounts, ends: MemorySessionEnds, user: UUID) -> object:
    return await accounts.grant("ada", Role.MODERATOR)


async def take_role(accounts: MemoryAccounts, ends: MemorySessionEnds, user: UUID) -> object:
    return await accounts.grant("ada", Role.USER)


@pytest.mark.parametrize("is_deaf", [False, True], ids=["heard", "lost"])
@pytest.mark.parametrize("deed", [revoke, delete, ban, raise_role, take_role])
async def test_what_changes_at_one_node_closes_what_is_open_at_another(
    autojump_clock: MockClock, deed: Deed, is_deaf: bool
) -> None:
    # CLU-33, SEC-44: within a second, and within a minute when the ring is lost
    database = MemoryDatabase()
    accounts, ends = MemoryAccounts(database), MemorySessionEnds(database)
    account = NewAccount(uuid4(), "ada", "ada@example.org", HASH)
    await accounts.register(account, sign_in_of(ADA))
    role = Role.MODERATOR if deed is take_role else Role.USER
    await accounts.grant("ada", role)
    page = OpenPage()
    member = SignedIn(account.user_id, "ada", role.value, uuid4())
    roles = OpenRoles(accounts, lambda: {cast("Stream", page): member})
    there = (DeafEnds if is_deaf else MemorySessionEnds)(database)
    async with open_actors() as system:
        await system.start(
            lambda: SessionEndWatch(there, lambda: {ADA}, page.ended, look_too=roles.look)
        )
        await trio.sleep(100)
        assert not page.closings
        began = trio.current_time()
        await deed(accounts, ends, account.user_id)
        await trio.sleep(60)
    after_s = page.closings[0] - began
    assert after_s <= (60 if is_deaf else 1)
    assert not is_deaf or after_s > 1, "nothing rang"
