"""Monitors across nodes: an actor that is watched anywhere, and the one notice of its end.

Rule: a number stands for one watch at one node. Whatever ends it (the actor, its shard, its node)
takes the number out first, so that whatever comes later for it finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final
from uuid import UUID

from actors.cluster.link.sayings import REMOTE_TEXT_MAX, Ended, LinkBroke, Saying, Unwatch, WatchFor
from actors.cluster.link.words import TARGET_BYTES_MAX
from actors.cluster.member import Member
from actors.cluster.reaching.hosting import Elsewhere, Host, StartSoon, UnknownKind
from actors.cluster.reaching.ref import Standin
from actors.cluster.reaching.words import RemoteError
from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown, StartError
from actors.runtime.actor.relations import link
from actors.runtime.life.cell import Cell, cell_of
from actors.runtime.words.exits import exit_text

NODE_GONE: Final = Killed(because="node_gone")
# Clean: the actor lives on where its shard is now, and nobody who is linked to it need end.
MOVED: Final = Shutdown("moved", because="moved")
# As many as a node watches for others; a peer that asks for more is told that they ended.
SERVED_MAX: Final = 100_000


class _Served:
    """A watch of an actor that lives here, for a node, which may be this one."""

    final = False

    def __init__(self, watches: Watches, node_id: UUID, number: int, standin: Standin) -> None:
        self._watches, self.node_id, self.number = watches, node_id, number
        self.standin = standin
        self.cell: Cell | None = None

    @property
    def watcher(self) -> str:
        """Who watches, for statistics."""
        return f"node {self.node_id}"

    def ended(self, cell: Cell, exit_: Exit) -> None:
        """Called by the actor's cell."""
        self._watches.tell_end(self, exit_, is_final=cell.gone)


