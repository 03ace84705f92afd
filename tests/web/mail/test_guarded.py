"""A mail server behind its guards: left alone while it is away, and still with its own trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from supervision import Dependency
from web.mail.answers import Answer, Verdict
from web.mail.senders.guarded import MAIL, MAIL_POLICY, GuardedSender
from web.mail.senders.port import (
    AnswerLost,
    BeforeLeaving,
    LoginRefused,
    MayNotLeave,
    Outgoing,
    SenderTrouble,
    ServerAway,
)
from web.mail.words import Mail

SENT = Answer(Verdict.SENT, "taken")
OUTGOING = Outgoing(uuid4(), Mail("a@example.org", "greeting", "en", "Hello", "", ""), b"")
Way = Callable[[BeforeLeaving], Awaitable[Answer]]


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


class _Server:
    """A way out that does as it is told."""

    def __init__(self, way: Way) -> None:
        self.way, self.offered = way, 0

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        self.offered += 1
        return await self.way(before_leaving)

    async def close_idle(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def _takes(before_leaving: BeforeLeaving) -> Answer:
    if not await before_leaving():
        raise MayNotLeave
    return SENT


async def _refuses_us(before_leaving: BeforeLeaving) -> Answer:
    raise LoginRefused("the mail server does not take us")


async def _hangs(before_leaving: BeforeLeaving) -> Answer:
    await trio.sleep_forever()


async def _hangs_behind_the_data(before_leaving: BeforeLeaving) -> Answer:
    await before_leaving()
    await trio.sleep_forever()


def _guarded(way: Way) -> tuple[_Server, Dependency, GuardedSender]:
    server, dependency = _Server(way), Dependency(MAIL, MAIL_POLICY)
    return server, dependency, GuardedSender(server, dependency)


async def test_a_server_that_is_away_is_left_alone(autojump_clock: MockClock) -> None:
    # RES-9: mails meanwhile have the trouble that it had, and ask nobody
    server, dependency, sender = _guarded(_refuses_us)
    for _ in range(MAIL_POLICY.breaker.failures + 3):
        with pytest.raises(LoginRefused):
            await sender.send(OUTGOING, _yes)
    assert server.offered == MAIL_POLICY.breaker.failures
    assert dependency.stats().breaker.state == "open"
    server.way = _takes
    await trio.sleep(MAIL_POLICY.breaker.open_for)
    assert await sender.send(OUTGOING, _yes) is SENT


async def test_a_mail_that_may_not_leave_says_nothing_of_the_server() -> None:
    _, dependency, sender = _guarded(_takes)
    for _ in range(MAIL_POLICY.breaker.failures):
        with pytest.raises(MayNotLeave):
            await sender.send(OUTGOING, _no)
    assert dependency.stats().breaker.calls == 0


@pytest.mark.parametrize(
    ("way", "error"), [(_hangs, ServerAway), (_hangs_behind_the_data, AnswerLost)]
)
async def test_a_server_without_an_answer_is_late(
    way: Way, error: type[SenderTrouble], autojump_clock: MockClock
) -> None:
    # REL-86: what has left may have been taken
    _, dependency, sender = _guarded(way)
    with pytest.raises(error):
        await sender.send(OUTGOING, _yes)
    assert trio.current_time() == MAIL_POLICY.deadline
    assert dependency.stats().breaker.failures == 1
