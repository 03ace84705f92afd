"""A saga as plain data, for whoever shows it: where it stands, and each step of it.

Names, times and reasons only. Its data and the results of its steps are the program's own, and
nobody who looks at a tree has asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.sagas.definition import Definition
from actors.sagas.doing.parts import SagaKinds
from actors.sagas.words.errors import UnknownSagaKind
from actors.sagas.words.state import SagaState
from actors.sagas.words.words import SagaId


def saga_facts(
    saga: SagaId, state: SagaState, kinds: SagaKinds | None = None
) -> Mapping[str, object]:
    """Call this for a saga's place and steps; times are texts of ISO 8601, or None.

    `steps` has those that have begun, in the order they did; with `kinds` all of them, in the order
    of the class where the program has it. `parent` and a step's `child` name other sagas: together
    they are the tree of nested ones; `below` is the name of the parent's actor, below which a tree
    shows it. A saga that was never started has the status `new`.
    """
    definition = None if kinds is None else _definition(state, kinds)
    names = list(state.steps)
    children: dict[str, str] = {}
    if definition is not None:
        names = [one.name for one in definition.steps]
        names += [name for name in state.steps if name not in names]
        children = {
            one.name: str(saga.child(one.child.definition().kind, one.name))
            for one in definition.steps
            if one.child is not None
        }
    return {
        "saga": str(saga),
        "kind": saga.kind,
        "version": state.version,
        "status": state.status.value,
        "parent": None if state.parent is None else state.parent.saga,
        "below": None if state.parent is None else SagaId.parse(state.parent.saga).key,
        "started_at": None if state.started_at is None else state.started_at.isoformat(),
        "deadline_at": None if state.deadline_at is None else state.deadline_at.isoformat(),
        "stuck_at": state.stuck_step or None,
        "reason": state.stuck or state.reason or None,
        "steps": [_step(name, state, children.get(name)) for name in names],
    }


def _definition(state: SagaState, kinds: SagaKinds) -> Definition | None:
    try:
        found = kinds.versions(state.kind).get(state.version)
    except UnknownSagaKind:
        return None
    return found if found is not None and found.fingerprint == state.fingerprint else None


def _step(name: str, state: SagaState, child: str | None) -> dict[str, object]:
    one = state.step(name)
    due_at = one.undo_due_at if one.undo in ("started", "waiting") else one.due_at
    return {
        "step": name,
        "phase": one.phase,
        "attempt": one.attempt,
        "due_at": None if due_at is None else due_at.isoformat(),
        "undo": one.undo or None,
        "undo_attempt": one.undo_attempt,
        "reason": one.undo_reason or one.reason or None,
        "child": child,
    }
