"""The addresses of sign-in by a provider, for browsers and for programs.

A flow that began with a page to lead to is a person's, and is answered with pages; one without is a
program's. Of a state that is not good nobody knows: the answer goes by what is accepted.
"""

from typing import NoReturn

from quart import Blueprint, Response, request

from actors.accounts import SIGN_IN_KEPT, Method
from web.accounts.entering import NotEntered
from web.accounts.identity import member_of
from web.accounts.own.account import AccountPages
from web.accounts.routes import (
    FORM,
    REFUSED,
    Forms,
    IsPage,
    ended_path,
    redirect,
    refused,
    to_sign_in,
    user_agent,
)
from web.accounts.second import has_passkey
from web.accounts.ways.half import ask_for_second
from web.accounts.ways.provider.returning import (
    Opened,
    ProviderServices,
    Returned,
    begin,
    come_back,
    open_state,
    unlink,
    wrong,
)
from web.api import bad_request, conflict, forbidden, ok, too_many, unavailable
from web.routing import paths
from web.routing.services import Services
from web.server import current_request_state, read_cookies, require_media


def provider_routes(services: Services, mine: ProviderServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET."""
    routes = Blueprint("providers", __name__)
    forms = Forms(services, is_page, mine.accounts.methods)
    mine.accounts.methods.keep_switched(routes, Method.OAUTH)

    @routes.get(paths.OAUTH_BEGIN)
    async def start(provider: str) -> Response:
        state, wanted = current_request_state(), request.args.get("redirect_to")
        mine.provider(provider)
        then = None if wanted is None else forms.next_of({"next": wanted})
        if wanted is not None and then != wanted:
            raise bad_request("redirect_to is no page of this site")
        try:
            url = await begin(mine, state, provider, _cookies(), then=then)
        except REFUSED as error:
            return _told(forms, refused(error), then)
        return _sent_to(url)

    @routes.get(paths.OAUTH_BACK)
    async def back(provider: str) -> Response:
        mine.provider(provider)
        query = [(name, value) for name, value in request.args.items(multi=True)]
        opened = open_state(mine, provider, query, _cookies())
        if opened is None:
            then = forms.next_of({}) if _is_browser() else None
            return _told(forms, wrong(current_request_state(), provider, "state"), then)
        return await _came_back(services, mine, forms, opened, query)

    _add_linking(routes, services, mine)
    return routes


async def _came_back(
    services: Services,
    mine: ProviderServices,
    forms: Forms,
    opened: Opened,
    query: list[tuple[str, str]],
) -> Response:
    state, member, began = current_request_state(), member_of(request.scope), opened.began
    then = None if began.then is None else forms.next_of({"next": began.then})
    try:
        found = await come_back(mine, state, opened, query, member, user_agent())
    except REFUSED as error:
        problem = refused(error)
        if began.links is not None and member is not None:
            return await AccountPages(services, mine.accounts).show(member, problem)
        return _told(forms, problem, then)
    if found is None:
        return redirect(paths.ACCOUNT)
    if then is None:
        if found.half is not None:
            return await ask_for_second(mine.accounts, state, found.half)
        return _session(mine, found)
    if found.half is not None:
        by_passkey = await has_passkey(mine.accounts, state, found.half)
        return forms.second({"next": then}, found.half, by_passkey=by_passkey)
    return redirect(ended_path(then) if found.entered.ended else then)


def _session(mine: ProviderServices, found: Returned) -> Response:
    return ok(
        {
            "session_id": str(found.reference),
            "session_token": found.token.reveal(),
            "email": found.entered.email,
            "expires_at": mine.accounts.now() + SIGN_IN_KEPT,
        }
    )


def _told(forms: Forms, problem: NotEntered, then: str | None) -> Response:
    """Tell what went wrong, beside the other ways in; a program by its error."""
    if then is None:
        _raise(problem)
    return forms.sign_in({"next": then}, problem)


def _raise(problem: NotEntered) -> NoReturn:
    text = problem.problems.get("", "")
    match problem.status:
        case 403:
            raise forbidden(text)
        case 409:
            raise conflict(text)
        case 429:
            raise too_many(problem.retry_after or 1.0)
        case 503:
            raise unavailable(text, problem.retry_after or 1.0)
    raise bad_request(text)


def _add_linking(routes: Blueprint, services: Services, mine: ProviderServices) -> None:
    pages = AccountPages(services, mine.accounts)

    @routes.get(paths.ACCOUNT_PROVIDER_LINK)
    async def link(provider: str) -> Response:
        member, state = member_of(request.scope), current_request_state()
        if member is None:
            return to_sign_in()
        mine.provider(provider)
        # Another site that leads here would have its own identity linked, or make one be.
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return redirect(paths.ACCOUNT)
        try:
            url = await begin(mine, state, provider, _cookies(), then=paths.ACCOUNT, links=member)
        except REFUSED as error:
            return await pages.show(member, refused(error))
        return _sent_to(url)

    @routes.post(paths.ACCOUNT_PROVIDER_UNLINK)
    async def unlink_(provider: str) -> Response:
        require_media(FORM)
        member = member_of(request.scope)
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            await unlink(mine, current_request_state(), member, provider)
        except REFUSED as error:
            return await pages.show(member, refused(error))
        return redirect(paths.ACCOUNT)


def _cookies() -> dict[str, str]:
    return read_cookies(request.scope["headers"])


def _is_browser() -> bool:
    return "text/html" in request.headers.get("accept", "")


def _sent_to(url: str) -> Response:
    headers = {"location": url, "cache-control": "no-store"}
    return Response(b"", status=302, headers=headers, content_type=None)
