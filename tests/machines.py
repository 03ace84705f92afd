"""How machines that make up tests run: the same few in the suite, ever others for long."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# Of a soak: how many examples, each run other ones. In the suite they are the same in every run, so
# that who changes something else sees no new failure.
_EXAMPLES = os.environ.get("EXAMPLES")


def machine_settings(examples: int, steps: int = 15, *, is_planted: bool = False) -> settings:
    """Call this for as many examples of so many steps, or those of a soak.

    A fault that is planted is not made small: that takes a hundred times as long as to find it.
    """
    if is_planted:
        return settings(machine_settings(examples, steps), phases=[Phase.generate])
    return settings(
        max_examples=examples if _EXAMPLES is None else int(_EXAMPLES),
        stateful_step_count=steps if _EXAMPLES is None else 4 * steps,
        derandomize=_EXAMPLES is None,
        database=None,
        print_blob=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
