"""What is to be seen after a step, in the same words on both sides.

How two of them are compared stands in `differences.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """One supervisor: its counts `specs.active.supervisors.workers` and its list."""

    name: str
    counts: str
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """What is to be seen after one step.

    `result` is the answer of the call that was the step, `answers` are those of the calls that
    were served between two attempts, `log` holds starts and stops in order, `ends` the ends.
    """

    result: str
    log: tuple[str, ...]
    ends: tuple[str, ...]
    answers: tuple[str, ...]
    tree: tuple[Level, ...]
    life: str

    def __str__(self) -> str:
        levels = "; ".join(
            f"{one.name} {one.counts} [{', '.join(one.children)}]" for one in self.tree
        )
        return (
            f"result={self.result} log=[{', '.join(self.log)}] ends=[{', '.join(self.ends)}] "
            f"answers=[{'; '.join(self.answers)}] tree=({levels}) {self.life}"
        )
