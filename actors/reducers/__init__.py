"""The pure half of a service: what an actor decides, and the environment it decides in.

Read `environment.py`: the clock and the source of ids that every decision is handed, so
that a test can set both.
"""

from actors.reducers.environment import Clock, Environment, Ids

__all__ = ["Clock", "Environment", "Ids"]
