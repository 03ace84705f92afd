"""The actor that fills the generations of a projection, for as long as it lives.

It fills what serves. What is wished is a row, and seen by whoever runs: a generation to be built
beside it, one that was halted and may go on, an event to be left out, parked events to be applied,
another generation to serve, and that private fields of what is filled were forgotten, for which a
new generation is filled. So a command in another process needs no way to this actor.

How a generation is filled stands in `filling.py`.
"""

from collections import Counter
from collections.abc import Sequence

import trio

from actors.persistence.errors import CursorOutdated, StoreError, StoreTimeout
from actors.persistence.event_store import EventStore, Follows
from actors.persistence.projections.filling import (
    AWAY_S,
    Filling,
    ProjectionStatus,
    status_before,
)
from actors.persistence.projections.projection import Projection
from actors.persistence.projections.store import (
    Checkpoint,
    GenerationState,
    ProjectionStore,
    next_generation,
    serves,
)
from actors.persistence.words import (
    KEY_OF_STREAM_BYTES_MAX,
    check_text,
    owned_name,
    split_name,
)
from actors.runtime import Actor, Ask, Log, Normal, message

# How soon a wish in the rows is seen, and that a subject was forgotten. Each look is two statements
# by an index.
LOOK_S = 1.0

# How long a start waits for a store that says nothing. Well under `start_timeout`: a runner whose
# store is away has started, and waits; one that has not started uses its supervisor's restarts up.
START_S_MAX = 5.0

_log = Log("actors.persistence")


@message
class AskStatus(Ask[ProjectionStatus]):
    """Asks a runner how it is."""


@message
class Resume:
    """Tells a halted runner to try again, after a fix."""


@message
class ReplayParked(Ask[int]):
    """Asks to apply what was parked of a stream, in order; answers how many were applied.

    Of a tenant's stream to a runner of all tenants' events with `StoredEvent.stream_key`. Raises
    `InvalidField` for what no stream can be called.
    """

    stream_id: str

    def __post_init__(self) -> None:
        check_text("stream_id", self.stream_id, KEY_OF_STREAM_BYTES_MAX)


