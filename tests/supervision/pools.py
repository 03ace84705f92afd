"""Dynamic supervisors for the tests: one template of puppets, children by number or by key."""

from functools import partial

from actors.runtime import Ref
from supervision import Backoff, ChildSpec, Dynamic, DynamicFlags, StartResult
from tests.supervision.puppets import Kit, Word

Pool = Dynamic[Word]
MANY = DynamicFlags(intensity=10_000)
KEYED = DynamicFlags(intensity=10_000, key="child_id")
# A wait so short that it never matters, and always the same.
QUICK = Backoff(0.001, 0.001, jitter=0.0)


def template(kit: Kit, **options: object) -> ChildSpec:
    """Children called by number (`start_child("1")`) or by key."""
    start = partial(kit.puppet, kit.stage)
    return ChildSpec.parse({"id": "one", "start": start, "backoff": QUICK, **options})


def word(result: StartResult[Word]) -> Ref[Word]:
    return result.started


async def counted(pool: Pool) -> list[int]:
    counts = await pool.count_children()
    return [counts.specs, counts.active, counts.supervisors, counts.workers]
