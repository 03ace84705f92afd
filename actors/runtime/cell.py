"""One actor's identity, and the port through which an owner runs its incarnations.

A cell outlives incarnations: it keeps id, path, ref, mailbox and counts. It starts nothing by
itself; its owner (a supervisor, or the keeper of `open_actors`) calls the operations below and is
told through `Owner` what came of them.

Rule 1: every operation is synchronous and returns at once; results come through the owner.
Rule 2: after `child_exited` the owner decides: `begin_incarnation`, `await_restart` or `retire`.
Until then watchers of the ended incarnation wait, so a name is free before the exit is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

import trio

from actors.runtime import port
from actors.runtime.burial import bury, lose, turn_away
from actors.runtime.entries import Note
from actors.runtime.envelope import NO_DEADLINE, Envelope
from actors.runtime.force import Force
from actors.runtime.life import Life
from actors.runtime.mailbox import Mailbox
from actors.runtime.overflow import DEFAULT_CAPACITY
from actors.runtime.ref import AnyRef, Ref
from actors.runtime.relations import Link, tell_end
from actors.runtime.words.counting import Counts, Level, Meter
from actors.runtime.words.errors import MailboxOverflow, NoProc
from actors.runtime.words.exits import Crashed, Exit, Killed, Ready, StartOutcome

if TYPE_CHECKING:
    from actors.runtime.actor import AnyActor
    from actors.runtime.changes import Watcher
    from actors.runtime.system import System

_KILLED: Final = Killed()


class Cell:
    """One actor. See the module's rules; supervisors hold cells, everyone else holds refs."""

    __slots__ = (
        "_pending", "actor_class", "broken_links", "budget", "counts", "dormant", "force", "gone",
        "id",
        "incarnation", "last_exits", "level", "life", "links", "mailbox", "meter", "name",
        "next_restart_at", "owner", "path", "pending_stop", "ref", "refusal", "restart_window",
        "senders", "shutdown", "start", "start_timeout", "started_at", "status", "status_since",
        "system", "topics", "waiting_on", "watchers", "watches",
    )  # fmt: skip

    def __init__(
        self,
        system: System,
        owner: port.Owner,
        start: Callable[[], AnyActor],
        path: str,
        name: str | None,
    ) -> None:
        self.system, self.owner, self.start = system, owner, start
        self.path, self.name = path, name
        self.id = system.next_cell_id()
        self.ref: AnyRef = Ref(self)
        self.counts = Counts()
        self.mailbox = Mailbox(self, DEFAULT_CAPACITY, "drop_new")
        self.actor_class: type[AnyActor] | None = None
        self.budget = (64, 0.001)
        self.shutdown, self.start_timeout = port.SHUTDOWN_S, port.START_TIMEOUT_S
        self.life: Life | None = None
        self.incarnation = 0
        self.status: port.Status = "starting"
        self.status_since = self.started_at = trio.current_time()
        self.next_restart_at: float | None = None
        self.restart_window: tuple[int, int, float] | None = None
        self.gone = self.dormant = False
        self.pending_stop: Exit | None = None
        self.last_exits: tuple[Exit, ...] = ()
        self.waiting_on: Cell | None = None
        self.watchers: dict[port.Watch, None] | None = None
        # Of the current incarnation, or the coming one; moved to broken_links when it has ended.
        self.links: dict[Cell, Link] | None = None
        self.broken_links: dict[Cell, Link] | None = None
        self.topics: set[str] | None = None
        # Of `sampled` and `full` actors; and whoever watches this one.
        self.level: Level = "counters"
        self.meter: Meter | None = None
        self.watches: tuple[Watcher, ...] | None = None
        self.senders: dict[str, float] | None = None
        self._pending: Exit | None = None
        self.refusal: str | None = None
        self.force: Force | None = None

    def __repr__(self) -> str:
        return f"<Cell {self.path} {self.status} {self.incarnation}>"

    def adopt(self, cls: type[AnyActor]) -> None:
        """Call this when the class is known: the mailbox gets the class's bounds."""
        if cls is not self.actor_class:
            self.actor_class, self.budget = cls, cls.budget
            self.mailbox.resize(cls.capacity, cls.overflow)
            self.system.apply_level(self)

    # The port of the owner

    def begin_incarnation(self, because: str | None = None) -> None:
        """Call this to start the next incarnation; the owner gets `child_started`."""
        assert self.life is None, f"{self!r} already has an incarnation"
        assert not self.gone, f"{self!r} is gone for good"
        self._release()
        self.dormant = False
        self.mailbox.open()
        self.next_restart_at = None
        self.set_status("starting", because)
        self.life = Life(self, self.incarnation + 1)
        self.system.dispatcher.enqueue(self)

    def await_restart(
        self,
        status: Literal["restarting", "backing_off"],
        at: float | None = None,
        because: str | None = None,
    ) -> None:
        """Call this after an ending that will be followed by a restart; the mailbox is kept."""
        self._release()
        self.next_restart_at = at
        self.set_status(status, because)

    def await_first_message(self) -> None:
        """Call this to leave the cell without incarnation until a message comes.

        The owner gets `child_wanted` once, at once if messages are queued already.
        """
        self._release()
        self.dormant = True
        self.set_status("stopped", "no message yet")
        if self.mailbox.queued or self.mailbox.waiting:
            self.wake()
        else:
            self.mailbox.idle = self.mailbox.system_idle = True

    def request_stop(
        self, exit_: Exit, *, within: float | None = None, drain: bool = False
    ) -> None:
        """Call this to end the incarnation after the message in hand; killed `within` seconds.

        `within` defaults to the cell's `shutdown`. The first request decides on the exit; a
        further one can only bring the kill forward. Without an incarnation the coming one stops.
        """
        life = self.life
        if life is None:
            if not self.gone and not self.dormant:
                self.pending_stop = exit_
            return
        life.want(exit_, drain=drain)
        self.limit_stop(self.shutdown if within is None else within)

    def limit_stop(self, within: float) -> None:
        """Call this to have the incarnation killed if it is not over in `within` seconds."""
        if within < NO_DEADLINE:
            self.force = self.force or Force(self)
            self.force.kill_within(within)

    def kill(self, exit_: Killed = _KILLED) -> None:
        """Call this to end the incarnation by force: no `on_stop`. Does nothing without one."""
        life = self.life
        if life is None or life.killed:
            return
        if self.force is None:
            self.force = Force(self)
        self.force.look_soon()
        life.kill(exit_)

    def retire(self, exit_: Exit | None = None) -> None:
        """Call this when no restart will follow; the ref is dead for ever afterwards.

        Frees the name, turns what is queued into dead letters and failed asks, tells watchers.
        """
        if self.gone:
            return
        assert self.life is None, f"{self!r} still has an incarnation"
        last = exit_ or self._pending
        assert last is not None, f"{self!r} has no exit to retire with"
        self.gone, self.dormant = True, False
        self.system.forget(self)
        self.mailbox.close()
        self.set_status("stopped", last.because)
        self.start = port.no_start
        for entry in self.mailbox.drop_system():
            entry.drop()
        bury(self, last)
        self._pending = None
        tell_end(self, last, final=True)

    def refuse(self, because: str) -> None:
        """Call this instead of `retire` when a message came for an actor that may not start.

        Tells are dead letters `no_such_actor`, asks fail with NoProc; both name `because`.
        """
        self.refusal = because
        turn_away(self)

    def post_system(self, entry: object) -> None:
        """Call this to pass `entry` to the actor's `on_system`, ahead of user messages.

        It is dropped when the incarnation has ended (or none runs) before it is looked at.
        """
        if self.life is not None:
            self.mailbox.post(Note(self.life, entry))

    # What a life reports

    def life_started(self, outcome: StartOutcome) -> None:
        """Called by the life when its start is over, one way or another."""
        if isinstance(outcome, Ready):
            self.incarnation += 1
            self.started_at = trio.current_time()
            if self.incarnation > 1:
                self.counts.restarts += 1
                self.system.counts.restarts += 1
            self.set_status("stopping" if self.is_stopping else "running")
        else:
            self._life_over()
        self.owner.child_started(self, outcome)

    def life_exited(self, exit_: Exit) -> None:
        """Called by the life when it is wholly over."""
        self._life_over()
        self._pending = exit_
        self.broken_links, self.links = self.links, None
        self.last_exits = (*self.last_exits[1 - port.LAST_EXITS_MAX :], exit_)
        if isinstance(exit_, Crashed):
            self.counts.crashes += 1
        self.owner.child_exited(self, exit_)

    @property
    def is_stopping(self) -> bool:
        """Whether the incarnation has been asked to end."""
        return self.life is not None and (self.life.wanted is not None or self.life.killed)

    def set_status(self, status: port.Status, because: str | None = None) -> None:
        """Call this to change the status; each change is one event with time and cause."""
        if status == self.status and self.incarnation:
            return
        self.status, self.status_since = status, trio.current_time()
        if self.watches is not None:
            self.system.changes_log.status(self, because)

    # What the mailbox reports (`mailbox.Post`)

    def wake(self) -> None:
        """Called by the mailbox when the parked actor has something to do."""
        life = self.life
        if life is not None:
            life.wake()
        elif self.dormant:
            self.dormant = False
            self.owner.child_wanted(self)

    def lost(self, envelope: Envelope, reason: Literal["overflow", "closed"]) -> None:
        """Called by the mailbox for a message that found no place."""
        lose(self, envelope, reason)

    def overflowed(self) -> None:
        """Called by the mailbox of a class with `overflow = "crash"`."""
        if self.life is not None:
            self.life.abort(Crashed(MailboxOverflow(self.path, self.mailbox.capacity)))

    def no_proc(self, message: object) -> NoProc:
        """Call this for the error of a send, ask or stop that finds nobody."""
        return NoProc(self.path, None if message is None else type(message), self.refusal)

    # Watching

    def watch(self, watch: port.Watch) -> None:
        """Call this to be told of the end; see `port.Watch`. The cell must not be gone."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[watch] = None

    def unwatch(self, watch: port.Watch) -> None:
        """Call this to be told nothing any more."""
        if self.watchers is not None:
            self.watchers.pop(watch, None)

    def _life_over(self) -> None:
        self.life = None
        self.waiting_on = None
        self.pending_stop = None
        if self.force is not None:
            self.force.cancel()
            self.force = None
        self.mailbox.idle = self.mailbox.system_idle = False

    def _release(self) -> None:
        exit_, self._pending = self._pending, None
        if exit_ is not None:
            tell_end(self, exit_, final=False)


def cell_of(ref: AnyRef) -> Cell:
    """Call this for the cell behind a ref; for owners, inspection and tests."""
    return ref._cell
