"""A program on all ports is killed at random, its server too, and then both: what is there then."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue

import asyncpg
import pytest
import trio

from actors.persistence import StreamId
from actors.persistence.projections.inline import inline_collection
from storage.postgres import Connection, Database, migrate, open_database
from storage.postgres.embedded.server import EmbeddedServer
from storage.testing import Told
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.samples import new_event
from tests.patience import PATIENCE_S, PATIENT_POOL
from tests.processes.prepared import start_prepared
from tests.storage.busy_program import (
    EFFECTS,
    FIRED,
    STREAMS,
    TYPES,
    Lists,
    is_sent,
    is_timed,
    stream_of,
)

_ROOT = Path(__file__).parents[2]
# What a dead program held is another's after half a minute; instead of waiting it is ended.
_END_CLAIMS = (
    "UPDATE outbox_leases SET lease_until = clock_timestamp()",
    "UPDATE timers SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by IS NOT NULL",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    made = start_prepared(tmp_path)
    yield made
    made.stop()


class Program:
    """The busy program: a process for each round, and all that it has told."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.busy_program", url],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.told = Told()
        self.pid, self.ended = 0, ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def begin(self, plan: str) -> None:
        assert self._process.stdin is not None
        self.pid, self.ended = 0, ""
        self._process.stdin.write(f"{plan}\n")
        while not self.pid:
            self._hear()

    def hear_more(self, count: int) -> None:
        """Wait for so many further acknowledgements."""
        wanted = len(self.told.acknowledged) + count
        while len(self.told.acknowledged) < wanted:
            assert not self.ended, f"it ended with {self.ended}"
            self._hear()

    def hear_out(self) -> str:
        """Wait for its end, and all that it has told before."""
        while not self.ended:
            self._hear()
        return self.ended

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        if self.pid and not self.ended:
            self.kill()
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _hear(self) -> None:
        try:
            line = self._lines.get(timeout=PATIENCE_S)
        except Empty:
            raise AssertionError("it says nothing any more") from None
        self.told.hear(line)
        word, _, value = line.partition(" ")
        match word:
            case "pid":
                self.pid = int(value)
            case "ended":
                self.ended = value


def _kill_server(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.is_running:
        time.sleep(0.01)  # a process has no event


def _round(number: int, program: Program, server: EmbeddedServer, rng: random.Random) -> None:
    program.begin(str(number))
    program.hear_more(rng.randrange(1, 30))
    time.sleep(rng.uniform(0, 0.02))  # the random moment is the point
    match number % 5:
        case 1:
            _kill_server(server)
            server.restart()
            # It goes on by itself.
            program.hear_more(5)
            program.kill()
        case 3:
            _kill_server(server)
            program.kill()
            server.restart()
        case _:
            program.kill()
    program.hear_out()


async def _numbers(kept: Kept, stream: StreamId) -> list[int]:
    events = [event async for event in kept.events.load(stream)]
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    is_noted = stream in STREAMS
    return [int(e.data[len(b'{"number": ') : -1] if is_noted else e.data) for e in events]


async def _check(kept: Kept, told: Told, lists: str = "lists__g1") -> None:
    stored: dict[str, list[int]] = {one: await _numbers(kept, one) for one in STREAMS}
    every = [number for numbers in stored.values() for number in numbers]
    told.judge(map(str, every))
    # Each effect once, in the order of its key.
    effects = await _numbers(kept, EFFECTS)
    for stream, numbers in stored.items():
        mine = [one for one in effects if STREAMS[one % len(STREAMS)] == stream]
        assert mine == [one for one in numbers if is_sent(one)]
    fired = await _numbers(kept, FIRED)
    assert sorted(fired) == sorted(filter(is_timed, every))
    # The read model is the fold, but for what is parked: from the first that broke it on.
    letters = await kept.dead_letters.list(limit=1000)
    assert {one.letter.stream_id for one in letters} <= {STREAMS[0]}
    parked = sorted(one.letter.stream_version or 0 for one in letters)
    for stream, numbers in stored.items():
        document = await kept.projections.get(lists, stream) or {"numbers": []}
        until = parked[0] - 1 if stream == STREAMS[0] and parked else len(numbers)
        assert document["numbers"] == numbers[:until]
    assert parked == list(
        range(len(stored[STREAMS[0]]) - len(parked) + 1, len(stored[STREAMS[0]]) + 1)
    )
    assert (await kept.outbox.stats()).dead == 0


async def _sessions(database: Database) -> int:
    async def work(connection: Connection) -> int:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%busy%'"
            )
        )

    return await database.run(work)


