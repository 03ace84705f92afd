"""How long a test waits for what must come: far longer than the slowest machine needs.

A test waits for an event. This limit only ends one that would wait for ever, so it says nothing
about speed, and no test may pass or fail by it on a busy machine.
"""

from collections.abc import Callable

import trio

from storage.postgres import PoolSettings

# Give up after this; what came late, but came, is no failure.
PATIENCE_S = 120.0
# For what must not end by itself: whoever waited for its end has run out of patience before.
FOR_EVER_S = 3600.0
# A pool with as few connections as a test needs. On a busy machine fifty writers of one stream
# wait longer for each other than a service's caller would.
PATIENT_POOL = PoolSettings(
    connections_min=0,
    connections_max=10,
    acquire_s_max=PATIENCE_S,
    operation_s_max=PATIENCE_S,
    lock_timeout_s=PATIENCE_S,
    statement_timeout_s=PATIENCE_S,
)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait in real time for what sets no event: another process, the kernel, a thread."""
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(0.005)
