"""What each form of a page may say: its fields, declared for every one, and kept before handlers.

Rule 1: a field that no form of the address has is refused by its name (SEC-114).

The forms of commands are not here: each is read by a type, whose fields are all that it has.
"""

import re
from collections.abc import Mapping

from quart import Response
from quart.globals import request_ctx

from web.api import validation
from web.routing import paths
from web.server import FieldProblem, WebApp

FORM = "application/x-www-form-urlencoded"
# The proof that a page of this site made it; every form may have it.
CSRF = "csrf"
# Whoever sends more unknown ones learns of the first.
_TOLD_MAX = 20
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_MAILED = ("token",)
FORMS: Mapping[str, frozenset[str]] = {
    path: frozenset((*names, CSRF))
    for path, names in {
        paths.LOGIN: ("email", "password", "next"),
        paths.LOGIN_SECOND: ("ticket", "code", "next"),
        paths.REGISTER: ("username", "email", "password", "next"),
        paths.LOGOUT: (),
        paths.NOT_ME: _MAILED,
        paths.ALLOW: _MAILED,
        paths.RECOVERY: ("ticket", "code"),
        paths.RECOVERY_STOP: _MAILED,
        paths.RECOVERY_FINISH: _MAILED,
        paths.ADDRESS_CONFIRM: _MAILED,
        paths.ADDRESS_BACK: _MAILED,
        paths.LOGIN_LINK: ("email", "next"),
        paths.LOGIN_LINK_OPEN: ("token", "code", "next"),
        paths.LOGIN_PASSKEY: ("credential", "ticket", "next"),
        paths.LOGIN_SECOND_PASSKEY: ("credential", "ticket", "next"),
        paths.ACCOUNT_PROVE_PASSKEY: ("credential", "ticket", "next"),
        # `username` is for the browser that fills passwords in.
        paths.ACCOUNT_PROVE: ("password", "code", "username", "next"),
        paths.ACCOUNT_PASSWORD: ("current_password", "new_password", "end_others", "username"),
        paths.ACCOUNT_EXPORT: ("export_password", "username"),
        paths.ACCOUNT_DELETE: ("password", "username"),
        paths.ACCOUNT_RECOVERY: (),
        paths.ADDRESS: ("new_email",),
        paths.ACCOUNT_DEVICES: ("device", "act"),
        paths.ACCOUNT_DEVICE_NAME: ("device", "name"),
        paths.ACCOUNT_TOKENS: ("token_name", "scope"),
        paths.ACCOUNT_TOKEN_REVOKE: ("token",),
        paths.ACCOUNT_SIGN_INS: ("session_ref", "others", "next"),
        paths.ACCOUNT_SIGN_IN_NAME: ("session_ref", "name"),
        paths.ACCOUNT_PROVIDER_UNLINK: (),
        paths.ACCOUNT_TOTP_NEW: (),
        paths.ACCOUNT_TOTP: ("ticket", "code"),
        paths.ACCOUNT_TOTP_REMOVE: (),
        paths.ACCOUNT_CODES: (),
        paths.ACCOUNT_PASSKEYS: ("credential", "name", "end_others"),
        paths.ACCOUNT_PASSKEY_NAME: ("passkey", "name"),
        paths.ACCOUNT_PASSKEY_REMOVE: ("passkey", "end_others"),
        paths.MODERATION: ("message_id", "reason", "decision"),
        paths.OPS_SIGN_INS: ("session_ref", "user", "all"),
        paths.OPS_DEAD: ("action", "kind", "source"),
        paths.OPS_LETTER: ("action", "mark", "payload", "reason"),
        paths.OPS_OUTSIDE: ("dependency", "reason"),
        paths.LAB_FAILURES: ("again", "all", "edit", "discard", "discard-all", "number", "reason"),
    }.items()
}


def keep_forms(app: WebApp) -> None:
    """Call this behind `keep_access`: who may not use a form is not told what it has."""

    async def check() -> Response | None:
        asked = request_ctx.request
        rule = asked.url_rule
        known = None if rule is None or asked.method != "POST" else FORMS.get(rule.rule)
        if known is None or asked.mimetype != FORM:
            return None
        refuse_unknown(await asked.form, known)
        return None

    # Behind those of the routes themselves: what is switched off is not there, whatever is sent.
    for name in app.blueprints:
        app.before_request_funcs[name].append(check)


def refuse_unknown(form: Mapping[str, object], known: frozenset[str]) -> None:
    """Call this with a form and what it may have; raises the answer 422 that names the others."""
    extra = [name for name in form if name not in known][:_TOLD_MAX]
    if not extra:
        return
    # What is no name of a field is shown and logged nowhere: it may be a password.
    told = [name if _WORD.fullmatch(name) else "a field" for name in extra]
    problems = [FieldProblem(name, "is not known here") for name in told]
    raise validation(f"{told[0]}: is not known here", problems)
