"""One client goes every wrong way against each method that has no browser or provider of its own.

Passkeys have theirs in `passkeys/test_wrong_ways.py`, providers in `provider/test_lies.py`, links
in `test_links.py`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from hashlib import sha256
from urllib.parse import quote_plus, urlencode
from uuid import UUID

import pytest

from actors.accounts.kept.factors import code_of_step, recovery_digest, secret_text, step_of
from actors.accounts.kept.recoveries import RECOVERY_WAIT
from actors.accounts.kept.risk.words import RiskMode
from tests.journeys.visitor import Answer, Visitor
from tests.web.accounts.test_api_tokens import made
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.accounts.test_links import Post, let_limits_go, open_post
from tests.web.accounts.test_recovering import (
    FINISH,
    START,
    STOP,
    links_in,
    mail_with,
    start,
)
from tests.web.accounts.test_second_factors import App, half_in, ticket_of, with_app
from tests.web.accounts.test_session_api import api
from tests.web.routing.test_sweeps import everything_logged
from tests.web.whole_site import WholeSite, in_thread
from web.accounts.identity import new_api_token
from web.accounts.own.mending.recovering import FinishesRecovery, StopsRecovery

pytestmark = pytest.mark.slow

FORM = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
JSON = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
PAT, EVE = "pat@example.org", "eve@example.org"
# Beside blanks at its end, a sign that can be written in two ways.
PATS = "Çafé mit Milch! "
# What is no answer to a try, but to a request that is none.
SHAPES = frozenset({400, 403, 404, 405, 413, 415, 422, 429})


@dataclass
class Scene:
    """Somebody in whose name a thief would act, and what is theirs."""

    site: WholeSite
    owner: Visitor
    thief: Visitor
    has: dict[str, str] = field(default_factory=dict)
    app: App | None = None

    async def send(
        self, path: str, *pairs: tuple[str, str], headers: Mapping[str, str] = FORM
    ) -> Answer:
        body = urlencode(pairs).encode()
        return await in_thread(partial(self.thief.request, "POST", path, body, {**FORM, **headers}))

    def totp(self, steps: int = 0) -> str:
        """The code of a step from now."""
        assert self.app is not None
        now = step_of(self.site.web.accounts.now())
        return code_of_step(self.app.secret, now + steps)


Way = Callable[[Scene], Awaitable[Answer]]
Table = Mapping[str, Way]


# -- passwords ------------------------------------------------------------------------------------


def login(**changes: str) -> Way:
    """With the right fields, but for these."""
    fields = {"email": PAT, "password": PATS, **changes}
    return lambda scene: scene.send("/login", *fields.items())


def sent_as(path: str, body: bytes, method: str = "POST", **headers: str) -> Way:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda scene: in_thread(
        partial(scene.thief.request, method, path, body, {**FORM, **named})
    )


GOOD = urlencode({"email": PAT, "password": PATS})
PASSWORD_WAYS: Table = {
    "none": login(password=""),
    "without its last blank": login(password=PATS.rstrip()),
    "with one more": login(password=PATS + " "),
    "with one before": login(password=" " + PATS),
    "in other letters": login(password=PATS.swapcase()),
    "composed otherwise": login(password=unicodedata.normalize("NFD", PATS)),
    "what looks like it": login(password=PATS.replace("i", "\u0456")),
    "cut at NUL": login(password=PATS + "\0"),
    "beyond NUL": login(password=PATS + "\0x"),
    "twice over": login(password=PATS * 2),
    "too long by one": login(password=PATS.ljust(257, "x")),
    "of 60 kB": login(password="x" * 60_000),
    "another member's": login(password=PASSWORD),
    "another member's address": login(email=EVE),
    "nobody's address": login(email="nobody@example.org"),
    "an address beside it": login(email="pat@example.org, eve@example.org"),
    "an address with a line": login(email="pat@example.org\r\nBcc: eve@example.org"),
    "by its name": login(email="pat"),
    "a statement": login(email="' OR 1=1 --", password="' OR 1=1 --"),
    "what is kept of it": lambda scene: login(password=scene.has["hash"])(scene),
    "two of them, the right one first": lambda scene: scene.send(
        "/login", ("email", PAT), ("password", PATS), ("password", "x" * 9)
    ),
    "and more than it takes": login(role="admin"),
    "as JSON": sent_as("/login", json.dumps({"email": PAT, "password": PATS}).encode(),
                       content_type="application/json"),
    "in the address": sent_as(f"/login?{GOOD}", b""),
    "by looking": sent_as(f"/login?{GOOD}", b"", "GET"),
    "from another site": sent_as("/login", GOOD.encode(), origin="https://evil.example",
                                 sec_fetch_site="cross-site"),
    "as a header": sent_as("/account", b"", "GET", authorization="Basic " + b64encode(
        f"{PAT}:{PATS}".encode()).decode()),
    "under other names": sent_as("/login", urlencode({"user": PAT, "pass": PATS}).encode()),
}  # fmt: skip


# -- codes of an app ------------------------------------------------------------------------------


def code(made_of: Callable[[Scene], str], ticket: str = "half") -> Way:
    """On the page, with a code."""
    return lambda scene: scene.send(
        "/login/second", ("ticket", scene.has.get(ticket, ticket)), ("code", made_of(scene))
    )


async def _of_another_browser(scene: Scene) -> Answer:
    other = Scene(scene.site, scene.owner, scene.site.visitor(), scene.has, scene.app)
    await get(other.thief, "/login")
    return await code(Scene.totp)(other)


async def _by_api(scene: Scene, ticket: str, typed: str, path: str = "/second") -> Answer:
    return await api(scene.thief, "POST", path, {"ticket": ticket, "code": typed})


TOTP_WAYS: Table = {
    "none": code(lambda _: ""),
    "guessed": code(lambda _: "000000"),
    "of a minute ago": code(lambda one: one.totp(-3)),
    "an hour old": code(lambda one: one.totp(-120)),
    "of a minute ahead": code(lambda one: one.totp(3)),
    "used": code(lambda one: one.has["used"]),
    "of another's app": code(lambda one: one.has["eves code"]),
    "cut": code(lambda one: one.totp()[:5]),
    "longer": code(lambda one: one.totp() + "0"),
    "with a sign before": code(lambda one: "+" + one.totp()),
    "in other digits": code(lambda one: "".join(chr(0xFF10 + int(d)) for d in one.totp())),
    "as a number": code(lambda one: one.totp() + ".0"),
    "with NUL": code(lambda one: one.totp() + "\0"),
    "all of them": code(lambda one: " ".join(one.totp(n) for n in (-1, 0, 1))),
    "the secret itself": code(lambda one: secret_text(one.has["secret"].encode("latin-1"))),
    "of 5 kB": code(lambda _: "1" * 5000),
    "without a ticket": code(Scene.totp, ""),
    "with a ticket that was changed": lambda one: code(Scene.totp, one.has["half"][:-3] + "abc")(
        one
    ),
    "with another's ticket": code(Scene.totp, "eves half"),
    "with the ticket of an app to be": code(Scene.totp, "enrolment"),
    "in another browser": _of_another_browser,
    "with the ticket at the API": lambda one: _by_api(one, one.has["half"], "000000"),
    "without one at the API": lambda one: _by_api(one, "", one.totp()),
    "with another's at the API": lambda one: _by_api(one, one.has["eves half"], one.totp()),
    "as the first factor": lambda one: one.send("/login", ("email", "ada@example.org"),
                                                ("password", one.totp())),
    "as a proof of nobody": lambda one: one.send("/account/prove", ("code", one.totp())),
}  # fmt: skip


# -- recovery codes -------------------------------------------------------------------------------

CODE_WAYS: Table = {
    "guessed": code(lambda _: "aaaaaa-aaaaaa-aaaaaa-aaaaaa"),
    "used": code(lambda one: one.has["used code"]),
    "of an earlier set": code(lambda one: one.has["former code"]),
    "another's": code(lambda one: one.has["eves recovery"]),
    "cut": code(lambda one: one.has["code"][:-1]),
    "longer": code(lambda one: one.has["code"] + "a"),
    "one sign off": code(lambda one: one.has["code"][:-1] + _other(one.has["code"][-1])),
    "backwards": code(lambda one: one.has["code"][::-1]),
    "two at once": code(lambda one: f"{one.has['code']} {one.has['second code']}"),
    "with NUL": code(lambda one: one.has["code"] + "\0"),
    "in other letters": code(
        lambda one: "".join(chr(ord(s) + 0xFEE0) for s in one.has["code"])
    ),
    "what is kept of it": code(lambda one: recovery_digest(
        one.has["code"].replace("-", "")).hex()),
    "half of one and half of another": code(
        lambda one: one.has["code"][:13] + one.has["second code"][13:]
    ),
    "of 5 kB": code(lambda one: one.has["code"] * 200),
    "without a ticket": code(lambda one: one.has["code"], ""),
    "with another's ticket": code(lambda one: one.has["code"], "eves half"),
    "with the ticket of an app to be": code(lambda one: one.has["code"], "enrolment"),
    "as the first factor": lambda one: one.send("/login", ("email", "ada@example.org"),
                                                ("password", one.has["code"])),
    "as the code of a link": lambda one: one.send("/login/link/open", ("token", "A" * 43),
                                                  ("code", one.has["code"])),
    "to recover behind a password": lambda one: one.send(
        START, ("ticket", one.has["half"]), ("code", one.has["code"])
    ),
    "to recover without a ticket": lambda one: one.send(START, ("code", one.has["code"])),
    "at the API without one": lambda one: _by_api(one, "", one.has["code"]),
    "as a token": lambda one: api(one.thief, "GET", "/session", token=one.has["code"]),
}  # fmt: skip


def _other(sign: str) -> str:
    return "z" if sign != "z" else "y"


# -- the recovery of an account -------------------------------------------------------------------


def mailed(path: str, name: str) -> Way:
    """The link of a mail, where it does not belong, or no more."""
    return lambda one: one.send(path, ("token", one.has.get(name, name)))


def begun(name: str) -> Way:
    return lambda one: one.send(START, ("ticket", one.has.get(name, name)))


RECOVERY_WAYS: Table = {
    "begun with a password": begun("half"),
    "begun with nothing": begun(""),
    "begun with nonsense": begun("x" * 900),
    "begun with another purpose": begun("enrolment"),
    "begun in another browser": begun("mailbox"),
    "begun with a link": begun("link"),
    "finished by what stops": mailed(FINISH, "stop"),
    "stopped by what finishes": mailed(STOP, "early"),
    "finished before its day": mailed(FINISH, "early"),
    "finished by what stops another's": mailed(FINISH, "eves stop"),
    "finished by nobody's": mailed(FINISH, "nobodys"),
    "stopped by nobody's": mailed(STOP, "nobodys stop"),
    "finished by this was not me": mailed(FINISH, "not me"),
    "stopped by this was not me": mailed(STOP, "not me"),
    "finished by a link that signs in": mailed(FINISH, "link"),
    "finished by a half sign-in": mailed(FINISH, "half"),
    "finished by nothing": mailed(FINISH, ""),
    "finished by what was cut": lambda one: mailed(FINISH, one.has["early"][:-2])(one),
    "finished by what was changed": lambda one: mailed(FINISH, "A" + one.has["early"][1:])(one),
    "finished by letters of none": mailed(FINISH, "é" * 60),
    "finished by 5 kB": mailed(FINISH, "A" * 5000),
    "finished by looking": lambda one: in_thread(
        partial(one.thief.get, f"{FINISH}?token={one.has['early']}")
    ),
    "finished from another site": lambda one: one.send(
        FINISH, ("token", one.has["early"]),
        headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    ),
    "stopped on the page of nobody": lambda one: one.send("/account/recovery"),
}  # fmt: skip


# -- API tokens -----------------------------------------------------------------------------------


def shown(made_of: Callable[[Scene], str], path: str = "/tokens", method: str = "GET") -> Way:
    """A token as a program shows it."""

    def way(scene: Scene) -> Awaitable[Answer]:
        headers = {**JSON, "authorization": made_of(scene)}
        body = None if method == "GET" else b'{"name":"n","scopes":["chat:read"]}'
        return in_thread(partial(scene.thief.request, method, f"/api/v1/auth{path}", body, headers))

    return way


def _as_a_cookie(scene: Scene) -> Awaitable[Answer]:
    thief = Visitor(scene.site.url, {"gr_auth": scene.has["token"]})
    return api(thief, "GET", "/tokens")


TOKEN_WAYS: Table = {
    "none": shown(lambda _: "Bearer "),
    "made up": shown(lambda _: f"Bearer {new_api_token()[0]}"),
    "cut": shown(lambda one: f"Bearer {one.has['token'][:-1]}"),
    "longer": shown(lambda one: f"Bearer {one.has['token']}A"),
    "in other letters": shown(lambda one: f"Bearer {one.has['token'].swapcase()}"),
    "without what it begins with": shown(lambda one: f"Bearer {one.has['token'][4:]}"),
    "what is kept of it": shown(
        lambda one: f"Bearer {sha256(one.has['token'].encode()).hexdigest()}"
    ),
    "what is kept of it, as a token": shown(lambda one: "Bearer grt_" + urlsafe_b64encode(
        sha256(one.has["token"].encode()).digest()).decode().rstrip("=")),
    "its id": shown(lambda one: f"Bearer {one.has['token id']}"),
    "revoked": shown(lambda one: f"Bearer {one.has['revoked']}"),
    "over": shown(lambda one: f"Bearer {one.has['over']}"),
    "of a member who is gone": shown(lambda one: f"Bearer {one.has['of nobody']}"),
    "a link that signs in": shown(lambda one: f"Bearer {one.has['link']}"),
    "twice": shown(lambda one: f"Bearer {one.has['token']}, Bearer {one.has['token']}"),
    "by another scheme": shown(lambda one: f"Token {one.has['token']}"),
    "as a password": shown(
        lambda one: "Basic " + b64encode(f"x:{one.has['token']}".encode()).decode()
    ),
    "of 9 kB": shown(lambda _: f"Bearer grt_{'A' * 9000}"),
    "of no letters": shown(lambda _: "Bearer grt_\xe9\xff" + "A" * 41),
    "as a cookie": _as_a_cookie,
    "in the address": lambda one: get(one.thief, f"/?token={one.has['token']}"),
    "in the address, half written": lambda one: get(
        one.thief, f"/api/v1/auth/tokens?q={quote_plus(one.has['token']).replace('_', '%5F')}"
    ),
    "to make another": shown(lambda one: f"Bearer {one.has['token']}", method="POST"),
    "to end one": shown(
        lambda one: f"Bearer {one.has['token']}", "/tokens/x", "DELETE"
    ),
    "to end all sign-ins": shown(
        lambda one: f"Bearer {one.has['token']}", "/logout/all", "POST"
    ),
    "to prove its owner": shown(
        lambda one: f"Bearer {one.has['token']}", "/step-up/begin", "POST"
    ),
}  # fmt: skip


# -- all of them ----------------------------------------------------------------------------------


def snapshot(site: WholeSite) -> str:
    """What a try that is refused leaves as it was: all but tries, and when a token was used."""
    database = site.accounts.database
    kept = (database.users, database.sign_ins, database.factors, database.recoveries,
            database.passkeys, database.identities)  # fmt: skip
    return repr(kept) + repr(sorted(database.api_tokens))


def told_of(answer: Answer) -> tuple[object, ...]:
    """What somebody is told, without what is of this one answer."""
    if answer.headers.get("content-type") == "application/json":
        return tuple(re.findall(r'"(?:code|message)":"([^"]+)"', answer.text))
    alerts = re.findall(r'(?:role="alert"|class="problem")>([^<]+)<', answer.text)
    return tuple(one for one in alerts if one.strip())


async def go_all(scene: Scene, ways: Table, answers_max: int) -> None:
    """Go each way; a refused try has one of so few answers, and nothing is otherwise behind it."""
    assert len(ways) >= 20
    before, told = snapshot(scene.site), set[tuple[object, ...]]()
    cookies = dict(scene.thief.cookies)
    for name, way in ways.items():
        let_limits_go(scene.site)
        answer = await way(scene)
        is_page = answer.status == 200 and "by looking" in name
        # A sign-in page, for whoever asks for what is a member's.
        is_led = answer.status == 303 and answer.headers["location"].startswith("/login")
        assert is_page or is_led or answer.status in SHAPES | {401}, (name, answer.status)
        assert not scene.thief.cookies.get("gr_auth"), name
        assert snapshot(scene.site) == before, name
        if answer.status == 401 and (said := told_of(answer)):
            told.add(said)
        scene.thief.cookies.clear()
        scene.thief.cookies.update(cookies)
    assert len(told) <= answers_max, "\n".join(map(str, told))


async def _people(post: Post) -> tuple[Scene, Scene]:
    """Ada, who has an app, codes and a token, and what a thief has of her; and Pat, with neither.

    The thief knows Ada's password. Eve, whose things are good in her own name, is somebody else.
    """
    site, has = post.site, dict[str, str]()
    pat = await register(site, username="pat", email=PAT, password=PATS)
    ada, app, codes = await with_app(site)
    _, eves_app, eves_codes = await with_app(site, username="eve", email=EVE)
    (row,) = (one for one in site.accounts.database.users.values() if one.email == PAT)
    let_limits_go(site)
    scene = Scene(site, ada, site.visitor(), has, app)
    has["hash"], has["secret"] = str(row.password_hash), app.secret.decode("latin-1")
    has["enrolment"] = ticket_of(await form(pat, "/account/factors/app/new"))
    former, has["eves code"], has["eves recovery"] = codes[0], eves_app.code(), eves_codes[0]
    app.code()  # what was used lies in the past
    shown_codes = await form(ada, "/account/factors/codes")
    codes = re.findall(r"<li><code>([a-z2-7-]+)</code>", shown_codes.text)
    has |= {"former code": former, "code": codes[0], "second code": codes[1]}
    for name, given in (("used", scene.totp(-1)), ("used code", codes[2])):
        other, ticket = await half_in(site)
        entered = await form(other, "/login/second", ticket=ticket, code=given)
        assert entered.status == 303
        has[name] = given
    _, has["eves half"] = await half_in(site, email=EVE)
    _, has["half"] = await half_in(site, scene.thief)
    for name in ("token", "revoked", "over"):
        token = await made(ada, "chat:read", name=name)
        has[name], has[f"{name} id"] = token["token"], token["id"]
    assert (await api(ada, "DELETE", f"/tokens/{has['revoked id']}")).status == 200
    for kept in site.accounts.database.api_tokens.values():
        if str(kept.id) == has["over id"]:
            kept.expires_at -= timedelta(days=90)
    gone = await register(site, username="gone", email="gone@example.org")
    has["of nobody"] = (await made(gone, "account:read"))["token"]
    assert (await form(gone, "/account/delete", password=PASSWORD)).status == 303
    return scene, Scene(site, pat, site.visitor(), has)


async def _recovering(post: Post, scene: Scene) -> None:
    """Let Ada begin a recovery, and hand the thief what is not good, or not yet."""
    site, has, owner = post.site, scene.has, post.site.visitor()
    (has["not me"],) = links_in(await mail_with(post, "A way to sign in was added"), "/not-me")
    has["mailbox"], has["stop"] = await start(post, owner)
    (recovery,) = site.accounts.database.recoveries
    _, has["eves stop"] = await start(post, site.visitor(), EVE)
    tickets = site.web.accounts.tickets
    has["early"] = tickets.make(FinishesRecovery(recovery), "", RECOVERY_WAIT)
    nobodys = UUID(int=7)
    has["nobodys"] = tickets.make(FinishesRecovery(nobodys), "", RECOVERY_WAIT)
    has["nobodys stop"] = tickets.make(StopsRecovery(nobodys), "", RECOVERY_WAIT)


async def test_every_wrong_way_is_refused_alike_and_changes_nothing() -> None:
    # AUTH-43, SEC-21, SEC-71, SEC-76, SEC-77, SEC-81, SEC-85, SEC-87, SEC-131
    with everything_logged() as lines:
        # What a password is worth by itself is asked here, so risk is not looked at.
        async with open_post(risk=RiskMode.OFF) as post:
            scene, pats = await _people(post)
            has = scene.has
            has["link"] = await post.ask(post.site.visitor(), PAT)
            await go_all(pats, PASSWORD_WAYS, 1)
            let_limits_go(post.site)
            right = await form(pats.thief, "/login", email=PAT, password=PATS)
            assert right.status == 303
            await go_all(scene, TOTP_WAYS, 5)
            await go_all(scene, CODE_WAYS, 7)
            await go_all(scene, TOKEN_WAYS, 2)
            await _recovering(post, scene)
            await go_all(scene, RECOVERY_WAYS, 4)
            let_limits_go(post.site)
            # All that was stolen and misused is as good as before.
            good = await api(scene.thief, "GET", "/tokens", token=has["token"])
            assert good.status == 403, "known, and of another scope"
            assert (await code(lambda one: one.has["code"])(scene)).status == 303
            other = Scene(post.site, scene.owner, post.site.visitor(), has, scene.app)
            _, has["half"] = await half_in(post.site, other.thief)
            assert (await code(Scene.totp)(other)).status == 303
    said = repr(lines)
    for name in ("code", "second code", "half", "mailbox", "token", "link", "early", "hash"):
        assert has[name] not in said, name
    assert PATS not in said
