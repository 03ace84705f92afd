"""A saga as a picture: a Mermaid state diagram, of a kind or of one saga with what happened.

Drawn from the definition alone, so it is never out of date. Text only; whoever shows it renders it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from actors.persistence import EVENTS, StoredEvent
from actors.sagas.definition import AnySaga, Definition, Step, Unit
from actors.sagas.words.log import (
    SagaStarted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    UndoFailed,
    UndoSkipped,
    UndoStarted,
    UndoSucceeded,
)
from actors.sagas.words.words import target_of


def kind_graph(kind: type[AnySaga]) -> str:
    """Call this for a kind's steps, undos and ends."""
    return "\n".join(_lines(kind.definition(), {}))


def saga_graph(definition: Definition, log: Sequence[StoredEvent]) -> str:
    """Call this for one saga: each step with what happened to it last, and when (UTC)."""
    notes: dict[str, str] = {}
    for stored in log:
        for fact in EVENTS.decode_all(stored):
            at = f"{stored.recorded_at:%H:%M:%S}"
            match fact:
                case StepStarted(step, attempt):
                    notes[step] = f"attempt {attempt} at {at}"
                case StepSucceeded(step):
                    notes[step] = f"done at {at}"
                case StepFailed(step, kind):
                    notes[step] = f"failed ({kind}) at {at}"
                case StepSkipped(step):
                    notes[step] = f"skipped at {at}"
                case UndoStarted(step, attempt):
                    notes[f"undo_{step}"] = f"attempt {attempt} at {at}"
                case UndoSucceeded(step):
                    notes[f"undo_{step}"] = f"done at {at}"
                case UndoFailed(step, kind):
                    notes[f"undo_{step}"] = f"failed ({kind}) at {at}"
                case UndoSkipped(step):
                    notes[f"undo_{step}"] = f"skipped at {at}"
                case SagaStarted():
                    notes[""] = f"began at {at}"
                case _:
                    notes["."] = f"{stored.type} at {at}"
    return "\n".join(_lines(definition, notes))


def _lines(definition: Definition, notes: Mapping[str, str]) -> Iterator[str]:
    yield "stateDiagram-v2"
    told = "".join(f", {notes[one]}" for one in ("", ".") if one in notes)
    yield f"    %% {definition.kind} v{definition.version}{told}"
    for one in definition.steps:
        yield f"    state {_quoted(one, notes)} as {one.name}"
        if one.can_undo:
            note = f": {notes[f'undo_{one.name}']}" if f"undo_{one.name}" in notes else ""
            yield f'    state "undo {one.name}{note}" as undo_{one.name}'
    yield from _forward(definition.units)
    yield from _backward(definition.units)


def _quoted(one: Step[object], notes: Mapping[str, str]) -> str:
    what = one.name
    if one.wait_for is not None:
        what += f" (waits for {one.wait_for.__name__})"
    elif one.child is not None:
        what += f" (saga {one.child.definition().kind})"
    elif isinstance(one.do, type):
        what += f" ({target_of(one.do)}: {one.do.__name__})"
    if one.name in notes:
        what += f": {notes[one.name]}"
    return f'"{what}"'


def _forward(units: Sequence[Unit]) -> Iterator[str]:
    before = ["[*]"]
    for number, unit in enumerate(units):
        names = [one.name for one in unit.steps]
        if len(names) > 1:
            yield f"    state fork_{number} <<fork>>"
            yield f"    state join_{number} <<join>>"
            yield from (f"    {one} --> fork_{number}" for one in before)
            yield from (f"    fork_{number} --> {name}" for name in names)
            yield from (f"    {name} --> join_{number}" for name in names)
            before = [f"join_{number}"]
        else:
            yield from (f"    {one} --> {names[0]}" for one in before)
            before = names
    yield from (f"    {one} --> Completed" for one in before)
    yield "    Completed --> [*]"


def _backward(units: Sequence[Unit]) -> Iterator[str]:
    """From each step, when it fails, to the undo of what was done last before it."""
    last = "Failed"
    for unit in units:
        entry = last
        for one in unit.steps:
            # Of one that nobody answered the undo runs as well.
            own = f"undo_{one.name}" if one.can_undo and one.undo_when_unknown else entry
            yield f"    {one.name} --> {entry}: refused"
            if own != entry:
                yield f"    {one.name} --> {own}: timed out"
        for one in unit.steps:
            if one.can_undo:
                yield f"    undo_{one.name} --> {last}"
                last = f"undo_{one.name}"
    if last != "Failed":
        yield f"    Completed --> {last}: undone by its parent"
    yield "    Failed --> [*]"
