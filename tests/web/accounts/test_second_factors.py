"""A second factor is added, asked for at each sign-in and before what is sensitive, and removed."""

from __future__ import annotations

import base64
import logging
import re
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import segno
from structlog.testing import capture_logs

from actors.accounts import FRESH_FOR, Level, Method
from actors.accounts.kept.factors import code_of_step, secret_text, step_of
from actors.accounts.kept.throttle import LOGINS_BEFORE_DELAY
from storage.memory import MemoryChatLog, MemoryFactors
from tests.journeys.visitor import Answer, Visitor
from tests.logged import configured_for
from tests.patience import until
from tests.web.accounts.test_access import asked, declared, let_proofs_age
from tests.web.accounts.test_entering import PASSWORD, form, get, problems, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.accounts.own.second_factors import otpauth_uri
from web.accounts.roles.access import Access
from web.mail.senders.memory import MemorySender
from web.settings import Settings
from web.views import picture_of, svg_of
from web.views.accounts import PICTURE_MARGIN, PICTURE_MASK

pytestmark = pytest.mark.slow

TYPED = {"email": "ada@example.org", "password": PASSWORD}


def ticket_of(answer: Answer) -> str:
    (found,) = set(re.findall(r'name="ticket" value="([^"]+)"', answer.text))
    return str(found)


def codes_of(answer: Answer) -> list[str]:
    return re.findall(r"<li><code>([a-z2-7-]+)</code>", answer.text)


class App:
    """An app for codes: it shows the next one each time it is asked."""

    def __init__(self, site: WholeSite, offered: Answer) -> None:
        (text,) = re.findall(r'class="secret"><code>([A-Z2-7 ]+)</code>', offered.text)
        self.secret = base64.b32decode(text.replace(" ", ""))
        self._site = site

    def code(self) -> str:
        """A code that was not shown before: what was used lies in the past."""
        factors = self._site.accounts.database.factors
        for row in factors.values():
            if row.totp is not None and row.totp.secret == self.secret:
                object.__setattr__(row.totp, "last_step", 1)
        return code_of_step(self.secret, step_of(self._site.web.accounts.now()))


async def with_app(site: WholeSite, **fields: str) -> tuple[Visitor, App, list[str]]:
    visitor = await register(site, **fields)
    offered = await form(visitor, "/account/factors/app/new")
    assert offered.status == 200
    app = App(site, offered)
    shown = await form(visitor, "/account/factors/app", ticket=ticket_of(offered), code=app.code())
    assert shown.status == 200
    return visitor, app, codes_of(shown)


async def half_in(
    site: WholeSite, visitor: Visitor | None = None, **typed: str
) -> tuple[Visitor, str]:
    other = visitor or site.visitor()
    asked = await form(other, "/login", **{**TYPED, **typed}, next="/lab")
    assert asked.status == 200
    assert 'action="/login/second"' in asked.text
    assert "gr_auth" not in other.cookies
    return other, ticket_of(asked)


async def test_an_app_is_added_by_its_first_code_and_codes_are_shown_once() -> None:
    # AUTH-9, AUTH-22, AUTH-41, SEC-13, SEC-73
    sender = MemorySender()
    async with open_whole_site(sender=sender) as site:
        visitor = await register(site)
        offered = await form(visitor, "/account/factors/app/new")
        app, ticket = App(site, offered), ticket_of(offered)
        assert 'href="otpauth://totp/greenroom:ada@example.org?secret=' in offered.text
        picture = picture_of(otpauth_uri(app.secret, "ada@example.org"))
        assert f'<path d="{picture.path}"/>' in offered.text
        for wrong in ("", "000", "12345a"):
            refused = await form(visitor, "/account/factors/app", ticket=ticket, code=wrong)
            assert (refused.status, set(problems(refused))) == (422, {"code"})
            assert app.secret == App(site, refused).secret, "what the app took stays"
        eve = await register(site, username="eve", email="eve@example.org")
        for tried, by in ((ticket, eve), ("nonsense", visitor), (ticket[:-2] + "xx", visitor)):
            refused = await form(by, "/account/factors/app", ticket=tried, code=app.code())
            assert refused.status == 409
        assert (await get(visitor, "/account")).text.count("Add an app") == 1
        token = visitor.cookies["gr_auth"]
        shown = await form(visitor, "/account/factors/app", ticket=ticket, code=app.code())
        assert len(set(codes_of(shown))) == 10
        assert shown.headers["cache-control"] == "no-store"
        assert visitor.cookies["gr_auth"] != token
        page = await get(visitor, "/account")
        assert "10 recovery codes are left" in page.text
        assert not any(code in page.text for code in codes_of(shown))
        twice = await form(visitor, "/account/factors/app", ticket=ticket, code=app.code())
        assert twice.status == 409
        await until(lambda: len(sender.outbox_of("ada@example.org")) == 1)
        (mail,) = sender.outbox_of("ada@example.org")
        assert "A way to sign in was added" in str(mail)
        row = next(iter(site.accounts.database.sign_ins.values()))
        assert max(row.level for row in site.accounts.database.sign_ins.values()) == 2, row


