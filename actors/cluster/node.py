"""The actor that makes its process a node: it beats, claims, hands over, and ends it in time.

Rule 1: a life is fenced by a task that waits for nothing but the clock. However long the store
        takes to answer, what is owned ends 4 s after the last renewal was asked for.
Rule 2: a life is over for good. The next one has another id, and owns nothing of the former's.
Rule 3: what was claimed or given away while a heartbeat was under way is not undone by its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Never
from uuid import UUID

import trio

from actors.cluster.holding import HandOverStep, Moved, hand_over_step
from actors.cluster.member import Member
from actors.cluster.membership import clock_offset, moves
from actors.cluster.nodes import Nodes
from actors.cluster.placement import MOVES_MAX, Move
from actors.cluster.words import (
    HEARTBEAT_S,
    LinkState,
    NewNode,
    NodeState,
    NotMember,
    OtherShardCount,
    SecretMarks,
    Survey,
)
from actors.persistence.errors import StoreError
from actors.reducers import Environment
from actors.runtime import Actor, Crashed, Exit, Log

# A store that is away, or a name of a life that is not over yet, is asked again after this.
RETRY_S = 0.5
# CLU-5. A server that is away is told by every node within a heartbeat and noted by the next, with
# one more for a slow one: who tells it first would else give what it owns to nodes that have no
# link either.
ALONE_AFTER_S = 3 * HEARTBEAT_S
# How often a shard that is handed over is looked at, where no actor's end tells.
LOOK_S = 0.1
# A node that stops waits so long until others have its shards: less than the runtime gives a stop.
LEAVE_S_MAX = 3.0
# What it needs to tell that it has gone; without that the others wait for the end of its lease.
FAREWELL_S_MAX = 1.0

_log = Log("actors.cluster")


class Fenced(Exception):
    """Ends one life of a node; never leaves this file."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process calls itself, whatever its life."""

    name: str
    version: str
    weight: int = 1
    marks: SecretMarks = field(default_factory=SecretMarks)


