"""Changes of addresses, as tests. Fixture `kept`, empty."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import NO_PASSWORD, NOWHERE, AuditQuery, Member, NewAccount, Taken
from actors.accounts.kept.addresses import CONFIRM_KEPT, REVERT_KEPT, NewAddress, TakeBack
from actors.accounts.ways.links import Entered
from actors.accounts.ways.provider.identities import AddressTaken
from actors.persistence import OutboxMessage
from storage.errors import InvalidField
from storage.testing.accounts.identities import enter, member_of, shown_of
from storage.testing.accounts.links import claim_of, link_of, redeem
from storage.testing.accounts.members import (
    HASH,
    MINUTE,
    SECOND,
    KeptAccounts,
    acts_of,
    digest_of,
    sign_in_of,
)
from storage.testing.accounts.mending.disavowals import disavow

NEW, FORMER = "new@example.org", "ada@example.org"


def mail(name: str) -> OutboxMessage:
    """Call this for a mail, by its name."""
    return OutboxMessage(uuid4(), "mail", "mail", name, name.encode())


async def ask(kept: KeptAccounts, member: Member, email: str = NEW) -> UUID:
    """Wish for another address; gives the id of the change."""
    new = NewAddress(uuid4(), member.user_id, member.reference, email)
    assert await kept.addresses.ask(new, NOWHERE)
    return new.id


async def changed(kept: KeptAccounts, member: Member, email: str = NEW) -> UUID:
    """Wish for another address and confirm it."""
    change = await ask(kept, member, email)
    assert await kept.addresses.confirm(change, NOWHERE)
    return change


async def email_of(kept: KeptAccounts, user_id: UUID) -> str:
    """Tell somebody's address."""
    found = await kept.accounts.credentials_of(user_id)
    assert found is not None
    return found.email


