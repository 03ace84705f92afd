"""What a node owns at this moment, and what it knows of the others' shards.

`Holding` is asked before each effect that no transaction guards; `OwnerMap` says where else to ask.
Both belong to one trio thread and never wait.

Rule: what `Holding` denies is not begun. What it allows may still be refused by the store, whose
epoch is the judge.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from actors.cluster.membership import Renewals
from actors.cluster.placement import shard_of
from actors.cluster.words import SHARDS, Survey
from actors.persistence.words import Shard

# CLU-16: a map that nobody corrected is read again after this.
MAP_READ_S = 5.0
# CLU-12: an actor that has not ended by then is killed, as if its node had crashed.
HAND_OVER_S = 5.0


@dataclass(frozen=True, slots=True)
class Moved:
    """The answer to a message for a shard that lies elsewhere: who has it, in which epoch.

    `owner` is empty when nobody is known to.
    """

    shard: int
    owner: str
    epoch: int


class HandOverStep(Enum):
    """What is next of a shard that is handed over."""

    WAIT = auto()
    KILL = auto()
    GIVE = auto()


def hand_over_step(began: float, now: float, actors: int) -> HandOverStep:
    """Call this while `actors` of a shard still finish what they have in hand."""
    if actors == 0:
        return HandOverStep.GIVE
    return HandOverStep.KILL if now - began >= HAND_OVER_S else HandOverStep.WAIT


class Holding:
    """The shards of this node, in their epochs.

    `clock` gives seconds and goes on while the process is stopped.
    """

    def __init__(self, owner: str, clock: Callable[[], float], shards: int = SHARDS) -> None:
        self.owner, self.shards = owner, shards
        self._clock = clock
        self._epochs: dict[int, int] = {}
        self._closing: set[int] = set()
        # What was given last of each shard: the same for all that is done there in one epoch.
        self._tokens: dict[int, Shard] = {}
        self._renewals = Renewals(-float("inf"))
        # Rises with what is changed here: an answer that was asked for before may not know of it.
        self.changes = 0

    def __repr__(self) -> str:
        return f"<Holding of {self.owner}: {len(self._epochs)} shards>"

    @property
    def epochs(self) -> Mapping[int, int]:
        """Call this for all that is held, also what is being handed over."""
        return self._epochs

    @property
    def is_fenced(self) -> bool:
        """Call this to ask whether the leases are too old to begin anything."""
        return self._renewals.is_over(self._clock())

    @property
    def left_s(self) -> float:
        """Call this for how long the leases allow work to begin; 0 when fenced."""
        return self._renewals.left_s(self._clock())

    def renewed(
        self, sent_at: float, held: Mapping[int, int], changes: int | None = None
    ) -> frozenset[int]:
        """Call this with the answer to a heartbeat, when it was sent, and at which `changes`.

        Gives the shards that were lost: held before, and now not, or in another epoch. Where
        something was claimed or given away meanwhile only the time counts; the next one tells.
        """
        self._renewals.renewed(sent_at)
        if changes is not None and changes != self.changes:
            return frozenset()
        lost = frozenset(s for s, epoch in self._epochs.items() if held.get(s) != epoch)
        self._epochs = dict(held)
        self._closing &= self._epochs.keys()
        return lost

    def gained(self, claimed: Mapping[int, int]) -> None:
        """Call this with what a claim gave."""
        self.changes += 1
        self._epochs.update(claimed)

    def close(self, shard: int) -> None:
        """Call this when a shard is to be handed over: nothing new is begun in it."""
        if shard in self._epochs:
            self._closing.add(shard)

    def reopen(self, shard: int) -> None:
        """Call this when it was not handed over after all."""
        self._closing.discard(shard)

    @property
    def closing(self) -> frozenset[int]:
        """Call this for what is being handed over."""
        return frozenset(self._closing)

    def drop(self, shards: Iterable[int]) -> None:
        """Call this when shards are another's, or nobody's."""
        self.changes += 1
        for shard in shards:
            self._epochs.pop(shard, None)
            self._closing.discard(shard)

    def fence(self) -> frozenset[int]:
        """Call this when the leases are over: all is dropped, and given back to the caller."""
        lost = frozenset(self._epochs)
        self.drop(lost)
        return lost

    def token(self, kind: str, id_: str) -> Shard | None:
        """Call this for what an actor's appends are made under; None when it is not ours."""
        return self.token_of(shard_of(kind, id_, self.shards))

    def token_of(self, shard: int) -> Shard | None:
        """Call this for the same of a shard by its number."""
        epoch = self._epochs.get(shard)
        if epoch is None or shard in self._closing or self._renewals.is_over(self._clock()):
            return None
        token = self._tokens.get(shard)
        if token is None or token.epoch != epoch:
            token = self._tokens[shard] = Shard(shard, self.owner, epoch)
        return token

    def allows(self, token: Shard) -> bool:
        """Call this to ask whether `token_of` would give just this one, without making it."""
        shard = token.id
        return (
            self._epochs.get(shard) == token.epoch
            and token.owner == self.owner
            and shard not in self._closing
            and not self._renewals.is_over(self._clock())
        )

    def may(self, token: Shard) -> bool:
        """Call this before a reply or an effect that no transaction guards.

        Also of a shard that is being handed over: what was begun there is finished.
        """
        is_held = self._epochs.get(token.id) == token.epoch and token.owner == self.owner
        return is_held and not self.is_fenced


class OwnerMap:
    """Shard by shard who owns it, as far as this node has heard."""

    def __init__(self, shards: int = SHARDS) -> None:
        self.shards = shards
        self._owners: dict[int, Moved] = {}
        self._read_at = -float("inf")

    def read(self, survey: Survey, now: float) -> None:
        """Call this with what the database says; an epoch that was heard since stays."""
        self._read_at = now
        for row in survey.shards.values():
            self.learn(Moved(row.shard, row.owner, row.epoch))

    def learn(self, hint: Moved) -> bool:
        """Call this with what another node says; False for what is known or outdated."""
        known = self._owners.get(hint.shard)
        if known is not None and hint.epoch <= known.epoch:
            return False
        self._owners[hint.shard] = hint
        return True

    def owner_of(self, kind: str, id_: str) -> Moved:
        """Call this for where an actor should be; epoch 0 when nobody has owned its shard yet."""
        return self.of(shard_of(kind, id_, self.shards))

    def of(self, shard: int) -> Moved:
        """Call this for the same of a shard by its number."""
        known = self._owners.get(shard)
        return Moved(shard, "", 0) if known is None else known

    def is_outdated(self, now: float) -> bool:
        """Call this to ask whether the map is to be read again."""
        return now - self._read_at >= MAP_READ_S
