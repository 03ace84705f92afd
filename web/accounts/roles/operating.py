"""The pages of operators: who is signed in, and what was done with accounts (SEC-18, AUTH-42).

Rule 1: who may come here is declared in `access.py`: the role, and a fresh proof.
Rule 2: what is ended here is ended in the store, which asks once more whether the operator's own
        sign-in lives and still has its role; the act stands in the audit with who did it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from quart import Blueprint, Response, request

from actors.accounts import Act, Audited, AuditQuery, BadField, Member, SignIn, parse_username
from actors.accounts.kept.audit import Operated
from actors.accounts.members import Operator
from actors.persistence.words import BIGINT_MAX
from web.accounts.entering import AccountServices, origin_of, tell
from web.accounts.identity import member_of
from web.accounts.routes import redirect, to_sign_in, typed_by_member, user_agent
from web.routing import paths
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.pages import PAGE_OPERATORS, form_response, shell
from web.views import (
    ActsPage,
    ActView,
    OperatedSignIn,
    SignInsPage,
    element_id,
    local_path,
)

# What a person looks through; the command line lists more.
SIGN_INS_SHOWN_MAX = 200
# An id of a row of the audit has at most so many digits.
_DIGITS_MAX = 19


def operating_routes(services: Services, mine: AccountServices) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("operating", __name__)

    @routes.get(paths.OPS_SIGN_INS)
    async def sign_ins() -> Response:
        member = member_of(request.scope)
        if member is None:
            return to_sign_in()
        whom = request.args.get("user", "")
        user_id = await _user(mine, whom)
        found = await mine.accounts.all_sign_ins(user_id, limit=SIGN_INS_SHOWN_MAX)
        state = current_request_state()
        page = SignInsPage(
            shell(services, state, "Who is signed in", PAGE_OPERATORS),
            services.csrf_of(state),
            whom,
            tuple(_sign_in_view(one, member) for one in found),
            _ended(request.args.get("ended")),
        )
        return form_response(services.renderer.sign_ins_page(page))

    @routes.post(paths.OPS_SIGN_INS)
    async def end() -> Response:
        typed, member = await typed_by_member()
        count = await _end(mine, member, typed)
        return redirect(local_path(f"{paths.OPS_SIGN_INS}?ended={count}"))

    @routes.get(paths.OPS_AUDIT)
    async def audit() -> Response:
        asked = request.args
        query = await _query(mine, asked)
        found = await mine.audit.search(query)
        state = current_request_state()
        older = None
        if len(found) == query.limit:
            kept = {name: asked[name] for name in _ASKED if asked.get(name)}
            older = local_path(f"{paths.OPS_AUDIT}?{urlencode({**kept, 'before': found[-1].id})}")
        page = ActsPage(
            shell(services, state, "What was done with accounts", PAGE_OPERATORS),
            {name: asked.get(name, "") for name in _ASKED},
            (*Act, *Operated),
            tuple(map(_act_view, found)),
            older,
        )
        return form_response(services.renderer.acts_page(page))

    return routes


# What the form of a search has.
_ASKED = ("user", "act", "since", "until", "outcome")
_OUTCOMES: Mapping[str, bool | None] = {"": None, "accepted": True, "refused": False}


async def _end(mine: AccountServices, member: Member, typed: Mapping[str, str]) -> int:
    """End what a form names: one, those of a member, or all; raises `NoSuchThing` for none."""
    state, by = current_request_state(), Operator(member.user_id, member.reference)
    origin = origin_of(state, user_agent(), method="operator")
    reference = user_id = None
    if typed.get("session_ref"):
        reference = _uuid(typed["session_ref"])
    elif typed.get("user"):
        user_id = await _user(mine, typed["user"])
    elif typed.get("all") != "1":
        raise InvalidInput("session_ref, user or all=1 says which")
    count = await mine.accounts.revoke(reference=reference, user_id=user_id, by=by, origin=origin)
    outcome = "accepted" if count else "refused"
    what = "one" if reference else "user" if user_id else "all"
    tell(
        state, "accounts.sign_ins_revoke", outcome, "operator",
        user_id=str(member.user_id), what=what, count=count,
    )  # fmt: skip
    if not count:
        raise NoSuchThing("no such sign-in")
    return count


async def _user(mine: AccountServices, typed: str) -> UUID | None:
    """Find whom a field names: by name, or by the id that outlives it; None for an empty one."""
    text = typed.strip()
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        pass
    try:
        found = await mine.accounts.named(parse_username(text))
    except BadField:
        found = None
    if found is None:
        raise NoSuchThing("no such member")
    return found[0]


async def _query(mine: AccountServices, asked: Mapping[str, str]) -> AuditQuery:
    act, outcome, before = (asked.get(name, "") for name in ("act", "outcome", "before"))
    if outcome not in _OUTCOMES:
        raise InvalidInput("outcome is accepted or refused")
    if len(act) > max(map(len, (*Act, *Operated))) or not act.isprintable():
        raise InvalidInput("act is none that is known")
    until = _day(asked.get("until", ""))
    return AuditQuery(
        user_id=await _user(mine, asked.get("user", "")),
        action=act or None,
        since=_day(asked.get("since", "")),
        # The whole of the last day.
        until=None if until is None else until + timedelta(days=1),
        is_success=_OUTCOMES[outcome],
        before=_number(before) if before else None,
    )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NoSuchThing("no such sign-in") from None


def _number(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not (is_number and 1 <= int(text) <= BIGINT_MAX):
        raise InvalidInput("before is the id of a row")
    return int(text)


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInput("a day is written as 2026-01-31") from None


def _ended(text: str | None) -> int:
    # It is from an address that anybody may type: a small number, or nothing.
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 6 else 0


def _sign_in_view(one: SignIn, member: Member) -> OperatedSignIn:
    return OperatedSignIn(
        element_id(str(one.reference)),
        one.username,
        one.browser,
        one.address,
        one.created_at,
        one.seen_at,
        one.reference == member.reference,
    )


def _act_view(row: Audited) -> ActView:
    return ActView(
        row.id,
        row.at,
        row.action,
        row.actor or "",
        row.subject or "",
        row.is_success,
        row.reason or "",
        row.address or "",
        row.browser or "",
        row.request_id or "",
        row.why or "",
    )
