"""Links that sign in, as tests. Fixture `kept`, empty."""

from uuid import uuid4

import trio

from actors.accounts import NO_PASSWORD, AuditQuery, user_stream
from actors.accounts.ways.links import (
    LINK_KEPT,
    NAMES_TRIED,
    WRONG_CODES_MAX,
    Entered,
    LinkClaim,
    Newcomer,
    NewLink,
    code_digest,
    digest_of,
    mailbox_of,
)
from actors.persistence import OutboxMessage
from storage.testing.accounts.members import MINUTE, SECOND, KeptAccounts, sign_in_of

FLOW, CODE = "the flow", "12345678"


def link_of(token: str, email: str = "ada@example.org", *, is_bound: bool = True) -> NewLink:
    """Call this for a link that was asked for in `FLOW`, where `CODE` is shown."""
    return NewLink(
        digest_of(token),
        mailbox_of(email),
        email,
        digest_of(FLOW) if is_bound else None,
        code_digest(token, CODE) if is_bound else None,
    )


def claim_of(token: str, flow: str | None = FLOW, code: str | None = None) -> LinkClaim:
    """Call this for what somebody brings who opens a link."""
    return LinkClaim(
        digest_of(token),
        None if flow is None else digest_of(flow),
        None if code is None else code_digest(token, code),
    )


async def redeem(
    kept: KeptAccounts, claim: LinkClaim, session: str = "by link", *names: str
) -> Entered | None:
    """Open a link."""
    newcomer = Newcomer(uuid4(), names or ("ada",))
    return await kept.links.redeem(claim, newcomer, sign_in_of(session))


async def acts_of(kept: KeptAccounts) -> list[str]:
    """Tell what was done, the oldest first."""
    return [row.action for row in reversed(await kept.audit.search(AuditQuery()))]


