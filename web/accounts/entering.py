"""What a registration, a login and a logout do, whatever page they come from.

Every try is logged, accepted or refused, with its reason and without what was typed (SEC-130).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Protocol
from uuid import UUID, uuid4

from actors.accounts import (
    Accounts,
    Act,
    Audit,
    BadField,
    Credentials,
    Entry,
    Holdings,
    Limit,
    Limited,
    Method,
    NewAccount,
    NewSignIn,
    Origin,
    RateLimiter,
    SessionId,
    Taken,
    browser_family,
    check_password,
    login_limits,
    parse_email,
    parse_username,
    register_limits,
)
from actors.accounts.kept.addresses import Addresses
from actors.accounts.kept.devices.port import Devices
from actors.accounts.kept.disavowals import Disavowals
from actors.accounts.kept.factors import Factors
from actors.accounts.kept.recoveries import Known, Recoveries
from actors.accounts.kept.risk.port import Logins
from actors.accounts.kept.risk.words import Arrival, Outcome, Withheld
from actors.accounts.ways.passkeys import Passkeys
from actors.accounts.ways.tokens import ApiTokens
from actors.persistence import OutboxMessage
from actors.persistence.errors import StoreUnavailable
from actors.reducers import Ids
from actors.runtime import Log, Secret, spanned
from web.accounts.hashing import HashingBusy, Passwords, common_passwords
from web.accounts.identity import SignInCookie, new_token
from web.accounts.methods import Methods
from web.api import count
from web.mail.mails import Mails
from web.routing.quota import address_key
from web.server import RequestState, Tickets, masked

log = Log("web.accounts")

# One text for a wrong address and a wrong password (SEC-77).
WRONG = "This address and password do not go together."
_TAKEN = {
    Taken.USERNAME: "Somebody has this name already; choose another.",
    Taken.EMAIL: "There is an account with this address already; sign in instead.",
}


class NotEntered(Exception):
    """Raised when a form is shown again; nothing was changed.

    `problems` are by the name of their field, "" for the whole form. `retry_after` in seconds.
    """

    def __init__(
        self, status: int, problems: Mapping[str, str], retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status}: {', '.join(problems)}")
        self.status, self.problems, self.retry_after = status, dict(problems), retry_after
        # Told of a span's end (`actors.runtime.delivery.span`): it was an answer, and no failure.
        self.is_refusal = status < 500


class Arrivals(Protocol):
    """What looks at where sign-ins come from (`web.accounts.ways.risk.desk`)."""

    @property
    def takes_shown(self) -> bool:
        """Call this for whether what a device shows of itself is collected."""
        ...

    def arrival(
        self,
        services: "AccountServices",
        state: RequestState,
        reference: UUID,
        method: str,
        browser: str,
        *,
        keeps_cookies: bool,
    ) -> Arrival:
        """Call this for where the present request comes from, and what judges it."""
        ...

    def remember(self, state: RequestState, arrival: Arrival) -> None:
        """Call this when a sign-in was judged: its browser is a device from then on."""
        ...


# The mails to all who are known of a recovery code that is used, by its digest (AUTH-10).
TellCodeUsed = Callable[["AccountServices", UUID, Known, bytes], Sequence[OutboxMessage]]
# The mails to all who are known that a recovery was stopped by a second factor.
TellRecoveryStopped = Callable[["AccountServices", UUID, Known], Sequence[OutboxMessage]]


@dataclass(frozen=True, slots=True)
class AccountServices:
    """What accounts need beside the services of every feature."""

    accounts: Accounts
    audit: Audit
    limiter: RateLimiter
    holdings: Holdings
    passwords: Passwords
    cookie: SignInCookie
    ids: Ids
    # Called when a name is gone: pages that are open show it no more.
    tell_forgotten: Callable[[], None]
    mails: Mails
    now: Callable[[], datetime]
    factors: Factors
    tickets: Tickets
    passkeys: Passkeys
    disavowals: Disavowals
    addresses: Addresses
    devices: Devices
    logins: Logins
    tokens: ApiTokens
    arrivals: Arrivals
    recoveries: Recoveries
    tell_code_used: TellCodeUsed
    tell_recovery_stopped: TellRecoveryStopped
    # Of the site, for mails (SEC-84); none while it serves nothing.
    origin: str = ""
    methods: Methods = field(default_factory=Methods)

    def login_limits(self, state: RequestState, email: str) -> tuple[Limit, Limit]:
        """Call this for how often a password may be tried: by an address, and of an account."""
        return login_limits(address_key(state.address), _account_key(email))

    def tell_stopped(self, recovery_id: UUID, known: Known) -> Sequence[OutboxMessage]:
        """Call this for what a sign-in writes that stops a recovery; see `TellStopped`."""
        return self.tell_recovery_stopped(self, recovery_id, known)


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody typed to register."""

    username: str
    email: str
    password: str


