"""One running system: its names, its clock, its dispatcher, and where everything is counted.

`opening.py` opens one. Actors are made here (`new_cell`) and started by their owners; what can be
asked of them while they run is passed on to the files of `watching/`.
"""

from __future__ import annotations

import math
import secrets
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from random import Random, SystemRandom
from threading import get_ident
from time import perf_counter
from typing import Final, ParamSpec, Protocol, TypeVar, TypeVarTuple, cast, overload

import trio

from actors.runtime.delivery.clock import Wheel
from actors.runtime.delivery.dispatcher import Dispatcher, Turning
from actors.runtime.delivery.envelope import Envelope
from actors.runtime.delivery.ref import ASK_TIMEOUT_S, STOP_TIMEOUT_S, AnyRef, EndOf, Ref
from actors.runtime.life import lifecycle
from actors.runtime.life.cell import SHUTDOWN_S, Cell, Owner, cell_of
from actors.runtime.life.hooks import AnyHooks, Hooks
from actors.runtime.life.resting import Sweep
from actors.runtime.system.making import Maker, maker_of
from actors.runtime.system.reaching import Portal, ask_all, tell_all
from actors.runtime.system.topics import Topics
from actors.runtime.telling.spans import Spans, ticks_of
from actors.runtime.watching import inspection
from actors.runtime.watching.changes import Changes, ChangesLog
from actors.runtime.watching.dead_letters import DeadLetters
from actors.runtime.watching.reports import Reports
from actors.runtime.watching.stats import (
    ActorStats,
    ActorStatus,
    SystemStats,
    actor_stats,
    actor_status,
    set_level,
)
from actors.runtime.watching.watchdog import BlockListener
from actors.runtime.words.counting import COUNTERS, KindSums, Level, Totals, check_level
from actors.runtime.words.errors import ActorError, NoProc
from actors.runtime.words.exits import Exit
from actors.runtime.words.messages import Ask
from actors.runtime.words.tallies import LABEL_SETS_MAX, OTHER, Tallies

M = TypeVar("M")
R = TypeVar("R")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

# A name stands in a table cell and in a path of several.
NAME_LENGTH_MAX: Final = 200
# Control characters, halves of surrogate pairs, and what breaks a line.
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})

# A program has as many classes of actors as its author wrote; a test that makes them has more.
KINDS_MAX = LABEL_SETS_MAX
# So many are read in half a millisecond; then it is somebody else's turn (OBS-2).
KINDS_SLICE = 256


class AlreadyStarted(ActorError):
    """The name is taken; its holder, `ref`, was not touched and nothing was started."""

    def __init__(self, ref: AnyRef) -> None:
        super().__init__(f"{ref.path} is already running under that name; nothing was started.")
        self.ref = ref


class WrongActor(ActorError):
    """The actor that was found, `ref`, is not of the class that was asked for.

    `found` is its class; None when it has not been made yet, and nobody knows.
    """

    def __init__(self, ref: AnyRef, wanted: type[AnyHooks], found: type[AnyHooks] | None) -> None:
        what = "not made yet" if found is None else f"of class {found.__qualname__}"
        super().__init__(f"{ref.path} is {what}; asked for was {wanted.__qualname__}.")
        self.ref, self.wanted, self.found = ref, wanted, found


class Starter(Protocol):
    """Whoever owns the actors without supervisor (`Keeper` in `opening.py`)."""

    async def start(
        self, actor: Maker, args: tuple[object, ...], name: str | None = None
    ) -> AnyRef:
        """See `System.start`."""

    async def maybe_start(
        self, actor: Maker, args: tuple[object, ...], name: str | None = None
    ) -> AnyRef | None:
        """See `System.maybe_start`."""

    def begin(self, actor: Maker, args: tuple[object, ...], name: str | None = None) -> AnyRef:
        """See `System.begin`."""


# What a system takes from its surroundings, and a simulation replaces


def _new_id() -> str:
    return secrets.token_hex(4)


