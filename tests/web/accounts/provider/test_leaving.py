"""Who leaves a provider is signed out here, and who leaves here may leave the provider, too."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from urllib.parse import urlencode

import pytest
from joserfc.jwk import OctKey
from structlog.testing import capture_logs

from tests.journeys.visitor import Answer, Visitor
from tests.logged import configured_for
from tests.web.accounts.provider.lying import CLIENT, query_of, rsa, signed, unsigned
from tests.web.accounts.provider.town import Town, open_town
from tests.web.accounts.test_entering import form, get, opened, register
from tests.web.whole_site import in_thread
from web.accounts import routes
from web.accounts.ways.provider.leaving import REFUSED_PER_ADDRESS_MAX

pytestmark = pytest.mark.slow

LEFT = "/api/v1/auth/oauth/{}/backchannel-logout"
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def say(town: Town, token: str | list[str], name: str = "example") -> Answer:
    """Be the provider, which calls from elsewhere without a cookie."""
    body = urlencode({"logout_token": token}, doseq=True).encode()
    caller = town.site.visitor()
    return await in_thread(partial(caller.request, "POST", LEFT.format(name), body, FORM))


async def is_in(visitor: Visitor) -> bool:
    return (await get(visitor, "/protected")).status == 200


async def test_who_left_the_provider_is_signed_out_with_what_is_open() -> None:
    # AUTH-13, SEC-44: within a second, in whatever process: the store rings for all of them
    async with open_town() as town:
        town.provider.session = "s1"
        ada, elsewhere = town.site.visitor(), town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        town.provider.session = "s2"
        assert (await town.sign_in(elsewhere)).status == 303
        with await opened(ada) as stream:
            token = town.provider.logout_token(sid="s1")
            said = await say(town, token)
            assert (said.status, said.headers["cache-control"]) == (200, "no-store")
            await in_thread(stream.response.read)  # to its end
        assert not await is_in(ada)
        assert await is_in(elsewhere)
        # Once; by nobody else; and all of that person without a session.
        assert (await say(town, token)).status == 400
        assert (await say(town, token, "nobody")).status == 404
        assert (await say(town, town.provider.logout_token(sid=None))).status == 200
        assert not await is_in(elsewhere)


async def test_no_forged_word_ends_anything() -> None:
    # AUTH-13, SEC-94
    async with open_town() as town:
        town.provider.session = "s1"
        ada = town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        provider, foreign = town.provider, rsa("foreign")
        alone = OctKey.import_key(b"s" * 32)
        lies: list[dict[str, object]] = [
            {"logout": lambda one: one.update(iss="https://elsewhere.org")},
            {"logout": lambda one: one.update(aud="another client")},
            {"logout": lambda one: one.update(aud=[CLIENT, "another client"])},
            {"logout": lambda one: one.update(exp=1000)},
            {"logout": lambda one: one.update(exp=int(1e12))},
            {"logout": lambda one: one.update(exp=one["iat"] + 48 * 3600)},
            {"logout": lambda one: one.update(iat=int(4e9), exp=int(4e9) + 60)},
            {"logout": lambda one: one.update(nbf=int(4e9))},
            {"logout": lambda one: one.update(nonce="n")},
            {"logout": lambda one: one.update(events={})},
            {"logout": lambda one: one.update(events={"http://other": {}})},
            {"logout": lambda one: one.update(sub=None, sid=None)},
            {"logout": lambda one: one.update(jti=None)},
            {"logout": lambda one: one.update(jti="")},
            {"logout": lambda one: one.update(sid="x" * 256)},
            {"logout_header": lambda one: one.update(typ="at+jwt")},
            {"logout_header": lambda one: one.update(kid="unknown")},
            {"sign": lambda header, claims: signed(header, claims, foreign)},
            {"sign": lambda header, claims: signed({**header, "alg": "HS256"}, claims, alone)},
            {"sign": lambda header, claims: unsigned({**header, "alg": "none"}, claims)},
        ]
        for number, lie in enumerate(lies):
            town.lie(**lie)
            assert (await say(town, provider.logout_token())).status == 400, number
        town.lie()
        # An id token, which is signed with the same key, is none.
        began = query_of(await town.agreed(town.site.visitor()))
        id_token = provider.id_token(provider.grants[began["code"]])
        good = provider.logout_token()
        for given in (id_token, "", "x.y.z", "é", good[:-4] + "AAAA", [good, good], []):
            assert (await say(town, given)).status == 400, given
        assert await is_in(ada)
        assert (await say(town, good)).status == 200
        assert not await is_in(ada)


async def test_one_who_says_what_is_not_so_waits_and_one_that_is_away_is_asked_again() -> None:
    # AUTH-13, SEC-95
    async with open_town() as town:
        town.provider.session = "s1"
        ada = town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        # Keys that it has changed meanwhile are looked for; while it is away nobody knows.
        town.provider.keys = [rsa("one"), rsa("two")]
        town.asked.looked_at = float("-inf")
        town.lie(status={"/keys": 500})
        away = await say(town, town.provider.logout_token())
        assert (away.status, int(away.headers["retry-after"]) > 0) == (503, True)
        assert await is_in(ada)
        town.lie()
        town.asked.looked_at = float("-inf")
        assert (await say(town, town.provider.logout_token())).status == 200
        for _ in range(REFUSED_PER_ADDRESS_MAX):
            assert (await say(town, "x.y.z")).status == 400
        refused = await say(town, town.provider.logout_token())
        assert (refused.status, int(refused.headers["retry-after"]) > 600) == (429, True)
        # AUTH-40
        assert '"provider-logout";r=0;t=' in refused.headers["ratelimit"]


async def test_who_signs_out_is_led_to_the_provider() -> None:
    # AUTH-13
    async with open_town() as town:
        town.provider.has_end_session = True
        ada = town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        out = await form(ada, "/logout")
        where = out.headers["location"]
        assert (out.status, where.startswith("/logout/example?of=")) == (303, True)
        assert not await is_in(ada)
        page, of = await get(ada, where), query_of(where)["of"]
        assert page.headers["refresh"] == f"0; url=/logout/example?go=1&of={of}"
        assert f'href="/logout/example?go=1&amp;of={of}"' in page.text
        assert town.provider.last_id_token not in page.text + repr(page.headers) + where
        gone = await get(ada, f"/logout/example?go=1&of={of}")
        assert gone.status == 302
        where = gone.headers["location"]
        assert where.startswith(f"{town.provider.issuer}/leave?")
        plain = {"client_id": CLIENT, "post_logout_redirect_uri": f"{town.site.url}/"}
        assert query_of(where) == {**plain, "id_token_hint": town.provider.last_id_token}
        # In another browser, with another ticket, or none: whoever has the address learns nothing.
        for visitor, ticket in ((town.site.visitor(), of), (ada, of[:-2] + "AA"), (ada, "")):
            gone = await get(visitor, f"/logout/example?go=1&of={ticket}")
            assert query_of(gone.headers["location"]) == plain
        # Who came otherwise is not.
        bob = await register(town.site, username="bob", email="bob@example.org")
        assert (await form(bob, "/logout")).headers["location"] == "/"


async def test_a_hint_is_of_the_session_that_is_left_and_soon_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # AUTH-13: the id token of another session would have that one ended
    async with open_town() as town:
        provider, site = town.provider, town.site
        provider.has_end_session, provider.session = True, "s1"
        first, second = site.visitor(), site.visitor()
        assert (await town.sign_in(first)).status == 303
        provider.session = "s2"
        assert (await town.sign_in(second)).status == 303
        newest = provider.last_id_token
        assert (await form(first, "/logout")).headers["location"] == "/logout/example"
        where = (await form(second, "/logout")).headers["location"]
        go = where.replace("?", "?go=1&")
        assert query_of((await get(second, go)).headers["location"])["id_token_hint"] == newest
        # Somebody else is shown by it since: that is not who left.
        assert (await town.sign_in(first)).status == 303
        assert "id_token_hint" not in (await get(second, go)).headers["location"]
        assert timedelta(seconds=30) < routes.LEAVING_KEPT < timedelta(minutes=10)
        monkeypatch.setattr(routes, "LEAVING_KEPT", timedelta(0))
        where = (await form(first, "/logout")).headers["location"]
        gone = await get(first, where.replace("?", "?go=1&"))
        assert "id_token_hint" not in gone.headers["location"]
        # One that is too long for an address is not kept.
        town.lie(claims=lambda one: one.update(groups=["x" * 100] * 40))
        assert (await town.sign_in(first)).status == 303
        assert (await form(first, "/logout")).headers["location"] == "/logout/example"


async def test_without_such_a_place_nobody_is_led_anywhere() -> None:
    # AUTH-13
    async with open_town() as town:
        ada = town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        await form(ada, "/logout")
        assert (await get(ada, "/logout/example")).headers["location"] == "/"
        # Nor while it is away, nor to a host that is not its own.
        town.asked.endpoints_kept_s = 0.0
        town.provider.has_end_session = True
        for lie in (
            {"status": {"/.well-known/openid-configuration": 500}},
            {"discovery": lambda one: one.update(end_session_endpoint="https://evil.example")},
        ):
            town.lie(**lie)
            assert (await get(ada, "/logout/example?go=1")).headers["location"] == "/"
        assert (await get(ada, "/logout/nobody")).status == 404


async def test_where_it_is_is_looked_up_again_and_another_issuer_refused() -> None:
    # AUTH-13, SEC-92
    async with open_town() as town:
        ada = town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        assert (await town.sign_in(ada)).status == 303
        looked = town.provider.calls["/.well-known/openid-configuration"]
        assert (looked, town.asked.endpoints_kept_s) == (1, 24 * 3600)
        town.asked.endpoints_kept_s = 0.0  # a day later
        town.lie(discovery=lambda document: document.update(issuer="https://evil.example"))
        refused = await town.begin(ada)
        assert (refused.status, "does not answer just now" in refused.text) == (503, True)
        town.lie()
        assert (await town.sign_in(ada)).status == 303


async def test_nothing_a_provider_says_of_somebody_is_logged() -> None:
    # AUTH-13, SEC-130, SEC-131
    async with open_town() as town:
        town.provider.session, ada = "canary-session", town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        with configured_for(logging.INFO), capture_logs() as lines:
            token = town.provider.logout_token()
            assert (await say(town, token)).status == 200
            assert (await say(town, token)).status == 400
        told = [one for one in lines if one["event"] == "accounts.provider_logout"]
        assert [(one["outcome"], one["method"]) for one in told] == [
            ("accepted", "oauth_example"),
            ("refused", "oauth_example"),
        ]
        seen = repr(lines)
        for secret in ("canary-session", "ada-first", token, "said-"):
            assert secret not in seen, secret
