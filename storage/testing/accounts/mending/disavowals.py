"""Changes that somebody disavows, as tests. Fixture `kept`, empty."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import NO_PASSWORD, NOWHERE, AuditQuery, NewPassword, Origin
from actors.accounts.kept.disavowals import DISAVOWAL_KEPT, TOLD_MARGIN, Disavowal
from actors.accounts.kept.factors import CodeProof, NewTotp, Proof, TotpProof
from actors.accounts.kept.risk.words import Withheld
from actors.accounts.ways.links import Entered
from actors.accounts.ways.passkeys import NewPasskey
from actors.accounts.ways.provider.identities import AddressTaken, Linking
from actors.persistence import OutboxMessage
from storage.errors import InvalidField
from storage.testing.accounts.identities import enter, linked, member_of, shown_of
from storage.testing.accounts.links import claim_of, link_of, redeem
from storage.testing.accounts.members import (
    CODES,
    HASH,
    MINUTE,
    SECOND,
    KeptAccounts,
    acts_of,
    add_app,
    digest_of,
    sign_in_of,
)
from storage.testing.accounts.passkeys import used, with_passkey

LONG_AGO, FAR_OFF = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def disavow(
    kept: KeptAccounts,
    user_id: UUID,
    told_at: datetime = FAR_OFF,
    mail: str = "t",
    *,
    needs_mailbox: bool = True,
    outbox: Sequence[OutboxMessage] = (),
) -> int | None:
    """Say of a change that it was not theirs; before it all there is of factors was added."""
    given = Disavowal(user_id, digest_of(mail), told_at, needs_mailbox=needs_mailbox, outbox=outbox)
    return await kept.disavowals.disavow(given, Origin(method=""))


async def by_link(
    kept: KeptAccounts, user_id: UUID, proof: Proof, *, password_hash: str = NO_PASSWORD
) -> int | Withheld | None:
    """Enter as who opened a link and proved a second factor behind it."""
    sign_in = sign_in_of(f"by link {uuid4()}")
    given = type(sign_in)(
        sign_in.reference, sign_in.digest, sign_in.session_id, sign_in.browser,
        proof=proof, by_mailbox=True,
    )  # fmt: skip
    return await kept.accounts.sign_in(user_id, password_hash, given)


async def passkey_and_app(kept: KeptAccounts) -> tuple[UUID, NewPasskey, datetime]:
    """Register somebody with a passkey and, later, an app; also since when there is the app."""
    account, new = await with_passkey(kept)
    await kept.pass_time(SECOND)
    member = await kept.accounts.who(new.digest)
    assert member is not None
    app = NewTotp(account.user_id, b"s" * 20, 100, member.reference, digest_of("app"))
    assert await kept.factors.add_totp(app, Origin(method="totp"))
    held = await kept.factors.held(account.user_id)
    assert held.totp is not None
    return account.user_id, new, held.totp.added_at


class DisavowalsSuite:
    """Who says "this was not me" has their account to themselves again, and no less guarded."""

    async def test_all_sign_ins_end_and_the_password_opens_nothing(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16, AUTH-41, SEC-17
        ada = await kept.register()
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("thief"))
        await kept.register("bob")
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"told")
        assert await disavow(kept, ada.user_id, outbox=[mail]) == 2
        assert await kept.sessions_over("ada", "thief", "bob") == {"ada", "thief"}
        assert await kept.accounts.who(digest_of("thief")) is None
        assert await kept.accounts.who(digest_of("bob")) is not None
        found = await kept.accounts.credentials(ada.email)
        assert found is not None
        assert found.password_hash == NO_PASSWORD
        for password_hash in (HASH, NO_PASSWORD):
            sign_in = sign_in_of("again")
            assert await kept.accounts.sign_in(ada.user_id, password_hash, sign_in) is None
        assert await kept.outbox.add([mail]) == 0, "it was written with the act"
        rows = await kept.audit.search(AuditQuery(user_id=ada.user_id, action="account.disavow"))
        assert [(row.actor, row.is_success) for row in rows] == [(None, True)]
        assert (await acts_of(kept, ada.user_id))[-1] == "UserUpdated"

    async def test_its_owner_comes_in_by_a_link_and_it_is_as_any_other(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16: without a second factor the mailbox is asked for, and a new password behind it
        ada = await kept.register()
        await kept.links.issue(link_of("thief"), [])
        await disavow(kept, ada.user_id)
        assert await redeem(kept, claim_of("thief")) is None, "a link that was on its way is void"
        await kept.links.issue(link_of("own"), [])
        entered = await redeem(kept, claim_of("own"))
        assert entered == Entered(ada.user_id, "ada", ada.email, is_new=False, ended=0)
        # Doubted no more: what else there is opens it again.
        assert await kept.accounts.sign_in(ada.user_id, NO_PASSWORD, sign_in_of("x")) == 0

    async def test_it_is_done_once(self, kept: KeptAccounts) -> None:
        # AUTH-16, SEC-81: of fifty at once one; and until it is over nobody does it again
        ada = await kept.register()
        found: list[int | None] = []

        async def one() -> None:
            found.append(await disavow(kept, ada.user_id))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert sorted(one for one in found if one is not None) == [1]
        await kept.pass_time(DISAVOWAL_KEPT - MINUTE)
        assert await disavow(kept, ada.user_id) is None
        assert await disavow(kept, ada.user_id, mail="another mail") == 0
        assert await disavow(kept, uuid4(), mail="of nobody") is None
        await kept.accounts.delete(ada.user_id, NO_PASSWORD, by=None)
        assert await disavow(kept, ada.user_id, mail="of who is gone") is None

    async def test_no_passkey_alone_and_no_provider_opens_it_before_its_owner_came(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16: a passkey behind the link does, and then alone again
        account, new = await with_passkey(kept)
        member = await kept.accounts.who(new.digest)
        assert member is not None
        assert await kept.identities.link(linked(member, shown_of()), NOWHERE) is Linking.DONE
        await disavow(kept, account.user_id)
        key = used(new)
        assert await kept.passkeys.enter(account.user_id, key, sign_in_of("by key")) is None
        assert await enter(kept, shown_of()) == AddressTaken(account.email)
        half = sign_in_of("half")
        given = type(half)(half.reference, half.digest, half.session_id, half.browser, proof=key)
        assert await kept.accounts.sign_in(account.user_id, NO_PASSWORD, given) is None
        await kept.links.issue(link_of("own"), [])
        entered = await redeem(kept, claim_of("own"))
        assert isinstance(entered, Entered)
        assert entered.needs_second, "a mailbox alone removes no second factor (SEC-85)"
        assert await by_link(kept, account.user_id, key) == 0
        assert await kept.passkeys.enter(account.user_id, key, sign_in_of("by key")) is not None
        assert isinstance(await enter(kept, shown_of()), Entered)

    async def test_codes_are_void_and_what_a_thief_linked_is_unlinked(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16
        ada = await add_app(kept)
        member = await kept.accounts.who(digest_of("ada app"))
        assert member is not None
        await kept.identities.link(linked(member, shown_of()), NOWHERE)
        await disavow(kept, ada.user_id, LONG_AGO)
        assert (await kept.factors.held(ada.user_id)).codes_left == 0
        assert await by_link(kept, ada.user_id, CodeProof(CODES[0])) is None
        assert await kept.identities.of_user(ada.user_id) == []
        assert (await acts_of(kept, ada.user_id))[-1] == "OAuthAccountUnlinked"
        # The app was added since, and there is no other: whoever has it is asked for it (SEC-85).
        assert await by_link(kept, ada.user_id, TotpProof(101)) == 0
        assert (await kept.factors.held(ada.user_id)).totp is not None

    async def test_a_factor_from_before_removes_those_that_were_added_since(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16: the app is a thief's
        user_id, new, since = await passkey_and_app(kept)
        await disavow(kept, user_id, since + TOLD_MARGIN)
        assert await by_link(kept, user_id, used(new)) == 0
        assert (await kept.factors.held(user_id)).totp is None
        assert len(await kept.passkeys.of_user(user_id)) == 1
        assert "SecondFactorRemoved" in await acts_of(kept, user_id)

    async def test_who_proves_a_factor_that_was_added_since_keeps_all(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16
        user_id, _, since = await passkey_and_app(kept)
        await disavow(kept, user_id, since + TOLD_MARGIN)
        assert await by_link(kept, user_id, TotpProof(101)) == 0
        held = await kept.factors.held(user_id)
        assert (held.totp is None, held.passkeys_count) == (False, 1)

    async def test_of_two_the_earlier_counts(self, kept: KeptAccounts) -> None:
        # AUTH-16
        user_id, new, since = await passkey_and_app(kept)
        await disavow(kept, user_id, since + TOLD_MARGIN)
        await disavow(kept, user_id, FAR_OFF, "later")
        assert await by_link(kept, user_id, used(new)) == 0
        assert (await kept.factors.held(user_id)).totp is None

    async def test_what_was_under_way_leaves_no_way_in(self, kept: KeptAccounts) -> None:
        # AUTH-16, SEC-20: a first password and new codes of a request whose sign-in ended by it
        user_id, new, _ = await passkey_and_app(kept)
        (own, *_) = await kept.accounts.sign_ins(user_id)
        await disavow(kept, user_id)
        late = NewPassword(user_id, NO_PASSWORD, HASH, own.reference, digest_of("late"))
        assert not await kept.accounts.change_password(late)
        assert not await kept.factors.renew_codes(user_id, own.reference, CODES, Origin())
        assert await kept.accounts.sign_in(user_id, HASH, sign_in_of("thief")) is None
        assert await by_link(kept, user_id, used(new)) == 0
        found = await kept.accounts.credentials_of(user_id)
        assert found is not None
        assert found.password_hash == NO_PASSWORD
        assert (await kept.factors.held(user_id)).codes_left == 0

    async def test_where_no_links_are_sent_the_password_stays(self, kept: KeptAccounts) -> None:
        # AUTH-16: nobody is locked out
        ada, _ = await member_of(kept)
        assert await disavow(kept, ada.user_id, needs_mailbox=False) == 1
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("again")) == 0
        eve = await enter(kept, shown_of("eve-1", "eve@elsewhere.org"), "eve", "eve")
        assert isinstance(eve, Entered)
        assert await disavow(kept, eve.user_id, LONG_AGO, "eve", needs_mailbox=False) == 1
        assert len(await kept.identities.of_user(eve.user_id)) == 1, "nothing else signs in"

    async def test_a_disavowal_of_nonsense_is_refused(self, kept: KeptAccounts) -> None:
        # AUTH-16
        user_id, digest = uuid4(), digest_of("t")
        for given in (
            ("ada", digest, FAR_OFF),
            (user_id, b"short", FAR_OFF),
            (user_id, digest, datetime(2025, 3, 1)),  # noqa: DTZ001 - without a zone
            (user_id, digest, "today"),
            (user_id, digest, FAR_OFF, 1),
        ):
            with pytest.raises(InvalidField):
                Disavowal(*given)
        with pytest.raises(InvalidField):
            await kept.disavowals.disavow("nonsense", NOWHERE)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            await kept.disavowals.disavow(Disavowal(user_id, digest, FAR_OFF), None)  # type: ignore[arg-type]
