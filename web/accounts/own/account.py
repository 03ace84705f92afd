"""The page of a member's own account, and its forms: guests are sent to sign in (SITE-41)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from quart import Blueprint, Response, request

from actors.accounts import Level, Member, Method
from actors.accounts.kept.devices.words import Trust
from web.accounts.entering import AccountServices, NotEntered
from web.accounts.identity import member_of
from web.accounts.own.exporting import DOCUMENT_HEADERS, export
from web.accounts.own.managing import (
    change_password,
    delete,
    end_sign_ins,
    has_password,
    name_sign_in,
    prove_again,
)
from web.accounts.routes import (
    REFUSED,
    Forms,
    IsPage,
    answer_form,
    redirect,
    refused,
    to_sign_in,
    typed_by_somebody,
)
from web.accounts.second import prove_with_second
from web.api import step_up
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.pages import PAGE_ACCOUNT, form_response, link_path, shell
from web.views import (
    AccountPage,
    DeviceView,
    FactorsView,
    LocalPath,
    PasskeyView,
    ProvePage,
    SignInView,
    TokenView,
    UnsafeAttribute,
    element_id,
    local_path,
)

# On the page; a program asks for all of them.
DEVICES_SHOWN = 20
TRUST_IN_WORDS = {
    Trust.UNKNOWN: "new",
    Trust.RECOGNIZED: "recognized",
    Trust.FAMILIAR: "familiar",
    Trust.TRUSTED: "trusted",
    Trust.HIGHLY_TRUSTED: "trusted, with a passkey",
}


def own_account_routes(services: Services, mine: AccountServices, is_page: IsPage) -> Blueprint:
    """Call this to get the routes; `is_page` tells whether a path can be asked for by GET.

    Who came from another page (`next`) is shown the way back, and is there again when a sign-in
    was ended.
    """
    routes, forms = Blueprint("own_account", __name__), Forms(services, is_page, mine.methods)

    def back_of(given: Mapping[str, str]) -> LocalPath | None:
        return forms.next_of(given) if given.get("next") else None

    @routes.get(paths.ACCOUNT)
    async def account() -> Response:
        member = member_of(request.scope)
        if member is None:
            return to_sign_in()
        has_ended, back = request.args.get("ended") == "1", back_of(request.args)
        return await _page(services, mine, member, back=back, has_ended_one=has_ended)

    @routes.post(paths.ACCOUNT_SIGN_INS)
    async def revoke() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        reference = None if typed.get("others") == "1" else typed.get("session_ref", "")
        if not await end_sign_ins(mine, current_request_state(), member, reference):
            raise NoSuchThing("no sign-in of this member")
        return redirect(back_of(typed) or paths.ACCOUNT)

    @routes.post(paths.ACCOUNT_PASSWORD)
    async def password() -> Response:
        typed, member = await typed_by_somebody()
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
        typed, member = await typed_by_somebody()
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
    _add_naming(routes, services, mine)
    _add_proof(routes, services, mine, forms)
    return routes


class AccountPages:
    """Shows the page of an account, and that of a proof, for the forms that stand on them."""

    def __init__(self, services: Services, mine: AccountServices) -> None:
        self._services, self._mine = services, mine

    async def show(
        self,
        member: Member,
        problem: NotEntered | None = None,
        *,
        new_email: str = "",
        token: tuple[str, Sequence[str]] = ("", ()),
    ) -> Response:
        """Call this to show it, with what was wrong with a form, and what was typed there.

        `token` is the name and the scopes of one that was refused.
        """
        services, mine = self._services, self._mine
        return await _page(services, mine, member, problem, new_email=new_email, token=token)

    async def prove(
        self, member: Member, then: LocalPath, problem: NotEntered | None = None
    ) -> Response:
        """Call this for the form of a proof, which leads on to `then`."""
        page = await self._prove_page(member, then, problem)
        return answer_form(self._services.renderer.prove_page(page), problem)

    async def ask_again(self, member: Member, level: Level, then: str) -> Response:
        """Call this for the form of a proof where what was shown is not enough (SEC-20)."""
        row = step_up(level.name.replace("_", "")).row
        headers = {name.decode(): value.decode() for name, value in row.headers}
        page = await self._prove_page(member, _way_back(then))
        return form_response(self._services.renderer.prove_page(page), row.status, **headers)

    async def _prove_page(
        self, member: Member, then: LocalPath, problem: NotEntered | None = None
    ) -> ProvePage:
        state, methods = current_request_state(), self._mine.methods
        has_link = methods.has(Method.MAGIC_LINK) and not member.has_second
        rp_id = methods.passkey_domain if member.has_second else None
        if rp_id is not None and not await self._mine.passkeys.of_user(member.user_id):
            rp_id = None
        return ProvePage(
            shell=shell(self._services, state, "Prove it is you", PAGE_ACCOUNT),
            csrf=self._services.csrf_of(state),
            next=then,
            username=member.username,
            email=member.email,
            has_second=member.has_second,
            problems={} if problem is None else problem.problems,
            by_link=link_path(then) if has_link else None,
            rp_id=rp_id,
            has_codes=methods.has(Method.RECOVERY_CODE),
            is_limited=member.is_limited,
        )


def _add_proof(routes: Blueprint, services: Services, mine: AccountServices, forms: Forms) -> None:
    pages = AccountPages(services, mine)

    @routes.get(paths.ACCOUNT_PROVE)
    async def prove_form() -> Response:
        member = member_of(request.scope)
        if member is None:
            return to_sign_in()
        return await pages.prove(member, forms.next_of(request.args))

    @routes.post(paths.ACCOUNT_PROVE)
    async def prove() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        then = forms.next_of(typed)
        try:
            state = current_request_state()
            if member.has_second:
                await prove_with_second(mine, state, member, typed.get("code", ""))
            else:
                await prove_again(mine, state, member, typed.get("password", ""))
        except REFUSED as error:
            return await pages.prove(member, then, refused(error))
        return redirect(then)


def _add_naming(routes: Blueprint, services: Services, mine: AccountServices) -> None:
    @routes.post(paths.ACCOUNT_SIGN_IN_NAME)
    async def name_one() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        reference, name = typed.get("session_ref", ""), typed.get("name", "")
        try:
            is_known = await name_sign_in(mine, member, reference, name)
        except REFUSED as error:
            return await _page(services, mine, member, refused(error))
        if not is_known:
            raise NoSuchThing("no sign-in of this member")
        return redirect(paths.ACCOUNT)


def _add_export(routes: Blueprint, services: Services, mine: AccountServices) -> None:
    @routes.post(paths.ACCOUNT_EXPORT)
    async def export_account() -> Response:
        typed, member = await typed_by_somebody()
        if member is None:
            return to_sign_in(paths.ACCOUNT)
        try:
            document = await export(
                mine, current_request_state(), member, typed.get("export_password", "")
            )
        except REFUSED as error:
            return await _page(services, mine, member, refused(error))
        return Response(document, headers=DOCUMENT_HEADERS)


async def _page(
    services: Services,
    mine: AccountServices,
    member: Member,
    problem: NotEntered | None = None,
    *,
    ends_others: bool = True,
    back: LocalPath | None = None,
    has_ended_one: bool = False,
    new_email: str = "",
    token: tuple[str, Sequence[str]] = ("", ()),
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
        has_ended_one=has_ended_one,
        has_password=await has_password(mine, member),
        factors=await _factors(mine, member),
        passkeys=await _passkeys(mine, member),
        rp_id=mine.methods.passkey_domain,
        has_app_offer=mine.methods.has(Method.TOTP),
        providers=await mine.methods.offers.shown(member.user_id),
        has_address_offer=mine.mails.is_on,
        new_email=new_email,
        has_asked_address=request.args.get("address") == "asked",
        devices=await _devices(mine, member),
        tokens=await _tokens(mine, member),
        token_name=token[0],
        token_scopes=tuple(token[1]),
        is_limited=member.is_limited,
        recovered_at=await _recovered_at(mine, member),
        guarded_until=mine.now() + member.guarded_for if member.is_guarded else None,
    )
    return answer_form(services.renderer.account_page(page), problem)


async def _recovered_at(mine: AccountServices, member: Member) -> datetime | None:
    if not member.has_second:
        return None
    found = await mine.recoveries.of_user(member.user_id)
    return None if found is None else found.ready_at


async def _factors(mine: AccountServices, member: Member) -> FactorsView:
    if not member.has_second:
        return FactorsView(None, 0)
    held = await mine.factors.held(member.user_id)
    since = None if held.totp is None else held.totp.added_at
    has_codes = held.has_second and mine.methods.has(Method.RECOVERY_CODE)
    return FactorsView(since, held.codes_left, has_codes)


async def _passkeys(mine: AccountServices, member: Member) -> tuple[PasskeyView, ...]:
    if not member.has_second:
        return ()
    return tuple(
        PasskeyView(
            reference=element_id(str(one.id)),
            name=one.name,
            added_at=one.added_at,
            used_at=one.used_at,
            is_synced=one.is_backed_up,
            is_flagged=one.flagged_at is not None,
        )
        for one in await mine.passkeys.of_user(member.user_id)
    )


async def _devices(mine: AccountServices, member: Member) -> tuple[DeviceView, ...]:
    return tuple(
        DeviceView(
            reference=element_id(str(one.id)),
            name=one.name,
            browser=one.browser,
            trust=TRUST_IN_WORDS[one.trust],
            is_trusted=one.trust in (Trust.TRUSTED, Trust.HIGHLY_TRUSTED),
            first_seen_at=one.first_seen_at,
            seen_at=one.seen_at,
        )
        for one in await mine.devices.of_user(member.user_id, limit=DEVICES_SHOWN)
    )


async def _tokens(mine: AccountServices, member: Member) -> tuple[TokenView, ...]:
    return tuple(
        TokenView(
            reference=element_id(str(one.id)),
            name=one.name,
            scopes=", ".join(one.scopes),
            created_at=one.created_at,
            expires_at=one.expires_at,
            used_at=one.used_at,
        )
        for one in await mine.tokens.of_user(member.user_id)
    )


async def _sign_ins(mine: AccountServices, member: Member) -> tuple[SignInView, ...]:
    return tuple(
        SignInView(
            reference=element_id(str(one.reference)),
            browser=one.browser,
            created_at=one.created_at,
            seen_at=one.seen_at,
            is_this=one.reference == member.reference,
            address=one.address,
            name=one.name,
        )
        for one in await mine.accounts.sign_ins(member.user_id)
    )


def _way_back(then: str) -> LocalPath:
    """The page that was asked for; one with signs that no page has leads to the account's own."""
    try:
        return local_path(then)
    except UnsafeAttribute:
        return local_path(paths.ACCOUNT)
