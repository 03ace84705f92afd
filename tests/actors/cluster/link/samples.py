"""Frames and doors for tests of the link, with times that a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from actors.cluster.link import (
    Ack,
    Envelope,
    EnvelopeKind,
    FrameHead,
    FrameKeys,
    Intake,
    Subjects,
    write_content,
)
from actors.runtime import Secret

SECRET = Secret("a secret of a test, long enough: 32 bytes")
OTHER_SECRET = Secret("another secret of a test, as long as that")
SUBJECTS = Subjects("test")
KEYS = FrameKeys("test", SECRET)
A = UUID(int=0xA)
B = UUID(int=0xB)
# A moment of the database's clock.
NOW_US = 1_700_000_000_000_000
HERE = SUBJECTS.node(B)


def envelope(body: bytes = b"hello", kind: EnvelopeKind = EnvelopeKind.TELL) -> Envelope:
    """Call this for an envelope to a room."""
    return Envelope(kind, "room/lobby", "Say", 1, body, shard=7, epoch=3, left_ms=500)


def head(
    sequence: int = 1,
    *,
    before: int = 0,
    at_us: int = NOW_US,
    node: UUID = A,
    cluster: str = "test",
    asks: bool = False,
) -> FrameHead:
    """Call this for the head of a frame from node A."""
    return FrameHead(cluster, node.bytes, sequence, before, at_us, Ack(), asks)


def frame(
    of: FrameHead | None = None,
    envelopes: Sequence[Envelope] = (),
    *,
    subject: str = HERE,
    keys: FrameKeys = KEYS,
) -> bytes:
    """Call this for a sealed frame."""
    return keys.seal(subject, write_content(head() if of is None else of, envelopes))


def door(keys: FrameKeys = KEYS) -> Intake:
    """Call this for the door of node B, that knows node A."""
    return Intake("test", keys, is_member={A}.__contains__, hears_all={HERE}.__contains__)
