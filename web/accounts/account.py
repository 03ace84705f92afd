"""The page of a member's own account, and its forms: guests are sent to sign in (SITE-41)."""

from collections.abc import Mapping

from quart import Blueprint, Response, request

from actors.accounts import Member
from web.accounts.entering import AccountServices, NotEntered
from web.accounts.exporting import DOCUMENT_HEADERS, export
from web.accounts.identity import member_of
from web.accounts.managing import change_password, delete, end_sign_ins
from web.accounts.routes import (
    FORM,
    REFUSED,
    Forms,
    IsPage,
    answer_form,
    redirect,
    refused,
    to_sign_in,
)
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import current_request_state, require_media
from web.site.pages import PAGE_ACCOUNT, shell
from web.views import AccountPage, LocalPath, SignInView, element_id


def own_account_routes(services: Services, mine: AccountServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET.

    Who came from another page (`next`) is shown the way back, and is there again when a sign-in
    was ended.
    """
    routes, forms = Blueprint("own_account", __name__), Forms(services, is_page)

    def back_of(given: Mapping[str, str]) -> LocalPath | None:
        return forms.next_of(given) if given.get("next") else None

    @routes.get(paths.ACCOUNT)
    async def account() -> Response:
        member = member_of(request.scope)
        if member is None:
            return to_sign_in()
        return await _page(services, mine, member, back=back_of(request.args))

    @routes.post(paths.ACCOUNT_SIGN_INS)
    async def revoke() -> Response:
        typed, member = await _typed()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        reference = None if typed.get("others") == "1" else typed.get("session_ref", "")
        if not await end_sign_ins(mine, current_request_state(), member, reference):
            raise NoSuchThing("no sign-in of this member")
        return redirect(back_of(typed) or paths.ACCOUNT)

    @routes.post(paths.ACCOUNT_PASSWORD)
    async def password() -> Response:
        typed, member = await _typed()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        current, new = typed.get("current_password", ""), typed.get("new_password", "")
        ends_others = typed.get("end_others") == "1"
        state = current_request_state()
        try:
            await change_password(mine, state, member, current, new, ends_others=ends_others)
        except REFUSED as error:
            return await _page(services, mine, member, refused(error), ends_others=ends_others)
        return redirect(paths.ACCOUNT)

    @routes.post(paths.ACCOUNT_DELETE)
    async def delete_account() -> Response:
        typed, member = await _typed()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            await delete(mine, current_request_state(), member, typed.get("password", ""))
        except REFUSED as error:
            return await _page(services, mine, member, refused(error))
        answer = redirect(paths.HOME)
        answer.headers["clear-site-data"] = '"storage"'  # as at a logout (SEC-22)
        return answer

    _add_export(routes, services, mine)
    return routes


def _add_export(routes: Blueprint, services: Services, mine: AccountServices) -> None:
    @routes.post(paths.ACCOUNT_EXPORT)
    async def export_account() -> Response:
        typed, member = await _typed()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            document = await export(
                mine, current_request_state(), member, typed.get("export_password", "")
            )
        except REFUSED as error:
            return await _page(services, mine, member, refused(error))
        return Response(document, headers=DOCUMENT_HEADERS)


async def _typed() -> tuple[Mapping[str, str], Member | None]:
    require_media(FORM)
    return await request.form, member_of(request.scope)


async def _page(
    services: Services,
    mine: AccountServices,
    member: Member,
    problem: NotEntered | None = None,
    *,
    ends_others: bool = True,
    back: LocalPath | None = None,
) -> Response:
    state = current_request_state()
    page = AccountPage(
        shell=shell(services, state, "Your account", PAGE_ACCOUNT),
        csrf=services.csrf_of(state),
        username=member.username,
        email=member.email,
        role=member.role.value,
        since=member.since,
        sign_ins=await _sign_ins(mine, member),
        problems={} if problem is None else problem.problems,
        ends_others=ends_others,
        back=back,
    )
    return answer_form(services.renderer.account_page(page), problem)


async def _sign_ins(mine: AccountServices, member: Member) -> tuple[SignInView, ...]:
    return tuple(
        SignInView(
            reference=element_id(str(one.reference)),
            browser=one.browser,
            created_at=one.created_at,
            seen_at=one.seen_at,
            is_this=one.reference == member.reference,
        )
        for one in await mine.accounts.sign_ins(member.user_id)
    )
