"""`greenroom saga`: which sagas there are, what each has done, and what a person decides of one.

All of it may run beside a site: a decision is an append at the version of the saga that it was
decided on, so whoever runs the saga reads it and goes on from there.

Rule 1: what is only read needs no class, for a log says what happened. A decision sends commands
and sets timers, and a picture is drawn of steps: for these the class that the saga runs by is
needed, from a module (`--import`).
"""

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import cast

from actors.persistence import EVENTS, InvalidTenant, StoredEvent
from actors.persistence.words import check_tenant
from actors.reducers import Environment
from actors.runtime import System, open_actors
from actors.sagas import (
    AnySaga,
    InvalidSagaId,
    InvalidSagaTransition,
    Saga,
    SagaActor,
    SagaAdministration,
    SagaDefinitionError,
    SagaError,
    SagaId,
    SagaIndex,
    SagaKinds,
    SagaParts,
    Sagas,
    Status,
    UnknownSaga,
    UnknownSagaKind,
    kind_graph,
    saga_facts,
)
from storage.postgres import (
    Database,
    PostgresEventStore,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    system_user,
)
from web.cli.answering import Teller
from web.cli.opening import OPERATION_S_MAX, changing, import_modules, open_store
from web.observability import Code, CommandFailed
from web.wiring.environment import SystemClock, SystemIds

_CODES: Mapping[type[SagaError], Code] = {
    UnknownSaga: Code.UNKNOWN,
    InvalidSagaTransition: Code.REFUSED,
    InvalidSagaId: Code.USAGE,
    SagaDefinitionError: Code.USAGE,
}


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    do = {"list": _list, "show": _show, "graph": _graph}.get(parsed.action, _decide)
    kinds = _kinds(parsed)
    async with open_store(environment) as database, open_actors() as system:
        try:
            return await do(parsed, teller, database, _desk(database, system, SagaKinds(*kinds)))
        except UnknownSagaKind as error:
            which = error.kind if error.version is None else f"{error.kind} v{error.version}"
            raise CommandFailed(
                Code.UNKNOWN,
                f"no class of a saga of kind {which} is known here; nothing was done",
                "Name the module that has it: --import MODULE",
            ) from error
        except SagaError as error:
            code = _CODES.get(type(error), Code.FAILED)
            raise CommandFailed(code, str(error).rstrip(".")) from error


def _desk(database: Database, system: System, kinds: SagaKinds) -> SagaAdministration:
    """Sagas without participants: commands and timers are stored, and another carries them out."""
    store = PostgresEventStore(database, inline=[SagaIndex()])
    parts = SagaParts(kinds, store, Environment(SystemClock(), SystemIds()))
    # A person waits, as for the store.
    sagas = Sagas(
        parts,
        lambda saga: system.begin(SagaActor, parts, saga.key),
        {},
        answer_s=OPERATION_S_MAX,
    )
    others = (PostgresProjections(database), PostgresTimers(database), PostgresOutbox(database))
    return SagaAdministration(sagas, store, *others)


def _kinds(parsed: argparse.Namespace) -> list[type[AnySaga]]:
    """The sagas that the named modules have, by their own names or others'."""
    found = [
        one
        for module in import_modules(getattr(parsed, "modules", ()))
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Saga) and one is not Saga
    ]
    return list(dict.fromkeys(found))


Do = Callable[[argparse.Namespace, Teller, Database, SagaAdministration], Awaitable[int]]


async def _list(
    parsed: argparse.Namespace, teller: Teller, _: Database, desk: SagaAdministration
) -> int:
    older_than = None if parsed.older_than is None else timedelta(seconds=parsed.older_than)
    status = None if parsed.status is None else Status(parsed.status)
    rows: list[dict[str, object]] = []
    listed = desk.list(parsed.kind, status, older_than, tenant=_tenant(parsed.tenant))
    async with aclosing(listed) as lines:
        async for line in lines:
            if len(rows) == parsed.limit:
                teller.note(f"there are more than {parsed.limit}; ask for a kind or a status")
                break
            rows.append(
                {
                    "saga": line.saga,
                    "status": line.status.value,
                    "step": line.step,
                    "version": line.version,
                    "parent": line.parent,
                    "started": line.started_at,
                    "changed": line.changed_at,
                    "reason": line.reason,
                }
            )
    teller.rows(rows, "no such saga")
    return Code.DONE