class _Inline(Lists):
    inline = True


# What the program leaves when nothing is killed; none of the first stream breaks its read model.
_NUMBERS = tuple(range(1, 31))
_SENT, _TIMED = tuple(filter(is_sent, _NUMBERS)), tuple(filter(is_timed, _NUMBERS))


@pytest.mark.parametrize(
    ("numbers", "effects", "fired", "is_shown"),
    [
        (_NUMBERS, _SENT, _TIMED, True),
        (_NUMBERS[:-1], _SENT[:-1], _TIMED[:-1], True),  # acknowledged, and lost
        ((*_NUMBERS, 7), _SENT, _TIMED, True),  # there twice
        ((*_NUMBERS, 31), _SENT, _TIMED, True),  # nobody tried it
        (_NUMBERS, _SENT[:-1], _TIMED, True),
        (_NUMBERS, (*_SENT, 3), _TIMED, True),
        (
            _NUMBERS,
            (27, *_SENT[:-2], 30),
            _TIMED,
            True,
        ),  # before 3, of its key
        (_NUMBERS, _SENT, _TIMED[:-1], True),
        (_NUMBERS, _SENT, (*_TIMED, 5), True),
        (_NUMBERS, _SENT, _TIMED, False),  # the read model is not the fold
    ],
)
async def test_the_check_finds_damage_that_is_planted(
    numbers: Sequence[int], effects: Sequence[int], fired: Sequence[int], is_shown: bool
) -> None:
    # REL-91
    kept = kept_in_memory([_Inline()] if is_shown else [], TYPES)
    for number in numbers:
        data = b'{"number": %d}' % number
        await kept.events.append(stream_of(number), [new_event(data, type="Noted")])
    for stream, ones in ((EFFECTS, effects), (FIRED, fired)):
        for one in ones:
            await kept.events.append(stream, [new_event(str(one).encode())])
    told, lists = Told({*map(str, _NUMBERS)}, {*map(str, _NUMBERS)}), inline_collection(_Inline())
    if (numbers, effects, fired, is_shown) == (_NUMBERS, _SENT, _TIMED, True):
        await _check(kept, told, lists)
        return
    with pytest.raises(AssertionError):
        await _check(kept, told, lists)


@pytest.mark.slow
def test_whatever_is_killed_each_acknowledged_thing_is_there_once(server: EmbeddedServer) -> None:
    # REL-91
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    rounds = int(os.environ.get("ROUNDS", "10"))
    print(f"SEED={seed}")
    rng = random.Random(seed)

    async def prepare() -> None:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            await migrate(database)

    async def let_claims_end() -> None:
        connection = await asyncpg.connect(server.url)
        for statement in _END_CLAIMS:
            await connection.execute(statement)
        await connection.close()

    async def check() -> None:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            await _check(kept_in_postgres(database), program.told)
            with trio.fail_after(PATIENCE_S):
                while await _sessions(database):  # noqa: ASYNC110  (of another process)
                    await trio.sleep(0.02)

    trio.run(prepare)
    program = Program(server.url)
    try:
        for number in range(rounds):
            _round(number, program, server, rng)
            asyncio.run(let_claims_end())
        program.begin("drain")
        assert program.hear_out() == "0"
    finally:
        program.close()
    trio.run(check)
    assert len(program.told.acknowledged) > rounds
