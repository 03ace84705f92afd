"""What decisions may lean on from outside: time and ids, passed in, never called for.

No file below `actors/` reads the wall clock or makes random ids. The composition root
builds an environment with real ones, a test one with fixed ones.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """Tells the time of day."""

    def now(self) -> datetime:
        """Call this to get the present moment, aware, in UTC."""
        ...


class Ids(Protocol):
    """Makes ids for new things."""

    def new_id(self) -> UUID:
        """Call this to get a fresh UUIDv7; later ones sort behind earlier ones."""
        ...


@dataclass(frozen=True, slots=True)
class Environment:
    """What every actor of the domain is handed; a feature's own environment adds its ports."""

    clock: Clock
    ids: Ids
