"""What is believed of all that comes over the link: the checks, in their order, and their counts.

Size, MAC, format, cluster, node, sequence, age, envelopes, deadlines. Nothing that came raises
here, so whoever reads never ends by it. Bodies are not opened: that is `frames.read_body`, one by
one, by who knows their classes.
"""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

from actors.cluster.link.frames import FrameKeys, read_envelopes, read_front
from actors.cluster.link.window import Hearing
from actors.cluster.link.words import (
    FRAME_AGE_S_MAX,
    Arrived,
    Envelope,
    EnvelopeKind,
    FrameHead,
    Gap,
    Refused,
    RefusedReason,
)

# Subjects of one node of which the numbers are kept: everyone's, and its topics.
SUBJECTS_PER_NODE_MAX = 16_384

_AGE_US_MAX = int(FRAME_AGE_S_MAX * 1_000_000)


class Intake:
    """The door of one node: `subject` and bytes in, `Arrived` or `Refused` out.

    `is_member` says whether a node is in the table of nodes and is another than this one.
    `hears_all` says of a subject whether this node must have heard it from its first frame: of its
    own few, whose numbers are never forgotten while the peer lives. `shares` says whether others
    hear a part of it, as of a service: what is missing there is not lost.
    """

    def __init__(
        self,
        cluster: str,
        keys: FrameKeys,
        *,
        is_member: Callable[[UUID], bool],
        hears_all: Callable[[str], bool],
        shares: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._cluster, self._keys = cluster, keys
        self._is_member, self._hears_all, self._shares = is_member, hears_all, shares
        # This node's own subjects are few, and their numbers are kept as long as the peer lives.
        self._own: dict[UUID, dict[str, Hearing]] = {}
        self._topics: dict[UUID, dict[str, tuple[Hearing, float]]] = {}
        self.refused: Counter[RefusedReason] = Counter()
        self.lost_count = 0
        self.arrived_count = 0

    def __repr__(self) -> str:
        refused = sum(self.refused.values())
        return f"Intake({self.arrived_count} frames, {refused} refused, {self.lost_count} lost)"

    def take(self, subject: str, frame: bytes, *, now_us: int, at: float) -> Arrived | Refused:
        """Call this with all that comes.

        `now_us` is the database's time as this node knows it, `at` the node's clock that never
        goes back, in seconds.
        """
        taken = self._taken(subject, frame, now_us, at)
        if isinstance(taken, Refused):
            self.refused[taken.reason] += 1
        else:
            self.arrived_count += 1
            self.refused[RefusedReason.DEADLINE] += len(taken.late)
        return taken

    def refuse(self, refused: Refused) -> None:
        """Call this to count what was refused later, a body that is none."""
        self.refused[refused.reason] += 1

    def hearing(self, node_id: UUID, subject: str) -> Hearing | None:
        """Call this for what came from a node by a subject; None when nothing did."""
        if (own := self._own.get(node_id, {}).get(subject)) is not None:
            return own
        found = self._topics.get(node_id, {}).get(subject)
        return None if found is None else found[0]

    def forget(self, node_id: UUID) -> None:
        """Call this when a node is gone for good: then `is_member` must deny it already."""
        self._own.pop(node_id, None)
        self._topics.pop(node_id, None)

    def _taken(self, subject: str, frame: bytes, now_us: int, at: float) -> Arrived | Refused:
        front = read_front(self._keys, subject, frame)
        if isinstance(front, Refused):
            return front
        head, rest = front
        if head.cluster != self._cluster:
            return Refused(RefusedReason.CLUSTER, "a frame of another cluster")
        if not self._is_member(head.node_id):
            return Refused(RefusedReason.NODE, "a frame of no living node")
        hearing = self._hearing_of(head.node_id, subject, at)
        if hearing is None:
            return Refused(RefusedReason.SUBJECTS, f"over {SUBJECTS_PER_NODE_MAX} subjects")
        if hearing.is_old(head.sequence):
            return Refused(RefusedReason.SEQUENCE, f"number {head.sequence} came, or a later one")
        age_us = now_us - head.at_us
        if abs(age_us) > _AGE_US_MAX:
            self._lose(hearing.note(head, 0, at))
            return Refused(RefusedReason.AGE, f"{age_us / 1e6:.0f} s old")
        envelopes = read_envelopes(rest)
        if isinstance(envelopes, Refused):
            self._lose(hearing.note(head, 0, at))
            return envelopes
        gap = hearing.note(head, len(envelopes), at)
        gap = Gap() if self._shares(subject) else self._lose(gap)
        ask = EnvelopeKind.ASK
        late = [one for one in envelopes if one.kind is ask and is_late(head, one, now_us)]
        if late:
            envelopes = [one for one in envelopes if not is_late(head, one, now_us)]
        return Arrived(head, envelopes, late, gap)

    def _lose(self, gap: Gap) -> Gap:
        self.lost_count += gap.envelopes
        return gap

    def _hearing_of(self, node_id: UUID, subject: str, at: float) -> Hearing | None:
        """The numbers of a node's subject; None when there are too many to begin another."""
        if self._hears_all(subject):
            own = self._own.setdefault(node_id, {})
            return own.setdefault(subject, Hearing(from_first=True))
        subjects = self._topics.setdefault(node_id, {})
        found = subjects.pop(subject, None)
        if found is None:
            if len(subjects) >= SUBJECTS_PER_NODE_MAX and not _made_room(subjects, at):
                return None
            found = (Hearing(from_first=False), at)
        # Put last: the first is the one that was silent for longest.
        subjects[subject] = (found[0], at)
        return found[0]


def _made_room(subjects: dict[str, tuple[Hearing, float]], at: float) -> bool:
    """Whether the numbers of a subject could go that no frame that is young enough can repeat."""
    oldest = next(iter(subjects))
    if at - subjects[oldest][1] <= 2 * FRAME_AGE_S_MAX:
        return False
    del subjects[oldest]
    return True


def is_late(head: FrameHead, envelope: Envelope, now_us: int) -> bool:
    """Call this to ask whether nobody waits any more for the answer to an ask."""
    if envelope.kind is not EnvelopeKind.ASK:
        return False
    return now_us > head.at_us + envelope.left_ms * 1000
