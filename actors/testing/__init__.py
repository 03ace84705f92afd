"""The testing kit: puppets, probes and the seeded simulation. Part of the product.

- `puppet.py`      actors that do what a test tells them, in both kinds
- `probe.py`       an actor in a test's hand: expect, reply
- `simulation.py`  runs that can be repeated, with faults; `trace.py` is their record
- `leaks.py`       what a simulation refuses: real threads, sockets, clocks
- `scheduling.py`  trio's private names, all in one place
"""

from actors.testing.leaks import SimulationLeak
from actors.testing.probe import Probe
from actors.testing.puppet import (
    AnyPuppet,
    AsyncPuppet,
    AsyncTrappingPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    TrappingPuppet,
    raising,
    sleeping,
)
from actors.testing.scheduling import SimulationUnavailable
from actors.testing.simulation import Simulation
from actors.testing.trace import Step, Trace

__all__ = [
    "AnyPuppet",
    "AsyncPuppet",
    "AsyncTrappingPuppet",
    "Call",
    "Do",
    "Note",
    "Probe",
    "Puppet",
    "PuppetMessage",
    "Simulation",
    "SimulationLeak",
    "SimulationUnavailable",
    "Step",
    "Trace",
    "TrappingPuppet",
    "raising",
    "sleeping",
]
