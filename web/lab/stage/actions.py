"""What a visitor may do to their sandbox, and in which order a command is refused.

Rule 1: a command names a place, never an actor: what is not in the own sandbox cannot be said
(LAB-90). Rule 2: a repeat is answered as the first was, whatever has happened since (SITE-102);
what was not decided, at a limit or in a closed lab, may be sent again. Rule 3: from looking whether
a command is new to having carried it out nobody waits, so two of one id are one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import msgspec
from quart import Blueprint, Response

from actors.accounts import TabId
from web.lab.sandbox.recording import Deed, Ledger
from web.lab.sandbox.sandboxes import NotNow, Sandbox, Sandboxes
from web.lab.sandbox.words import ABOVE, DESK, FLOOD_MAX, FLOOD_MIN, Place
from web.lab.stage.api import tree_json
from web.lab.stage.picture import StagePicture
from web.lab.stage.quota import LabQuota
from web.lab.switch import LabSwitch
from web.realtime import Stream, StreamKey
from web.routing import paths
from web.routing.commands import answer_by_status_only, parse_tab, read_command
from web.routing.decided import CommandKey, Decided
from web.routing.errors import (
    InvalidInput,
    LabClosed,
    NoLiveStream,
    NoSuchThing,
    NotPossible,
    RateLimited,
)
from web.routing.services import Services
from web.server import RequestState, current_request_state
from web.settings import LabMode
from web.views import NodesView

ACTIONS = frozenset({"crash", "kill", "flood"})
RESET = "reset"
# What an action came to.
DONE, NOT_POSSIBLE, OVER_QUOTA = "done", "not_possible", "over_quota"
FLOOD_DEFAULT = 500
COMMAND_ID_LENGTH_MAX = 128
# The panel with the site's own tree.
SITE = "site"
# The panel with what the visitor's own requests have caused.
OPERATIONS = "operations"
# The panel with the whole room.
CHAT = "chat"
# The panels that the lab's page can show; a page that says nothing shows the first.
PANELS = frozenset({"tree", SITE, CHAT, OPERATIONS, "burst", "connections", "sign-ins", "sagas"})


@dataclass(frozen=True, slots=True)
class StageServices:
    """What the stage needs beside the services of every feature."""

    sandboxes: Sandboxes
    picture: StagePicture
    switch: LabSwitch
    quota: LabQuota
    # What commands were answered, and what became of them for good.
    decided: Decided
    ledger: Ledger
    # Refusals are recorded as well, so many and no more: they cost nobody's own quota.
    refusals: LabQuota
    # Somebody looks at something else: its feeds are told.
    looks: Callable[[Stream, str], None]
    changed: Callable[[], None]
    # A visitor's sagas, as facts.
    sagas_of: Callable[[UUID], Awaitable[Sequence[Mapping[str, object]]]]
    # Who serves the site together; None where it is served by one process.
    nodes: Callable[[], NodesView | None] = lambda: None


class StageCommand(msgspec.Struct, frozen=True):
    """What a button of the stage sends."""

    command_id: str = msgspec.field(name="commandId")
    tab: str = msgspec.field(name="sseTabId")
    count: int = FLOOD_DEFAULT


class Looked(msgspec.Struct, frozen=True):
    """What a page shows now: a panel, and in the tree an actor."""

    tab: str = msgspec.field(name="sseTabId")
    panel: str = "tree"
    place: str = ""


def stage_routes(services: Services, stage: StageServices) -> Blueprint:
    """Call this to get the routes of the stage but for its actions on actors (`act`)."""
    routes = Blueprint("stage", __name__)

    @routes.post(paths.LAB_RESET)
    async def reset() -> Response:
        state = current_request_state()
        command, tab = await read_stage_command()
        answer_by_status_only()
        key = CommandKey(state.visitor.id, RESET, command.command_id)
        outcome = stage.decided.get(key)
        if outcome is None:
            refuse_closed(services, stage, state, tab)
            sandbox, deed = stage.sandboxes.of(state.visitor.id), Deed(RESET, DESK, 1)
            outcome = NOT_POSSIBLE
            if sandbox.is_own:
                take_quota(stage, state, sandbox, deed)
                outcome = DONE
                stage.sandboxes.reset(sandbox)
            settle(stage, state, key, sandbox, deed, outcome)
        return answer_of(outcome, DESK)

    @routes.post(paths.LAB_LOOK)
    async def look() -> Response:
        state = current_request_state()
        looked, origin = await read_command(Looked, "lab")
        answer_by_status_only()
        if looked.panel not in PANELS:
            raise InvalidInput("the lab has no such panel")
        place = Place(looked.place) if looked.place in ABOVE else None
        if looked.place and place is None:
            raise NoSuchThing(looked.place)
        stream = services.streams.maybe_stream(StreamKey(state.visitor.id, origin.tab))
        if stream is None or stream not in stage.sandboxes.viewers:
            raise NoLiveStream(origin.tab)
        if stage.sandboxes.viewers[stream].panel != looked.panel:
            stage.looks(stream, looked.panel)
        stage.sandboxes.look(stream, looked.panel, place)
        return _taken()

    @routes.get(paths.LAB_TREE)
    async def tree() -> Response:
        visitor = current_request_state().visitor.id
        sandbox, sagas = stage.sandboxes.of(visitor), await stage.sagas_of(visitor)
        told = tree_json(stage.sandboxes, sandbox, stage.nodes())
        body = msgspec.json.encode({**told, "sagas": sagas})
        headers = {"cache-control": "no-store"}
        return Response(body, content_type="application/json", headers=headers)

    return routes


async def read_stage_command() -> tuple[StageCommand, TabId]:
    """Call this to read what a button sends; raises `InvalidInput`."""
    command, origin = await read_command(StageCommand, "lab")
    if not 1 <= len(command.command_id) <= COMMAND_ID_LENGTH_MAX:
        raise InvalidInput("a command has an id of 1 to 128 characters")
    return command, parse_tab(origin.tab)


def act(
    services: Services, stage: StageServices, target: str, action: str, command: StageCommand
) -> Response:
    """Call this to do something to an actor of the visitor's own sandbox."""
    state = current_request_state()
    answer_by_status_only()
    if action not in ACTIONS or not FLOOD_MIN <= command.count <= FLOOD_MAX:
        raise InvalidInput("there is no such action, or its number is out of range")
    if target not in ABOVE:
        raise NoSuchThing(target)
    key = CommandKey(state.visitor.id, f"{action} {target}", command.command_id)
    outcome = stage.decided.get(key)
    if outcome is None:
        refuse_closed(services, stage, state, parse_tab(command.tab))
        sandbox, place = stage.sandboxes.of(state.visitor.id), Place(target)
        deed = Deed(action, place, command.count)
        outcome = NOT_POSSIBLE
        with suppress(NotNow):
            stage.sandboxes.check(sandbox, place, action, command.count)
            take_quota(stage, state, sandbox, deed)
            stage.sandboxes.act(sandbox, place, action, command.count)
            outcome = DONE
        settle(stage, state, key, sandbox, deed, outcome)
    return answer_of(outcome, target)


