"""This process in its cluster: what it owns, what it knows of the others, and who lives here.

Made once for a process and handed to all who ask; `node.py` is the actor that keeps it true. It
outlives that actor's incarnations, and its lives as a node. Belongs to the trio thread.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import trio

from actors.cluster.holding import Holding, Moved, OwnerMap
from actors.cluster.membership import may_own, owners
from actors.cluster.placement import shard_of, singleton_shard
from actors.cluster.words import SHARDS, ClockOffset, NodeState, Survey
from actors.persistence.words import Shard, ShardLease

# CLU-40: until then a shard may just be changing hands; from the second on somebody should look.
UNOWNED_S = 2.0
UNOWNED_S_MAX = 30.0
# However many want to know more, the database is asked at most so often for it.
NEWS_S_MIN = 0.05

_NOBODY = UUID(int=0)


class Member:
    """What one process knows; `clock` gives seconds and goes on while the process is stopped."""

    def __init__(self, clock: Callable[[], float], shards: int = SHARDS) -> None:
        self.clock, self.shards = clock, shards
        self.node_id = _NOBODY
        self.state = NodeState.JOINING
        self.holding = Holding("", clock, shards)
        self.map = OwnerMap(shards)
        self.survey: Survey | None = None
        self.offset: ClockOffset | None = None
        self.lives = 0
        # The code of what keeps it from joining, as long as it tries.
        self.waits_for = ""
        # Set once, when this process is about to end: it hands over, and claims nothing any more.
        self.leaving = trio.Event()
        # Singletons that this program has; each is planned from when it is known.
        self.singletons: set[int] = set()
        self._residents: Counter[int] = Counter()
        self._unowned_since: dict[int, float] = {}
        self._changed = trio.Event()
        self._wanted = trio.Event()
        self._wanted_at = -float("inf")
        # Told, at once, of each shard that this node has given away, claimed or kept after all.
        self.moved_watchers: list[Callable[[Moved, bool], None]] = []

    def __repr__(self) -> str:
        return f"<Member {self.node_id}: {self.state}, {self.holding!r}>"

    @property
    def is_serving(self) -> bool:
        """Call this to ask whether this node may be given work: it is up, and its leases run."""
        return self.state is NodeState.UP and not self.holding.is_fenced

    @property
    def changed(self) -> trio.Event:
        """Call this before looking; it is set when something here is another's, or is ours."""
        return self._changed

    def ring(self) -> None:
        """Call this when what is owned has changed."""
        self._changed.set()
        self._changed = trio.Event()

    @property
    def wanted(self) -> trio.Event:
        """Call this before waiting: it is set when somebody cannot wait for the next heartbeat."""
        return self._wanted

    def want_news(self) -> None:
        """Call this when what is known here is outdated: the database is asked soon."""
        now = self.clock()
        if now - self._wanted_at >= NEWS_S_MIN:
            self._wanted_at = now
            self._wanted.set()
            self._wanted = trio.Event()

    def moved(self, moved: Moved, *, is_kept: bool = False) -> None:
        """Call this when a shard has changed hands by this node's doing, or is kept after all."""
        self.map.learn(moved)
        for told in self.moved_watchers:
            told(moved, is_kept)

    # A life as a node

    def begin(self, node_id: UUID, sent_at: float) -> None:
        """Call this when this process has joined; `sent_at`: when it asked to."""
        self.node_id, self.state = node_id, NodeState.JOINING
        self.holding = Holding(str(node_id), self.clock, self.shards)
        self.holding.renewed(sent_at, {})
        self.lives += 1

    def end(self) -> None:
        """Call this when that life is over: nothing is owned any more, and all who own are told."""
        self.holding.fence()
        self.state = NodeState.GONE
        self.ring()

    async def hand_over(self) -> None:
        """Call this first of a planned end, within a limit of time: others get what is owned here.

        Returns when nothing is left, or nobody is there to take it. What serves goes on meanwhile;
        cancelled, what is left goes with the leases.
        """
        self.leaving.set()
        while self.holding.epochs and self.has_heirs:
            await self.changed.wait()

    @property
    def has_heirs(self) -> bool:
        """Call this to ask whether another node may own what is owned here."""
        survey, mine = self.survey, str(self.node_id)
        return survey is not None and bool(may_own(survey).keys() - {mine})

    def read(self, survey: Survey) -> None:
        """Call this with what the database says of all."""
        now = self.clock()
        self.survey = survey
        self.map.read(survey, now)
        unowned = {s for s, owner in owners(survey, self.shards).items() if owner is None}
        self._unowned_since = {s: self._unowned_since.get(s, now) for s in unowned}

    def unowned_s(self) -> float:
        """Call this for how long the shard that is nobody's for the longest has been so."""
        since = min(self._unowned_since.values(), default=None)
        return 0.0 if since is None else self.clock() - since

    # Who lives here

    def moved_in(self, shard: int) -> None:
        """Call this when an actor of a shard begins: a hand-over waits for its end."""
        self._residents[shard] += 1

    def moved_out(self, shard: int) -> None:
        """Call this when it has ended."""
        self._residents[shard] -= 1
        if self._residents[shard] <= 0:
            del self._residents[shard]
        self.ring()

    def residents(self, shard: int) -> int:
        """Call this for how many actors of a shard live here."""
        return self._residents[shard]

    # Whose is what

    def shard(self, kind: str, id_: str) -> int:
        """Call this for the shard of an actor."""
        return shard_of(kind, id_, self.shards)

    def token(self, kind: str, id_: str) -> Shard | None:
        """Call this for what an actor's appends are made under; None when it is not ours."""
        return self.holding.token(kind, id_)

    def singleton(self, name: str) -> int:
        """Call this to have a singleton planned; gives its shard."""
        shard = singleton_shard(name)
        self.singletons.add(shard)
        return shard

    def lease(self, token: Shard) -> ShardLease:
        """Call this for what a service of the whole cluster works under, instead of a lease."""
        return ShardLease(token, partial(self.may, token))

    def may(self, token: Shard) -> bool:
        """Call this before a reply or an effect that no transaction guards."""
        return self.holding.may(token)

    def whose(self, kind: str, id_: str) -> Moved:
        """Call this for who owns an actor's shard, as far as is known here."""
        shard = shard_of(kind, id_, self.shards)
        epoch = self.holding.epochs.get(shard)
        if epoch is None:
            return self.map.owner_of(kind, id_)
        return Moved(shard, self.holding.owner, epoch)

    def planned(self) -> Sequence[int]:
        """Call this for the singletons that are to be placed."""
        return sorted(self.singletons)
