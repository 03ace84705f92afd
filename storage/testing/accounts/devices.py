"""Devices, sign-ins of some risk, and allowed attempts, as tests. Fixture `kept`, empty."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import AuditQuery, NewAccount, NewSignIn, Origin
from actors.accounts.kept.audit import Act, Entry
from actors.accounts.kept.devices.fingerprint import WEIGHTS, Fingerprint, fingerprint_of
from actors.accounts.kept.devices.port import Revoked
from actors.accounts.kept.devices.words import (
    DEVICES_PAGE,
    FAMILIAR_AFTER,
    RECOGNIZED_LOGINS,
    Device,
    Trust,
)
from actors.accounts.kept.disavowals import Disavowal
from actors.accounts.kept.factors import CodeProof
from actors.accounts.kept.risk.port import LOGINS_KEPT, PLACES_KEPT, Allowance
from actors.accounts.kept.risk.words import (
    LIMITED_FOR,
    PAST_LOGINS,
    Arrival,
    Judgement,
    LoginHistory,
    Outcome,
    Place,
    Proven,
    Required,
    RiskAssessment,
    RiskLevel,
    Withheld,
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
    add_app,
    digest_of,
    sign_in_of,
)
from storage.testing.accounts.passkeys import used, with_passkey

HERE, ORIGIN = Origin(), Origin("192.0.2.*", "Firefox on Linux", "r-1")
_ASSESSED = RiskAssessment(0.35, RiskLevel.MEDIUM, (), Required.SECOND_FACTOR)
Judged = list[tuple[LoginHistory, Proven]]


def arriving(
    session: str,
    device: str | None = "laptop",
    outcome: Outcome = Outcome.ENTERED,
    *,
    seen: Judged | None = None,
    decide: Callable[[Proven], Outcome] | None = None,
    place: Place | None = None,
    outbox: tuple[OutboxMessage, ...] = (),
    **more: object,
) -> NewSignIn:
    """A sign-in from a device; it is judged as `outcome`, or as `decide` says, into `seen`."""

    def judge(_: Arrival, history: LoginHistory, proven: Proven) -> Judgement:
        if seen is not None:
            seen.append((history, proven))
        found = outcome if decide is None else decide(proven)
        return Judgement(found, _ASSESSED, None, outbox)

    plain = replace(sign_in_of(session), **more)  # type: ignore[arg-type]
    arrival = Arrival(
        plain.reference,
        None if device is None else digest_of(device),
        "password",
        "Firefox on Linux",
        b"n" * 32,
        place or Place(),
        judge,
    )
    return replace(plain, arrival=arrival)


async def enter(kept: KeptAccounts, user_id: UUID, sign_in: NewSignIn) -> int | Withheld | None:
    return await kept.accounts.sign_in(user_id, HASH, sign_in, ORIGIN)


async def only_device(kept: KeptAccounts, user_id: UUID) -> Device:
    (device,) = await kept.devices.of_user(user_id)
    return device


class DevicesSuite:
    """A device is known from its first sign-in on, trusted by use, and no more when revoked."""

    async def test_a_device_is_registered_and_trust_in_it_grows(self, kept: KeptAccounts) -> None:
        # AUTH-24, AUTH-25, AUTH-41
        ada = await kept.register()
        assert await kept.devices.of_user(ada.user_id) == [], "without an arrival there is none"
        found = []
        for number in range(RECOGNIZED_LOGINS):
            await enter(kept, ada.user_id, arriving(f"s{number}"))
            found.append(await only_device(kept, ada.user_id))
        assert [one.trust for one in found] == [*[Trust.UNKNOWN] * 4, Trust.RECOGNIZED]
        device = found[-1]
        assert (device.logins, device.browser, device.name) == (5, "Firefox on Linux", "")
        acts = [one for one in await acts_of(kept, ada.user_id) if one.startswith("Device")]
        assert acts == ["DeviceRegistered", *["DeviceAccessed"] * 4]
        await kept.pass_time(FAMILIAR_AFTER)
        await enter(kept, ada.user_id, arriving("later"))
        assert (await only_device(kept, ada.user_id)).trust is Trust.FAMILIAR
        # Of somebody else it is another one.
        bob = await kept.register("bob")
        await enter(kept, bob.user_id, arriving("of bob"))
        assert (await only_device(kept, bob.user_id)).id != device.id

    async def test_a_registration_is_of_its_device_and_judged_by_nobody(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-24, AUTH-33
        seen: Judged = []
        account = NewAccount(uuid4(), "ada", "ada@example.org", HASH)
        sign_in = arriving("ada", outcome=Outcome.REFUSED, seen=seen)
        assert await kept.accounts.register(account, sign_in) is None
        assert (seen, (await only_device(kept, account.user_id)).logins) == ([], 1)
        found = await kept.logins.find(sign_in.reference)
        assert found is not None
        assert (found.outcome, found.score, found.level) == (Outcome.ENTERED, None, "")

    async def test_its_owner_names_and_trusts_it_and_nobody_else(self, kept: KeptAccounts) -> None:
        # AUTH-25, AUTH-41
        account, new = await with_passkey(kept)
        ada = account.user_id
        bob = await kept.register("bob")
        await kept.passkeys.enter(ada, used(new), arriving("laptop"), ORIGIN)
        device = await only_device(kept, ada)
        for user_id, id_ in ((bob.user_id, device.id), (ada, uuid4())):
            assert not await kept.devices.trust(user_id, id_, HERE)
            assert not await kept.devices.rename(user_id, id_, "mine")
            assert await kept.devices.revoke(user_id, id_, HERE) is None
        assert (await only_device(kept, ada)).trust is Trust.UNKNOWN, "a passkey alone is no trust"
        assert await kept.devices.rename(ada, device.id, "  my laptop ")
        assert await kept.devices.trust(ada, device.id, HERE)
        found = await only_device(kept, ada)
        assert (found.name, found.trust) == ("my laptop", Trust.HIGHLY_TRUSTED)
        assert "DeviceTrustedByUser" in await acts_of(kept, ada)
        assert await kept.devices.rename(ada, device.id, "")
        assert (await only_device(kept, ada)).name == ""
        for name in ("<b>", 'a"b', "it's", "a&b", "x" * 256, "a\nb", "\u202eb"):
            with pytest.raises(InvalidField):
                await kept.devices.rename(ada, device.id, name)
        assert await kept.devices.rename(ada, device.id, "x" * 255)
        # Trust stays, however often it is used (never lowered).
        await kept.passkeys.enter(ada, used(new, 3), arriving("again"), ORIGIN)
        assert (await only_device(kept, ada)).trust is Trust.HIGHLY_TRUSTED

    async def test_revoked_it_is_unknown_and_what_is_signed_in_on_it_ends(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-25, AUTH-41, SEC-19, SEC-44
        ada = await kept.register()
        for number in range(RECOGNIZED_LOGINS):
            await enter(kept, ada.user_id, arriving(f"s{number}"))
            await kept.pass_time(SECOND)
        await enter(kept, ada.user_id, arriving("phone", "phone"))
        phone, laptop = await kept.devices.of_user(ada.user_id)
        assert await kept.devices.revoke(ada.user_id, laptop.id, HERE) == Revoked(4)
        assert await kept.sessions_over("s4", "phone") == {"s4"}
        assert await kept.accounts.who(digest_of("s4")) is None
        assert await kept.devices.of_user(ada.user_id) == [phone]
        assert await kept.devices.revoke(ada.user_id, laptop.id, HERE) is None
        assert (await acts_of(kept, ada.user_id))[-2:] == ["DeviceRevoked", "UserLoggedOut"]
        seen: Judged = []
        await enter(kept, ada.user_id, arriving("back", seen=seen))
        assert seen[0][0].device is None
        again = (await kept.devices.of_user(ada.user_id))[0]
        assert (again.logins, again.trust) == (1, Trust.UNKNOWN)

    async def test_who_says_it_was_not_them_trusts_no_device_any_more(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-16
        ada = await kept.register()
        await enter(kept, ada.user_id, arriving("laptop"))
        device = await only_device(kept, ada.user_id)
        assert await kept.devices.trust(ada.user_id, device.id, HERE)
        given = Disavowal(ada.user_id, digest_of("mail"), datetime(2100, 1, 1, tzinfo=UTC))
        await kept.disavowals.disavow(given, Origin(method=""))
        assert await kept.devices.of_user(ada.user_id) == []

    async def test_of_many_at_once_from_one_browser_there_is_one_device(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-24, SEC-115
        ada = await kept.register()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(enter, kept, ada.user_id, arriving(f"s{number}"))
        assert (await only_device(kept, ada.user_id)).logins == 20
        assert len(await kept.accounts.sign_ins(ada.user_id)) == 5

    async def test_a_device_is_known_by_what_it_shows(self, kept: KeptAccounts) -> None:
        # AUTH-24: without its cookie, and of this account only; the newest parts replace the old
        ada, bob = await kept.register(), await kept.register("bob")
        seen: Judged = []
        first = fingerprint_of({name: name for name in WEIGHTS})
        second = {**first, **fingerprint_of({"canvas": "x", "fonts": "x"})}
        third = {**second, **fingerprint_of({"webgl": "x", "plugins": "x"})}

        async def come(device: str | None, shown: Fingerprint | None, whose: UUID) -> None:
            plain = arriving(f"s{len(seen)}", device, seen=seen)
            assert plain.arrival is not None
            arrival = replace(plain.arrival, fingerprint=shown)
            await enter(kept, whose, replace(plain, arrival=arrival))
            await kept.pass_time(SECOND)

        for shown in (first, second, third):
            await come(None, shown, ada.user_id)
        device = await only_device(kept, ada.user_id)
        assert device.logins == 3
        assert [history.device is None for history, _ in seen] == [True, False, False]
        await come(None, first, ada.user_id)
        assert seen[-1][0].device is None, "it is alike to none of the newest parts"
        assert [one.logins for one in await kept.devices.of_user(ada.user_id)] == [1, 3]
        # One that comes back without its cookie is given one, and is known by it alone.
        await come("cookie", third, ada.user_id)
        await come("cookie", None, ada.user_id)
        await come("cookie", {**first, **fingerprint_of({"canvas": "y"})}, ada.user_id)
        latest = (await kept.devices.of_user(ada.user_id))[0]
        assert (latest.id, latest.logins) == (device.id, 6)
        await come(None, third, ada.user_id)
        assert seen[-1][0].device is None, "what the cookie brought is the newest"
        await come(None, first, bob.user_id)
        assert seen[-1][0].device is None
        # Removed it is unknown, whatever it shows.
        (his,) = await kept.devices.of_user(bob.user_id)
        await kept.devices.revoke(bob.user_id, his.id, HERE)
        await come(None, first, bob.user_id)
        assert seen[-1][0].device is None
        # By nothing at all nobody is a device.
        await come(None, None, bob.user_id)
        assert len(await kept.devices.of_user(bob.user_id)) == 1

    async def test_a_deleted_account_leaves_none(self, kept: KeptAccounts) -> None:
        # SEC-136
        ada = await kept.register()
        sign_in = arriving("laptop")
        await enter(kept, ada.user_id, sign_in)
        await kept.accounts.delete(ada.user_id, HASH, by=sign_in.reference)
        assert await kept.devices.of_user(ada.user_id) == []
        assert await kept.logins.find(sign_in.reference) is None

    async def test_pages_and_nonsense(self, kept: KeptAccounts) -> None:
        # AUTH-25
        ada = await kept.register()
        for name in ("one", "two", "three"):
            await enter(kept, ada.user_id, arriving(name, name))
        whole = await kept.devices.of_user(ada.user_id)
        assert [one.id for one in whole[1:]] == [
            one.id for one in await kept.devices.of_user(ada.user_id, offset=1, limit=2)
        ]
        for limit, offset in ((0, 0), (DEVICES_PAGE + 1, 0), (1, -1), (1, 1001)):
            with pytest.raises(InvalidField):
                await kept.devices.of_user(ada.user_id, offset=offset, limit=limit)


class LoginsSuite:
    """A sign-in is judged by its account's history, in its own transaction, and kept as judged."""

    async def test_the_judge_is_told_the_history(self, kept: KeptAccounts) -> None:
        # AUTH-30: devices, places, failures, factors
        ada = await kept.register()
        seen: Judged = []
        await enter(kept, ada.user_id, arriving("one", place=Place("NL", 52.4, 4.9), seen=seen))
        for _ in range(3):
            await kept.audit.note(Entry(Act.SIGN_IN, ada.user_id, ORIGIN, "wrong"))
        await kept.audit.note(Entry(Act.SIGN_IN, ada.user_id, ORIGIN, "too_many"))
        await kept.audit.note(Entry(Act.STEP_UP, ada.user_id, ORIGIN, "wrong"))
        await enter(kept, ada.user_id, arriving("two", "phone", seen=seen))
        await enter(kept, ada.user_id, arriving("three", seen=seen))
        (first, proven), (second, _), (third, _) = seen
        assert (first.past, first.device, first.failures) == ([], None, 0)
        assert (first.username, first.email) == ("ada", ada.email)
        assert (first.has_second, first.has_passkey, proven) == (False, False, Proven())
        assert (second.device, second.failures) == (None, 3)
        (past,) = second.past
        assert (past.network, past.country, past.latitude, past.longitude) == (
            b"n" * 32, "NL", 52.4, 4.9,
        )  # fmt: skip
        assert timedelta(0) <= second.now - past.at < timedelta(minutes=1)
        assert third.device is not None
        assert (third.device.trust, third.device.browser) == (Trust.UNKNOWN, "Firefox on Linux")
        assert [one.country for one in third.past] == ["", "NL"], "newest first"

    async def test_what_is_withheld_signs_nobody_in_and_is_kept(self, kept: KeptAccounts) -> None:
        # AUTH-30, AUTH-41, SEC-130: its row, event and mail are there, and no session
        ada = await kept.register()
        mail = OutboxMessage(uuid4(), "mail", "mail", "k", b"told")
        sign_in = arriving("one", outcome=Outcome.REFUSED, outbox=(mail,))
        assert await enter(kept, ada.user_id, sign_in) == Withheld(Outcome.REFUSED)
        assert await kept.accounts.who(digest_of("one")) is None
        assert await kept.devices.of_user(ada.user_id) == [], "who is refused makes no device known"
        assert await kept.outbox.add([mail]) == 0, "it was written with the attempt"
        found = await kept.logins.find(sign_in.reference)
        assert found is not None
        assert (found.user_id, found.outcome, found.score, found.level, found.method) == (
            ada.user_id, Outcome.REFUSED, 0.35, "medium", "password",
        )  # fmt: skip
        assert (await acts_of(kept, ada.user_id))[-1] == "LoginAttempted"
        (row,) = await kept.audit.search(AuditQuery(user_id=ada.user_id, is_success=False))
        assert row.reason == "risk"
        seen: Judged = []
        await enter(kept, ada.user_id, arriving("two", seen=seen))
        assert (seen[0][0].past, seen[0][0].failures) == ([], 0), "it is neither a login nor wrong"
        assert await kept.logins.find(uuid4()) is None

    async def test_a_limited_one_is_limited_for_a_day_or_until_a_factor_is_proven(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-32, AUTH-33
        ada = await add_app(kept)
        given = {"proof": CodeProof(CODES[0])}
        sign_in = arriving("one", outcome=Outcome.LIMITED, **given)  # type: ignore[arg-type]
        assert await enter(kept, ada.user_id, sign_in) == 0
        member = await kept.accounts.who(digest_of("one"))
        assert member is not None
        assert member.is_limited
        await kept.pass_time(LIMITED_FOR - MINUTE)
        member = await kept.accounts.who(digest_of("one"))
        assert member is not None
        assert member.is_limited
        await kept.pass_time(MINUTE)
        member = await kept.accounts.who(digest_of("one"))
        assert member is not None
        assert not member.is_limited

    async def test_an_allowance_is_good_once_from_where_the_attempt_came(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-30: of twenty attempts at once one uses it
        ada, bob = await kept.register(), await kept.register("bob")

        def decide(proven: Proven) -> Outcome:
            return Outcome.LIMITED if proven.is_allowed else Outcome.REFUSED

        until = datetime(2100, 1, 1, tzinfo=UTC)
        one = Allowance(ada.user_id, digest_of("mail"), digest_of("laptop"), until)
        assert await kept.logins.allow(one, Origin(method=""))
        assert not await kept.logins.allow(one, Origin(method="")), "its mail was used"
        over = replace(one, digest=digest_of("over"), until=datetime(2000, 1, 1, tzinfo=UTC))
        assert not await kept.logins.allow(over, Origin(method=""))
        assert not await kept.logins.allow(replace(over, user_id=uuid4(), until=until), HERE)
        for whose, device in ((ada, "phone"), (ada, None), (bob, "laptop")):
            refused = arriving(f"{whose.username} {device}", device, decide=decide)
            assert isinstance(await enter(kept, whose.user_id, refused), Withheld)
        told: list[object] = []

        async def attempt(number: int) -> None:
            sign_in = arriving(f"s{number}", decide=decide)
            told.append(await enter(kept, ada.user_id, sign_in))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(attempt, number)
        assert sum(not isinstance(one, Withheld) for one in told) == 1
        assert "UserUpdated" in await acts_of(kept, ada.user_id)

    async def test_an_allowance_is_used_only_where_it_is_needed(self, kept: KeptAccounts) -> None:
        # AUTH-30
        ada = await kept.register()
        until = datetime(2100, 1, 1, tzinfo=UTC)
        one = Allowance(ada.user_id, digest_of("mail"), digest_of("laptop"), until)
        assert await kept.logins.allow(one, HERE)
        await enter(kept, ada.user_id, arriving("fine"))
        seen: Judged = []
        sign_in = arriving("not fine", outcome=Outcome.REFUSED, seen=seen)
        await enter(kept, ada.user_id, sign_in)
        assert [proven.is_allowed for _, proven in seen] == [False, True]

    async def test_a_second_factor_and_a_passkey_are_told_apart(self, kept: KeptAccounts) -> None:
        # AUTH-30, AUTH-33
        seen: Judged = []
        account, new = await with_passkey(kept)
        ada = account.user_id
        await kept.passkeys.enter(ada, used(new), arriving("by key", seen=seen), ORIGIN)
        behind = arriving("behind", seen=seen, proof=used(new, 3))
        assert await enter(kept, ada, behind) == 0
        assert [proven for _, proven in seen] == [
            Proven(by_passkey=True), Proven(by_second=True, by_passkey=True),
        ]  # fmt: skip
        assert all(history.has_second and history.has_passkey for history, _ in seen)

    async def test_what_is_kept_is_bounded(self, kept: KeptAccounts) -> None:
        # AUTH-33
        ada, seen = await kept.register(), list[tuple[LoginHistory, Proven]]()
        made = [arriving(f"s{number}", seen=seen) for number in range(LOGINS_KEPT + 1)]
        for sign_in in made:
            await enter(kept, ada.user_id, sign_in)
        assert await kept.logins.find(made[0].reference) is None
        assert await kept.logins.find(made[1].reference) is not None
        assert len(seen[-1][0].past) == PAST_LOGINS

    async def test_places_are_removed_after_a_month_and_moments_stay(
        self, kept: KeptAccounts
    ) -> None:
        # SEC-134
        ada, eve = await kept.register("ada"), await kept.register("eve")
        vienna = Place("AT", 48.25, 16.5)
        made = [arriving(f"s{number}", place=vienna) for number in range(PAST_LOGINS + 3)]
        refused = arriving("refused", outcome=Outcome.REFUSED, place=vienna)
        for sign_in in (made[0], refused, *made[1:]):
            await enter(kept, ada.user_id, sign_in)
        await kept.pass_time(PLACES_KEPT - timedelta(hours=1))
        assert await kept.logins.purge() == 0
        recent = arriving("of eve", place=vienna)
        await enter(kept, eve.user_id, recent)
        await kept.pass_time(timedelta(hours=2))
        # In chunks, until nothing is left; how many there are does not grow by doing it twice.
        counts = [await kept.logins.purge(9) for _ in range(4)]
        assert counts == [9, 9, 6, 0]
        found = [await kept.logins.find(one.reference) for one in made]
        assert [one is not None for one in found] == [*[False] * 3, *[True] * PAST_LOGINS]
        assert await kept.logins.find(refused.reference) is None
        assert {one.country for one in found if one is not None} == {""}
        assert {one.score for one in found if one is not None} == {_ASSESSED.score}
        left = await kept.logins.find(recent.reference)
        assert left is not None
        assert left.country == "AT"
        # What is compared with it next time: when it was, and nothing of where.
        seen: Judged = []
        await enter(kept, ada.user_id, arriving("again", seen=seen, place=vienna))
        past = seen[-1][0].past
        assert len(past) == PAST_LOGINS
        assert {(one.network, one.country, one.latitude) for one in past} == {(None, "", None)}
        # The twenty-first is compared with nothing any more.
        assert await kept.logins.find(made[3].reference) is None
        assert await kept.logins.find(made[4].reference) is not None

    async def test_arrivals_and_allowances_of_nonsense_are_refused(
        self, kept: KeptAccounts
    ) -> None:
        # AUTH-30
        one = uuid4()
        for given in (
            ("x", None, "password", "b"),
            (one, b"short", "password", "b"),
            (one, None, "pass\0word", "b"),
            (one, None, "password", 1),
            (one, None, "password", "b", "network"),
            (one, None, "password", "b", None, "here"),
            (one, None, "password", "b", None, Place(), "judge"),
            (one, None, "password", "b", None, Place(), None, "parts"),
            (one, None, "password", "b", None, Place(), None, {"colour": b"x" * 32}),
            (one, None, "password", "b", None, Place(), None, {"cpu": b"short"}),
        ):
            with pytest.raises(InvalidField):
                Arrival(*given)
        with pytest.raises(InvalidField):
            replace(sign_in_of("s"), arrival=Arrival(uuid4(), None, "password", "b"))
        until = datetime(2100, 1, 1, tzinfo=UTC)
        for wrong in (
            ("x", digest_of("d"), digest_of("b"), until),
            (one, b"d", digest_of("b"), until),
            (one, digest_of("d"), b"b", until),
            (one, digest_of("d"), digest_of("b"), datetime(2100, 1, 1)),  # noqa: DTZ001 - no zone
        ):
            with pytest.raises(InvalidField):
                Allowance(*wrong)
