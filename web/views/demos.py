"""The demos beside the timeline: the panels that find something out, and one's result."""

from dataclasses import dataclass

from web.views.timeline import EventView, PairView
from web.views.words import ElementId, check_text, element_id


@dataclass(frozen=True, slots=True)
class PanelView:
    """A panel as it is offered: its name, and what it may be asked with."""

    name: ElementId
    title: str
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        element_id(self.name)
        check_text("title", self.title)


@dataclass(frozen=True, slots=True)
class ResultView:
    """What a panel has found out, and what its request has led to."""

    name: ElementId
    rows: tuple[PairView, ...]
    trace: tuple[EventView, ...]

    def __post_init__(self) -> None:
        element_id(self.name)
