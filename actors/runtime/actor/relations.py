"""Monitors and links: how one actor learns of another's end.

Rule 1: a notice of an end stands behind every message the ended actor had put into this mailbox
before, and behind nothing else (ACT-22).
Rule 2: a cancelled monitor or link leaves nothing behind, also when its notice was queued.
"""

from __future__ import annotations

from typing import Self

from actors.runtime.delivery.envelope import Envelope
from actors.runtime.delivery.ref import AnyRef
from actors.runtime.life.cell import Cell, Life, Tie
from actors.runtime.words.errors import LinkBroken, NoProc
from actors.runtime.words.exits import Crashed, Exit, Killed, Normal, Shutdown
from actors.runtime.words.messages import FromRuntime, message


@message
class Down(FromRuntime):
    """An actor you monitor ended; `exit` is `NoProc` when it was gone before you looked.

    It comes behind everything that the actor had told you.
    """

    ref: AnyRef
    incarnation: int
    exit: Exit | NoProc


@message
class Exited(FromRuntime):
    """A linked actor ended, told to an actor with `trap_exits = True`."""

    ref: AnyRef
    incarnation: int
    exit: Exit | NoProc


class Monitor:
    """One `self.monitor(ref)`: a `Watch` on the target first, then an entry of its own mailbox.

    Whoever watches is an incarnation: with it the monitor goes, told or not.
    """

    __slots__ = ("_life", "_message", "final", "target")

    def __init__(self, life: Life, target: Cell, *, final: bool) -> None:
        self._life: Life | None = life
        self.target, self.final = target, final
        # What it tells, once the target has ended; until then nothing is in the mailbox.
        self._message: Down | None = None
        if life.monitors is None:
            life.monitors = set()
        life.monitors.add(self)
        if target.gone:
            missing = NoProc(target.path)
            self._notify(Down(target.ref, target.incarnation, missing))
        else:
            target.watch(self)

    def __deepcopy__(self, _: object) -> Self:
        return self  # A copy of an actor's state has the same monitors.

    @property
    def watcher(self) -> str:
        """The path of who watches."""
        return "" if self._life is None else self._life.cell.path

    @property
    def ref(self) -> AnyRef:
        """Whom it watches."""
        return self.target.ref

    def cancel(self) -> None:
        """Call this to hear nothing any more; harmless afterwards."""
        life, self._life = self._life, None
        if life is not None:
            self.target.unwatch(self)
            if life.monitors is not None:
                life.monitors.discard(self)

    def ended(self, cell: Cell, exit_: Exit) -> None:
        """Called by the target's cell."""
        if self._life is None or self._life.phase == "over":
            return
        self._notify(Down(cell.ref, exit_.incarnation, exit_))

    def _notify(self, message: Down) -> None:
        assert self._life is not None
        # Kept, for it may be cancelled yet: `act` gives it when its place in the mailbox has come.
        self._message = message
        self._life.cell.notify(self.target, self)

    def act(self) -> Envelope | None:
        """Called by the watcher's loop: gives the Down, unless it was cancelled meanwhile."""
        life = self._life
        if life is None or life.phase == "over" or self._message is None:
            return None
        self.cancel()
        return life.wrap(self._message)

    def drop(self) -> None:
        """Called when the watcher's incarnation ended first."""


class Link:
    """What ties two actors: one object, in `links` of both cells (their `Tie`).

    A link ends with an incarnation. Its other end hears of it by a message that may wait in its
    mailbox for a while; meanwhile the ended actor may be restarted and linked again. The new link
    then stands in the place of the broken one, and holds it as `before`, until the message about
    it has come: how the peer ended before is not taken back by linking to it anew. With several
    restarts in that time this is a chain, the newest first.
    """

    __slots__ = ("before",)

    def __init__(self) -> None:
        self.before: Link | None = None

    def broke(self, peer: Cell, ended: Cell, exit_: Exit) -> None:
        """Called by the cell that has ended: tells `peer`, if it is still tied by this link."""
        newest = None if peer.links is None else _newest(peer.links, ended)
        # Of many that are told one after another the last may be linked anew by now.
        while newest is not None and newest is not self:
            newest = newest.before
        if newest is self:
            peer.notify(ended, BrokenLink(peer, ended, self, exit_))


class BrokenLink:
    """The end of a linked actor, on its way to the other one."""

    __slots__ = ("_cell", "_exit", "_link", "_peer")

    def __init__(self, cell: Cell, peer: Cell, link_: Link, exit_: Exit | NoProc) -> None:
        self._cell, self._peer, self._link, self._exit = cell, peer, link_, exit_

    @property
    def exit(self) -> Exit | NoProc:
        """How the other one ended."""
        return self._exit

    def act(self) -> Envelope | None:
        """Called by the loop of the linked actor: ends it, or gives the Exited for its handler."""
        life, links = self._cell.life, self._cell.links
        # No longer there: it was unlinked meanwhile, or was a link of an earlier incarnation.
        if links is None or not _take_out(links, self._peer, self._link):
            return None
        exit_, path = self._exit, self._peer.path
        assert life is not None, "an entry acts in the loop of an incarnation"
        assert life.instance is not None
        if type(life.instance).trap_exits:
            return life.wrap(Exited(self._peer.ref, self._peer.incarnation, exit_))
        match exit_:
            case Normal():
                pass
            case Shutdown():
                because = f"the linked actor {path} shut down"
                life.want(Shutdown(exit_.info, by=path, because=because))
            case Crashed() | Killed():
                life.abort(Crashed(LinkBroken(path, exit_), by=path))
            case NoProc():
                life.abort(Crashed(LinkBroken(path, Crashed(exit_)), by=path))
        return None

    def drop(self) -> None:
        """Called when the linked actor ended first, or has not come to run."""
        life = self._cell.life
        if life is not None and life.failed_start is not None:
            # The link was made with the coming incarnation, and that is now the next one.
            self._cell.mailbox.post(self)


def link(cell: Cell, target: Cell) -> None:
    """Call this to tie two incarnations together; linking twice, or to itself, changes nothing.

    A target between two incarnations is linked to the coming one.
    """
    if cell.links is None:
        cell.links = {}
    if target is cell or target in cell.links:
        return
    made = cell.links[target] = Link()
    # The target may have handled our last end less far than we have: its side still holds it.
    if target.links is not None:
        made.before = _newest(target.links, cell)
    if target.gone:
        cell.notify(target, BrokenLink(cell, target, made, NoProc(target.path)))
        return
    if target.links is None:
        target.links = {}
    target.links[cell] = made
    target.tied()


def _newest(links: dict[Cell, Tie], peer: Cell) -> Link | None:
    found = links.get(peer)
    assert found is None or isinstance(found, Link), "nothing else ties actors"
    return found


def _take_out(links: dict[Cell, Tie], peer: Cell, link_: Link) -> bool:
    """Remove one link of the chain to `peer`; False when it is not in it."""
    newest = _newest(links, peer)
    if newest is link_:
        if link_.before is None:
            del links[peer]
        else:
            links[peer] = link_.before
        return True
    while newest is not None:
        if newest.before is link_:
            newest.before = link_.before
            return True
        newest = newest.before
    return False


def unlink(cell: Cell, target: Cell) -> None:
    """Call this to untie them; no exit of it is handled afterwards, also when it was queued."""
    if cell.links is not None and cell.links.pop(target, None) is not None and target.links:
        target.links.pop(cell, None)
