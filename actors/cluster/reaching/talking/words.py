"""Bounds of the talk between nodes, what travels in it, and how asks end: words only, no state."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from uuid import UUID

from actors.cluster.link import (
    ACK_ALONE_S,
    Envelope,
    EnvelopeKind,
    NoLink,
)
from actors.cluster.link.sayings import (
    REMOTE_TEXT_MAX,
    Refusal,
    Saying,
    encode_saying,
)
from actors.cluster.placement import shard_of
from actors.cluster.reaching.peer import Item
from actors.cluster.reaching.ref import Standin
from actors.cluster.reaching.words import (
    NodeGone,
    NoOwner,
    PeerOverloaded,
    RemoteError,
    UnknownMessage,
)
from actors.cluster.words import LEASE_S
from actors.runtime import (
    ActorCrashed,
    ActorExited,
    AskError,
    NoProc,
    Shutdown,
    UnhandledMessage,
)
from actors.runtime.delivery.envelope import (
    MESSAGE,
)
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.words.showing import class_name

# Often enough that an acknowledgement that nothing carries goes within its tenth of a second.
TICK_S: Final = ACK_ALONE_S / 2
# So often a node says that it is there, and what it published last.
BEACON_S: Final = 2.0
# To a node that has not answered yet; it may not have subscribed, or may not know us.
HELLO_S: Final = 0.25
# As long as a lease: who says nothing on the link for that long is taken for gone.
SILENT_S_MAX: Final = LEASE_S
# Asks whose askers wait no more are forgotten so often.
SWEEP_S: Final = 1.0
# An ask without a deadline is one of a day: longer than any node lives without its peers.
LEFT_MS_MAX: Final = 24 * 3600 * 1000
# Frames that came and were not read yet; what comes beyond is lost, and noticed by its number.
INBOX_FRAMES_MAX: Final = 4096
# What does not go to a node's data subject: topics, sayings, asks of services.
LOOSE_MAX: Final = 8192
# Handed to the link between two looks at the scheduler: a link that has room does not give way. At
# 60 us each that is 4 ms.
LOOSE_AT_ONCE: Final = 64
# So many envelopes that came are acknowledged at once: half a window may be under way meanwhile.
UNTOLD_MAX: Final = 1024
# As `filled` needs it: the lengths of an envelope besides its texts and body, at most.
ENVELOPE_HEAD_BYTES: Final = 96
# Who waits for room waits for this much, so that it need not for each message.
ROOM_BYTES: Final = 64 * 1024
ROOM_ENVELOPES: Final = 256
UTF8_BYTES_MAX: Final = 4
LOG_INTERVAL_S: Final = 10.0
# Envelopes read between two looks at the scheduler, a frame counting as 16 at least: at 20 us each
# that is 5 ms, and a quarter of a mailbox.
READ_AT_ONCE: Final = 256
FRAME_COUNTS_AS: Final = 16

# Of a reply, whose asker is found by its number.
REPLY_TARGET: Final = "reply"
# Targets that are taken apart once only: of the actors that are told something all the time.
_PLACED_MAX: Final = 4096


class Undecodable:
    """What stands in a dead letter for a body that could not be read."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __repr__(self) -> str:
        return f"<Undecodable {self.name}, {self.size} bytes>"


class Loose:
    """An envelope that goes to a subject of several, and where the server says that none hears."""

    __slots__ = ("ack_to", "envelope", "reply", "subject")

    def __init__(
        self, subject: str, envelope: Envelope, reply: str = "", ack_to: UUID | None = None
    ) -> None:
        self.subject, self.envelope, self.reply, self.ack_to = subject, envelope, reply, ack_to


@lru_cache(_PLACED_MAX)
def placed_at(target: str, shards: int) -> tuple[tuple[str, str], int] | None:
    """The kind, id and shard of an actor; None for a target that none can have."""
    kind, slash, id_ = target.partition("/")
    return ((kind, id_), shard_of(kind, id_, shards)) if slash and kind else None


def left_ms_of(left_s: float) -> int:
    """Call this for what is told of how long an ask may still take, in milliseconds."""
    return int(min(max(0.0, left_s) * 1000, LEFT_MS_MAX))


def item_of(standin: Standin, papers: Papers) -> Item:
    """Call this for a message that was sent without one, when it comes to nothing."""
    return Item(standin.key, standin.shard, cell=standin, papers=papers)


def bytes_of(text: str) -> int:
    """Call this for the bytes of a text, or more: no other text than ASCII is worth counting."""
    return len(text) if text.isascii() else len(text) * UTF8_BYTES_MAX


def size_of(envelope: Envelope) -> int:
    """Call this for the bytes that an envelope takes of a frame, or a few more."""
    texts = (
        f"{envelope.target}{envelope.message}{envelope.correlation}{envelope.traceparent}"
        f"{envelope.sender}{envelope.user}{envelope.tenant}"
    )
    return ENVELOPE_HEAD_BYTES + len(envelope.body) + bytes_of(texts)


def system(saying: Saying) -> Envelope:
    """Call this for the envelope of a saying."""
    return Envelope(EnvelopeKind.SYSTEM, "node", "", 1, encode_saying(saying))


def no_link(item: Item, *, maybe_handled: bool) -> AskError:
    return NoLink("/".join(item.key), _kind(item), maybe_handled=maybe_handled)


def node_gone(item: Item, *, node: str, maybe_handled: bool) -> AskError:
    return NodeGone("/".join(item.key), _kind(item), node, maybe_handled=maybe_handled)


def _kind(item: Item) -> type | None:
    return None if item.papers is None else type(item.papers[MESSAGE])


def refusal_of(error: AskError) -> Refusal:
    """What another node is told of the end of its ask."""
    match error:
        case ActorCrashed():
            cause = error.error
            return Refusal("crashed", class_name(type(cause)), str(cause)[:REMOTE_TEXT_MAX])
        case UnknownMessage():
            return Refusal("unknown_message", error.name[:256])
        case NoOwner():
            return Refusal("no_owner")
        case PeerOverloaded():
            return Refusal("overloaded", "", error.node[:256])
        case NoProc():
            return Refusal("no_proc", "", (error.because or "")[:REMOTE_TEXT_MAX])
        case UnhandledMessage():
            return Refusal("unhandled")
        case ActorExited():
            return Refusal("exited", class_name(type(error.exit)), error.exit.because or "")
        case _:
            return Refusal("crashed", type(error).__name__, str(error)[:REMOTE_TEXT_MAX])


def error_of(refusal: Refusal, path: str, kind: type, node: str) -> AskError:
    """What the asker is told of a refusal."""
    match refusal.code:
        case "unknown_message":
            return UnknownMessage(path, kind, refusal.kind, node)
        case "no_owner":
            return NoOwner(path, kind, None)
        case "overloaded":
            return PeerOverloaded(path, kind, node)
        case "no_proc":
            return NoProc(path, kind, refusal.text or f"on node {node}")
        case "unhandled":
            return UnhandledMessage(path, kind)
        case "exited":
            return ActorExited(path, Shutdown(because=refusal.text or refusal.kind), kind)
        case _:
            return ActorCrashed(path, RemoteError(refusal.kind, refusal.text), kind)
