"""What the home page shows: the live proof strip and the code of a running actor.

View models only. Templates: `templates/home.html`, `templates/parts/proof.html`.
"""

import math
from dataclasses import dataclass

from web.views.code import CodeView
from web.views.shell import Shell
from web.views.words import ImpossibleView, check_count


@dataclass(frozen=True, slots=True)
class ProofView:
    """Figures of this very process at one moment. `last_restart_ms` is None before the first."""

    actors_alive: int
    open_streams: int
    messages_delivered: int
    restarts_survived: int
    last_restart_ms: float | None
    uptime_s: int

    def __post_init__(self) -> None:
        check_count("actors_alive", self.actors_alive)
        check_count("open_streams", self.open_streams)
        check_count("messages_delivered", self.messages_delivered)
        check_count("restarts_survived", self.restarts_survived)
        check_count("uptime_s", self.uptime_s)
        check_milliseconds("last_restart_ms", self.last_restart_ms)


@dataclass(frozen=True, slots=True)
class HomePage:
    """The whole home page."""

    shell: Shell
    proof: ProofView
    code: CodeView


def check_milliseconds(field: str, value: float | None) -> None:
    """Call this to refuse a duration that no clock gives; raises `ImpossibleView`."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise ImpossibleView(field, value, "a finite number of milliseconds, 0 or more")
