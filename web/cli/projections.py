"""`greenroom projection`: what fills the read models, and how to steer it.

All of it may run beside a site: a wish is a row, and whoever runs the projection sees it within a
second. Nothing here needs the projection's class; where nobody runs it a wish waits.
"""

import argparse
from collections.abc import Mapping, Sequence

import trio

from actors.persistence import (
    Checkpoint,
    GenerationState,
    Lag,
    UnknownProjection,
    rebuild_by_name,
    swap_back,
)
from actors.persistence.projections.store import serves
from storage.postgres import Database, PostgresEventStore, PostgresProjections
from web.cli.answering import Teller
from web.cli.opening import changing, open_store
from web.observability import Code, CommandFailed

# How often the progress of a rebuild is looked at.
LOOK_S = 0.5
# A generation that stood still for so long is filled by nobody, it seems.
STILL_S = 10.0

Parts = Sequence[Checkpoint]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    do = {
        "list": _list,
        "lag": _lag,
        "rebuild": _rebuild,
        "swap-back": _swap_back,
        "resume": _resume,
        "skip": _skip,
    }[parsed.action]
    async with open_store(environment) as database:
        return await do(parsed, teller, database)


async def _generations(database: Database, name: str | None = None) -> list[Parts]:
    """All generations, each as its parts; `UnknownProjection` for a name that nobody has."""
    store = PostgresProjections(database)
    names = await store.names() if name is None else [name]
    found: list[Parts] = []
    for one in names:
        by_number: dict[int, list[Checkpoint]] = {}
        for part in await store.checkpoints(one):
            by_number.setdefault(part.generation, []).append(part)
        found += by_number.values()
    if name is not None and not found:
        raise UnknownProjection(name)
    return found


