"""How a running site is watched from outside: log lines, health, metrics and traces.

Read `logs.py`: how one log line looks and what can never be in it; `requests.py`: the log of
requests, which is named by its module, as commands load this page and no server; `streams.py`: what
the program says to whoever started it; `ending.py`: with which codes commands end; `bus_lag.py`:
how far readers of the event bus are behind; then `health/`: whether it can serve, component by
component; `metrics/`, and `operating/`: what operators look into, traces among it.
"""

from web.observability.ending import Code, CommandFailed
from web.observability.logs import configure_logging
from web.observability.streams import (
    complain,
    first_leaf,
    let_go_of_streams,
    open_missing_streams,
    say,
    tell,
)

__all__ = [
    "Code",
    "CommandFailed",
    "complain",
    "configure_logging",
    "first_leaf",
    "let_go_of_streams",
    "open_missing_streams",
    "say",
    "tell",
]
