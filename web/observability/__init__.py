"""How the running site is watched from outside: log lines now, metrics and spans to come.

Read `logs.py`: how one log line looks and what can never be in it.
"""

from web.observability.logs import configure_logging

__all__ = ["configure_logging"]