async def test_a_password_alone_signs_nobody_in_any_more() -> None:
    # AUTH-9
    async with open_whole_site() as site:
        _, app, codes = await with_app(site)
        other, ticket = await half_in(site)
        assert (await get(other, "/account")).status == 303, "no session before"
        for wrong in (
            "000000",
            "x" * 24,
            codes[0][:-1] + ("z" if codes[0][-1] != "z" else "y"),
            "a" * 5000,
        ):
            refused = await form(other, "/login/second", ticket=ticket, code=wrong, next="/lab")
            assert refused.status in (401, 429), wrong
            site.accounts.database.attempts.clear()
        blank = await form(other, "/login/second", ticket=ticket, code=" ")
        assert (blank.status, set(problems(blank))) == (422, {"code"})
        # Another browser with the ticket, an invented and a changed one.
        for visitor, tried in (
            (site.visitor(), ticket),
            (other, "x"),
            (other, ticket[:-3] + "abc"),
        ):
            await get(visitor, "/login")
            refused = await form(visitor, "/login/second", ticket=tried, code=app.code())
            assert refused.status == 401
            assert "gr_auth" not in visitor.cookies
        code = app.code()
        entered = await form(other, "/login/second", ticket=ticket, code=code, next="/lab")
        assert (entered.status, entered.headers["location"]) == (303, "/lab")
        third, again = await half_in(site)
        refused = await form(third, "/login/second", ticket=again, code=code)
        assert refused.status == 401, "no code twice"
        by_code = await form(third, "/login/second", ticket=again, code=codes[3].upper())
        assert by_code.status == 303
        fourth, last = await half_in(site)
        refused = await form(fourth, "/login/second", ticket=last, code=codes[3])
        assert refused.status == 401
        assert "9 recovery codes" in (await get(third, "/account")).text
        rows = site.accounts.database.sign_ins.values()
        assert {row.method for row in rows} == {"password", "totp", "recovery_code"}
        assert all(row.level is Level.MULTI_FACTOR for row in rows)


async def test_a_half_is_over_with_its_time_and_its_password() -> None:
    # AUTH-9, SEC-17
    async with open_whole_site() as site:
        _, app, _ = await with_app(site)
        other, ticket = await half_in(site)
        for user in site.accounts.database.users.values():
            if user.password_hash is not None:
                user.password_hash += "x"
        assert (await form(other, "/login/second", ticket=ticket, code=app.code())).status == 401
        for user in site.accounts.database.users.values():
            if user.password_hash is not None:
                user.password_hash = user.password_hash[:-1]
        tickets = site.web.accounts.tickets
        began = tickets._now
        code = app.code()
        tickets._now = lambda: began() + timedelta(minutes=10, seconds=1)
        refused = await form(other, "/login/second", ticket=ticket, code=code)
        assert refused.status == 401
        assert 'action="/login"' in refused.text
        tickets._now = lambda: began() + timedelta(minutes=9, seconds=58)
        assert (await form(other, "/login/second", ticket=ticket, code=code)).status == 303


async def test_codes_are_not_guessed() -> None:
    # AUTH-9, SEC-76, SEC-131: tries become slow, whoever makes them; a good one forgives them
    with configured_for(logging.INFO), capture_logs() as lines:
        async with open_whole_site() as site:
            _, app, codes = await with_app(site)
            other, ticket = await half_in(site)
            site.hold_limits()
            for _ in range(LOGINS_BEFORE_DELAY):
                refused = await form(other, "/login/second", ticket=ticket, code="135790")
                assert refused.status == 401
            limited = await form(other, "/login/second", ticket=ticket, code=app.code())
            assert limited.status == 429
            assert int(limited.headers["retry-after"]) >= 1
            assert "gr_auth" not in other.cookies
            site.accounts.database.attempts.clear()
            entered = await form(other, "/login/second", ticket=ticket, code=app.code())
            assert entered.status == 303
    told = [line for line in lines if line["event"].startswith("accounts.")]
    assert [line["event"] for line in told].count("accounts.second") == LOGINS_BEFORE_DELAY + 1
    said = str(told)
    for secret in ("135790", ticket, *codes, secret_text(app.secret)):
        assert secret not in said


