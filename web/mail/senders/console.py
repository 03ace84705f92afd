"""Prints mails on the terminal of whoever works on the site: never where logs are kept."""

import sys
from collections.abc import Callable

from web.mail.answers import Answer, Verdict
from web.mail.senders.port import BeforeLeaving, MayNotLeave, Outgoing
from web.mail.words import Mail

WIDTH = 72


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class ConsoleSender:
    """A box a mail, with its text as it is: a link stands whole on its line, and can be clicked."""

    def __init__(self, say: Callable[[str], None] = _say) -> None:
        self._say = say

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """See `Sender.send`."""
        if not await before_leaving():
            raise MayNotLeave
        try:
            self._say(boxed(outgoing.mail))
        except (OSError, ValueError):
            pass  # nobody reads it any more
        return Answer(Verdict.SENT, "printed")

    async def close_idle(self) -> None:
        """See `Sender.close_idle`: nothing is kept open."""

    async def close(self) -> None:
        """See `Sender.close`."""


def boxed(mail: Mail) -> str:
    """Call this for a mail as it is printed; what could steer a terminal is taken out."""
    lines = [f"To: {mail.to}", f"Subject: {mail.subject}", "", *mail.text.splitlines()]
    # Not wrapped, and no side to the right: a link that is cut is none.
    body = "\n".join(f"│ {printable(line)}".rstrip() for line in lines)
    return f"┌{'─' * WIDTH}\n{body}\n└{'─' * WIDTH}\n"


def printable(line: str) -> str:
    """Call this for a line without signs that a terminal obeys."""
    return "".join(sign if sign.isprintable() else "�" for sign in line)