class ClusterNode(Actor[Never]):
    """Keeps a `Member` true; takes no messages.

    `link` tells whether this node can speak with the others, `trips` how long a word to each of
    them takes. `Member.hand_over` begins the planned end, while all else here still serves;
    leaving the tree is its end, where what is left is handed over while somebody is there to take
    it, for 3 s at most, and given back. A kill, or a store that is away, leaves that to the leases.
    """

    def __init__(
        self,
        nodes: Nodes,
        member: Member,
        identity: Identity,
        env: Environment,
        *,
        link: Callable[[], LinkState] = lambda: LinkState.UP,
        trips: Callable[[], Mapping[UUID, float]] = dict,
    ) -> None:
        self._nodes, self._member, self._identity = nodes, member, identity
        self._env, self._link, self._trips = env, link, trips
        self._moving: set[int] = set()
        self._is_beside = False
        # The codes of why the store does not do what it is asked; each is told once.
        self._away: set[str] = set()
        self._linkless_at: float | None = None
        self._wake, self._wanted = trio.Event(), trio.Event()

    def on_start(self) -> None:
        """Begin the first life."""
        self.start_soon(self._live)

    async def on_stop(self, exit_: Exit) -> None:
        """Hand over, and give back the rest; what crashed only gives back."""
        member = self._member
        if isinstance(exit_, Crashed):
            # The tasks that renew are over. Its supervisor begins another life at once.
            member.end()
            await self._tell_gone(member.node_id)
            return
        is_last = member.leaving.is_set()
        member.leaving.set()
        if member.state in {NodeState.UP, NodeState.DRAINING}:
            with trio.move_on_after(LEAVE_S_MAX):
                await self._hand_over_all()
        await self._tell_gone(member.node_id)
        member.end()
        if not is_last:
            # Of the process nobody has said that it ends: it may be this actor alone, restarted.
            member.leaving = trio.Event()

    async def _hand_over_all(self) -> None:
        member = self._member
        try:
            await self._nodes.set_state(member.node_id, NodeState.DRAINING)
        except StoreError:
            return
        self._look()
        await member.hand_over()

    async def _tell_gone(self, node_id: UUID) -> None:
        """The others need not wait for the rest of the lease."""
        with trio.move_on_after(FAREWELL_S_MAX):
            try:
                await self._nodes.set_state(node_id, NodeState.GONE)
            except StoreError as error:
                _log.warning("cluster.farewell_failed", code=error.code)

    @property
    def _is_leaving(self) -> bool:
        return self._member.leaving.is_set()

    # Lives

    async def _live(self) -> None:
        member = self._member
        if member.lives and member.state is not NodeState.GONE:
            # Of an incarnation that crashed: nobody renews what it owned.
            member.end()
            await self._tell_gone(member.node_id)
        while not self._is_leaving:
            await self._join()
            try:
                async with trio.open_nursery() as life:
                    life.start_soon(self._fence_in_time)
                    life.start_soon(self._beat)
                    life.start_soon(self._serve, life)
                    life.start_soon(self._hear_of_leaving)
            except* Fenced as group:
                self._member.end()
                self._moving.clear()
                why = "; ".join(str(error) for error in group.exceptions)
                _log.error("cluster.node_fenced", node=self._identity.name, reason=why)
                await self._tell_gone(self._member.node_id)

    async def _join(self) -> None:
        identity, member = self._identity, self._member
        while True:
            node_id, sent_at = self._env.ids.new_id(), member.clock()
            node = NewNode(
                node_id,
                identity.name,
                identity.version,
                identity.weight,
                member.shards,
                identity.marks,
            )
            try:
                await self._nodes.join(node)
            except OtherShardCount:
                raise
            except StoreError as error:
                self._note_away(error)
                member.waits_for = error.code
                await trio.sleep(RETRY_S)
                continue
            self._away.clear()
            member.waits_for = ""
            member.begin(node_id, sent_at)
            _log.info("cluster.node_joined", node=identity.name, node_id=str(node_id))
            return

    def _note_away(self, error: StoreError) -> None:
        if error.code not in self._away:
            _log.warning("cluster.node_waits", node=self._identity.name, code=error.code)
        self._away.add(error.code)

    async def _fence_in_time(self) -> None:
        holding = self._member.holding
        while (left := holding.left_s) > 0:  # noqa: ASYNC110  (a clock sets no event)
            await trio.sleep(left)
        raise Fenced("no lease was renewed in time")

    async def _beat(self) -> None:
        member = self._member
        holding, clock = member.holding, self._env.clock
        while True:
            sent_at, sent, changes = member.clock(), clock.now(), holding.changes
            link = self._link()
            if link is LinkState.UP:
                self._linkless_at = None
            elif self._linkless_at is None:
                self._linkless_at = sent_at
            try:
                beat = await self._nodes.beat(member.node_id, link=link, trips=self._trips())
            except NotMember as error:
                raise Fenced(str(error)) from error
            except StoreError as error:
                self._note_away(error)
            else:
                self._away.clear()
                member.offset = clock_offset(sent, beat.now, clock.now())
                before = dict(holding.epochs)
                holding.renewed(sent_at, beat.held, changes)
                if beat.state is not member.state:
                    member.state = beat.state
                    self._look()
                if before != holding.epochs:
                    member.ring()
            wanted = member.wanted
            with trio.move_on_after(max(0.0, HEARTBEAT_S - (member.clock() - sent_at))):
                await wanted.wait()

    # Owning

    def _look(self) -> None:
        self._wake.set()

    async def _serve(self, life: trio.Nursery) -> None:
        member = self._member
        is_up = False
        while True:
            self._wake, self._wanted = trio.Event(), member.wanted
            try:
                if not is_up and not self._is_leaving:
                    if not await self._nodes.set_state(member.node_id, NodeState.UP):
                        raise Fenced("the node was given up while it joined")
                    member.state, is_up = NodeState.UP, True
                if is_up and self._is_leaving and member.state is NodeState.UP:
                    await self._nodes.set_state(member.node_id, NodeState.DRAINING)
                    member.state = NodeState.DRAINING
                survey = await self._nodes.survey()
                member.read(survey)
                self._tell_alone(survey)
                await self._carry_out(survey, life)
            except StoreError as error:
                self._note_away(error)
            await self._until_next_look()

    async def _until_next_look(self) -> None:
        wake, wanted = self._wake, self._wanted

        async def end_when(event: trio.Event) -> None:
            await event.wait()
            waiting.cancel_scope.cancel()

        with trio.move_on_after(HEARTBEAT_S):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(end_when, wake)
                waiting.start_soon(end_when, wanted)

    async def _hear_of_leaving(self) -> None:
        await self._member.leaving.wait()
        self._look()

    def _tell_alone(self, survey: Survey) -> None:
        """Two that start in one moment may not have seen each other: it is told, once."""
        if survey.alone and not self._is_beside:
            _log.error("cluster.served_beside", node=self._identity.name, by=survey.alone[0])
        self._is_beside = bool(survey.alone)

    async def _carry_out(self, survey: Survey, life: trio.Nursery) -> None:
        member, mine = self._member, str(self._member.node_id)
        planned = moves(survey, member.shards, member.planned())
        wanted = {
            move.shard: row.epoch if (row := survey.shards.get(move.shard)) else 0
            for move in planned
            if move.source is None and move.to == mine
        }
        if wanted and not self._is_leaving:
            got = await self._nodes.claim(member.node_id, wanted)
            member.holding.gained(got)
            for shard, gained in got.items():
                member.moved(Moved(shard, mine, gained))
            if got:
                _log.info("cluster.shards_claimed", node=self._identity.name, shards=len(got))
                member.ring()
        given = [move for move in planned if move.source is not None]
        if self._may_not_be_alone():
            return
        for move in given[:MOVES_MAX]:
            epoch = member.holding.epochs.get(move.shard)
            if move.source == mine and epoch is not None and move.shard not in self._moving:
                self._moving.add(move.shard)
                life.start_soon(self._hand_over, move, epoch)

    def _may_not_be_alone(self) -> bool:
        """Whether others may be without a link as well, and have not told it yet."""
        member, at = self._member, self._linkless_at
        if at is None or member.state is not NodeState.UP or self._is_leaving:
            return False
        return member.clock() - at < ALONE_AFTER_S

    async def _hand_over(self, move: Move, epoch: int) -> None:
        member, shard = self._member, move.shard
        holding = member.holding
        began = member.clock()
        holding.close(shard)
        member.ring()
        try:
            while (step := self._step(shard, began)) is HandOverStep.WAIT:
                changed = member.changed
                with trio.move_on_after(LOOK_S):
                    await changed.wait()
            if step is HandOverStep.KILL:
                _log.warning("cluster.hand_over_forced", shard=shard, left=member.residents(shard))
            raised = await self._nodes.hand_over(member.node_id, shard, epoch, UUID(move.to))
        except StoreError as error:
            self._note_away(error)
            raised = None
        if raised is None:
            holding.reopen(shard)
            if holding.token_of(shard) is not None:
                member.moved(Moved(shard, str(member.node_id), epoch), is_kept=True)
        else:
            holding.drop([shard])
            member.moved(Moved(shard, move.to, raised))
        self._moving.discard(shard)
        member.ring()
        self._look()

    def _step(self, shard: int, began: float) -> HandOverStep:
        return hand_over_step(began, self._member.clock(), self._member.residents(shard))
