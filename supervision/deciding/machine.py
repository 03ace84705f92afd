"""What both kinds of supervisor decide alike: one child's start, stop, end and next attempt.

A machine has no clock and no tasks. Each public method is something that happened: it takes
`now`, changes slots, goes on with whatever it is in the middle of (`_work_on`), and returns the
moves it came to. `static.py` and `dynamic.py` are the two kinds and tell the story; here stand
their tools, and the five things that each of them does in its own way.

Rule 1: a live child is only ever asked to stop here, so each one has its deadline.
Rule 2: one wake a slot; setting a new one makes the old one void.
Rule 3: a need for a restart is noted in the budget before anything is tried.
Rule 4: what a person has written is called by way of `_of_user`: its errors are the supervisor's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

from actors.runtime import AlreadyStarted as NameTaken
from actors.runtime import Exit, Killed, Shutdown, StopActor
from actors.runtime.words.exits import crash_from
from supervision.deciding.moves import (
    AnswerStart,
    AwaitRestart,
    Crash,
    Decided,
    Finish,
    Kill,
    Move,
    Publish,
    Refuse,
    RefuseEnding,
    Retire,
    Start,
    Stop,
    Unwake,
    Wake,
)
from supervision.deciding.policy import (
    Attempts,
    RestartWindow,
    Verdict,
    is_expected_stop,
    is_restarted_after,
)
from supervision.deciding.slots import LIVE, WAITING, Call, Slot
from supervision.specs.errors import (
    AlreadyStarted,
    IntensityReached,
    Passivated,
    StartFailed,
    source_of,
)
from supervision.specs.specs import DynamicFlags, Flags, without_arguments
from supervision.specs.words import ChildType
from supervision.tree.reports import Offender, Report, ReportContext

F = TypeVar("F", bound=Flags | DynamicFlags)
T = TypeVar("T")

Phase = Literal["starting", "running", "ending", "over"]
Due = Callable[[Slot], None]


class Machine(ABC, Generic[F]):
    """The common half of a supervisor's decisions."""

    def __init__(self, flags: F, path: str, random: Callable[[], float]) -> None:
        self.flags: F = flags
        self.path = path
        self.phase: Phase = "starting"
        self.final: Exit | None = None
        # The supervisor's own budget; dynamic children may have one each instead.
        self.window = RestartWindow()
        self._random = random
        # Of the event that is being answered: its time, and the moves so far.
        self._now = 0.0
        self._out: list[Move] = []
        # What is to be done at each time that was set. The hands know only the token: one that
        # fires although it is void, because it was under way already, finds nothing here.
        self._token = 0
        self._dues: dict[int, tuple[Due, Slot]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.phase}>"

    @property
    def is_ending(self) -> bool:
        """Whether nothing starts any more."""
        return self.phase in ("ending", "over")

    # -- what each kind does in its own way --------------------------------------------------

    @abstractmethod
    def _all_slots(self) -> Sequence[Slot]:
        """All listed children, in start order."""

    @abstractmethod
    def _leave(self, slot: Slot, cause: BaseException | None = None) -> None:
        """No restart follows: retire the child, and take it off the list if it goes for good."""

    @abstractmethod
    def _end_unborn(self, slot: Slot, exit_: Exit) -> None:
        """A child that waited for its restart has ended for good instead."""

    @abstractmethod
    def _end(self, final: Exit, because: str) -> None:
        """Begin to end as `final`, each kind in its own order: nothing starts any more."""

    @abstractmethod
    def _work_on(self) -> None:
        """Go on with an order that is being worked through, until a child has to answer first."""

    # -- what happened, alike for both --------------------------------------------------------

    def started(self, slot: Slot, info: object, now: float) -> list[Move]:
        """A start succeeded."""
        self._now = now
        if slot.call is not None and slot.status in LIVE:
            self._out.append(AnswerStart(slot.call, slot, info))
            slot.call = None
        # It may be asked to stop by now: the stop came while it was starting.
        if slot.status == "starting":
            slot.status = "running"
            slot.is_new = slot.gave_up = False
            slot.because = None
            if slot.spec.restart == "temporary":
                # It is never started again: what it was made of can be let go.
                slot.args, slot.named = (), None
                if slot.id is not None:  # else its spec is the template, which all share
                    slot.spec = without_arguments(slot.spec)
        return self._advanced()

    def made(self, slot: Slot, kind: ChildType) -> None:
        """An instance has been made: what a factory makes is known only now."""
        slot.spec = slot.spec.known_as(kind)

    def due(self, token: int, now: float) -> list[Move]:
        """The time of a `Wake` has come; void tokens do nothing."""
        self._now = now
        found = self._dues.pop(token, None)
        if found is not None:
            todo, slot = found
            slot.wake = None
            todo(slot)
        return self._advanced()

    def unwanted(self, slot: Slot, exit_: Exit, now: float) -> list[Move]:
        """Somebody has stopped or killed a child by its ref while it waited for its restart.

        As if the coming incarnation had ended so at once: where its restart type brings it back
        after such an end the wait goes on, and nothing is counted.
        """
        self._now = now
        if slot.status in WAITING and not is_restarted_after(slot.spec, exit_):
            self._end_unborn(slot, exit_)
        return self._advanced()

    def unkillable(self, slot: Slot, stack: str, now: float) -> list[Move]:
        """A kill, or the end of a start that took too long, has not worked for a second.

        The end is still waited for.
        """
        self._now = now
        if slot.status in LIVE:
            reason = "still alive a second after its kill"
            if slot.status == "starting":
                reason = "still starting a second after its start was cut short"
            slot.status = "unkillable"
            self._report("unkillable", reason, slot, stack=stack)
        return self._taken()

    def abandon(self, now: float, because: str) -> list[Move]:
        """The supervisor is killed: every child is killed, in no order.

        Unlike under OTP, where a killed supervisor leaves its children to notice by their links.
        """
        self._now = now
        if self.phase == "over":
            return self._taken()
        self._end(Killed(because=because), because)
        for slot in self._all_slots():
            if slot.status in LIVE:
                slot.status, slot.after, slot.is_asked = "stopping", "end", True
                self._kill(slot, because)
        return self._advanced()

    def _advanced(self) -> list[Move]:
        """End an event: go on with what is under way, then hand out the moves."""
        self._work_on()
        return self._taken()

    def _taken(self) -> list[Move]:
        out, self._out = self._out, []
        return out

    # -- starting and stopping one child --------------------------------------------------

    def _start(self, slot: Slot, call: Call | None = None, *, is_attempt: bool = False) -> None:
        slot.status = "starting"
        slot.is_asked = False
        slot.has_cell = True
        slot.is_attempt = is_attempt
        # Whoever waits for it; a group that starts a child for somebody hands the call on.
        slot.call = call
        self._out.append(Start(slot))

    def _attempt(self, slot: Slot) -> None:
        """Start a child again, by the supervisor's own decision."""
        # A wait may run out while the supervisor ends and is busy stopping somebody else.
        if not self.is_ending:
            self._start(slot, is_attempt=True)

    def _halt(
        self,
        slot: Slot,
        after: Literal["call", "group", "end", "park"],
        because: str,
        *,
        is_shared: bool = False,
    ) -> None:
        """Ask a live child to stop; when it has ended, `slot.after` says what follows.

        With `is_shared` the deadline is the caller's, one for many children.
        """
        if slot.is_stopping:
            # What was asked for first stands, but an end or a call outranks an idle stop.
            if after == "end" or slot.after == "park":
                slot.after = after
            return
        slot.after, slot.is_asked = after, True
        if slot.status == "unkillable":
            return  # an outsider killed it already: there is nothing harder to ask for
        slot.status = "stopping"
        shutdown = slot.spec.shutdown
        if shutdown == "kill":
            if after != "park":
                self._kill(slot, "shutdown='kill'")
                return
            # An idle child has nothing in hand: there is no hurry to be saved by force.
            shutdown = float("inf")
        info = Passivated() if after == "park" else None
        within = float("inf") if is_shared else shutdown
        self._out.append(Stop(slot, because, within, info))

    def _kill(self, slot: Slot, because: str) -> None:
        self._out.append(Kill(slot, because))

    def _report_stop(self, slot: Slot, exit_: Exit) -> None:
        if not is_expected_stop(slot.spec, exit_):
            self._report("shutdown_error", exit_, slot)

    def _wait_for_end(self, slot: Slot, again: Callable[[], None]) -> None:
        """Look at a call again when the stop of its child, which is under way, is over."""
        slot.queue = [*(slot.queue or ()), again]

    def _serve_queue(self, slot: Slot) -> None:
        # Emptied first: what is looked at again may queue anew, behind a stop of its own.
        queue, slot.queue = slot.queue, None
        for again in queue or ():
            again()

    def _retire(self, slot: Slot, cause: BaseException | None = None) -> None:
        """Let go of a child's cell, and of whoever waits for its start."""
        self._cancel(slot)
        slot.status = "stopped"
        slot.gave_up = False
        if slot.call is not None:  # stopped with its group while it was being started for somebody
            call, slot.call = slot.call, None
            never_up = StopActor(Shutdown(because="terminated before it was up"))
            self._out.append(
                RefuseEnding(call)
                if self.is_ending
                else Refuse(call, StartFailed(never_up, slot.spec, self._path_of(slot)))
            )
        if slot.has_cell:
            slot.has_cell = False
            self._out.append(Retire(slot, cause))

    # -- restarting one child, or giving up ------------------------------------------------

    def _budget_spent(self, slot: Slot, window: RestartWindow) -> str | None:
        """Note the need for a restart; None if there is budget for it, else what ran out.

        OTP counts a failed attempt when it comes to the next one. Here it counts, and may be the
        one too many, as soon as it has failed (docs/explain/supervision.md, "Differences").
        """
        if not window.note(self._now, self.flags.intensity, self.flags.period):
            return "reached_max_restart_intensity"
        if slot.spec.backoff is not None:
            slot.attempts = slot.attempts or Attempts()
            slot.attempts.note(self._now, slot.spec.backoff)
            if slot.attempts.exhausted(slot.spec.backoff):
                return "give_up_after"
        return None

    def _wait_of(self, slot: Slot) -> float | None:
        """The seconds before the next attempt; None without backoff."""
        if slot.spec.backoff is None or slot.attempts is None:
            return None
        backoff, attempts = slot.spec.backoff, slot.attempts
        return self._of_user(lambda: attempts.wait(backoff, self._random), backoff.first)

    def _of_user(self, ask: Callable[[], T], otherwise: T) -> T:
        """Ask what a person has written; if that raises, the supervisor crashes.

        An error class of theirs may have a metaclass, a `Backoff` a `wait`, a supervisor a
        `jitter` of its own. Decisions go on with `otherwise`: what is decided half-way would
        leave a child without a verdict.
        """
        try:
            return ask()
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is its crash
            self._out.append(Crash(crash_from(error).error))
            return otherwise

    def _verdict(self, judged: Callable[[], Verdict]) -> Verdict:
        """What an ending calls for; the classes it is judged by are a person's."""
        return self._of_user(judged, Verdict.LEAVE)

    def _restart_alone(self, slot: Slot, delay: float | None, *, is_crash: bool) -> None:
        """Start one child again after the wait; nobody else is concerned."""
        self._out.append(Decided(slot, "restart", (slot,), delay))
        if delay is not None:
            slot.status = "backing_off"
            self._wake(slot, self._now + delay, self._attempt)
            slot.next_at = self._now + delay
            self._out.append(AwaitRestart(slot, "backing_off", slot.next_at))
            return
        slot.status = "restarting"
        self._out.append(AwaitRestart(slot, "restarting", None))
        if is_crash:
            self._attempt(slot)
        else:
            # By way of a wake even without a wait: between two attempts the mailbox is served,
            # as under OTP, whose supervisor casts `try_again_restart` to itself.
            self._wake(slot, self._now, self._attempt)

    def _give_up(self, slot: Slot, reason: str, ending: Exit | BaseException | None) -> None:
        """A child failed once too often: end, and let the parent decide what to do about it.

        `ending` is how it failed last.
        """
        flags = self.flags
        path, cause = source_of(self._path_of(slot), ending)
        info = IntensityReached(
            slot.id,
            flags.intensity,
            flags.period,
            reason,
            cause,
            path,
            self._failures(slot, reason),
            gave_up_with(ending),
        )
        self._report("shutdown", reason, slot, ending=ending)
        self._out.append(Decided(slot, "give_up", tuple(self._all_slots()), None))
        self._leave(slot)
        self._end(Shutdown(info), f"{reason}: {slot.id or 'a child failed'}")

    def _failures(self, slot: Slot, reason: str) -> int:
        """How often it failed before it was given up: in the period, or in a row."""
        if reason == "give_up_after" and slot.attempts is not None:
            return slot.attempts.count
        window = self.window if slot.window is None else slot.window
        return window.used(self._now, self.flags.period)

    # -- times ------------------------------------------------------------------------------

    def _wake(self, slot: Slot, at: float, todo: Due) -> None:
        self._cancel(slot)
        self._token += 1
        slot.wake = self._token
        self._dues[self._token] = (todo, slot)
        self._out.append(Wake(at, self._token))

    def _wake_now(self, slot: Slot) -> None:
        """End the wait of a slot before its time."""
        if slot.wake is not None:
            todo, _ = self._dues.pop(slot.wake)
            self._out.append(Unwake(slot.wake))
            slot.wake = None
            todo(slot)

    def _cancel(self, slot: Slot) -> None:
        if slot.wake is not None:
            del self._dues[slot.wake]
            self._out.append(Unwake(slot.wake))
            slot.wake = None
        slot.next_at = None

    # -- answers and reports -----------------------------------------------------------------

    def _refuse_start(self, slot: Slot, call: Call, error: BaseException, spec: object) -> None:
        """Tell the caller why nothing runs: a taken name is not a failure of the child."""
        if isinstance(error, NameTaken):
            self._out.append(Refuse(call, AlreadyStarted(error.ref)))
        else:
            self._out.append(Refuse(call, StartFailed(error, spec, self._path_of(slot))))

    def _is_closed_to(self, call: Call) -> bool:
        """Refuse a change while the supervisor ends: nobody will carry it out."""
        if self.is_ending:
            self._out.append(RefuseEnding(call))
            return True
        return False

    def _finish(self) -> None:
        self.phase = "over"
        self._out.append(Finish(self.final if self.final is not None else Shutdown()))

    def _path_of(self, slot: Slot) -> str:
        cell = slot.cell
        return f"{self.path}/{slot.id or slot.key or '?'}" if cell is None else cell.path

    def _report(
        self,
        context: ReportContext,
        reason: object,
        slot: Slot,
        *,
        stack: str | None = None,
        ending: Exit | BaseException | None = None,
        is_quiet: bool = False,
    ) -> None:
        spec, cell, path = slot.spec, slot.cell, self._path_of(slot)
        offender = Offender(
            id=slot.id,
            path=path,
            incarnation=0 if cell is None else cell.incarnation,
            restart=spec.restart,
            shutdown=spec.shutdown,
            type=spec.type,
        )
        if ending is None and isinstance(reason, BaseException | Exit):
            ending = reason
        source, cause = source_of(path, ending)
        report = Report(
            self.path,
            context,
            reason,
            offender,
            self._now,
            stack=stack,
            source=source,
            cause=cause,
        )
        self._out.append(Publish(report, is_quiet))


def gave_up_with(ending: Exit | BaseException | None) -> IntensityReached | None:
    """Call this for what a supervisor said that gave up; None for any other ending."""
    if isinstance(ending, StopActor):
        ending = ending.exit
    if isinstance(ending, Shutdown) and isinstance(ending.info, IntensityReached):
        return ending.info
    return None
