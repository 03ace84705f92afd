"""What a mail server's answer means: by its code and by what was asked, never by its words.

Pure. A library tells refusals for now and refusals for good by one class; here the code decides.
Of an answer only the codes are kept: the words may hold the address, or a link that signs in.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

# MAIL-5: a server that greylists lets pass after some minutes; one that is being mended, within a
# day. Then somebody looks.
RETRIES = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=12),
)

_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)")
# Of a recipient that is refused for good, what says that the address is nobody's. Others, such as
# 552 for a mailbox that is full or 550 5.7.1 for a policy, speak of this mail or of us.
_NOBODY = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_NOBODY_PLAIN = frozenset({550, 551, 553})


class Asked(StrEnum):
    """What a server was asked when it answered."""

    SENDER = "MAIL FROM"
    RECIPIENT = "RCPT TO"
    DATA = "DATA"
    BODY = "the end of the data"


class Verdict(StrEnum):
    """What became of a mail for its recipient."""

    SENT = "sent"
    DEFERRED = "deferred"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one question: the verdict, and codes for who looks."""

    verdict: Verdict
    reason: str
    # The address itself takes no mail.
    is_nobody: bool = False


def judge(asked: Asked, code: int, text: bytes = b"") -> Answer:
    """Call this with an answer's code and words."""
    enhanced = enhanced_of(text)
    reason = f"{code} {enhanced}".strip() + f" at {asked}"
    if 200 <= code < 300:
        return Answer(Verdict.SENT, reason)
    if 500 <= code < 600:
        is_nobody = asked is Asked.RECIPIENT and (
            enhanced in _NOBODY if enhanced else code in _NOBODY_PLAIN
        )
        return Answer(Verdict.REFUSED, reason, is_nobody)
    # 4xx, and what no server should say: it may be another tomorrow.
    return Answer(Verdict.DEFERRED, reason)


def enhanced_of(text: bytes) -> str:
    """Call this for the code of three numbers at the head of an answer's words (RFC 3463)."""
    found = _ENHANCED.match(text[:20].decode("ascii", "replace"))
    return found.group() if found else ""


def retry_in(attempts: int) -> timedelta | None:
    """Call this with how many attempts have failed; None when there is none left."""
    return RETRIES[attempts - 1] if 1 <= attempts <= len(RETRIES) else None
