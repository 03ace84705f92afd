"""The chat log in memory passes the suite of its port; the suite fails on faulty ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from actors.chat import (
    Draft,
    History,
    ModerationOutcome,
    PostOutcome,
    PostRefused,
    PostVerdict,
    RoomName,
    Verdict,
    Viewer,
)
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.memory import (
    MemoryChatLog,
    MemoryDatabase,
    MemoryEventStore,
    MemorySubjectKeys,
)
from storage.testing import ChatForgettingSuite, ChatLogSuite, failing_cases
from storage.testing.chat_log import ChatPlace, moderator_in_memory


class TestMemoryChatLog(ChatLogSuite):
    @pytest.fixture
    def chat_log(self) -> MemoryChatLog:
        return moderator_in_memory(MemoryChatLog())


class TestMemoryChatForgetting(ChatForgettingSuite):
    @pytest.fixture
    def chat(self) -> ChatPlace:
        database = MemoryDatabase()
        rings = [
            SubjectKeyring(MemorySubjectKeys(database), Secret(b"k" * 32), fresh_s=0.0)
            for _ in range(2)
        ]
        log = moderator_in_memory(MemoryChatLog(database, keyring=rings[0]))

        async def dump() -> bytes:
            return repr((database, vars(log))).encode()

        async def lose() -> None:
            for table in log._rooms.values():
                table.messages.clear()
                table.by_client_id.clear()
            log.queue.clear()
            log.reviewed.clear()

        async def queued() -> dict[UUID, str]:
            return dict(log.queue)

        # One object is one database: another process would have its own keys, not its own rooms.
        events = MemoryEventStore(database, keyring=rings[1])
        return ChatPlace(lambda: (log, rings[0]), events, dump, lose, queued)


class _ForgetsClientIds(MemoryChatLog):
    async def post(self, draft: Draft) -> PostOutcome:
        return await super().post(replace(draft, client_id=str(uuid4())))


class _ForgetsLimits(MemoryChatLog):
    async def post(self, draft: Draft) -> PostOutcome:
        return await super().post(replace(draft, limits=()))


class _LosesAfterPoison(MemoryChatLog):
    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        verdicts: list[PostVerdict] = []
        for one in drafts:
            if verdicts and isinstance(verdicts[-1], PostRefused):
                verdicts.append(verdicts[-1])
            else:
                verdicts += await super().post_all([one])
        return verdicts


class _TurnsThemRound(MemoryChatLog):
    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        return [*reversed(await super().post_all([*reversed(drafts)]))]


class _DecidesAgain(MemoryChatLog):
    async def moderate(self, verdict: Verdict) -> ModerationOutcome:
        self.reviewed.clear()
        return await super().moderate(verdict)


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
        (_LosesAfterPoison, "test_one_that_cannot_be_stored_harms_no_other"),
        (_TurnsThemRound, "test_posts_together_end_as_they_would_one_by_one"),
        (_DecidesAgain, "test_a_message_that_waits_is_decided_once"),
        (_ShowsPending, "test_pending_is_for_its_author_and_moderators"),
    ],
)
async def test_the_suite_finds_a_planted_fault(
    faulty: Callable[[], MemoryChatLog], case: str
) -> None:
    # TEST-8
    assert case in await failing_cases(ChatLogSuite, lambda: moderator_in_memory(faulty()))


async def test_the_suite_finds_nothing_wrong_with_the_twin() -> None:
    # TEST-8
    assert await failing_cases(ChatLogSuite, lambda: moderator_in_memory(MemoryChatLog())) == set()
