"""How a frame is written, sealed and read: bytes in, bytes out, no clock and no link.

A frame is its MAC (32 bytes), the format (2), the length of the head (2), the head and the list of
envelopes, both MessagePack. Rule 1: of what came nothing is decoded before its MAC is right.
Rule 2: nothing that came raises; it gives a `Refused`.
"""

import hmac
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Annotated, TypeVar

import msgspec

from actors.cluster.link.words import (
    BODY_BYTES_MAX,
    ENVELOPES_MAX,
    FILL_BYTES_MAX,
    FRAME_BYTES_MAX,
    FRAME_FORMAT,
    Envelope,
    FrameHead,
    LinkMisuse,
    MessageTooLarge,
    Refused,
    RefusedReason,
)
from actors.runtime import Secret

# As many bytes as the hash gives: a shorter one is guessed before its key.
SECRET_BYTES_MIN = 32
MAC_BYTES = 32
_PURPOSE = b"greenroom link frames 1"
# Another than that of frames: who reads what nodes compare has no frame of theirs, nor its key.
_MARK_PURPOSE = b"greenroom cluster members 1"
_FRONT = Struct(">HH")
_LENGTHS = Struct(">HH")
_HEAD_END = MAC_BYTES + _FRONT.size

T = TypeVar("T")

# What msgspec raises on bytes from outside: broken text and deep nesting have errors of their own.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(Envelope)
_heads = msgspec.msgpack.Decoder(FrameHead)
# The bound is looked at before room is made: without it a length alone takes memory.
_envelopes = msgspec.msgpack.Decoder(
    Annotated[list[Envelope], msgspec.Meta(max_length=ENVELOPES_MAX)]
)


class FrameKeys:
    """The key of a cluster's frames, derived from its secret; raises `LinkMisuse` for a short one.

    Frames are sealed with the current secret. One sealed with the previous is believed as well,
    while a change is rolled out from node to node.
    """

    def __init__(
        self, cluster: str, secret: Secret[str], previous: Secret[str] | None = None
    ) -> None:
        self._cluster = cluster.encode()
        known = [one for one in (secret, previous) if one is not None]
        self._keys = [_key(one) for one in known]
        self._marks = [self._mark(one) for one in known]

    @property
    def marks(self) -> tuple[str, str]:
        """Call this for what stands for the secret in use, and for the previous one, if any.

        A keyed hash of the cluster's name: equal where secret and name are, and no way back.
        """
        return self._marks[0], "".join(self._marks[1:])

    def _mark(self, secret: Secret[str]) -> str:
        key = hmac.digest(secret.reveal().encode(), _MARK_PURPOSE, "sha256")
        return hmac.digest(key, self._cluster, "sha256").hex()

    def seal(self, subject: str, content: bytes) -> bytes:
        """Call this for the frame of a content that goes to a subject."""
        return self._mac(self._keys[0].reveal(), subject, content) + content

    def maybe_open(self, subject: str, frame: bytes) -> bytes | None:
        """Call this for the content of a frame that came by a subject; None for a wrong MAC."""
        mac, content = frame[:MAC_BYTES], frame[MAC_BYTES:]
        for key in self._keys:
            if hmac.compare_digest(mac, self._mac(key.reveal(), subject, content)):
                return content
        return None

    def _mac(self, key: bytes, subject: str, content: bytes) -> bytes:
        # Lengths first, so that no byte of a name can pass for one of another.
        named = subject.encode(errors="surrogatepass")
        front = _LENGTHS.pack(len(self._cluster), len(named) & 0xFFFF)
        return hmac.digest(key, b"".join((front, self._cluster, named, content)), "sha256")


def _key(secret: Secret[str]) -> Secret[bytes]:
    raw = secret.reveal().encode()
    if len(raw) < SECRET_BYTES_MIN:
        raise LinkMisuse("CLUSTER_SECRET", f"must have at least {SECRET_BYTES_MIN} bytes")
    return Secret(hmac.digest(raw, _PURPOSE, "sha256"))


