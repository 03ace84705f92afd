"""`POST /mail/bounce/PROVIDER`: a provider reports that an address takes no mail (MAIL-7).

Rule: nothing is believed that the provider has not signed, and each report has one effect.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from quart import Blueprint, Response, request

from actors.accounts import Limit, Limited, RateLimiter
from actors.persistence import MailStates
from actors.runtime import Log, Secret
from web.api import bad_request, ok, unauthorized, unavailable
from web.api.reading import raw_body
from web.mail.routes.amazon import CertificateAway, SesHook
from web.mail.routes.signed import (
    AHEAD_MAX,
    REPORT_KEPT,
    BadReport,
    Hook,
    MailgunHook,
    NeedsCertificate,
    NotSigned,
    PostmarkHook,
    Report,
    SendGridHook,
)
from web.mail.words import address_digest
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.quota import Quota
from web.server import current_request_state

log = Log("web.mail")

# A provider whose key was changed tries some times a minute; who guesses tries for ever.
REFUSED_PER_ADDRESS_MAX = 30
REFUSED_PERIOD_S = 60.0
# Whose reports name a certificate can name many: each is asked for at somebody else's.
FETCHES_MAX = 5
# As long as a report may come again.
_ONCE = REPORT_KEPT + AHEAD_MAX


@dataclass(frozen=True, slots=True)
class BounceServices:
    """What the hooks need: which providers report here, and where it is kept."""

    hooks: Sequence[Hook]
    # None: there are no hooks either.
    states: MailStates | None
    limiter: RateLimiter
    now: Callable[[], datetime]
    refused: Quota
    fetches: Quota
    # None: no provider of them names a certificate.
    fetch: Callable[[str], Awaitable[bytes]] | None


def bounce_routes(mine: BounceServices) -> Blueprint:
    """Call this to get the route; a provider that has no key is unknown, and answered 404."""
    routes = Blueprint("mail_bounces", __name__)
    hooks: Mapping[str, Hook] = {hook.provider: hook for hook in mine.hooks}

    @routes.post(paths.MAIL_BOUNCE)
    async def report(provider: str) -> Response:
        hook, states = hooks.get(provider), mine.states
        if hook is None or states is None:
            raise NoSuchThing("no provider that reports here")
        given = await _read(mine, hook)
        # By the store, so that a report is taken once by all processes together. Noted behind what
        # it says: cut in between it is sent again, and says the same.
        once = Limit(f"mail-report:{provider}:{given.once.hex()}", 1, _ONCE)
        if isinstance(await mine.limiter.peek(once), Limited):
            return ok({"suppressed": 0})
        for address, why in given.addresses.items():
            reason = f"{why.value}, told by {provider}"
            await states.suppress(address_digest(address), reason)
        await mine.limiter.hit(once)
        if given.asks:
            # Who runs the site gives it back, once, or the provider will not report here. It is no
            # secret: it lets the topic that has signed it write to this address.
            log.warning("mail.report_wants_consent", provider=provider, confirm_by=given.asks)
        log.info("mail.report", provider=provider, suppressed=len(given.addresses))
        return ok({"suppressed": len(given.addresses)})

    return routes


async def _read(mine: BounceServices, hook: Hook) -> Report:
    body = await raw_body()
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        try:
            return hook.read(headers, body, mine.now())
        except NeedsCertificate as missing:
            await _learn(mine, hook, missing)
            return hook.read(headers, body, mine.now())
    except NotSigned as error:
        mine.refused.take(None, current_request_state().address)
        log.warning("mail.report_refused", provider=hook.provider, reason=str(error))
        raise unauthorized("This report is not signed by its provider.") from error
    except BadReport as error:
        raise bad_request(f"This report was not taken: {error}.") from error


async def _learn(mine: BounceServices, hook: Hook, missing: NeedsCertificate) -> None:
    assert mine.fetch is not None, "set where this provider is"
    mine.fetches.take(None, hook.provider)
    try:
        missing.learn(await mine.fetch(missing.url))
    except CertificateAway as error:
        log.warning("mail.certificate_away", provider=hook.provider, reason=str(error))
        raise unavailable("The provider's certificate could not be had.") from error


@dataclass(frozen=True, slots=True)
class HookKeys:
    """What the settings hold for each provider; None: it does not report here."""

    mailgun: Secret[str] | None
    sendgrid: str | None
    postmark: Secret[str] | None
    ses: str | None


def hooks_of(keys: HookKeys) -> Sequence[Hook]:
    """Call this for the providers that report here."""
    found: list[Hook] = []
    if keys.mailgun is not None:
        found.append(MailgunHook(keys.mailgun))
    if keys.sendgrid is not None:
        found.append(SendGridHook(keys.sendgrid))
    if keys.postmark is not None:
        found.append(PostmarkHook(keys.postmark))
    if keys.ses is not None:
        found.append(SesHook(keys.ses))
    return found


def quota_of_fetches(now: Callable[[], float]) -> Quota:
    """Call this for how many certificates of a provider are asked for in a minute."""
    return Quota(
        now,
        "certificates",
        per_session_max=FETCHES_MAX,
        per_address_max=FETCHES_MAX,
        period_s=REFUSED_PERIOD_S,
    )


def quota_of_refused(now: Callable[[], float]) -> Quota:
    """Call this for how many reports of an address may be refused, until it is heard no more."""
    return Quota(
        now,
        "refused-reports",
        per_session_max=REFUSED_PER_ADDRESS_MAX,
        per_address_max=REFUSED_PER_ADDRESS_MAX,
        period_s=REFUSED_PERIOD_S,
    )
