"""Where a sign-in comes from, and what is done with its risk (AUTH-24, AUTH-30, AUTH-33).

Rule 1: a judgement is made in the transaction of the sign-in, on the thread of the store: what is
        here in `judge` waits for nothing and keeps nothing.
Rule 2: who signs in is told what to do next, never by which signal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Address, ip_address, ip_network
from uuid import UUID

from quart import has_request_context, request

from actors.accounts.kept.devices.fingerprint import Fingerprint, can_tell
from actors.accounts.kept.risk.assessing import RiskCalculator, WeighedRisk
from actors.accounts.kept.risk.deciding import assessed, outcome_of
from actors.accounts.kept.risk.words import (
    ALLOWED_FOR,
    Arrival,
    Judgement,
    LoginHistory,
    Outcome,
    Proven,
    RiskMode,
)
from actors.persistence import OutboxMessage
from web.accounts.entering import AccountServices
from web.accounts.own.mending.disavowing import not_me_link
from web.accounts.ways.risk.allowing import allow_link
from web.accounts.ways.risk.places_file import Breached, Places
from web.mail.templates import AlertKind, SecurityAlert, SignInAttempt
from web.mail.words import BadMail
from web.server import RequestState, cookie_name, read_cookies, set_cookie
from web.server.edge.visitor import VisitorSigner

# SEC, cookies: a device is known for as long as it comes back within a year.
DEVICE_KEPT_S = 365 * 24 * 3600
# The network of an address: what a provider gives to one place, as a rule.
NETWORK_BITS = {4: 24, 6: 48}


class DeviceCookie:
    """The cookie that tells a device, signed; in either mode."""

    def __init__(self, signer: VisitorSigner, *, is_https: bool) -> None:
        self._signer, self._is_https = signer, is_https
        self._name = cookie_name("device", is_https=is_https)

    def set(self, device: UUID) -> tuple[bytes, bytes]:
        """Call this for the header that makes a browser a device."""
        value = self._signer.value(device)
        return set_cookie(self._name, value, is_https=self._is_https, max_age_s=DEVICE_KEPT_S)

    def brought(self) -> UUID | None:
        """Call this for the device that the present request comes from; None for none of ours."""
        if not has_request_context():
            return None
        value = read_cookies(request.scope["headers"]).get(self._name, "")
        return self._signer.maybe_visitor_id(value)


@dataclass(frozen=True, slots=True)
class RiskDesk:
    """What the services of accounts ask about risk; see `web.accounts.entering.Arrivals`."""

    cookie: DeviceCookie
    # A keyed digest of 32 bytes.
    digest: Callable[[bytes], bytes]
    mode: RiskMode = RiskMode.ENFORCE
    calculator: RiskCalculator = field(default_factory=WeighedRisk)
    places: Places = field(default_factory=Places)
    breached: Breached = field(default_factory=Breached)
    # The like for what devices show of themselves; None where that is not collected.
    digest_shown: Callable[[bytes], bytes] | None = None

    @property
    def takes_shown(self) -> bool:
        """See `Arrivals.takes_shown`."""
        return self.digest_shown is not None

    def arrival(
        self,
        services: AccountServices,
        state: RequestState,
        reference: UUID,
        method: str,
        browser: str,
        *,
        keeps_cookies: bool,
    ) -> Arrival:
        """See `Arrivals.arrival`. A browser that is no device yet is named by its sign-in."""
        device = self.cookie.brought() or (reference if keeps_cookies else None)
        network = network_of(state.address)
        return Arrival(
            reference,
            None if device is None else digest_of(device),
            method,
            browser,
            None if network is None else self.digest(network),
            self.places.of(state.address),
            None if self.mode is RiskMode.OFF else partial(self._judge, services),
            self._fingerprint(state),
        )

    def remember(self, state: RequestState, arrival: Arrival) -> None:
        """See `Arrivals.remember`."""
        device = self.cookie.brought() or arrival.reference
        if arrival.device == digest_of(device):
            state.set_cookies.append(self.cookie.set(device))

    def _fingerprint(self, state: RequestState) -> Fingerprint | None:
        digest, shown = self.digest_shown, state.shown
        if digest is None or shown is None or not can_tell(shown):
            return None
        return {name: digest(part) for name, part in shown.items()}

    def _judge(
        self, services: AccountServices, arrival: Arrival, history: LoginHistory, proven: Proven
    ) -> Judgement:
        is_breached = self.breached.has(history.email)
        assessment = assessed(self.calculator, arrival, history, is_breached=is_breached)
        decide = partial(outcome_of, assessment.required, history, proven)
        outcome = decide(has_mail=services.mails.is_on)
        if self.mode is RiskMode.OBSERVE:
            return Judgement(Outcome.ENTERED, assessment, outcome)
        try:
            told = _mails(services, arrival, history, outcome)
        except BadMail:  # an address that no mail can go to
            outcome, told = decide(has_mail=False), ()
        return Judgement(outcome, assessment, None, told)


def digest_of(device: UUID) -> bytes:
    """Call this for what the store knows a device by."""
    return sha256(f"device:{device}".encode()).digest()


def network_of(address: str) -> bytes | None:
    """Call this for the network an address is of: IPv4 /24, IPv6 /48; None for no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if not isinstance(parsed, IPv4Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    network = ip_network((parsed, NETWORK_BITS[parsed.version]), strict=False)
    return network.network_address.packed


def _mails(
    services: AccountServices, arrival: Arrival, history: LoginHistory, outcome: Outcome
) -> Sequence[OutboxMessage]:
    mails, user_id, now = services.mails, history.user_id, history.now
    if outcome in (Outcome.ENTERED, Outcome.ASKED_PASSKEY):
        return ()
    not_me = not_me_link(services, user_id, history.email, now)
    if outcome is Outcome.LIMITED:
        kind = AlertKind.NEW_DEVICE if history.device is None else AlertKind.UNUSUAL_SIGN_IN
        context = SecurityAlert(history.username, kind, now, arrival.browser, not_me)
        return mails.security_alert(history.email, context, f"{kind}:{arrival.reference}")
    link = allow_link(services, user_id, history.email, arrival, now)
    if not link:
        return ()
    attempt = SignInAttempt(history.username, link, now + ALLOWED_FOR, now, arrival.browser, not_me)
    return mails.sign_in_attempt(history.email, attempt, f"attempt:{arrival.reference}")
