"""Who has something of a session open hears that it is over, pushed or not (SEC-44)."""

import pytest
import trio
from trio.testing import MockClock

from actors.accounts import HowEnded, SessionEnded, SessionEndWatch
from actors.accounts.words import SessionId
from actors.persistence import StoreUnavailable
from actors.runtime import open_actors
from storage.memory import MemorySessionEnds

ADA, BOB, EVE = SessionId("ada"), SessionId("bob"), SessionId("eve")


@pytest.mark.parametrize("is_deaf", [False, True])
async def test_an_end_is_heard_within_its_time(autojump_clock: MockClock, is_deaf: bool) -> None:
    # SEC-44: within a second by push, within a minute without
    ends = MemorySessionEnds()
    ends.is_deaf = is_deaf
    opened = {ADA, BOB}
    told: list[tuple[float, SessionEnded]] = []

    def tell(ended: SessionEnded) -> None:
        opened.discard(ended.session_id)
        told.append((trio.current_time(), ended))

    async with open_actors() as system:
        await system.start(lambda: SessionEndWatch(ends, lambda: opened, tell))
        await trio.sleep(100)
        assert told == []
        began = trio.current_time()
        await ends.end([ADA, EVE])
        await ends.end([BOB], HowEnded.BANNED)
        await trio.sleep(60)
        await ends.end([ADA])
        await trio.sleep(60)
    assert sorted((ended for _, ended in told), key=lambda one: one.session_id) == [
        SessionEnded(ADA, HowEnded.ENDED),
        SessionEnded(BOB, HowEnded.BANNED),
    ]
    assert all(at - began <= (60 if is_deaf else 1) for at, _ in told)


async def test_a_store_that_is_away_is_asked_again(autojump_clock: MockClock) -> None:
    # SEC-44: and of more sessions than are asked about at once none is left out
    ends = MemorySessionEnds()
    opened = {SessionId(f"s{number}") for number in range(2500)}
    told: list[SessionId] = []
    async with open_actors() as system:
        await system.start(
            lambda: SessionEndWatch(ends, lambda: opened, lambda one: told.append(one.session_id))
        )
        await trio.sleep(1)
        await ends.end([SessionId("s0"), SessionId("s1234"), SessionId("s2499")])
        ends.fail_next(StoreUnavailable("away"), times=3)
        await trio.sleep(10)
    assert sorted(told) == ["s0", "s1234", "s2499"]


async def test_what_opened_after_its_end_is_found(autojump_clock: MockClock) -> None:
    # SEC-44: it came in while the end was on its way
    ends = MemorySessionEnds()
    opened: set[SessionId] = set()
    told: list[float] = []
    async with open_actors() as system:
        await system.start(
            lambda: SessionEndWatch(ends, lambda: opened, lambda _: told.append(1.0))
        )
        await ends.end([ADA])
        await trio.sleep(5)
        opened.add(ADA)
        await trio.sleep(60)
    assert told
