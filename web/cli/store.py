"""`greenroom migrate` and `greenroom store`: the schema, whether all is whole, and moved stores.

Which may run beside a server: bringing the schema up (a deploy does it so), `store check` (it
only reads), `store forget` and `store remove-tombstoned` (what nobody reads). Going down,
`renumber` and a `rewound` with loss need the store for themselves, and are refused while a program
of ours is connected.
"""

import argparse
from collections.abc import Mapping

from storage.errors import StoreRewound
from storage.postgres import (
    Database,
    PostgresSubjectKeys,
    accept_rewind,
    check_cluster,
    check_migrations,
    check_store,
    migrate,
    migrate_down,
    plan_migrations,
    read_migrations,
    remove_tombstoned,
    renumber,
    system_user,
)
from web.cli.answering import Teller
from web.cli.opening import changing, import_modules, open_store
from web.observability import Code, CommandFailed


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    if parsed.command == "migrate":
        async with open_store(environment, is_any_schema=True) as database:
            return await _migrate(parsed, teller, database)
    if parsed.action == "check":
        async with open_store(environment, is_any_schema=True) as database:
            return await _check(parsed, teller, database)
    if parsed.action == "rewound" and parsed.lossless != (parsed.written_to is not None):
        raise CommandFailed(
            Code.USAGE,
            "--lossless and --written-to belong together",
            "State how far the former server had written (its pg_current_wal_lsn()), or leave both "
            "out to accept a loss",
        )
    async with open_store(environment, is_any_schema=True) as database:
        plan = await plan_migrations(database)
        if plan.pending:
            await check_migrations(database)  # says so, in its own words
        do = {
            "forget": _forget,
            "renumber": _renumber,
            "remove-tombstoned": _remove,
            "rewound": _rewound,
        }
        return await do[parsed.action](parsed, teller, database)


async def _migrate(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    known = read_migrations()
    plan = await plan_migrations(database)
    to = len(known) if parsed.to is None else parsed.to
    if to > len(known):
        raise CommandFailed(
            Code.UNKNOWN, f"there is no migration {to:04}, the last is {len(known):04}"
        )
    if parsed.plan or parsed.check:
        steps = [{"version": step.version, "name": step.name} for step in plan.pending]
        teller.rows(steps, f"nothing to apply: the schema is at {plan.applied}")
        if parsed.check:
            await check_migrations(database)
        return Code.DONE
    if to == plan.applied:
        teller.one({"from": plan.applied, "to": to})
        return Code.DONE
    way = "up" if to > plan.applied else "down"
    what = f"take the schema {way} from {plan.applied} to {to}"
    async with changing(parsed, teller, database, what, f"schema {plan.applied} to {to}"):
        if to < plan.applied:
            await migrate_down(database, to)
        else:
            await migrate(database, known[:to])
    teller.one({"from": plan.applied, "to": to})
    return Code.DONE


async def _check(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    import_modules(parsed.modules)
    plan = await plan_migrations(database)
    if plan.pending:
        await check_migrations(database)
    found = await check_store(database, seen=lambda count: teller.progress(f"{count} events read"))
    teller.end_progress()
    rows = [{"kind": one.kind, "place": one.place, "problem": one.words} for one in found.problems]
    if teller.is_json:
        counts = {"events": found.events, "streams": found.streams}
        teller.one({**counts, "problems": rows, "unknown": found.unknown})
    elif rows:
        teller.rows(rows, "")
    for kind, count in sorted(found.unknown.items()):
        teller.note(
            f"{count} events {kind}: what they mean was not looked at, only that they are there"
        )
    told = f"{len(rows)} problems" if rows else "no problem"
    teller.note(f"{found.events} events in {found.streams} streams: {told}")
    return Code.FAILED if rows else Code.DONE


async def _renumber(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    what = "give all events a new order, and outdate every cursor that is kept elsewhere"
    async with changing(parsed, teller, database, what, "store"):
        done = await renumber(database)
    teller.one({"events": done.events, "lineage": done.lineage})
    return Code.DONE


async def _remove(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    what = "remove the events of tombstoned streams, which nobody can read any more, from the disk"
    async with changing(parsed, teller, database, what, "tombstoned streams"):
        done = await remove_tombstoned(database)
    teller.one({"streams": done.streams, "events": done.events})
    return Code.DONE


async def _forget(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    keys, subject = PostgresSubjectKeys(database), parsed.subject
    kept = (await keys.find([subject])).get(subject)
    if kept is None and not parsed.in_advance:
        raise CommandFailed(
            Code.UNKNOWN,
            f"nothing private of {subject} is kept here; nothing was done",
            "Look how its events name it (subject=), or say --in-advance",
        )
    if kept is not None and kept.is_forgotten:
        teller.one({"subject": subject, "forgotten": "before"})
        return Code.DONE
    what = f"delete the key of {subject}: nobody can read its private texts again, ever"
    async with changing(parsed, teller, database, what, subject):
        is_new = await keys.forget(subject, by=system_user())
    teller.one({"subject": subject, "forgotten": "now" if is_new else "before"})
    teller.note("programs that run hear of it within two seconds, and their open pages are told")
    return Code.DONE


async def _rewound(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    try:
        await check_cluster(database)
    except StoreRewound as error:
        timelines = f"timeline {error.before} to {error.now}"
    else:
        raise CommandFailed(
            Code.REFUSED, "the store did not go back in time", "Nothing has to be done"
        )
    what = (
        "serve the store as it is and keep its lineage, as nothing is missing"
        if parsed.lossless
        else "serve the store as it is, and outdate every cursor that is kept elsewhere"
    )
    async with changing(parsed, teller, database, what, timelines):
        done = await accept_rewind(
            database, is_lossless=parsed.lossless, written_to=parsed.written_to
        )
    teller.one({"timeline": done.timeline, "lineage": done.lineage})
    return Code.DONE