def _tenant(name: str | None) -> str | None:
    if name is not None:
        try:
            check_tenant(name)
        except InvalidTenant as error:
            raise CommandFailed(Code.USAGE, str(error).rstrip(".")) from error
    return name


async def _show(
    parsed: argparse.Namespace, teller: Teller, _: Database, desk: SagaAdministration
) -> int:
    view = await desk.show(SagaId.parse(parsed.saga))
    log: list[dict[str, object]] = [_event(stored) for stored in view.log]
    facts = dict(saga_facts(SagaId.parse(parsed.saga), view.state))
    steps = cast("Sequence[Mapping[str, object]]", facts.pop("steps"))
    timers: list[dict[str, object]] = [
        {"name": one.name, "due": one.due_at, "failures": one.failures, "error": one.last_error}
        for one in view.timers
    ]
    waiting: list[dict[str, object]] = [
        {"target": one.target, "key": one.key, "attempts": one.attempts, "error": one.last_error}
        for one in view.waiting
    ]
    if teller.is_json:
        teller.one({**facts, "steps": steps, "log": log, "timers": timers, "waiting": waiting})
        return Code.DONE
    teller.one(facts)
    teller.rows(steps, "no step has begun")
    teller.rows(log, "")
    teller.rows(timers, "no timer is open")
    teller.rows(waiting, "no message waits")
    return Code.DONE


# What an event is about. Data and results are the program's own, and may be private.
_TOLD = ("step", "attempt", "kind", "reason", "by", "signal")


def _event(stored: StoredEvent) -> dict[str, object]:
    facts = EVENTS.decode_all(stored)
    told = ", ".join(
        f"{name} {value}" for fact in facts for name in _TOLD if (value := getattr(fact, name, ""))
    )
    return {
        "version": stored.version,
        "event": stored.type,
        "at": stored.recorded_at,
        "told": told,
    }


async def _graph(
    parsed: argparse.Namespace, teller: Teller, _: Database, desk: SagaAdministration
) -> int:
    if "-" in parsed.saga:
        teller.text(await desk.graph(SagaId.parse(parsed.saga)))
        return Code.DONE
    for kind in _kinds(parsed):
        if kind.definition().kind == parsed.saga:
            teller.text(kind_graph(kind))
            return Code.DONE
    raise UnknownSagaKind(parsed.saga)


# What of the port each action is, and what it will do.
_DECISIONS: Mapping[str, tuple[str, str]] = {
    "retry-step": ("retry_step", "let {} go on where it is stuck"),
    "skip-step": ("skip_step", "let {} go on without the step or undo it is stuck at"),
    "compensate": ("force_compensate", "have all undone that {} has done"),
    "fail": ("mark_failed", "give {} up; what it has done stays as it is"),
}


async def _decide(
    parsed: argparse.Namespace, teller: Teller, database: Database, desk: SagaAdministration
) -> int:
    name, words = _DECISIONS[parsed.action]
    saga = SagaId.parse(parsed.saga)
    if not parsed.reason.strip():
        raise CommandFailed(Code.USAGE, "the reason is empty; nothing was done", "Say why")
    # Before anybody is asked: whether there is such a saga, and its class.
    await desk.graph(saga)
    decide = getattr(desk, name)
    async with changing(parsed, teller, database, words.format(saga), f"saga {saga}"):
        state = await decide(saga, system_user(), parsed.reason)
    facts = saga_facts(saga, state)
    teller.one({name: facts[name] for name in ("saga", "status", "stuck_at", "reason")})
    return Code.DONE
