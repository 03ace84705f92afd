"""Accounts: who is behind a browser session, and what they may do.

Read `words.py`, then `session.py`: the actor of one browser session and its tabs. `ports.py` is
what the store knows of sessions (ends, tickets), `ending.py` how a process hears that one is over.
"""

from actors.accounts.ending import LOOK_S, SessionEndWatch
from actors.accounts.ports import (
    ENDS_KEPT,
    TICKET_KEPT,
    HowEnded,
    SessionEnded,
    SessionEnds,
    SocketTickets,
)
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
    "ENDS_KEPT",
    "LOOK_S",
    "TICKET_KEPT",
    "BindTab",
    "ClaimCommand",
    "HowEnded",
    "Pane",
    "PostAnswer",
    "PostInRoom",
    "PostInTab",
    "RoomFailed",
    "RoomOfTab",
    "SessionActor",
    "SessionEndWatch",
    "SessionEnded",
    "SessionEnds",
    "SessionId",
    "SocketTickets",
    "StreamClosed",
    "StreamOpened",
    "TabId",
    "TabUnbound",
]
