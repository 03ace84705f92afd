"""Monitors and links: how one actor learns of another's end.

Rule 1: a notice of an end stands behind every message the ended actor had put into this mailbox
before, and behind nothing else (ACT-22).
Rule 2: a cancelled monitor or link leaves nothing behind, also when its notice was queued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from actors.runtime.entries import Notice
from actors.runtime.envelope import NO_DEADLINE, Envelope
from actors.runtime.timers import envelope
from actors.runtime.words.errors import LinkBroken, NoProc
from actors.runtime.words.exits import Crashed, Exit, Killed, Normal, Shutdown
from actors.runtime.words.messages import FromRuntime, message

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.entries import Entry
    from actors.runtime.life import Life
    from actors.runtime.ref import AnyRef


@message
class Down(FromRuntime):
    """An actor you monitor ended; `exit` is `NoProc` when it was gone before you looked."""

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
    """One `self.monitor(ref)`: a `cell.Watch` first, then an entry of the watcher's mailbox."""

    __slots__ = ("_life", "_message", "final", "target")

    def __init__(self, life: Life, target: Cell, *, final: bool) -> None:
        self._life: Life | None = life
        self.target, self.final = target, final
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
        self._notify(Down(cell.ref, exit_.incarnation, exit_))

    def _notify(self, message: Down) -> None:
        assert self._life is not None
        self._message = message
        notify(self._life.cell, self.target, self)

    def act(self) -> Envelope | None:
        """Called by the watcher's loop: gives the Down, unless it was cancelled meanwhile."""
        life = self._life
        if life is None or self._message is None:
            return None
        self.cancel()
        return envelope(life, self._message, None)

    def drop(self) -> None:
        """Called when the watcher's incarnation ended first."""


class Link:
    """What two linked actors share; another one is another link.

    `before` is an earlier one between the same two whose end is not handled yet: an actor that
    was restarted and linked again does not take back how it ended before.
    """

    __slots__ = ("before",)

    def __init__(self) -> None:
        self.before: Link | None = None


class BrokenLink:
    """The end of a linked actor, on its way to the other one."""

    __slots__ = ("_cell", "_exit", "_link", "_peer")

    def __init__(self, cell: Cell, peer: Cell, link_: Link, exit_: Exit | NoProc) -> None:
        self._cell, self._peer, self._link, self._exit = cell, peer, link_, exit_

    def act(self) -> Envelope | None:
        """Called by the loop of the linked actor: ends it, or gives the Exited for its handler."""
        life, links = self._cell.life, self._cell.links
        if links is None or not _take_out(links, self._peer, self._link):
            return None
        exit_, path = self._exit, self._peer.path
        assert life is not None, "an entry acts in the loop of an incarnation"
        assert life.instance is not None
        if life.instance.trap_exits:
            return envelope(life, Exited(self._peer.ref, self._peer.incarnation, exit_), None)
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
        """Called when the linked actor ended first."""


def link(cell: Cell, target: Cell) -> None:
    """Call this to tie two incarnations together; linking twice, or to itself, changes nothing.

    A target between two incarnations is linked to the coming one.
    """
    if cell.links is None:
        cell.links = {}
    if target is cell or target in cell.links:
        return
    made = cell.links[target] = Link()
    if target.links is not None:
        made.before = target.links.get(cell)
    if target.gone:
        notify(cell, target, BrokenLink(cell, target, made, NoProc(target.path)))
        return
    if target.links is None:
        target.links = {}
    target.links[cell] = made


def _take_out(links: dict[Cell, Link], peer: Cell, link_: Link) -> bool:
    newest = links.get(peer)
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


def break_links(ended: Cell, links: Mapping[Cell, Link], exit_: Exit) -> None:
    """Call this when an incarnation has ended, to tell those that were linked to it."""
    for peer, made in links.items():
        if peer.links is not None and peer.links.get(ended) is made:
            notify(peer, ended, BrokenLink(peer, ended, made, exit_))


def tell_end(cell: Cell, exit_: Exit, *, final: bool) -> None:
    """Call this when an ending may be seen: by watchers of the incarnation, or (final) by all."""
    broken, cell.broken_links = cell.broken_links, None
    if final and cell.links:
        broken, cell.links = {**cell.links, **(broken or {})}, None
    if broken:
        break_links(cell, broken, exit_)
    for watch in list(cell.watchers or ()):
        if final or not watch.final:
            cell.unwatch(watch)
            watch.ended(cell, exit_)


def notify(watcher: Cell, ended: Cell, entry: Entry) -> None:
    """Call this to tell `watcher` of an end, behind the last message of the ended actor."""
    notice: Envelope = (Notice(entry), 0, None, NO_DEADLINE, 0.0, None)
    if not watcher.mailbox.put_behind(ended.id, notice):
        watcher.mailbox.post(entry)
