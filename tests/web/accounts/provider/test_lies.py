"""A provider lies in every way it can: nobody is signed in, one text tells it, nothing changes."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias
from urllib.parse import urlencode

import pytest
import trio
from joserfc.jwk import OctKey

from tests.journeys.visitor import Answer
from tests.web.accounts.provider.lying import CLIENT, SECRET, rsa, signed, unsigned
from tests.web.accounts.provider.town import open_town, path_of
from tests.web.accounts.test_entering import get
from tests.web.whole_site import in_thread
from web.accounts.ways.provider.calling import ANSWER_BYTES_MAX, PROVIDER
from web.accounts.ways.provider.returning import WRONG

pytestmark = pytest.mark.slow

Fields: TypeAlias = dict[str, object]


def claim(**changes: object) -> Mapping[str, object]:
    """Lie about claims; None leaves one out."""

    def change(claims: Fields) -> None:
        for name, value in changes.items():
            if value is None:
                del claims[name]
            else:
                claims[name] = value

    return {"claims": change}


def shift(name: str, by: int) -> Mapping[str, object]:
    """Lie about a time."""

    def change(claims: Fields) -> None:
        claims[name] = int(str(claims.get(name, claims["iat"]))) + by

    return {"claims": change}


def head(**changes: object) -> Mapping[str, object]:
    return {"header": lambda header: header.update(changes)}


def sign(how: Callable[[Fields, Fields], str]) -> Mapping[str, object]:
    return {"sign": how}


def _by_public_key(header: Fields, claims: Fields) -> str:
    # The confusion of algorithms: what verifies is taken for what signs.
    # By hand, for the library would not.
    token = unsigned({**header, "alg": "HS256"}, claims).removesuffix(".")
    digest = hmac.digest(rsa("one").as_pem(private=False), token.encode(), "sha256")
    return f"{token}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _by_our_secret(header: Fields, claims: Fields) -> str:
    return signed({**header, "alg": "HS256"}, claims, OctKey.import_key(SECRET))


def _with_key_inside(header: Fields, claims: Fields) -> str:
    jwk = rsa("eve").as_dict(private=False)
    return signed({**header, "jwk": jwk}, claims, rsa("eve"))


def _cut(header: Fields, claims: Fields) -> str:
    return signed(header, claims, rsa("one"))[:-8]


def _changed(header: Fields, claims: Fields) -> str:
    first, _, last = signed(header, claims, rsa("one")).split(".")
    other = signed(header, {**claims, "sub": "somebody"}, rsa("eve")).split(".")[1]
    return f"{first}.{other}.{last}"


def _critical(header: Fields, claims: Fields) -> str:
    # By hand: what signs would refuse it.
    token = signed(header, claims, rsa("one")).split(".")
    return f"{unsigned({**header, 'crit': ['b64'], 'b64': True}, claims)}{token[2]}"


# Beyond the minute of skew when it is judged, also where some seconds pass until then.
YET_TO_COME_S = 75

_EVE: Mapping[str, Mapping[str, object]] = {
    "jku": head(jku="http://127.0.0.1:9/keys", kid="eve"),
    "x5u": head(x5u="http://127.0.0.1:9/keys"),
}

# SEC-94: id tokens that are none, each by one thing.
FORGED: Mapping[str, Mapping[str, object]] = {
    "another nonce": claim(nonce="another"),
    "no nonce": claim(nonce=None),
    "another audience": claim(aud="somebody else"),
    "one audience more": claim(aud=[CLIENT, "somebody else"]),
    "no audience": claim(aud=None),
    "an empty audience": claim(aud=[]),
    "another party": claim(azp="somebody else"),
    "another issuer": claim(iss="https://evil.example"),
    "nearly the issuer": {"claims": lambda c: c.update(iss=f"{c['iss']}/")},
    "no issuer": claim(iss=None),
    "over": {
        "claims": lambda c: c.update(exp=int(str(c["iat"])) - 61, iat=int(str(c["iat"])) - 99)
    },
    "without an end": claim(exp=None),
    "an end in words": claim(exp="tomorrow"),
    "issued tomorrow": {"claims": lambda c: c.update(iat=int(str(c["iat"])) + YET_TO_COME_S)},
    "good from tomorrow": shift("nbf", YET_TO_COME_S),
    "no subject": claim(sub=None),
    "an empty subject": claim(sub=""),
    "a long subject": claim(sub="x" * 256),
    "an address nobody verified": claim(email_verified=False),
    "an address nobody says is verified": claim(email_verified=None),
    "an address that is none": claim(email="ada"),
    "no signature": sign(lambda h, c: unsigned({**h, "alg": "none"}, c)),
    "an empty signature": sign(unsigned),
    "signed by what verifies": sign(_by_public_key),
    "signed by our secret": sign(_by_our_secret),
    "signed by somebody": sign(lambda h, c: signed(h, c, rsa("eve"))),
    "signed by the key it brings": sign(_with_key_inside),
    "signed by a key elsewhere": {**_EVE["jku"], "sign": lambda h, c: signed(h, c, rsa("eve"))},
    "signed by a chain elsewhere": {**_EVE["x5u"], "sign": lambda h, c: signed(h, c, rsa("eve"))},
    "by a key nobody knows": head(kid="nobody"),
    "cut short": sign(_cut),
    "said otherwise": sign(_changed),
    "of another type": head(typ="logout+jwt"),
    "an access token": head(typ="at+jwt"),
    "with what must be known": sign(_critical),
    "of no form": {"tokens": lambda answer: answer.update(id_token="one.two")},
    "huge": {"tokens": lambda answer: answer.update(id_token="x" * 20_000)},
    "none": {"tokens": lambda answer: answer.pop("id_token")},
}


# What comes back wrong beside the token.
WRONG_ANSWERS: Mapping[str, Mapping[str, object]] = {
    "denied": {"back": lambda query: query.update(error="access_denied", code=None)},
    "an error and a code": {"back": lambda query: query.update(error="server_error")},
    "no code": {"back": lambda query: query.update(code=None)},
    "two codes": {"back": lambda query: query.update(code=[query["code"], "other"])},
    "a code made up": {"back": lambda query: query.update(code="made up")},
    "a huge code": {"back": lambda query: query.update(code="x" * 2049)},
    "another issuer": {"back": lambda query: query.update(iss="https://evil.example")},
    "no issuer": {"back": lambda query: query.update(iss=None)},
    "no access token": {"tokens": lambda answer: answer.pop("access_token")},
    "a token of another kind": {"tokens": lambda answer: answer.update(token_type="mac")},
}


@pytest.mark.parametrize("then", ["/lab", None])
async def test_whatever_is_wrong_is_one_answer_and_changes_nothing(then: str | None) -> None:
    # SEC-91, SEC-92, SEC-94, AUTH-43, AUTH-4
    async with open_town() as town:
        before, told = town.kept(), set[tuple[object, ...]]()
        # A program goes some of the ways only: what is answered is made in one place.
        ways = {**FORGED, **WRONG_ANSWERS}
        if then is None:
            ways = dict(list(ways.items())[::6])
        for name, lies in ways.items():
            guest = town.site.visitor()
            town.lie(**lies)
            answer = await town.sign_in(guest, then)
            assert answer.status == 400, f"{name}: {answer.text}"
            assert "gr_auth" not in guest.cookies, name
            assert town.kept() == before, name
            told.add(_told(answer))
        assert len(FORGED) >= 20
        (only,) = told
        assert WRONG in str(only)
        town.lie()
        assert (await town.sign_in(town.site.visitor(), then)).status in {303, 200}


def _told(answer: Answer) -> tuple[object, ...]:
    if answer.headers["content-type"] == "application/json":
        return tuple(re.findall(r'"(?:code|message)":"([^"]+)"', answer.text))
    return tuple(re.findall(r'role="alert">([^<]+)<', answer.text))


async def test_a_minute_of_skew_is_forgiven() -> None:
    # SEC-94
    async with open_town() as town:
        for lies in (
            {"claims": lambda c: c.update(exp=c["iat"] - 50, iat=c["iat"] - 99)},
            shift("iat", 50),
            shift("nbf", 50),
            claim(azp=CLIENT, aud=[CLIENT]),
            claim(email_verified="true"),
            head(typ="application/jwt"),
            {"header": lambda header: header.pop("typ")},
            {"header": lambda header: header.pop("kid")},
        ):
            town.lie(**lies)
            answer = await town.sign_in(town.site.visitor())
            assert answer.status == 303, answer.text


def _bare(claims: Fields) -> None:
    claims["iss"] = str(claims["iss"]).partition("://")[2]


async def test_what_google_writes_otherwise_is_the_same_person() -> None:
    # AUTH-14, SEC-92, SEC-93, SEC-94: recorded answers; and of nobody else they are taken
    # Without mail: what is on its way changes by itself.
    async with open_town(google=True, has_mail=False) as town:
        for lies in (
            {},
            {"claims": _bare},
            claim(email_verified="true", hd="example.org", at_hash="x", picture="https://p"),
            claim(hd="evil.example"),
        ):
            town.lie(**lies)
            answer = await town.sign_in(town.site.visitor())
            assert answer.status == 303, answer.text
        (identity,) = town.site.accounts.database.identities
        assert identity.issuer == town.provider.issuer, "kept under one name"
        assert len(town.site.accounts.database.users) == 2, "with the demo user"
        before = town.kept()
        for lies in (
            claim(iss="accounts.google.com.evil.example"),
            claim(iss="//" + town.provider.issuer.partition("://")[2]),
            claim(iss=""),
            claim(email_verified="false", sub="another"),
            claim(email_verified="TRUE ", sub="another"),
        ):
            town.lie(**lies)
            assert (await town.sign_in(town.site.visitor())).status == 400, lies
        assert town.kept() == before
        # What it says is over under its short name is over, too.
        town.lie()
        town.provider.session = "s1"
        ada = town.site.visitor()
        assert (await town.sign_in(ada)).status == 303
        town.lie(logout=_bare)
        body = urlencode({"logout_token": town.provider.logout_token(sid="s1")}).encode()
        path = "/api/v1/auth/oauth/google/backchannel-logout"
        kind = {"content-type": "application/x-www-form-urlencoded"}
        said = await in_thread(partial(town.site.visitor().request, "POST", path, body, kind))
        assert said.status == 200, said.text
        assert (await get(ada, "/protected")).status == 303
    async with open_town() as town:
        town.lie(claims=_bare)
        assert (await town.sign_in(town.site.visitor())).status == 400


async def test_two_providers_are_not_mixed_up() -> None:
    # SEC-92: the code of one is brought back to the other, whose state is a good one
    async with open_town("example", "evil") as town:
        example, evil = town.providers
        guest, before = town.site.visitor(), town.kept()
        began = await town.begin(guest)
        honest = path_of(example.agree(began.headers["location"]))
        other = await town.begin(guest, "evil")
        state = other.headers["location"].split("state=")[1].split("&")[0]
        swapped = re.sub(r"state=[^&]+", f"state={state}", honest)
        answer = await get(guest, swapped.replace("/example/", "/evil/"))
        assert answer.status == 400
        assert evil.calls["/token"] == 0
        # And one that hides who it is, though it says that it says so.
        evil.lies.back = lambda query: query.update(iss=None)
        third = await town.begin(guest, "evil")
        assert (await get(guest, path_of(evil.agree(third.headers["location"])))).status == 400
        assert evil.calls["/token"] == 0
        assert town.kept() == before


# SEC-95: what is no answer. Each with where it is lied.
AWAY: Mapping[str, Mapping[str, object]] = {
    "500": {"status": {"/token": 500}},
    "429": {"status": {"/token": 429}},
    "a redirect": {"status": {"/token": 307}, "headers": {"/token": [(b"location", b"/keys")]}},
    "huge": {"body": {"/token": b'{"access_token":"' + b"x" * ANSWER_BYTES_MAX + b'"}'}},
    "no JSON": {"body": {"/token": b"<html>"}},
    "another shape": {"body": {"/token": b'{"access_token":5}'}},
    "packed": {"headers": {"/token": [(b"content-encoding", b"gzip")]}},
    "our secret is wrong": {
        "status": {"/token": 401}, "body": {"/token": b'{"error":"invalid_client"}'}
    },
    "keys away": {"status": {"/keys": 503}},
    "keys gone": {"status": {"/keys": 404}},
}  # fmt: skip


async def test_one_that_does_not_answer_leaves_the_other_ways() -> None:
    # SEC-95, AUTH-5: 503, no half-made session, and nothing of its text
    async with open_town() as town:
        before = town.kept()
        for name, lies in AWAY.items():
            guest = town.site.visitor()
            town.asked.caller.reset()
            town.lie(**lies)
            answer = await town.sign_in(guest)
            assert answer.status == 503, f"{name}: {answer.text}"
            assert "Example does not answer just now" in answer.text, name
            assert 'action="/login"' in answer.text, name
            assert "gr_auth" not in guest.cookies, name
            assert town.kept() == before, name
        town.asked.caller.reset()
        town.lie()
        assert (await town.sign_in(town.site.visitor())).status == 303


async def test_one_that_is_slow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # SEC-95
    monkeypatch.setattr("web.accounts.ways.provider.calling.CALL_S_MAX", 0.2)
    async with open_town() as town:
        town.lie(held={"/token": trio.Event()})
        answer = await town.sign_in(town.site.visitor())
        assert answer.status == 503
        assert town.provider.calls["/token"] == 1


async def test_one_that_is_away_is_left_alone() -> None:
    # SEC-95, AUTH-5: the breaker
    async with open_town() as town:
        guest = town.site.visitor()
        town.lie(status={"/.well-known/openid-configuration": 500})
        for _ in range(PROVIDER.breaker.failures + 3):
            answer = await town.begin(guest)
            assert (answer.status, answer.headers["retry-after"]) == (503, "30")
            assert "Sign in with" in answer.text
        assert town.provider.calls["/.well-known/openid-configuration"] == PROVIDER.breaker.failures
        assert (await town.begin(guest, then=None)).status == 503


async def test_keys_that_nobody_knows_are_looked_for_once_a_minute() -> None:
    # SEC-95: a flood of made-up keys makes no calls
    async with open_town() as town:
        town.lie(**head(kid="made up"))
        for _ in range(10):
            town.site.accounts.database.attempts.clear()
            assert (await town.sign_in(town.site.visitor())).status == 400
        assert town.provider.calls["/keys"] == 1
        town.asked.looked_at -= 60  # a minute later
        for _ in range(3):
            assert (await town.sign_in(town.site.visitor())).status == 400
        assert town.provider.calls["/keys"] == 2


async def test_it_is_asked_where_it_was_set_and_nowhere_else() -> None:
    # SEC-95: a document that leads elsewhere, or is of another issuer
    elsewhere = "http://127.0.0.2:9/x"
    for lies in (
        {"token_endpoint": elsewhere},
        {"jwks_uri": elsewhere},
        {"userinfo_endpoint": elsewhere},
        {"authorization_endpoint": "https://evil.example/authorize"},
        {"issuer": "https://evil.example"},
    ):
        async with open_town() as town:
            town.lie(discovery=lambda document, lies=lies: document.update(lies))
            answer = await town.begin(town.site.visitor())
            assert answer.status == 503, lies
