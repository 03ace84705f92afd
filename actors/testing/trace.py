"""The record of a simulation: what happened when, as bytes that equal seeds repeat.

One line of JSON for each thing that happens: a message is sent, begun, handled or lost, an actor
changes its status or is gone, a fault is put in. Of a message its text is written too, so that two
runs in which the same actors say other things do not look alike.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import trio

from actors.runtime import Cell
from actors.runtime.delivery.envelope import Envelope
from actors.runtime.words.showing import Bounds, class_name, fields_of, fields_shown, shown

# Addresses in texts differ between processes and mean nothing.
_ADDRESS = re.compile(r"0x[0-9a-f]{4,}")
# A line is to be read beside the one that differs.
MESSAGE_BOUNDS: Final = Bounds(total=300, text=200)
# What an actor does itself; that it is sent something is the doing of others.
STEPS: Final = frozenset({"begun", "message", "status", "ended"})
# Lines on each side of the first that differs: enough to see what led there.
NEIGHBOURS: Final = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One thing in the life of an actor: a status with its cause, or its end."""

    at: float
    kind: str
    incarnation: int
    because: str | None
    exit: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run a fault was put in, told by what had happened.

    Behind the first `steps` steps of its actor (messages begun and handled, statuses), at the time
    `at`; so many steps of tasks, `turn`, after both; and behind `lines` lines of that one.
    """

    steps: int
    at: float
    turn: int
    lines: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what was called with what, and where. `closing`: when the scenario was over."""

    name: str
    arguments: tuple[object, ...]
    place: Place
    closing: bool = False

    @property
    def path(self) -> str:
        """The actor it is put into; of a partition one of the two, of `heal` nobody."""
        return str(self.arguments[0]) if self.arguments else ""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"


# Told of each line before it is written: its kind and path.
Listener = Callable[[str, str], None]


class Trace:
    """What a simulation wrote down; also an `Observer` of every system in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._lines: list[dict[str, object]] = [{"kind": "seed", "seed": seed}]
        self._steps: Counter[str] = Counter()
        # How many steps tasks have done, in all and when an actor did its last one.
        self.turn = 0
        self._turns: dict[str, int] = {}
        # Why it is not whole.
        self.failure: Exception | None = None
        # A replay puts in faults between two lines.
        self.listener: Listener | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def covers(self, path: str) -> bool:
        """Called by a system: everything is watched."""
        return bool(path)

    def steps(self, path: str) -> int:
        """Called by faults: how many steps an actor has done."""
        return self._steps[path]

    def turn_of(self, path: str) -> int:
        """Called by faults: in which step of a task the last step of an actor was."""
        return self._turns.get(path, 0)

    # What happens

    def put(self, at: float, kind: str, path: str, data: Mapping[str, object]) -> None:
        """Called by systems to write down a change."""
        kept = {name: value for name, value in data.items() if name != "handling_us"}
        try:
            self._write(kind, at, path, kept)
        except Exception as error:
            # A system takes an observer off that raises, and goes on: no run must pass then.
            self.failure = self.failure or error
            raise

    def begins(self, cell: Cell, envelope: Envelope) -> bool:
        """Called before an actor handles a message; False when a fault comes before it."""
        path = cell.path
        before = len(self._lines)
        if self.listener is not None:
            self.listener("begun", path)
        if len(self._lines) > before:
            return False
        message, message_id, *_ = envelope
        data = {"message": class_name(type(message)), "message_id": message_id}
        self._write("begun", trio.current_time(), path, data, told=True)
        return True

    def sent(self, at: float, path: str, envelope: Envelope) -> None:
        """Called when a message has come to a mailbox."""
        message, message_id, reply, _, _, context = envelope
        data = {
            "message": _text(message),
            "message_id": message_id,
            "was_ask": reply is not None,
            "sender": None if context is None else context.sender,
        }
        self._write("sent", at, path, data)

    def lost(self, at: float, path: str, message_id: int, reason: str) -> None:
        """Called when nobody will handle a message."""
        self._write("lost", at, path, {"message_id": message_id, "reason": reason})

    def fault(self, fault: Fault) -> None:
        """Called to write down a fault that is put in."""
        data: dict[str, object] = {"name": fault.name, "arguments": list(fault.arguments)}
        data["place"] = asdict(fault.place)
        if fault.closing:
            data["closing"] = True
        self._write("fault", fault.place.at, fault.path, data, told=True)

    def _write(
        self, kind: str, at: float, path: str, data: Mapping[str, object], *, told: bool = False
    ) -> None:
        if self.listener is not None and not told:
            self.listener(kind, path)
        self._lines.append({"kind": kind, "at": round(at, 6), "path": path, **data})
        if kind in STEPS:
            self._steps[path] += 1
            self._turns[path] = self.turn

    # What was written

    def faults(self) -> list[Fault]:
        """Call this to get the faults, in order."""
        return [_fault(line) for line in self._lines if line["kind"] == "fault"]

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
        lines = (json.dumps(line, sort_keys=True, default=shown) for line in self._lines)
        return _ADDRESS.sub("0x", "\n".join(lines)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Trace:
        """Call this to read a trace back; raises ValueError when it is none."""
        lines = [json.loads(line) for line in data.decode().splitlines()]
        if not lines or lines[0].get("kind") != "seed":
            raise ValueError("this is no trace of a simulation: it does not begin with its seed")
        trace = cls(int(lines[0]["seed"]))
        trace._lines = lines
        try:
            trace.faults()
        except (KeyError, TypeError) as error:
            raise ValueError("a fault of this trace does not say where it belongs") from error
        return trace


def first_difference(first: bytes, second: bytes) -> str | None:
    """Call this to compare two traces; gives the first line that differs with its neighbours."""
    if first == second:
        return None
    one, other = first.decode().splitlines(), second.decode().splitlines()
    same = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
    shown_lines = [f"line {same + 1} of the traces differs:"]
    shown_lines += [f"    {line}" for line in one[max(0, same - NEIGHBOURS) : same]]
    for mark, lines in (("-", one), ("+", other)):
        shown_lines += [f"  {mark} {line}" for line in lines[same : same + 1] or ["(the end)"]]
    for mark, lines in (("-", one), ("+", other)):
        after = lines[same + 1 : same + 1 + NEIGHBOURS]
        shown_lines += [f"    {mark} {line}" for line in after]
    return "\n".join(shown_lines)


def _text(message: object) -> str:
    """A message as text. The order of a set is that of hashes, and of no meaning."""
    fields = fields_of(message)
    in_order: dict[str, object] = {
        name: sorted(map(shown, value)) if isinstance(value, set | frozenset) else value
        for name, value in fields.items()
    }
    return fields_shown(class_name(type(message)), in_order, MESSAGE_BOUNDS)


def _fault(line: Mapping[str, object]) -> Fault:
    arguments, place = line["arguments"], line["place"]
    if not isinstance(arguments, list) or not isinstance(place, dict):
        raise TypeError(line)
    return Fault(str(line["name"]), tuple(arguments), Place(**place), bool(line.get("closing")))


def _exit_kind(line: Mapping[str, object]) -> str | None:
    exit_ = line.get("exit", line.get("last_exit"))
    return str(exit_.get("kind")) if isinstance(exit_, dict) else None
