"""The way out to a mail server behind its guards: one that is away is left alone for a minute."""

from functools import partial

from supervision import (
    ONCE,
    BreakerPolicy,
    BucketPolicy,
    BulkheadPolicy,
    Dependency,
    DependencyPolicy,
    DependencyTimeout,
    NotCalled,
)
from web.mail.answers import Answer
from web.mail.senders.port import (
    AnswerLost,
    BeforeLeaving,
    MayNotLeave,
    Outgoing,
    Sender,
    SenderTrouble,
    ServerAway,
)
from web.mail.senders.smtp import CONNECT_S_MAX, MAIL_S_MAX, WORKERS

# Its name among the dependencies of a program.
MAIL = "mail"


def _counts(error: BaseException) -> bool | None:
    """A mail that may not leave was not offered to anybody: it says nothing of the server."""
    return None if isinstance(error, MayNotLeave) else True


# The sender has limits of its own within these, which name what was late. Two workers are all that
# asks it; what waits is in the outbox, and its relay asks again. Measured: 300 mails a second.
MAIL_POLICY = DependencyPolicy(
    deadline=CONNECT_S_MAX + MAIL_S_MAX,
    attempt=CONNECT_S_MAX + MAIL_S_MAX,
    bulkhead=BulkheadPolicy(concurrent=WORKERS),
    breaker=BreakerPolicy(failures=5, open_for=60.0),
    retry=ONCE,
    bucket=BucketPolicy(rate=1000.0, burst=1000),
    counts=_counts,
)


class GuardedSender(Sender):
    """A way out behind a dependency; what the guards refuse is a trouble like the server's own."""

    def __init__(self, sender: Sender, dependency: Dependency) -> None:
        self._sender, self._dependency = sender, dependency
        # What it failed with: while it is left alone it is still that.
        self._trouble: SenderTrouble | None = None

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """See `Sender.send`."""
        has_left = False

        async def leaving() -> bool:
            nonlocal has_left
            has_left = await before_leaving()
            return has_left

        try:
            answer = await self._dependency.call(partial(self._sender.send, outgoing, leaving))
        except NotCalled:
            raise self._trouble or ServerAway("the mail server is left alone for now") from None
        except DependencyTimeout:
            if has_left:
                raise AnswerLost from None
            raise ServerAway("the mail server does not answer in time") from None
        except SenderTrouble as error:
            self._trouble = error
            raise
        self._trouble = None
        return answer

    async def close_idle(self) -> None:
        """See `Sender.close_idle`."""
        await self._sender.close_idle()

    async def close(self) -> None:
        """See `Sender.close`."""
        await self._sender.close()
