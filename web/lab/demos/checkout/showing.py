"""A checkout's facts as its panel shows them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from web.lab.demos.checkout.steps import TITLES
from web.views import SagaEventView, SagaStepView, SagaView, element_id

_WORDS: Final[Mapping[object, tuple[str, str]]] = {
    "new": ("not yet", "new"),
    "started": ("under way", "busy"),
    "waiting": ("tried again in a moment", "busy"),
    "done": ("done", "done"),
    "failed": ("refused", "failed"),
    "unknown": ("nobody answered", "failed"),
    "skipped": ("skipped", "new"),
}
_UNDOES: Final[Mapping[object, tuple[str, str]]] = {
    "started": ("being undone", "busy"),
    "waiting": ("undone in a moment", "busy"),
    "done": ("undone", "undone"),
    "failed": ("cannot be undone", "failed"),
    "skipped": ("left as it is", "new"),
}
_CHOICES: Final[Mapping[object, str]] = {
    "well": "that goes well",
    "refused": "whose card is refused",
    "silent": "that nobody answers",
    "hand": "whose steps you answer",
}
_EVENTS: Final[Mapping[object, str]] = {
    "SagaStarted": "begun",
    "StepStarted": "under way",
    "StepSucceeded": "done",
    "StepFailed": "failed",
    "StepSkipped": "skipped",
    "SignalReceived": "you confirmed",
    "CompensationStarted": "taken back from here on",
    "UndoStarted": "being undone",
    "UndoSucceeded": "undone",
    "UndoFailed": "not undone",
    "UndoSkipped": "left as it is",
    "SagaCompleted": "completed",
    "SagaFailed": "failed",
    "SagaStuck": "stuck",
    "SagaResumed": "goes on",
}


def saga_view(facts: Mapping[str, object]) -> SagaView:
    """Call this with what `Checkouts.facts` gives of one."""
    steps = cast("list[Mapping[str, object]]", facts["steps"])
    actor = cast("Mapping[str, object] | None", facts["actor"])
    status = str(facts["status"])
    is_running, is_by_hand = status == "running", facts["choice"] == "hand"
    waits = any(one["step"] == "confirm" and one["phase"] == "started" for one in steps)
    is_there = actor is not None and actor["status"] == "running"
    return SagaView(
        id=element_id(str(facts["id"])),
        title=_CHOICES.get(facts["choice"], "of another time"),
        status=status,
        started_at=datetime.fromisoformat(str(facts["started_at"])),
        steps=tuple(_step(one, is_by_hand) for one in steps),
        incarnation=None if actor is None else cast("int", actor["incarnation"]),
        reason=str(facts["reason"] or ""),
        can_confirm=is_running and waits,
        can_cancel=is_running,
        can_crash=is_there and status in ("running", "compensating"),
        events=tuple(map(_event, cast("list[Mapping[str, object]]", facts["events"]))),
    )


def _event(facts: Mapping[str, object]) -> SagaEventView:
    step, reason = facts.get("step"), facts.get("reason")
    text = _EVENTS.get(facts["event"], str(facts["event"]))
    if step is not None:
        text = f"{TITLES.get(str(step), step)}: {text}"
    if facts.get("attempt", 1) != 1:
        text += f", attempt {facts['attempt']}"
    if reason is not None:
        text += f" ({reason})"
    return SagaEventView(datetime.fromisoformat(str(facts["at"])), text)


def _step(facts: Mapping[str, object], is_by_hand: bool) -> SagaStepView:
    word, tone = _WORDS[facts["phase"]]
    if facts["undo"]:
        word, tone = _UNDOES[facts["undo"]]
    if cast("int", facts["attempt"]) > 1:
        word += f" (attempt {facts['attempt']})"
    due = facts["due_at"] if tone == "busy" else None
    due_at = None if due is None else datetime.fromisoformat(str(due))
    name, is_in_flight = str(facts["step"]), facts["phase"] == "started"
    can_answer = is_in_flight and is_by_hand and name != "confirm"
    if is_in_flight and (can_answer or name == "confirm"):
        word = "waits for you"
    return SagaStepView(
        element_id(name), TITLES.get(name, name), word, tone, due_at, is_in_flight, can_answer
    )
