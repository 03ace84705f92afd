"""The record of a simulation: what happened when, as bytes that equal seeds repeat."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

# Addresses in texts differ between processes and mean nothing.
_ADDRESS = re.compile(r"0x[0-9a-f]{4,}")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing in the life of an actor: a status with its cause, or its end."""

    at: float
    kind: str
    incarnation: int
    because: str | None
    exit: str | None


class Trace:
    """What a simulation wrote down; also an `Observer` of every system in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._lines: list[dict[str, object]] = [{"kind": "seed", "seed": seed}]

    def covers(self, path: str) -> bool:
        """Everything is watched."""
        return bool(path)

    def put(self, at: float, kind: str, path: str, data: Mapping[str, object]) -> None:
        """Call this to write down a change (the systems do)."""
        kept = {name: value for name, value in data.items() if name != "handling_us"}
        self._lines.append({"kind": kind, "at": round(at, 6), "path": path, **kept})

    def fault(self, at: float, name: str, arguments: list[object]) -> None:
        """Call this to write down a fault that was put in."""
        self._lines.append(
            {"kind": "fault", "at": round(at, 6), "name": name, "arguments": arguments}
        )

    def faults(self) -> list[tuple[float, str, list[object]]]:
        """Call this to get the faults, in order."""
        return [
            (float(str(line["at"])), str(line["name"]), list(line["arguments"]))
            for line in self._lines
            if line["kind"] == "fault" and isinstance(line["arguments"], list)
        ]

    def history(self, path: str) -> list[Step]:
        """Call this to get the statuses and the end of one actor, in order."""
        return [
            Step(
                float(str(line["at"])),
                str(line.get("status", line["kind"])),
                int(str(line.get("incarnation", 0))),
                None if line.get("because") is None else str(line["because"]),
                _exit_kind(line),
            )
            for line in self._lines
            if line.get("path") == path and line["kind"] in ("status", "ended")
        ]

    def to_bytes(self) -> bytes:
        """Call this to get the trace as lines of JSON."""
        lines = (json.dumps(line, sort_keys=True, default=repr) for line in self._lines)
        return _ADDRESS.sub("0x", "\n".join(lines)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Trace:
        """Call this to read a trace back; raises ValueError when it is none."""
        lines = [json.loads(line) for line in data.decode().splitlines()]
        if not lines or lines[0].get("kind") != "seed":
            raise ValueError("this is no trace of a simulation: it does not begin with its seed")
        trace = cls(int(lines[0]["seed"]))
        trace._lines = lines
        return trace


def _exit_kind(line: Mapping[str, object]) -> str | None:
    exit_ = line.get("exit", line.get("last_exit"))
    return str(exit_.get("kind")) if isinstance(exit_, dict) else None
