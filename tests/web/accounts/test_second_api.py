"""A client program gives a second factor behind the first, whichever way that was (AUTH-9)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import trio

from actors.accounts import Level
from actors.accounts.kept.throttle import LOGINS_BEFORE_DELAY
from storage.errors import StoreUnavailable
from storage.memory import MemoryFactors
from tests.journeys.visitor import Answer, Visitor
from tests.passkeys import PRESENT, Ways
from tests.web.accounts.passkeys.test_passkeys_site import challenge_in, used, with_key
from tests.web.accounts.test_links import Post, let_limits_go, open_post
from tests.web.accounts.test_second_factors import half_in, with_app
from tests.web.accounts.test_session_api import api, told
from tests.web.routing.test_sweeps import everything_logged
from tests.web.whole_site import open_whole_site
from web.settings import MagicLinkFlow

pytestmark = pytest.mark.slow

ADA = "ada@example.org"


async def half_by_link(post: Post, program: Visitor, number: int) -> dict[str, object]:
    """Open a link as a program does, and give what it is told: that a factor is missing."""
    token = await post.ask(program, ADA, number)
    asked = await api(program, "POST", "/magic-link/verify", {"token": token})
    assert (asked.status, asked.headers["x-greenroom-step-up"]) == (403, "MULTIFACTOR")
    assert asked.headers["cache-control"] == "no-store"
    found = told(asked)
    assert found["code"] == "STEP_UP_REQUIRED"
    assert set(found) == {"code", "message", "ticket", "methods", "expires_in"}
    return found


async def second(program: Visitor, asked: Mapping[str, object], **given: object) -> Answer:
    return await api(program, "POST", "/second", {"ticket": asked["ticket"], **given})


async def test_a_code_behind_a_link_signs_a_program_in() -> None:
    # AUTH-9, AUTH-22, SEC-85, SEC-131: once, by a code of the app or a recovery code
    with everything_logged() as lines:
        async with open_post() as post:
            site = post.site
            _, app, codes = await with_app(site)
            program = site.visitor()
            asked = await half_by_link(post, program, 2)
            assert asked["methods"] == ["totp", "recovery_code"]
            assert asked["expires_in"] == 600
            before = len(site.accounts.database.sign_ins)
            for wrong in ("000000", "x", codes[0][:-1]):
                refused = await second(program, asked, code=wrong)
                assert (refused.status, told(refused)["code"]) == (401, "UNAUTHORIZED")
            assert len(site.accounts.database.sign_ins) == before
            done = await second(program, asked, code=app.code())
            assert (done.status, done.headers["cache-control"]) == (200, "no-store"), done.text
            entered = told(done)
            assert set(entered) == {"session_id", "session_token", "email", "expires_at"}
            assert "gr_auth" not in program.cookies
            token = str(entered["session_token"])
            own = told(await api(site.visitor(), "GET", "/session", token=token))
            assert (own["auth_level"], own["email"]) == (int(Level.MULTI_FACTOR), ADA)
            assert own["session_id"] == entered["session_id"]
            replayed = await second(program, asked, code=codes[0])
            assert replayed.status == 200, "a ticket is a first factor, and this is another second"
            assert (await second(program, asked, code=codes[0])).status == 401, "used"
            by_cookie = await second(program, asked, code=codes[1], transport="cookie")
            assert "session_token" not in told(by_cookie)
            assert (await api(program, "GET", "/session")).status == 200
    assert str(asked["ticket"]) not in repr(lines)
    assert token not in repr(lines)


async def test_a_passkey_behind_a_password_or_a_touch_signs_a_program_in() -> None:
    # AUTH-9, SEC-100, SEC-102: an unverified key is one factor, and a verified one another
    async with open_whole_site() as site:
        _, by, codes = await with_key(site)
        program = site.visitor()
        touched = await used(program, by, ways=Ways(flags=PRESENT))
        first = await api(
            program, "POST", "/passkey/login/complete", {"credential": json.loads(touched)}
        )
        assert first.status == 403
        asked = told(first)
        assert asked["methods"] == ["passkey", "recovery_code"]
        begun = await api(program, "POST", "/passkey/login/begin", {"ticket": asked["ticket"]})
        credential = by.use(challenge_in(told(begun)))
        # Of another browser neither is good.
        other = site.visitor()
        assert (await second(other, asked, credential=credential)).status == 401
        done = await second(program, asked, credential=credential)
        assert done.status == 200, done.text
        assert (await second(program, asked, credential=credential)).status == 401, "once"
        unverified = await api(program, "POST", "/passkey/login/begin", {"ticket": asked["ticket"]})
        weak = by.use(challenge_in(told(unverified)), ways=Ways(flags=PRESENT))
        assert (await second(program, asked, credential=weak)).status == 401
        assert (await second(program, asked, code=codes[0])).status == 200


async def test_a_ticket_opens_where_it_was_given_only() -> None:
    # AUTH-9, SEC-82: another's, none, one that was cut; and a program without cookies by a setting
    async with open_post() as post:
        site = post.site
        _, app, _ = await with_app(site)
        program, thief = site.visitor(), site.visitor()
        asked = await half_by_link(post, program, 2)
        _, by_password = await half_in(site, program)
        for ticket in ("", "x", str(asked["ticket"])[:-3], "A" * 3000, "\N{SNOWMAN}"):
            refused = await second(program, {"ticket": ticket}, code=app.code())
            assert refused.status == 401, ticket
        let_limits_go(site)
        assert (await second(thief, asked, code=app.code())).status == 401
        for nonsense in (
            {},
            {"ticket": asked["ticket"]},
            {"ticket": asked["ticket"], "code": "1", "credential": {}},
            {"ticket": 1, "code": "000000"},
            {"ticket": asked["ticket"], "code": "000000", "transport": "post"},
            {"ticket": asked["ticket"], "code": ""},
        ):
            assert (await api(program, "POST", "/second", nonsense)).status == 422, nonsense
        done = await second(program, {"ticket": by_password}, code=app.code())
        assert done.status == 200, "a page of the site gave it to the same browser"
    async with open_post(magic_link_bind_flow=MagicLinkFlow.OFF) as post:
        site = post.site
        _, app, _ = await with_app(site)
        asked = await half_by_link(post, site.visitor(), 2)
        page = await api(site.visitor(), "POST", "/passkey/login/begin", {"ticket": "x"})
        assert page.status == 401
        assert (await second(site.visitor(), asked, code=app.code())).status == 200


async def test_tries_are_counted_and_the_store_away_signs_nobody_in() -> None:
    # AUTH-3, AUTH-40, SEC-3, SEC-76: fifty at once count fifty; and a good one is no more then
    async with open_post() as post:
        site = post.site
        _, app, _ = await with_app(site)
        program = site.visitor()
        asked = await half_by_link(post, program, 2)
        site.hold_limits()
        statuses: list[int] = []

        async def guess() -> None:
            statuses.append((await second(program, asked, code="000000")).status)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(guess)
        assert statuses.count(401) == LOGINS_BEFORE_DELAY
        assert statuses.count(429) == 50 - LOGINS_BEFORE_DELAY
        late = await second(program, asked, code=app.code())
        assert (late.status, '"second-factor";r=0' in late.headers["ratelimit"]) == (429, True)
        assert int(late.headers["retry-after"]) >= 1
        let_limits_go(site)
        twin = site.web.accounts.factors
        assert isinstance(twin, MemoryFactors)
        twin.fail_next(StoreUnavailable("planted"))
        assert (await second(program, asked, code=app.code())).status == 503
        assert (await second(program, asked, code=app.code())).status == 200
