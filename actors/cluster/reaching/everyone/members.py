"""Who is present on one node, as a set of its own that the others copy.

Pure: a node numbers the changes of its set, so who hears them knows when one is missing, and asks
for the whole. `Own` is a node's own set, `Copy` that of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from zlib import crc32

from actors.cluster.link.sayings import (
    PRESENT_AT_ONCE_MAX,
    Present,
    PresentDigest,
    PresentMember,
    PresentSet,
)

# More than a node has streams. What is beyond is known on its own node alone.
MEMBERS_MAX: Final = 20_000
_NOTHING: Final[Mapping[str, bytes]] = {}

# What is present: a group, and who in it.
Key = tuple[str, str]


class Members:
    """Members by group, each with what is told of it, and a sum that is the same for the same."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, bytes]] = {}
        self.count = self.digest = 0

    def __repr__(self) -> str:
        return f"<Members: {self.count} in {len(self._groups)} groups>"

    def __iter__(self) -> Iterator[PresentMember]:
        return (
            PresentMember(group, member, about)
            for group, members in self._groups.items()
            for member, about in members.items()
        )

    @property
    def groups(self) -> frozenset[str]:
        """The groups that somebody is in."""
        return frozenset(self._groups)

    def of(self, group: str) -> Mapping[str, bytes]:
        """Call this for who is in a group, and what is told of them."""
        return self._groups.get(group, _NOTHING)

    def put(self, group: str, member: str, about: bytes | None) -> None:
        """Call this with what is told of a member; None when it went."""
        members = self._groups.setdefault(group, {})
        before = members.pop(member, None)
        if before is not None:
            self.count -= 1
            self.digest ^= _sum(group, member, before)
        if about is not None:
            members[member] = about
            self.count += 1
            self.digest ^= _sum(group, member, about)
        if not members:
            del self._groups[group]


def _sum(group: str, member: str, about: bytes) -> int:
    return crc32(about, crc32(f"{group}\0{member}\0".encode()))


class Own:
    """The set of this node, and what of it the others were not told yet."""

    def __init__(self) -> None:
        self.members, self.number = Members(), 0
        self._changed: dict[Key, bytes | None] = {}

    def put(self, group: str, member: str, about: bytes | None) -> bool:
        """Call this when a member came, changed, or went with None; False when there are too many.

        Nothing is changed then.
        """
        known = self.members.of(group).get(member)
        if known == about:
            return True
        if known is None and self.members.count >= MEMBERS_MAX:
            return False
        self.members.put(group, member, about)
        self._changed[group, member] = about
        return True

    def changes(self) -> list[Present]:
        """Call this for what is to be told now; what came and went since is told once."""
        changed = [PresentMember(*key, about) for key, about in self._changed.items()]
        self._changed = {}
        told = []
        for part in _parts(changed):
            told.append(Present(self.number, part))
            self.number += 1
        return told

    def digest(self) -> PresentDigest:
        """Call this, after `changes`, for what tells whether another has all of it."""
        return PresentDigest(self.number, self.members.digest)

    def whole(self) -> list[PresentSet]:
        """Call this, after `changes`, for all of it."""
        parts = _parts(list(self.members)) or [[]]
        return [PresentSet(self.number, at, len(parts), part) for at, part in enumerate(parts)]


def _parts(members: list[PresentMember]) -> list[list[PresentMember]]:
    starts = range(0, len(members), PRESENT_AT_ONCE_MAX)
    return [members[start : start + PRESENT_AT_ONCE_MAX] for start in starts]


class Copy:
    """The set of another node, as far as it was heard. Each method gives the groups it changed."""

    def __init__(self) -> None:
        self.members, self.number = Members(), 0
        # Whether the whole is to be asked for: at first nothing is known.
        self.is_behind = True
        self._latest = 0
        self._parts: dict[int, PresentSet] = {}

    def changed(self, told: Present) -> frozenset[str]:
        """Call this with a change."""
        self._latest = max(self._latest, told.before + 1)
        if self.is_behind or told.before > self.number:
            self.is_behind = True
            return frozenset()
        if told.before < self.number:
            return frozenset()  # of before the whole that was got since
        self.number += 1
        for one in told.members:
            self._put(one)
        return frozenset(one.group for one in told.members)

    def told_digest(self, told: PresentDigest) -> None:
        """Call this with the digest of the whole; it changes nothing, but may want it."""
        if told.number < self.number:
            return  # it was overtaken
        self._latest = max(self._latest, told.number)
        if (told.number, told.digest) != (self.number, self.members.digest):
            self.is_behind = True

    def whole(self, told: PresentSet) -> frozenset[str]:
        """Call this with a part of the whole; nothing is changed before all parts are there."""
        if not self.is_behind or told.number < self.number or told.part >= told.parts:
            return frozenset()
        if any(
            (one.number, one.parts) != (told.number, told.parts) for one in self._parts.values()
        ):
            self._parts = {}
        self._parts[told.part] = told
        if len(self._parts) < told.parts:
            return frozenset()
        before, self.members, self.number = self.members, Members(), told.number
        for part in self._parts.values():
            for one in part.members:
                self._put(one)
        self._parts = {}
        self.is_behind = self._latest > self.number
        return before.groups | self.members.groups

    def _put(self, one: PresentMember) -> None:
        is_new = one.member not in self.members.of(one.group)
        if one.about is None or not is_new or self.members.count < MEMBERS_MAX:
            self.members.put(one.group, one.member, one.about)
