"""The smallest nouns of supervision: the words a spec is made of, and what is read back.

What is made of them, and checked, stands in `specs.py`; how it is judged in `deciding/policy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Never, TypeAlias, TypeVar

from actors.runtime import Ref, StartIgnored

M = TypeVar("M", contravariant=True)  # noqa: PLC0105  as the M of a ref

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
ChildType: TypeAlias = Literal["worker", "supervisor"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdownMode: TypeAlias = Literal["never", "any", "all"]
Budget: TypeAlias = Literal["child", "shared", "escalate"]
ShutdownTime: TypeAlias = float | Literal["kill"]
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


# Of a child of any class: under a static supervisor each may be another. `narrow` of the runtime
# makes more of their refs.
AnyStartResult: TypeAlias = StartResult[Never]
# The same for a child as it stands there.
AnyChild: TypeAlias = Child[Never]


@dataclass(frozen=True, slots=True)
class Counts:
    """The answer of `count_children()`; restarting children count by type, not as active."""

    specs: int
    active: int
    supervisors: int
    workers: int
