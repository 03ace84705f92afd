"""Passkeys, as tests. Fixture `kept`, empty."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import (
    NO_PASSWORD,
    AuditQuery,
    Level,
    NewAccount,
    NewPassword,
    Origin,
    StepUp,
)
from actors.accounts.kept.factors import CodeProof, PasskeyProof
from actors.accounts.ways.left import OfferedWays
from actors.accounts.ways.passkeys import (
    CHALLENGE_KEPT,
    PASSKEY_NAME_MAX,
    PASSKEYS_PER_USER_MAX,
    Added,
    Ceremony,
    ChallengeClaim,
    NewChallenge,
    NewPasskey,
    Removal,
    Removed,
    Taken,
)
from actors.persistence import OutboxMessage
from storage.errors import InvalidField
from storage.testing.accounts.members import (
    CODES,
    HASH,
    MINUTE,
    SECOND,
    KeptAccounts,
    acts_of,
    digest_of,
    sign_in_of,
    sign_in_with,
)

ORIGIN = Origin(method="passkey")


async def new_passkey(kept: KeptAccounts, name: str = "ada", key: str = "key") -> NewPasskey:
    """Call this for a passkey to be added from the sign-in of that name."""
    member = await kept.accounts.who(digest_of(name))
    assert member is not None
    return NewPasskey(
        uuid4(), member.user_id, key.encode(), b"public", member.reference, digest_of(name),
        codes=CODES, ends_others=False, name=f"{key} of {name}",
    )  # fmt: skip


async def with_passkey(
    kept: KeptAccounts, name: str = "ada", key: str = "key"
) -> tuple[NewAccount, NewPasskey]:
    """Call this to register somebody who has a passkey."""
    account = await kept.register(name)
    new = await new_passkey(kept, name, key)
    assert await kept.passkeys.add(new, ORIGIN) is Added.DONE
    return account, new


def used(new: NewPasskey, sign_count: int = 0, *, is_verified: bool = True) -> PasskeyProof:
    """Call this for the proof that a passkey has signed."""
    return PasskeyProof(new.credential_id, sign_count, is_verified)


async def removal_of(kept: KeptAccounts, new: NewPasskey, name: str = "ada") -> Removal:
    """Call this for the removal of a passkey, from the sign-in of that name."""
    member = await kept.accounts.who(digest_of(name))
    assert member is not None
    return Removal(
        new.id, new.user_id, member.reference, digest_of(name),
        OfferedWays(has_passkeys=True), ends_others=False,
    )  # fmt: skip


class PasskeysSuite:
    """A challenge is answered once, a counter never falls, and nobody is locked out."""

    async def test_a_challenge_is_taken_once_and_where_it_was_issued(
        self, kept: KeptAccounts
    ) -> None:
        # SEC-100, AUTH-7: replay, another browser, another ceremony, 50 in parallel
        bound, whose = digest_of("browser"), uuid4()
        made = NewChallenge(digest_of("c"), Ceremony.SIGN_IN, bound, whose)
        claim = ChallengeClaim(made.digest, made.ceremony, bound)
        assert await kept.passkeys.take(claim) is None
        await kept.passkeys.issue(made)
        for wrong in (
            replace(claim, ceremony=Ceremony.REGISTER),
            replace(claim, ceremony=Ceremony.PROVE),
            replace(claim, bound=digest_of("another")),
            replace(claim, digest=digest_of("d")),
        ):
            assert await kept.passkeys.take(wrong) is None
        found: list[Taken | None] = []

        async def one() -> None:
            found.append(await kept.passkeys.take(claim))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert [one for one in found if one is not None] == [Taken(whose, None)]
        assert len(found) == 50

    async def test_a_challenge_is_over_after_five_minutes(self, kept: KeptAccounts) -> None:
        # SEC-100, AUTH-7
        bound = digest_of("browser")
        for name, so_long, is_good in (
            ("early", CHALLENGE_KEPT - MINUTE, True),
            ("late", CHALLENGE_KEPT + SECOND, False),
        ):
            await kept.passkeys.issue(NewChallenge(digest_of(name), Ceremony.REGISTER, bound))
            await kept.pass_time(so_long)
            claim = ChallengeClaim(digest_of(name), Ceremony.REGISTER, bound)
            assert (await kept.passkeys.take(claim) is not None) is is_good

    async def test_a_passkey_is_kept_and_found_by_what_is_asked(self, kept: KeptAccounts) -> None:
        # AUTH-7, AUTH-22, AUTH-41, SEC-13, SEC-104
        account = await kept.register()
        assert await kept.passkeys.of_email(account.email) == (account.user_id, ())
        new = replace(
            await new_passkey(kept), digest=digest_of("new"), sign_count=2**32 - 1,
            is_backup_eligible=True, is_backed_up=True, is_attested=True,
        )  # fmt: skip
        assert await kept.passkeys.add(new, ORIGIN) is Added.DONE
        (passkey,) = await kept.passkeys.of_user(account.user_id)
        assert (passkey.id, passkey.credential_id, passkey.public_key) == (
            new.id,
            b"key",
            b"public",
        )
        assert passkey.sign_count == 2**32 - 1
        assert passkey.is_backup_eligible
        assert passkey.is_backed_up
        assert passkey.is_attested
        assert (passkey.name, passkey.used_at, passkey.flagged_at) == ("key of ada", None, None)
        assert await kept.passkeys.of_email(account.email) == (account.user_id, (b"key",))
        assert await kept.passkeys.of_email("nobody@example.org") == (None, ())
        bound = digest_of("browser")
        await kept.passkeys.issue(NewChallenge(digest_of("c"), Ceremony.SIGN_IN, bound))
        claim = ChallengeClaim(digest_of("c"), Ceremony.SIGN_IN, bound, b"key")
        assert await kept.passkeys.take(claim) == Taken(None, passkey)
        assert await kept.accounts.who(digest_of("ada")) is None, "a new token"
        member = await kept.accounts.who(digest_of("new"))
        assert member is not None
        assert (member.level, member.has_second, member.is_fresh) == (2, True, True)
        held = await kept.factors.held(account.user_id)
        assert (held.passkeys_count, held.codes_left, held.has_second) == (1, 10, True)
        assert await acts_of(kept, account.user_id) == ["UserRegistered", "PasskeyRegistered"]

    async def test_one_id_is_one_key_of_one_account(self, kept: KeptAccounts) -> None:
        # SEC-104, SEC-107: 409, whosever it is; one that is over adds nothing
        _, new = await with_passkey(kept)
        await kept.register("bob")
        for name in ("bob", "ada"):
            again = await new_passkey(kept, name)
            assert await kept.passkeys.add(again, ORIGIN) is Added.KNOWN
        over = replace(await new_passkey(kept, "bob", "other"), reference=uuid4())
        assert await kept.passkeys.add(over, ORIGIN) is Added.OVER
        assert (await kept.factors.held(over.user_id)).codes_left == 0
        for number in range(PASSKEYS_PER_USER_MAX - 1):
            more = await new_passkey(kept, "ada", f"key {number}")
            assert await kept.passkeys.add(more, ORIGIN) is Added.DONE
        more = await new_passkey(kept, "ada", "one more")
        assert await kept.passkeys.add(more, ORIGIN) is Added.TOO_MANY
        assert len(await kept.passkeys.of_user(new.user_id)) == PASSKEYS_PER_USER_MAX

    async def test_a_passkey_signs_in_and_tells_of_its_use(self, kept: KeptAccounts) -> None:
        # AUTH-7, AUTH-22, AUTH-41, SEC-13
        account, new = await with_passkey(kept)
        sign_in = replace(sign_in_of("by key", "ada"), level=Level.MULTI_FACTOR)
        entered = await kept.passkeys.enter(account.user_id, used(new), sign_in, ORIGIN)
        assert entered is not None
        assert (entered.username, entered.needs_second) == ("ada", False)
        member = await kept.accounts.who(digest_of("by key"))
        assert member is not None
        assert member.level is Level.MULTI_FACTOR
        assert await kept.sessions_over("ada") == {"ada"}
        (passkey,) = await kept.passkeys.of_user(account.user_id)
        assert passkey.used_at is not None
        assert (await acts_of(kept, account.user_id))[2:] == ["PasskeyUsed", "UserLoggedIn"]
        assert await kept.passkeys.enter(uuid4(), used(new), sign_in_of("x"), ORIGIN) is None

    async def test_an_unverified_user_has_shown_one_factor(self, kept: KeptAccounts) -> None:
        # SEC-102, SEC-85, AUTH-9
        account, new = await with_passkey(kept)
        plain = used(new, is_verified=False)
        entered = await kept.passkeys.enter(account.user_id, plain, sign_in_of("half"), ORIGIN)
        assert entered is not None
        assert entered.needs_second
        assert await kept.accounts.who(digest_of("half")) is None
        sign_in = sign_in_with("second", plain)
        assert await kept.accounts.sign_in(account.user_id, HASH, sign_in) is None
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        step = StepUp(account.user_id, member.reference, digest_of("step"), proof=plain)
        assert not await kept.accounts.step_up(step)

    async def test_a_passkey_is_a_second_factor(self, kept: KeptAccounts) -> None:
        # AUTH-9, AUTH-1, SEC-85: also for a password; the codes are the spare
        account, new = await with_passkey(kept)
        assert await kept.accounts.sign_in(account.user_id, HASH, sign_in_of("plain")) is None
        for session, proof in (("key", used(new)), ("code", CodeProof(CODES[0]))):
            sign_in = sign_in_with(session, proof)
            assert await kept.accounts.sign_in(account.user_id, HASH, sign_in) == 0
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        step = StepUp(
            account.user_id, member.reference, digest_of("step"), Level.HARDWARE_BACKED,
            proof=used(new),
        )  # fmt: skip
        assert await kept.accounts.step_up(step, ORIGIN)
        raised = await kept.accounts.who(digest_of("step"))
        assert raised is not None
        assert raised.level is Level.HARDWARE_BACKED
        assert "PasskeyUsed" in await acts_of(kept, account.user_id)

    @pytest.mark.parametrize(
        ("before", "told", "is_good"),
        [
            (0, 0, True), (0, 1, True), (1, 2, True), (2**32 - 2, 2**32 - 1, True),
            (1, 1, False), (1, 0, False), (2**32 - 1, 2**32 - 2, False), (5, 4, False),
        ],
    )  # fmt: skip
    async def test_a_counter_never_falls(
        self, kept: KeptAccounts, before: int, told: int, is_good: bool
    ) -> None:
        # SEC-103, AUTH-7, AUTH-41
        account = await kept.register()
        new = replace(await new_passkey(kept), sign_count=before)
        assert await kept.passkeys.add(new, ORIGIN) is Added.DONE
        mail, proof = OutboxMessage(uuid4(), "mail", "mail", "k", b"fell"), used(new, told)
        entered = await kept.passkeys.enter(account.user_id, proof, sign_in_of("x"), ORIGIN)
        assert (entered is not None) is is_good
        if is_good:
            return
        (passkey,) = await kept.passkeys.of_user(account.user_id)
        assert (passkey.sign_count, passkey.flagged_at) == (before, None)
        assert await kept.passkeys.note_fall(account.user_id, proof, ORIGIN, [mail])
        (passkey,) = await kept.passkeys.of_user(account.user_id)
        assert passkey.flagged_at is not None
        assert (await acts_of(kept, account.user_id))[-1] == "CounterRollbackDetected"
        (row, *_) = await kept.audit.search(AuditQuery(user_id=account.user_id))
        assert (row.action, row.is_success) == ("account.passkey_counter", False)
        assert (await kept.outbox.stats()).pending == 1

    async def test_a_fall_is_told_of_a_fall_only(self, kept: KeptAccounts) -> None:
        # SEC-103
        account, new = await with_passkey(kept)
        other, theirs = await with_passkey(kept, "bob", "of bob")
        for user_id, proof in (
            (account.user_id, used(new, 0)),
            (account.user_id, used(new, 7)),
            (account.user_id, used(theirs, 0)),
            (other.user_id, used(new, 0)),
            (account.user_id, PasskeyProof(b"unknown", 0)),
        ):
            assert not await kept.passkeys.note_fall(user_id, proof, ORIGIN)

    async def test_of_two_uses_with_one_counter_one_opens(self, kept: KeptAccounts) -> None:
        # SEC-103: also as a second factor; those that do not count all open
        account, new = await with_passkey(kept)
        opened: list[str] = []

        async def enter(number: int, sign_count: int) -> None:
            proof, session = used(new, sign_count), f"s{sign_count}-{number}"
            if number % 2:
                found = await kept.passkeys.enter(
                    account.user_id, proof, sign_in_of(session), ORIGIN
                )
                is_in = found is not None
            else:
                sign_in = sign_in_with(session, proof)
                is_in = await kept.accounts.sign_in(account.user_id, HASH, sign_in) is not None
            if is_in:
                opened.append(session)

        for sign_count, count in ((0, 4), (9, 1)):
            opened.clear()
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(enter, number, sign_count)
            assert len(opened) == count

    async def test_a_change_ends_other_sign_ins_unless_it_is_chosen(
        self, kept: KeptAccounts
    ) -> None:
        # SEC-17, SEC-13
        account = await kept.register()
        key = await new_passkey(kept)
        for is_adding in (True, False):
            for ends_others in (False, True):
                proof = None if is_adding and not ends_others else CodeProof(CODES[0])
                await kept.accounts.sign_in(account.user_id, HASH, sign_in_with("elsewhere", proof))
                assert await kept.accounts.who(digest_of("elsewhere")) is not None
                if is_adding:
                    key = await new_passkey(kept, "ada", f"key {ends_others}")
                    key = replace(key, ends_others=ends_others)
                    assert await kept.passkeys.add(key, ORIGIN) is Added.DONE
                else:
                    (kept_one, *_) = await kept.passkeys.of_user(account.user_id)
                    removal = await removal_of(kept, replace(key, id=kept_one.id))
                    removal = replace(removal, ends_others=ends_others)
                    assert await kept.passkeys.remove(removal, ORIGIN) is Removed.DONE
                    await kept.factors.renew_codes(
                        account.user_id, removal.reference, CODES, ORIGIN
                    )
                is_in = await kept.accounts.who(digest_of("elsewhere")) is not None
                assert is_in is not ends_others
                own = await kept.accounts.who(digest_of("ada"))
                assert own is not None
                if is_in:
                    await kept.accounts.end_others(account.user_id, own.reference)

    async def test_the_last_way_in_stays(self, kept: KeptAccounts) -> None:
        # SEC-107: also when two removals race
        account, new = await with_passkey(kept)
        member = await kept.accounts.who(digest_of("ada"))
        assert member is not None
        plain = NewPassword(
            account.user_id, HASH, NO_PASSWORD, member.reference, digest_of("ada"), False
        )
        assert await kept.accounts.change_password(plain)
        last = await removal_of(kept, new)
        assert await kept.passkeys.remove(last, ORIGIN) is Removed.LAST
        other = await new_passkey(kept, "ada", "other")
        assert await kept.passkeys.add(other, ORIGIN) is Added.DONE
        told: list[Removed] = []

        async def remove(one: NewPasskey) -> None:
            told.append(await kept.passkeys.remove(replace(last, id=one.id), ORIGIN))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove, new)
            nursery.start_soon(remove, other)
        assert sorted(told) == [Removed.DONE, Removed.LAST]
        (left,) = await kept.passkeys.of_user(account.user_id)
        by_link = replace(last, id=left.id, offered=OfferedWays(has_link=True))
        assert await kept.passkeys.remove(by_link, ORIGIN) is Removed.DONE
        held = await kept.factors.held(account.user_id)
        assert (held.passkeys_count, held.codes_left) == (0, 0), "codes go with the last factor"

    async def test_only_ones_own_is_named_and_removed(self, kept: KeptAccounts) -> None:
        # SEC-107, AUTH-41: foreign and unknown ones alike
        _, new = await with_passkey(kept)
        _, theirs = await with_passkey(kept, "bob", "of bob")
        for id_ in (theirs.id, uuid4()):
            assert not await kept.passkeys.rename(new.user_id, id_, "mine")
            removal = replace(await removal_of(kept, new), id=id_)
            assert await kept.passkeys.remove(removal, ORIGIN) is Removed.UNKNOWN
        assert await kept.passkeys.rename(new.user_id, new.id, "  my   key ")
        (passkey,) = await kept.passkeys.of_user(new.user_id)
        assert passkey.name == "my key"
        over = replace(await removal_of(kept, new), reference=uuid4())
        assert await kept.passkeys.remove(over, ORIGIN) is Removed.OVER
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"removed")
        right = replace(await removal_of(kept, new), outbox=[mail])
        assert await kept.passkeys.remove(right, ORIGIN) is Removed.DONE
        assert (await kept.outbox.stats()).pending == 1
        assert (await acts_of(kept, new.user_id))[-1] == "PasskeyRevoked"
        assert len(await kept.passkeys.of_user(theirs.user_id)) == 1

    async def test_passkeys_go_with_their_account(self, kept: KeptAccounts) -> None:
        # SITE-47
        account, new = await with_passkey(kept)
        assert await kept.accounts.delete(account.user_id, HASH, by=None)
        assert list(await kept.passkeys.of_user(account.user_id)) == []
        await kept.register("bob")
        again = replace(await new_passkey(kept, "bob"), credential_id=new.credential_id)
        assert await kept.passkeys.add(again, ORIGIN) is Added.DONE

    async def test_nonsense_of_passkeys_is_refused_at_the_door(self, kept: KeptAccounts) -> None:
        # SEC-104
        user, digest = UUID(int=1), digest_of("x")
        good = NewPasskey(user, user, b"key", b"public", user, digest)
        for name, values in {
            "credential_id": (b"", b"x" * 1024, "key", None),
            "public_key": (b"", b"x" * 1025, None),
            "sign_count": (-1, 2**32, True, None),
            "name": ("x" * (PASSKEY_NAME_MAX + 1), "a\0", "a\u202eb", None),
            "digest": (b"short", None),
            "is_backed_up": (True, None),
        }.items():
            for value in values:
                with pytest.raises(InvalidField):
                    replace(good, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            PasskeyProof(b"key", 2**32)
        with pytest.raises(InvalidField):
            await kept.passkeys.rename(user, user, "x" * (PASSKEY_NAME_MAX + 1))
