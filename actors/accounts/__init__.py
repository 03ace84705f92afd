"""Accounts: who is behind a browser session, and what they may do.

Read `words.py`, then `session.py`: the actor of one browser session and its tabs.
"""

from actors.accounts.session import (
    BindTab,
    ClaimCommand,
    PostAnswer,
    PostInRoom,
    PostInTab,
    RoomOfTab,
    SessionActor,
    StreamClosed,
    StreamOpened,
)
from actors.accounts.words import Pane, RoomFailed, SessionId, TabId, TabUnbound

__all__ = [
    "BindTab",
    "ClaimCommand",
    "Pane",
    "PostAnswer",
    "PostInRoom",
    "PostInTab",
    "RoomFailed",
    "RoomOfTab",
    "SessionActor",
    "SessionId",
    "StreamClosed",
    "StreamOpened",
    "TabId",
    "TabUnbound",
]
