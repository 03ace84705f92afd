"""The mail of this process: from settings to a way out, and the relay that two mails leave by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from actors.persistence import DeadLetters, MailStates, Outbox
from actors.persistence.beside_log.outbox import Send
from actors.reducers import Environment
from supervision import Dependencies
from web.mail.delivering import MailDelivery, MailRelay
from web.mail.mails import Mails
from web.mail.sealing import MailSeal
from web.mail.senders.console import ConsoleSender
from web.mail.senders.file import FileSender
from web.mail.senders.guarded import MAIL, GuardedSender
from web.mail.senders.memory import MemorySender
from web.mail.senders.port import Sender
from web.mail.senders.smtp import SmtpSender, SmtpSettings
from web.mail.words import MailAddress
from web.observability.health import Component
from web.observability.health.of_mail import mail_component
from web.settings import MailSender, Settings
from web.wiring.environment import SystemClock, SystemIds

# Where `MAIL_SENDER=file` writes without a MAIL_FOLDER: in the state folder.
MAIL_FOLDER = "mail"
# Whom a mail comes from that no server sees.
DESK_ADDRESS = MailAddress("greenroom@localhost.test", "Greenroom")


def maybe_sender(
    settings: Settings, outside: Dependencies, *, console: Callable[[], Sender] = ConsoleSender
) -> Sender | None:
    """Call this for the way out that the settings name; None when mail is switched off.

    A mail server is called through its dependency, which `outside` has declared; `console` makes
    what prints them where that is the way.
    """
    match settings.mail_by:
        case MailSender.OFF:
            return None
        case MailSender.CONSOLE:
            return console()
        case MailSender.FILE:
            return FileSender(settings.mail_folder or settings.state_dir / MAIL_FOLDER)
        case MailSender.MEMORY:
            return MemorySender()
        case MailSender.SMTP:
            return GuardedSender(SmtpSender(smtp_settings(settings)), outside.dependency(MAIL))


def smtp_settings(settings: Settings) -> SmtpSettings:
    """Call this with settings that name a mail server and a sender, as they must."""
    if settings.smtp_host is None or settings.mail_from is None:
        raise ValueError("SMTP_HOST and MAIL_FROM are required; settings that were read have both")
    return SmtpSettings(
        settings.smtp_host,
        settings.smtp_port_or_usual,
        settings.smtp_security,
        settings.mail_from,
        settings.smtp_user or "",
        settings.smtp_password,
        settings.smtp_ca_file,
    )


class SiteMail:
    """What of a program is about mail: `mails` for features, `make` for the tree.

    Without a sender `mails` is off, nothing is written, and there is no relay. `sender` is for
    tests, which read from it what was sent.
    """

    def __init__(
        self,
        sender: Sender | None,
        address: MailAddress,
        outbox: Outbox,
        states: MailStates,
        letters: DeadLetters,
        wake: Callable[[], None],
        seal: MailSeal | None = None,
        sending: Callable[[Send], Send] = lambda send: send,
    ) -> None:
        env = Environment(SystemClock(), SystemIds())
        self.sender = sender
        self.mails = Mails(None if sender is None else outbox, wake=wake, seal=seal)
        self.states = states
        self.make: partial[MailRelay] | None = None
        self.components: Sequence[Component] = ()
        if sender is not None:
            delivery = MailDelivery(sender, address, states, env, seal)
            self.make = partial(MailRelay, outbox, delivery, env, letters, sending=sending)
            self.components = [mail_component(lambda: _words(delivery), lambda: _counts(delivery))]


def _words(delivery: MailDelivery) -> str:
    return "" if delivery.trouble is None else str(delivery.trouble)


def _counts(delivery: MailDelivery) -> Mapping[str, int]:
    counts: dict[str, int] = asdict(delivery.statistics)
    return counts