class AddressesSuite:
    """An address changes when its reader says so, and for a week it can be changed back."""

    async def test_it_changes_when_it_is_confirmed_and_not_before(self, kept: KeptAccounts) -> None:
        # AUTH-11, AUTH-41
        account, ada = await member_of(kept)
        to_new, to_former, told = mail("new"), mail("former"), mail("told")
        new = NewAddress(uuid4(), ada.user_id, ada.reference, NEW, [to_new], [to_former])
        assert await kept.addresses.ask(new, NOWHERE)
        assert await kept.outbox.add([to_new, to_former]) == 0, "with the wish"
        assert await email_of(kept, ada.user_id) == FORMER
        found = await kept.addresses.find(new.id)
        assert found is not None
        assert (found.user_id, found.username, found.former, found.email, found.is_made) == (
            ada.user_id, "ada", FORMER, NEW, False,
        )  # fmt: skip
        assert await kept.addresses.confirm(new.id, NOWHERE, [told])
        assert await kept.outbox.add([told]) == 0, "with the change"
        assert await email_of(kept, ada.user_id) == NEW
        assert await kept.accounts.credentials(account.email) is None
        found = await kept.addresses.find(new.id)
        assert found is not None
        assert found.is_made
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        assert member.email == NEW
        assert not await kept.addresses.confirm(new.id, NOWHERE), "once"
        rows = await kept.audit.search(AuditQuery(user_id=ada.user_id))
        assert [row.action for row in reversed(rows)][1:] == [
            "account.address_ask", "account.address", "account.email_verified",
        ]  # fmt: skip
        assert (await acts_of(kept, ada.user_id))[1:] == [
            "UserUpdated", "UserUpdated", "EmailVerified",
        ]  # fmt: skip

    async def test_a_wish_is_over_after_ten_minutes_with_its_sign_in_or_behind_another(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-11, SEC-82, SEC-20
        _, ada = await member_of(kept)
        first = await ask(kept, ada)
        second = await ask(kept, ada)
        assert not await kept.addresses.confirm(first, NOWHERE)
        await kept.pass_time(CONFIRM_KEPT + SECOND)
        assert not await kept.addresses.confirm(second, NOWHERE)
        third = await ask(kept, ada)
        await kept.pass_time(CONFIRM_KEPT - SECOND)
        await kept.accounts.sign_out(ada.session_id)
        assert not await kept.addresses.confirm(third, NOWHERE)
        assert not await kept.addresses.ask(
            NewAddress(uuid4(), ada.user_id, ada.reference, NEW), NOWHERE
        )
        assert not await kept.addresses.confirm(uuid4(), NOWHERE)
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("later"))
        later = await kept.accounts.who(digest_of("later"))
        assert later is not None
        fourth = await ask(kept, later)
        await disavow(kept, ada.user_id)
        assert not await kept.addresses.confirm(fourth, NOWHERE)
        assert await email_of(kept, ada.user_id) == FORMER

    async def test_an_address_of_somebody_answers_as_any_other(self, kept: KeptAccounts) -> None:
        # AUTH-11, SEC-77: the wish is kept, the former one is told, and no link leaves
        bob = await kept.register("bob")
        _, ada = await member_of(kept)
        to_new, to_former = mail("new"), mail("former")
        new = NewAddress(uuid4(), ada.user_id, ada.reference, bob.email, [to_new], [to_former])
        assert await kept.addresses.ask(new, NOWHERE)
        assert await kept.outbox.add([to_former]) == 0
        assert await kept.outbox.add([to_new]) == 1, "it did not leave"
        assert not await kept.addresses.confirm(new.id, NOWHERE)
        assert await email_of(kept, ada.user_id) == FORMER
        # Or it is taken between the wish and its confirmation.
        waits = await ask(kept, ada)
        other = NewAccount(uuid4(), "eve", NEW, HASH)
        assert await kept.accounts.register(other, sign_in_of("eve")) is None
        assert not await kept.addresses.confirm(waits, NOWHERE)
        assert await email_of(kept, ada.user_id) == FORMER

    async def test_a_former_address_is_nobody_elses_for_a_week(self, kept: KeptAccounts) -> None:
        # AUTH-11
        _, ada = await member_of(kept)
        _, bob = await member_of(kept, "bob")
        await changed(kept, ada)

        async def register() -> Taken | None:
            account = NewAccount(uuid4(), "eve", FORMER, HASH)
            return await kept.accounts.register(account, sign_in_of("eve"))

        # Not to the second: on a starved core what is asked of a database takes some.
        for so_long in (timedelta(0), REVERT_KEPT - 300 * SECOND):
            await kept.pass_time(so_long)
            assert await register() is Taken.EMAIL
            assert await enter(kept, shown_of("eve", FORMER), "eve", "eve") == AddressTaken()
            await kept.links.issue(link_of("t", FORMER), [])
            assert await redeem(kept, claim_of("t"), "eve", "eve") is None
            if not so_long:
                wish = await ask(kept, bob, FORMER)
                assert not await kept.addresses.confirm(wish, NOWHERE)
        await kept.pass_time(301 * SECOND)
        assert await register() is None

    async def test_its_owner_may_have_it_again(self, kept: KeptAccounts) -> None:
        # AUTH-11: what is kept for an account is not kept from it
        _, ada = await member_of(kept)
        await changed(kept, ada)
        await changed(kept, ada, FORMER)
        assert await email_of(kept, ada.user_id) == FORMER

    async def test_the_former_address_takes_the_account_back(self, kept: KeptAccounts) -> None:
        # AUTH-11, AUTH-16: whatever it was changed to since, once, of fifty at once
        _, ada = await member_of(kept)
        change = await changed(kept, ada)
        await changed(kept, ada, "third@example.org")
        waits = await ask(kept, ada, "fourth@example.org")
        told, found = mail("told"), list[int | None]()

        async def one() -> None:
            found.append(await kept.addresses.take_back(TakeBack(change, outbox=[told]), NOWHERE))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert [one for one in found if one is not None] == [1]
        assert await kept.outbox.add([told]) == 0
        assert await kept.sessions_over("ada") == {"ada"}
        assert await email_of(kept, ada.user_id) == FORMER
        assert not await kept.addresses.confirm(waits, NOWHERE)
        for password_hash in (HASH, NO_PASSWORD):
            sign_in = sign_in_of("thief")
            assert await kept.accounts.sign_in(ada.user_id, password_hash, sign_in) is None
        await kept.links.issue(link_of("own"), [])
        assert isinstance(await redeem(kept, claim_of("own")), Entered)
        # What it was changed to is let go.
        eve = NewAccount(uuid4(), "eve", NEW, HASH)
        assert await kept.accounts.register(eve, sign_in_of("eve")) is None
        assert "account.address_back" in [
            row.action for row in await kept.audit.search(AuditQuery(user_id=ada.user_id))
        ]

    async def test_a_wish_is_stopped_before_it_is_confirmed(self, kept: KeptAccounts) -> None:
        # AUTH-11
        _, ada = await member_of(kept)
        change = await ask(kept, ada)
        assert await kept.addresses.take_back(TakeBack(change, needs_mailbox=False), NOWHERE) == 1
        assert not await kept.addresses.confirm(change, NOWHERE)
        assert await kept.addresses.find(change) is None
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("again")) == 0

    async def test_it_is_taken_back_for_a_week_and_not_of_who_is_gone(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-11, SITE-47
        _, ada = await member_of(kept)
        change = await changed(kept, ada)
        await kept.pass_time(REVERT_KEPT - MINUTE)
        assert await kept.addresses.find(change) is not None
        await kept.pass_time(2 * MINUTE)
        assert await kept.addresses.find(change) is None
        assert await kept.addresses.take_back(TakeBack(change), NOWHERE) is None
        assert await email_of(kept, ada.user_id) == NEW
        _, bob = await member_of(kept, "bob")
        change = await changed(kept, bob, "bobby@example.org")
        await kept.accounts.delete(bob.user_id, HASH, by=None)
        assert await kept.addresses.find(change) is None
        assert await kept.addresses.take_back(TakeBack(change), NOWHERE) is None
        again = NewAccount(uuid4(), "bob", "bob@example.org", HASH)
        assert await kept.accounts.register(again, sign_in_of("bob again")) is None

    async def test_a_change_of_nonsense_is_refused(self, kept: KeptAccounts) -> None:
        # AUTH-11
        one, addresses = uuid4(), kept.addresses
        for given in (("x", one, one, NEW), (one, one, one, ""), (one, one, one, None)):
            with pytest.raises(InvalidField):
                NewAddress(*given)
        with pytest.raises(InvalidField):
            TakeBack(one, needs_mailbox=1)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await addresses.ask("x", NOWHERE)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await addresses.find("x")  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await addresses.confirm(one, "x")  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await addresses.take_back(TakeBack(one), None)  # type: ignore[arg-type]
