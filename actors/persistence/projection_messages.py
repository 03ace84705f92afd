"""What a projection's runner can be asked and told."""

from dataclasses import dataclass

from actors.persistence.projections import Checkpoint
from actors.persistence.words import Lag
from actors.runtime import Ask, message


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How a runner is: where, how far behind, how fast, and what it set aside."""

    checkpoint: Checkpoint
    lag: Lag
    applied: int
    parked_streams: int
    rate: float
    eta_s: float | None
    progress: float


@message
class AskStatus(Ask[ProjectionStatus]):
    """Asks a runner how it is."""


@message
class Resume:
    """Tells a halted runner to try again, after a fix."""


@message
class ReplayParked(Ask[int]):
    """Asks to apply what was parked of a stream, in order; answers how many were applied."""

    stream_id: str