def take_quota(stage: StageServices, state: RequestState, sandbox: Sandbox, deed: Deed) -> None:
    """Call this before an action is carried out; raises `RateLimited`, and then records that."""
    try:
        stage.quota.take(state.visitor.id, state.address)
    except RateLimited:
        _record(stage, state, sandbox, deed, OVER_QUOTA)
        raise


def settle(
    stage: StageServices,
    state: RequestState,
    key: CommandKey,
    sandbox: Sandbox,
    deed: Deed,
    outcome: str,
) -> None:
    """Call this once a command is decided: it is remembered, recorded and shown."""
    stage.decided.put(key, outcome)
    _record(stage, state, sandbox, deed, outcome)
    stage.changed()


def answer_of(outcome: str, target: str) -> Response:
    """Call this to answer what was decided, now or when the command came first."""
    if outcome == NOT_POSSIBLE:
        raise NotPossible(target)
    return _taken()


def _record(
    stage: StageServices, state: RequestState, sandbox: Sandbox, deed: Deed, outcome: str
) -> None:
    if outcome != DONE:
        try:
            stage.refusals.take(state.visitor.id, state.address)
        except RateLimited:
            return
    user = None if state.signed_in is None else state.signed_in.user_id
    stage.ledger.note(sandbox.record, state.visitor.id, user, deed, outcome)


def refuse_closed(
    services: Services, stage: StageServices, state: RequestState, tab: TabId
) -> None:
    """Call this before a command is judged; raises `LabClosed`, or `NoLiveStream` for its tab."""
    if stage.switch.mode is not LabMode.PUBLIC:
        raise LabClosed(stage.switch.mode)
    if not has_stream(services, state.visitor.id, tab):
        raise NoLiveStream(tab)


def has_stream(services: Services, session: UUID, tab: TabId) -> bool:
    """Call this to learn whether a tab is live: what it does must be seen."""
    return services.streams.maybe_stream(StreamKey(session, tab)) is not None


def _taken() -> Response:
    return Response(b"", status=202, content_type=None)
