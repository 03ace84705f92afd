"""The rules of chat as pure functions: what may be posted, who sees it, how it is named.

No clock, no store, no actor: `room.py` carries these decisions out.
"""

import re
from uuid import UUID

from actors.chat.guests import guest_name
from actors.chat.words import (
    ROOM_NAMES,
    Author,
    AuthorId,
    Message,
    PostLimit,
    RoomName,
    Status,
    Viewer,
)
from actors.runtime.words.showing import HIDDEN, redact_names

BODY_LENGTH_MAX = 1000
CLIENT_ID_LENGTH_MAX = 128

# Longer texts are where spam lives; a short line passes unread.
LENGTH_BEFORE_REVIEW = 300
# Why a message waits that no person has looked at.
AUTO = "auto"

# A person types no faster; a script does.
POSTS_PER_AUTHOR_MAX = 5
# A class room behind one address may still post as guests.
POSTS_PER_ADDRESS_MAX = 20
LIMIT_PERIOD_S = 10.0

# A person reads each of them, and the queue's page shows fifty, oldest first: one author does not
# fill it, and who has ten unread hears sooner that somebody has to read them than with the next.
WAITING_PER_AUTHOR_MAX = 10
# Of those not signed in, who are somebody new without their cookie: a page of the queue in an hour.
WAITING_PER_ADDRESS_MAX = 50
WAITING_PERIOD_S = 3600.0

# Fields of messages and of actors that hold the words of visitors.
_WORDS = frozenset({"body", "message", "messages", "_messages", "_newest"})


class BadPost(ValueError):
    """Raised when a post breaks a rule of its fields; nothing was stored.

    `field` names the field and `problem` says what to change, in words a visitor can read.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def parse_body(text: str) -> str:
    """Call this to trim and check a message body; raises `BadPost`."""
    body = text.replace("\r\n", "\n").strip()
    if _BLANK.fullmatch(body):
        raise BadPost("body", "write something first; an empty message is not sent")
    if len(body) > BODY_LENGTH_MAX:
        raise BadPost("body", f"at most {BODY_LENGTH_MAX} characters; this has {len(body)}")
    if has_controls(body.replace("\n", "")):
        raise BadPost("body", "only new lines may stand between characters, no control characters")
    return body


# Control characters, the separators of lines and paragraphs that are none to most readers, and
# lone surrogates, which no encoder can send on.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# What draws nothing: white space, the code points of Unicode's Default_Ignorable_Code_Point
# (DerivedCoreProperties.txt), the annotation marks and the blank of braille. A text of nothing
# else would be an empty bubble; beside letters they stay: emoji and Arabic need some of them.
_BLANK = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)


def has_controls(text: str) -> bool:
    """Call this to learn whether a text has control characters, line separators among them."""
    return _CONTROLS.search(text) is not None


def parse_client_id(text: str) -> str:
    """Call this to trim and check the id a client gives its own post; raises `BadPost`."""
    client_id = text.strip()
    if not 1 <= len(client_id) <= CLIENT_ID_LENGTH_MAX:
        raise BadPost("clientId", f"must have 1 to {CLIENT_ID_LENGTH_MAX} characters")
    if has_controls(client_id):
        raise BadPost("clientId", "must not have control characters")
    return client_id


def parse_room(text: str) -> RoomName | None:
    """Call this to find a room of the closed set by its exact name; None when there is none."""
    return next((name for name in ROOM_NAMES if name == text), None)


def classify(body: str) -> tuple[Status, str | None]:
    """Call this to learn whether a body is shown at once or waits, and the reason if it waits."""
    lowered = body.lower()
    if len(body) > LENGTH_BEFORE_REVIEW or "http://" in lowered or "https://" in lowered:
        return Status.PENDING, AUTO
    return Status.VISIBLE, None


def limits_for(
    author: Author,
    address: str | None,
    *,
    per_author: int = POSTS_PER_AUTHOR_MAX,
    per_address: int = POSTS_PER_ADDRESS_MAX,
    period_s: float = LIMIT_PERIOD_S,
    waiting_per_address: int | None = None,
) -> tuple[PostLimit, ...]:
    """Call this to get the limits of a post: per author, and per address when not signed in.

    `waiting_per_address` is for one that is to wait for review.
    """
    own = PostLimit(author.key, per_author, period_s)
    if author.session_id is None or address is None:
        return (own,)
    limits = (own, PostLimit(f"address:{address}", per_address, period_s))
    if waiting_per_address is None:
        return limits
    waiting = PostLimit(f"waiting:{address}", waiting_per_address, WAITING_PERIOD_S)
    return (*limits, waiting)


def may_see(message: Message, viewer: Viewer) -> bool:
    """Call this to decide whether a viewer is shown a message."""
    match message.status:
        case Status.VISIBLE:
            return True
        case Status.REMOVED:
            return viewer.tells_authors or is_own(message, viewer)
        case Status.PENDING:
            return viewer.is_moderator or is_own(message, viewer)


def is_own(message: Message, viewer: Viewer) -> bool:
    """Call this to decide whether a viewer wrote a message, signed in or as a session."""
    if message.author_session is not None:
        return message.author_session == viewer.session_id
    return message.user_id is not None and message.user_id == viewer.user_id


def author_id(message: Message) -> AuthorId | None:
    """Call this for whom a message is their own: `is_own` by a look into a set."""
    return message.user_id if message.author_session is None else message.author_session


def author_name(message: Message) -> str:
    """Call this to name the author for readers: user, guest, or a short form of the unknown."""
    if message.author_name is not None:
        return message.author_name
    if message.user_id is None and message.author_session is not None:
        return guest_name(message.author_session)
    return f"user-{(message.user_id or UUID(int=0)).hex[-8:]}"


def hide_words(state: dict[str, object]) -> dict[str, object]:
    """Call this in `Actor.redact`: hides what visitors wrote, and secrets by name (SEC-131)."""
    return {
        name: HIDDEN if name in _WORDS else value for name, value in redact_names(state).items()
    }
