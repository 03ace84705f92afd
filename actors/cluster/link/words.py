"""What nodes say to each other, as data: frames, envelopes, acknowledgements, and what is refused.

Numbers of envelopes and frames are counted from 1; times in a frame are the database's, in
microseconds since 1970, as every node knows them from its heartbeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from actors.runtime import AskError

# Rises when an older release could not read the frame.
FRAME_FORMAT = 1
# CLU-51. The library's cost is per message of the server: 256 envelopes share one.
ENVELOPES_MAX = 256
# As large as one message may be: what is larger belongs into the store, and its id into a message.
BODY_BYTES_MAX = 256 * 1024
# What is put together into one frame, heads of envelopes included.
FILL_BYTES_MAX = 256 * 1024
# One body of the largest size with its head, or a full frame: half of a server's usual limit.
FRAME_BYTES_MAX = 512 * 1024
# The two longest names of an envelope, and those that trace it.
TARGET_BYTES_MAX = 1024
NAME_LENGTH_MAX = 128
TRACE_LENGTH_MAX = 256
# CLU-53. What waited longer at a server comes from a life of which nothing is known any more.
FRAME_AGE_S_MAX = 30.0
INTEGER_MAX = 2**63 - 1

Number = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=NAME_LENGTH_MAX)]
Trace = Annotated[str, msgspec.Meta(max_length=TRACE_LENGTH_MAX)]


class EnvelopeKind(IntEnum):
    """What an envelope is to whoever opens it; another kind is another `FRAME_FORMAT`."""

    TELL = 1
    ASK = 2
    REPLY = 3
    REFUSAL = 4
    TOPIC = 5
    SYSTEM = 6
    # A tell or an ask that was not handled, back to whoever sent it to the wrong node.
    MOVED = 7


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """One message with all that its handling needs, without knowing its class.

    `target` is `kind/id` of an actor, or a topic; `message` and `version` are the registered name
    of the body's class; `left_ms` is how long an ask may still take, counted from the time of its
    frame. `shard` and `epoch` say under which ownership it was sent. Fields that a later release
    adds come last and are not read by this one.
    """

    kind: EnvelopeKind
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=TARGET_BYTES_MAX)]
    message: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]
    shard: Number = 0
    epoch: Number = 0
    ask: Number = 0
    left_ms: Number = 0
    message_id: Name = ""
    correlation: Name = ""
    causation: Name = ""
    traceparent: Trace = ""
    sender: Annotated[str, msgspec.Meta(max_length=TARGET_BYTES_MAX)] = ""
    user: Trace = ""
    tenant: Trace = ""
    # How often it was sent on because its shard had moved.
    moves: Number = 0


class Ack(msgspec.Struct, frozen=True, array_like=True):
    """How far a node has heard another on its data subject.

    `sequence` is the highest frame that came, `received` the envelopes of all that came: what was
    sent up to that frame and is not among them is lost.
    """

    sequence: Number = 0
    received: Number = 0


class FrameHead(msgspec.Struct, frozen=True, array_like=True):
    """What a frame says of itself.

    `sequence` rises by one a frame for each node and subject. `before` counts the envelopes that
    went there before this frame, so that a gap is counted in envelopes. `asks` wants an
    acknowledgement at once.
    """

    cluster: Annotated[str, msgspec.Meta(max_length=32)]
    node: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    sequence: Annotated[int, msgspec.Meta(ge=1, le=INTEGER_MAX)]
    before: Number
    at_us: Number
    ack: Ack
    asks: bool = False

    @property
    def node_id(self) -> UUID:
        """Who says that it sent this."""
        return UUID(bytes=self.node)


class RefusedReason(StrEnum):
    """Why a frame, an envelope or a body was dropped: the label of a counter, so a closed list."""

    SIZE = "size"
    MAC = "mac"
    FORMAT = "format"
    HEAD = "head"
    CLUSTER = "cluster"
    NODE = "node"
    SUBJECTS = "subjects"
    SEQUENCE = "sequence"
    AGE = "age"
    ENVELOPES = "envelopes"
    DEADLINE = "deadline"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Refused:
    """What was dropped, and why; `detail` is for a log and holds nothing of the content."""

    reason: RefusedReason
    detail: str


@dataclass(frozen=True, slots=True)
class Gap:
    """What did not come before a frame that did."""

    frames: int = 0
    envelopes: int = 0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame that passed every check.

    `late` are the asks among its envelopes whose time was over; they are not in `envelopes`.
    """

    head: FrameHead
    envelopes: Sequence[Envelope]
    late: Sequence[Envelope]
    gap: Gap


class LinkError(Exception):
    """Base of what the link raises; `code` is stable, for logs and answers."""

    code = "link_error"


class LinkMisuse(LinkError, ValueError):
    """Raised before anything was sent, for a name or value that no frame or subject can have."""

    code = "link_misuse"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field} {why}; nothing was sent")
        self.field, self.why = field, why


class MessageTooLarge(LinkError, AskError):
    """Raised at the caller for a message over the limit of one; nothing was sent.

    Keep what is large in the store and send its id.
    """

    code = "message_too_large"

    def __init__(self, size: int, limit: int = BODY_BYTES_MAX, path: str = "") -> None:
        AskError.__init__(
            self,
            path,
            None,
            f"the message takes {size} bytes, the limit is {limit}; nothing was sent",
        )
        self.size, self.limit = size, limit


class NoLink(LinkError, AskError):
    """Raised while the node cannot reach the others, and the end of asks when the link is lost.

    With `maybe_handled` it was handed over before the link was lost, and may have been handled;
    else nothing was sent. Nothing is kept to be sent later.
    """

    code = "no_link"

    def __init__(
        self, path: str = "", message_type: type | None = None, *, maybe_handled: bool = False
    ) -> None:
        AskError.__init__(
            self,
            path,
            message_type,
            "the link was lost; what was sent may have been handled"
            if maybe_handled
            else "there is no link to other nodes; nothing was sent",
        )
        self.maybe_handled = maybe_handled


class LinkAbsent(LinkError):
    """Raised when no server answered for as long as a start waits; nothing was sent.

    Start the server, or name another.
    """

    code = "link_absent"

    def __init__(self, servers: str, waited_s: float, reason: str) -> None:
        super().__init__(f"no answer from {servers} for {waited_s:g} s: {reason}")
        self.servers, self.waited_s, self.reason = servers, waited_s, reason


class LinkRefused(LinkError):
    """Raised when a server does not let this node in, or do what nodes need; nothing was sent.

    Waiting does not mend it: what `why` says has to be changed, here or at the server.
    """

    code = "link_refused"

    def __init__(self, server: str, why: str) -> None:
        super().__init__(f"{server} {why}")
        self.server, self.why = server, why


class NotRemote(LinkError, AskError, TypeError):
    """The message cannot cross to another node; nothing was sent.

    Declare its class with `@message(remote=True)`, and give it fields that msgspec can write.
    """

    code = "not_remote"

    def __init__(self, path: str, message_type: type, why: str) -> None:
        AskError.__init__(
            self,
            path,
            message_type,
            f"{message_type.__qualname__} for {path} cannot cross to another node: {why}; nothing "
            "was sent. Declare its class with @message(remote=True).",
        )
        self.why = why