@spanned("auth.register")
async def register(
    services: AccountServices, state: RequestState, typed: Registration, user_agent: str
) -> None:
    """Call this to make an account and sign its browser in; raises `NotEntered`.

    Also `HashingBusy`, and `StoreUnavailable` and its kin.
    """
    account, problems = _checked(typed)
    if problems:
        raise NotEntered(422, problems)
    tries, accounts = register_limits(address_key(state.address))
    match await count(services.limiter, state, "register", tries, accounts):
        case Limited(wait):
            tell(state, "accounts.register", "refused", reason="too_many")
            raise NotEntered(
                429, {"": "Too many accounts were made from here; " + in_words(wait)}, wait
            )
    is_made = False
    try:
        password_hash = await services.passwords.hash(typed.password)
        new = NewAccount(services.ids.new_id(), *account, password_hash)
        token, sign_in = new_sign_in(services, state, user_agent)
        taken = await services.accounts.register(new, sign_in, origin_of(state, user_agent))
        is_made = taken is None
    finally:
        if not is_made:
            await services.limiter.give_back(accounts)
    if taken is not None:
        tell(state, "accounts.register", "refused", reason=f"{taken}_taken")
        raise NotEntered(409, {taken.value: _TAKEN[taken]})
    tell(state, "accounts.register", "accepted", user_id=str(new.user_id))
    enter(services, state, sign_in, token)


def _checked(typed: Registration) -> tuple[tuple[str, str], dict[str, str]]:
    problems: dict[str, str] = {}
    found = {"username": "", "email": ""}
    for name, parse in (("username", parse_username), ("email", parse_email)):
        try:
            found[name] = parse(getattr(typed, name))
        except BadField as error:
            problems[name] = error.problem
    try:
        check_password(typed.password, found["username"], found["email"], common_passwords())
    except BadField as error:
        problems["password"] = error.problem
    return (found["username"], found["email"]), problems


@spanned("auth.password")
async def log_in(
    services: AccountServices, state: RequestState, email: str, password: str, user_agent: str
) -> int | Credentials:
    """Call this to sign a browser in by a password; raises as `register`.

    Gives how many other sign-ins it ended, because there were as many as may be. Of an account
    that has a second factor nobody is signed in yet: its credentials are given.
    """
    blank = {
        name: text
        for name, value, text in (
            ("email", email.strip(), "Give your address."),
            ("password", password, "Give your password."),
        )
        if not value
    }
    if blank:
        raise NotEntered(422, blank)
    address = email.strip().lower()
    limits = services.login_limits(state, address)
    match await count(services.limiter, state, "sign-in", *limits):
        case Limited(wait):
            tell(state, "accounts.sign_in", "refused", reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)
    by_address, by_account = limits
    is_judged = False
    token, sign_in = new_sign_in(services, state, user_agent)
    origin = origin_of(state, user_agent)
    try:
        proven = await _proven(services, address, password, sign_in, origin)
        is_judged = True
    finally:
        if not is_judged:  # by no fault of theirs
            await services.limiter.give_back(by_address, by_account)
    if isinstance(proven, _Refused):
        # For an address that nobody has, too, so that it takes the same time (SEC-77).
        entry = Entry(Act.SIGN_IN, proven.user_id, origin, "wrong")
        await services.audit.note(entry)
        tell(state, "accounts.sign_in", "refused", reason="wrong")
        raise NotEntered(401, {"": WRONG})
    credentials, is_weak, ended = proven
    if is_weak:
        credentials = await _renewed_hash(services, credentials, password)
    if isinstance(ended, Withheld):
        # It counts as a try: each may have written a mail.
        raise withheld(services, state, sign_in, ended, credentials.user_id)
    await services.limiter.give_back(by_address)
    await services.limiter.clear(by_account.key)
    if ended is None:
        tell(state, "accounts.sign_in", "half", user_id=str(credentials.user_id))
        return credentials
    tell(state, "accounts.sign_in", "accepted", user_id=str(credentials.user_id), ended=ended)
    enter(services, state, sign_in, token)
    return ended


