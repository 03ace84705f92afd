"""A checkout's facts as its panel shows them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from web.lab.demos.checkout.steps import TITLES
from web.views import SagaStepView, SagaView, element_id

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
}


def saga_view(facts: Mapping[str, object]) -> SagaView:
    """Call this with what `Checkouts.facts` gives of one."""
    steps = cast("list[Mapping[str, object]]", facts["steps"])
    actor = cast("Mapping[str, object] | None", facts["actor"])
    status = str(facts["status"])
    is_running = status == "running"
    waits = any(one["step"] == "confirm" and one["phase"] == "started" for one in steps)
    is_there = actor is not None and actor["status"] == "running"
    return SagaView(
        id=element_id(str(facts["id"])),
        title=_CHOICES.get(facts["choice"], "of another time"),
        status=status,
        started_at=datetime.fromisoformat(str(facts["started_at"])),
        steps=tuple(map(_step, steps)),
        incarnation=None if actor is None else cast("int", actor["incarnation"]),
        reason=str(facts["reason"] or ""),
        can_confirm=is_running and waits,
        can_cancel=is_running,
        can_crash=is_there and status in ("running", "compensating"),
    )


def _step(facts: Mapping[str, object]) -> SagaStepView:
    word, tone = _WORDS[facts["phase"]]
    if facts["undo"]:
        word, tone = _UNDOES[facts["undo"]]
    if cast("int", facts["attempt"]) > 1:
        word += f" (attempt {facts['attempt']})"
    due = facts["due_at"] if tone == "busy" else None
    due_at = None if due is None else datetime.fromisoformat(str(due))
    name = str(facts["step"])
    if name == "confirm" and facts["phase"] == "started":
        word = "waits for you"
    return SagaStepView(TITLES.get(name, name), word, tone, due_at)
