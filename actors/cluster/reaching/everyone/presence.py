"""Who is present anywhere: a set of each node, told to all, and what is missing asked for.

Rule 1: a member is there while any node says so. A node says so of its own members only.
Rule 2: what is lost on the way heals: a change that does not follow the last one, a digest that
        differs, and a link that was away make a node ask for the whole set.
Rule 3: who was on a node that is gone is there for a while: their pages find another node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from actors.cluster.link import LinkMisuse
from actors.cluster.link.sayings import (
    ABOUT_BYTES_MAX,
    GROUP_MAX,
    MEMBER_MAX,
    Present,
    PresentDigest,
    PresentSet,
    WantPresent,
)
from actors.cluster.reaching.everyone.members import Copy, Own
from actors.cluster.reaching.talking import Talk
from actors.runtime import Log

# CLU-32. A change that nothing follows and that was lost is noticed by then.
DIGEST_S: Final = 5.0
# REL-37: a page that lost its line is back within this; so are those of a node that died.
GONE_KEPT_S: Final = 20.0
# An answer takes milliseconds. It or the question may be lost.
ASK_AGAIN_S: Final = 0.3
# A node that asks more often is answered once: the whole may be 20,000 members.
ANSWER_S_MIN: Final = 0.1

# Told of a group in which somebody came, changed or went elsewhere. It must not raise.
Told = Callable[[str], None]

_log = Log("actors.cluster")


class _Elsewhere:
    """What is known of another node."""

    def __init__(self) -> None:
        self.copy = Copy()
        self.asked_at = self.answered_at = float("-inf")
        self.gone_at: float | None = None


class ClusterPresence:
    """The present members of all nodes, from one of them; belongs to the trio thread."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._own = Own()
        self._elsewhere: dict[UUID, _Elsewhere] = {}
        self._watchers: list[Told] = []
        self._digest_at = float("-inf")
        self._is_full = False

    def __repr__(self) -> str:
        there = sum(one.copy.members.count for one in self._elsewhere.values())
        return f"<ClusterPresence: {self._own.members.count} here, {there} elsewhere>"

    def put(self, group: str, member: str, about: bytes = b"") -> bool:
        """Call this when a member is present here, or what is told of it has changed.

        False when this node has 20,000: it is known here alone then. Raises `LinkMisuse` for a
        group or member that is empty or over 128 characters, and for over 1 KiB about it.
        """
        _check(group, GROUP_MAX, "a group")
        _check(member, MEMBER_MAX, "a member")
        if len(about) > ABOUT_BYTES_MAX:
            raise LinkMisuse("what is told of a member", f"is over {ABOUT_BYTES_MAX} bytes")
        is_told = self._own.put(group, member, about)
        if not is_told and not self._is_full:
            _log.warning("cluster.presence_full", members=self._own.members.count)
        self._is_full = not is_told
        return is_told

    def drop(self, group: str, member: str) -> None:
        """Call this when a member is not present here any more; again does nothing."""
        self._own.put(group, member, None)

    def here(self, group: str) -> Mapping[str, bytes]:
        """Call this for the members of a group on this node."""
        return self._own.members.of(group)

    def elsewhere(self, group: str) -> list[Mapping[str, bytes]]:
        """Call this for those of each other node; a member may be on several."""
        return [one.copy.members.of(group) for one in self._elsewhere.values()]

    def members(self, group: str) -> frozenset[str]:
        """Call this for all of a group, on whatever node."""
        return frozenset(self.here(group)).union(*self.elsewhere(group))

    def watch(self, told: Told) -> Callable[[], None]:
        """Call this to be told of changes elsewhere; gives what ends it."""
        self._watchers.append(told)
        return lambda: self._watchers.remove(told) if told in self._watchers else None

    # For the cluster

    def heard(self, node_id: UUID, saying: Present | PresentDigest | PresentSet) -> None:
        """Call this with what a node tells of its members."""
        one = self._of(node_id)
        match saying:
            case Present():
                self._tell(one.copy.changed(saying))
            case PresentSet():
                self._tell(one.copy.whole(saying))
            case PresentDigest():
                one.copy.told_digest(saying)
        self._ask(node_id, one)

    def wanted(self, node_id: UUID) -> None:
        """Call this when a node asks for the whole set."""
        one, now = self._of(node_id), self._talk.member.clock()
        if now - one.answered_at < ANSWER_S_MIN:
            return
        one.answered_at = now
        self._tell_changes()
        for part in self._own.whole():
            self._talk.say(node_id, part)

    def link_changed(self) -> None:
        """Call this when the link is there again, or another: anything may have been missed."""
        for one in self._elsewhere.values():
            one.copy.is_behind, one.asked_at = True, float("-inf")
        self._digest_at = float("-inf")

    def look(self) -> None:
        """Call this every 50 ms: tells what has changed, asks for what is missing, forgets."""
        now = self._talk.member.clock()
        if self._talk.is_up:
            self._tell_changes()
            if now - self._digest_at >= DIGEST_S:
                self._digest_at = now
                self._talk.say_all(self._own.digest())
        for node_id in self._talk.peers:
            self._of(node_id).gone_at = None
        for node_id, one in list(self._elsewhere.items()):
            if node_id in self._talk.peers:
                self._ask(node_id, one)
                continue
            one.gone_at = now if one.gone_at is None else one.gone_at
            if now - one.gone_at >= GONE_KEPT_S:
                del self._elsewhere[node_id]
                self._tell(one.copy.members.groups)

    def _of(self, node_id: UUID) -> _Elsewhere:
        return self._elsewhere.setdefault(node_id, _Elsewhere())

    def _tell_changes(self) -> None:
        for change in self._own.changes():
            self._talk.say_all(change)

    def _ask(self, node_id: UUID, one: _Elsewhere) -> None:
        now, peer = self._talk.member.clock(), self._talk.peers.get(node_id)
        if not one.copy.is_behind or peer is None or not peer.is_ready:
            return
        if now - one.asked_at >= ASK_AGAIN_S and self._talk.is_up:
            one.asked_at = now
            self._talk.say(node_id, WantPresent())

    def _tell(self, groups: frozenset[str]) -> None:
        for group in groups:
            for told in tuple(self._watchers):
                told(group)


def _check(text: str, length_max: int, name: str) -> None:
    if not text or len(text) > length_max:
        raise LinkMisuse(name, f"must have 1 to {length_max} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LinkMisuse(name, "has half of a surrogate pair") from None
