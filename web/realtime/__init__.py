"""Streams and sockets: how what happens inside reaches browsers and programs, live.

Read first `stream.py` (one SSE stream), `streams.py` (all of them) and `broadcast.py` (one message,
encoded once, to everybody). Then the WebSocket: `protocol.py` decides, `connection.py` does,
`endpoint.py` is its ASGI side. Formats: `sse.py`, `messages.py`. Queues and their policies:
`outbox.py`, `socket_outbox.py`.

How bytes reach the socket is in `web.server`; what is said in a room, in `web.chat`.
"""

from web.realtime.broadcast import Broadcast, Encoding, Hub, Membership, Put, TopicSink
from web.realtime.buckets import Rate, TokenBucket
from web.realtime.commands import CommandTable
from web.realtime.connection import Connection, EndpointSettings, Refused, Service
from web.realtime.endpoint import Caller, ConnectionRef, MakeConnection, SocketCaps, SocketEndpoint
from web.realtime.errors import (
    BadTabId,
    NotACommandClass,
    ProtocolViolation,
    RealtimeError,
    StreamsFull,
    TooManyStreams,
    UnsafeField,
)
from web.realtime.messages import (
    Action,
    ClientMessage,
    Command,
    Error,
    Event,
    Ping,
    Pong,
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
from web.realtime.outbox import Outbox, OutboxStatistics
from web.realtime.outlet import Outlet
from web.realtime.protocol import CloseCode, ProtocolLimits, ServerProtocol
from web.realtime.responding import STREAM_HEADERS, fast_lane, open_stream, stream_response
from web.realtime.socket_outbox import Policy, SocketOutbox
from web.realtime.sse import (
    ElementPatchMode,
    encode_comment,
    encode_event,
    encode_retry,
    joined,
    patch_elements,
    patch_signals,
    remove_elements,
)
from web.realtime.sse_parser import ServerEvent, SseParser
from web.realtime.stream import Stream, StreamKey, StreamStatistics
from web.realtime.stream_actor import RequestWindow, StreamActor
from web.realtime.streams import Delivery, StreamCaps, StreamCounts, Streams

__all__ = [
    "STREAM_HEADERS",
    "Action",
    "BadTabId",
    "Broadcast",
    "Caller",
    "ClientMessage",
    "CloseCode",
    "Command",
    "CommandTable",
    "Connection",
    "ConnectionRef",
    "Delivery",
    "ElementPatchMode",
    "Encoding",
    "EndpointSettings",
    "Error",
    "Event",
    "Hub",
    "MakeConnection",
    "Membership",
    "NotACommandClass",
    "Outbox",
    "OutboxStatistics",
    "Outlet",
    "Ping",
    "Policy",
    "Pong",
    "ProtocolLimits",
    "ProtocolViolation",
    "Put",
    "Rate",
    "RealtimeError",
    "Refused",
    "RequestWindow",
    "ServerEvent",
    "ServerMessage",
    "ServerProtocol",
    "Service",
    "SocketCaps",
    "SocketEndpoint",
    "SocketOutbox",
    "SseParser",
    "Stream",
    "StreamActor",
    "StreamCaps",
    "StreamCounts",
    "StreamKey",
    "StreamStatistics",
    "Streams",
    "StreamsFull",
    "Subscribe",
    "Subscribed",
    "TokenBucket",
    "TooManyStreams",
    "TopicSink",
    "UnsafeField",
    "Unsubscribe",
    "Unsubscribed",
    "action_of",
    "decode_client",
    "decode_server",
    "encode_client",
    "encode_comment",
    "encode_event",
    "encode_retry",
    "encode_server",
    "fast_lane",
    "joined",
    "open_stream",
    "patch_elements",
    "patch_signals",
    "remove_elements",
    "stream_response",
]
