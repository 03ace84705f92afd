"""Identities at providers, as tests. Fixture `kept`, empty."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import trio

from actors.accounts import NO_PASSWORD, NOWHERE, Member, NewAccount, user_stream
from actors.accounts.ways.left import OfferedWays
from actors.accounts.ways.links import Entered, Newcomer
from actors.accounts.ways.passkeys import Added, NewPasskey, Removal, Removed
from actors.accounts.ways.provider.identities import (
    REFRESH_KEPT,
    USED_STATE_KEPT,
    AddressTaken,
    Linking,
    NewIdentity,
    SessionOver,
    Unlinking,
)
from actors.accounts.ways.provider.words import Identity, ProviderTokens, Shown
from actors.persistence import OutboxMessage
from actors.runtime import Secret
from storage.testing.accounts.links import acts_of
from storage.testing.accounts.members import MINUTE, SECOND, KeptAccounts, digest_of, sign_in_of

ISSUER, OTHER = "https://id.example.org", "https://other.example.org"


def shown_of(
    subject: str = "ada-1",
    email: str = "ada@elsewhere.org",
    issuer: str = ISSUER,
    token: str = "access",  # noqa: S107 - a word
) -> Shown:
    """Call this for what a provider shows of somebody."""
    return Shown(Identity(issuer, subject), email, ProviderTokens(Secret(token)))


async def enter(
    kept: KeptAccounts, shown: Shown, session: str = "by provider", *names: str
) -> Entered | AddressTaken | SessionOver | None:
    """Sign in by an identity."""
    newcomer = Newcomer(uuid4(), names or ("ada", "ada-000001"))
    return await kept.identities.enter("example", shown, newcomer, sign_in_of(session))


async def member_of(kept: KeptAccounts, name: str = "ada") -> tuple[NewAccount, Member]:
    """Register somebody, and give them with the sign-in they have."""
    account = await kept.register(name)
    member = await kept.accounts.who(digest_of(name))
    assert member is not None
    return account, member


def linked(member: Member, shown: Shown, provider: str = "example") -> NewIdentity:
    """Call this for an identity to be linked by a member."""
    return NewIdentity(member.user_id, member.reference, provider, shown)


def gone(
    member: Member,
    provider: str = "example",
    *,
    has_link: bool = False,
    offered: tuple[str, ...] = (),
) -> Unlinking:
    """Call this for an identity to be unlinked by a member."""
    ways = OfferedWays(has_link=has_link, has_passkeys=True, providers=offered)
    return Unlinking(member.user_id, member.reference, provider, ways)


class IdentitiesSuite:
    """An identity is one account's, and signs in to it."""

    async def test_who_comes_first_by_a_provider_is_made_a_member(self, kept: KeptAccounts) -> None:
        # AUTH-6, AUTH-41, SEC-93
        entered = await enter(kept, shown_of())
        assert isinstance(entered, Entered)
        assert (entered.username, entered.email, entered.is_new) == (
            "ada",
            "ada@elsewhere.org",
            True,
        )
        found = await kept.accounts.credentials("ada@elsewhere.org")
        assert found is not None
        assert (found.user_id, found.password_hash) == (entered.user_id, NO_PASSWORD)
        acts = ("register", "email_verified", "provider_link", "sign_in")
        assert await acts_of(kept) == [f"account.{act}" for act in acts]
        events = [one.type async for one in kept.events.load(user_stream(entered.user_id))]
        assert events == ["UserRegistered", "EmailVerified", "OAuthAccountLinked", "UserLoggedIn"]
        again = await enter(kept, shown_of(email="ada@new.org"), "again")
        assert again == Entered(entered.user_id, "ada", "ada@elsewhere.org", is_new=False, ended=0)

    async def test_an_address_alone_is_nobody(self, kept: KeptAccounts) -> None:
        # SEC-93, AUTH-6: an attacker with the same address, verified by the provider
        ada, member = await member_of(kept)
        before = await acts_of(kept)
        assert await enter(kept, shown_of("eve", ada.email)) == AddressTaken()
        assert await enter(kept, shown_of("eve", ada.email, OTHER)) == AddressTaken()
        assert await acts_of(kept) == before
        assert not await kept.identities.of_user(member.user_id)
        # And one who has an identity keeps it, whatever address comes with it.
        assert await kept.identities.link(linked(member, shown_of()), NOWHERE) is Linking.DONE
        entered = await enter(kept, shown_of(email="eve@example.org"), "in")
        assert isinstance(entered, Entered)
        assert entered.user_id == ada.user_id
        # The subject of another issuer is another person.
        other = await enter(kept, shown_of(issuer=OTHER), "other", "other")
        assert isinstance(other, Entered)
        assert other.user_id != ada.user_id

    async def test_a_state_is_used_once(self, kept: KeptAccounts) -> None:
        # SEC-91
        found: list[bool] = []

        async def one() -> None:
            found.append(await kept.identities.use_state(b"s" * 32))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert sorted(found)[-2:] == [False, True]
        # Until nobody can come back with it any more; then it is forgotten.
        await kept.pass_time(USED_STATE_KEPT - MINUTE)
        assert await kept.identities.use_state(b"t" * 32)
        assert not await kept.identities.use_state(b"s" * 32)
        await kept.pass_time(2 * MINUTE)
        assert await kept.identities.use_state(b"u" * 32)
        assert await kept.identities.use_state(b"s" * 32)

    async def test_of_newcomers_at_once_one_is_made(self, kept: KeptAccounts) -> None:
        # SEC-79, SEC-93: one identity, and one address of two
        found: list[Entered | AddressTaken | SessionOver | None] = []

        async def one(number: int) -> None:
            shown = shown_of(f"ada-{number % 2}", "one@elsewhere.org")
            found.append(await enter(kept, shown, f"s{number}", f"name-{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(one, number)
        made = {one.user_id for one in found if isinstance(one, Entered)}
        assert len(made) == 1
        assert sum(one == AddressTaken() for one in found) == 3
        assert (await acts_of(kept)).count("account.register") == 1

    async def test_an_identity_is_linked_by_its_account_alone(self, kept: KeptAccounts) -> None:
        # AUTH-6, AUTH-41
        _, ada = await member_of(kept)
        _, bob = await member_of(kept, "bob")
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"linked")
        new = NewIdentity(ada.user_id, ada.reference, "example", shown_of(), [mail])
        assert await kept.identities.link(new, NOWHERE) is Linking.DONE
        assert await kept.outbox.add([mail]) == 0
        (one,) = await kept.identities.of_user(ada.user_id)
        assert (one.identity, one.provider) == (Identity(ISSUER, "ada-1"), "example")
        assert await kept.identities.link(linked(ada, shown_of()), NOWHERE) is Linking.DONE
        assert await kept.identities.link(linked(bob, shown_of()), NOWHERE) is Linking.NOT_THEIRS
        second = linked(ada, shown_of("ada-2"))
        assert await kept.identities.link(second, NOWHERE) is Linking.TWICE
        await kept.accounts.end_sign_in(ada.user_id, ada.reference, by=ada.reference)
        late = linked(ada, shown_of("ada-3"), "late")
        assert await kept.identities.link(late, NOWHERE) is Linking.OVER
        assert len(await kept.identities.of_user(ada.user_id)) == 1
        assert (await acts_of(kept)).count("account.provider_link") == 1

    async def test_the_last_way_in_stays(self, kept: KeptAccounts) -> None:
        # SEC-107, AUTH-6
        entered = await enter(kept, shown_of(), "s")
        assert isinstance(entered, Entered)
        member = await kept.accounts.who(digest_of("s"))
        assert member is not None
        unlink = kept.identities.unlink
        assert await unlink(gone(member), NOWHERE) is Linking.LAST_WAY
        assert await unlink(gone(member, "other"), NOWHERE) is Linking.NOT_THEIRS
        other = linked(member, shown_of("ada-2", issuer=OTHER), "other")
        assert await kept.identities.link(other, NOWHERE) is Linking.DONE
        # One of a provider that is offered no more opens nothing.
        assert await unlink(gone(member), NOWHERE) is Linking.LAST_WAY
        found: list[Linking] = []

        async def one(provider: str) -> None:
            found.append(
                await unlink(gone(member, provider, offered=("example", "other")), NOWHERE)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "example")
            nursery.start_soon(one, "other")
        assert sorted(found) == [Linking.DONE, Linking.LAST_WAY]
        (left,) = await kept.identities.of_user(member.user_id)
        assert await unlink(gone(member, left.provider, has_link=True), NOWHERE) is Linking.DONE
        events = [one.type async for one in kept.events.load(user_stream(member.user_id))]
        assert events[-2:] == ["OAuthAccountUnlinked"] * 2

    async def test_of_a_passkey_and_a_provider_one_stays(self, kept: KeptAccounts) -> None:
        # SEC-107: one rule on both sides, also when a removal and an unlinking race
        for round_ in range(4):
            name = f"s{round_}"
            entered = await enter(kept, shown_of(name, f"{name}@example.org"), name, name)
            assert isinstance(entered, Entered)
            member = await kept.accounts.who(digest_of(name))
            assert member is not None
            ways = OfferedWays(has_passkeys=True, providers=("example",))
            key = NewPasskey(
                uuid4(), member.user_id, name.encode(), b"public", member.reference,
                digest_of(name), ends_others=False,
            )  # fmt: skip
            unlinking = Unlinking(member.user_id, member.reference, "example", ways)
            removal = Removal(
                key.id, member.user_id, member.reference, digest_of(name), ways, ends_others=False
            )
            assert await kept.identities.unlink(unlinking, NOWHERE) is Linking.LAST_WAY
            assert await kept.passkeys.add(key, NOWHERE) is Added.DONE
            # A way that is switched off opens nothing.
            off = OfferedWays(providers=("example",))
            closed = replace(unlinking, offered=off)
            assert await kept.identities.unlink(closed, NOWHERE) is Linking.LAST_WAY
            elsewhere = replace(removal, offered=OfferedWays(has_passkeys=True))
            assert await kept.passkeys.remove(elsewhere, NOWHERE) is Removed.LAST
            told: list[str] = []

            async def unlink(unlinking: Unlinking = unlinking, told: list[str] = told) -> None:
                told.append(await kept.identities.unlink(unlinking, NOWHERE))

            async def remove(removal: Removal = removal, told: list[str] = told) -> None:
                told.append(await kept.passkeys.remove(removal, NOWHERE))

            async with trio.open_nursery() as nursery:
                for act in (unlink, remove) if round_ % 2 else (remove, unlink):
                    nursery.start_soon(act)
            left = len(await kept.identities.of_user(member.user_id))
            left += len(await kept.passkeys.of_user(member.user_id))
            assert left == 1
            assert sorted(told) in (["done", "last"], ["done", "last_way"])

    async def test_a_password_is_a_way_in(self, kept: KeptAccounts) -> None:
        # SEC-107
        _, ada = await member_of(kept)
        await kept.identities.link(linked(ada, shown_of()), NOWHERE)
        assert await kept.identities.unlink(gone(ada), NOWHERE) is Linking.DONE
        assert await enter(kept, shown_of(), "new", "new") != Entered(
            ada.user_id, "ada", ada.email, is_new=False, ended=0
        )

    async def test_what_is_deleted_signs_nobody_in(self, kept: KeptAccounts) -> None:
        # SITE-47
        ada, member = await member_of(kept)
        await kept.identities.link(linked(member, shown_of()), NOWHERE)
        assert await kept.accounts.delete(ada.user_id, ada.password_hash, by=None)
        entered = await enter(kept, shown_of())
        assert isinstance(entered, Entered)
        assert entered.is_new
        assert entered.user_id != ada.user_id

    async def test_tokens_are_kept_for_who_they_are_of(self, kept: KeptAccounts) -> None:
        # AUTH-6, SEC-96
        _, ada = await member_of(kept)
        since = datetime.now(UTC)
        tokens = ProviderTokens(
            Secret("first"), since, Secret("refresh"), since, Secret("shown"), "s1"
        )
        shown = Shown(Identity(ISSUER, "ada-1"), "ada@elsewhere.org", tokens)
        await kept.identities.link(linked(ada, shown), NOWHERE)
        found = await self._tokens(kept, ada.user_id)
        assert found == ("first", since, "refresh", since, "shown", "s1")
        assert await kept.identities.tokens(uuid4(), "example") is None
        assert await kept.identities.tokens(ada.user_id, "other") is None
        renewed = ProviderTokens(Secret("second"))
        assert await kept.identities.renew_tokens(ada.user_id, "example", tokens, renewed)
        # Of two who renew at once the slower one finds that it was done.
        assert not await kept.identities.renew_tokens(ada.user_id, "example", tokens, tokens)
        assert await self._tokens(kept, ada.user_id) == ("second", None, None, None, None, "")

    async def test_a_refresh_token_is_over_by_its_own_term(self, kept: KeptAccounts) -> None:
        # AUTH-6, SEC-96
        _, ada = await member_of(kept)
        for since, is_there in ((REFRESH_KEPT + SECOND, False), (REFRESH_KEPT - SECOND * 60, True)):
            began = datetime.now(UTC) - since
            if not is_there:
                began = min(began, datetime(2020, 1, 1, tzinfo=UTC))
            tokens = ProviderTokens(Secret("a"), None, Secret("r"), began)
            shown = Shown(Identity(ISSUER, "ada-1"), "ada@elsewhere.org", tokens)
            await kept.identities.link(linked(ada, shown), NOWHERE)
            found = await self._tokens(kept, ada.user_id)
            assert found is not None
            assert (found[2] is not None) is is_there

    @staticmethod
    async def _tokens(kept: KeptAccounts, user_id: UUID) -> tuple[object, ...] | None:
        found = await kept.identities.tokens(user_id, "example")
        if found is None:
            return None
        refresh = None if found.refresh is None else found.refresh.reveal()
        id_token = None if found.id_token is None else found.id_token.reveal()
        ends = (found.access_until, refresh, found.refresh_since)
        return (found.access.reveal(), *ends, id_token, found.id_session)
