"""The site, but its rooms end badly: `python -m tests.journeys.hanging_site serve`.

HANGS says how: `hook` waits for ever, `thread` has a thread that never returns. Several, with
blanks between them, are one room each. Which room hangs is told on the standard output.
"""

from __future__ import annotations

import os
import sys
import time

import trio

from actors.chat import RoomActor
from actors.runtime import Exit
from tests.patience import FOR_EVER_S
from web.cli.commands import main

WAYS = os.environ["HANGS"].split()


async def hang(self: RoomActor, exit: Exit) -> None:  # noqa: A002 - the runtime's word
    way = WAYS.pop() if WAYS else ""
    if way:
        print(self.path, "hangs", flush=True)
    if way == "hook":
        await trio.sleep(FOR_EVER_S)
    elif way == "thread":
        await trio.to_thread.run_sync(time.sleep, FOR_EVER_S)


RoomActor.on_stop = hang  # type: ignore[method-assign, assignment]  # reason: planted

if __name__ == "__main__":
    sys.exit(main())
