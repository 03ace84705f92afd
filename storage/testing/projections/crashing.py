"""What every `ProjectionStore` must come to, whoever is killed when. Fixture `kept`, empty."""

from dataclasses import replace
from random import Random

import pytest
import trio

from actors.persistence import (
    Checkpoint,
    Cursor,
    Document,
    GenerationState,
    ProjectionBatch,
    ProjectionRunner,
    StreamId,
    wait_until,
)
from actors.runtime import open_actors
from storage.testing.kept import Kept
from storage.testing.projections.filling import Totals, paid
from storage.testing.samples import PATIENCE_S

_TILLS = [StreamId(f"till-{letter}") for letter in "abc"]
_ROUNDS = 8
# About what a batch takes, in steps of the scheduler: a kill hits each of its waits in some round.
_STEPS_MAX = 40


class ProjectionCrashSuite:
    """Doubles, disorder and deaths: the rows are those of the log, each event once."""

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_killed_at_any_point_the_rows_are_those_of_the_log(
        self, kept: Kept, seed: int
    ) -> None:
        # PROJ-2, PROJ-3, PROJ-10
        random, last = Random(seed), Cursor(0, 0)
        sums = dict.fromkeys(_TILLS, 0)

        def make() -> ProjectionRunner:
            return ProjectionRunner(Totals(), kept.events, kept.projections)

        async with open_actors() as system:
            for _ in range(_ROUNDS):
                doomed = [await system.start(make) for _ in range(2)]
                for till in random.sample(_TILLS, 2):
                    amounts = [random.randrange(1, 100) for _ in range(5)]
                    sums[till] += sum(amounts)
                    last = max(last, (await kept.events.append(till, paid(*amounts))).cursor)
                for _ in range(random.randrange(_STEPS_MAX)):
                    await trio.lowlevel.checkpoint()
                for one in doomed:
                    one.kill()
            await system.start(make)
            await wait_until(kept.projections, "totals", last, timeout_s=PATIENCE_S)
        found = await kept.projections.query("totals__g1")
        wanted = {till: {"sum": total} for till, total in sums.items() if total}
        assert dict(found) == wanted

    async def test_batches_in_any_order_and_again_write_what_they_wrote_once(
        self, kept: Kept
    ) -> None:
        # PROJ-3: at most one of all that begin at a place is written, and nothing after it moves
        random, store = Random(3), kept.projections
        begun = await store.open("totals", 1, 1, GenerationState.LIVE)
        places = [
            replace(begun, cursor=Cursor(number, 1) if number else begun.cursor, revision=number)
            for number in range(6)
        ]
        written = dict[str, Document]()
        for step, place in enumerate(places[:-1]):
            batches = [_batch(one, places[number + 1]) for number, one in enumerate(places[:-1])]
            again = batches[:step] + batches[step + 1 :] + batches[:step]
            random.shuffle(again)
            for batch in again:
                assert not await store.commit(batch)
            assert await store.commit(_batch(place, places[step + 1]))
            written = _after(written, _batch(place, places[step + 1]).documents)
            assert dict(await store.query(begun.collection)) == written


def _batch(begun: Checkpoint, reached: Checkpoint) -> ProjectionBatch:
    number = begun.revision
    documents: dict[str, Document | None] = {"last": {"n": number}, f"at-{number}": {"n": 1}}
    if number:
        documents[f"at-{number - 1}"] = None
    return ProjectionBatch(begun, reached.cursor, documents)


def _after(before: dict[str, Document], changed: object) -> dict[str, Document]:
    assert isinstance(changed, dict)
    return {key: one for key, one in {**before, **changed}.items() if one is not None}
