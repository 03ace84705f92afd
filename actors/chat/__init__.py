"""Chat: rooms, what may be posted in them, and who sees what.

Read `words.py` (the nouns), `policy.py` (the rules, pure), `ports.py` (what storage must
do), then `room.py` (the actor that carries the rules out). Pages and sockets live in `web`.
"""

from actors.chat.guests import guest_name
from actors.chat.policy import BadPost, author_name, is_own, may_see, parse_room
from actors.chat.ports import ChatLog, ChatLogUnavailable, UnknownRoom
from actors.chat.redaction import hide_words
from actors.chat.room import (
    ChatEnvironment,
    CrashedOnPurpose,
    CrashRoom,
    MessagePosted,
    MessageWithdrawn,
    NotStored,
    Post,
    ReadHistory,
    RoomActor,
    RoomEvent,
    RoomResumed,
    topic_of,
)
from actors.chat.rooms import RoomRef, Rooms
from actors.chat.words import (
    DEMO_DISPLAY_NAME,
    DEMO_EMAIL,
    DEMO_USER_ID,
    DEMO_USERNAME,
    LOBBY,
    ROOM_NAMES,
    Author,
    Draft,
    History,
    Message,
    Posted,
    PostLimit,
    PostOutcome,
    Repeated,
    Room,
    RoomName,
    Status,
    TooManyPosts,
    Viewer,
)

__all__ = [
    "DEMO_DISPLAY_NAME",
    "DEMO_EMAIL",
    "DEMO_USERNAME",
    "DEMO_USER_ID",
    "LOBBY",
    "ROOM_NAMES",
    "Author",
    "BadPost",
    "ChatEnvironment",
    "ChatLog",
    "ChatLogUnavailable",
    "CrashRoom",
    "CrashedOnPurpose",
    "Draft",
    "History",
    "Message",
    "MessagePosted",
    "MessageWithdrawn",
    "NotStored",
    "Post",
    "PostLimit",
    "PostOutcome",
    "Posted",
    "ReadHistory",
    "Repeated",
    "Room",
    "RoomActor",
    "RoomEvent",
    "RoomName",
    "RoomRef",
    "RoomResumed",
    "Rooms",
    "Status",
    "TooManyPosts",
    "UnknownRoom",
    "Viewer",
    "author_name",
    "guest_name",
    "hide_words",
    "is_own",
    "may_see",
    "parse_room",
    "topic_of",
]