@dataclass(frozen=True, slots=True)
class _Refused:
    """The password was another one; whose, where the address is somebody's."""

    user_id: UUID | None


async def _proven(
    services: AccountServices, address: str, password: str, sign_in: NewSignIn, origin: Origin
) -> tuple[Credentials, bool, int | Withheld | None] | _Refused:
    """Sign in who knows the password; gives whose it was, whether its hash is weak, and the ended.

    None for those who must prove a second factor first.

    Twice at most: the hash may be another one behind the comparison, of another password or of
    the same that was renewed by another login. One that changes again is not waited for.
    """
    credentials = None
    for _ in range(2):
        credentials = await services.accounts.credentials(_sendable(address))
        kept = None if credentials is None else credentials.password_hash
        verified = await services.passwords.verify(kept, password)
        if credentials is None or not verified.is_right:
            break
        if credentials.has_second:
            return credentials, verified.is_weak, None
        ended = await services.accounts.sign_in(
            credentials.user_id, credentials.password_hash, sign_in, origin
        )
        if ended is not None:
            return credentials, verified.is_weak, ended
    return _Refused(None if credentials is None else credentials.user_id)


async def _renewed_hash(
    services: AccountServices, credentials: Credentials, password: str
) -> Credentials:
    try:
        renewed = await services.passwords.hash(password)
        await services.accounts.renew_hash(credentials.user_id, credentials.password_hash, renewed)
    except (HashingBusy, StoreUnavailable):
        return credentials  # the password was right; the next login tries again
    return replace(credentials, password_hash=renewed)


async def log_out(services: AccountServices, state: RequestState, user_agent: str = "") -> None:
    """Call this to end the sign-in of a browser; of a guest's it changes nothing."""
    if state.signed_in is None:
        return
    origin = origin_of(state, user_agent)
    await services.accounts.sign_out(SessionId(state.visitor.text), origin)
    tell(state, "accounts.sign_out", "accepted", user_id=str(state.signed_in.user_id))
    leave(services, state)


def leave(services: AccountServices, state: RequestState) -> None:
    """Call this when the sign-in of a browser is over: nothing of it stays there (SEC-13)."""
    state.signed_in = None
    if state.is_by_bearer:
        return  # a program keeps no cookie
    state.set_cookies.append(services.cookie.expire())
    state.visitor.rotate()


def tell(
    state: RequestState, act: str, outcome: str, method: str = Method.PASSWORD, **facts: object
) -> None:
    """Call this to log what somebody tried, and what became of it (SEC-130)."""
    log.info(
        act,
        outcome=outcome,
        method=method,
        address=masked(state.address),
        request_id=state.request_id,
        **facts,
    )


def origin_of(state: RequestState, user_agent: str = "", method: str = Method.PASSWORD) -> Origin:
    """Call this for where a request comes from, as it may be kept (SEC-132)."""
    browser = browser_family(user_agent) if user_agent else ""
    return Origin(masked(state.address), browser, state.request_id, method)


