"""Streams and sockets: how what happens inside reaches browsers and programs, live.

Read `broadcast.py` first (one message, encoded once, to everybody who hears a topic, and again to
who comes back), `stored.py` (topics that stand in the event store) and `audience.py` (who watches a
feed, and who of them waits for the whole), then a chapter:

- `sse/`: the streams of pages, one for each tab
- `socket/`: WebSockets of client programs, and the protocol spoken on them

`event_stream.py` is the sockets' topics as server-sent events, made of both chapters, which do not
know each other. `errors.py` is what can go wrong in any of them.

Our words: a *stream* is one open SSE connection of a tab (what an event store calls so is always a
`stream_id`); a *panel* is a part of a page whose newest state replaces the older; a *window* is the
whole of a chat as a page shows it; a *backlog* is what still has to be sent to a busy reader.

How bytes reach the socket is in `web.server`; what is said in a room, in `web.chat`.
"""

from web.realtime.audience import (
    Arrivals,
    Audience,
    PageHolds,
    TakesArrivals,
    read_holds,
    waker,
)
from web.realtime.broadcast import (
    Broadcast,
    Encoding,
    HistoryLimits,
    Hub,
    Membership,
    Place,
    Put,
    PutAll,
    Slices,
    TopicSink,
)
from web.realtime.errors import (
    BadClientId,
    BadTabId,
    CallerUnknown,
    NotACommandClass,
    ProtocolViolation,
    RealtimeError,
    SocketCode,
    StreamsFull,
    TooManyStreams,
    TopicRefused,
    UnsafeField,
)
from web.realtime.event_stream import (
    EventEncoding,
    EventMessages,
    EventStreamActor,
    EventStreams,
    read_last_id,
)
from web.realtime.socket.commands import CommandMemory, Done, Refused
from web.realtime.socket.connection import Caller, Connection, EndpointSettings, Request, Service
from web.realtime.socket.endpoint import (
    ConnectionRef,
    MakeConnection,
    SocketCaps,
    SocketEndpoint,
    SocketStatistics,
    SocketSums,
    client_of,
    guest_of,
)
from web.realtime.socket.messages import (
    V1,
    Ack,
    Action,
    ClientMessage,
    Command,
    CommandTable,
    Error,
    Event,
    Form,
    Mark,
    Ping,
    Pong,
    Position,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    action_of,
    decode_client,
    decode_server,
    encode_client,
    encode_server,
)
from web.realtime.socket.outlet import Outlet, OutletStatistics, Policy, SocketBacklog
from web.realtime.socket.protocol import (
    Close,
    CloseCode,
    ProtocolLimits,
    Rate,
    ServerProtocol,
    TokenBucket,
)
from web.realtime.socket.topics import Heard, SocketEncoding, Tells
from web.realtime.sse.encoding import (
    ElementPatchMode,
    encode_comment,
    encode_event,
    encode_retry,
    joined,
    patch_elements,
    patch_signals,
    remove_elements,
)
from web.realtime.sse.heartbeats import HeartbeatActor, Heartbeats
from web.realtime.sse.parser import ServerEvent, SseParser
from web.realtime.sse.responding import (
    STREAM_HEADERS,
    fast_lane,
    open_stream,
    stream_headers,
    stream_response,
)
from web.realtime.sse.stream import (
    BacklogStatistics,
    Stream,
    StreamBacklog,
    StreamKey,
    StreamStatistics,
)
from web.realtime.sse.streams import (
    Delivery,
    RequestWindow,
    StreamActor,
    StreamCaps,
    StreamCounts,
    Streams,
    TellSent,
)
from web.realtime.stored import Again, StoreAway, StoredHead, StoredPage, StoredTopic

# The names the backlogs had; an outbox is now only what is stored
# (`actors.persistence.beside_log.outbox`).
Outbox, OutboxStatistics, SocketOutbox = StreamBacklog, BacklogStatistics, SocketBacklog

__all__ = [
    "STREAM_HEADERS",
    "V1",
    "Ack",
    "Action",
    "Again",
    "Arrivals",
    "Audience",
    "BacklogStatistics",
    "BadClientId",
    "BadTabId",
    "Broadcast",
    "Caller",
    "CallerUnknown",
    "ClientMessage",
    "Close",
    "CloseCode",
    "Command",
    "CommandMemory",
    "CommandTable",
    "Connection",
    "ConnectionRef",
    "Delivery",
    "Done",
    "ElementPatchMode",
    "Encoding",
    "EndpointSettings",
    "Error",
    "Event",
    "EventEncoding",
    "EventMessages",
    "EventStreamActor",
    "EventStreams",
    "Form",
    "Heard",
    "HeartbeatActor",
    "Heartbeats",
    "HistoryLimits",
    "Hub",
    "MakeConnection",
    "Mark",
    "Membership",
    "NotACommandClass",
    "Outbox",
    "OutboxStatistics",
    "Outlet",
    "OutletStatistics",
    "PageHolds",
    "Ping",
    "Place",
    "Policy",
    "Pong",
    "Position",
    "ProtocolLimits",
    "ProtocolViolation",
    "Put",
    "PutAll",
    "Rate",
    "RealtimeError",
    "Refused",
    "Request",
    "RequestWindow",
    "ServerEvent",
    "ServerMessage",
    "ServerProtocol",
    "Service",
    "Slices",
    "SocketBacklog",
    "SocketCaps",
    "SocketCode",
    "SocketEncoding",
    "SocketEndpoint",
    "SocketOutbox",
    "SocketStatistics",
    "SocketSums",
    "SseParser",
    "StoreAway",
    "StoredHead",
    "StoredPage",
    "StoredTopic",
    "Stream",
    "StreamActor",
    "StreamBacklog",
    "StreamCaps",
    "StreamCounts",
    "StreamKey",
    "StreamStatistics",
    "Streams",
    "StreamsFull",
    "Subscribe",
    "Subscribed",
    "TakesArrivals",
    "TellSent",
    "Tells",
    "TokenBucket",
    "TooManyStreams",
    "TopicRefused",
    "TopicSink",
    "UnsafeField",
    "Unsubscribe",
    "Unsubscribed",
    "action_of",
    "client_of",
    "decode_client",
    "decode_server",
    "encode_client",
    "encode_comment",
    "encode_event",
    "encode_retry",
    "encode_server",
    "fast_lane",
    "guest_of",
    "joined",
    "open_stream",
    "patch_elements",
    "patch_signals",
    "read_holds",
    "read_last_id",
    "remove_elements",
    "stream_headers",
    "stream_response",
    "waker",
]
