"""Partitioned supervisors: one dynamic supervisor split into several, by key.

    rooms = child(Partitioned[Words], 8, DynamicFlags(key="name"), ChildSpec("room", Room))

A child's key decides its partition for good. A partition that gives up takes only its own
children along, and stops or restarts of many children do not all wait for one supervisor.

Rule: the partition of a key is the same in every process and every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Generic, TypeVar, cast
from zlib import crc32

from actors.runtime import Ignore, Ref
from supervision.dynamic_supervisor import Dynamic
from supervision.specs.specs import ChildSpec, DynamicFlags, Flags, Plan
from supervision.specs.words import Child, Counts, StartResult
from supervision.supervisor import Supervisor

M = TypeVar("M")

# A partition that gives up is restarted as often as a pool of a few may be: each at once, thrice.
RESTARTS_EACH = 3


def partition_of(key: str, partitions: int) -> int:
    """Call this for the partition of a key; never `hash`, which differs between processes."""
    return crc32(key.encode()) % partitions


class Partitioned(Supervisor, Generic[M]):
    """A static supervisor of `partitions` dynamic ones that share a template."""

    def __init__(self, partitions: int, flags: DynamicFlags, template: object) -> None:
        if partitions < 1:
            raise ValueError(f"partitions is {partitions!r}; it must be at least 1")
        if flags.key is None:
            raise ValueError("only children with keys can be partitioned; give DynamicFlags a key")
        self._partitions = partitions
        self._pool = partial(Dynamic[M], flags, template)

    def plan(self) -> Plan | Ignore:
        """Called at each start: one dynamic supervisor a partition, each restarted alone."""
        specs = [
            ChildSpec(str(number), self._pool, type="supervisor")
            for number in range(self._partitions)
        ]
        return Plan(Flags(intensity=RESTARTS_EACH * self._partitions), specs)

    def __getitem__(self, key: str) -> Ref[M]:
        """Call this for the child of that key; see `Dynamic`."""
        return self.partition(key)[key]

    def partition(self, key: str) -> Dynamic[M]:
        """Call this for the handle of the partition a key belongs to. Raises `NoProc`."""
        count = len(self._machine().slots)
        return cast("Dynamic[M]", self.handle_of_child(str(partition_of(key, count))))

    def pools(self) -> Iterator[Dynamic[M]]:
        """Call this for the handles of all partitions."""
        for number in range(len(self._machine().slots)):
            yield cast("Dynamic[M]", self.handle_of_child(str(number)))

    async def start_keyed(
        self, key: str, /, *args: object, name: str | None = None, **named: object
    ) -> StartResult[M]:
        """Call this to start the child of a key and wait until it is ready; see `Dynamic`."""
        return await self.partition(key).start_child(*args, key=key, name=name, **named)

    async def children(self) -> list[Child[M]]:
        """Call this to list the children of all partitions."""
        found: list[Child[M]] = []
        for pool in self.pools():
            found += await pool.which_children()
        return found

    async def counts(self) -> Counts:
        """Call this to count the children of all partitions; there is one spec."""
        all_counts = [await pool.count_children() for pool in self.pools()]
        return Counts(
            1,
            sum(one.active for one in all_counts),
            sum(one.supervisors for one in all_counts),
            sum(one.workers for one in all_counts),
        )
