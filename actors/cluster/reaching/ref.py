"""The ref of an actor of the cluster: the interface of every other, wherever the actor lives.

It holds a stand-in: a cell without a life, whose mailbox is emptied as soon as something lies in
it, towards the actor where that is now. So deadlines, rings of asks, monitors and dead letters are
those of the runtime. An actor that lives here is told and asked by its own ref, past the stand-in.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Generic, Never, Protocol, TypeVar, cast

import trio

from actors.cluster.link.sayings import REMOTE_TEXT_MAX
from actors.cluster.link.window import WINDOW_ENVELOPES_MAX
from actors.runtime import ActorExited, Ask, AskError, Exit, MailboxFull, NoProc, Normal, Ref
from actors.runtime.actor.relations import BrokenLink
from actors.runtime.delivery.envelope import NO_DEADLINE, REPLY, Envelope
from actors.runtime.delivery.mailbox import PARKED
from actors.runtime.delivery.ref import (
    ASK_TIMEOUT_S,
    STOP_TIMEOUT_S,
    AnyRef,
    Target,
    checked_timeout,
)
from actors.runtime.life.cell import Cell, Home, Watch, cell_of

if TYPE_CHECKING:
    from actors.runtime.delivery.mailbox import Entry

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")


class FullPeer(Protocol):
    """A node, as far as a sender waits for room there."""

    @property
    def room(self) -> trio.Event:
        """Set when there may be room again."""


class Roads(Protocol):
    """A cluster, as far as its refs need it."""

    def resident_of(self, standin: Standin) -> AnyRef | None:
        """The actor, when it lives here and nothing waits that was told before."""

    def take(self, standin: Standin, papers: Envelope) -> None:
        """A message for the actor; may raise what its caller should have known."""

    def full_peer(self, standin: Standin) -> FullPeer | None:
        """The actor's node, when its window has no room now."""

    def watched(self, standin: Standin) -> None:
        """Somebody watches it now."""

    def unwatched(self, standin: Standin) -> None:
        """Nobody watches it any more."""

    def link_broke(self, standin: Standin, path: str, exit_: Exit) -> None:
        """An actor here that was linked to it has ended."""


class Standin(Cell):
    """What stands for an actor that may live anywhere."""

    __slots__ = ("failure", "key", "roads", "shard")

    def __init__(self, system: Home, roads: Roads, key: tuple[str, str], shard: int) -> None:
        super().__init__(system, "/".join(key), None)
        self.roads, self.key, self.shard = roads, key, shard
        self.status = "running"
        self.failure: AskError | None = None
        # Whatever comes wakes it at once.
        self.mailbox.idle, self.mailbox.system_idle = PARKED, True

    def wake(self) -> None:
        """Called by the mailbox: passes on all that lies in it."""
        mailbox = self.mailbox
        # Only here something is taken from it, one at a time, so that it is never a batch.
        while mailbox.inbox:
            papers = mailbox.inbox.pop(0)
            if (reply := papers[REPLY]) is not None:
                # It lies in no mailbox from here on until it is put into the actor's.
                reply.stage = "handling"
            try:
                self.roads.take(self, papers)
            except AskError as error:
                self.failure = error
                self.give_up(papers, error)
        while (entry := mailbox.next_system()) is not None:
            entry.drop()
        mailbox.idle, mailbox.system_idle = PARKED, True

    def give_up(self, papers: Envelope, error: AskError) -> None:
        """Call this with what will not be handled, and why."""
        reply = papers[REPLY]
        if reply is None:
            note = str(error)[:REMOTE_TEXT_MAX]
            self.system.dead_letters.add(self, papers, "no_such_actor", note=note)
        else:
            reply.cell = self
            reply.fail(error)

    def watch(self, watch: Watch) -> None:
        """See `Cell.watch`."""
        super().watch(watch)
        self.roads.watched(self)

    def unwatch(self, watch: Watch) -> None:
        """See `Cell.unwatch`."""
        super().unwatch(watch)
        if not self.watchers and not self.links:
            self.roads.unwatched(self)

    def tied(self) -> None:
        """See `Cell.tied`."""
        self.roads.watched(self)

    def notify(self, ended: Cell, entry: Entry) -> None:
        """Called for the end of an actor here that is linked to this one: it is told over there."""
        if isinstance(entry, BrokenLink) and self.links is not None:
            self.links.pop(ended, None)
            if not isinstance(entry.exit, NoProc):
                self.roads.link_broke(self, ended.path, entry.exit)
        entry.drop()

    def ended(self, exit_: Exit, *, final: bool) -> None:
        """Call this with the end of the actor: all who watch it, or are linked to it, are told."""
        # A link is one of two incarnations, so every end breaks it.
        self.broken_links, self.links = self.links, None
        self._tell_end(dataclasses.replace(exit_, at=self.system.now()), final=final)


