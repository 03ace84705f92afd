"""A tree under simulation: the same seed gives the same restarts at the same times."""

import trio

from actors.testing import Simulation
from supervision import Backoff, ChildSpec, Flags, open_system
from tests.supervision.puppets import AsyncPuppet, Crash, DefPuppet, Number, Stage, Troupe


async def restless(simulation: Simulation) -> None:
    """Crash children of both kinds that back off with jitter, then ask them."""
    assert simulation.random is not None
    stage = Stage()
    backoff = Backoff(0.1, 2.0, jitter=0.5)
    specs = [
        ChildSpec("a", lambda: DefPuppet(stage, "a"), backoff=backoff),
        ChildSpec("b", lambda: AsyncPuppet(stage, "b"), backoff=backoff),
    ]

    class Jittery(Troupe):
        def jitter(self) -> float:
            return self.system.random.random()

    async with open_system(Jittery, Flags(intensity=99), specs) as sup:
        for _ in range(5):
            for ref in (await sup.refs()).values():
                ref.tell(Crash(ValueError("boom")))
            await trio.sleep(0.3)
        await trio.sleep(10.0)
        for ref in (await sup.refs()).values():
            assert await ref.ask(Number()) >= 2


def test_one_seed_one_trace() -> None:
    # ACT-120, SUP-44: the jitter comes from the injected randomness
    first, again, other = (Simulation(seed).run(restless) for seed in (1, 1, 2))
    assert first == again
    assert first != other
