"""A saga under test: its real decisions and its real log, with a clock that a test moves.

No actor, no store, no waiting: what its appends would have sent and set is kept here, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Generic, Self, TypeVar

import msgspec

from actors.persistence import (
    EVENTS,
    CancelTimer,
    Cursor,
    Refusal,
    Reply,
    SetTimer,
    StoredEvent,
)
from actors.reducers import Environment
from actors.sagas import (
    Cancel,
    ChildStuck,
    Intervene,
    Outcome,
    Refused,
    Saga,
    SagaCommand,
    SagaEvent,
    SagaId,
    SagaInput,
    SagaKinds,
    SagaLog,
    SagaState,
    Start,
    Status,
    Succeeded,
    TakeReply,
    TakeSignal,
    TakeTimer,
    Unavailable,
    Wake,
    read_command,
)
from actors.sagas.words.words import COMMANDS, plain, target_of
from actors.testing.cases.fixed import FixedClock, FixedIds
from actors.testing.cases.telling import Unfinished

D = TypeVar("D")

# A saga of 64 steps that fails everywhere makes fewer appends.
ROUNDS_MAX = 1000


class SagaTest(Generic[D]):
    """A story of one saga.

    ```python
    (
        SagaTest(Checkout)
        .start(Order("o-1", 500))
        .expect_command(PlaceOrder).reply(OrderPlaced("o-1"))
        .expect_command(ProcessPayment).refuse("no money")
        .expect_undo("place").reply()
        .expect_status("failed")
    )
    ```

    Every step that is not as expected is an `AssertionError` that says what was there. With
    `crash_after(n)` the saga is made again from its log behind the n-th append from then on, and
    what caused that append comes once more, as it would after a crash; a saga that is over before
    it fails the case, as does one that the test leaves before it. `log` has the events, `env` the
    clock.
    """

    def __init__(self, kind: type[Saga[D]], *, name: str = "1") -> None:
        definition = kind.definition()
        self.saga = SagaId.of(definition.kind, name)
        self._kinds = SagaKinds(kind)
        self._clock = FixedClock()
        self.env = Environment(self._clock, FixedIds())
        self.log: list[StoredEvent] = []
        self.appends = 0
        self.sent: list[SagaCommand] = []
        self.letters: list[Mapping[str, object]] = []
        self.answers: list[Mapping[str, object]] = []
        self._waiting: list[SagaCommand] = []
        self._timers: dict[tuple[str, str], SetTimer] = {}
        self._fired: list[str] = []
        self._crash_at: int | None = None
        self._crash: Unfinished | None = None
        self._last: SagaCommand | None = None
        self.answer: object = None
        self._saga_log, self._state = self._loaded()

    # What happens to it

    def start(self, data: D) -> Self:
        """Call this first; TypeError for data of another class than the saga's."""
        wanted = self._kinds.latest(self.saga.kind).data_type
        if not isinstance(data, wanted):
            raise TypeError(f"{self.saga.kind} begins with a {wanted.__name__}, not {data!r}")
        return self.tell(Start(plain(data)))

    def reply(self, result: object = None) -> Self:
        """Call this to say that the last command was done; an outcome is taken as it is."""
        is_outcome = isinstance(result, Succeeded | Refused | Unavailable | ChildStuck)
        outcome: Outcome = result if is_outcome else Succeeded(result)  # type: ignore[assignment]
        return self.reply_to(self.last, outcome)

    def refuse(self, reason: str = "no") -> Self:
        """Call this to say that the command expected last will never be done."""
        return self.reply_to(self.last, Refused(reason))

    def unavailable(self, reason: str = "busy") -> Self:
        """Call this to say that the command expected last could not be done now."""
        return self.reply_to(self.last, Unavailable(reason))

    def reply_to(self, command: SagaCommand, outcome: Outcome) -> Self:
        """Call this to answer any command, one of before too."""
        if isinstance(outcome, Succeeded):
            outcome = Succeeded(plain(outcome.result))
        return self.tell(TakeReply(command.step, command.token, outcome))

    def advance(self, seconds: float) -> Self:
        """Call this to let time pass; each timer that is due comes at its time, and once.

        ValueError for less than no time: what was due has happened.
        """
        if not seconds >= 0:
            raise ValueError(f"{seconds!r} seconds cannot pass; give 0 or more")
        end = self._clock.now() + timedelta(seconds=seconds)
        for _ in range(ROUNDS_MAX):
            due = sorted(
                (one for one in self._timers.values() if one.due_at <= end),
                key=lambda one: (one.due_at, one.name),
            )
            if not due:
                break
            timer = due[0]
            self._clock.set(max(self._clock.now(), timer.due_at))
            self._timers.pop((timer.name, timer.token), None)
            self._fired.append(timer.name)
            self.tell(TakeTimer(timer.name, timer.token))
        self._clock.set(end)
        return self

    def cancel(self, reason: str = "changed my mind", by: str = "owner") -> Self:
        """Call this as the saga's owner."""
        return self.tell(Cancel(by, reason))

    def signal(self, message: object, key: str = "") -> Self:
        """Call this with what a step may wait for."""
        return self.tell(TakeSignal(type(message).__name__, plain(message), key))

    def intervene(self, told: Intervene) -> Self:
        """Call this as an administrator."""
        return self.tell(told)

    def crash_after(self, appends: int) -> Self:
        """Call this to have it crash behind the n-th append from now on, counted from 1."""
        if appends < 1:
            raise ValueError(f"it cannot crash behind append {appends!r}; they count from 1")
        self.no_crash()
        self._crash_at = self.appends + appends
        self._crash = Unfinished(f"{self.saga} was left before append {self._crash_at}, its crash")
        return self

    def no_crash(self) -> Self:
        """Call this when a crash that was to come need not come any more."""
        if self._crash is not None:
            self._crash.finish()
        self._crash, self._crash_at = None, None
        return self

    def deploy(self, kind: type[Saga[D]]) -> Self:
        """Call this to run it from its log with another class, alone, and to wake it."""
        self._kinds = SagaKinds(kind)
        self._saga_log, self._state = self._loaded()
        return self.tell(Wake())

    def tell(self, told: SagaInput) -> Self:
        """Call this to tell it anything; what it answered or refused stands in `answer`."""
        self._told(told)
        if self._crash_at is not None and self.appends >= self._crash_at:
            # The process died before anybody heard of the append: what came, comes again.
            self.no_crash()
            self._saga_log, self._state = self._loaded()
            self._told(told)
        return self

    # What is expected of it

    @property
    def last(self) -> SagaCommand:
        """The command expected last."""
        assert self._last is not None, "expect a command first"
        return self._last

    @property
    def state(self) -> SagaState:
        """What its log adds up to."""
        return self._state

    @property
    def fired(self) -> Sequence[str]:
        """The names of the timers that came."""
        return self._fired

    def expect_command(self, cls: type) -> Self:
        """Call this for the next command of a class, among those not yet expected."""
        if target_of(cls) is None:
            raise TypeError(
                f"{cls!r} is no command of a saga; mark its class with @command(target)"
            )
        name = COMMANDS.name_of(cls)
        return self._expect(f"command {name}", lambda one: one.name == name and not one.is_undo)

    def expect_child(self, step: str) -> Self:
        """Call this for the beginning of the saga that a step is; `reply` with its results."""
        return self._expect(f"child of {step}", lambda one: one.step == step and not one.is_undo)

    def expect_undo(self, step: str) -> Self:
        """Call this for the undo of a step."""
        return self._expect(f"undo of {step}", lambda one: one.step == step and one.is_undo)

    def expect_nothing(self) -> Self:
        """Call this when no command may be waiting."""
        assert not self._waiting, f"there is {self._told_waiting()}"
        return self

    def expect_status(self, status: str, reason: str = "") -> Self:
        """Call this for where it stands; `reason` must be part of why."""
        state = self._state
        assert state.status == Status(status.lower()), (
            f"{self.saga} is {state.status}, not {status.lower()}; "
            f"reason {state.reason!r}, stuck {state.stuck!r}; there is {self._told_waiting()}"
        )
        found = state.stuck or state.reason
        assert reason in found, f"the reason is {found!r}, without {reason!r}"
        if state.is_over and not state.stuck:
            self.expect_nothing()
            assert self._crash_at is None, (
                f"{self.saga} is over after {self.appends} appends; its crash behind append "
                f"{self._crash_at} never came"
            )
        return self

    def expect_events(self, *names: str) -> Self:
        """Call this for the names of all events of its log, in order."""
        found = [one.type for one in self.log]
        assert found == list(names), f"its log is {', '.join(found)}"
        return self

    def _expect(self, what: str, is_meant: Callable[[SagaCommand], bool]) -> Self:
        for one in self._waiting:
            if is_meant(one):
                self._waiting.remove(one)
                self._last = one
                return self
        raise AssertionError(f"expected a {what}; there is {self._told_waiting()}")

    def _told_waiting(self) -> str:
        if not self._waiting:
            return "no command"
        return ", ".join(
            f"{'undo' if one.is_undo else 'command'} {one.name} of {one.step}"
            for one in self._waiting
        )

    # The log

    def _told(self, told: SagaInput) -> None:
        decision = self._saga_log.decide(self._state, told, self.env)
        self.answer = decision
        if isinstance(decision, Refusal | Reply) or not decision:
            return
        self._append(tuple(decision))

    def _append(self, events: tuple[SagaEvent, ...]) -> None:
        beside = self._saga_log.beside(self._state, events, {})
        self.appends += 1
        for event in events:
            new = EVENTS.encode(event, event_id=self.env.ids.new_id())
            self.log.append(
                StoredEvent(
                    str(self.saga),
                    len(self.log) + 1,
                    Cursor(self.appends, len(self.log) + 1),
                    new.event_id,
                    new.type,
                    new.schema_version,
                    new.codec,
                    new.data,
                    {},
                    None,
                    self._clock.now(),
                )
            )
            self._state = self._saga_log.apply(self._state, event)
        for change in beside.timers:
            if isinstance(change, SetTimer):
                self._timers[change.name, change.token] = change
            elif isinstance(change, CancelTimer):
                for key in [key for key in self._timers if key[0] == change.name]:
                    del self._timers[key]
        for message in beside.outbox:
            if message.target == "$dead_letter":
                self.letters.append(msgspec.json.decode(message.payload))
            elif "saga-step" not in message.headers:
                self.answers.append(msgspec.json.decode(message.payload))
            else:
                found = read_command(message.target, message.payload, message.headers)
                self.sent.append(found)
                self._waiting.append(found)

    def _loaded(self) -> tuple[SagaLog, SagaState]:
        saga_log = SagaLog(self.saga, self._kinds.versions(self.saga.kind))
        state = saga_log.initial()
        for event in self._events():
            state = saga_log.apply(state, event)
        return saga_log, state

    def _events(self) -> Iterator[SagaEvent]:
        for stored in self.log:
            yield EVENTS.decode(stored)  # type: ignore[misc]
