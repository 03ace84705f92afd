"""What nodes say to each other: its form, its limits, and the port that carries it.

Read `words.py` (frames, envelopes, what is refused), `subjects.py` (where they travel), `frames.py`
(how they are written, sealed and read), `window.py` (how much is under way, and what was lost),
`intake.py` (what is believed of all that comes), then `port.py` (the port). All but the port is
free of I/O and clocks.
"""

from actors.cluster.link.frames import (
    SECRET_BYTES_MIN,
    FrameKeys,
    filled,
    read_body,
    read_envelopes,
    read_front,
    weigh,
    write_content,
)
from actors.cluster.link.intake import SUBJECTS_PER_NODE_MAX, Intake, is_late
from actors.cluster.link.port import Delivery, Link, LinkStatus, LinkSubscription
from actors.cluster.link.subjects import (
    SERVICE_GROUP,
    SUBJECT_BYTES_MAX,
    Subjects,
    maybe_topic_of,
    token_of,
)
from actors.cluster.link.window import (
    ACK_ALONE_S,
    ASK_AFTER_S,
    WINDOW_BYTES_MAX,
    WINDOW_ENVELOPES_MAX,
    Hearing,
    Numbered,
    Sending,
    Settled,
)
from actors.cluster.link.words import (
    BODY_BYTES_MAX,
    ENVELOPES_MAX,
    FRAME_AGE_S_MAX,
    FRAME_BYTES_MAX,
    FRAME_FORMAT,
    Ack,
    Arrived,
    Envelope,
    EnvelopeKind,
    FrameHead,
    Gap,
    LinkError,
    LinkMisuse,
    MessageTooLarge,
    NoLink,
    Refused,
    RefusedReason,
)

__all__ = [
    "ACK_ALONE_S",
    "ASK_AFTER_S",
    "BODY_BYTES_MAX",
    "ENVELOPES_MAX",
    "FRAME_AGE_S_MAX",
    "FRAME_BYTES_MAX",
    "FRAME_FORMAT",
    "SECRET_BYTES_MIN",
    "SERVICE_GROUP",
    "SUBJECTS_PER_NODE_MAX",
    "SUBJECT_BYTES_MAX",
    "WINDOW_BYTES_MAX",
    "WINDOW_ENVELOPES_MAX",
    "Ack",
    "Arrived",
    "Delivery",
    "Envelope",
    "EnvelopeKind",
    "FrameHead",
    "FrameKeys",
    "Gap",
    "Hearing",
    "Intake",
    "Link",
    "LinkError",
    "LinkMisuse",
    "LinkStatus",
    "LinkSubscription",
    "MessageTooLarge",
    "NoLink",
    "Numbered",
    "Refused",
    "RefusedReason",
    "Sending",
    "Settled",
    "Subjects",
    "filled",
    "is_late",
    "maybe_topic_of",
    "read_body",
    "read_envelopes",
    "read_front",
    "token_of",
    "weigh",
    "write_content",
]