def sensitive() -> list[tuple[str, str, Access]]:
    # Who lacks a role is refused for that, before anything is asked.
    return [one for one in declared() if one[2].is_sensitive and one[2].role is None]


async def test_every_sensitive_route_needs_the_second_factor_and_a_fresh_one() -> None:
    # AUTH-9, AUTH-22, AUTH-23, SEC-20: one of one factor was made before there was a second
    async with open_whole_site() as site:
        visitor, app, _ = await with_app(site)
        rows = site.accounts.database.sign_ins
        assert {path for path, _, _ in sensitive()} >= {
            "/account/password", "/account/delete", "/account/export", "/account/sessions/revoke",
            "/account/factors/app", "/account/factors/app/new", "/account/factors/app/remove",
            "/account/factors/codes", "/account/passkeys", "/account/passkeys/remove",
            "/api/v1/auth/passkey/register/begin", "/api/v1/auth/passkey/register/complete",
        }  # fmt: skip
        for spoil in ("level", "age"):
            for path, method, _ in sensitive():
                for row in rows.values():
                    row.level = Level.BASIC if spoil == "level" else Level.MULTI_FACTOR
                if spoil == "age":
                    let_proofs_age(site)
                typed = {"password": PASSWORD, "code": app.code()}
                refused = await asked(visitor, method, path, **typed)
                assert refused.status == 403, (path, spoil)
                assert refused.headers["x-greenroom-step-up"] == "MULTIFACTOR"
                assert path.startswith("/api/") or 'name="code"' in refused.text
        password = await form(visitor, "/account/prove", password=PASSWORD, next="/account")
        assert (password.status, set(problems(password))) == (422, {"code"})
        wrong = await form(visitor, "/account/prove", code="000000", next="/account")
        assert (wrong.status, set(problems(wrong))) == (422, {"code"})
        let_proofs_age(site, FRESH_FOR)
        token = visitor.cookies["gr_auth"]
        proven = await form(visitor, "/account/prove", code=app.code(), next="/account")
        assert (proven.status, proven.headers["location"]) == (303, "/account")
        assert visitor.cookies["gr_auth"] != token
        renewed = await form(visitor, "/account/factors/codes")
        assert len(set(codes_of(renewed))) == 10
        assert (await form(visitor, "/account/factors/app/remove")).status == 303
        assert (await form(visitor, "/account/factors/app/remove")).status == 409
        other = site.visitor()
        assert (await form(other, "/login", **TYPED)).status == 303


async def test_while_the_store_of_factors_is_away_nobody_gets_in() -> None:
    # AUTH-9, SEC-3
    async with open_whole_site() as site:
        _, app, _ = await with_app(site)
        other, ticket = await half_in(site)
        factors = site.web.accounts.factors
        assert isinstance(factors, MemoryFactors)
        factors.fail_next()
        away = await form(other, "/login/second", ticket=ticket, code=app.code())
        assert away.status == 503
        assert "gr_auth" not in other.cookies
        assert ticket_of(away) == ticket, "nothing that was given is lost"
        assert (await form(other, "/login/second", ticket=ticket, code=app.code())).status == 303


def test_the_link_of_an_app_holds_what_it_needs() -> None:
    # AUTH-9
    parts = urlsplit(otpauth_uri(b"12345678901234567890", "a&b?c@example.org"))
    assert (parts.scheme, parts.netloc, parts.path) == (
        "otpauth", "totp", "/greenroom:a%26b%3Fc@example.org",
    )  # fmt: skip
    assert parse_qs(parts.query) == {
        "secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"], "issuer": ["greenroom"],
        "algorithm": ["SHA1"], "digits": ["6"], "period": ["30"],
    }  # fmt: skip


def with_only(*methods: Method) -> Settings:
    return Settings(
        port=0, overload_late_ms=60_000, overload_after_ms=60_000, sign_in_methods=methods
    )


