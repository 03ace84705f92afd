"""The testing kit: puppets, probes and the seeded simulation. Part of the product.

- `puppet.py`      actors that do what a test tells them, in both kinds
- `probe.py`       an actor in a test's hand: expect, reply
- `recorder.py`    what is called of a port, and how it ends
- `simulation.py`  runs that can be repeated, with faults; `trace.py` is their record
- `replaying.py`   faults of a trace put in again, each at its place
- `repeating.py`   a scenario run twice, to see that it can be
- `cases`          cases of reducers, aggregates, sagas and projections; a fixed clock, ids, chance
- `world`          what of the real world a simulation controls, and what it refuses
- `scheduling.py`  trio's private names, all in one place
"""

from actors.testing.cases.fixed import (
    FixedClock,
    FixedIds,
    FixedRandom,
    fixed_environment,
    test_clock,
)
from actors.testing.cases.participants import ParticipantTwin
from actors.testing.cases.projections import ProjectionTest
from actors.testing.cases.sagas import SagaTest
from actors.testing.cases.step_store import ActionNotFound, ReceiveTimeout, StepStore, WrongOrder
from actors.testing.cases.telling import (
    ReducerTest,
    effects_count,
    given,
    has_append,
    has_effect,
    has_publish,
    no_effects,
)
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
from actors.testing.recorder import Ended, Operation, Recorder
from actors.testing.repeating import NotRepeatable, check_repeatable
from actors.testing.replaying import PlaceNeverCame
from actors.testing.scheduling import SimulationUnavailable
from actors.testing.simulation import Scenario, Simulation
from actors.testing.trace import Fault, Place, Step, Trace
from actors.testing.world.dates import EPOCH
from actors.testing.world.leaks import SimulationLeak

__all__ = [
    "EPOCH",
    "ActionNotFound",
    "AnyPuppet",
    "AsyncPuppet",
    "AsyncTrappingPuppet",
    "Call",
    "Do",
    "Ended",
    "Fault",
    "FixedClock",
    "FixedIds",
    "FixedRandom",
    "NotRepeatable",
    "Note",
    "Operation",
    "ParticipantTwin",
    "Place",
    "PlaceNeverCame",
    "Probe",
    "ProjectionTest",
    "Puppet",
    "PuppetMessage",
    "ReceiveTimeout",
    "Recorder",
    "ReducerTest",
    "SagaTest",
    "Scenario",
    "Simulation",
    "SimulationLeak",
    "SimulationUnavailable",
    "Step",
    "StepStore",
    "Trace",
    "TrappingPuppet",
    "WrongOrder",
    "check_repeatable",
    "effects_count",
    "fixed_environment",
    "given",
    "has_append",
    "has_effect",
    "has_publish",
    "no_effects",
    "raising",
    "sleeping",
    "test_clock",
]
