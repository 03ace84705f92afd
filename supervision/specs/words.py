"""The smallest nouns of supervision: the words a spec is made of, and what is read back.

What is made of them, and checked, stands in `specs.py`; how it is judged in `deciding/policy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from actors.runtime import AnyRef

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
ChildType: TypeAlias = Literal["worker", "supervisor"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdownMode: TypeAlias = Literal["never", "any", "all"]
Budget: TypeAlias = Literal["child", "shared", "escalate"]
ShutdownTime: TypeAlias = float | Literal["kill"]
ErrorClass: TypeAlias = type[BaseException]


@dataclass(frozen=True, slots=True)
class StartResult:
    """The answer of `start_child` and `restart_child`; without ref the child ignored its start."""

    ref: AnyRef | None
    info: object = None


@dataclass(frozen=True, slots=True)
class Child:
    """One line of `which_children()`: `id` is None under a dynamic supervisor."""

    id: str | None
    ref: AnyRef | None
    status: str
    type: ChildType
    restart: RestartType
    incarnation: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The answer of `count_children()`; restarting children count by type, not as active."""

    specs: int
    active: int
    supervisors: int
    workers: int
