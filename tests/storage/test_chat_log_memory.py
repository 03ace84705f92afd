"""The chat log in memory passes the suite of its port; the suite fails on faulty ones."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from actors.chat import (
    LOBBY,
    ROOM_NAMES,
    ChatLogUnavailable,
    Draft,
    History,
    PostOutcome,
    RoomName,
    Viewer,
)
from storage.memory import MemoryChatLog
from storage.testing import ChatLogSuite, failing_cases


class TestMemoryChatLog(ChatLogSuite):
    @pytest.fixture
    def chat_log(self) -> MemoryChatLog:
        return MemoryChatLog()


class _ForgetsClientIds(MemoryChatLog):
    async def post(self, draft: Draft) -> PostOutcome:
        return await super().post(replace(draft, client_id=str(uuid4())))


class _ForgetsLimits(MemoryChatLog):
    async def post(self, draft: Draft) -> PostOutcome:
        return await super().post(replace(draft, limits=()))


class _ShowsPending(MemoryChatLog):
    async def history(
        self, room: RoomName, viewer: Viewer, *, before: int | None = None, limit: int = 50
    ) -> History:
        return await super().history(room, Viewer(is_moderator=True), before=before, limit=limit)


@pytest.mark.parametrize(
    ("faulty", "case"),
    [
        (_ForgetsClientIds, "test_a_repeat_stores_and_charges_nothing"),
        (_ForgetsLimits, "test_of_fifty_parallel_posts_exactly_the_limit_passes"),
        (_ShowsPending, "test_pending_is_for_its_author_and_moderators"),
    ],
)
async def test_the_suite_finds_a_planted_fault(
    faulty: Callable[[], MemoryChatLog], case: str
) -> None:
    # TEST-8
    assert case in await failing_cases(ChatLogSuite, faulty)


async def test_the_suite_finds_nothing_wrong_with_the_twin() -> None:
    # TEST-8
    assert await failing_cases(ChatLogSuite, MemoryChatLog) == set()


async def test_the_twin_fails_on_demand() -> None:
    # TEST-7
    log = MemoryChatLog()
    await log.ensure_rooms(ROOM_NAMES)
    log.fail_next()
    with pytest.raises(ChatLogUnavailable):
        await log.history(LOBBY, Viewer())
    assert (await log.history(LOBBY, Viewer())).n == 0
