"""Actors that live on the node that owns their shard: begun there, ended before another has it.

Rule 1: nothing begins without a token of the holding, and its appends are made under that token.
Rule 2: what lives in a shard that is given away, lost or fenced is ended; until the last has, the
        shard is not given to anybody (`Member.residents`).
Rule 3: what is ours by now is looked at, not what was told: a lost hint costs a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

import trio

from actors.cluster.holding import HAND_OVER_S, Moved
from actors.cluster.member import Member
from actors.persistence.words import Shard
from actors.runtime import Actor, AnyActor, AnyRef, AskError, Down, Log, NoProc, StopTimeout
from actors.runtime.life.cell import Cell, cell_of

# What a hint would have told is found by then; a singleton that gave up begins anew.
LOOK_S = 1.0

# Makes an actor of a kind by its id, or a singleton, given what its appends are made under.
MakeOwned = Callable[[str, Shard], AnyActor]
MakeSingleton = Callable[[Shard], AnyActor]
# Runs a task beside the messages of an actor, as `Actor.start_soon`.
StartSoon: TypeAlias = Callable[[Callable[[], Awaitable[object]]], None]

_log = Log("actors.cluster")


class Elsewhere(Exception):
    """Raised for an actor whose shard is not this node's, or is about to be another's.

    Nothing was begun. `moved` says who has it, as far as is known here; ask there.
    """

    def __init__(self, kind: str, id_: str, moved: Moved) -> None:
        whose = moved.owner or "nobody"
        super().__init__(
            f"{kind}/{id_} lies in shard {moved.shard}, which is of {whose} (epoch {moved.epoch}); "
            "nothing was begun here. Ask there."
        )
        self.kind, self.id, self.moved = kind, id_, moved


class UnknownKind(Exception):
    """Raised for a kind of actors that this program has not; nothing was begun."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"this program has no actors of kind {kind!r}; nothing was begun")
        self.kind = kind


class Started(Protocol):
    """The answer of a supervisor that has started a child."""

    @property
    def started(self) -> AnyRef:
        """The child."""


class Children(Protocol):
    """A dynamic supervisor of `made`: who restarts what lives here when it crashes."""

    async def start_child(self, make: Callable[[], AnyActor], /) -> Started:
        """Start one more."""

    async def terminate_child(self, ref: AnyRef, /) -> None:
        """End one, and wait for it."""


def made(make: Callable[[], AnyActor]) -> AnyActor:
    """Call this, as the template of a dynamic supervisor, for what lives here.

    `Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))`: one that was fenced
    has ended cleanly, and is not restarted.
    """
    return make()


class _Resident:
    def __init__(self, token: Shard, ref: AnyRef) -> None:
        self.token, self.ref, self.cell = token, ref, cell_of(ref)
        self.is_ending = False


