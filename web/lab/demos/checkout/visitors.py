"""Which checkouts are whose, and what a visitor may do to them.

Rule 1: a visitor names one of their own by a word made here; whatever else is unknown (LAB-90).
Rule 2: the owner stands in the saga's name as a digest, so a process that was killed knows again
whose it is, and nobody learns who.
Rule 3: what is kept here is only what is shown; the logs say what is true.
Rule 4: a visitor's clock is theirs alone. An hour ahead, what is due by then is told to their own
checkouts; a timer that is told twice changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from actors.cluster import Host
from actors.persistence import (
    AggregateRef,
    DeadLetters,
    DurableTimers,
    EventStore,
    LookAtOutbox,
    OpenTimer,
    Outbox,
    OutboxRelay,
    ProjectionStore,
    StoreError,
    TimerService,
)
from actors.persistence.beside_log.outbox import Send
from actors.persistence.beside_log.timers import LookForTimers
from actors.reducers import Environment
from actors.runtime import Actor, Cell, NoProc, Ref, System, narrow
from actors.sagas import (
    InvalidSagaTransition,
    Outcome,
    SagaEvent,
    SagaId,
    SagaKinds,
    SagaParts,
    Sagas,
    SagaStarted,
    SagaState,
    TakeReply,
    TakeTimer,
    Unavailable,
    UnknownSaga,
    lines,
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
    Serving,
)
from web.lab.demos.checkout.counterparts import Counterparts, Do
from web.lab.demos.checkout.steps import WHOLE_S, Checkout, Choice, Confirmed, Order
from web.lab.sandbox.sandboxes import NotNow
from web.server import BoundedMap

M = TypeVar("M")

# LAB-35.
PER_VISITOR_MAX = 5
# Each costs some twenty appends in all; at one moment they share the relay and one core.
RUNNING_MAX = 100
# Of whom something is shown; of more the one who began one longest ago sees none of theirs.
VISITORS_MAX = 2000
# What a visitor says for whoever carries a step out, where they answer by hand.
ANSWERS = frozenset({"answer", "fail", "stumble"})
OF_A_STEP = ANSWERS | {"timeout"}
ACTIONS = OF_A_STEP | {"confirm", "cancel", "crash"}
# Their clock goes forward by so much; all times of a checkout are shorter.
ADVANCED = timedelta(hours=1)
# More than five checkouts have: a deadline each, and one for each step in flight.
TIMERS_MAX = 100
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
    events: Sequence[tuple[datetime, SagaEvent]] = ()
    # Nothing comes after what is kept.
    is_whole: bool = False


class Checkouts:
    """All checkouts of this process's visitors; it outlives every actor.

    `system` finds the actors, `changed` is called when one looks different; `sending` wraps what
    sends their commands, for who counts them.
    """

    def __init__(
        self,
        ports: CheckoutPorts,
        env: Environment,
        system: Callable[[], System],
        changed: Callable[[], None],
        sending: Callable[[Send], Send] = lambda send: send,
    ) -> None:
        self._ports, self._env, self._system, self._changed = ports, env, system, changed
        self._parts = SagaParts(
            SagaKinds(Checkout),
            ports.store,
            env,
            idle_s=IDLE_S,
            look_at_outbox=self._wake_relay,
            look_for_timers=self._wake_clock,
        )
        self._counterparts = Counterparts(lambda key: self._actor(STEPS, key))
        self.sagas = Sagas(
            self._parts,
            lambda saga: self._actor(SAGAS, saga.key),
            self._counterparts.participants,
            dead_letters=ports.dead_letters,
        )
        self._serving = Serving(ports, env, self.sagas, sending)
        self._host: Host | None = None
        # Another node may show what was changed here: it is told whose it is.
        self.tell_others: Callable[[str], None] = lambda owner: None
        self._own: BoundedMap[str, dict[str, _Kept]] = BoundedMap(VISITORS_MAX)
        # By how many hours somebody's clock is ahead.
        self._ahead_h: BoundedMap[str, int] = BoundedMap(VISITORS_MAX)
        # Who is just beginning one; no longer than its request takes.
        self._beginning: list[str] = []

    def supervisor(self) -> CheckoutsSupervisor:
        """Call this to make what stands above their actors."""
        return CheckoutsSupervisor(
            self._serving,
            self._parts,
            self.told,
            lambda key: self._actor(SAGAS, key),
            self._host is not None,
        )

    def share(self, host: Host) -> None:
        """Call this before anything starts, where several nodes serve: one sends, and one times."""
        self._host, lease = host, host.member.lease
        host.own(
            singletons={
                RELAY: lambda token: self._serving.relay(lease(token)),
                CLOCK: lambda token: self._serving.clock(lease(token)),
            }
        )

    # What a visitor does. Each raises what the store says, and `NotNow` when it is not possible.

    async def start(self, session: UUID, choice: Choice, command_id: str) -> None:
        """Call this to begin one; the oldest that is over makes room.

        The same command begins the same one, also where nobody knows what came of it before.
        """
        owner = owner_of(session)
        word = hashlib.sha256(command_id.encode()).hexdigest()[:8]
        own = await self._find(owner)
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

    async def act(self, session: UUID, word: str, action: str, step: str = "") -> None:
        """Call this to do one of `ACTIONS` to one of theirs; `LookupError` for any other.

        `step` is the one in flight that is meant, where it is one.
        """
        saga = (await self.of(session))[word]
        try:
            match action:
                case "confirm":
                    await self.sagas.signal(saga, Confirmed(), key="confirm")
                case "cancel":
                    await self.sagas.cancel(saga, "its visitor", "its visitor pressed Cancel")
                case "crash":
                    self._crash(saga)
                case "timeout":
                    await self._time_out(saga, step)
                case _:
                    await self._answer(saga, step, action)
        except (InvalidSagaTransition, UnknownSaga) as error:
            raise NotNow from error

    async def advance(self, session: UUID) -> None:
        """Call this to set a visitor's clock forward: what is due by then is due, in its order."""
        owner = owner_of(session)
        by, due = self._env.clock.now() + ADVANCED, list[tuple[OpenTimer, SagaId]]()
        for kept in (await self._find(owner)).values():
            if not kept.state.is_over:
                due += [(timer, kept.saga) for timer in await self._timers_of(kept.saga, by)]
        for timer, saga in sorted(due, key=lambda one: one[0].due_at):
            await self._fire(saga, timer)
        # Cut before, the next time tells the rest.
        self._ahead_h.put(owner, self.ahead_h(session) + 1)
        self._changed()

    def ahead_h(self, session: UUID) -> int:
        """Call this for how many hours a visitor's clock is ahead."""
        return self._ahead_h.get(owner_of(session)) or 0

    async def of(self, session: UUID) -> Mapping[str, SagaId]:
        """Call this for the checkouts of a visitor, by the words they are named."""
        return {word: kept.saga for word, kept in (await self._find(owner_of(session))).items()}

    async def facts(self, session: UUID) -> list[dict[str, object]]:
        """Call this for a visitor's checkouts as they are shown, oldest first.

        `saga_facts`, their actors and their events. Reads the log of each that is not over: another
        process may have gone on with it. A store that is away is no error: what was known last is
        told.
        """
        owner = owner_of(session)
        own: Mapping[str, _Kept] = self._own.get(owner) or {}
        with suppress(StoreError):
            own = await self._find(owner)
            for kept in list(own.values()):
                if not kept.is_whole:
                    await self._read(kept)
        began = datetime.max.replace(tzinfo=UTC)
        shown = sorted(own.items(), key=lambda one: one[1].state.started_at or began)
        return [self._facts(word, kept) for word, kept in shown]

    def told(self, saga: SagaId, state: SagaState) -> None:
        """Called by an actor of ours behind each append."""
        owner, _, word = saga.name.rpartition("-")
        own = self._own_of(owner)
        kept = own.setdefault(word, _Kept(saga, state))
        kept.state, kept.is_whole = state, False
        for other in list(own):
            if len(own) > PER_VISITOR_MAX and own[other].state.is_over:
                del own[other]
        self._changed()
        self.tell_others(owner)

    def changed_elsewhere(self, owner: str) -> None:
        """Call this when another node says that something of a visitor's is another than before."""
        if owner in self._own:
            self._changed()

    def _own_of(self, owner: str) -> dict[str, _Kept]:
        own = self._own.get(owner)
        if own is None:
            own = {}
            self._own.put(owner, own)
        return own

    async def _find(self, owner: str) -> Mapping[str, _Kept]:
        """A visitor's checkouts, those among them that were begun by another process."""
        known = self._own.get(owner) or {}
        found = lines(self._ports.index, kind=Checkout.kind, named=f"{owner}-", is_over=False)
        async with aclosing(found) as open_lines:
            unknown = [
                saga
                async for line in open_lines
                if (saga := SagaId.parse(line.saga)).name.rpartition("-")[2] not in known
            ]
        for saga in unknown:
            kept = _Kept(saga, SagaState())
            if await self._read(kept):
                self._own_of(owner).setdefault(saga.name.rpartition("-")[2], kept)
        return self._own.get(owner) or {}

    async def _read(self, kept: _Kept) -> bool:
        try:
            history = await self.sagas.history(kept.saga)
        except UnknownSaga:
            return False
        kept.state, kept.events = history.state, history.events
        kept.is_whole = history.state.is_over
        return True

    # What a visitor says for others, and when it is

    async def _answer(self, saga: SagaId, step: str, action: str) -> None:
        state = await self.sagas.query(saga)
        token = _in_flight(state, step)
        if state.data.get("choice") != "hand" or step == "confirm":
            raise NotNow
        outcome: Outcome = Unavailable("it was away for a moment")
        if action != "stumble":
            refusal = "" if action == "answer" else "its visitor refused it"
            outcome = await self._counterparts.carry_out(saga, step, Do(refusal))
        await self.sagas.tell(saga, TakeReply(step, token, outcome))

    async def _time_out(self, saga: SagaId, step: str) -> None:
        token = _in_flight(await self.sagas.query(saga), step)
        for timer in await self._timers_of(saga):
            if timer.token == token:
                await self._fire(saga, timer)

    async def _timers_of(self, saga: SagaId, by: datetime | None = None) -> Sequence[OpenTimer]:
        return await self._ports.timers.open_timers(address=str(saga), due_by=by, limit=TIMERS_MAX)

    async def _fire(self, saga: SagaId, timer: OpenTimer) -> None:
        # As the timers' own service does: told, then closed. One that it tells too is known.
        await self.sagas.tell(saga, TakeTimer(timer.name, timer.token))
        await self._ports.timers.close(timer.timer_id)

    def _facts(self, word: str, kept: _Kept) -> dict[str, object]:
        facts = dict(saga_facts(kept.saga, kept.state, self._parts.kinds))
        # Its own name tells the digest of who has it.
        del facts["saga"], facts["below"], facts["parent"]
        cell = self._cell(kept.saga)
        actor = None if cell is None else {"status": cell.status, "incarnation": cell.incarnation}
        choice, events = kept.state.data.get("choice"), [_event(*one) for one in kept.events]
        return {"id": word, "choice": choice, **facts, "actor": actor, "events": events}

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

    def _wake_relay(self, look: LookAtOutbox) -> None:
        ref = self._serving_here(RELAY, OutboxRelay)
        if ref is not None:
            ref.tell(look)

    def _wake_clock(self) -> None:
        ref = self._serving_here(CLOCK, TimerService)
        if ref is not None:
            ref.tell(LookForTimers())

    def _serving_here(self, name: str, kind: type[Actor[M]]) -> Ref[M] | None:
        """Who serves all, None where another node has that: it hears of each append by itself."""
        if self._host is None:
            return self._system().whereis(name, kind)
        found = self._host.residents.get(("", name))
        return None if found is None else narrow(found, kind)


def owner_of(session: UUID) -> str:
    """Call this for how a browser session is named in the names of its checkouts."""
    return hashlib.sha256(session.bytes).hexdigest()[:20]


def _in_flight(state: SagaState, step: str) -> str:
    """The token of a step that somebody has in hand; `NotNow` where nobody has."""
    if state.step(step).phase != "started":
        raise NotNow
    return state.step(step).token


def _event(at: datetime, event: SagaEvent) -> dict[str, object]:
    """An event as it is told: what, of which step, why. Tokens are nobody's matter."""
    told = {name: getattr(event, name, None) for name in ("step", "attempt", "kind", "reason")}
    if isinstance(event, SagaStarted):
        told["kind"] = None  # its class's, which is known
    named = {name: value for name, value in told.items() if value not in (None, "")}
    return {"at": at.isoformat(), "event": type(event).__name__, **named}
