"""Who may do what: declared for every route and socket command, kept before any handler (AUTH-23).

Rule 1: an application with a route that is not declared does not start.
Rule 2: what is declared here is the least; whether a thing is somebody's own is judged where it is,
        by the actor or the statement that has it in hand. `owner` says by whom.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from quart import Response, request
from quart.globals import request_ctx

from actors.accounts import Level, Member, Role
from actors.accounts.kept.tokens import Scope
from web.accounts.identity import member_of
from web.accounts.routes import to_sign_in
from web.api import step_up
from web.routing import paths
from web.routing.errors import Guarded, NotAllowed
from web.server import Rendering, WebApp, current_request_state

# Shows the form that proves again, of the level that is missing, and leads back to a page.
AskAgain = Callable[[Member, Level, str], Awaitable[Response]]


class Owner(StrEnum):
    """Whose a thing must be that a request names."""

    NOBODY = ""
    # Of the browser session that asks.
    SESSION = "session"
    # Of the member who asks.
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Access:
    """What whoever asks must be and have shown; made by `requires`."""

    level: Level | None
    is_fresh: bool
    role: Role | None
    owner: Owner
    # The page that holds the form, where one is sent back to.
    back: str | None
    # Of an account that has a second factor it needs one, and a fresh proof of it.
    is_sensitive: bool = False
    # What an API token must be made for; without one no token may.
    scope: Scope | None = None

    @property
    def is_for_all(self) -> bool:
        """Call this for whether guests may."""
        return self.level is None


def requires(
    *,
    level: Level | None = None,
    fresh: bool = False,
    role: Role | None = None,
    owner: Owner = Owner.NOBODY,
    back: str | None = None,
    sensitive: bool = False,
    scope: Scope | None = None,
) -> Access:
    """Call this to say what something needs. A role, or a fresh proof, needs a sign-in too.

    What needs a fresh proof is sensitive; what asks for the password itself is told to be. With a
    `scope` API tokens may that have it: of nothing that is sensitive, or needs a role.
    """
    if level is None and (fresh or sensitive or role is not None or owner is Owner.MEMBER):
        level = Level.BASIC
    if scope is not None and (fresh or sensitive or role is not None):
        raise ValueError("an API token proves nobody afresh, and has no role")
    return Access(level, fresh, role, owner, back, fresh or sensitive, scope)


ANYBODY = requires()
_OWN_SESSION = requires(owner=Owner.SESSION)
_MEMBER = requires(level=Level.BASIC)
_OWN = requires(owner=Owner.MEMBER, back=paths.ACCOUNT)
_OWN_READ = requires(owner=Owner.MEMBER, back=paths.ACCOUNT, scope=Scope.ACCOUNT_READ)
_OWN_SENSITIVE = requires(owner=Owner.MEMBER, sensitive=True, back=paths.ACCOUNT)
_OWN_FRESH = requires(owner=Owner.MEMBER, fresh=True, back=paths.ACCOUNT)
_MODERATOR = requires(role=Role.MODERATOR)
# Operation is sensitive, looking too.
_OPERATOR = requires(role=Role.ADMIN, fresh=True)

# By path, then by method. A HEAD is what its GET is. What asks for the password in the same form
# (password, export, deletion) is as fresh as can be, and declared sensitive only.
ACCESS: Mapping[str, Mapping[str, Access]] = {
    **{
        path: {"GET": ANYBODY}
        for path in (
            paths.HOME, paths.LAB, paths.DOCS, paths.DOCS_PAGE, paths.DOCS_SEARCH, paths.LLMS,
            paths.WORK, paths.WORK_PAGE,
            paths.ERROR_TEST, paths.CHAT, paths.CHAT_HISTORY, paths.BURST_PROBE, paths.LAB_TREE,
            paths.DEMO_ERRANDS, paths.DEV_MAIL, paths.DEV_MAIL_ONE, paths.STATIC, paths.FAVICON,
            # Whoever shows its token; to all others it is no page.
            paths.METRICS,
            paths.ROBOTS, *sorted(paths.PROBES),
        )
    },
    # A tab's stream, and what only the own session has caused.
    paths.EVENTS: {"GET": requires(owner=Owner.SESSION, scope=Scope.CHAT_READ)},
    paths.OPS_TRACES: {"GET": _OWN_SESSION},
    paths.LAB_FAILURES: {"GET": _OWN_SESSION, "POST": _OWN_SESSION},
    paths.LAB_TRACES: {"GET": _OWN_SESSION},
    paths.LAB_TRACE: {"GET": _OWN_SESSION},
    paths.DEMO_PANEL: {"GET": ANYBODY, "POST": _OWN_SESSION},
    **{
        path: {"POST": _OWN_SESSION}
        for path in (
            paths.CHAT_JOIN, paths.CHAT_POST, paths.CHAT_POST_AS_DEMO, paths.LAB_ACTION,
            paths.LAB_DROP, paths.LAB_SAGAS, paths.LAB_SAGA_ACTION,
            paths.LAB_LOOK, paths.LAB_RESET, paths.DEMO_COUNTER,
            paths.DEMO_GUARDED, paths.DEMO_CANCEL, paths.OPERATIONS_FILTER, paths.SOCKET_TICKET,
        )
    },
    paths.POLICY_REPORT: {"POST": ANYBODY},
    # Its signature says who asks.
    paths.MAIL_BOUNCE: {"POST": ANYBODY},
    paths.LOGIN: {"GET": ANYBODY, "POST": ANYBODY},
    paths.LOGIN_SECOND: {"POST": ANYBODY},
    paths.REGISTER: {"GET": ANYBODY, "POST": ANYBODY},
    # Whoever has the mail may, without a sign-in.
    paths.NOT_ME: {"GET": ANYBODY, "POST": ANYBODY},
    paths.RECOVERY: {"GET": ANYBODY, "POST": ANYBODY},
    paths.RECOVERY_STOP: {"GET": ANYBODY, "POST": ANYBODY},
    paths.RECOVERY_FINISH: {"GET": ANYBODY, "POST": ANYBODY},
    # By whoever has shown the second factor just now: with a cookie alone a thief would keep its
    # owner out for ever. Who lost the factor has the links of the mails.
    paths.ACCOUNT_RECOVERY: {"POST": _OWN_FRESH},
    paths.ADDRESS_CONFIRM: {"GET": ANYBODY, "POST": ANYBODY},
    paths.ADDRESS_BACK: {"GET": ANYBODY, "POST": ANYBODY},
    paths.ALLOW: {"GET": ANYBODY, "POST": ANYBODY},
    paths.ADDRESS: {"POST": _OWN_FRESH},
    paths.ACCOUNT_DEVICES: {"POST": _OWN_FRESH},
    paths.ACCOUNT_DEVICE_NAME: {"POST": _OWN},
    paths.API_DEVICES: {"GET": _OWN_READ},
    paths.API_DEVICE: {"DELETE": _OWN_FRESH},
    paths.API_DEVICE_TRUST: {"POST": _OWN_FRESH},
    paths.LOGIN_LINK: {"GET": ANYBODY, "POST": ANYBODY},
    paths.LOGIN_LINK_OPEN: {"GET": ANYBODY, "POST": ANYBODY},
    paths.LINK_SEND: {"POST": ANYBODY},
    paths.LINK_VERIFY: {"GET": ANYBODY, "POST": ANYBODY},
    paths.LOGIN_PASSKEY: {"POST": ANYBODY},
    paths.LOGIN_SECOND_PASSKEY: {"POST": ANYBODY},
    paths.ACCOUNT_PROVE_PASSKEY: {"POST": _OWN},
    paths.API_PASSKEY_ASK: {"POST": ANYBODY},
    paths.API_PASSKEY_ENTER: {"POST": ANYBODY},
    paths.API_SECOND: {"POST": ANYBODY},
    paths.API_PASSKEY_NEW: {"POST": _OWN_FRESH},
    paths.API_PASSKEY_ADD: {"POST": _OWN_FRESH},
    paths.API_PASSKEYS: {"GET": _OWN_READ},
    paths.API_PASSKEY: {"GET": _OWN_READ, "DELETE": _OWN_FRESH},
    paths.API_SESSION: {"GET": _OWN},
    # To end all that one has oneself, with the own sign-in, is safe to whoever is in doubt.
    paths.API_LOGOUT: {"POST": _OWN},
    paths.API_LOGOUT_ALL: {"POST": _OWN},
    paths.API_TOKENS: {"GET": _OWN_READ, "POST": _OWN_FRESH},
    paths.API_TOKEN: {"DELETE": _OWN_FRESH},
    paths.ACCOUNT_TOKENS: {"POST": _OWN_FRESH},
    paths.ACCOUNT_TOKEN_REVOKE: {"POST": _OWN_FRESH},
    paths.API_SESSIONS: {"GET": _OWN_READ, "DELETE": _OWN_FRESH},
    paths.API_SESSION_ONE: {"GET": _OWN_READ, "DELETE": _OWN_FRESH},
    paths.API_STEP_UP_ASK: {"POST": _OWN},
    paths.API_STEP_UP: {"POST": _OWN},
    paths.OAUTH_BEGIN: {"GET": ANYBODY},
    paths.OAUTH_BACK: {"GET": ANYBODY},
    # A provider, which signs what it says.
    paths.OAUTH_LEFT: {"POST": ANYBODY},
    paths.LOGOUT: {"POST": ANYBODY},
    paths.LOGOUT_PROVIDER: {"GET": ANYBODY},
    paths.PROTECTED: {"GET": _MEMBER},
    paths.ACCOUNT: {"GET": _OWN},
    paths.ACCOUNT_PROVE: {"GET": _OWN, "POST": _OWN},
    paths.ACCOUNT_PASSWORD: {"POST": _OWN_SENSITIVE},
    paths.ACCOUNT_SIGN_INS: {"POST": _OWN_FRESH},
    paths.ACCOUNT_SIGN_IN_NAME: {"POST": _OWN},
    # By GET: where a form leads to another site, the policy of the page stops it (SEC-91).
    paths.ACCOUNT_PROVIDER_LINK: {"GET": requires(owner=Owner.MEMBER, fresh=True)},
    paths.ACCOUNT_PROVIDER_UNLINK: {"POST": _OWN_FRESH},
    paths.ACCOUNT_DELETE: {"POST": _OWN_SENSITIVE},
    paths.ACCOUNT_EXPORT: {"POST": _OWN_SENSITIVE},
    **{
        path: {"POST": _OWN_FRESH}
        for path in (
            paths.ACCOUNT_TOTP_NEW, paths.ACCOUNT_TOTP, paths.ACCOUNT_TOTP_REMOVE,
            paths.ACCOUNT_CODES, paths.ACCOUNT_PASSKEYS, paths.ACCOUNT_PASSKEY_REMOVE,
        )
    },
    paths.ACCOUNT_PASSKEY_NAME: {"POST": _OWN},
    paths.MODERATION: {
        "GET": _MODERATOR, "POST": requires(role=Role.MODERATOR, back=paths.MODERATION),
    },
    paths.AUDIT: {"GET": _MODERATOR},
    paths.OPS_SIGN_INS: {
        "GET": _OPERATOR, "POST": requires(role=Role.ADMIN, fresh=True, back=paths.OPS_SIGN_INS),
    },
    paths.OPS_AUDIT: {"GET": _OPERATOR},
    paths.OPS_DEAD: {
        "GET": _OPERATOR, "POST": requires(role=Role.ADMIN, fresh=True, back=paths.OPS_DEAD),
    },
    paths.OPS_LETTER: {
        "GET": _OPERATOR, "POST": requires(role=Role.ADMIN, fresh=True, back=paths.OPS_DEAD),
    },

    paths.OPS: {"GET": _OPERATOR},
    paths.OPS_OUTSIDE: {
        "GET": _OPERATOR, "POST": requires(role=Role.ADMIN, fresh=True, back=paths.OPS_OUTSIDE),
    },
}  # fmt: skip


class NotDeclared(Exception):
    """Raised at start for routes that nobody has said who may use; declare them in `ACCESS`."""


def undeclared(app: WebApp, declared: Mapping[str, Mapping[str, Access]]) -> list[str]:
    """Call this for the routes of an application that are missing, as `METHOD path`."""
    return sorted(
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if method not in declared.get(rule.rule, {})
    )


def keep_access(
    app: WebApp, ask_again: AskAgain, declared: Mapping[str, Mapping[str, Access]] = ACCESS
) -> None:
    """Call this when all routes are registered; raises `NotDeclared`."""
    missing = undeclared(app, declared)
    if missing:
        raise NotDeclared(", ".join(missing))

    async def check() -> Response | None:
        asked = request_ctx.request  # asked once, and not for each of them
        rule = asked.url_rule
        if rule is None or asked.method == "OPTIONS":
            return None
        access = declared[rule.rule]["GET" if asked.method == "HEAD" else asked.method]
        member = member_of(asked.scope)
        if member is None and access.level is None:
            return None
        return await judge(access, member, ask_again)

    app.before_request(check)


async def judge(access: Access, member: Member | None, ask_again: AskAgain) -> Response | None:
    """Call this for the answer to who may not, None to who may.

    A guest is sent to sign in (a command gets `NotSignedIn`), who lacks a role gets `NotAllowed`,
    and who has not proven enough is asked again: 403 `STEP_UP_REQUIRED`, a page with the form.
    Of an account that was recovered within a day nothing sensitive is done: `Guarded` (AUTH-10).
    An API token without the scope gets `NotAllowed`, also for what guests may.
    """
    if member is not None and member.scopes is not None and access.scope not in member.scopes:
        needed = "a sign-in" if access.scope is None else f"the scope {access.scope}"
        raise NotAllowed(f"this API token may not do this: it needs {needed}")
    if access.level is None:
        return None
    if member is None:
        return to_sign_in(access.back if request.method == "POST" else None)
    if access.role is not None and member.role is not access.role:
        raise NotAllowed(f"this is for the role {access.role}")
    # A sign-in of some risk, which nobody confirmed (AUTH-32): a second factor, where there is one.
    is_held = member.is_limited and (access.is_sensitive or access.role is not None)
    if access.is_sensitive and member.is_guarded:
        raise Guarded("this account was recovered within a day")
    level, needs_second = access.level, access.is_sensitive and member.has_second
    if needs_second:
        level = max(level, Level.MULTI_FACTOR)
    if is_held:
        level = max(level, Level.MULTI_FACTOR)
    if member.level >= level and (member.is_fresh or not (access.is_fresh or needs_second)):
        return None
    if current_request_state().rendering is not Rendering.PAGE:
        raise step_up(level.name.replace("_", ""))
    return await ask_again(member, level, access.back or request.path)
