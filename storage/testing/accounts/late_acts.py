"""Acts of a sign-in that ended while they were under way, as tests. Fixture `kept`, empty."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest

from actors.accounts import (
    NOWHERE,
    AuditQuery,
    Level,
    Member,
    NewPassword,
    SessionId,
    StepUp,
    user_stream,
)
from actors.accounts.kept.addresses import NewAddress
from actors.accounts.kept.factors import NewTotp, TotpProof
from actors.accounts.ways.passkeys import Added, NewPasskey, Removed
from actors.accounts.ways.provider.identities import Linking
from storage.testing.accounts.identities import gone, linked, shown_of
from storage.testing.accounts.members import (
    CODES,
    HASH,
    OTHER_HASH,
    KeptAccounts,
    add_app,
    digest_of,
    sign_in_with,
)
from storage.testing.accounts.mending.addresses import ask
from storage.testing.accounts.passkeys import ORIGIN, new_passkey, removal_of


@dataclass(frozen=True)
class Late:
    """A sign-in that asks for an act, another of the same account, and what the account has."""

    kept: KeptAccounts
    member: Member
    other: UUID
    passkey: NewPasskey
    change: UUID


Act = Callable[[Late], Awaitable[bool]]


async def _change_password(late: Late) -> bool:
    who = late.member
    change = NewPassword(who.user_id, HASH, OTHER_HASH, who.reference, digest_of("late"))
    return await late.kept.accounts.change_password(change)


async def _delete(late: Late) -> bool:
    who = late.member
    return await late.kept.accounts.delete(who.user_id, HASH, by=who.reference)


async def _end_other(late: Late) -> bool:
    who = late.member
    return await late.kept.accounts.end_sign_in(who.user_id, late.other, by=who.reference)


async def _end_others(late: Late) -> bool:
    who = late.member
    return await late.kept.accounts.end_others(who.user_id, who.reference) is not None


async def _step_up(late: Late) -> bool:
    who = late.member
    step = StepUp(who.user_id, who.reference, digest_of("late"), Level.BASIC, HASH, TotpProof(300))
    return await late.kept.accounts.step_up(step)


async def _add_app(late: Late) -> bool:
    who = late.member
    new = NewTotp(who.user_id, b"t" * 20, 500, who.reference, digest_of("late"), CODES)
    return await late.kept.factors.add_totp(new, ORIGIN)


async def _remove_app(late: Late) -> bool:
    who = late.member
    return await late.kept.factors.remove_totp(who.user_id, who.reference, ORIGIN)


async def _renew_codes(late: Late) -> bool:
    who, codes = late.member, [digest_of("a code")]
    return await late.kept.factors.renew_codes(who.user_id, who.reference, codes, ORIGIN)


async def _add_passkey(late: Late) -> bool:
    new = replace(late.passkey, id=uuid4(), credential_id=b"late", ends_others=True)
    return await late.kept.passkeys.add(new, ORIGIN) is not Added.OVER


async def _remove_passkey(late: Late) -> bool:
    removal = await removal_of(late.kept, late.passkey, "other")
    removal = replace(removal, reference=late.member.reference, ends_others=True)
    return await late.kept.passkeys.remove(removal, ORIGIN) is not Removed.OVER


async def _link(late: Late) -> bool:
    new = linked(late.member, shown_of("late"), "another")
    return await late.kept.identities.link(new, NOWHERE) is not Linking.OVER


async def _unlink(late: Late) -> bool:
    return await late.kept.identities.unlink(gone(late.member), NOWHERE) is not Linking.OVER


async def _ask_address(late: Late) -> bool:
    new = NewAddress(uuid4(), late.member.user_id, late.member.reference, "thief@example.org")
    return await late.kept.addresses.ask(new, NOWHERE)


async def _confirm_address(late: Late) -> bool:
    return await late.kept.addresses.confirm(late.change, NOWHERE)


# What a sign-in may do to its account, each by its name.
SENSITIVE: Mapping[str, Act] = {
    act.__name__.strip("_"): act
    for act in (
        _change_password, _delete, _end_other, _end_others, _step_up, _add_app, _remove_app,
        _renew_codes, _add_passkey, _remove_passkey, _link, _unlink, _ask_address,
        _confirm_address,
    )
}  # fmt: skip

End = Callable[[Late], Awaitable[object]]


async def _signed_out(late: Late) -> None:
    await late.kept.accounts.sign_out(late.member.session_id)


async def _revoked(late: Late) -> None:
    assert await late.kept.accounts.revoke(reference=late.member.reference) == 1


async def _ended_elsewhere(late: Late) -> None:
    user_id, own = late.member.user_id, late.member.reference
    assert await late.kept.accounts.end_sign_in(user_id, own, by=late.other)


ENDS: Mapping[str, End] = {
    end.__name__.strip("_"): end for end in (_signed_out, _revoked, _ended_elsewhere)
}


async def prepared(kept: KeptAccounts) -> Late:
    """Register somebody with all that can be taken away, in two browsers."""
    account = await add_app(kept)
    user_id = account.user_id
    passkey = await new_passkey(kept, "ada app")
    assert await kept.passkeys.add(passkey, ORIGIN) is Added.DONE
    assert await kept.accounts.sign_in(user_id, HASH, sign_in_with("other", TotpProof(200))) == 0
    member, other = [await kept.accounts.who(digest_of(one)) for one in ("ada app", "other")]
    assert member is not None
    assert other is not None
    assert await kept.identities.link(linked(member, shown_of()), NOWHERE) is Linking.DONE
    change = await ask(kept, member)
    return Late(kept, member, other.reference, passkey, change)


async def all_of(late: Late) -> list[object]:
    """Tell all there is of the account that a late act could have changed."""
    kept, user_id = late.kept, late.member.user_id
    return [
        await kept.accounts.credentials_of(user_id),
        await kept.accounts.sign_ins(user_id),
        await kept.factors.held(user_id),
        list(await kept.passkeys.of_user(user_id)),
        await kept.identities.of_user(user_id),
        [event.type async for event in kept.events.load(user_stream(user_id))],
        await kept.audit.search(AuditQuery(limit=500)),
        (await kept.outbox.stats()).pending,
        set(await kept.ends.ended([SessionId("ada"), SessionId("other")])),
    ]


class LateActsSuite:
    """A sign-in that is over does nothing any more, however far its request had come."""

    @pytest.mark.parametrize("end", ENDS)
    async def test_what_ended_changes_nothing(self, kept: KeptAccounts, end: str) -> None:
        # SEC-20, SEC-115
        late = await prepared(kept)
        await ENDS[end](late)
        before = await all_of(late)
        for name, act in SENSITIVE.items():
            assert await act(late) is False, name
            assert await all_of(late) == before, name

    async def test_what_goes_on_does_each_of_them(self, kept: KeptAccounts) -> None:
        # SEC-20: the same acts are done where nothing ended, or the test above could not fail
        late = await prepared(kept)
        for name in ("renew_codes", "ask_address", "link", "unlink", "end_other", "end_others"):
            assert await SENSITIVE[name](late) is True, name
        assert await SENSITIVE["remove_app"](late) is True
        assert await SENSITIVE["change_password"](late) is True