class ClusterRef(Ref[M_contra], Generic[M_contra]):
    """The ref of an actor by its kind and id; made by `Cluster.ref`.

    What it is told is handed to the link at most once. An ask ends with the reply, what every ask
    can end with, or `NodeGone`, `NoLink`, `NoOwner`, `PeerOverloaded`, `UnknownMessage`. Raises
    `NotRemote` and `MessageTooLarge` where the actor lives elsewhere and the message cannot cross.
    """

    __slots__ = ("__weakref__",)

    _cell: Standin

    def __init__(self, cell: Standin) -> None:
        super().__init__(cell)

    @property
    def crosses_as(self) -> tuple[str, str]:
        """Kind and id: what a message carries where it holds this ref."""
        return self._cell.key

    def __repr__(self) -> str:
        return f"<ClusterRef {self.path}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ClusterRef):
            mine, its = self._cell, other._cell
            return mine.key == its.key and mine.roads is its.roads
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._cell.key)

    def tell(self, message: M_contra, *, deadline: float = NO_DEADLINE) -> None:
        """See `Ref.tell`; raises `NotRemote` and `MessageTooLarge` besides."""
        standin = self._cell
        resident = standin.roads.resident_of(standin)
        if resident is not None:
            resident.tell(cast(Never, message), deadline=deadline)
            return
        super().tell(message, deadline=deadline)
        if standin.failure is not None:
            failure, standin.failure = standin.failure, None
            raise failure

    async def send(
        self, message: M_contra, timeout: float | None = None, *, deadline: float = NO_DEADLINE
    ) -> None:
        """See `Ref.send`; elsewhere it waits for room in the window of the actor's node."""
        standin = self._cell
        resident = standin.roads.resident_of(standin)
        if resident is not None:
            await resident.send(cast(Never, message), timeout, deadline=deadline)
            return
        if standin.roads.full_peer(standin) is not None:
            with trio.move_on_after(checked_timeout(timeout)) as scope:
                while (peer := standin.roads.full_peer(standin)) is not None:
                    await peer.room.wait()
            if scope.cancelled_caught:
                raise MailboxFull(self.path, WINDOW_ENVELOPES_MAX, message)
        await super().send(message, timeout, deadline=deadline)
        if standin.failure is not None:
            failure, standin.failure = standin.failure, None
            raise failure

    async def ask(self, message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """See `Ref.ask`."""
        standin = self._cell
        resident = standin.roads.resident_of(standin)
        began = trio.current_time()
        # Not by a method of its own: each ask of another node would pass through it twice.
        try:
            if resident is None:
                return await super().ask(message, timeout)
            return await resident.ask(message, timeout)
        except ActorExited as error:
            if error.begun:
                raise
        except NoProc as error:
            if resident is None or error.path != resident.path:
                raise
        finally:
            standin.failure = None
        # Its shard went away before its turn had come: once more, to wherever it is now.
        left = None if timeout is None else max(0.0, timeout - (trio.current_time() - began))
        try:
            return await super().ask(message, left)
        finally:
            standin.failure = None

    def _target(self, message: M_contra) -> Target:
        standin = self._cell
        resident = standin.roads.resident_of(standin)
        return standin if resident is None else cell_of(resident)

    async def stop(
        self,
        exit: Exit = Normal(),  # noqa: A002, B008 - the word of the whole runtime; it is frozen
        timeout: float | None = STOP_TIMEOUT_S,
        *,
        drain: bool = False,
    ) -> None:
        """See `Ref.stop`; NoProc when it does not live here: only its own node ends an actor."""
        standin = self._cell
        resident = standin.roads.resident_of(standin)
        if resident is None:
            await trio.lowlevel.checkpoint()
            raise NoProc(self.path, None, "it does not live on this node")
        await resident.stop(exit, timeout, drain=drain)

    def kill(self) -> None:
        """See `Ref.kill`; does nothing when it does not live here."""
        standin = self._cell
        resident = standin.roads.resident_of(standin)
        if resident is not None:
            resident.kill()
