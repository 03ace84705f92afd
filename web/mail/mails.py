"""How a mail is put into the outbox: what a feature calls, and the helpers for each kind of mail.

Rule: the same key is the same mail. It has one row, one `Message-ID`, whoever asks again.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid5

import msgspec

from actors.persistence import Outbox, OutboxMessage
from actors.persistence.beside_log.outbox import MAIL_KIND
from actors.persistence.words import FLEETING
from actors.runtime import current_context
from web.mail.sealing import SEALED, MailSeal
from web.mail.templates import (
    MAGIC_LINK,
    MAIL_TEST,
    ORDER,
    PASSWORD_RESET,
    RECOVERY,
    SECURITY_ALERT,
    SIGN_IN_ATTEMPT,
    TICKET,
    VERIFICATION,
    AlertKind,
    Context,
    MagicLink,
    MailTemplates,
    MailTest,
    Order,
    PasswordReset,
    RecoveryNotice,
    SecurityAlert,
    SignInAttempt,
    Template,
    Ticket,
    Verification,
)
from web.mail.words import (
    KEY_BYTES_MAX,
    PICTURES_MAX,
    BadMail,
    Mail,
    Picture,
    check_line,
    parse_address,
)

# The kind and the target of its messages in the outbox.
MAIL = MAIL_KIND
# What makes a message's id of a key; drawn once, for good.
KEYS = UUID("6c0f2cc1-5c80-4cf2-a5a3-fd0f2e9a6f58")

C = TypeVar("C", bound=Context)


def message_id_of(key: str) -> UUID:
    """Call this for the id of the mail that is sent by a key; raises `BadMail`."""
    if not 1 <= len(key.encode(errors="replace")) <= KEY_BYTES_MAX:
        raise BadMail("idempotency_key", f"must have 1 to {KEY_BYTES_MAX} bytes")
    check_line("idempotency_key", key)
    return uuid5(KEYS, key)


class Mails:
    """Mails into the outbox: `message` for an act's own transaction, `send` for one alone.

    Neither waits for a mail server. With a `seal` what signs in lies sealed there (SEC-83). Without
    an `outbox` mail is switched off: `message` gives nothing to be written, and `send` is False.
    """

    def __init__(
        self,
        outbox: Outbox | None,
        *,
        templates: MailTemplates | None = None,
        wake: Callable[[], None] = lambda: None,
        language: str = "en",
        seal: MailSeal | None = None,
    ) -> None:
        self._seal = seal
        self._outbox, self._wake, self._language = outbox, wake, language
        self._templates = templates or MailTemplates()

    @property
    def is_on(self) -> bool:
        """Call this to learn whether mail leaves this program at all."""
        return self._outbox is not None

    def messages(
        self,
        to: str,
        template: Template[C],
        context: C,
        idempotency_key: str,
        *,
        language: str | None = None,
        expires_at: datetime | None = None,
        unsubscribe: str = "",
        pictures: Sequence[Picture] = (),
    ) -> Sequence[OutboxMessage]:
        """Call this for what the act's own transaction writes: one message, none without mail.

        `expires_at`: not sent later than that. Raises `BadMail` for an address, a context or a
        key that cannot be, and has written nothing.
        """
        message_id, address = message_id_of(idempotency_key), parse_address(to)
        if unsubscribe and not unsubscribe.startswith("https://"):
            raise BadMail("unsubscribe", "must be an https:// address")
        check_line("unsubscribe", unsubscribe)
        if any(sign in unsubscribe for sign in "<> ,"):
            raise BadMail("unsubscribe", "must be one https:// address")
        if expires_at is not None and expires_at.tzinfo is None:
            raise BadMail("expires_at", "must be a time with its zone")
        if len(pictures) > PICTURES_MAX:
            raise BadMail("pictures", f"are {len(pictures)}, the limit is {PICTURES_MAX}")
        for picture in pictures:
            picture.check()
        said = self._templates.render(template, context, language or self._language)
        mail = Mail(
            address,
            template.name,
            said.language,
            said.subject,
            said.text,
            said.html,
            expires_at,
            template.is_asked_for,
            unsubscribe,
            tuple(pictures),
        )
        if self._outbox is None:
            return ()
        headers = {"template": template.name, **_trace()}
        if template.is_fleeting:
            headers[FLEETING] = "1"
        payload = msgspec.json.encode(mail)
        if template.is_fleeting and self._seal is not None:
            headers[SEALED] = self._seal.key_id
            payload = self._seal.seal(message_id, payload)
        # A key of its own each: no mail waits behind another.
        return (OutboxMessage(message_id, MAIL, MAIL, str(message_id), payload, headers),)

    async def send(
        self,
        to: str,
        template: Template[C],
        context: C,
        idempotency_key: str,
        *,
        language: str | None = None,
        expires_at: datetime | None = None,
        unsubscribe: str = "",
        pictures: Sequence[Picture] = (),
    ) -> bool:
        """Call this for a mail that goes with no other act; False when the key was used before.

        Raises as `messages`, and `StoreUnavailable` and its kin.
        """
        messages = self.messages(
            to,
            template,
            context,
            idempotency_key,
            language=language,
            expires_at=expires_at,
            unsubscribe=unsubscribe,
            pictures=pictures,
        )
        if self._outbox is None:
            return False
        is_new = await self._outbox.add(messages) == 1
        self.wake()
        return is_new

    def wake(self) -> None:
        """Call this behind the commit of what `messages` gave, so that they leave at once."""
        self._wake()

    # -- the kinds of mail -----------------------------------------------------------------------

    def magic_link(self, to: str, context: MagicLink, key: str) -> Sequence[OutboxMessage]:
        """Call this with the token's own transaction in hand; raises as `messages`."""
        return self.messages(to, MAGIC_LINK, context, key, expires_at=context.expires_at)

    def verification(self, to: str, context: Verification, key: str) -> Sequence[OutboxMessage]:
        """Call this with the token's own transaction in hand; raises as `messages`."""
        return self.messages(to, VERIFICATION, context, key, expires_at=context.expires_at)

    def password_reset(self, to: str, context: PasswordReset, key: str) -> Sequence[OutboxMessage]:
        """Call this with the token's own transaction in hand; raises as `messages`."""
        return self.messages(to, PASSWORD_RESET, context, key, expires_at=context.expires_at)

    def security_alert(self, to: str, context: SecurityAlert, key: str) -> Sequence[OutboxMessage]:
        """Call this with the change's own transaction in hand; raises as `messages`."""
        return self.messages(to, SECURITY_ALERT, context, key)

    def sign_in_attempt(self, to: str, context: SignInAttempt, key: str) -> Sequence[OutboxMessage]:
        """Call this with the attempt's own transaction in hand; raises as `messages`."""
        return self.messages(to, SIGN_IN_ATTEMPT, context, key, expires_at=context.expires_at)

    def recovery(self, to: str, context: RecoveryNotice, key: str) -> Sequence[OutboxMessage]:
        """Call this with the step's own transaction in hand; raises as `messages`."""
        return self.messages(to, RECOVERY, context, key)

    def address_changed(
        self,
        former: str,
        new: str,
        username: str,
        at: datetime,
        key: str,
        *,
        back: str = "",
        not_me: str = "",
    ) -> Sequence[OutboxMessage]:
        """Call this for the two mails of a changed address, to the former and to the new one.

        `back` is the link of the former that takes the account back, `not_me` that of the new one.
        """
        told = (
            (former, AlertKind.ADDRESS_CHANGED, back),
            (new, AlertKind.ADDRESS_TAKEN, not_me),
        )
        return [
            message
            for to, kind, link in told
            for message in self.security_alert(
                to, SecurityAlert(username, kind, at, not_me=link), f"{key}:{kind}"
            )
        ]

    def order(self, to: str, context: Order, key: str) -> Sequence[OutboxMessage]:
        """Call this with the order's own transaction in hand; raises as `messages`."""
        return self.messages(to, ORDER, context, key)

    def ticket(
        self, to: str, context: Ticket, key: str, pictures: Sequence[Picture] = ()
    ) -> Sequence[OutboxMessage]:
        """Call this with the ticket's own transaction in hand; raises as `messages`."""
        return self.messages(to, TICKET, context, key, pictures=pictures)

    def test(self, to: str, context: MailTest, key: str) -> Sequence[OutboxMessage]:
        """Call this to see whether mail arrives; raises as `messages`."""
        return self.messages(to, MAIL_TEST, context, key)


def _trace() -> dict[str, str]:
    """What the sending of a mail is found by, where it stands below what has asked for it."""
    context = current_context()
    if context is None:
        return {}
    found = {"correlation_id": context.correlation_id}
    # Without one nothing is recorded of it; it is found by its id all the same.
    return found if context.traceparent is None else {**found, "traceparent": context.traceparent}
