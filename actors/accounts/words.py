"""The nouns of a visitor's session: its tabs, who may act in it, and the answers it gives."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType
from uuid import UUID

# Who uses one browser, by its cookie; signed in or not.
SessionId = NewType("SessionId", str)
TabId = NewType("TabId", str)


class Method(StrEnum):
    """By what somebody shows who they are; the value stands in the audit (AUTH-41)."""

    PASSWORD = "password"  # noqa: S105 - a word
    MAGIC_LINK = "magic_link"
    # Of all providers; the audit has the provider's own, `oauth_google`.
    OAUTH = "oauth"
    PASSKEY = "passkey"
    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"


class Pane(StrEnum):
    """Which composer a post comes from: the visitor's own, or the demo user's."""

    YOU = "you"
    DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Poster:
    """The member in whose name something is posted; as whoever asks for it has found out."""

    user_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class TabUnbound:
    """The tab is not bound to a room: it was never rendered here, or long ago. Reload the page."""


@dataclass(frozen=True, slots=True)
class RoomFailed:
    """The room crashed on the post or gave no answer in time; post again with the same id."""

    reason: str
