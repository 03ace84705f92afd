"""The actor of one flow of a link: one a mailbox that is sent to, one a token that is redeemed.

Rule: an actor has one id, and answers for what has this id alone, so that of two hundred people who
sign in at once nobody is given another's answer (SEC-23).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.throttle import Limited, RateLimiter
from actors.accounts.members import NewSignIn
from actors.accounts.ways.links import (
    LINK_KEPT,
    Entered,
    LinkClaim,
    Newcomer,
    NewLink,
    SignInLinks,
    code_digest,
    digest_of,
    mailbox_limit,
    mailbox_of,
)
from actors.persistence import OutboxMessage
from actors.persistence.errors import StoreError
from actors.runtime import Actor, Ask, Log, Secret, message

log = Log("actors.accounts")


@message
class SendLink:
    """Somebody asks for a link to an address; `flow` and `code` tie it to their browser.

    `before` is what stands before the token in the link.
    """

    email: str = field(repr=False)
    before: str = field(repr=False)
    flow: bytes | None = field(default=None, repr=False)
    code: Secret[str] | None = None


@dataclass(frozen=True, slots=True)
class NotKnown:
    """The store did not say whether a link is good; it is as it was, or used."""

    code: str


@message
class RedeemLink(Ask[Entered | NotKnown | None]):
    """Somebody opens a link; None for no good one."""

    claim: LinkClaim
    newcomer: Newcomer
    sign_in: NewSignIn
    origin: Origin


Messages = SendLink | RedeemLink


@dataclass(frozen=True, slots=True)
class LinkEnvironment:
    """What a flow needs: the port, the limits, tokens, and how a mail is written and let go.

    `mail` is given the address, the whole link, when it is over, and a key of its own.
    """

    links: SignInLinks
    limiter: RateLimiter
    now: Callable[[], datetime]
    new_token: Callable[[], str]
    mail: Callable[[str, str, datetime, str], Sequence[OutboxMessage]]
    wake_mail: Callable[[], None]


class LinkFlow(Actor[Messages]):
    """Issues links to one mailbox, or redeems one token."""

    def __init__(self, flow_id: str, env: LinkEnvironment) -> None:
        self.flow_id, self._env = flow_id, env

    async def on_send_link(self, message: SendLink) -> None:
        """Keep a link and queue its mail; nobody waits for it, and nobody is told what became."""
        env, mailbox = self._env, mailbox_of(message.email)
        try:
            match await env.limiter.hit(mailbox_limit(mailbox)):
                case Limited():
                    log.info("accounts.link_send", outcome="refused", reason="too_many")
                    return
            token = env.new_token()
            link = NewLink(
                digest_of(token),
                mailbox,
                message.email,
                message.flow,
                None if message.code is None else code_digest(token, message.code.reveal()),
            )
            # A mail can be told from all others by its link, and by nothing else.
            key = f"link:{link.digest.hex()}"
            over_at = env.now() + LINK_KEPT
            await env.links.issue(
                link, env.mail(message.email, message.before + token, over_at, key)
            )
        except StoreError as error:
            log.warning("accounts.link_send", outcome="failed", reason=error.code)
            return
        env.wake_mail()
        log.info("accounts.link_send", outcome="accepted")

    async def on_redeem_link(self, message: RedeemLink) -> Entered | NotKnown | None:
        """Use a link up."""
        try:
            return await self._env.links.redeem(
                message.claim, message.newcomer, message.sign_in, message.origin
            )
        except StoreError as error:
            return NotKnown(error.code)