class Watches:
    """All watches of actors of the cluster that this node keeps, its own and those of others."""

    def __init__(
        self, member: Member, host: Host, say: Callable[[UUID, Saying], None],
        standin: Callable[[str, str], Standin],
    ) -> None:  # fmt: skip
        self._member, self._host, self._say, self._standin = member, host, say, standin
        self._numbers = count(1)
        # Whom this node watches, by number, and at which node; the numbers of each, the reverse.
        self._own: dict[int, tuple[Standin, UUID]] = {}
        self._number_of: dict[Standin, int] = {}
        # Whom it watches for others.
        self._served: dict[tuple[UUID, int], _Served] = {}
        # Those whose owner is not known, or could not be told.
        self._homeless: dict[Standin, None] = {}
        self.start_soon: StartSoon | None = None

    def __repr__(self) -> str:
        return f"<Watches: {len(self._own)} own, {len(self._served)} served>"

    # Of this node's own

    def watched(self, standin: Standin) -> None:
        """Call this when somebody here watches an actor."""
        if standin not in self._number_of:
            self._begin(standin)

    def unwatched(self, standin: Standin) -> None:
        """Call this when nobody here does any more."""
        self._homeless.pop(standin, None)
        number = self._number_of.pop(standin, None)
        if number is None:
            return
        _, node_id = self._own.pop(number)
        if node_id == self._member.node_id:
            self._drop(node_id, number)
        else:
            self._say(node_id, Unwatch(number))

    def _begin(self, standin: Standin) -> None:
        owner = self._member.whose(*standin.key).owner
        if not owner or self.start_soon is None:
            self._homeless[standin] = None
            return
        self._homeless.pop(standin, None)
        number, node_id = next(self._numbers), UUID(owner)
        self._own[number], self._number_of[standin] = (standin, node_id), number
        if node_id == self._member.node_id:
            self._serve(node_id, number, standin)
        else:
            self._say(node_id, WatchFor(number, "/".join(standin.key)))

    def look(self) -> None:
        """Call this now and then: who had no owner may have one."""
        for standin in list(self._homeless):
            self._begin(standin)

    def heard_end(self, node_id: UUID, ended: Ended) -> None:
        """Call this when a node tells of an end."""
        found = self._own.get(ended.number)
        if found is not None and found[1] == node_id:
            self._end(ended.number, _exit_of(ended), is_final=ended.exit in _FINAL)

    def gone(self, node_id: UUID) -> None:
        """Call this when a node is gone, or silent: all that it was to tell of has ended."""
        for number, (_, at) in list(self._own.items()):
            if at == node_id:
                self._end(number, NODE_GONE, is_final=False)
        for key in [key for key in self._served if key[0] == node_id]:
            self._drop(*key)

    def is_watching(self, node_id: UUID) -> bool:
        """Call this to ask whether a node is to tell of anybody's end."""
        return any(at == node_id for _, at in self._own.values())

    def _end(self, number: int, exit_: Exit, *, is_final: bool) -> None:
        found = self._own.pop(number, None)
        if found is None:
            return
        standin = found[0]
        self._number_of.pop(standin, None)
        standin.ended(exit_, final=is_final)
        if (standin.watchers or standin.links) and standin not in self._number_of:
            # They wait for the end of the actor, not of its life on one node.
            self._homeless[standin] = None

    # For others

    def heard(self, node_id: UUID, saying: Saying) -> None:
        """Call this with what another node says about watches."""
        match saying:
            case WatchFor():
                kind, _, id_ = saying.target.partition("/")
                self._serve(node_id, saying.number, self._standin(kind, id_))
            case Unwatch():
                self._drop(node_id, saying.number)
            case Ended():
                self.heard_end(node_id, saying)
            case LinkBroke():
                self._break(saying)
            case _:
                pass

    def link_broke(self, standin: Standin, path: str, exit_: Exit) -> None:
        """Call this when an actor here has ended that was linked to one of the cluster."""
        if not standin.watchers and not standin.links:
            self.unwatched(standin)
        owner = self._member.whose(*standin.key).owner
        kind, text = type(exit_).__name__.lower(), _text_of(exit_)
        target = "/".join(standin.key)
        broke = LinkBroke(target, path[:TARGET_BYTES_MAX], kind, text)
        if owner == str(self._member.node_id):
            self._break(broke)
        elif owner:
            self._say(UUID(owner), broke)

    def _break(self, broke: LinkBroke) -> None:
        """An actor elsewhere that was linked to one here has ended."""
        kind, _, id_ = broke.target.partition("/")
        token = self._member.token(kind, id_)
        cell = None if token is None else self._host.resident((kind, id_), token)
        if cell is None:
            return
        other = self._standin(kind, id_)
        # Whoever it was is here by its path alone, for as long as its end takes.
        stranger = Cell(other.system, broke.path, None)
        link(cell, stranger)
        for tied, tie in (stranger.links or {}).items():
            tie.broke(tied, stranger, _exit_of(Ended(0, broke.exit, broke.text)))

    def _serve(self, node_id: UUID, number: int, standin: Standin) -> None:
        served = _Served(self, node_id, number, standin)
        if self.start_soon is None or len(self._served) >= SERVED_MAX:
            self._tell(served, Ended(number, "moved"))
            return
        self._served[node_id, number] = served
        self.start_soon(partial(self._reach, served))

    async def _reach(self, served: _Served) -> None:
        try:
            ref = await self._host.reach(*served.standin.key)
        except Elsewhere:
            self._finish(served, Ended(served.number, "moved"))
        except (UnknownKind, StartError) as error:
            self._finish(served, Ended(served.number, "no_proc", str(error)[:REMOTE_TEXT_MAX]))
        else:
            if (served.node_id, served.number) in self._served:
                cell = cell_of(ref)
                if cell.gone:
                    self._finish(served, Ended(served.number, "no_proc", "it ended meanwhile"))
                else:
                    served.cell = cell
                    cell.watch(served)

    def tell_end(self, served: _Served, exit_: Exit, *, is_final: bool) -> None:
        """Call this with the end of an actor that lives here."""
        if is_final and self._member.token(*served.standin.key) is None:
            self._finish(served, Ended(served.number, "moved"))
            return
        kind = type(exit_).__name__.lower()
        kind = f"{kind}_for_good" if is_final else kind
        self._finish(served, Ended(served.number, kind, _text_of(exit_)))

    def _finish(self, served: _Served, ended: Ended) -> None:
        if self._served.pop((served.node_id, served.number), None) is not None:
            self._tell(served, ended)

    def _tell(self, served: _Served, ended: Ended) -> None:
        if served.node_id == self._member.node_id:
            self.heard_end(served.node_id, ended)
        else:
            self._say(served.node_id, ended)

    def _drop(self, node_id: UUID, number: int) -> None:
        served = self._served.pop((node_id, number), None)
        if served is not None and served.cell is not None:
            served.cell.unwatch(served)

    def new_life(self) -> None:
        """Call this when this process is another node: nothing it was told of the former holds."""
        for key in list(self._served):
            self._drop(*key)
        for number in list(self._own):
            self._end(number, MOVED, is_final=False)


_FINAL: Final = frozenset(
    {"normal_for_good", "shutdown_for_good", "killed_for_good", "crashed_for_good", "no_proc"}
)


def _text_of(exit_: Exit) -> str:
    if isinstance(exit_, Crashed):
        return f"{type(exit_.error).__name__}: {exit_.error}"[:REMOTE_TEXT_MAX]
    return exit_text(exit_)[:REMOTE_TEXT_MAX]


def _exit_of(ended: Ended) -> Exit:
    match ended.exit.removesuffix("_for_good"):
        case "normal":
            return Normal()
        case "shutdown":
            return Shutdown(because=ended.text)
        case "killed":
            return Killed(because=ended.text)
        case "moved":
            return MOVED
        case "no_proc":
            return Killed(because=ended.text or "it is not there")
        case _:
            kind, _, text = ended.text.partition(": ")
            return Crashed(RemoteError(kind, text))
