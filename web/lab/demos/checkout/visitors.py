"""Which checkouts are whose, and what a visitor may do to them.

Rule 1: a visitor names one of their own by a word made here; whatever else is unknown (LAB-90).
Rule 2: the owner stands in the saga's name as a digest, so a process that was killed knows again
whose it is, and nobody learns who.
Rule 3: what is kept here is only what is shown; the logs say what is true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from actors.persistence import (
    AggregateRef,
    DeadLetters,
    DurableTimers,
    EventStore,
    LookAtOutbox,
    Outbox,
    OutboxRelay,
    ProjectionStore,
    StoreError,
    TimerService,
)
from actors.persistence.beside_log.timers import LookForTimers
from actors.reducers import Environment
from actors.runtime import Cell, NoProc, System
from actors.sagas import (
    InvalidSagaTransition,
    SagaId,
    SagaKinds,
    SagaParts,
    Sagas,
    SagaState,
    UnknownSaga,
    saga_facts,
)
from supervision import Dynamic, handle_of
from web.lab.demos.checkout.actor import (
    CLOCK,
    IDLE_S,
    RELAY,
    SAGAS,
    STEPS,
    CheckoutsSupervisor,
)
from web.lab.demos.checkout.counterparts import Counterparts
from web.lab.demos.checkout.steps import WHOLE_S, Checkout, Choice, Confirmed, Order
from web.lab.sandbox.sandboxes import NotNow
from web.server import BoundedMap

# LAB-35.
PER_VISITOR_MAX = 5
# Each costs some twenty appends in all; at one moment they share the relay and one core.
RUNNING_MAX = 100
# Of whom something is shown; of more the one who began one longest ago sees none of theirs.
VISITORS_MAX = 2000
ACTIONS = frozenset({"confirm", "cancel", "crash"})
_RUNS_S_MAX = timedelta(seconds=2 * WHOLE_S)


@dataclass(frozen=True, slots=True)
class CheckoutPorts:
    """What of a store checkouts need; the store keeps the index of sagas within its appends."""

    store: EventStore
    outbox: Outbox
    timers: DurableTimers
    dead_letters: DeadLetters
    index: ProjectionStore


@dataclass(slots=True)
class _Kept:
    saga: SagaId
    state: SagaState


class Checkouts:
    """All checkouts of this process's visitors; it outlives every actor.

    `system` finds the actors, `changed` is called when one looks different.
    """

    def __init__(
        self,
        ports: CheckoutPorts,
        env: Environment,
        system: Callable[[], System],
        changed: Callable[[], None],
    ) -> None:
        self._ports, self._env, self._system, self._changed = ports, env, system, changed
        self._parts = SagaParts(
            SagaKinds(Checkout),
            ports.store,
            env,
            idle_s=IDLE_S,
            look_at_outbox=lambda _: self._wake_relay(),
            look_for_timers=self._wake_clock,
        )
        counterparts = Counterparts(lambda key: self._actor(STEPS, key))
        self.sagas = Sagas(
            self._parts,
            lambda saga: self._actor(SAGAS, saga.key),
            counterparts.participants,
            dead_letters=ports.dead_letters,
        )
        self._own: BoundedMap[str, dict[str, _Kept]] = BoundedMap(VISITORS_MAX)
        # Who is just beginning one; no longer than its request takes.
        self._beginning: list[str] = []

    def supervisor(self) -> CheckoutsSupervisor:
        """Call this to make what stands above their actors."""
        return CheckoutsSupervisor(
            self._ports,
            self._env,
            self._parts,
            self.sagas,
            self.told,
            lambda key: self._actor(SAGAS, key),
        )

    # What a visitor does. Each raises what the store says, and `NotNow` when it is not possible.

    async def start(self, session: UUID, choice: Choice, command_id: str) -> None:
        """Call this to begin one; the oldest that is over makes room.

        The same command begins the same one, also where nobody knows what came of it before.
        """
        owner = owner_of(session)
        word = hashlib.sha256(command_id.encode()).hexdigest()[:8]
        own = self._own.get(owner) or {}
        if word in own:
            return
        running = sum(not one.state.is_over for one in own.values())
        if running + self._beginning.count(owner) >= PER_VISITOR_MAX:
            raise NotNow
        if self._running() + len(self._beginning) >= RUNNING_MAX:
            raise NotNow
        self._beginning.append(owner)
        try:
            await self.sagas.start(Checkout, Order(choice), name=f"{owner}-{word}")
        finally:
            self._beginning.remove(owner)

    async def act(self, session: UUID, word: str, action: str) -> None:
        """Call this to confirm, cancel or crash one of theirs; `LookupError` for any other."""
        kept = self.of(session)[word]
        try:
            match action:
                case "confirm":
                    await self.sagas.signal(kept, Confirmed(), key="confirm")
                case "cancel":
                    await self.sagas.cancel(kept, "its visitor", "its visitor pressed Cancel")
                case _:
                    self._crash(kept)
        except (InvalidSagaTransition, UnknownSaga) as error:
            raise NotNow from error

    def of(self, session: UUID) -> Mapping[str, SagaId]:
        """Call this for the checkouts of a visitor, oldest first, by the words they are named."""
        own = self._own.get(owner_of(session)) or {}
        return {word: kept.saga for word, kept in own.items()}

    async def facts(self, session: UUID) -> list[dict[str, object]]:
        """Call this for a visitor's checkouts as they are shown: `saga_facts`, and their actors.

        Reads the log of each that is not over: another process may have gone on with it. A store
        that is away is no error: what was known last is told.
        """
        own = self._own.get(owner_of(session)) or {}
        for kept in list(own.values()):
            if not kept.state.is_over:
                with suppress(StoreError, UnknownSaga):
                    kept.state = await self.sagas.query(kept.saga)
        return [self._facts(word, kept) for word, kept in own.items()]

    def told(self, saga: SagaId, state: SagaState) -> None:
        """Called by an actor of ours behind each append."""
        owner, _, word = saga.name.rpartition("-")
        own = self._own.get(owner)
        if own is None:
            own = {}
            self._own.put(owner, own)
        own[word] = _Kept(saga, state)
        for other in list(own):
            if len(own) > PER_VISITOR_MAX and own[other].state.is_over:
                del own[other]
        self._changed()

    def _facts(self, word: str, kept: _Kept) -> dict[str, object]:
        facts = dict(saga_facts(kept.saga, kept.state, self._parts.kinds))
        # Its own name tells the digest of who has it.
        del facts["saga"], facts["below"], facts["parent"]
        cell = self._cell(kept.saga)
        actor = None if cell is None else {"status": cell.status, "incarnation": cell.incarnation}
        return {"id": word, "choice": kept.state.data.get("choice"), **facts, "actor": actor}

    def _running(self) -> int:
        after = self._env.clock.now() - _RUNS_S_MAX
        return sum(
            not one.state.is_over
            and one.state.started_at is not None
            and one.state.started_at > after
            for owner in self._own
            for one in (self._own.get(owner) or {}).values()
        )

    # Its actors

    def _actor(self, place: str, key: str) -> AggregateRef:
        ref = self._system().whereis(place, Dynamic)
        if ref is None:
            raise NoProc(place)
        found: AggregateRef = handle_of(Dynamic, ref)[key]
        return found

    def _cell(self, saga: SagaId) -> Cell | None:
        above = self._system().whereis(SAGAS, Dynamic)
        return None if above is None else self._system().at(f"{above.path}/{saga.key}")

    def _crash(self, saga: SagaId) -> None:
        cell = self._cell(saga)
        if cell is None or cell.status != "running":
            raise NotNow
        cell.ref.kill()

    def _wake_relay(self) -> None:
        ref = self._system().whereis(RELAY, OutboxRelay)
        if ref is not None:
            ref.tell(LookAtOutbox())

    def _wake_clock(self) -> None:
        ref = self._system().whereis(CLOCK, TimerService)
        if ref is not None:
            ref.tell(LookForTimers())


def owner_of(session: UUID) -> str:
    """Call this for how a browser session is named in the names of its checkouts."""
    return hashlib.sha256(session.bytes).hexdigest()[:20]
