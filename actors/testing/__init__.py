"""The testing kit: puppets, probes and the seeded simulation. Part of the product.

- `puppet.py`      actors that do what a test tells them, in both kinds
"""

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

__all__ = [
    "AnyPuppet",
    "AsyncPuppet",
    "AsyncTrappingPuppet",
    "Call",
    "Do",
    "Note",
    "Puppet",
    "PuppetMessage",
    "TrappingPuppet",
    "raising",
    "sleeping",
]
