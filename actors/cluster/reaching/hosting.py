"""Actors that live on the node that owns their shard: begun there, ended before another has it.

Rule 1: nothing begins without a token of the holding, and its appends are made under that token.
Rule 2: what lives in a shard that is given away, lost or fenced is ended; until the last has, the
        shard is not given to anybody (`Member.residents`).
Rule 3: what is ours by now is looked at, not what was told: a lost hint costs a second.
Rule 4: what is remembered is noted before it begins, so that none can run that nobody knows of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

import trio

from actors.cluster.holding import HAND_OVER_S, Moved
from actors.cluster.member import Member
from actors.cluster.nodes import Remembering
from actors.persistence.errors import Fenced, StoreError
from actors.persistence.words import Shard
from actors.runtime import (
    Actor,
    AnyActor,
    AnyRef,
    AskError,
    Down,
    Log,
    NoProc,
    Normal,
    Shutdown,
    StopTimeout,
)
from actors.runtime.life.cell import Cell, cell_of

# What a hint would have told is found by then; a singleton that gave up begins anew.
LOOK_S = 1.0
# So many of those that are remembered are read at once, and begun one after the other.
RECALL_MAX = 100

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
    """What lives on this node: one for a `Member`. `children` gives the supervisor that runs now.

    `Host(member, children, kinds={"room": make_room}, singletons={"timers": make_timers})`.
    Actors of the kinds in `remembered` begin without a message wherever their shard goes, once
    they have begun anywhere, until they end by themselves; `memory` is where that is noted.
    `HostActor` keeps it true. Belongs to the trio thread.
    """

    def __init__(
        self,
        member: Member,
        children: Callable[[], Children],
        *,
        kinds: Mapping[str, MakeOwned] | None = None,
        singletons: Mapping[str, MakeSingleton] | None = None,
        remembered: Collection[str] = (),
        memory: Remembering | None = None,
    ) -> None:
        self.member, self._children, self._memory = member, children, memory
        self._kinds: dict[str, MakeOwned] = {}
        self._singletons: dict[str, MakeSingleton] = {}
        self._shards: dict[str, int] = {}
        self._remembered: set[str] = set()
        # In which epoch of a shard those that are remembered of it were begun here, and which.
        self._recalled: dict[int, int] = {}
        self._noted: dict[tuple[str, str], Shard] = {}
        self.own(kinds=kinds or {}, singletons=singletons or {}, remembered=remembered)
        self._residents: dict[tuple[str, str], _Resident] = {}
        # In which epoch a singleton has ended by itself: it has done all it had to.
        self._done: dict[str, int] = {}
        # Until when a singleton that did not start rests; without a name, what is remembered.
        self._left_alone_until: dict[str, float] = {}
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        return f"<Host: {len(self._residents)} actors>"

    def own(
        self,
        *,
        kinds: Mapping[str, MakeOwned] | None = None,
        singletons: Mapping[str, MakeSingleton] | None = None,
        remembered: Collection[str] = (),
    ) -> None:
        """Call this, before its `HostActor` starts, for more of what may live here.

        Raises `ValueError` for a name that is taken, for a kind that is remembered and unknown,
        and for one that is remembered where nothing is noted.
        """
        kinds, singletons = kinds or {}, singletons or {}
        taken = sorted((kinds.keys() & self._kinds) | (singletons.keys() & self._singletons))
        if taken:
            raise ValueError(f"{taken[0]} is owned here already")
        self._kinds.update(kinds)
        self._singletons.update(singletons)
        self._shards.update({name: self.member.singleton(name) for name in singletons})
        unknown = sorted(set(remembered) - self._kinds.keys())
        if unknown:
            raise ValueError(f"{unknown[0]} is remembered, and no kind of actors here")
        if remembered and self._memory is None:
            raise ValueError("kinds are remembered, and there is no `memory` to note them in")
        self._remembered.update(remembered)

    @property
    def residents(self) -> Mapping[tuple[str, str], AnyRef]:
        """Call this for what lives here, by kind and id; of a singleton the kind is empty."""
        return {key: one.ref for key, one in self._residents.items()}

    async def reach(self, kind: str, id_: str) -> AnyRef:
        """Call this for an actor that this node owns; the first call starts it.

        Raises `Elsewhere`, `UnknownKind`, what its start raises, and where it is remembered what
        the store raises; then it was not begun. Cancelled while it starts, the start goes on, and
        what was started is ended with its shard.
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
            await self._note((kind, id_), token)
            return await self._begin((kind, id_), token, partial(self._kinds[kind], id_, token))

    async def _note(self, key: tuple[str, str], token: Shard) -> None:
        if self._memory is None or key[0] not in self._remembered or self._noted.get(key) == token:
            return
        try:
            await self._memory.remember(token, *key)
        except Fenced as error:
            raise Elsewhere(*key, self.member.whose(*key)) from error
        self._noted[key] = token

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

    async def ended(self, ref: AnyRef, *, is_done: bool, is_fenced: bool = False) -> None:
        """Call this with the end of an actor that nobody here has asked for.

        One that is remembered is forgotten when it ended by itself, and else begun anew. One that
        was fenced knows sooner than this node that its shard is another's: the database is asked,
        and until it has told, nothing begins in its place.
        """
        for key, one in list(self._residents.items()):
            if one.ref == ref and not one.is_ending:
                if is_fenced:
                    self._leave_alone(key[1] if key[0] == "" else "")
                    self.member.want_news()
                if is_done and key[0] == "":
                    self._done[key[1]] = one.token.epoch
                self.left(key, one)
                if not is_done:
                    self._recalled.pop(one.token.id, None)
                elif (noted := self._noted.pop(key, None)) is not None:
                    await self._forget(key, noted)

    async def _forget(self, key: tuple[str, str], token: Shard) -> None:
        assert self._memory is not None, "what is noted has a memory"
        try:
            async with self._turn:
                if key not in self._residents:
                    await self._memory.forget(token, *key)
        except StoreError as error:
            # Begun once more where its shard goes, it ends by itself there, and is forgotten then.
            _log.warning("cluster.not_forgotten", kind=key[0], code=error.code)

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
            if self._done.get(name) == token.epoch or self._is_left_alone(name):
                continue
            try:
                async with self._turn:
                    make = partial(self._singletons[name], token)
                    await self._begin(("", name), token, make)
            except Exception as error:  # noqa: BLE001  (whatever its start raises)
                self._leave_alone(name)
                _log.warning("cluster.singleton_failed", name=name, error=type(error).__name__)
            else:
                _log.info("cluster.singleton_begun", name=name, epoch=token.epoch)

    def _is_left_alone(self, name: str) -> bool:
        return self.member.clock() < self._left_alone_until.get(name, 0.0)

    def _leave_alone(self, name: str) -> None:
        # What failed to start has left its shard, which wakes who looks: not for the next attempt.
        self._left_alone_until[name] = self.member.clock() + LOOK_S

    async def recall(self) -> None:
        """Call this to begin those that are remembered of the shards that are new here.

        One that does not begin keeps no other from it, and is tried again a second later. Raises
        what the store raises.
        """
        if self._memory is None or not self._remembered or self._is_left_alone(""):
            return
        holding = self.member.holding
        self._recalled = {s: e for s, e in self._recalled.items() if holding.epochs.get(s) == e}
        self._noted = {key: one for key, one in self._noted.items() if holding.may(one)}
        epochs = {s: e for s, e in holding.epochs.items() if s not in self._recalled}
        if not epochs:
            return
        after, missed = ("", ""), set[int]()
        while page := await self._memory.remembered(epochs, after=after, limit=RECALL_MAX):
            for kind, id_ in page:
                if kind in self._remembered and not await self._is_begun(kind, id_):
                    missed.add(self.member.shard(kind, id_))
            after = page[-1]
        self._recalled.update({s: e for s, e in epochs.items() if s not in missed})
        if missed:
            self._leave_alone("")

    async def _is_begun(self, kind: str, id_: str) -> bool:
        token = self.member.token(kind, id_)
        if token is None:
            return True  # another's by now, who begins it
        self._noted.setdefault((kind, id_), token)
        try:
            await self.reach(kind, id_)
        except Elsewhere:
            return True
        except Exception as error:  # noqa: BLE001  (whatever a start of the user's code raises)
            _log.warning("cluster.remembered_failed", kind=kind, error=type(error).__name__)
            return False
        return True


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
            await self._host.settle(self.start_soon)
            try:
                await self._host.recall()
            except StoreError as error:
                _log.warning("cluster.recall_waits", code=error.code)
            for ref in set(self._host.residents.values()) - watched:
                self.monitor(ref, final=True)
            watched = set(self._host.residents.values())
            with trio.move_on_after(LOOK_S):
                await changed.wait()

    async def on_down(self, message: Down) -> None:
        """Note that an actor has ended for good.

        By itself, or by its supervisor, which may have been restarted: then it is begun again.
        """
        exit_ = message.exit
        if isinstance(exit_, NoProc):  # it was over before it was watched
            exit_ = next(reversed(cell_of(message.ref).last_exits), exit_)
        is_fenced = isinstance(exit_, Shutdown) and exit_.info == Fenced.code
        is_done = isinstance(exit_, Normal)
        await self._host.ended(message.ref, is_done=is_done, is_fenced=is_fenced)
