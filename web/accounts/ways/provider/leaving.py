"""Who leaves here may leave the provider, too; who left the provider is signed out here (AUTH-13).

Rule 1: the provider's word ends a sign-in only when its signature is good, and once (SEC-94).
Rule 2: a form may not lead to another site, so who signed out is led on by a page of this one.
"""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from quart import Blueprint, Response, request

from actors.accounts import Limit, Limited, Method, Origin
from actors.accounts.ways.links import digest_of
from actors.accounts.ways.provider.words import NotShown, ProviderAway
from actors.persistence.errors import StoreError
from actors.runtime import Secret
from web.accounts.entering import origin_of, tell
from web.accounts.methods import Leaves
from web.accounts.routes import FORM, redirect
from web.accounts.ways.provider.offering import path_of
from web.accounts.ways.provider.returning import ProviderServices
from web.api import bad_request, count, too_many, unavailable
from web.routing import paths
from web.routing.quota import address_key
from web.routing.services import Services
from web.server import RequestState, current_request_state, require_media
from web.site.pages import PAGE_LOGIN, form_response, shell
from web.views import LeftPage, local_path

# What a provider says from one address that is not so; what is so does not count.
REFUSED_PER_ADDRESS_MAX = 20
REFUSED_PERIOD = timedelta(minutes=15)
AGAIN_S = 5.0
_ACT = "accounts.provider_logout"
_WRONG = "logout_token is none that is good here"


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """How many sign-ins a provider ended."""

    ended: int


def leaving_routes(services: Services, mine: ProviderServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("leaving", __name__)
    mine.accounts.methods.keep_switched(routes, Method.OAUTH)

    @routes.post(paths.OAUTH_LEFT)
    async def left(provider: str) -> Response:
        mine.provider(provider)
        require_media(FORM)
        given = (await request.form).getlist("logout_token")
        await log_out(mine, current_request_state(), provider, given)
        return Response(b"", status=200, headers={"cache-control": "no-store"}, content_type=None)

    @routes.get(paths.LOGOUT_PROVIDER)
    async def leave(provider: str) -> Response:
        asked, state = mine.provider(provider), current_request_state()
        of, is_going = request.args.get("of", ""), request.args.get("go") == "1"
        try:
            hint = await _hint(mine, state, provider, of) if is_going else None
            url = asked.leave_url(await asked.endpoints(), hint)
        except ProviderAway:
            url = None  # who is signed out here waits for nobody
        if url is None:
            return redirect(paths.HOME)
        if is_going:
            headers = {"location": url, "cache-control": "no-store"}
            return Response(b"", status=302, headers=headers, content_type=None)
        go = local_path(f"{path_of(paths.LOGOUT_PROVIDER, provider)}?go=1&of={quote(of, safe='')}")
        frame = shell(services, state, "Signed out", PAGE_LOGIN)
        page = LeftPage(frame, asked.provider.label, go)
        return form_response(services.renderer.left_page(page), 200, refresh=f"0; url={go}")

    return routes


async def _hint(
    mine: ProviderServices, state: RequestState, name: str, ticket: str
) -> Secret[str] | None:
    """Give the id token of who signed out in this browser a moment ago; None for none."""
    said = mine.accounts.tickets.open(Leaves, ticket, state.visitor.text)
    if said is None:
        return None
    try:
        tokens = await mine.identities.tokens(said.user_id, name)
    except StoreError:
        return None  # as with a provider that is away: it asks then
    if tokens is None or tokens.id_token is None:
        return None
    is_same = digest_of(tokens.id_token.reveal()).hex() == said.id_token
    return tokens.id_token if is_same else None


async def log_out(
    services: ProviderServices, state: RequestState, name: str, given: list[str]
) -> LoggedOut:
    """Call this with what a provider sent; raises 400 for no good token, 429, and 503."""
    accounts, asked = services.accounts, services.provider(name)
    method = asked.provider.method
    limit = logout_limit(address_key(state.address))
    match await count(accounts.limiter, state, "provider-logout", limit):
        case Limited(wait):
            tell(state, _ACT, "refused", method, reason="too_many")
            raise too_many(wait)
    try:
        if len(given) != 1:
            raise NotShown("form")
        said = await asked.said_logout(given[0])
        ended = await services.identities.log_out(said, _origin(state))
        if ended is None:
            raise NotShown("used")
    except NotShown as error:
        tell(state, _ACT, "refused", method, reason=error.reason)
        raise bad_request(_WRONG) from None
    except (ProviderAway, StoreError) as error:
        await _forgive(services, limit)
        tell(state, _ACT, "failed", method, reason=type(error).__name__)
        raise unavailable("this cannot be judged just now", AGAIN_S) from None
    await _forgive(services, limit)
    tell(state, _ACT, "accepted", method, ended=ended)
    return LoggedOut(ended)


def logout_limit(address: str) -> Limit:
    """Call this for how often one address of the network says what is not so; a digest."""
    return Limit(f"provider-left:{address}", REFUSED_PER_ADDRESS_MAX, REFUSED_PERIOD)


async def _forgive(services: ProviderServices, limit: Limit) -> None:
    await services.accounts.limiter.give_back(limit)


def _origin(state: RequestState) -> Origin:
    # Nobody whom we know did it: the provider's word.
    return origin_of(state, "", "")
