"""`greenroom bench`: each measure by turns, in rounds, and what came of them.

Rule 1: a figure is the median of rounds, and the first round is none: it warms up.
Rule 2: what was measured is told, however it ends: interrupted, or with the database gone.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter

import trio

from storage.errors import EmbeddedFailed
from storage.postgres import Database, server_facts
from web.cli.answering import Teller
from web.cli.opening import needed_settings
from web.cli.parser import MEASURES
from web.cli.running.measuring import actors, sagas, stores
from web.cli.running.measuring.scratch import open_scratch
from web.cli.running.measuring.words import Measure, Round, Turn, figure_of, spelt
from web.observability import Code, CommandFailed, complain, first_leaf

ROUNDS = 5
# The loop is looked at so often; how late a look came is what others would have waited.
LOOK_S = 0.005
_LIBRARIES = ("greenroom", "trio", "msgspec", "asyncpg", "uvloop")

_ALL = (
    Measure("tell", "a message, told and handled", "us", actors.open_tell, actors.BURST),
    Measure("ask", "a question and its answer", "us", actors.open_ask),
    Measure(
        "publish",
        f"a message until {actors.SUBSCRIBERS} subscribers have handled it",
        "us",
        actors.open_publish,
        actors.SUBSCRIBERS,
        together=True,
    ),
    Measure("reducer", "an action, reduced", "us", actors.open_reducer),
    Measure("append-memory", "an event, appended in memory", "us", stores.open_memory),
    Measure("saga-memory", "a saga of three steps, in memory", "ms", sagas.open_memory),
    Measure(
        "append-postgres",
        "an event, appended by one writer",
        "ms",
        stores.open_postgres,
        needs_database=True,
    ),
    Measure(
        "saga-postgres", "a saga of three steps", "ms", sagas.open_postgres, needs_database=True
    ),
)


@dataclass
class _Found:
    """What is known so far."""

    wanted: Sequence[Measure]
    machine: dict[str, object]
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False

    def figures(self) -> Iterator[Mapping[str, object]]:
        for one in self.wanted:
            if rounds := self.rounds.get(one.name):
                yield figure_of(one, rounds)


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    found = _Found(chosen(parsed.only), _machine())
    _warn_of(found.machine)
    try:
        async with _until_a_signal() as scopes, AsyncExitStack() as stack:
            opened = await _opened(found, environment, stack, teller)
            with trio.CancelScope() as turns:
                scopes.append(turns)
                await _take_turns(opened, parsed.seconds, found, teller)
                found.is_whole = True
            scopes.pop()
    finally:
        teller.end_progress()
        _tell(found, teller)
    return Code.DONE if found.is_whole else Code.INTERRUPTED


def chosen(names: Sequence[str]) -> Sequence[Measure]:
    """Call this for the measures of some names, or all; raises `CommandFailed` for another."""
    for name in names:
        if name not in MEASURES:
            near = get_close_matches(name, MEASURES, cutoff=0.5) or MEASURES
            raise CommandFailed(
                Code.UNKNOWN, f"nothing is measured as {name!r:.80}", f"There is {', '.join(near)}"
            )
    return [one for one in _ALL if not names or one.name in names]


@asynccontextmanager
async def _until_a_signal() -> AsyncIterator[list[trio.CancelScope]]:
    """Cancel the innermost of these scopes at each signal: the turns, then also what closes.

    What was opened for the turns is closed in order: cancelled with them it would fail loudly.
    """
    ends = [
        one
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(one) is not signal.SIG_IGN
    ]
    with trio.open_signal_receiver(*ends) as signals:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as whole:
                scopes = [whole]

                async def watch() -> None:
                    async for _ in signals:
                        scopes[-1].cancel()

                nursery.start_soon(watch)
                yield scopes
            nursery.cancel_scope.cancel()


async def _opened(
    found: _Found, environment: Mapping[str, str], stack: AsyncExitStack, teller: Teller
) -> Sequence[tuple[Measure, Turn]]:
    database: Database | None = None
    if any(one.needs_database for one in found.wanted):
        database = await _scratch(found, environment, stack, teller)
    wanted = [one for one in found.wanted if database is not None or not one.needs_database]
    if not wanted:
        raise CommandFailed(Code.UNREACHABLE, "there is no database to be measured")
    return [(one, await stack.enter_async_context(one.open(database))) for one in wanted]


async def _scratch(
    found: _Found, environment: Mapping[str, str], stack: AsyncExitStack, teller: Teller
) -> Database | None:
    settings, wait_s = needed_settings(environment)
    teller.progress("making a database of its own")
    try:
        database = await stack.enter_async_context(open_scratch(settings, wait_s))
    except Exception as raised:
        leaf = first_leaf(raised)
        # What nobody named may be missing.
        if not isinstance(leaf, EmbeddedFailed):
            raise
        why = str(leaf)
        found.left_out = {one.name: why for one in found.wanted if one.needs_database}
        return None
    facts = await server_facts(database)
    where = "embedded" if settings.database_url is None else "of DATABASE_URL"
    found.machine["postgres"] = f"{facts.version}, {where}"
    found.machine["is_durable"] = facts.is_durable
    return database


async def _take_turns(
    opened: Sequence[tuple[Measure, Turn]], seconds: float, found: _Found, teller: Teller
) -> None:
    slice_s = seconds / (len(opened) * (ROUNDS + 1))
    late: list[float] = []

    async def look() -> None:
        while True:
            began = perf_counter()
            await trio.sleep(LOOK_S)
            late.append(max(0.0, perf_counter() - began - LOOK_S))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        for number in range(ROUNDS + 1):
            for measure, turn in opened:
                words = f"round {number} of {ROUNDS}" if number else "warming up"
                teller.progress(f"{words}: {measure.name}")
                late.clear()
                took = await _turns(turn, slice_s)
                if number:
                    found.rounds.setdefault(measure.name, []).append(Round(took, tuple(late)))
        nursery.cancel_scope.cancel()


async def _turns(turn: Turn, slice_s: float) -> Sequence[float]:
    took, until = list[float](), perf_counter() + slice_s
    while True:
        began = perf_counter()
        await turn()
        now = perf_counter()
        took.append(now - began)
        if now >= until:
            return took
        # Not all of them wait for anything: others have their turn, and Ctrl-C.
        await trio.lowlevel.checkpoint()


# What is told.


def _machine() -> dict[str, object]:
    try:
        load = round(os.getloadavg()[0], 2)
    except OSError:
        load = None
    return {
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
        "load": load,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None  # a clone is not installed


def _warn_of(machine: Mapping[str, object]) -> None:
    load, cores = machine["load"], machine["cores"]
    if isinstance(load, float) and isinstance(cores, int) and load > cores:
        complain(
            f"greenroom: this machine is busy, a load of {load:.1f} on {cores} cores: what is "
            "measured now is the noise of others too"
        )


def _tell(found: _Found, teller: Teller) -> None:
    figures = list(found.figures())
    if teller.is_json:
        teller.one(
            {
                "machine": found.machine,
                "is_whole": found.is_whole,
                "figures": figures,
                "left_out": found.left_out,
            }
        )
        return
    teller.rows([_row(one) for one in figures], "nothing was measured")
    for name, why in found.left_out.items():
        teller.note(f"without {name}: {why}")
    told = {**found.machine, "versions": None}
    versions = found.machine["versions"]
    assert isinstance(versions, dict)
    words = [
        f"{told['cores']} cores", str(told["system"]), f"Python {told['python']}",
        *(f"{name} {one}" for name, one in versions.items()),
        *([f"PostgreSQL {told['postgres']}"] if "postgres" in told else []),
        *(["not durable"] if told.get("is_durable") is False else []),
        f"a load of {told['load']} at the start",
    ]  # fmt: skip
    teller.note(", ".join(words))


def _row(figure: Mapping[str, object]) -> Mapping[str, object]:
    def shown(name: str) -> str:
        value = figure[name]
        return spelt(value) if isinstance(value, float) else ""

    unit = figure["unit"]
    return {
        "name": figure["name"],
        "median": f"{shown('median')} {unit}",
        "p99": f"{shown('p99')} {unit}",
        "per second": shown("per_second"),
        "rounds": f"{shown('least')} to {shown('most')}",
        "loop late": f"{shown('loop_late_p99_ms')} ms" if figure["loop_late_p99_ms"] else "",
        "of": figure["is_timed"],
    }
