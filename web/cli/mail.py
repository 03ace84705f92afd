"""`greenroom mail`: see whether mail arrives, what became of it, and let an address have it again.

A test goes by the way out of the settings at once, beside the outbox: what is wrong with a server
is told in a second, and not after five tries.
"""

import argparse
from collections.abc import Mapping
from uuid import uuid4

import trio

from storage.postgres import Database, PostgresMailStates
from web.cli.answering import Teller
from web.cli.opening import changing, open_store
from web.mail.answers import Answer, Verdict
from web.mail.message import bytes_of, needs_utf8
from web.mail.senders.console import ConsoleSender
from web.mail.senders.port import AnswerLost, Outgoing, Sender, SenderTrouble
from web.mail.templates import MAIL_TEST, MailTemplates, MailTest
from web.mail.words import BadMail, Mail, address_digest, parse_address
from web.observability import Code, CommandFailed, complain
from web.settings import Settings, read_settings
from web.wiring.environment import SystemClock
from web.wiring.frame.mailing import DESK_ADDRESS, maybe_sender
from web.wiring.frame.outside import outside_of

# A person waits; what a server needs for one mail and a half.
TEST_S_MAX = 60.0
# Of a digest as many signs as tell a few thousand apart.
DIGEST_SHOWN = 12


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    if parsed.action == "test":
        return await _test(parsed.address, read_settings(environment), teller)
    async with open_store(environment) as database:
        if parsed.action == "list":
            return await _list(parsed.limit, database, teller)
        return await _allow(parsed, database, teller)


async def _test(typed: str, settings: Settings, teller: Teller) -> int:
    address = _address(typed)
    # Of what is printed only the answer is one.
    sender = maybe_sender(settings, outside_of(settings), console=lambda: ConsoleSender(complain))
    if sender is None:
        raise CommandFailed(
            Code.REFUSED, "mail is switched off; nothing was sent", "Set SMTP_HOST and MAIL_FROM"
        )
    try:
        with trio.fail_after(TEST_S_MAX):
            answer = await _send(address, settings, sender)
    except SenderTrouble as error:
        raise CommandFailed(Code.UNREACHABLE, str(error)) from error
    except (AnswerLost, trio.TooSlowError) as error:
        raise CommandFailed(
            Code.FAILED, "the mail has left and no answer came", "Look whether it arrived"
        ) from error
    finally:
        await sender.close()
    teller.one({"verdict": answer.verdict.value, "reason": answer.reason})
    return Code.DONE if answer.verdict is Verdict.SENT else Code.REFUSED


async def _send(address: str, settings: Settings, sender: Sender) -> Answer:
    now, message_id = SystemClock().now(), uuid4()
    origin = settings.public_origin or f"http://{settings.host}:{settings.port}"
    said = MailTemplates().render(MAIL_TEST, MailTest(origin, now))
    mail = Mail(address, MAIL_TEST.name, said.language, said.subject, said.text, said.html)
    by = settings.mail_from or DESK_ADDRESS
    data = bytes_of(mail, message_id, by, now)

    async def may() -> bool:
        return True

    return await sender.send(Outgoing(message_id, mail, data, needs_utf8(mail, by)), may)


async def _list(limit: int, database: Database, teller: Teller) -> int:
    rows = [
        {
            "changed_at": known.changed_at,
            "recipient": known.mail.recipient.hex()[:DIGEST_SHOWN],
            "template": known.mail.template,
            "state": known.state.value,
            "reason": known.reason,
        }
        for known in await PostgresMailStates(database).newest(limit)
    ]
    teller.rows(rows, "No mail was sent yet.")
    return Code.DONE


async def _allow(parsed: argparse.Namespace, database: Database, teller: Teller) -> int:
    digest = address_digest(_address(parsed.address))
    states = PostgresMailStates(database)
    held = await states.maybe_suppression(digest)
    if held is None:
        raise CommandFailed(Code.UNKNOWN, "no mail is held back from this address")
    shown = digest.hex()[:DIGEST_SHOWN]
    async with changing(parsed, teller, database, "send mail to this address again", shown):
        await states.lift(digest)
    teller.one({"recipient": shown, "was_held_for": held.reason})
    return Code.DONE


def _address(typed: str) -> str:
    try:
        return parse_address(typed)
    except BadMail as error:
        raise CommandFailed(Code.USAGE, f"the address {error.problem}") from error
