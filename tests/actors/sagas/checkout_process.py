"""A process with a shop in which one checkout runs, and which stops to be killed at a place.

`python -m tests.actors.sagas.checkout_process URL STORY NUMBER PLACE AT`: prints PLACE where it
stops, or `ended` when it never came there.
"""

import sys

import trio

from storage.postgres import open_database
from tests.actors.sagas.shops import STORIES, Plan, postgres_world
from tests.patience import PATIENT_POOL


class _Stop(Plan):
    async def pass_by(self, place: str) -> None:
        self.passed[place] = self.passed.get(place, 0) + 1
        if (place, self.passed[place]) == (self.place, self.at):
            print(place, flush=True)
            await trio.sleep_forever()


async def main(url: str, name: str, number: str, place: str, at: str) -> None:
    """Call this to check out until killed, or to the end."""
    story = next(one for one in STORIES if one.name == name)
    async with open_database(url, part="shop", settings=PATIENT_POOL) as database:
        await story.play(postgres_world(database), number, _Stop(place, int(at)))
    print("ended", flush=True)


if __name__ == "__main__":
    url, name, number, place, at = sys.argv[1:]
    trio.run(main, url, name, number, place, at)