class SignInLinksSuite:
    """A link opens once, for a while, where it was asked for."""

    async def test_a_link_signs_in_whose_address_it_is(self, kept: KeptAccounts) -> None:
        # AUTH-1, SEC-83, AUTH-41
        ada = await kept.register()
        await kept.links.issue(link_of("t"), [])
        entered = await redeem(kept, claim_of("t"))
        assert entered == Entered(ada.user_id, "ada", ada.email, is_new=False, ended=0)
        assert len(await kept.accounts.sign_ins(ada.user_id)) == 2
        assert await acts_of(kept) == [
            "account.sign_in", "account.register", "account.email_verified", "account.sign_in",
        ][1:]  # fmt: skip
        events = [one.type async for one in kept.events.load(user_stream(ada.user_id))]
        assert events == ["UserRegistered", "EmailVerified", "UserLoggedIn"]
        # Once: at the second it is verified already.
        await kept.links.issue(link_of("u"), [])
        assert await redeem(kept, claim_of("u"), "again") is not None
        assert (await acts_of(kept)).count("account.email_verified") == 1

    async def test_who_comes_first_by_a_link_is_made_a_member(self, kept: KeptAccounts) -> None:
        # AUTH-2: the first verified login makes the account
        await kept.register()
        await kept.links.issue(link_of("t", "ada@elsewhere.org"), [])
        entered = await redeem(kept, claim_of("t"), "by link", "ada", "ada-000001")
        assert entered is not None
        assert (entered.username, entered.is_new) == ("ada-000001", True)
        found = await kept.accounts.credentials("ada@elsewhere.org")
        assert found is not None
        assert (found.user_id, found.password_hash) == (entered.user_id, NO_PASSWORD)

    async def test_a_link_opens_once(self, kept: KeptAccounts) -> None:
        # SEC-81, AUTH-1
        await kept.register()
        await kept.links.issue(link_of("t"), [])
        found: list[Entered | None] = []

        async def one(number: int) -> None:
            found.append(await redeem(kept, claim_of("t"), f"s{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
        assert [one is None for one in found].count(False) == 1

    async def test_of_two_newcomers_at_once_one_is_made(self, kept: KeptAccounts) -> None:
        # SEC-79: two links to two addresses, one name
        names = ("eve", *(f"eve-{number:06}" for number in range(NAMES_TRIED)))
        found: list[Entered | None] = []
        for number in range(NAMES_TRIED):
            await kept.links.issue(link_of(f"t{number}", f"eve@{number}.example.org"), [])

        async def one(number: int) -> None:
            tried = (names[0], names[number + 1])
            found.append(await redeem(kept, claim_of(f"t{number}"), f"s{number}", *tried))

        async with trio.open_nursery() as nursery:
            for number in range(NAMES_TRIED):
                nursery.start_soon(one, number)
        made = {one.username for one in found if one is not None}
        assert len(made) == NAMES_TRIED
        assert "eve" in made

    async def test_it_is_over_after_ten_minutes(self, kept: KeptAccounts) -> None:
        # SEC-82, AUTH-1: not nearer than a real clock allows
        await kept.register()
        await kept.links.issue(link_of("t"), [])
        await kept.pass_time(LINK_KEPT - MINUTE)
        assert await redeem(kept, claim_of("t"), "early") is not None
        await kept.links.issue(link_of("u"), [])
        await kept.pass_time(LINK_KEPT + SECOND)
        assert await redeem(kept, claim_of("u"), "late") is None

    async def test_a_new_one_voids_the_older_of_its_address(self, kept: KeptAccounts) -> None:
        # AUTH-1, SEC-83
        await kept.register()
        await kept.links.issue(link_of("of bob", "bob@example.org"), [])
        await kept.links.issue(link_of("first"), [])
        await kept.links.issue(link_of("second"), [])
        assert await redeem(kept, claim_of("first"), "one") is None
        assert await redeem(kept, claim_of("second"), "two") is not None
        assert await redeem(kept, claim_of("of bob"), "bob", "bob") is not None

    async def test_elsewhere_it_needs_its_code(self, kept: KeptAccounts) -> None:
        # SEC-82
        await kept.register()
        for token, claim, is_good in (
            ("a", claim_of("a", None), False),
            ("b", claim_of("b", "another flow"), False),
            ("c", claim_of("c", None, CODE), True),
            ("d", claim_of("d", "another flow", CODE), True),
            ("e", claim_of("e", FLOW, "00000000"), True),
            # The code of one link opens no other.
            ("f", LinkClaim(digest_of("f"), None, code_digest("a", CODE)), False),
        ):
            await kept.links.issue(link_of(token), [])
            assert (await redeem(kept, claim, token) is not None) is is_good, token
        await kept.links.issue(link_of("free", is_bound=False), [])
        assert await redeem(kept, claim_of("free", None), "free") is not None

    async def test_wrong_codes_void_it(self, kept: KeptAccounts) -> None:
        # SEC-82, SEC-76: whoever has the link only does not guess its code
        await kept.register()
        await kept.links.issue(link_of("t"), [])
        for _ in range(WRONG_CODES_MAX - 1):
            assert await redeem(kept, claim_of("t", None, "00000000"), "x") is None
        # Without a code nothing is guessed.
        assert await redeem(kept, claim_of("t", None), "x") is None
        assert await redeem(kept, claim_of("t", None, CODE), "in time") is not None
        await kept.links.issue(link_of("u"), [])
        for _ in range(WRONG_CODES_MAX):
            assert await redeem(kept, claim_of("u", None, "00000000"), "x") is None
        assert await redeem(kept, claim_of("u"), "too late") is None

    async def test_the_mail_is_there_with_the_link(self, kept: KeptAccounts) -> None:
        # SEC-83, MAIL-1
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"a link")
        await kept.links.issue(link_of("t"), [mail])
        assert await kept.outbox.add([mail]) == 0

    async def test_who_was_deleted_comes_back_as_somebody_else(self, kept: KeptAccounts) -> None:
        # SITE-47
        ada = await kept.register()
        await kept.links.issue(link_of("t"), [])
        assert await kept.accounts.delete(ada.user_id, ada.password_hash, by=None)
        entered = await redeem(kept, claim_of("t"))
        assert entered is not None
        assert entered.is_new
        assert entered.user_id != ada.user_id
