"""Reducers: what an actor decides as a pure function, and what is to be done as values.

Five types: a state, the actions that change it, a reducer, its effects, and the environment it
decides in. Read them in this order:

- `environment.py`   clock, ids and chance, handed in
- `messages.py`      commands, and a command's no
- `effects.py`       what is to be done, as values that can be compared
- `delays.py`        the port of delays that outlive their process
- `reducer.py`       `Next`, `@reducer`, reducers made of reducers, and whether one is pure
- `reducer_actor.py` the actor around it; `performing.py` carries out its effects
- `reducer_ref.py`   how it is held: run, ask for an outcome, follow; `handles.py` what one gets

Effects that need a store are in `actors.persistence`, the kit for tests in `actors.testing`.
"""

from actors.reducers.delays import DurableDelays, Fire, UnreadableDelay
from actors.reducers.effects import (
    Callback,
    Cancel,
    Delay,
    Dispatch,
    Effect,
    Future,
    Nothing,
    Operation,
    Parallel,
    Publish,
    Reply,
    Sequential,
    Stream,
    StreamOperation,
    check_callback,
    effect,
    par,
    seq,
)
from actors.reducers.environment import (
    Clock,
    Environment,
    Guarded,
    Ids,
    Outside,
    Random,
    RandomOfIds,
)
from actors.reducers.handles import EffectHandle
from actors.reducers.messages import (
    Refusal,
    command,
    event_type,
    is_command,
    is_event,
    mark_event,
)
from actors.reducers.performing import EffectTimeout, Interpreter, NothingOutside
from actors.reducers.reducer import (
    Case,
    Next,
    NotPure,
    Reducer,
    ReducerContractError,
    check_pure,
    combine,
    reducer,
    scope,
)
from actors.reducers.reducer_actor import ReducerActor, as_reducer, start_reducer
from actors.reducers.reducer_ref import (
    Applied,
    Drained,
    Draining,
    DrainTimeout,
    Health,
    Lagged,
    Metadata,
    OutcomeTimeout,
    ReducerRef,
    Subscription,
)

__all__ = [
    "Applied",
    "Callback",
    "Cancel",
    "Case",
    "Clock",
    "Delay",
    "Dispatch",
    "DrainTimeout",
    "Drained",
    "Draining",
    "DurableDelays",
    "Effect",
    "EffectHandle",
    "EffectTimeout",
    "Environment",
    "Fire",
    "Future",
    "Guarded",
    "Health",
    "Ids",
    "Interpreter",
    "Lagged",
    "Metadata",
    "Next",
    "NotPure",
    "Nothing",
    "NothingOutside",
    "Operation",
    "OutcomeTimeout",
    "Outside",
    "Parallel",
    "Publish",
    "Random",
    "RandomOfIds",
    "Reducer",
    "ReducerActor",
    "ReducerContractError",
    "ReducerRef",
    "Refusal",
    "Reply",
    "Sequential",
    "Stream",
    "StreamOperation",
    "Subscription",
    "UnreadableDelay",
    "as_reducer",
    "check_callback",
    "check_pure",
    "combine",
    "command",
    "effect",
    "event_type",
    "is_command",
    "is_event",
    "mark_event",
    "par",
    "reducer",
    "scope",
    "seq",
    "start_reducer",
]
