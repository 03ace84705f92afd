"""The actor of one saga: an aggregate's actor, and what a bug in the saga's own code comes to.

Rule 1: what a saga decides and what it sends is one append. This file sends nothing.
Rule 2: a bug crashes the actor, which comes back from its log. At the last of `crashes_max`
crashes in a row, or where its supervisor has no restart left for it, the saga is stuck instead;
then the message is taken as a fact, which runs no code of the saga's class, so nothing that came
is lost.
Rule 3: another process may have an actor of the same saga. What means nothing to what this one
knows is looked up before it is ignored: it may answer what the other has sent since.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import trio

from actors.persistence import (
    AggregateActor,
    Appended,
    AppendRequest,
    Done,
    Execute,
    Failed,
    LookAtOutbox,
    OutboxEntry,
    Refusal,
    owned_name,
)
from actors.runtime import Log, current_tallies, note_in_trace
from actors.sagas.deciding.aggregate import SagaLog, is_first, outbox_keys
from actors.sagas.deciding.decisions import IGNORED
from actors.sagas.doing.facts import saga_facts
from actors.sagas.doing.parts import SagaParts
from actors.sagas.words.log import (
    SagaCompleted,
    SagaEvent,
    SagaFailed,
    SagaStarted,
    SagaStuck,
    StepFailed,
    StepStarted,
    StepSucceeded,
    UndoFailed,
    UndoStarted,
    UndoSucceeded,
)
from actors.sagas.words.state import SagaState
from actors.sagas.words.words import Break, SagaId, SagaInput, Wake, short

_log = Log("actors.sagas")


class SagaActor(AggregateActor[SagaState, SagaInput, SagaEvent]):
    """One saga. Start it under `SagaId.key`, below a supervisor; it ends when idle.

    ```python
    sagas = dynamic(SagaActor, key="key", restart="transient", budget="child")
    ```
    """

    def __init__(self, parts: SagaParts, key: str) -> None:
        saga = SagaId.of_key(key)
        super().__init__(
            SagaLog(saga, parts.kinds.versions(saga.kind)),
            saga.name,
            parts.store,
            parts.env,
            shard=parts.shard,
            idle_s=parts.idle_s,
            tenant=saga.tenant,
            topic=parts.topic,
        )
        self._parts, self._saga = parts, saga
        # When what is under way was begun, by its step: for the figures.
        self._began: dict[str, float] = {}
        # When the message in hand came, and what its append has sent that the relay need not read.
        self._came, self._sent = 0.0, list[OutboxEntry]()

    def tell_of_itself(self) -> Mapping[str, object]:
        """What the tree shows of it: `saga_facts`."""
        return saga_facts(self._saga, self.state, self._parts.kinds)

    async def on_execute(self, message: Execute) -> Done | Refusal | Failed:
        """Decide and store, as an aggregate does."""
        # Many are woken at once, each read just then; and one that is woken misses nothing.
        self._is_shared = not isinstance(message.command, Wake)
        self._came = trio.current_time()
        try:
            outcome = await super().on_execute(message)
        except Exception as bug:
            if self._parts.crashed(str(self._saga)) < self._crashes_max():
                raise
            _log.error("saga.own_code_failed", saga=str(self._saga), code=type(bug).__name__)
            reason = short(f"its own code raised {type(bug).__name__}: {bug}")
            self._note(await super().on_execute(Execute(Break(reason))))
            outcome = await super().on_execute(message)
        self._note(outcome)
        return outcome

    def _note_appended(self, request: AppendRequest, appended: Appended) -> None:
        """Keep for the relay what it can send as it is: all that is the first of its key."""
        if not appended.outbox:
            return
        now, tenant = self.env.clock.now(), self._saga.tenant
        self._sent = [
            OutboxEntry(
                number,
                one.message_id,
                one.kind,
                one.target,
                owned_name(tenant, one.key),
                one.payload,
                one.headers,
                0,
                now,
            )
            for number, one in zip(appended.outbox, request.outbox, strict=True)
            if is_first(one)
        ]

    def _crashes_max(self) -> int:
        """So many crashes in a row, or one more than its supervisor has restarts for it.

        That one would end the supervisor, and with it all sagas below it.
        """
        window = self.system.stats(self.ref).restart_window
        most = self._parts.crashes_max
        return most if window is None else min(most, window.max + 1)

    def _note_time(self, event: object, kind: str) -> None:
        """How long an attempt took, from its command to what came of it; none over a restart."""
        match event:
            case StepStarted() | UndoStarted():
                self._began[event.step] = trio.current_time()
            case StepSucceeded() | StepFailed() | UndoSucceeded() | UndoFailed():
                began = self._began.pop(event.step, None)
                if began is not None:
                    took = current_tallies().histogram("saga_step_seconds", kind, event.step)
                    note_in_trace(took, trio.current_time() - began)

    def _note(self, outcome: Done | Refusal | Failed) -> None:
        if isinstance(outcome, Failed):
            return
        if self._parts.crashes:
            self._parts.crashes.pop(str(self._saga), None)
        if not isinstance(outcome, Done):
            return
        stats = self._parts.stats
        tallies, kind = current_tallies(), self._saga.kind
        if outcome.value == IGNORED:
            stats.ignored += 1
            tallies.add("saga_stale_tokens_total", kind)
        for event in outcome.events:
            self._note_time(event, kind)
            match event:
                case SagaStarted():
                    stats.started += 1
                    tallies.add("saga_started_total", kind)
                case SagaCompleted():
                    stats.completed += 1
                    tallies.add("saga_finished_total", kind, "completed")
                case SagaFailed():
                    stats.failed += 1
                    tallies.add("saga_finished_total", kind, "failed")
                case UndoSucceeded():
                    tallies.add("saga_compensations_total", kind, event.step)
                case SagaStuck():
                    stats.stuck += 1
                    _log.error("saga.stuck", saga=str(self._saga), step=event.step)
                case StepFailed() | UndoFailed() if event.retry_at is not None:
                    # Sooner than the timers' next look may be.
                    self._parts.look_for_timers()
        events = cast("tuple[SagaEvent, ...]", outcome.events)
        sent, self._sent = tuple(self._sent), []
        known = {one.key for one in sent}
        keys = tuple([key for key in outbox_keys(self._saga, events) if key not in known])
        if keys or sent:
            self._parts.look_at_outbox(LookAtOutbox(keys, sent, self._came))
