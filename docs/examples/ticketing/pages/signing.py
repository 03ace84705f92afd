"""Sign-in on a page: an address, a mail with a link, and a button that uses the link up."""

from __future__ import annotations

import re

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from docs.examples.ticketing.http.routes.signing import OPEN, end, enter, send_link
from docs.examples.ticketing.pages.front import SIGN_IN, Front, PageRoutes, maybe_who, page_template
from docs.examples.ticketing.pages.words import EnterPage, SignInPage
from web.mail.words import BadMail, parse_address
from web.server import ErrorAnswer
from web.settings import MailSender

_SIGN_IN, _ENTER = page_template("sign_in"), page_template("enter")
# A page of our own, and nothing that a browser could take for another site.
_NEXT = re.compile(r"/(?:[a-z0-9-]+/?)*", re.ASCII)


def page_after(text: str) -> str:
    """Call this for where somebody goes on to; what is no page of ours is the first one."""
    return text if len(text) <= 200 and _NEXT.fullmatch(text) else "/"


def sign_in_routes(front: Front) -> Blueprint:
    """Call this for the pages of signing in and out."""
    routes = PageRoutes(front, "sign_in")
    desk = front.desk

    @routes.get(SIGN_IN)
    async def form() -> ResponseReturnValue:
        after = page_after(request.args.get("next", "/"))
        if maybe_who() is not None:
            return redirect(after, 303)
        return await front.page(_SIGN_IN, "Sign in", page=SignInPage(after))

    @routes.post(SIGN_IN)
    async def ask() -> ResponseReturnValue:
        sent = await request.form
        email, after = sent.get("email", ""), page_after(sent.get("next", "/"))
        try:
            address = parse_address(email)
        except BadMail:
            problem = "This is no address that a mail can go to."
            page = SignInPage(after, email[:200], problem)
            return await front.page(_SIGN_IN, "Sign in", status=422, page=page)
        await send_link(desk, address, after)
        is_printed = front.site.settings.mail_by is MailSender.CONSOLE
        page = SignInPage(after, sent=address, is_printed=is_printed)
        return await front.page(_SIGN_IN, "Sign in", page=page)

    @routes.get(OPEN)
    async def show() -> ResponseReturnValue:
        # Programs that look into mails open their links; only the button uses one up.
        args = request.args
        page = EnterPage(OPEN, args.get("token", "")[:100], page_after(args.get("next", "/")))
        return await front.page(_ENTER, "Sign in", page=page)

    @routes.post(OPEN)
    async def enter_by_link() -> ResponseReturnValue:
        sent = await request.form
        try:
            await enter(desk, sent.get("token", ""), by_cookie=True)
        except ErrorAnswer as error:
            text = "This link is over or was used. Have another one sent to you."
            if error.row.status != 401:
                raise
            return await front.plain(401, "Not signed in", text)
        return redirect(page_after(sent.get("next", "/")), 303)

    @routes.post("/sign-out")
    async def leave() -> ResponseReturnValue:
        await end(desk)
        return redirect("/?done=out", 303)

    return routes.blueprint
