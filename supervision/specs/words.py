"""The smallest nouns of supervision: the words a spec is made of, and what is read back.

What is made of them, and checked, stands in `specs.py`; how it is judged in `deciding/policy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Never, TypeAlias, TypeVar

from actors.runtime import Ref, StartIgnored

M = TypeVar("M", contravariant=True)  # noqa: PLC0105  as the M of a ref

# After which endings a child is started again: every one, all but a clean one, none.
RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
# What a child is; of a class it is known.
ChildType: TypeAlias = Literal["worker", "supervisor"]
# Which children are restarted with the one that ended: no other, all, those after it.
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
# Whether the end of significant children ends the supervisor: never, of any, of the last one.
AutoShutdownMode: TypeAlias = Literal["never", "any", "all"]
# Whose restarts are counted together: those of each child, of all; or one ends the supervisor.
Budget: TypeAlias = Literal["child", "shared", "escalate"]
# Seconds from the stop to the kill, `inf` too; "kill" leaves no time.
ShutdownTime: TypeAlias = float | Literal["kill"]
# A class of errors, `BaseException` and others that are no Exception too.
ErrorClass: TypeAlias = type[BaseException]


@dataclass(frozen=True, slots=True)
class StartResult(Generic[M]):
    """The answer of `start_child` and `restart_child`; without ref the child ignored its start.

    `(await pool.start_child(3)).started.tell(...)` when the child is not expected to ignore it.
    """

    ref: Ref[M] | None
    info: object = None

    @property
    def started(self) -> Ref[M]:
        """The ref of the child; raises StartIgnored when it chose not to run."""
        if self.ref is None:
            raise StartIgnored("the child")
        return self.ref


@dataclass(frozen=True, slots=True)
class Child(Generic[M]):
    """One line of `which_children()`: `id` is None under a dynamic supervisor."""

    id: str | None
    ref: Ref[M] | None
    status: str
    type: ChildType
    restart: RestartType
    incarnation: int


# For a child of any class: under a static supervisor each may be another. `narrow` of the runtime
# makes more of their refs.
AnyStartResult: TypeAlias = StartResult[Never]
# A child of any class, as `which_children()` of a static supervisor lists it.
AnyChild: TypeAlias = Child[Never]


@dataclass(frozen=True, slots=True)
class Counts:
    """The answer of `count_children()`; restarting children count by type, not as active."""

    specs: int
    active: int
    supervisors: int
    workers: int
