"""Passkeys on the whole site: added, used to sign in and as second factor, named and removed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import partial

import pytest
import trio

from actors.accounts import FRESH_FOR, NO_PASSWORD, Level, Method
from actors.accounts.ways.passkeys import PASSKEY_NAME_MAX
from actors.accounts.ways.passkeys.rules import BEGUN_PER_ADDRESS_MAX, USES_FAILED_PER_ADDRESS_MAX
from storage.memory import MemoryDatabase
from tests.journeys.visitor import Answer, Visitor
from tests.passkeys import PRESENT, RIGHT, Authenticator, Ways, b64, unb64
from tests.patience import until
from tests.web.accounts.test_access import let_proofs_age
from tests.web.accounts.test_entering import PASSWORD, form, get, problems, register
from tests.web.accounts.test_second_factors import codes_of, ticket_of
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.mail.senders.memory import MemorySender
from web.settings import Settings

pytestmark = pytest.mark.slow

API = "/api/v1/auth"
TYPED = {"email": "ada@example.org", "password": PASSWORD}


def device(site: WholeSite, *, counts: bool = True) -> Authenticator:
    return Authenticator("localhost", f"http://localhost:{site.port}", counts=counts)


async def api(
    visitor: Visitor, path: str, value: Mapping[str, object] | None = None, method: str = "POST"
) -> Answer:
    headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
    body = None if value is None else json.dumps(value).encode()
    return await in_thread(partial(visitor.request, method, API + path, body, headers))


async def begun(visitor: Visitor, path: str, value: Mapping[str, object]) -> dict[str, object]:
    answer = await api(visitor, path, value)
    assert answer.status == 200, answer.text
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


def challenge_in(told: Mapping[str, object]) -> bytes:
    challenge = unb64(str(told["challenge"]))
    assert len(challenge) == 32
    return challenge


async def made(visitor: Visitor, by: Authenticator, ways: Ways = RIGHT) -> str:
    told = await begun(visitor, "/passkey/register/begin", {"device_name": "x"})
    user = told["user"]
    assert isinstance(user, dict)
    return json.dumps(by.make(challenge_in(told), unb64(user["id"]), ways))


async def add(visitor: Visitor, by: Authenticator, name: str = "my key", **fields: str) -> Answer:
    credential = await made(visitor, by)
    return await form(visitor, "/account/passkeys", credential=credential, name=name, **fields)


async def with_key(
    site: WholeSite, *, counts: bool = True, **fields: str
) -> tuple[Visitor, Authenticator, list[str]]:
    visitor, by = await register(site, **fields), device(site, counts=counts)
    shown = await add(visitor, by)
    assert shown.status == 200, problems(shown)
    return visitor, by, codes_of(shown)


async def used(
    visitor: Visitor, by: Authenticator, asked: Mapping[str, object] | None = None,
    ways: Ways = RIGHT,
) -> str:  # fmt: skip
    told = await begun(visitor, "/passkey/login/begin", asked or {})
    return json.dumps(by.use(challenge_in(told), ways=ways))


def snapshot(database: MemoryDatabase) -> str:
    """All that could have been changed by a refused answer."""
    return repr((database.passkeys, database.sign_ins, database.users, database.factors,
                 database.outbox))  # fmt: skip


async def test_a_passkey_is_added_with_codes_that_are_shown_once() -> None:
    # AUTH-7, AUTH-9, AUTH-41, SEC-13, SEC-73, SEC-105
    sender = MemorySender()
    async with open_whole_site(sender=sender) as site:
        visitor, by = await register(site), device(site)
        token = visitor.cookies["gr_auth"]
        told = await begun(visitor, "/passkey/register/begin", {})
        options = told["options"]
        assert isinstance(options, dict)
        assert options["rp"] == {"id": "localhost", "name": "greenroom"}
        assert options["authenticatorSelection"]["userVerification"] == "required"
        assert options["attestation"] == "none"
        shown = await add(visitor, by, "my key")
        assert shown.status == 200
        assert len(set(codes_of(shown))) == 10
        assert visitor.cookies["gr_auth"] != token
        page = await get(visitor, "/account")
        assert "my key" in page.text
        assert "10 recovery codes are left" in page.text
        await until(lambda: len(sender.outbox_of("ada@example.org")) == 1)
        assert "A way to sign in was added" in str(sender.outbox_of("ada@example.org")[0])
        second = await add(visitor, device(site), "other")
        assert (second.status, second.headers["location"]) == (303, "/account"), "codes stay"
        levels = [row.level for row in site.accounts.database.sign_ins.values()]
        assert levels == [Level.MULTI_FACTOR]


async def test_a_browser_signs_in_by_it_without_an_address() -> None:
    # AUTH-8, AUTH-22, SEC-13, SEC-100
    async with open_whole_site() as site:
        _, by, _ = await with_key(site)
        other = site.visitor()
        assert 'data-passkey="sign-in"' in (await get(other, "/login")).text
        credential = await used(other, by)
        before = other.cookies["gr_visitor"]
        entered = await form(other, "/login/passkey", credential=credential, next="/lab")
        assert (entered.status, entered.headers["location"]) == (303, "/lab"), problems(entered)
        assert other.cookies["gr_visitor"] != before
        page = await get(other, "/account")
        assert page.status == 200
        rows = [one for one in site.accounts.database.sign_ins.values() if one.method == "passkey"]
        assert [row.level for row in rows] == [Level.MULTI_FACTOR]
        replayed = await form(site.visitor(), "/login/passkey", credential=credential)
        assert replayed.status == 401
        assert "gr_auth" not in site.visitor().cookies
        third = site.visitor()
        told = await begun(third, "/passkey/login/begin", {"email": " ADA@example.org "})
        assert told["allowed_credentials"] == [b64(by.keys[0].credential_id)]
        ways = Ways(user_handle=None)
        credential = json.dumps(by.use(challenge_in(told), ways=ways))
        assert (await form(third, "/login/passkey", credential=credential)).status == 303


async def test_an_address_tells_nobody_whether_it_is_known() -> None:
    # SEC-106, AUTH-8
    async with open_whole_site() as site:
        await with_key(site)
        await register(site, username="bob", email="bob@example.org")
        shapes = []
        for email in ("ada@example.org", "bob@example.org", "nobody@example.org"):
            answers = []
            for _ in range(2):
                told = await begun(site.visitor(), "/passkey/login/begin", {"email": email})
                ids = told["allowed_credentials"]
                assert isinstance(ids, list)
                assert ids
                options = told["options"]
                assert isinstance(options, dict)
                assert [one["id"] for one in options["allowCredentials"]] == ids
                answers.append(ids)
                told |= {"challenge": "", "allowed_credentials": ""}
                options |= {"challenge": "", "allowCredentials": ""}
                shapes.append(json.dumps(told))
            assert answers[0] == answers[1], "the same each time"
        assert len(set(shapes)) == 1
        wrong = await api(site.visitor(), "/passkey/login/begin", {"email": "nonsense"})
        assert wrong.status == 422
        # What is asked of nobody no passkey there is can answer.
        stranger = site.visitor()
        eve, by, _ = await with_key(site, username="eve", email="eve@example.org")
        told = await begun(stranger, "/passkey/login/begin", {"email": "nobody@example.org"})
        bodies = set()
        for credential in (
            by.use(challenge_in(told)), device(site).make(challenge_in(told), b"x"), {"id": "x"},
        ):  # fmt: skip
            answer = await form(stranger, "/login/passkey", credential=json.dumps(credential))
            assert answer.status == 401
            bodies.add(
                json.dumps(problems(answer)) + re.sub(r'value="[^"]*"', "", answer.text)[-900:]
            )
        assert len(bodies) == 1
        assert eve.cookies["gr_auth"]


WRONG = [
    Ways(client={"origin": "https://evil.example"}), Ways(client={"crossOrigin": True}),
    Ways(client={"topOrigin": "http://localhost"}), Ways(client={"type": "webauthn.create"}),
    Ways(client={"challenge": b64(os.urandom(32))}), Ways(rp_id="evil.example"), Ways(flags=0),
    Ways(flags=PRESENT | 4 | 8), Ways(flags=PRESENT | 4 | 16), Ways(user_handle=b"x" * 16),
    Ways(user_handle=None), Ways(change={"signature": lambda one: bytes((*one[:-1], one[-1] ^ 1))}),
    Ways(change={"authenticatorData": lambda one: one[:32] + b"\x05" + one[33:-1] + b"\x09"}),
    Ways(change={"clientDataJSON": lambda one: one + b" "}), Ways(change={"id": lambda _: b"x"}),
]  # fmt: skip


async def test_a_changed_answer_is_refused_and_changes_nothing() -> None:
    # AUTH-43, SEC-100, SEC-101, SEC-102, SEC-104, SEC-130
    async with open_whole_site() as site:
        _, by, _ = await with_key(site)
        database, told = site.accounts.database, set[str]()
        before = snapshot(database)
        for number, ways in enumerate(WRONG):
            other = site.visitor()
            answer = await form(
                other, "/login/passkey", credential=await used(other, by, ways=ways)
            )
            assert answer.status == 401, number
            assert "was not taken" in answer.text
            assert "gr_auth" not in other.cookies
            assert snapshot(database) == before
            (row, *_) = reversed(database.audit)
            assert (row.action, row.is_success, row.reason) == ("account.sign_in", False, "wrong")
            database.attempts.clear()
            main = answer.text.partition("<main")[2].partition("</main>")[0]
            told.add(re.sub(r'="[^"]*"', "", main))
        assert len(told) == 1, "one answer for all"


async def test_a_registration_that_is_not_right_adds_nothing() -> None:
    # SEC-100, SEC-101, SEC-102, SEC-105, AUTH-8
    async with open_whole_site() as site:
        visitor, eve = await register(site), None
        eve = await register(site, username="eve", email="eve@example.org")
        database, by = site.accounts.database, device(site)
        before = snapshot(database)
        of_login = await begun(visitor, "/passkey/login/begin", {})
        of_eve = await made(eve, by)
        tries = [
            "", "{}", "[]", "x" * 70_000, of_eve,
            json.dumps(by.make(challenge_in(of_login), b"x")),
            json.dumps(by.make(os.urandom(32), b"x")),
            await made(visitor, by, Ways(flags=PRESENT)),
            await made(visitor, by, Ways(client={"crossOrigin": True})),
            await made(visitor, by, Ways(client={"origin": f"http://127.0.0.1:{site.port}"})),
        ]  # fmt: skip
        for credential in tries:
            answer = await form(visitor, "/account/passkeys", credential=credential, name="x")
            assert answer.status in (413, 422), (answer.status, credential[:80])
        credential = await made(visitor, by)
        for name in ("x" * (PASSKEY_NAME_MAX + 1), "a\u202eb"):
            answer = await form(visitor, "/account/passkeys", credential=credential, name=name)
            assert answer.status == 422
        assert snapshot(database) == before
        user = str(next(iter(database.users)))
        for path in ("/passkey/register/begin", "/passkey/register/complete"):
            value: dict[str, object] = {"user_id": user}
            if path.endswith("complete"):
                value["credential"] = json.loads(credential)
            assert (await api(visitor, path, value)).status == 403
        assert snapshot(database) == before
        let_proofs_age(site)
        stale = await api(visitor, "/passkey/register/begin", {})
        assert (stale.status, stale.headers["x-greenroom-step-up"]) == (403, "BASIC")
        assert (await form(visitor, "/account/passkeys", credential=credential)).status == 403
        guest = await api(site.visitor(), "/passkey/register/begin", {})
        assert guest.status == 401


async def test_behind_a_password_a_passkey_is_the_second_factor() -> None:
    # AUTH-1, AUTH-9, SEC-85, SEC-102
    async with open_whole_site() as site:
        _, by, codes = await with_key(site)
        other = site.visitor()
        asked = await form(other, "/login", **TYPED, next="/lab")
        ticket = ticket_of(asked)
        assert 'data-passkey="second"' in asked.text
        assert "gr_auth" not in other.cookies
        # Of another browser, without a user that was verified, and of another challenge.
        foreign = site.visitor()
        await get(foreign, "/login")
        assert (await api(foreign, "/passkey/login/begin", {"ticket": ticket})).status == 401
        for credential in (
            await used(other, by, {"ticket": ticket}, Ways(flags=PRESENT)), await used(other, by),
        ):  # fmt: skip
            refused = await form(
                other, "/login/second/passkey", ticket=ticket, credential=credential, next="/lab"
            )
            assert refused.status == 401
            assert 'action="/login/second"' in refused.text
        credential = await used(other, by, {"ticket": ticket})
        entered = await form(
            other, "/login/second/passkey", ticket=ticket, credential=credential, next="/lab"
        )
        assert (entered.status, entered.headers["location"]) == (303, "/lab")
        third = site.visitor()
        ticket = ticket_of(await form(third, "/login", **TYPED))
        assert (await form(third, "/login/second", ticket=ticket, code=codes[0])).status == 303


async def test_an_unverified_user_is_asked_for_one_more_factor() -> None:
    # SEC-102, AUTH-7, AUTH-22
    async with open_whole_site() as site:
        _, by, codes = await with_key(site)
        other = site.visitor()
        credential = await used(other, by, ways=Ways(flags=PRESENT))
        asked = await form(other, "/login/passkey", credential=credential, next="/lab")
        assert asked.status == 200
        assert "gr_auth" not in other.cookies
        ticket = ticket_of(asked)
        entered = await form(other, "/login/second", ticket=ticket, code=codes[0], next="/lab")
        assert (entered.status, entered.headers["location"]) == (303, "/lab")
        program = site.visitor()
        credential = await used(program, by, ways=Ways(flags=PRESENT))
        value = {"credential": json.loads(credential)}
        told = await api(program, "/passkey/login/complete", value)
        assert (told.status, told.headers["x-greenroom-step-up"]) == (403, "MULTIFACTOR")


async def test_a_passkey_proves_again_before_what_is_sensitive() -> None:
    # AUTH-9, AUTH-22, SEC-13, SEC-20
    async with open_whole_site() as site:
        visitor, by, _ = await with_key(site)
        let_proofs_age(site, FRESH_FOR)
        refused = await form(visitor, "/account/passkeys/remove", passkey="x")
        assert refused.status == 403
        assert 'data-passkey="prove"' in refused.text
        token = visitor.cookies["gr_auth"]
        told = await begun(visitor, "/step-up/begin", {"level": 2})
        assert told["methods"] == ["passkey", "recovery_code"]
        unverified = by.use(challenge_in(told), ways=Ways(flags=PRESENT))
        wrong = await form(
            visitor, "/account/prove/passkey", credential=json.dumps(unverified), next="/account"
        )
        assert wrong.status == 422
        told = await begun(visitor, "/step-up/begin", {"level": 2})
        proven = await form(
            visitor, "/account/prove/passkey", next="/account",
            credential=json.dumps(by.use(challenge_in(told))),
        )  # fmt: skip
        assert (proven.status, proven.headers["location"]) == (303, "/account")
        assert visitor.cookies["gr_auth"] != token
        removed = await form(visitor, "/account/passkeys/remove", passkey="x")
        assert removed.status == 404


async def test_programs_do_all_of_it() -> None:
    # AUTH-7, AUTH-8, SEC-104, SEC-107
    async with open_whole_site() as site:
        visitor, by = await register(site), device(site)
        credential = await made(visitor, by)
        value = {"credential": json.loads(credential), "device_name": "phone"}
        added = await api(visitor, "/passkey/register/complete", value)
        assert added.status == 201, added.text
        told = json.loads(added.body)
        assert told["credential_id"] == b64(by.keys[0].credential_id)
        assert len(told["recovery_codes"]) == 10
        kept = json.loads((await api(visitor, "/passkeys", method="GET")).body)["passkeys"]
        assert [(one["name"], one["is_flagged"]) for one in kept] == [("phone", False)]
        # Sign in, once with the token in the answer and once in a cookie.
        for transport in ("body", "cookie"):
            other = site.visitor()
            credential = await used(other, by)
            value = {"credential": json.loads(credential), "transport": transport}
            answer = await api(other, "/passkey/login/complete", value)
            assert answer.status == 200, answer.text
            session = json.loads(answer.body)
            assert session["email"] == "ada@example.org"
            assert ("session_token" in session) is (transport == "body")
            assert ("gr_auth" in other.cookies) is (transport == "cookie")
        asked = await api(visitor, "/step-up/begin", {"level": 3})
        assert asked.status == 409, "no key of a maker that is known"
        told = await begun(visitor, "/step-up/begin", {})
        proof: dict[str, object] = {"credential": by.use(challenge_in(told))}
        assert json.loads((await api(visitor, "/step-up/complete", proof)).body) == {
            "auth_level": 2
        }
        for wrong in (b"{}", b'{"password": "x"}'):
            refused = await api(visitor, "/step-up/complete", json.loads(wrong))
            assert refused.status == 422
        eve = await register(site, username="eve", email="eve@example.org")
        for id_ in (kept[0]["id"], "nonsense", str(next(iter(site.accounts.database.users)))):
            gone = await api(eve, f"/passkeys/{id_}", method="DELETE")
            assert gone.status == 404
        gone = await api(visitor, f"/passkeys/{kept[0]['id']}", method="DELETE")
        assert gone.status == 200, gone.text
        assert json.loads((await api(visitor, "/passkeys", method="GET")).body)["passkeys"] == []


async def test_a_key_of_one_account_is_no_others() -> None:
    # SEC-104
    async with open_whole_site() as site:
        _, by, _ = await with_key(site)
        eve = await register(site, username="eve", email="eve@example.org")
        known = by.keys[0].credential_id
        told = await begun(eve, "/passkey/register/begin", {})
        other = device(site)
        posted = other.make(challenge_in(told), b"x", Ways(change={"id": lambda _: known}))
        answer = await form(eve, "/account/passkeys", credential=json.dumps(posted))
        assert answer.status == 422, "not the id that is signed"


async def test_a_counter_that_fell_is_refused_flagged_and_told() -> None:
    # SEC-103, SEC-137, AUTH-7, AUTH-41, AUTH-42
    sender = MemorySender()
    async with open_whole_site(sender=sender) as site:
        visitor, by, _ = await with_key(site)
        other = site.visitor()
        credential = await used(other, by, ways=Ways(sign_count=10))
        assert (await form(other, "/login/passkey", credential=credential)).status == 303
        copy = site.visitor()
        for count in (10, 3, 0):
            credential = await used(copy, by, ways=Ways(sign_count=count))
            refused = await form(copy, "/login/passkey", credential=credential)
            assert refused.status == 401
        # As a second factor and as a proof, too.
        ticket = ticket_of(await form(copy, "/login", **TYPED))
        credential = await used(copy, by, {"ticket": ticket}, Ways(sign_count=10))
        refused = await form(copy, "/login/second/passkey", ticket=ticket, credential=credential)
        assert refused.status == 401
        told = await begun(visitor, "/step-up/begin", {})
        proof = {"credential": by.use(challenge_in(told), ways=Ways(sign_count=9))}
        assert (await api(visitor, "/step-up/complete", proof)).status == 422
        assert "perhaps copied" in (await get(visitor, "/account")).text
        acts = [row.action for row in site.accounts.database.audit]
        assert acts.count("account.passkey_counter") == 5
        await until(lambda: len(sender.outbox_of("ada@example.org")) == 6)
        assert "there may be a copy of it" in str(sender.outbox_of("ada@example.org")[1])


async def test_passkeys_that_do_not_count_go_on() -> None:
    # SEC-103: synced ones tell 0 each time
    async with open_whole_site() as site:
        _, by, _ = await with_key(site, counts=False)
        for _ in range(3):
            other = site.visitor()
            credential = await used(other, by)
            assert (await form(other, "/login/passkey", credential=credential)).status == 303


async def test_of_fifty_answers_at_once_one_signs_in() -> None:
    # SEC-100, AUTH-43
    async with open_whole_site() as site:
        _, by, _ = await with_key(site, counts=False)
        other = site.visitor()
        credential, told = await used(other, by), list[int]()
        site.accounts.database.attempts.clear()

        async def one() -> None:
            copy = Visitor(site.url, dict(other.cookies))
            answer = await form(copy, "/login/passkey", credential=credential)
            told.append(answer.status)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert told.count(303) == 1
        assert set(told) == {303, 401, 429}


async def test_tries_are_limited() -> None:
    # SEC-106, AUTH-8: ten that fail, whatever for; what is good counts nothing
    async with open_whole_site() as site:
        _, by, _ = await with_key(site)
        for _ in range(2):
            other = site.visitor()
            credential = await used(other, by)
            assert (await form(other, "/login/passkey", credential=credential)).status == 303
        for _ in range(USES_FAILED_PER_ADDRESS_MAX):
            refused = await form(site.visitor(), "/login/passkey", credential="{}")
            assert refused.status == 401
        refused = await form(site.visitor(), "/login/passkey", credential="{}")
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 60
        site.accounts.database.attempts.clear()
        site.hold_limits()
        guest = site.visitor()
        for number in range(BEGUN_PER_ADDRESS_MAX):
            begun = await api(guest, "/passkey/login/begin", {})
            # AUTH-40
            left = BEGUN_PER_ADDRESS_MAX - 1 - number
            assert (begun.status, begun.headers["ratelimit"]) == (200, f'"passkey-ask";r={left}')
        limited = await api(guest, "/passkey/login/begin", {})
        wait = limited.headers["retry-after"]
        assert (limited.status, limited.headers["ratelimit"]) == (
            429, f'"passkey-ask";r=0;t={wait}',
        )  # fmt: skip


async def test_one_names_and_removes_ones_own_and_never_the_last_way_in() -> None:
    # SEC-17, SEC-107, AUTH-9
    async with open_whole_site() as site:
        visitor, by, _ = await with_key(site)
        database = site.accounts.database
        (key,) = database.passkeys.values()
        named = await form(visitor, "/account/passkeys/name", passkey=str(key.id), name="desk <b>")
        assert named.status == 303
        assert "desk &lt;b&gt;" in (await get(visitor, "/account")).text
        assert (await form(visitor, "/account/passkeys/name", passkey="x", name="y")).status == 404
        long = await form(visitor, "/account/passkeys/name", passkey=str(key.id), name="x" * 41)
        assert long.status == 422
        user = database.users[key.user_id]
        kept_hash, user.password_hash = user.password_hash, NO_PASSWORD
        last = await form(visitor, "/account/passkeys/remove", passkey=str(key.id))
        assert last.status == 409
        assert "your only way to sign in" in last.text
        user.password_hash = kept_hash
        other = site.visitor()
        credential = await used(other, by)
        assert (await form(other, "/login/passkey", credential=credential)).status == 303
        gone = await form(visitor, "/account/passkeys/remove", passkey=str(key.id), end_others="1")
        assert gone.status == 303
        assert (await get(other, "/account")).status == 303, "other sign-ins ended"
        assert (await get(visitor, "/account")).status == 200
        assert not database.passkeys
        plain = await form(site.visitor(), "/login", **TYPED)
        assert plain.status == 303, "no second factor any more"


async def test_a_way_that_is_switched_off_is_nowhere() -> None:
    # AUTH-9, SEC-107: routes answer 404, and no page offers it; for apps as well
    off = Settings(
        port=0, overload_late_ms=60_000, overload_after_ms=60_000,
        sign_in_methods=(Method.PASSWORD, Method.RECOVERY_CODE),
    )  # fmt: skip
    async with open_whole_site(settings=off) as site:
        visitor = await register(site)
        for path in ("/account/passkeys", "/account/factors/app/new", "/login/passkey"):
            assert (await form(visitor, path)).status == 404, path
        for path in ("/passkey/login/begin", "/passkey/register/begin"):
            assert (await api(visitor, path, {})).status == 404
        for path in ("/account", "/login"):
            page = (await get(visitor if path == "/account" else site.visitor(), path)).text
            assert "asskey" not in page
            assert "Add an app" not in page
