"""The forms by which somebody asks for a link and opens one; plain ones, which need no script."""

from collections.abc import Mapping

from quart import Blueprint, Response, request

from actors.accounts import Method
from actors.accounts.ways.links import code_of
from web.accounts.entering import NotEntered
from web.accounts.routes import (
    FORM,
    REFUSED,
    Forms,
    IsPage,
    answer_form,
    ended_path,
    redirect,
    refused,
    user_agent,
)
from web.accounts.second import has_passkey
from web.accounts.ways.links import LinkServices, Opening, ask_for_link, open_link
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state, read_cookies, require_media
from web.site.pages import PAGE_LOGIN, form_response, shell, sign_in_path
from web.views import LinkPage, LinkSentPage, OpenLinkPage, local_path


def link_routes(services: Services, mine: LinkServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET."""
    routes, forms = Blueprint("links", __name__), LinkForms(services, mine, is_page)
    mine.accounts.methods.keep_switched(routes, Method.MAGIC_LINK)

    @routes.get(paths.LOGIN_LINK)
    async def ask_form() -> Response:
        # Behind the form that was taken: a reload sends nothing again.
        return forms.sent() if request.args.get("sent") == "1" else forms.ask(request.args)

    @routes.post(paths.LOGIN_LINK)
    async def ask() -> Response:
        require_media(FORM)
        typed = await request.form
        then = forms.then(typed)
        try:
            await ask_for_link(
                mine, current_request_state(), typed.get("email", ""), then, paths.LOGIN_LINK_OPEN
            )
        except REFUSED as error:
            return forms.ask(typed, refused(error))
        return redirect(f"{paths.LOGIN_LINK}?sent=1")

    @routes.get(paths.LOGIN_LINK_OPEN)
    async def open_form() -> Response:
        return forms.open(request.args)

    @routes.post(paths.LOGIN_LINK_OPEN)
    async def open_() -> Response:
        require_media(FORM)
        typed = await request.form
        opening = Opening(typed.get("token", ""), forms.nonce(), typed.get("code", ""))
        try:
            opened = await open_link(mine, current_request_state(), opening, user_agent())
        except REFUSED as error:
            return forms.open(typed, refused(error))
        if opened.half is not None:
            accounts, state = mine.accounts, current_request_state()
            by_passkey = await has_passkey(accounts, state, opened.half)
            return forms.second(typed, opened.half, by_passkey=by_passkey, by_mailbox=True)
        then = forms.next_of(typed)
        return redirect(ended_path(then) if opened.entered.ended else then)

    return routes


class LinkForms(Forms):
    """Shows the two forms of links, for the first time or again with what was wrong."""

    def __init__(self, services: Services, mine: LinkServices, is_page: IsPage) -> None:
        super().__init__(services, is_page, mine.accounts.methods)
        self._mine = mine

    def nonce(self) -> str | None:
        """Call this for what ties this browser to the flow that it began; None for none."""
        return self._mine.cookie.read(read_cookies(request.scope["headers"]))

    def then(self, given: Mapping[str, str]) -> str | None:
        """Call this for the page that is wanted behind it; None where nobody said one."""
        return self.next_of(given) if given.get("next") else None

    def ask(self, given: Mapping[str, str], problem: NotEntered | None = None) -> Response:
        """Call this for the form that asks for a link."""
        state, then = current_request_state(), self.next_of(given)
        page = LinkPage(
            shell=shell(self._services, state, "Sign in by a link", PAGE_LOGIN),
            csrf=self._services.csrf_of(state),
            next=then,
            sign_in=sign_in_path(then),
            email=given.get("email", ""),
            problems={} if problem is None else problem.problems,
        )
        return answer_form(self._services.renderer.link_page(page), problem)

    def sent(self) -> Response:
        """Call this for what is told who asked, whatever the address is."""
        state, nonce = current_request_state(), self.nonce()
        code = "" if nonce is None else code_of(nonce)
        page = LinkSentPage(
            shell=shell(self._services, state, "Look at your mail", PAGE_LOGIN),
            code=f"{code[:4]} {code[4:]}".strip(),
            again=local_path(paths.LOGIN_LINK),
        )
        return form_response(self._services.renderer.link_sent_page(page))

    def open(self, given: Mapping[str, str], problem: NotEntered | None = None) -> Response:
        """Call this for the button that opens a link. It looks nothing up."""
        state = current_request_state()
        is_refused = problem is not None and problem.status == 401
        page = OpenLinkPage(
            shell=shell(self._services, state, "Sign in", PAGE_LOGIN),
            csrf=self._services.csrf_of(state),
            next=self.next_of(given),
            token=given.get("token", "")[:64],
            needs_code=self._mine.binds and (self.nonce() is None or is_refused),
            again=local_path(paths.LOGIN_LINK),
            problems={} if problem is None else problem.problems,
        )
        return answer_form(self._services.renderer.open_link_page(page), problem)
