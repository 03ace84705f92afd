"""Sessions at providers that end, and tokens that are renewed, as tests. Fixture `kept`, empty."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import trio

from actors.accounts import NO_PASSWORD, NOWHERE, AuditQuery, Member, Origin
from actors.accounts.kept.factors import TotpProof
from actors.accounts.members import AtProvider
from actors.accounts.ways.links import Entered, Newcomer
from actors.accounts.ways.provider.identities import (
    ENDED_SESSION_KEPT,
    RENEW_AGAIN,
    RENEW_AGAIN_MAX,
    RENEW_BEFORE,
    RENEW_EVERY,
    Linking,
    Renewal,
    SessionOver,
)
from actors.accounts.ways.provider.words import ProviderTokens, SaidLogout
from actors.runtime import Secret
from storage.testing.accounts.identities import ISSUER, OTHER, linked, member_of, shown_of
from storage.testing.accounts.members import (
    MINUTE,
    SECOND,
    KeptAccounts,
    acts_of,
    add_app,
    digest_of,
    sign_in_of,
)

_FAR_OFF = datetime(2100, 1, 1, tzinfo=UTC)
_BY_WORD = Origin(method="")


async def come(
    kept: KeptAccounts, browser: str, session: str, subject: str = "ada-1", issuer: str = ISSUER
) -> Entered | SessionOver:
    """Sign in by a provider, in one of its sessions."""
    name = f"{subject}-{issuer[8:11]}"
    shown = replace(shown_of(subject, f"{name}@elsewhere.org", issuer), session=session)
    sign_in = replace(sign_in_of(browser), at_provider=AtProvider("example", session))
    newcomer = Newcomer(uuid4(), (name,))
    found = await kept.identities.enter("example", shown, newcomer, sign_in)
    assert isinstance(found, Entered | SessionOver)
    return found


def said(
    session: str | None, subject: str | None = None, *, jti: str = "t", issuer: str = ISSUER
) -> SaidLogout:
    """Call this for what a provider says."""
    return SaidLogout(issuer, jti, _FAR_OFF, subject, session)


class ProviderSessionsSuite:
    """Who leaves a provider is signed out here; what it gave is renewed before it is over."""

    async def test_a_session_that_is_over_there_is_over_here(self, kept: KeptAccounts) -> None:
        # AUTH-13
        entered = await come(kept, "first", "s1")
        assert isinstance(entered, Entered)
        await come(kept, "second", "s1")
        await come(kept, "third", "s2")
        await come(kept, "bob", "s1", "bob-1")
        await come(kept, "elsewhere", "s1", issuer=OTHER)
        assert await kept.identities.log_out(said("s1", "ada-1"), _BY_WORD) == 2
        over = await kept.sessions_over("first", "second", "third", "bob", "elsewhere")
        assert over == {"first", "second"}
        assert await kept.accounts.who(digest_of("first")) is None
        assert await kept.accounts.who(digest_of("third")) is not None
        assert (await acts_of(kept, entered.user_id))[-1] == "UserLoggedOut"
        # Without a session all of that person there; without a person all of the session.
        assert await kept.identities.log_out(said(None, "ada-1", jti="u"), _BY_WORD) == 1
        assert await kept.identities.log_out(said("s1", jti="v"), _BY_WORD) == 1
        assert await kept.accounts.who(digest_of("bob")) is None
        assert await kept.accounts.who(digest_of("elsewhere")) is not None

    async def test_what_a_provider_says_counts_once(self, kept: KeptAccounts) -> None:
        # AUTH-13, SEC-94: of fifty at once one
        await come(kept, "first", "s1")
        found: list[int | None] = []

        async def one() -> None:
            found.append(await kept.identities.log_out(said("s1"), _BY_WORD))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert sorted(one for one in found if one is not None) == [1]
        # Another issuer may call what it says the same.
        assert await kept.identities.log_out(said("s1", issuer=OTHER), _BY_WORD) == 0

    async def test_what_is_under_way_in_it_opens_nothing(self, kept: KeptAccounts) -> None:
        # AUTH-13: the provider says it while somebody comes back from it
        await come(kept, "first", "s1")
        await kept.identities.log_out(said("s1"), _BY_WORD)
        assert await come(kept, "late", "s1") == SessionOver()
        assert await kept.accounts.who(digest_of("late")) is None
        assert isinstance(await come(kept, "next", "s2"), Entered)
        await kept.pass_time(ENDED_SESSION_KEPT + SECOND)
        assert isinstance(await come(kept, "later", "s1"), Entered)

    async def test_nor_behind_a_second_factor(self, kept: KeptAccounts) -> None:
        # AUTH-13, SEC-85
        ada = await add_app(kept)
        member = await kept.accounts.who(digest_of("ada app"))
        assert member is not None
        assert await kept.identities.link(linked(member, shown_of()), NOWHERE) is Linking.DONE
        half = await come(kept, "half", "s1")
        assert isinstance(half, Entered)
        assert half.needs_second
        with_code = replace(
            sign_in_of("whole"), proof=TotpProof(101), at_provider=AtProvider("example", "s1")
        )
        await kept.identities.log_out(said("s1"), _BY_WORD)
        sign_in = kept.accounts.sign_in
        assert await sign_in(ada.user_id, ada.password_hash, with_code) is None
        other = replace(with_code, at_provider=AtProvider("example", "s2"))
        assert await sign_in(ada.user_id, ada.password_hash, other) == 0
        assert await kept.identities.log_out(said("s2", jti="u"), _BY_WORD) == 1
        # Unlinked meanwhile: it is nobody's.
        gone = replace(with_code, at_provider=AtProvider("other", "s3"))
        assert await sign_in(ada.user_id, ada.password_hash, gone) is None

    async def test_where_a_sign_in_began_is_known(self, kept: KeptAccounts) -> None:
        # AUTH-13
        entered = await come(kept, "first", "")
        assert isinstance(entered, Entered)
        (one,) = await kept.accounts.sign_ins(entered.user_id)
        assert await kept.identities.provider_of(one.reference) == AtProvider("example")
        _, bob = await member_of(kept, "bob")
        assert await kept.identities.provider_of(bob.reference) is None
        assert await kept.identities.provider_of(uuid4()) is None
        await kept.accounts.sign_in(entered.user_id, NO_PASSWORD, sign_in_of("new", "first"))
        assert await kept.identities.provider_of(one.reference) is None

    async def test_tokens_are_due_before_they_are_over(self, kept: KeptAccounts) -> None:
        # AUTH-6
        ada, tokens = await with_tokens(kept, timedelta(hours=1))
        await kept.pass_time(timedelta(hours=1) - RENEW_BEFORE - MINUTE)
        assert await kept.identities.claim_renewals(["example"], 10) == []
        await kept.pass_time(MINUTE + SECOND)
        assert await kept.identities.claim_renewals(["other"], 10) == []
        due = [Renewal(ada.user_id, "example")]
        assert await kept.identities.claim_renewals(["example"], 10) == due
        # One who came to nothing, or died, leaves them for later; each time for longer.
        wait = RENEW_AGAIN
        for _ in range(9):
            await kept.pass_time(wait / 2)
            assert await kept.identities.claim_renewals(["example"], 10) == []
            await kept.pass_time(wait / 2 + SECOND)
            assert await kept.identities.claim_renewals(["example"], 10) == due
            wait = min(wait * 2, RENEW_AGAIN_MAX)
        # However short a life is.
        short = replace(
            tokens, access=Secret("second"), access_until=datetime(2000, 1, 1, tzinfo=UTC)
        )
        assert await kept.identities.renew_tokens(ada.user_id, "example", tokens, short)
        assert await kept.identities.claim_renewals(["example"], 10) == []
        await kept.pass_time(RENEW_EVERY + SECOND)
        assert await kept.identities.claim_renewals(["example"], 10) == due
        await kept.pass_time(RENEW_AGAIN / 2)
        assert await kept.identities.claim_renewals(["example"], 10) == [], "counted anew"

    async def test_what_cannot_be_renewed_is_never_due(self, kept: KeptAccounts) -> None:
        # AUTH-6
        _, ada = await member_of(kept)
        soon = datetime(2000, 1, 1, tzinfo=UTC)
        for tokens in (
            ProviderTokens(Secret("a"), soon),
            ProviderTokens(Secret("a"), None, Secret("r"), soon),
        ):
            shown = replace(shown_of(), tokens=tokens)
            await kept.identities.link(linked(ada, shown), NOWHERE)
            await kept.pass_time(timedelta(days=1))
            assert await kept.identities.claim_renewals(["example"], 10) == []

    async def test_of_two_who_claim_one_gets_it(self, kept: KeptAccounts) -> None:
        # AUTH-6: on two nodes
        await with_tokens(kept, timedelta(0))
        await kept.pass_time(RENEW_EVERY + SECOND)
        found: list[Renewal] = []

        async def one() -> None:
            found.extend(await kept.identities.claim_renewals(["example"], 10))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert len(found) == 1

    async def test_tokens_that_are_taken_back_are_gone(self, kept: KeptAccounts) -> None:
        # AUTH-6
        ada, tokens = await with_tokens(kept, timedelta(0))
        other = replace(tokens, access=Secret("other"))
        drop = kept.identities.drop_tokens
        assert not await drop(ada.user_id, "example", other, _BY_WORD)
        assert [one.is_refused for one in await kept.identities.of_user(ada.user_id)] == [False]
        assert await drop(ada.user_id, "example", tokens, _BY_WORD)
        assert not await drop(ada.user_id, "example", tokens, _BY_WORD)
        assert await kept.identities.tokens(ada.user_id, "example") is None
        assert [one.is_refused for one in await kept.identities.of_user(ada.user_id)] == [True]
        assert not await kept.identities.renew_tokens(ada.user_id, "example", tokens, other)
        await kept.pass_time(RENEW_EVERY + SECOND)
        assert await kept.identities.claim_renewals(["example"], 10) == []
        assert "account.provider_tokens" in [
            row.action for row in await kept.audit.search(AuditQuery())
        ]
        # Who comes by it again has others.
        assert isinstance(await come(kept, "again", "s"), Entered)
        assert await kept.identities.tokens(ada.user_id, "example") is not None
        assert [one.is_refused for one in await kept.identities.of_user(ada.user_id)] == [False]


async def with_tokens(kept: KeptAccounts, life: timedelta) -> tuple[Member, ProviderTokens]:
    """Register somebody whose provider gave tokens that are over so long from now."""
    _, ada = await member_of(kept)
    (now,) = [one.created_at for one in await kept.accounts.sign_ins(ada.user_id)]
    tokens = ProviderTokens(Secret("first"), now + life, Secret("refresh"), now)
    shown = replace(shown_of(), tokens=tokens)
    assert await kept.identities.link(linked(ada, shown), NOWHERE) is Linking.DONE
    return ada, tokens