async def _list(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    rows = []
    for parts in await _generations(database):
        first = parts[0]
        errors = [part for part in parts if part.error is not None]
        poisons = [part.poison for part in parts if part.poison is not None]
        rows.append(
            {
                "projection": first.projection,
                "generation": first.generation,
                "version": first.version,
                "state": first.state.value,
                "parts": len(parts),
                "cursor": str(min(part.cursor for part in parts)),
                "error": errors[0].error if errors else None,
                "event": str(poisons[0]) if poisons else None,
            }
        )
    teller.rows(rows, "no projection has a checkpoint here")
    return Code.DONE


async def _lag(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    rows = []
    for parts in await _generations(database, parsed.name):
        if serves(parts[0]):
            lag = await _lag_of(database, parts)
            rows.append(
                {
                    "projection": parts[0].projection,
                    "generation": parts[0].generation,
                    "events": lag.events,
                    "seconds": round(lag.seconds, 3),
                    "state": parts[0].state.value,
                }
            )
    teller.rows(rows, "no projection serves here")
    return Code.DONE


async def _lag_of(database: Database, parts: Parts) -> Lag:
    return await PostgresEventStore(database).lag(min(part.cursor for part in parts))


async def _serving(database: Database, name: str) -> Parts:
    serving = [parts for parts in await _generations(database, name) if serves(parts[0])]
    if not serving:
        raise UnknownProjection(name)
    return serving[-1]


async def _rebuild(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    await _serving(database, parsed.name)
    what = f"have {parsed.name} built anew beside the generation that serves"
    async with changing(parsed, teller, database, what, f"projection {parsed.name}"):
        generation = await rebuild_by_name(PostgresProjections(database), parsed.name)
    teller.one({"projection": parsed.name, "generation": generation})
    if not parsed.wait:
        teller.note("whoever runs this projection builds it, and swaps when it has caught up")
        return Code.DONE
    return await _wait_for(teller, database, parsed.name, generation)


async def _wait_for(teller: Teller, database: Database, name: str, generation: int) -> int:
    """Show the progress until a generation serves; fails where it is halted or gone."""
    began, first, moved_at, last = trio.current_time(), -1, trio.current_time(), (-1, -1)
    while True:
        found = await _generations(database, name)
        mine = [parts for parts in found if parts[0].generation == generation]
        if not mine or mine[0][0].state is GenerationState.RETIRED:
            raise CommandFailed(Code.FAILED, f"generation {generation} of {name} is gone")
        parts = mine[0]
        if any(part.is_halted for part in parts):
            error = next(part.error for part in parts if part.is_halted)
            raise CommandFailed(
                Code.FAILED,
                f"generation {generation} of {name} is halted: {error}",
                "What served before serves on; mend it, then resume",
            )
        if serves(parts[0]):
            teller.end_progress()
            teller.note(f"generation {generation} of {name} serves")
            return Code.DONE
        left = (await _lag_of(database, parts)).events
        first, now = max(first, left), trio.current_time()
        place = (left, sum(part.revision for part in parts))
        moved_at, last = (now, place) if place != last else (moved_at, last)
        teller.progress(_progress(name, first, left, now - began, now - moved_at))
        await trio.sleep(LOOK_S)


def _progress(name: str, whole: int, left: int, took_s: float, still_s: float) -> str:
    done = 100 * (whole - left) // whole if whole else 100
    if still_s > STILL_S:
        return f"{name}: {done} %, and nobody fills it: does the program that runs it run?"
    rate = (whole - left) / took_s if took_s else 0.0
    eta = f", {left / rate:.0f} s left" if rate else ""
    return f"{name}: {done} %, {left} events left{eta}"


async def _swap_back(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    serving = await _serving(database, parsed.name)
    what = f"have {parsed.name} read from a former generation again, as it was left"
    async with changing(parsed, teller, database, what, f"projection {parsed.name}"):
        generation = await swap_back(PostgresProjections(database), parsed.name, parsed.to)
    now = await _serving(database, parsed.name)
    lag = await _lag_of(database, now)
    teller.one({"projection": parsed.name, "generation": generation, "events": lag.events})
    if now[0].version != serving[0].version:
        teller.note(
            f"it is of version {now[0].version}: a program of version {serving[0].version} would "
            "build its own again and take over; run the one that fits"
        )
    return Code.DONE


async def _halted(database: Database, name: str) -> Parts:
    """The generation that is halted: the serving one before one that is built."""
    halted = [
        parts
        for parts in await _generations(database, name)
        if any(part.is_halted for part in parts) and parts[0].state is not GenerationState.RETIRED
    ]
    if not halted:
        raise CommandFailed(Code.REFUSED, f"projection {name} is not halted; nothing was done")
    return min(halted, key=lambda parts: not serves(parts[0]))


async def _resume(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    first = (await _halted(database, parsed.name))[0]
    what = f"let generation {first.generation} of {parsed.name} go on, where it was halted"
    async with changing(parsed, teller, database, what, f"projection {parsed.name}"):
        if not await PostgresProjections(database).resume(parsed.name, first.generation):
            raise CommandFailed(Code.REFUSED, "somebody else let it go on meanwhile")
    teller.one({"projection": parsed.name, "generation": first.generation})
    return Code.DONE


async def _skip(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    parts = await _halted(database, parsed.name)
    poisons = [part.poison for part in parts if part.poison is not None]
    if not poisons:
        raise CommandFailed(
            Code.REFUSED,
            f"{parsed.name} was not halted by an event; nothing was done",
            "Resume it",
        )
    number = parts[0].generation
    what = f"leave event {poisons[0]} out of generation {number} of {parsed.name}, and go on"
    async with changing(parsed, teller, database, what, f"projection {parsed.name}"):
        left_out = await PostgresProjections(database).leave_out(parsed.name, number)
        if left_out is None:
            raise CommandFailed(Code.REFUSED, "somebody else let it go on meanwhile")
    teller.one({"projection": parsed.name, "generation": number, "event": str(left_out)})
    return Code.DONE
