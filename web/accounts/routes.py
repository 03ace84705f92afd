"""The pages that sign in and out: plain forms, which need no script (SITE-19).

A form that is refused comes back with what was typed, but for passwords, and a word beside the
field. One that is taken answers with a redirect, so a reload sends nothing again.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from math import ceil
from urllib.parse import quote, unquote

from quart import Blueprint, Response, request

from actors.accounts import Credentials, Member, Method, safe_next
from actors.persistence.errors import StoreUnavailable
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    Registration,
    log_in,
    log_out,
    register,
)
from web.accounts.hashing import HashingBusy
from web.accounts.identity import member_of
from web.accounts.methods import Methods
from web.accounts.second import Half, fingerprint_of, half_of, has_passkey
from web.routing import paths
from web.routing.errors import NotSignedIn
from web.routing.services import Services
from web.server import (
    Rendering,
    RequestState,
    current_request_state,
    require_media,
    tell_unavailable,
)
from web.site.pages import (
    PAGE_LOGIN,
    PAGE_PROTECTED,
    PAGE_REGISTER,
    form_response,
    link_path,
    register_path,
    shell,
    sign_in_path,
)
from web.views import (
    LocalPath,
    ProtectedPage,
    RegisterPage,
    SecondPage,
    SignInPage,
    UnsafeAttribute,
    form_ticket,
    local_path,
)

FORM = "application/x-www-form-urlencoded"
# From the end of a sign-in to the page that leads on; a person who has no scripts presses a link.
LEAVING_KEPT = timedelta(minutes=2)

IsPage = Callable[[str], bool]


def account_routes(services: Services, mine: AccountServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET."""
    routes = Blueprint("accounts", __name__)
    forms = Forms(services, is_page, mine.methods)

    @routes.get(paths.LOGIN)
    async def login_form() -> Response:
        return _go_on(forms, current_request_state()) or forms.sign_in({})

    @routes.post(paths.LOGIN)
    async def login() -> Response:
        require_media(FORM)
        typed, state = await request.form, current_request_state()
        email, password = typed.get("email", ""), typed.get("password", "")
        try:
            ended = await log_in(mine, state, email, password, user_agent())
        except REFUSED as error:
            return forms.sign_in(typed, refused(error))
        if isinstance(ended, Credentials):
            half = Half(ended.user_id, "password", fingerprint_of(ended.password_hash))
            ticket = half_of(mine, state, half)
            by_passkey = await has_passkey(mine, state, ticket)
            return forms.second(typed, ticket, by_passkey=by_passkey)
        then = forms.next_of(typed)
        return redirect(ended_path(then) if ended else then)

    @routes.get(paths.REGISTER)
    async def register_form() -> Response:
        return _go_on(forms, current_request_state()) or forms.register({})

    @routes.post(paths.REGISTER)
    async def make_account() -> Response:
        require_media(FORM)
        typed, state = await request.form, current_request_state()
        given = Registration(*(typed.get(name, "") for name in ("username", "email", "password")))
        try:
            await register(mine, state, given, user_agent())
        except REFUSED as error:
            return forms.register(typed, refused(error))
        return redirect(forms.next_of(typed))

    @routes.post(paths.LOGOUT)
    async def logout() -> Response:
        answer = redirect(await _left(mine, current_request_state()))
        # SEC-22: drafts and the like; of what the server gave nothing is cached.
        answer.headers["clear-site-data"] = '"storage"'
        return answer

    @routes.get(paths.PROTECTED)
    async def protected() -> Response:
        state = current_request_state()
        if state.signed_in is None:
            return to_sign_in()
        frame = shell(services, state, "Members only", PAGE_PROTECTED)
        page = ProtectedPage(frame, state.signed_in.name)
        return form_response(services.renderer.protected_page(page))

    return routes


async def _left(mine: AccountServices, state: RequestState) -> str:
    """Sign a browser out; gives where it goes on to."""
    by = member_of(request.scope)
    then = None if by is None else await mine.methods.offers.left_by(by.user_id, by.reference)
    await log_out(mine, state, user_agent())
    if then is None:
        return paths.HOME
    if then.said is None:
        return then.path
    # Behind the end: for the browser session that begins now, and for nobody else.
    return f"{then.path}?of={mine.tickets.make(then.said, state.visitor.text, LEAVING_KEPT)}"


