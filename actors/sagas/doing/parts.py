"""What all saga actors of a process share: the kinds, the store, counts, and the crashes so far.

It outlives each of them, so that a saga that crashes its actor again and again is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from actors.persistence import EventStore, LookAtOutbox, Shard
from actors.persistence.aggregate_actor import IDLE_S
from actors.reducers import Environment
from actors.sagas.definition import AnySaga, Definition, Saga
from actors.sagas.words.errors import SagaDefinitionError, UnknownSagaKind

# After so many crashes of its actor at one message a saga is stuck; after fewer where a supervisor
# allows fewer restarts (`budget="child"`, so that no other's crashes count).
CRASHES_MAX = 3


class SagaKinds:
    """The sagas that a program knows: classes by kind and version, with those nested in them."""

    def __init__(self, *kinds: type[AnySaga]) -> None:
        self._versions: dict[str, dict[int, Definition]] = {}
        for kind in kinds:
            given: object = kind
            if not (isinstance(given, type) and issubclass(given, Saga) and given is not Saga):
                raise TypeError(f"{given!r} is no saga; give classes such as Checkout(Saga[Order])")
            self._add(kind.definition())

    def __iter__(self) -> Iterator[Definition]:
        return (one for versions in self._versions.values() for one in versions.values())

    def _add(self, found: Definition) -> None:
        versions = self._versions.setdefault(found.kind, {})
        other = versions.setdefault(found.version, found)
        if other is not found:
            why = f"{found.kind} v{found.version} is also at {other.where}; give it a new version"
            raise SagaDefinitionError(found.where, why)
        for one in found.steps:
            if one.child is not None:
                self._add(one.child.definition())

    def versions(self, kind: str) -> Mapping[int, Definition]:
        """Call this for all versions of a kind; raises `UnknownSagaKind`."""
        if kind not in self._versions:
            raise UnknownSagaKind(kind)
        return self._versions[kind]

    def latest(self, kind: str) -> Definition:
        """Call this for what a new saga of a kind goes by; raises `UnknownSagaKind`."""
        versions = self.versions(kind)
        return versions[max(versions)]

    def knows(self, kind: str, version: int, fingerprint: str) -> bool:
        """Call this to ask whether a saga with these steps can go on, maybe after a migration."""
        versions = self._versions.get(kind)
        if versions is None:
            return False
        own = versions.get(version)
        is_kept = own is not None and own.fingerprint == fingerprint
        return is_kept or self.latest(kind).migrate is not None


@dataclass
class SagaStats:
    """What became of sagas in this process, in whole numbers that only grow."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    stuck: int = 0
    ignored: int = 0  # replies and timers of another attempt
    expired: int = 0  # commands whose step had timed out before they could be sent
    crashed: int = 0


@dataclass
class SagaParts:
    """What a `SagaActor` is made with.

    `look_at_outbox` and `look_for_timers` are called behind each append that needs it, and must
    not wait: without them a command leaves with the relay's next look (a quarter of a second). The
    first is given what the relay is to be told. `topic` is as an `AggregateActor`'s.
    """

    kinds: SagaKinds
    store: EventStore
    env: Environment
    shard: Shard | None = None
    idle_s: float = IDLE_S
    crashes_max: int = CRASHES_MAX
    look_at_outbox: Callable[[LookAtOutbox], None] = lambda _: None
    look_for_timers: Callable[[], None] = lambda: None
    topic: str | None = None
    stats: SagaStats = field(default_factory=SagaStats)
    crashes: dict[str, int] = field(default_factory=dict)

    def log_of(self, tenant: str | None) -> EventStore:
        """Call this for the store in which a tenant's sagas have their logs."""
        return self.store if tenant is None else self.store.for_tenant(tenant)

    def crashed(self, saga: str) -> int:
        """Call this when a saga's code failed, for how often it did so in a row."""
        self.stats.crashed += 1
        self.crashes[saga] = self.crashes.get(saga, 0) + 1
        return self.crashes[saga]