def in_words(seconds: float) -> str:
    """Call this to say when to try again."""
    if seconds > 90:
        return f"try again in {round(seconds / 60)} minutes."
    whole = max(1, round(seconds + 0.5))
    return "try again in a second." if whole == 1 else f"try again in {whole} seconds."


def new_sign_in(
    services: AccountServices,
    state: RequestState,
    user_agent: str,
    method: str = Method.PASSWORD,
    *,
    keeps_cookies: bool = True,
) -> tuple[str, NewSignIn]:
    """Call this for the token of a sign-in to be made in the browser that asks, and the sign-in.

    `method` is that of the first factor. A program that keeps no cookies is no device.
    """
    token, digest = new_token()
    former = None if state.visitor.is_new else SessionId(state.visitor.text)
    reference, browser = services.ids.new_id(), browser_family(user_agent)
    arrival = services.arrivals.arrival(
        services, state, reference, method, browser, keeps_cookies=keeps_cookies
    )
    session_id = SessionId(str(uuid4()))
    return token, NewSignIn(
        reference,
        digest,
        session_id,
        browser,
        former,
        arrival=arrival,
        tell_stopped=services.tell_stopped,
    )


_WITHHELD = {
    Outcome.ASKED_PASSKEY: (
        "This sign-in is unlike your others, so it needs one of your passkeys: sign in once more, "
        "and take your passkey."
    ),
    Outcome.ASKED_MAIL: (
        "This sign-in is unlike your others. A mail is on its way to your address: confirm there "
        "that it is you, within ten minutes, and sign in here once more."
    ),
    Outcome.REFUSED: (
        "This sign-in was refused, and the owner of the account was told by mail. The link there "
        "allows one more attempt."
    ),
}
_WITHHELD_WITHOUT_MAIL = (
    "This sign-in was refused. Try again later, from where you usually sign in."
)


def withheld(
    services: AccountServices,
    state: RequestState,
    sign_in: NewSignIn,
    found: Withheld,
    user_id: UUID,
    method: str = Method.PASSWORD,
) -> NotEntered:
    """Call this when all was right and nobody is signed in, for what is told of it (AUTH-32)."""
    if sign_in.arrival is not None:
        services.arrivals.remember(state, sign_in.arrival)
    services.mails.wake()
    facts = {"user_id": str(user_id), "login_id": str(sign_in.reference)}
    tell(state, "accounts.sign_in", "withheld", method, reason=found.outcome.value, **facts)
    needs_mail = found.outcome is not Outcome.ASKED_PASSKEY
    has_mail = services.mails.is_on or not needs_mail
    text = _WITHHELD[found.outcome] if has_mail else _WITHHELD_WITHOUT_MAIL
    return NotEntered(403, {"": text})


def enter(services: AccountServices, state: RequestState, sign_in: NewSignIn, token: str) -> None:
    """Call this when a sign-in was made: its browser has it from then on."""
    state.set_cookies.append(services.cookie.set(token))
    state.visitor.adopt(UUID(sign_in.session_id))
    if sign_in.arrival is not None:
        services.arrivals.remember(state, sign_in.arrival)
        services.mails.wake()  # one may tell of it


def renew(services: AccountServices, state: RequestState, token: str) -> None:
    """Call this when a sign-in goes on under another token: who brought the former one gets it."""
    if state.is_by_bearer:
        state.renewed = Secret(token)
    else:
        state.set_cookies.append(services.cookie.set(token))


def renewed(state: RequestState) -> dict[str, str]:
    """Call this for what a program is told of its token with an answer: the new one, if any."""
    return {} if state.renewed is None else {"session_token": state.renewed.reveal()}


def _account_key(address: str) -> str:
    # Of any address typed, known or not: a delay tells nobody that there is an account.
    data = address.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=16, person=b"gr-account").hexdigest()


def _sendable(address: str) -> str:
    # What no store keeps is nobody's address: it is asked for all the same, for the time it takes.
    is_plain = len(address) <= 254 and address.isprintable()
    return address if is_plain else ""