def write_content(head: FrameHead, envelopes: Sequence[Envelope] = ()) -> bytes:
    """Call this for the content of a frame of envelopes that were weighed.

    Raises `MessageTooLarge` and `LinkMisuse` when they are more than one frame holds.
    """
    if len(envelopes) > ENVELOPES_MAX:
        raise LinkMisuse("a frame", f"holds {ENVELOPES_MAX} envelopes, not {len(envelopes)}")
    written = _encoder.encode(head)
    content = b"".join(
        (_FRONT.pack(FRAME_FORMAT, len(written)), written, _encoder.encode(envelopes))
    )
    if len(content) + MAC_BYTES > FRAME_BYTES_MAX:
        raise MessageTooLarge(len(content) + MAC_BYTES, FRAME_BYTES_MAX)
    return content


def weigh(envelope: Envelope) -> int:
    """Call this before an envelope waits to be sent: the bytes it takes of a frame and a window.

    Raises `MessageTooLarge` and `LinkMisuse`: what a reader would refuse is refused here, where
    somebody can mend it.
    """
    if len(envelope.body) > BODY_BYTES_MAX:
        raise MessageTooLarge(len(envelope.body))
    try:
        written = _encoder.encode(envelope)
        _envelope.decode(written)
    except (msgspec.ValidationError, UnicodeEncodeError, OverflowError) as error:
        raise LinkMisuse("an envelope", f"is not as it must be ({error})") from None
    return len(written)


def filled(sizes: Sequence[int]) -> Iterator[range]:
    """Call this with what `weigh` gave, to divide what waits for one destination into frames.

    Gives the places of each, in order: 256 envelopes or 256 KiB at most; one that is larger by its
    head travels alone.
    """
    first, size = 0, 0
    for at, more in enumerate(sizes):
        if at > first and (at - first == ENVELOPES_MAX or size + more > FILL_BYTES_MAX):
            yield range(first, at)
            first, size = at, 0
        size += more
    if first < len(sizes):
        yield range(first, len(sizes))


def read_front(keys: FrameKeys, subject: str, frame: bytes) -> tuple[FrameHead, bytes] | Refused:
    """Call this first with what came: gives the head, and the envelopes still undecoded.

    Looks at size, MAC and format, in this order, then decodes the head.
    """
    if not _HEAD_END < len(frame) <= FRAME_BYTES_MAX:
        return Refused(RefusedReason.SIZE, f"{len(frame)} bytes")
    content = keys.maybe_open(subject, frame)
    if content is None:
        return Refused(RefusedReason.MAC, "not sealed by this cluster for this subject")
    format_, length = _FRONT.unpack_from(content)
    if format_ != FRAME_FORMAT:
        return Refused(RefusedReason.FORMAT, f"format {format_}, this node reads {FRAME_FORMAT}")
    end = _FRONT.size + length
    if end > len(content):
        return Refused(RefusedReason.HEAD, "shorter than it says")
    head = _decoded(_heads.decode, content[_FRONT.size : end], RefusedReason.HEAD)
    return head if isinstance(head, Refused) else (head, content[end:])


def read_envelopes(rest: bytes) -> Sequence[Envelope] | Refused:
    """Call this for the envelopes of a frame whose head was believed; bodies stay as they are."""
    return _decoded(_envelopes.decode, rest, RefusedReason.ENVELOPES)


def read_body(decode: Callable[[bytes], T], envelope: Envelope) -> T | Refused:
    """Call this last, with one body alone: a bad one is a dead letter, its neighbours are not."""
    return _decoded(decode, envelope.body, RefusedReason.BODY)


def _decoded(decode: Callable[[bytes], T], raw: bytes, reason: RefusedReason) -> T | Refused:
    try:
        return decode(raw)
    except _UNREADABLE as error:
        return Refused(reason, type(error).__name__)