class Forms:
    """Shows the two forms, for the first time or again with what was wrong."""

    def __init__(self, services: Services, is_page: IsPage, methods: Methods) -> None:
        self._services, self._is_page, self._methods = services, is_page, methods

    def next_of(self, given: Mapping[str, str]) -> LocalPath:
        """Call this with a form or a query for the page that is wanted next (SITE-42)."""
        wanted = safe_next(given.get("next", ""), unquote, self._is_page)
        try:
            return local_path(quote(wanted, safe="/?#=&%+,~"))
        except UnsafeAttribute:
            return local_path(paths.PROTECTED)

    def sign_in(self, typed: Mapping[str, str], problem: NotEntered | None = None) -> Response:
        """Call this for the form that signs in."""
        state, then = current_request_state(), self.next_of(typed or request.args)
        page = SignInPage(
            shell=shell(self._services, state, "Sign in", PAGE_LOGIN),
            csrf=self._services.csrf_of(state),
            next=then,
            register=register_path(then),
            by_link=link_path(then) if self._methods.has(Method.MAGIC_LINK) else None,
            rp_id=self._methods.passkey_domain,
            email=typed.get("email", ""),
            problems={} if problem is None else problem.problems,
            providers=self._methods.offers.ways(then),
        )
        return answer_form(self._services.renderer.sign_in_page(page), problem)

    def second(
        self,
        typed: Mapping[str, str],
        ticket: str,
        problem: NotEntered | None = None,
        *,
        by_passkey: bool = False,
        by_mailbox: bool = False,
    ) -> Response:
        """Call this for the form that asks for a second factor; a passkey may be one.

        `by_mailbox`: the first was a link, so that a lost one can be mended from here (AUTH-10).
        """
        state, then = current_request_state(), self.next_of(typed)
        page = SecondPage(
            shell=shell(self._services, state, "Sign in", PAGE_LOGIN),
            csrf=self._services.csrf_of(state),
            next=then,
            ticket=form_ticket(ticket),
            rp_id=self._methods.passkey_domain if by_passkey else None,
            has_codes=self._methods.has(Method.RECOVERY_CODE),
            problems={} if problem is None else problem.problems,
            can_recover=by_mailbox,
            by_link=link_path(then) if self._methods.has(Method.MAGIC_LINK) else None,
        )
        return answer_form(self._services.renderer.second_page(page), problem)

    def register(self, typed: Mapping[str, str], problem: NotEntered | None = None) -> Response:
        """Call this for the form that makes an account."""
        state, then = current_request_state(), self.next_of(typed or request.args)
        page = RegisterPage(
            shell=shell(self._services, state, "Create an account", PAGE_REGISTER),
            csrf=self._services.csrf_of(state),
            next=then,
            sign_in=sign_in_path(then),
            username=typed.get("username", ""),
            email=typed.get("email", ""),
            problems={} if problem is None else problem.problems,
        )
        return answer_form(self._services.renderer.register_page(page), problem)


# What shows a form again: nothing that was typed is lost while the store is away.
REFUSED = (NotEntered, HashingBusy, StoreUnavailable)
_LATER = "This cannot be done just now; nothing was changed. Try again in a moment."


def refused(error: Exception) -> NotEntered:
    """Call this with one of `REFUSED` for what its form says."""
    if isinstance(error, NotEntered):
        return error
    tell_unavailable(error)
    return NotEntered(503, {"": _LATER}, 1.0)


def to_sign_in(back: str | None = None) -> Response:
    """Call this for a guest who asked for a page of members: sign in, then back (SITE-41).

    `back` is the page that held the form, where it was one. Commands and programs get 401.
    """
    if current_request_state().rendering is not Rendering.PAGE:
        raise NotSignedIn("this needs a sign-in")
    if back is not None:
        return redirect(sign_in_path(back))
    query = request.query_string.decode("latin-1")
    wanted = quote(request.path, safe="/") + (f"?{query}" if query else "")
    return redirect(sign_in_path(wanted))


async def typed_by_member() -> tuple[Mapping[str, str], Member]:
    """Call this first behind a form of members: what they typed, and who they are.

    Guests were sent to sign in before (`web.accounts.roles.access`); raises `NotSignedIn` for one.
    """
    typed, member = await typed_by_somebody()
    if member is None:
        raise NotSignedIn("this form needs a sign-in")
    return typed, member


async def typed_by_somebody() -> tuple[Mapping[str, str], Member | None]:
    """Call this behind a form that sends guests to sign in itself: the member is None then."""
    require_media(FORM)
    return await request.form, member_of(request.scope)


def ended_path(then: LocalPath) -> str:
    """Call this for where a sixth sign-in leads: what it ended (SEC-19), and the way on."""
    return f"{paths.ACCOUNT}?ended=1&next={quote(then, safe='')}"


def redirect(path: str) -> Response:
    """Call this to answer a form that was taken."""
    headers = {"location": path, "cache-control": "no-store"}
    return Response(b"", status=303, headers=headers, content_type=None)


def user_agent() -> str:
    """Call this for what the browser says it is."""
    return request.headers.get("user-agent", "")


def _go_on(forms: Forms, state: RequestState) -> Response | None:
    return None if state.signed_in is None else redirect(forms.next_of(request.args))


def answer_form(html: str, problem: NotEntered | None) -> Response:
    """Call this to answer a page with forms, with the status of what was wrong with one."""
    if problem is None:
        return form_response(html)
    headers = {}
    if problem.status == 401:
        headers["www_authenticate"] = "Session"
    if problem.retry_after is not None:
        headers["retry_after"] = str(max(1, ceil(problem.retry_after)))
    return form_response(html, problem.status, **headers)
