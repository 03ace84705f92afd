"""What is known of mails, and whose address takes none: on both engines."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import pytest
import trio

from actors.persistence import MailRef, MailState
from storage.errors import InvalidField
from storage.postgres import Database
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres

_DAY = 86_400.0
_ADA, _BOB = sha256(b"ada@example.org").digest(), sha256(b"bob@example.org").digest()


def _mail(number: int = 1, recipient: bytes = _ADA) -> MailRef:
    return MailRef(UUID(int=number), recipient, "security_alert")


class _Suite:
    async def test_two_copies_of_a_mail_leave_without_an_answer_and_no_third(
        self, kept: Kept
    ) -> None:
        # MAIL-5
        assert [await kept.mails.begin(_mail()) for _ in range(4)] == [0, 1, 2, 2]
        # What is known of it does not take back what has left.
        await kept.mails.settle(_mail(), MailState.DEFERRED, "away")
        assert await kept.mails.begin(_mail()) == 2
        (known,) = await kept.mails.newest()
        assert (known.mail, known.state, known.left) == (_mail(), MailState.DEFERRED, 2)
        # Only one that was given up is sent once more by somebody.
        assert await kept.mails.begin(_mail(), anew=True) == 2
        await kept.mails.settle(_mail(), MailState.REFUSED, "two copies have left")
        assert await kept.mails.begin(_mail(), anew=True) == 0

    async def test_an_answered_copy_counts_no_more(self, kept: Kept) -> None:
        # MAIL-5
        for _ in range(5):
            assert await kept.mails.begin(_mail()) == 0
            await kept.mails.settle(_mail(), MailState.DEFERRED, "451", is_answered=True)
        await kept.mails.settle(_mail(), MailState.SENT, "250", is_answered=True)
        (known,) = await kept.mails.newest()
        assert (known.state, known.reason, known.left) == (MailState.SENT, "250", 0)

    async def test_of_many_who_begin_at_once_two_may(self, kept: Kept) -> None:
        # MAIL-5
        given: list[int] = []

        async def begin() -> None:
            given.append(await kept.mails.begin(_mail()))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(begin)
        assert sorted(given) == [0, 1, *[2] * 8]

    async def test_an_address_is_held_for_a_time_and_can_be_let_go(self, kept: Kept) -> None:
        # MAIL-7
        assert await kept.mails.maybe_suppression(_ADA) is None
        assert not await kept.mails.take_exception(_ADA)
        await kept.mails.suppress(_ADA, "550 5.1.1")
        held = await kept.mails.maybe_suppression(_ADA)
        assert held is not None
        assert held.reason == "550 5.1.1"
        assert await kept.mails.maybe_suppression(_BOB) is None
        assert await kept.mails.take_exception(_ADA)
        assert not await kept.mails.take_exception(_ADA)
        # Refused again: the day of the exception goes on.
        await kept.mails.suppress(_ADA, "550 5.1.1")
        assert not await kept.mails.take_exception(_ADA)
        await kept.pass_time(_DAY + 1)
        assert await kept.mails.take_exception(_ADA)
        assert await kept.mails.lift(_ADA)
        assert not await kept.mails.lift(_ADA)
        await kept.mails.suppress(_ADA, "550 5.1.1")
        await kept.pass_time(30 * _DAY + 1)
        assert await kept.mails.maybe_suppression(_ADA) is None

    async def test_what_is_over_is_removed_in_time(self, kept: Kept) -> None:
        # MAIL-7
        await kept.mails.settle(_mail(1), MailState.SENT, "250")
        await kept.mails.suppress(_ADA, "550")
        assert await kept.mails.purge() == 0
        await kept.pass_time(8 * _DAY)
        await kept.mails.settle(_mail(2), MailState.SENT, "250")
        assert await kept.mails.purge() == 1
        await kept.pass_time(23 * _DAY)
        assert await kept.mails.purge() == 2
        assert await kept.mails.newest() == []

    async def test_the_newest_change_stands_first(self, kept: Kept) -> None:
        # MAIL-6
        for number in (1, 2, 3):
            await kept.mails.settle(_mail(number), MailState.DEFERRED, "421")
        await kept.mails.settle(_mail(1), MailState.SENT, "250")
        shown = [known.mail.message_id.int for known in await kept.mails.newest(2)]
        assert shown == [1, 3]
        await kept.mails.settle(_mail(4, _BOB), MailState.SENT, "250")
        for recipient, wanted in ((_ADA, [1, 3, 2]), (_BOB, [4]), (b"\0" * 32, [])):
            own = await kept.mails.newest(recipient=recipient)
            assert [known.mail.message_id.int for known in own] == wanted
        assert len(await kept.mails.newest(2, recipient=_ADA)) == 2

    async def test_an_address_itself_is_never_taken(self, kept: Kept) -> None:
        # SEC-132
        with pytest.raises(InvalidField, match="digest"):
            await kept.mails.suppress(b"ada@example.org", "550")
        with pytest.raises(InvalidField, match="digest"):
            _mail(recipient=b"ada@example.org")


class TestMemoryMails(_Suite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresMails(_Suite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)
