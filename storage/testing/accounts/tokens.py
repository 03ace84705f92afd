"""API tokens of accounts, as tests. Fixture `kept`, empty."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import trio

from actors.accounts import AuditQuery, NewAccount, NewPassword, Origin, Role, SessionId
from actors.accounts.kept.disavowals import Disavowal
from actors.accounts.kept.tokens import (
    TOKEN_KEPT,
    TOKENS_PER_USER_MAX,
    USED_EVERY,
    ApiToken,
    NewToken,
    NotAdded,
    Scope,
)
from actors.accounts.members import Operator
from actors.accounts.ways.passkeys import NewPasskey
from actors.accounts.ways.tokens import BY_OPERATOR
from actors.persistence import OutboxMessage
from storage.testing.accounts.members import (
    HASH,
    OTHER_HASH,
    SECOND,
    KeptAccounts,
    acts_of,
    digest_of,
    sign_in_of,
)
from storage.testing.accounts.mending.addresses import mail

ORIGIN = Origin("192.0.2.*", "Firefox on Linux", "r-1")
READS = (Scope.ACCOUNT_READ, Scope.CHAT_READ)


async def reference_of(kept: KeptAccounts, session: str) -> UUID:
    member = await kept.accounts.who(digest_of(session))
    assert member is not None
    return member.reference


async def add_token(
    kept: KeptAccounts,
    owner: NewAccount,
    name: str = "nightly",
    scopes: tuple[Scope, ...] = READS,
    outbox: Sequence[OutboxMessage] = (),
) -> ApiToken:
    """Make a token whose digest and session go by its name."""
    new = new_token(owner.user_id, await reference_of(kept, owner.username), name, scopes)
    made = await kept.tokens.add(replace(new, outbox=outbox), ORIGIN)
    assert isinstance(made, ApiToken)
    return made


def new_token(
    user_id: UUID, reference: UUID, name: str, scopes: tuple[Scope, ...] = READS
) -> NewToken:
    return NewToken(uuid4(), user_id, reference, digest_of(name), SessionId(name), name, scopes)


class TokensSuite:
    """A token does what its scopes say for 90 days, and ends with its owner's word or account."""

    async def test_a_token_is_its_owner_with_its_scopes(self, kept: KeptAccounts) -> None:
        # SEC-87, SEC-12, SEC-130, SEC-73: the mail that tells of it is written with it
        ada, eve = await kept.register(), await kept.register("eve")
        told = mail("told")
        made = await add_token(kept, ada, outbox=[told])
        assert await kept.outbox.add([told]) == 0
        assert (made.name, made.scopes, made.used_at) == ("nightly", READS, None)
        assert made.expires_at - made.created_at - TOKEN_KEPT < SECOND
        member = await kept.tokens.who(digest_of("nightly"))
        assert member is not None
        assert (member.user_id, member.username, member.role) == (ada.user_id, "ada", Role.USER)
        assert (member.reference, member.session_id) == (made.id, "nightly")
        assert member.scopes == frozenset(READS)
        assert not member.is_fresh, "a token proves nobody afresh"
        await kept.accounts.grant("ada", Role.ADMIN)
        assert await kept.tokens.who(digest_of("nightly")) == member, "nor has it a role"
        assert await kept.accounts.who(digest_of("nightly")) is None, "it is no sign-in"
        assert await kept.tokens.who(digest_of("ada")) is None, "nor is a sign-in a token"
        assert [one.id for one in await kept.tokens.of_user(ada.user_id)] == [made.id]
        assert await kept.tokens.of_user(eve.user_id) == []
        found = await kept.audit.search(AuditQuery(ada.user_id, "account.token_add"))
        assert [(one.is_success, one.address) for one in found] == [(True, "192.0.2.*")]

    async def test_its_use_is_noted_once_a_minute(self, kept: KeptAccounts) -> None:
        # SEC-87
        ada = await kept.register()
        await add_token(kept, ada)

        async def used() -> ApiToken:
            assert await kept.tokens.who(digest_of("nightly")) is not None
            (found,) = await kept.tokens.of_user(ada.user_id)
            return found

        first = (await used()).used_at
        assert first is not None
        assert (await used()).used_at == first
        await kept.pass_time(USED_EVERY)
        later = (await used()).used_at
        assert later is not None
        # One engine makes rows older, the other the clock later.
        age = later - (await kept.tokens.of_user(ada.user_id))[0].created_at
        assert USED_EVERY <= age < 2 * USED_EVERY

    async def test_it_ends_after_90_days_with_what_it_has_open(self, kept: KeptAccounts) -> None:
        # SEC-87, SEC-16
        ada = await kept.register()
        await add_token(kept, ada)
        await kept.pass_time(TOKEN_KEPT - timedelta(minutes=10))
        assert await kept.tokens.who(digest_of("nightly")) is not None
        swept = await kept.accounts.sweep()
        assert swept.tokens == 0
        assert swept.next_in_s is not None
        assert 540 < swept.next_in_s <= 600
        await kept.pass_time(timedelta(minutes=10))
        assert await kept.tokens.who(digest_of("nightly")) is None
        assert await kept.tokens.of_user(ada.user_id) == []
        assert (await kept.accounts.sweep()).tokens == 1
        assert await kept.sessions_over("nightly") == {"nightly"}
        assert (await kept.accounts.sweep()).tokens == 0

    async def test_its_owner_revokes_it_and_nobody_else(self, kept: KeptAccounts) -> None:
        # SEC-87, SEC-116, SEC-130
        ada, eve = await kept.register(), await kept.register("eve")
        made, other = await add_token(kept, ada), await add_token(kept, ada, "other")
        assert not await kept.tokens.revoke(eve.user_id, made.id, ORIGIN)
        assert not await kept.tokens.revoke(ada.user_id, uuid4(), ORIGIN)
        assert await kept.tokens.who(digest_of("nightly")) is not None
        assert await kept.tokens.revoke(ada.user_id, made.id, ORIGIN)
        assert await kept.tokens.who(digest_of("nightly")) is None
        assert await kept.sessions_over("nightly", "other", "ada") == {"nightly"}
        assert not await kept.tokens.revoke(ada.user_id, made.id, ORIGIN)
        assert not await kept.tokens.revoke(ada.user_id, made.id, ORIGIN, because=BY_OPERATOR)
        assert [one.id for one in await kept.tokens.of_user(ada.user_id)] == [other.id]
        acts = [one for one in await acts_of(kept, ada.user_id) if "Token" in one]
        assert acts == ["ApiTokenAdded", "ApiTokenAdded", "ApiTokenRevoked"]

    async def test_of_many_at_once_twenty_are_made(self, kept: KeptAccounts) -> None:
        # SEC-87
        ada, told = await kept.register(), list[ApiToken | NotAdded]()
        reference = await reference_of(kept, "ada")

        async def add(number: int) -> None:
            new = new_token(ada.user_id, reference, f"t{number}")
            told.append(await kept.tokens.add(new, ORIGIN))

        async with trio.open_nursery() as nursery:
            for number in range(TOKENS_PER_USER_MAX + 5):
                nursery.start_soon(add, number)
        assert told.count(NotAdded.TOO_MANY) == 5
        assert len(await kept.tokens.of_user(ada.user_id)) == TOKENS_PER_USER_MAX
        # Those that are over take no place.
        await kept.pass_time(TOKEN_KEPT)
        await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("later"))
        new = new_token(ada.user_id, await reference_of(kept, "later"), "new")
        assert isinstance(await kept.tokens.add(new, ORIGIN), ApiToken)

    async def test_a_sign_in_that_is_over_makes_none(self, kept: KeptAccounts) -> None:
        # SEC-87, SEC-17
        ada, eve = await kept.register(), await kept.register("eve")
        of_ada, told = await reference_of(kept, "ada"), mail("told")
        of_other = replace(new_token(eve.user_id, of_ada, "of another"), outbox=[told])
        assert await kept.tokens.add(of_other, ORIGIN) is NotAdded.ENDED
        await kept.accounts.sign_out(SessionId("ada"))
        assert await kept.tokens.add(new_token(ada.user_id, of_ada, "t"), ORIGIN) is NotAdded.ENDED
        assert await kept.tokens.of_user(ada.user_id) == []
        assert "ApiTokenAdded" not in await acts_of(kept, ada.user_id)
        assert await kept.outbox.add([told]) == 1, "nobody was told of what was not made"

    async def test_what_ends_all_of_an_account_ends_its_tokens(self, kept: KeptAccounts) -> None:
        # SEC-16, SEC-17, SEC-87
        async def with_token(name: str) -> NewAccount:
            owner = await kept.register(name)
            await add_token(kept, owner, f"token of {name}")
            return owner

        deleted, told, demoted = [await with_token(name) for name in ("del", "opr", "role")]
        changed, kept_it, doubted = [await with_token(name) for name in ("pwd", "keep", "doubt")]
        assert not await kept.accounts.delete(deleted.user_id, OTHER_HASH, by=None)
        assert await kept.tokens.who(digest_of("token of del")) is not None, "nothing was done"
        assert await kept.accounts.delete(deleted.user_id, HASH, by=None)
        # Also one who has no sign-in any more.
        await kept.accounts.sign_out(SessionId("opr"))
        assert await kept.accounts.revoke(user_id=told.user_id) == 1
        await kept.accounts.grant("role", Role.MODERATOR)
        assert await kept.tokens.who(digest_of("token of role")) is not None
        await kept.accounts.grant("role", Role.USER)
        for owner, ends_others in ((changed, True), (kept_it, False)):
            name = owner.username
            change = NewPassword(
                owner.user_id,
                HASH,
                OTHER_HASH,
                await reference_of(kept, name),
                digest_of(f"new {name}"),
                ends_others,
            )
            assert await kept.accounts.change_password(change)
        now = (await kept.tokens.of_user(doubted.user_id))[0].expires_at
        await kept.disavowals.disavow(Disavowal(doubted.user_id, digest_of("mail"), now), ORIGIN)
        names = ("del", "opr", "role", "pwd", "keep", "doubt")
        over = {f"token of {name}" for name in names if name != "keep"}
        assert await kept.sessions_over(*(f"token of {name}" for name in names)) == over
        for name in names:
            member = await kept.tokens.who(digest_of(f"token of {name}"))
            assert (member is not None) == (name == "keep"), name
        assert demoted.user_id != told.user_id
        assert (await acts_of(kept, told.user_id))[-1] == "ApiTokenRevoked"

    async def test_a_passkey_ends_them_with_the_other_sign_ins(self, kept: KeptAccounts) -> None:
        # SEC-17
        ada = await kept.register()
        for number, ends_others in enumerate((False, True)):
            await add_token(kept, ada, f"t{number}")
            digest = digest_of("ada")
            new = NewPasskey(
                uuid4(),
                ada.user_id,
                b"key%d" % number,
                b"public",
                await reference_of(kept, "ada"),
                digest,
                ends_others=ends_others,
            )
            await kept.passkeys.add(new, ORIGIN)
            found = await kept.tokens.of_user(ada.user_id)
            assert [one.name for one in found] == ([] if ends_others else ["t0"])
        assert await kept.sessions_over("t0", "t1") == {"t0", "t1"}

    async def test_an_operator_ends_all_with_the_sign_ins(self, kept: KeptAccounts) -> None:
        # SEC-16
        ada, bob = await kept.register(), await kept.register("bob")
        await add_token(kept, ada)
        await kept.accounts.grant("bob", Role.ADMIN)
        one = await reference_of(kept, "ada")
        assert await kept.accounts.revoke(reference=one) == 1
        assert await kept.tokens.who(digest_of("nightly")) is not None, "one sign-in is that one"
        by = Operator(bob.user_id, await reference_of(kept, "bob"))
        assert await kept.accounts.revoke(by=by, origin=ORIGIN) == 2
        assert await kept.tokens.who(digest_of("nightly")) is None