class Host:
    """What lives on this node. `children` gives the supervisor that runs now.

    `Host(member, children, kinds={"room": make_room}, singletons={"timers": make_timers})`.
    `HostActor` keeps it true. Belongs to the trio thread.
    """

    def __init__(
        self,
        member: Member,
        children: Callable[[], Children],
        *,
        kinds: Mapping[str, MakeOwned] | None = None,
        singletons: Mapping[str, MakeSingleton] | None = None,
    ) -> None:
        self.member, self._children = member, children
        self._kinds, self._singletons = dict(kinds or {}), dict(singletons or {})
        self._shards = {name: member.singleton(name) for name in self._singletons}
        self._residents: dict[tuple[str, str], _Resident] = {}
        # In which epoch a singleton has ended by itself: it has done all it had to.
        self._done: dict[str, int] = {}
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        return f"<Host: {len(self._residents)} actors>"

    @property
    def residents(self) -> Mapping[tuple[str, str], AnyRef]:
        """Call this for what lives here, by kind and id; of a singleton the kind is empty."""
        return {key: one.ref for key, one in self._residents.items()}

    async def reach(self, kind: str, id_: str) -> AnyRef:
        """Call this for an actor that this node owns; the first call starts it.

        Raises `Elsewhere`, `UnknownKind`, and what its start raises. Cancelled while it starts, the
        start goes on, and what was started is ended with its shard.
        """
        if kind not in self._kinds:
            raise UnknownKind(kind)
        async with self._turn:
            token = self.member.token(kind, id_)
            if token is None:
                raise Elsewhere(kind, id_, self.member.whose(kind, id_))
            found = self._residents.get((kind, id_))
            if found is not None and found.token == token and not found.is_ending:
                if not cell_of(found.ref).gone:
                    return found.ref
                # Its end was not told yet, and another may begin.
                self.left((kind, id_), found)
                found = None
            if found is not None:
                await self._end((kind, id_), found)
            return await self._begin((kind, id_), token, partial(self._kinds[kind], id_, token))

    async def _begin(
        self, key: tuple[str, str], token: Shard, make: Callable[[], AnyActor]
    ) -> AnyRef:
        # Counted first: whoever hands the shard over meanwhile waits for what is being started.
        self.member.moved_in(token.id)
        try:
            ref = (await self._children().start_child(make)).started
        except BaseException:
            self.member.moved_out(token.id)
            raise
        self._residents[key] = _Resident(token, ref)
        return ref

    def resident(self, key: tuple[str, str], token: Shard) -> Cell | None:
        """Call this for an actor that runs here under a token; it starts nothing."""
        found = self._residents.get(key)
        if found is None or found.is_ending or found.cell.gone:
            return None
        # Nearly always the very same: `Holding.token_of` makes one for an epoch.
        return found.cell if found.token is token or found.token == token else None

    def resident_now(self, key: tuple[str, str]) -> AnyRef | None:
        """Call this for the same under whatever token is held now; for each message, so quick."""
        found = self._residents.get(key)
        if (
            found is None
            or found.is_ending
            or not self.member.holding.allows(found.token)
            or found.cell.gone
        ):
            return None
        return found.ref

    def knows(self, kind: str) -> bool:
        """Call this to ask whether this program has actors of a kind."""
        return kind in self._kinds

    async def _end(self, key: tuple[str, str], one: _Resident) -> None:
        one.is_ending = True
        try:
            if self.member.may(one.token):
                # What it was told while the shard was ours it handles here, so none is lost.
                with suppress(StopTimeout):
                    await one.ref.stop(timeout=HAND_OVER_S, drain=True)
            await self._children().terminate_child(one.ref)
        except AskError:
            pass  # its supervisor is being restarted, and ends it
        self.left(key, one)

    def left(self, key: tuple[str, str], one: _Resident) -> None:
        """Call this when an actor has ended for good."""
        if self._residents.get(key) is one:
            del self._residents[key]
            self.member.moved_out(one.token.id)

    def ended(self, ref: AnyRef, *, is_clean: bool) -> None:
        """Call this with the end of an actor that nobody here has asked for."""
        for key, one in list(self._residents.items()):
            if one.ref == ref and not one.is_ending:
                if is_clean and key[0] == "":
                    self._done[key[1]] = one.token.epoch
                self.left(key, one)

    def foreign(self) -> list[tuple[tuple[str, str], _Resident]]:
        """Call this for what must not live here any more."""
        holding = self.member.holding
        return [
            (key, one)
            for key, one in self._residents.items()
            if not one.is_ending and (one.token.id in holding.closing or not holding.may(one.token))
        ]

    async def settle(self, start_soon: StartSoon) -> None:
        """Call this to end what must go, each beside the others, and begin the singletons."""
        for key, one in self.foreign():
            one.is_ending = True
            start_soon(partial(self._end, key, one))
        for name, shard in self._shards.items():
            token = self.member.holding.token_of(shard)
            if token is None or ("", name) in self._residents:
                continue
            if self._done.get(name) == token.epoch:
                continue
            async with self._turn:
                make = partial(self._singletons[name], token)
                await self._begin(("", name), token, make)
            _log.info("cluster.singleton_begun", name=name, epoch=token.epoch)


class HostActor(Actor[Down]):
    """Keeps a `Host` true for as long as it lives."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def on_start(self) -> None:
        """Begin to look."""
        self.start_soon(self._look)

    async def _look(self) -> None:
        watched: set[AnyRef] = set()
        while True:
            changed = self._host.member.changed
            try:
                await self._host.settle(self.start_soon)
            except Exception as error:  # noqa: BLE001  (whose start failed is tried again)
                _log.warning("cluster.singleton_failed", error=type(error).__name__)
            for ref in set(self._host.residents.values()) - watched:
                self.monitor(ref, final=True)
            watched = set(self._host.residents.values())
            with trio.move_on_after(LOOK_S):
                await changed.wait()

    def on_down(self, message: Down) -> None:
        """Note that an actor has ended for good."""
        exit_ = message.exit
        self._host.ended(message.ref, is_clean=not isinstance(exit_, NoProc) and exit_.clean)
