"""Who carries out what sagas say and brings them their timers: a relay and a clock for their tree.

Made in a supervisor's own methods, as its last children: both speak to actors that stand before
them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.persistence import (
    DeadLetters,
    DueTimer,
    DurableTimers,
    Outbox,
    OutboxEntry,
    OutboxRelay,
    TimerService,
)
from actors.reducers import Environment

# A send waits for its participant, mostly for a commit: a store shares one among as many as come.
SENDS_MAX = 64
# Of one part of the outbox: eight parts keep all sends in use, wherever the keys fall.
KEYS_AT_ONCE = 16


class BesideLog(Protocol):
    """What of a store stands beside its events."""

    @property
    def outbox(self) -> Outbox:
        """What leaves."""

    @property
    def timers(self) -> DurableTimers:
        """What is due."""

    @property
    def dead_letters(self) -> DeadLetters:
        """What was given up."""


def saga_relay(
    beside: BesideLog, send: Callable[[OutboxEntry], Awaitable[None]], env: Environment, owner: str
) -> OutboxRelay:
    """Call this for the relay of sagas: `send` is `Sagas.send`, or ends there.

    `owner` names this process among those that relay.
    """
    return OutboxRelay(
        beside.outbox,
        send,
        env,
        owner,
        dead_letters=beside.dead_letters,
        sends_max=SENDS_MAX,
        keys_at_once=KEYS_AT_ONCE,
    )


def saga_clock(
    beside: BesideLog, deliver: Callable[[DueTimer], Awaitable[bool]], env: Environment, owner: str
) -> TimerService:
    """Call this for who brings sagas their timers: `deliver` is `Sagas.deliver` or ends there."""
    return TimerService(beside.timers, deliver, env, owner, dead_letters=beside.dead_letters)