@pytest.mark.parametrize("address", ["ada@example.org", "a" * 64 + "@" + "é" * 120 + ".example"])
def test_the_picture_is_the_link_square_by_square(address: str) -> None:
    # AUTH-9: with the margin that a camera needs; the same text gives the same picture
    link = otpauth_uri(b"s" * 20, address)
    picture = picture_of(link)
    drawn = set[tuple[int, int]]()
    for left, top, count, back in re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", picture.path):
        assert count == back
        drawn |= {(int(left) + one, int(top)) for one in range(int(count))}
    code = segno.make_qr(link, error="m", mask=PICTURE_MASK, boost_error=False)
    squares = {
        (left, top)
        for top, row in enumerate(code.matrix, PICTURE_MARGIN)
        for left, is_dark in enumerate(row, PICTURE_MARGIN)
        if is_dark
    }
    assert drawn == squares
    assert picture.side == len(code.matrix) + 2 * PICTURE_MARGIN
    assert picture_of(link) == picture
    # As a file it is the same, on white ground: a page that is dark spoils it for no camera.
    svg = svg_of(picture)
    assert svg.startswith(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.side} ')
    assert f'<path d="{picture.path}"/>' in svg
    assert f'<path fill="#fff" d="M0 0h{picture.side}v{picture.side}h-' in svg
    assert picture_of(otpauth_uri(b"t" * 20, address)) != picture


async def test_what_is_switched_off_weakens_nobody_and_locks_nobody_out() -> None:
    # AUTH-9: an app that was added is asked for and taken; recovery codes open nothing any more
    log = MemoryChatLog()
    async with open_whole_site(log=log) as site:
        _, app, codes = await with_app(site)
    async with open_whole_site(log=log, settings=with_only(Method.PASSWORD)) as site:
        other, ticket = await half_in(site)
        refused = await form(other, "/login/second", ticket=ticket, code=codes[0])
        assert refused.status == 401
        blank = await form(other, "/login/second", ticket=ticket, code=" ")
        assert problems(blank) == {"code": "Type the six digits your app shows."}
        assert "ecovery" not in blank.text
        entered = await form(other, "/login/second", ticket=ticket, code=app.code())
        assert entered.status == 303
        assert "ecovery" not in (await get(other, "/account/prove")).text
        page = (await get(other, "/account")).text
        assert "An app for codes, since" in page
        assert "ecovery" not in page
        for path in ("/account/factors/codes", "/account/factors/app/new"):
            assert (await form(other, path)).status == 404, path
        headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
        path = "/api/v1/auth/step-up/begin"
        asked = await in_thread(partial(other.request, "POST", path, b"{}", headers))
        assert msgspec.json.decode(asked.body)["methods"] == ["totp"]
        assert (await form(other, "/account/factors/app/remove")).status == 303
        assert (await form(site.visitor(), "/login", **TYPED)).status == 303


async def test_without_recovery_codes_a_factor_comes_without_them() -> None:
    # AUTH-9
    only = with_only(Method.PASSWORD, Method.TOTP)
    async with open_whole_site(settings=only) as site:
        visitor = await register(site)
        offered = await form(visitor, "/account/factors/app/new")
        app, ticket = App(site, offered), ticket_of(offered)
        added = await form(visitor, "/account/factors/app", ticket=ticket, code=app.code())
        assert (added.status, added.headers["location"]) == (303, "/account")
        assert all(not row.codes for row in site.accounts.database.factors.values())


async def test_a_link_in_a_mail_skips_no_second_factor() -> None:
    # AUTH-9, SEC-85: what is proven by the mail is one factor
    sender = MemorySender()
    async with open_whole_site(sender=sender) as site:
        _, app, _ = await with_app(site)
        visitor, program = site.visitor(), site.visitor()
        opened = await form(visitor, "/login/link/open", token=await mailed(visitor, sender, 2))
        assert opened.status == 200
        assert 'action="/login/second"' in opened.text
        assert "gr_auth" not in visitor.cookies
        assert (await get(visitor, "/account")).status == 303
        token = await mailed(program, sender, 3)
        asked = msgspec.json.encode({"token": token})
        headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
        path = "/api/v1/auth/magic-link/verify"
        refused = await in_thread(partial(program.request, "POST", path, asked, headers))
        assert refused.status == 403
        assert refused.headers["x-greenroom-step-up"] == "MULTIFACTOR"
        ticket = ticket_of(opened)
        entered = await form(visitor, "/login/second", ticket=ticket, code=app.code())
        assert entered.status == 303
        assert (await get(visitor, "/account")).status == 200


async def mailed(visitor: Visitor, sender: MemorySender, count: int) -> str:
    """Ask for a link; the token in the mail, which is so many-th that came."""
    await get(visitor, "/login/link")
    assert (await form(visitor, "/login/link", email="ada@example.org")).status == 303
    await until(lambda: len(sender.outbox_of("ada@example.org")) == count)
    text = sender.outbox_of("ada@example.org")[-1].mail.text
    (token,) = re.findall(r"token=([\w-]{43})", text)
    return str(token)
