"""Accounts: who is behind a browser session, and what they may do.

Read `words.py`, then `session.py`: the actor of one browser session and its tabs. `members.py` are
people with an account and their sign-ins, `policy.py` the rules of what they type, `throttle.py`
how often they may try, `sweeping.py` the end of a sign-in by its age, `holdings.py` what is kept of
an account, for its member. `ports.py` is what the store knows of sessions (ends, tickets),
`ending.py` how a process hears that one is over.
"""

from actors.accounts.ending import LOOK_S, SessionEndWatch
from actors.accounts.holdings import (
    HELD_PAGE,
    Held,
    HeldAccount,
    HeldPage,
    HeldPart,
    Holdings,
)
from actors.accounts.members import (
    DELETED_NAME,
    SIGN_IN_IDLE,
    SIGN_IN_KEPT,
    SIGN_INS_PER_USER_MAX,
    Accounts,
    Credentials,
    Member,
    NewAccount,
    NewPassword,
    NewSignIn,
    Role,
    SignIn,
    Swept,
    Taken,
)
from actors.accounts.policy import (
    BadField,
    browser_family,
    check_password,
    mask_email,
    parse_email,
    parse_username,
    safe_next,
)
from actors.accounts.ports import (
    ASKED_MAX,
    ENDS_KEPT,
    TICKET_KEPT,
    HowEnded,
    SessionEnded,
    SessionEnds,
    SocketTickets,
)
from actors.accounts.session import (
    BindTab,
    PostAnswer,
    PostInRoom,
    PostInTab,
    RoomOfTab,
    SessionActor,
    StreamClosed,
    StreamOpened,
)
from actors.accounts.sweeping import SignInSweeper
from actors.accounts.throttle import (
    Attempts,
    Limit,
    export_limit,
    login_limits,
    register_limits,
    wait_s,
)
from actors.accounts.words import Pane, Poster, RoomFailed, SessionId, TabId, TabUnbound

__all__ = [
    "ASKED_MAX",
    "DELETED_NAME",
    "ENDS_KEPT",
    "HELD_PAGE",
    "LOOK_S",
    "SIGN_INS_PER_USER_MAX",
    "SIGN_IN_IDLE",
    "SIGN_IN_KEPT",
    "TICKET_KEPT",
    "Accounts",
    "Attempts",
    "BadField",
    "BindTab",
    "Credentials",
    "Held",
    "HeldAccount",
    "HeldPage",
    "HeldPart",
    "Holdings",
    "HowEnded",
    "Limit",
    "Member",
    "NewAccount",
    "NewPassword",
    "NewSignIn",
    "Pane",
    "PostAnswer",
    "PostInRoom",
    "PostInTab",
    "Poster",
    "Role",
    "RoomFailed",
    "RoomOfTab",
    "SessionActor",
    "SessionEndWatch",
    "SessionEnded",
    "SessionEnds",
    "SessionId",
    "SignIn",
    "SignInSweeper",
    "SocketTickets",
    "StreamClosed",
    "StreamOpened",
    "Swept",
    "TabId",
    "TabUnbound",
    "Taken",
    "browser_family",
    "check_password",
    "export_limit",
    "login_limits",
    "mask_email",
    "parse_email",
    "parse_username",
    "register_limits",
    "safe_next",
    "wait_s",
]