def _nothing(_: System) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Conditions:
    """The surroundings of every system opened in one trio run."""

    # The id of a system, part of every correlation id it mints.
    new_id: Callable[[], str] = _new_id
    # Real time, for the budget of a turn; virtual time stands still within one.
    clock: Callable[[], float] = perf_counter
    # Jitter and the like; whoever wants repeatable chance takes it from here.
    random: Random = field(default_factory=SystemRandom)
    # What to do with the run queue before a round; None keeps the order of arrival.
    shuffle: Callable[[deque[Turning]], None] | None = None
    check_replies: bool = False
    opened: Callable[[System], None] = _nothing
    # Who looks at every message to an actor before it is put into its mailbox (`Mailbox.gate`).
    gate: Callable[[Cell], Callable[[Envelope], bool]] | None = None


_REAL: Final = Conditions()
_current: trio.lowlevel.RunVar[Conditions] = trio.lowlevel.RunVar("actors_conditions", _REAL)


def set_conditions(conditions: Conditions) -> None:
    """Call this before a system is opened, to replace its surroundings."""
    _current.set(conditions)


class System:
    """All actors of one `open_actors()` or `open_system()`."""

    def __init__(self, *, check_replies: bool = False, development: bool = False) -> None:
        conditions = _current.get()
        self.id = conditions.new_id()
        """Part of the correlation ids that begin here; unlike that of any other system."""
        self._spans = int.from_bytes(blake2b(self.id.encode(), digest_size=8).digest())
        self.random = conditions.random
        self.thread_id = get_ident()
        self.check_replies = check_replies or conditions.check_replies
        # Whether a person is at the screen: crashes are logged with their whole traceback.
        self.development = development
        # Real time, for budgets; the simulation stops it.
        self.clock: Callable[[], float] = conditions.clock
        self.counts = Totals()
        self.next_id: Callable[[], int] = count(1).__next__
        self.next_cell_id: Callable[[], int] = count(1).__next__
        self.wheel = Wheel()
        self.sweep = Sweep()
        # Whatever is given turns here is a cell of this system; the dispatcher need not know.
        turn = cast(Callable[[Turning], bool], lifecycle.turn)
        self.dispatcher = Dispatcher(turn, conditions.clock, conditions.shuffle)
        self.topics = Topics(self.next_id, self.dispatcher.enqueue_all)
        """To publish to whoever has subscribed; among them are `dead_letters`, `crash_reports`."""
        self.dead_letters = DeadLetters(
            self.text_id, self.topics.publish, self.topics.has_subscribers
        )
        """The newest messages that reached no handler, and how many there were of each reason."""
        self._closed_at = math.nan
        self.reports = Reports(self.topics.publish, self.text_id, development=development)
        """The newest crashes: `reports.kept` has a `CrashReport` each, the newest last."""
        self._gate = conditions.gate
        self.keeper: Starter | None = None
        self.portal = Portal()
        """To tell, send and ask from other threads."""
        # How late the loop answers, and who is told when it does not; see `watching/watchdog.py`.
        self.loop_lag_us = [0] * COUNTERS
        self.block_listeners: list[BlockListener] = []
        """Functions that are called, off the loop, with a `LoopBlocked` when it does not turn."""
        self.levels: dict[type[AnyHooks], Level] = {}
        self._base_level: Level = "counters"
        self.tallies = Tallies()
        """What packages above count of their actors for operators; it outlives each of them."""
        self.spans: Spans | None = None
        # What is counted by itself, as long as the system lives: told together with others at one
        # scrape and apart at the next, a count would fall.
        self._kinds: set[str] = set()
        # By name of their class, what those have counted that are gone.
        self._gone_sums: dict[str, KindSums] = {}
        self._names: dict[str, Cell] = {}
        self._cells: dict[int, Cell] = {}
        self._paths: dict[str, Cell] = {}
        self.changes_log = ChangesLog(self.cells, self.apply_level, self.wheel.call_after)
        # What packages above keep of this system: held here it goes with the system, while a table
        # of theirs would keep every system that ever was.
        self.kept_above: dict[object, object] = {}
        conditions.opened(self)

    def __repr__(self) -> str:
        return f"<System {self.id}: {len(self._cells)} actors>"

    def now(self) -> float:
        """Call this for trio's time; when trio has ended it is that of the system's close.

        A ref may be told something as long as somebody holds it, also after the run.
        """
        try:
            return trio.current_time()
        except RuntimeError:
            return self._closed_at

    def text_id(self, number: int) -> str:
        """Call this to get a message id as text that is unique among systems.

        Of the characters that a correlation id may have: it is one, where none was given.
        """
        return f"{self.id}-{number}"

    def span_id(self, number: int, actor: int) -> str:
        """Call this for the span in which an actor, by its id, handles the message of a number.

        The same each time, so it is told wherever it is needed and kept nowhere; it is drawn from
        the id of the system, so a simulation repeats it.
        """
        # Odd factors, so that no two messages of an actor have one; 0 is no span.
        mixed = self._spans + number * 0x9E3779B97F4A7C15 + actor * 0xC2B2AE3D27D4EB4F
        return f"{mixed & 0xFFFFFFFFFFFFFFFF or 1:016x}"

    # Actors without a supervisor

    @overload
    async def start(
        self, actor: Callable[[*Ts], Hooks[M]], /, *args: *Ts, name: str | None = None
    ) -> Ref[M]: ...
    @overload
    async def start(
        self, actor: Callable[P, Hooks[M]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ref[M]: ...
    async def start(self, actor: object, /, *args: object, **given: object) -> AnyRef:
        """Call this to start an actor that is never restarted; waits until it is ready.

        `start(Stock, "front", name="stock")`; `start(Stock, shelf="front")`. Arguments by name and
        `name=` at once work, but Python has no type for it: for the checkers write
        `start(partial(Stock, shelf="front"), name="stock")`, and so where `name` is an argument of
        the class (else TypeError).

        Raises StartError (StartTimeout), StartIgnored, AlreadyStarted when the name is taken,
        ValueError when it cannot be one. Whatever is raised, nothing of it is left.
        """
        made, options = maker_of(actor, args, given)
        return await self._starter().start(made, args, **options)

    @overload
    def begin(
        self, actor: Callable[[*Ts], Hooks[M]], /, *args: *Ts, name: str | None = None
    ) -> Ref[M]: ...
    @overload
    def begin(
        self, actor: Callable[P, Hooks[M]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ref[M]: ...
    def begin(self, actor: object, /, *args: object, **given: object) -> AnyRef:
        """Call this to start an actor without waiting; messages wait until it is ready."""
        made, options = maker_of(actor, args, given)
        return self._starter().begin(made, args, **options)

    @overload
    async def maybe_start(
        self, actor: Callable[[*Ts], Hooks[M]], /, *args: *Ts, name: str | None = None
    ) -> Ref[M] | None: ...
    @overload
    async def maybe_start(
        self, actor: Callable[P, Hooks[M]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ref[M] | None: ...
    async def maybe_start(self, actor: object, /, *args: object, **given: object) -> AnyRef | None:
        """Call this as `start`, to get None when the actor chose not to run (IGNORE)."""
        made, options = maker_of(actor, args, given)
        return await self._starter().maybe_start(made, args, **options)

    async def stop(self, name: str, timeout: float | None = STOP_TIMEOUT_S) -> None:
        """Call this to stop the actor of that name; NoProc when there is none. See `Ref.stop`."""
        cell = self._names.get(name)
        if cell is None:
            await trio.lowlevel.checkpoint()
            raise NoProc(name)
        await cell.ref.stop(timeout=timeout)

    async def wait_down(self, ref: AnyRef, *, final: bool = False) -> Exit | NoProc:
        """Call this to wait for the end of the incarnation (final: of the actor)."""
        cell = ref._cell
        if cell.gone:
            await trio.lowlevel.checkpoint()
            return NoProc(cell.path)
        wait = EndOf(cell, trio.lowlevel.current_task(), final=final)
        cell.watch(wait)
        return await wait.wait()

    def _starter(self) -> Starter:
        if self.keeper is None:
            raise RuntimeError(f"{self!r} is closed; nothing was started")
        return self.keeper

    # Finding actors

    @overload
    def whereis(self, name: str) -> AnyRef | None: ...
    @overload
    def whereis(self, name: str, kind: type[Hooks[M]]) -> Ref[M] | None: ...
    def whereis(self, name: str, kind: type[AnyHooks] | None = None) -> AnyRef | None:
        """Call this to get the ref registered under `name`, or None.

        `whereis("stock", Stock)` gives a ref that takes the messages of Stock; WrongActor when the
        holder is neither a Stock nor of a class that derives from it.
        """
        cell = self._names.get(name)
        if cell is None:
            return None
        return cell.ref if kind is None else narrow(cell.ref, kind)

    def at(self, path: str) -> Cell | None:
        """Call this to get the actor at a path, or None."""
        return self._paths.get(path)

    def cells(self) -> Iterable[Cell]:
        """Call this to get every actor that is not gone, oldest first."""
        return list(self._cells.values())

    def cell_named(self, name: str, kind: type[AnyHooks] | None = None) -> Cell:
        """Call this to get who holds a name; a cell that is gone when nobody (of `kind`) does."""
        cell = self._names.get(name)
        if cell is None or (kind is not None and not _is_a(cell, kind)):
            cell = Cell(self, name, None)
            cell.abandon()
        return cell

    # Many at once

    async def ask_all(
        self, refs: Iterable[Ref[M]], message: Ask[R], timeout: float | None = ASK_TIMEOUT_S
    ) -> tuple[dict[Ref[M], R], list[Ref[M]]]:
        """Call this to ask several actors the same; gives the replies, and who gave none.

        Raises nothing for an actor that is dead, slow or crashes. Cancelled while waiting, all
        asks are withdrawn.
        """
        return await ask_all(refs, message, timeout)

    def tell_all(self, refs: Iterable[Ref[M]], message: M) -> None:
        """Call this to tell several actors the same message object."""
        tell_all(refs, message)

    # Looking into actors, and holding them still

    async def get_state(self, ref: AnyRef) -> dict[str, object]:
        """Call this to get a copy of an actor's attributes, taken between two messages.

        What cannot be copied (a socket, a nursery, what a supervisor works with) is given as its
        text. A large state is copied in slices, and the actor stands still meanwhile; only its
        child tasks, and others it has started, may change it. A single change of theirs is seen or
        not; of several at different places (one entry moved to another place), a later one may be
        seen without an earlier one.
        Raises NoProc when it is gone or ends first.
        """
        state = await inspection.inspect(ref, inspection.copy_state)
        assert isinstance(state, dict)
        return state

    async def replace_state(
        self, ref: AnyRef, fn: Callable[[dict[str, object]], Mapping[str, object]]
    ) -> None:
        """Call this to store `fn(state)` as the actor's attributes, between two messages.

        `fn` gets a copy, in which things that cannot be copied are the actor's own.
        Raises CallbackFailed when `fn` raises, or gives what cannot be attributes of an actor; the
        state is as before then.
        """
        await inspection.inspect(ref, lambda life: inspection.replace_state(life, fn))

    async def suspend(self, ref: AnyRef) -> None:
        """Call this to keep an actor's user messages waiting; returns when it stands still.

        Stop, Down and inspection are served meanwhile. A restart ends it.
        """
        await inspection.inspect(ref, inspection.suspend)

    async def resume(self, ref: AnyRef) -> None:
        """Call this to let a suspended actor go on; harmless when it is not."""
        await inspection.inspect(ref, inspection.resume)

    # Figures

    def stats(self, ref: AnyRef) -> ActorStats:
        """Call this to read an actor's figures."""
        return actor_stats(cell_of(ref))

    def status(self, ref: AnyRef) -> ActorStatus:
        """Call this to read an actor's figures and its state, redacted, cut, ready for JSON."""
        return actor_status(cell_of(ref))

    def totals(self) -> SystemStats:
        """Call this to read the sums of the system."""
        lost = self.dead_letters.by_reason
        return SystemStats(
            spawned=self.counts.spawned,
            stopped=self.counts.stopped,
            passivated=self.counts.passivated,
            restarts=self.counts.restarts,
            dead_letters={str(reason): number for reason, number in lost.items()},
            actors=len(self._cells),
            asks_open=self.wheel.open_asks,
            timers=self.wheel.open_alarms,
            run_queue=self.dispatcher.run_queue,
            loop_lag_us=tuple(self.loop_lag_us),
        )

    def set_level(self, cls: type[AnyHooks], level: Level) -> None:
        """Call this to change what is measured of all actors of a class, while they run.

        Raises ValueError for a level that is none of the four.
        """
        check_level(level)
        self.levels[cls] = level
        for cell in self.cells():
            if cell.actor_class is cls:
                self.apply_level(cell)

    def gone_sums_of(self, cell: Cell) -> KindSums:
        """Called for where the sums of a cell go that ends, or is measured no longer."""
        return self._gone_sums.setdefault(self._kind_of(cell), KindSums())

    def add_kinds(self, sums: dict[str, KindSums]) -> Iterator[None]:
        """Call this to add up what all actors have counted, by class, in slices.

        What an actor has counted is in the sums of its class as long as the system lives.
        """
        # Both in this moment: who ends meanwhile is still read from its own cell.
        cells = self.cells()
        sums.update({kind: gone.copy() for kind, gone in self._gone_sums.items()})
        for number, cell in enumerate(cells, 1):
            kind = self._kind_of(cell)
            found = sums.get(kind)
            if found is None:
                found = sums[kind] = KindSums()
            found.actors += 1
            found.queued += cell.mailbox.queued
            found.add(cell.counts, cell.meter)
            if number % KINDS_SLICE == 0:
                yield

    def _kind_of(self, cell: Cell) -> str:
        kind = kind_of(cell)
        if kind in self._kinds:
            return kind
        if len(self._kinds) >= KINDS_MAX:
            return OTHER
        self._kinds.add(kind)
        return kind

    def measure_all(self, level: Level) -> None:
        """Call this to measure at least so much of every actor that counts by default.

        A class that asks for more or for nothing, or was set by `set_level`, stays as it is.
        """
        check_level(level)
        self._base_level = level
        for cell in self.cells():
            self.apply_level(cell)

    def trace(self) -> Spans:
        """Call this to have spans recorded from now on, and for what keeps them."""
        if self.spans is None:
            self.spans = Spans(self.span_id, *ticks_of(trio.lowlevel.current_clock()))
            for cell in self.cells():
                cell.spans = self.spans
        return self.spans

    def apply_level(self, cell: Cell) -> None:
        """Called when a cell has learned its class, or is watched, or no longer."""
        cls = cell.actor_class
        level: Level = "counters" if cls is None else self.levels.get(cls, cls.level)
        if level == "counters" and cls not in self.levels:
            level = self._base_level
        set_level(cell, "full" if cell.observers is not None else level)

    def changes(self, path: str = "") -> Changes:
        """Call this to watch an actor and all below it (`""`: everything).

        `with system.changes(path) as changes: async for change in changes`: first a Snapshot, then
        Deltas. What is watched is measured at level `full`.
        """
        return Changes(self.changes_log, path)

    # For owners

    def new_cell(
        self,
        owner: Owner,
        start: Callable[[], AnyHooks],
        *,
        key: str,
        parent_path: str = "",
        name: str | None = None,
        actor_class: type[AnyHooks] | None = None,
        shutdown: float = SHUTDOWN_S,
        start_timeout: float | None = None,
    ) -> Cell:
        """Call this to make an actor's identity; `begin_incarnation` starts it.

        Its path is `parent_path/key`; `name` registers it system-wide. `start_timeout` None means
        what the class of the actor says. Raises AlreadyStarted when the name is taken and
        ValueError when key or name cannot be one; nothing is made then.
        """
        key = checked_name(key)
        if name is not None:
            name = checked_name(name)
            holder = self._names.get(name)
            if holder is not None:
                raise AlreadyStarted(holder.ref)
        path = f"{parent_path}/{key}" if parent_path else key
        cell = Cell(self, path, name)
        cell.owner, cell.start = owner, start
        cell.shutdown, cell.start_timeout = shutdown, start_timeout
        if name is not None:
            self._names[name] = cell
        if actor_class is not None:
            cell.adopt(actor_class)
            if actor_class.ref_class is not Ref:
                cell.ref = actor_class.ref_class(cell)
        self._cells[cell.id] = cell
        self._paths[path] = cell
        self.counts.spawned += 1
        if self._gate is not None:
            cell.mailbox.gate = self._gate(cell)
            cell.mailbox.renew_limit()
        if self.changes_log.is_watched:
            self.changes_log.match(cell)
        return cell

    def forget(self, cell: Cell) -> Iterator[None]:
        """Called when an actor is gone for good: name and path are free at once.

        Its subscriptions are, one after another, by what is given.
        """
        self._free(cell)
        return self.topics.forget(cell)

    def _free(self, cell: Cell) -> None:
        if self._cells.pop(cell.id, None) is None:
            return
        if cell.name is not None and self._names.get(cell.name) is cell:
            del self._names[cell.name]
        if self._paths.get(cell.path) is cell:
            del self._paths[cell.path]
        self.counts.stopped += 1
        self.gone_sums_of(cell).add(cell.counts, cell.meter)
        self.changes_log.gone(cell, trio.current_time())

    def close(self) -> None:
        """Called as the last step: whoever still waits for an actor is told there is none."""
        self.keeper = None
        self._closed_at = trio.current_time()
        for cell in self._cells.values():
            # What is half copied is copied to its end else, for nobody.
            if cell.life is not None and cell.life.held_by is not None:
                cell.life.held_by.drop()
        self.dispatcher.finish_chores_now()
        for cell in list(self._cells.values()):
            cell.abandon()
        for reply in self.wheel.open_replies():
            reply.fail(reply.cell.no_proc(reply.message))


def kind_of(cell: Cell) -> str:
    """Call this for what an actor is counted as: the name of its class."""
    cls = cell.actor_class
    return "unknown" if cls is None else cls.__qualname__


def system_of(ref: AnyRef) -> System:
    """Call this for the system that the actor behind a ref runs in."""
    system = ref._cell.system
    assert isinstance(system, System)
    return system


def narrow(ref: AnyRef, kind: type[Hooks[M]]) -> Ref[M]:
    """Call this to get a ref that takes the messages of `kind` from one of unknown type.

    Raises WrongActor when the actor is neither of that class nor of one that derives from it, or
    has not been made yet.
    """
    cell = cell_of(ref)
    if not _is_a(cell, kind):
        raise WrongActor(cell.ref, kind, cell.actor_class)
    return cast("Ref[M]", ref)


def _is_a(cell: Cell, kind: type[AnyHooks]) -> bool:
    found = cell.ref._stands_for or cell.actor_class
    return found is not None and issubclass(found, kind)


def checked_name(name: str) -> str:
    """Call this to check a name or key; ValueError unless 1-200 characters, no `/`, no control."""
    # A plain text from here on: the `__hash__` and `__eq__` of a subclass are user code, which
    # must not run where the runtime looks names up.
    plain = str.__str__(name) if _is_text(name) else ""
    if not 0 < len(plain) <= NAME_LENGTH_MAX:
        raise ValueError(f"the name {name!r} must be a text of 1 to {NAME_LENGTH_MAX} characters")
    if "/" in plain or not (plain.isprintable() or _has_no_control(plain)):
        raise ValueError(f"the name {plain!r} must not contain `/` or control characters")
    return plain


def _has_no_control(name: str) -> bool:
    # The long way, letter by letter: `isprintable` also says no to harmless ones (a wide blank).
    return not any(unicodedata.category(letter) in _CONTROL for letter in name)


def _is_text(value: object) -> bool:
    # A function of its own: a checker believes the annotation, a caller need not have read it.
    return isinstance(value, str)
