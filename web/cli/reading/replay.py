"""`greenroom replay`: how a state came to be what it is, event by event; read only."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import aclosing

from actors.persistence import EventStore, StreamId
from actors.sagas import SagaId
from web.cli.answering import Teller, moment_of
from web.cli.opening import open_store
from web.cli.reading.finding import find_aggregate
from web.cli.reading.folding import Fold, SagaFold, is_sagas
from web.cli.reading.log import (
    check_bounds_of,
    closing,
    known_stream,
    nothing_read,
    opened_log,
)
from web.cli.reading.showing import Row, as_text
from web.cli.reading.stepping import Keys, check_terminal, walk
from web.cli.reading.tape import Shower, Tape
from web.observability import Code, CommandFailed


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    check_bounds_of(parsed)
    as_of = moment_of(parsed.as_of)
    if parsed.step:
        check_terminal(is_json=teller.is_json)
    async with (
        open_store(environment) as database,
        opened_log(parsed, environment, database) as store,
    ):
        stream, version = await known_stream(store, parsed.stream)
        fold = await _fold_of(parsed, store, stream)
        shower = Shower(fold, parsed)
        tape = Tape(store, stream, fold, last=parsed.last, as_of=as_of)
        if parsed.step:
            async with aclosing(tape):
                with Keys() as keys:
                    return await walk(tape, shower, keys, teller, begin=parsed.first)
        return await _print(parsed, teller, tape, shower, version)


async def _fold_of(parsed: argparse.Namespace, store: EventStore, stream: StreamId) -> Fold:
    async with closing(store.load(stream, to_version=1)) as events:
        first = [stored async for stored in events]
    if is_sagas(first) and not parsed.modules:
        return SagaFold(SagaId.parse(stream))
    return find_aggregate(stream, parsed.modules)


async def _print(
    parsed: argparse.Namespace, teller: Teller, tape: Tape, shower: Shower, version: int
) -> int:
    state, at, problems, told = tape.fold.initial(), 0, 0, 0
    async with aclosing(tape):
        while (one := await tape.at(at + 1)) is not None:
            state, at = one.after, one.stored.version
            problems += bool(one.problem)
            if at >= parsed.first:
                told += 1
                teller.at_once(shower.row(one), shower.lines(one))
    if not at:
        teller.note(nothing_read(version) if parsed.as_of is None else "there was nothing yet")
    if not (shower.has_state and told):
        last: Row = {"stream": tape.stream, "version": at, "state": shower.state(state)}
        teller.at_once(last, [f"state at version {at}: {as_text(last['state'])}"])
    if problems:
        words = "events were" if problems > 1 else "event was"
        raise CommandFailed(
            Code.FAILED,
            f"{problems} {words} passed over: the states are those without",
            "What each says stands above",
        )
    return Code.DONE
