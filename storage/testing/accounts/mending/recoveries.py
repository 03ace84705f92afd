"""Recoveries of accounts, as tests. Fixture `kept`, empty."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import NOWHERE, AuditQuery, StepUp
from actors.accounts.kept.addresses import REVERT_KEPT
from actors.accounts.kept.disavowals import Disavowal
from actors.accounts.kept.factors import CodeProof, HeldFactors, Proof, TotpProof
from actors.accounts.kept.recoveries import (
    GUARDED_FOR,
    RECOVERY_KEPT,
    RECOVERY_WAIT,
    Known,
    NewRecovery,
    Recovery,
    Telling,
)
from actors.accounts.ways.links import Entered
from actors.accounts.ways.provider.identities import Linking
from actors.persistence import OutboxMessage
from storage.errors import InvalidField
from storage.testing.accounts.identities import linked, shown_of
from storage.testing.accounts.links import claim_of, link_of, redeem
from storage.testing.accounts.members import (
    CODES,
    HASH,
    SECOND,
    KeptAccounts,
    acts_of,
    add_app,
    digest_of,
    sign_in_of,
    sign_in_with,
)
from storage.testing.accounts.mending.addresses import NEW, changed, mail
from storage.testing.accounts.mending.disavowals import by_link, disavow, passkey_and_app
from storage.testing.accounts.passkeys import used


async def telling_of(
    kept: KeptAccounts, user_id: UUID, outbox: Sequence[OutboxMessage] = ()
) -> Telling:
    """Call this for mails to wherever an account is told."""
    known = await kept.recoveries.known(user_id)
    assert known is not None
    return Telling(known.emails, outbox)


async def start(
    kept: KeptAccounts, user_id: UUID, outbox: Sequence[OutboxMessage] = ()
) -> Recovery | None:
    """Begin a recovery."""
    new = NewRecovery(uuid4(), user_id, await telling_of(kept, user_id, outbox))
    return await kept.recoveries.start(new, NOWHERE)


async def started(kept: KeptAccounts, user_id: UUID) -> Recovery:
    """Begin a recovery that can be."""
    found = await start(kept, user_id)
    assert found is not None
    return found


async def ready(kept: KeptAccounts, user_id: UUID) -> Recovery:
    """Begin a recovery, let its day pass, and tell that it did."""
    one = await started(kept, user_id)
    await kept.pass_time(RECOVERY_WAIT)
    assert await kept.recoveries.make_ready(one.id, await telling_of(kept, user_id))
    return one


async def finish(kept: KeptAccounts, one: Recovery) -> int | None:
    """Carry a recovery out."""
    return await kept.recoveries.finish(one.id, await telling_of(kept, one.user_id), NOWHERE)


async def stop(kept: KeptAccounts, one: Recovery) -> bool:
    """Stop a recovery."""
    return await kept.recoveries.stop(one.id, await telling_of(kept, one.user_id), NOWHERE)


class RecoveriesSuite:
    """An account whose second factor is lost opens again: behind a day, told, and guarded."""

    async def test_behind_a_day_all_ways_in_are_void_but_the_link(self, kept: KeptAccounts) -> None:
        # AUTH-10, AUTH-41, SEC-17
        user_id, passkey, _ = await passkey_and_app(kept)
        member = await kept.accounts.who(digest_of("app"))
        assert member is not None
        assert await kept.identities.link(linked(member, shown_of()), NOWHERE) is Linking.DONE
        mails = [mail("start"), mail("ready"), mail("done")]
        one = await start(kept, user_id, mails[:1])
        assert one is not None
        assert (one.ready_at - one.started_at, one.is_ready) == (RECOVERY_WAIT, False)
        await kept.pass_time(RECOVERY_WAIT)
        (due,) = await kept.recoveries.due()
        assert due.id == one.id
        assert await kept.recoveries.make_ready(one.id, await telling_of(kept, user_id, mails[1:2]))
        assert await kept.recoveries.due() == []
        await kept.links.issue(link_of("old"), [])
        telling = await telling_of(kept, user_id, mails[2:])
        assert await kept.recoveries.finish(one.id, telling, NOWHERE) == 1
        assert await kept.outbox.add(mails) == 0, "each with its step"
        assert await kept.accounts.who(digest_of("app")) is None
        assert await kept.sessions_over("ada") == {"ada"}
        assert await kept.factors.held(user_id) == HeldFactors()
        assert await kept.identities.of_user(user_id) == []
        again = sign_in_of("again")
        assert await kept.passkeys.enter(user_id, used(passkey), again) is None
        assert await kept.accounts.sign_in(user_id, HASH, again) is None
        assert await redeem(kept, claim_of("old")) is None
        await kept.links.issue(link_of("own"), [])
        entered = await redeem(kept, claim_of("own"), session="own")
        assert entered == Entered(user_id, "ada", "ada@example.org", is_new=False, ended=0)
        rows = await kept.audit.search(AuditQuery(user_id=user_id))
        acts = [row.action for row in reversed(rows)]
        assert acts[-7:-1] == [
            "account.recovery_start", "account.recovery", "account.factor_remove",
            "account.passkey_remove", "account.provider_unlink", "account.email_verified",
        ]  # fmt: skip
        assert (await acts_of(kept, user_id)).count("UserUpdated") == 2

    async def test_it_is_guarded_for_a_day(self, kept: KeptAccounts) -> None:
        # AUTH-10
        ada = await add_app(kept)
        before = await kept.accounts.who(digest_of("app"))
        assert before is None or not before.is_guarded
        await finish(kept, await ready(kept, ada.user_id))
        await kept.links.issue(link_of("own"), [])
        await redeem(kept, claim_of("own"), session="own")
        member = await kept.accounts.who(digest_of("own"))
        assert member is not None
        assert (member.is_guarded, member.has_second, int(member.level)) == (True, False, 1)
        assert GUARDED_FOR - SECOND * 60 < member.guarded_for <= GUARDED_FOR
        await kept.pass_time(GUARDED_FOR)
        member = await kept.accounts.who(digest_of("own"))
        assert member is not None
        assert not member.is_guarded

    async def test_not_before_the_day_is_over_and_told_nor_when_a_week_is(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-10
        ada = await add_app(kept)
        one = await started(kept, ada.user_id)
        telling = await telling_of(kept, ada.user_id)
        assert await finish(kept, one) is None
        await kept.pass_time(RECOVERY_WAIT - 60 * SECOND)
        assert await kept.recoveries.due() == []
        assert not await kept.recoveries.make_ready(one.id, telling)
        assert await finish(kept, one) is None
        await kept.pass_time(60 * SECOND)
        assert await finish(kept, one) is None, "nobody was told yet"
        assert await kept.recoveries.make_ready(one.id, telling)
        assert not await kept.recoveries.make_ready(one.id, telling), "once"
        await kept.pass_time(-60 * SECOND)
        assert await finish(kept, one) is None, "a clock that was set back"
        await kept.pass_time(60 * SECOND)
        found = await kept.recoveries.find(one.id)
        assert found is not None
        assert found.is_ready
        assert await kept.recoveries.of_user(ada.user_id) == found
        await kept.pass_time(RECOVERY_KEPT)
        assert await finish(kept, one) is None
        assert await kept.recoveries.find(one.id) is None
        assert not await stop(kept, one)
        assert (await started(kept, ada.user_id)).id != one.id

    async def test_one_that_is_under_way_goes_on_and_only_of_who_has_a_factor(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-10
        ada = await add_app(kept)
        one = await started(kept, ada.user_id)
        second = mail("second")
        await kept.pass_time(SECOND)
        again = await start(kept, ada.user_id, [second])
        assert again is not None
        assert again.id == one.id
        assert await kept.outbox.add([second]) == 1, "it was told once"
        bob = await kept.register("bob")
        assert await start(kept, bob.user_id) is None
        nobody = NewRecovery(uuid4(), uuid4(), Telling(["nobody@example.org"]))
        assert await kept.recoveries.start(nobody, NOWHERE) is None
        assert await kept.recoveries.known(nobody.user_id) is None
        assert await kept.recoveries.of_user(bob.user_id) is None

    async def test_all_addresses_of_a_week_are_told_or_nothing_is_done(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-10, AUTH-11
        user_id, _, _ = await passkey_and_app(kept)
        member = await kept.accounts.who(digest_of("app"))
        assert member is not None
        change = await changed(kept, member)
        known = await kept.recoveries.known(user_id)
        assert known is not None
        assert [(one.email, one.change) for one in known.addresses] == [
            (NEW, None), ("ada@example.org", change),
        ]  # fmt: skip
        lacking = NewRecovery(uuid4(), user_id, Telling([NEW]))
        assert await kept.recoveries.start(lacking, NOWHERE) is None
        one = await started(kept, user_id)
        await kept.pass_time(RECOVERY_WAIT)
        assert not await kept.recoveries.make_ready(one.id, Telling([NEW]))
        assert await kept.recoveries.make_ready(one.id, await telling_of(kept, user_id))
        assert await kept.recoveries.finish(one.id, Telling([NEW]), NOWHERE) is None
        assert not await kept.recoveries.stop(one.id, Telling([NEW]), NOWHERE)
        await kept.pass_time(REVERT_KEPT - RECOVERY_WAIT)
        assert (await telling_of(kept, user_id)).emails == [NEW]

    async def test_it_ends_with_the_address_it_began_with(self, kept: KeptAccounts) -> None:
        # AUTH-10, AUTH-11: who lost the mailbox has lost the recovery
        user_id, _, _ = await passkey_and_app(kept)
        one = await started(kept, user_id)
        member = await kept.accounts.who(digest_of("app"))
        assert member is not None
        await changed(kept, member)
        assert await kept.recoveries.find(one.id) is None
        await kept.pass_time(RECOVERY_WAIT)
        assert await kept.recoveries.due() == []
        assert not await kept.recoveries.make_ready(one.id, await telling_of(kept, user_id))
        assert await finish(kept, one) is None
        other = await started(kept, user_id)
        assert other.id != one.id

    async def test_a_second_factor_that_is_proven_stops_it(self, kept: KeptAccounts) -> None:
        # AUTH-10: at a sign-in, behind a link, by a passkey alone, at a step-up; all are told
        user_id, passkey, _ = await passkey_and_app(kept)
        told: list[tuple[UUID, list[str], OutboxMessage]] = []

        def tell(recovery_id: UUID, known: Known) -> list[OutboxMessage]:
            told.append((recovery_id, known.emails, mail("stopped")))
            return [told[-1][2]]

        async def sign_in(proof: Proof | None) -> object:
            plain = sign_in_with(str(uuid4()), proof)
            return await kept.accounts.sign_in(user_id, HASH, replace(plain, tell_stopped=tell))

        async def step_up() -> object:
            member = await kept.accounts.who(digest_of("app"))
            assert member is not None
            digest = digest_of("app")
            return await kept.accounts.step_up(
                StepUp(user_id, member.reference, digest, proof=TotpProof(900), tell_stopped=tell)
            )

        acts = (
            step_up,
            lambda: sign_in(TotpProof(901)),
            lambda: by_link(kept, user_id, TotpProof(902), password_hash=HASH),
            lambda: kept.passkeys.enter(
                user_id, used(passkey, 1), replace(sign_in_of("key"), tell_stopped=tell)
            ),
        )
        for act in acts:
            one = await started(kept, user_id)
            assert await sign_in(None) is None
            assert await sign_in(TotpProof(100)) is None, "used"
            await kept.passkeys.enter(
                user_id, used(passkey, is_verified=False), sign_in_of("touched")
            )
            assert await kept.recoveries.find(one.id) is not None
            done = await act()
            assert done is not None
            assert done is not False
            assert await kept.recoveries.find(one.id) is None
            assert await finish(kept, one) is None
            if act is not acts[2]:
                assert told[-1][:2] == (one.id, ["ada@example.org"])
                assert await kept.outbox.add([told[-1][2]]) == 0, "with the act"
        assert len(told) == 3, "nothing else is told of"
        rows = await kept.audit.search(AuditQuery(user_id=user_id, action="account.recovery_stop"))
        assert len(rows) == len(acts)

    async def test_by_a_recovery_code_it_is_done_at_once_and_once(self, kept: KeptAccounts) -> None:
        # AUTH-10, AUTH-9
        ada = await add_app(kept)
        one = await started(kept, ada.user_id)
        told = mail("told")
        new = NewRecovery(uuid4(), ada.user_id, await telling_of(kept, ada.user_id, [told]))

        async def recover(digest: bytes) -> int | None:
            return await kept.recoveries.recover(new, CodeProof(digest), NOWHERE)

        assert await recover(digest_of("no code")) is None
        lacking = NewRecovery(uuid4(), ada.user_id, Telling(["other@example.org"]))
        assert await kept.recoveries.recover(lacking, CodeProof(CODES[0]), NOWHERE) is None
        assert await kept.recoveries.find(one.id) is not None
        found: list[int | None] = []

        async def at_once(digest: bytes) -> None:
            found.append(await recover(digest))

        async with trio.open_nursery() as nursery:
            for digest in CODES:
                nursery.start_soon(at_once, digest)
        assert [ended for ended in found if ended is not None] == [1]
        assert await kept.outbox.add([told]) == 0
        assert await kept.recoveries.find(one.id) is None
        assert await kept.factors.held(ada.user_id) == HeldFactors()
        assert await kept.accounts.sign_in(ada.user_id, HASH, sign_in_of("again")) is None
        await kept.links.issue(link_of("own"), [])
        await redeem(kept, claim_of("own"), "own")
        member = await kept.accounts.who(digest_of("own"))
        assert member is not None
        assert member.is_guarded

    async def test_who_says_this_was_not_me_stops_it(self, kept: KeptAccounts) -> None:
        # AUTH-10, AUTH-16
        ada = await add_app(kept)
        one, told = await ready(kept, ada.user_id), list[tuple[UUID, Known]]()
        said = mail("a stop is told")

        def tell(id_: UUID, known: Known) -> Sequence[OutboxMessage]:
            told.append((id_, known))
            return [said]

        given = Disavowal(ada.user_id, digest_of("t"), one.started_at, tell_stopped=tell)
        assert await kept.disavowals.disavow(given, NOWHERE) is not None
        ((stopped, known),) = told
        assert stopped == one.id
        assert list(known.emails) == [ada.email]
        assert await kept.outbox.add([said]) == 0, "kept in the same transaction"
        assert await disavow(kept, ada.user_id, mail="another mail") is not None
        assert len(told) == 1, "there was nothing to stop any more"
        assert await finish(kept, one) is None
        assert (await kept.factors.held(ada.user_id)).has_second

    async def test_of_fifty_at_once_one_finishes_and_of_a_stop_with_it_one(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-10, SEC-81
        ada = await add_app(kept)
        one = await ready(kept, ada.user_id)
        telling = await telling_of(kept, ada.user_id)
        found: list[object] = []

        async def end() -> None:
            found.append(await kept.recoveries.finish(one.id, telling, NOWHERE) is not None)

        async def halt() -> None:
            found.append(await kept.recoveries.stop(one.id, telling, NOWHERE))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(end)
            nursery.start_soon(halt)
        assert (len(found), found.count(True)) == (51, 1)
        bob = await add_app(kept, "bob")
        two, found = await started(kept, bob.user_id), []
        await kept.pass_time(RECOVERY_WAIT)
        told = await telling_of(kept, bob.user_id)

        async def tell() -> None:
            found.append(await kept.recoveries.make_ready(two.id, told))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(tell)
        assert found.count(True) == 1

    async def test_one_that_was_stopped_is_over_and_a_deleted_account_has_none(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-10
        ada = await add_app(kept)
        one = await ready(kept, ada.user_id)
        told = mail("stopped")
        telling = await telling_of(kept, ada.user_id, [told])
        assert await kept.recoveries.stop(one.id, telling, NOWHERE)
        assert await kept.outbox.add([told]) == 0
        assert not await stop(kept, one)
        assert await finish(kept, one) is None
        assert await kept.accounts.sign_in(
            ada.user_id, HASH, sign_in_with("s", CodeProof(CODES[0]))
        ) in (0, None)
        two = await started(kept, ada.user_id)
        await kept.accounts.delete(ada.user_id, HASH, by=None)
        assert await kept.recoveries.find(two.id) is None
        assert await kept.recoveries.of_user(ada.user_id) is None

    async def test_what_is_nonsense_is_refused(self, kept: KeptAccounts) -> None:
        # AUTH-10
        for emails in ((), ("",), ("a@b.example",) * 21, "a@b.example"):
            with pytest.raises(InvalidField):
                Telling(emails)
        with pytest.raises(InvalidField):
            await kept.recoveries.due(0)
        with pytest.raises(InvalidField):
            await kept.recoveries.stop(uuid4(), Telling(["a@b.example"]), None)  # type: ignore[arg-type]