class ProjectionRunner(Actor[AskStatus | Resume | ReplayParked]):
    """Fills a generation of a projection, in one of its parts.

    That is the serving one of its version; there is none: a new one, built beside the one of
    another version until it takes over. One of its version that was begun by `begin_rebuild` is
    built beside it, whoever began it, and filled from then on; so is a former one that somebody
    swapped back to. Another runner beside it does the same work once more, and harms nothing.

    `rebuild=True` begins with the one that is built, and fills nothing else until it serves.
    `until_replaced=True` is for an old version beside the new one: it fills what serves, begins
    nothing, and ends when the new one has taken over.

    From a tenant's view it fills generations of their own, of `owned_name(tenant, name)`; from the
    store of no tenant it is given the events of all, and `StoredEvent.stream_key` tells their
    streams apart.

    With a `source`, such as a `HeardLog`, it follows that instead of the store.
    """

    def __init__(
        self,
        projection: Projection,
        events: EventStore,
        store: ProjectionStore,
        *,
        rebuild: bool = False,
        until_replaced: bool = False,
        partition: int = 0,
        source: Follows | None = None,
    ) -> None:
        self._source = source
        self._name = owned_name(events.tenant, projection.name)
        self._projection, self._events, self._store = projection, events, store
        self._rebuild, self._until_replaced, self._partition = rebuild, until_replaced, partition
        if projection.inline:
            raise TypeError(f"{projection.name} is inline: the store applies it in its appends")
        if not 0 <= partition < projection.partitions:
            raise ValueError(f"{projection.name} has {projection.partitions} parts, no {partition}")
        projection.types.check()
        # What the store said when this began to wait for it; `_filling` is there when it is None.
        self._waits_for: StoreError | None = None
        self._is_resume_wished = False
        self._filling: Filling
        # What is built anew beside it.
        self._building: Filling | None = None

    async def on_start(self) -> None:
        """Find the generation to fill and begin; a store that is away is waited for."""
        with trio.move_on_after(START_S_MAX) as limit:
            self._waits_for = await self._maybe_start()
        if limit.cancelled_caught:
            self._waits_for = StoreTimeout(START_S_MAX)
        if self._waits_for is not None:
            self._tell_waiting(self._waits_for)
            self.start_soon(self._start_when_back)

    async def _start_when_back(self) -> None:
        while self._waits_for is not None:
            await trio.sleep(AWAY_S)
            self._waits_for = await self._maybe_start()

    async def _maybe_start(self) -> StoreError | None:
        """Begin; what the store said while it is away. What waiting does not mend is raised."""
        try:
            await self._start()
        except StoreError as error:
            if not error.is_transient:
                raise
            return error
        return None

    async def _start(self) -> None:
        # Each step may have been done by an attempt before, and does no harm again.
        known = await self._store.checkpoints(self._name)
        version = self._projection.version
        generation, state = next_generation(known, version, rebuild=self._rebuild)
        if self._until_replaced and not any(
            serves(one) and one.generation == generation for one in known
        ):
            self.stop(Normal())
            return
        checkpoint = await self._open(generation, state)
        lineage = await self._events.lineage()
        if checkpoint.lineage != lineage:
            raise CursorOutdated(checkpoint.lineage, lineage)
        if checkpoint.state is GenerationState.BUILDING:
            for one in known:
                # Whoever still fills it says so with the next commit.
                if serves(one) and one.version != version:
                    await self._store.leave(one)
        if self._is_resume_wished:
            await self._store.resume(self._name, generation)
        self._filling = self._begin(checkpoint)
        self.start_soon(self._stay)
        self.start_soon(self._look_for_ever)

    async def on_ask_status(self, message: AskStatus) -> ProjectionStatus:
        """Tell how it is."""
        if self._waits_for is not None:
            return status_before(self._waits_for)
        return await self._filling.status()

    def on_resume(self, message: Resume) -> None:
        """Let a halted run go on, and with it all parts of its generation."""
        if self._waits_for is not None:
            self._is_resume_wished = True
        else:
            self._filling.resume()

    async def on_replay_parked(self, message: ReplayParked) -> int:
        """Apply what was parked of one stream, all of it; stops at the first that fails again."""
        if self._waits_for is not None:
            return 0
        stream_key = message.stream_id
        if self._events.tenant is not None and split_name(stream_key)[0] is None:
            stream_key = owned_name(self._events.tenant, stream_key)
        return await self._filling.replay(stream_key)

    async def _open(self, generation: int, state: GenerationState) -> Checkpoint:
        """Make the checkpoints of all parts, so that nobody takes a part's for the whole."""
        projection = self._projection
        for partition in range(projection.partitions):
            await self._store.open(self._name, generation, projection.version, state, partition)
        known = await self._store.checkpoints(self._name)
        mine = [one for one in known if one.generation == generation]
        if len(mine) != projection.partitions:
            # A stream may have moved to another part, whose checkpoint knows nothing of it.
            raise TypeError(
                f"generation {generation} of {self._name} has {len(mine)} parts, the class "
                f"declares {projection.partitions}; raise its version to have it rebuilt"
            )
        return mine[self._partition]

    def _begin(self, checkpoint: Checkpoint) -> Filling:
        filling = Filling(
            self._projection,
            self._events,
            self._store,
            checkpoint,
            keeps_outdated=self._until_replaced,
            source=self._source,
        )
        self.start_soon(filling.run)
        self.start_soon(filling.save_for_ever)
        return filling

    async def _stay(self) -> None:
        """Fill what serves: one generation after the other, until there is none of this version."""
        while True:
            await self._filling.ended.wait()
            try:
                following = await self._following()
            except StoreError as error:
                self._tell_waiting(error)
                await trio.sleep(AWAY_S)
                continue
            if following is None:
                self.stop(Normal())
                return
            self._filling = following

    async def _following(self) -> Filling | None:
        """What takes the place of a generation that is retired or outdated.

        One that was built here or elsewhere, one of before that somebody swapped back to, or a new
        one, which has nothing of a forgotten subject. None when what serves is of another version.
        """
        if self._until_replaced:
            return None
        left, name = self._filling, self._name
        known = await self._store.checkpoints(name)
        if not left.is_outdated and not any(self._is_mine(one) and serves(one) for one in known):
            return None
        version = self._projection.version
        generation, state = next_generation(known, version, rebuild=left.is_outdated)
        building, self._building = self._building, None
        if building is not None and not building.ended.is_set():
            if building.checkpoint.generation == generation:
                return building
            self._building = building
        following = self._begin(await self._open(generation, state))
        if left.is_outdated:
            _log.info("persistence.projection_begins_anew", projection=name, generation=generation)
            # Nobody fills it any more, if it serves: who waits for it is told so at once.
            await self._store.leave(left.checkpoint)
        return following

    def _is_mine(self, checkpoint: Checkpoint) -> bool:
        mine = (self._projection.version, self._partition)
        return (checkpoint.version, checkpoint.partition) == mine

    # What is wished in the rows.

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look()
            except StoreError as error:
                self._tell_waiting(error)
            await trio.sleep(LOOK_S)

    async def _look(self) -> None:
        filling = self._filling
        known = await self._store.checkpoints(self._name)
        mine = [one for one in known if self._is_mine(one)]
        if self._building is not None and self._building.ended.is_set():
            self._building = None
        for filled in (filling, self._building):
            if filled is not None and _is_elsewhere(filled.checkpoint, mine):
                await filled.look_again()
        if not self._until_replaced and self._building is None:
            wished = self._wished(known)
            if wished is not None:
                # All parts: whoever wished it may have been killed between two of them.
                self._building = self._begin(await self._open(wished, GenerationState.BUILDING))
        for stream_key in await self._store.wished_replays(filling.checkpoint.collection):
            if filling.is_ours(stream_key):
                await filling.replay(stream_key)

    def _wished(self, known: Sequence[Checkpoint]) -> int | None:
        """Which generation of this version is to be built beside the one that is filled."""
        parts = Counter(
            one.generation
            for one in known
            if one.version == self._projection.version
            and one.generation != self._filling.checkpoint.generation
            and one.state is GenerationState.BUILDING
            and not one.is_outdated
        )
        # One of other parts is nobody's here; it must not end who fills what serves.
        fitting = [one for one, count in parts.items() if count <= self._projection.partitions]
        return min(fitting, default=None)

    def _tell_waiting(self, error: StoreError) -> None:
        name = self._name
        _log.warning("persistence.projection_waits", projection=name, code=error.code)


def _is_elsewhere(held: Checkpoint, known: Sequence[Checkpoint]) -> bool:
    """Whether a row says otherwise than who fills its generation believes, or is gone."""
    for one in known:
        if one.generation == held.generation:
            return (one.state, one.is_outdated) != (held.state, held.is_outdated)
    return True
