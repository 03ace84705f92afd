"""The routes of the demos: parse, ask the counter or the desk of a tab, answer with a status.

A page without scripts sends the same by plain forms, and is led to one that says what came of it.

Rule: a repeat of what was done is answered as the first was, before anything is judged; what was
refused may be sent again (SITE-102).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import msgspec
from quart import Blueprint, Response, request

from actors.runtime import NoProc, Ref
from actors.timeline import Shown
from web.accounts.identity import member_of
from web.lab.demos.counter import DELTA_MAX, Add, Counters
from web.lab.demos.desk import PLAIN, Guard, Look, Replace, Show
from web.lab.demos.desk import Messages as DeskMessage
from web.lab.demos.errands import NOTHING, PLAIN_RUN_S, RUN_S, Told
from web.lab.demos.panels import PANELS, Asked, PanelParts, Rows, find
from web.realtime import Stream, StreamKey
from web.routing import paths
from web.routing.commands import Origin, read_command
from web.routing.decided import CommandKey, Decided
from web.routing.errors import (
    InvalidForm,
    InvalidInput,
    NoLiveStream,
    NoSuchThing,
    NotAvailable,
    RateLimited,
    Refused,
)
from web.routing.quota import Quota
from web.routing.services import Services
from web.server import RequestState, current_request_state
from web.site.pages import PAGE_DEMO, form_response, shell
from web.timeline.presenting import event_view
from web.views import (
    ErrandsPage,
    PairView,
    PanelPage,
    PanelView,
    ResultView,
    element_id,
    local_path,
)

COMMAND_ID_LENGTH_MAX = 128
# A person who presses each button a few times; each press may be a query.
ASKED_PER_SESSION_MAX = 60
# A class room behind one address.
ASKED_PER_ADDRESS_MAX = 240
ASKED_PERIOD_S = 60.0
# What is remembered of a command that was carried out; one that was refused may be sent again.
_DONE = "done"

PANEL_VIEWS = tuple(
    PanelView(element_id(name), panel.title, panel.choices) for name, panel in PANELS.items()
)


@dataclass(frozen=True, slots=True)
class DemoServices:
    """What the demos need beside the services of every feature."""

    counters: Counters
    panels: PanelParts
    # Each raises `NoProc` while its supervisor is being restarted.
    counter_of: Callable[[str], Ref[Add]]
    desk_of: Callable[[StreamKey], Ref[DeskMessage]]
    maybe_desk: Callable[[StreamKey], Ref[DeskMessage] | None]
    quota: Quota
    decided: Decided


class Counted(msgspec.Struct, frozen=True):
    """What the counter's buttons send; a plain form sends its number in letters."""

    command_id: str = msgspec.field(name="commandId")
    tab: str = msgspec.field(name="sseTabId")
    delta: int | str


class Clicked(msgspec.Struct, frozen=True):
    """What a button without anything to say sends."""

    command_id: str = msgspec.field(name="commandId")
    tab: str = msgspec.field(name="sseTabId")


class Asking(msgspec.Struct, frozen=True):
    """What a panel's button sends."""

    tab: str = msgspec.field(name="sseTabId")
    choice: str = ""


def demo_routes(services: Services, own: DemoServices) -> Blueprint:
    """Call this to get the routes of the demos."""
    routes = Blueprint("demos", __name__)

    @routes.post(paths.DEMO_COUNTER)
    async def count() -> Response:
        command, origin = await read_command(Counted, "demos")
        delta = _delta(command.delta, origin)
        return await _count(services, own, command.command_id, delta, origin)

    @routes.post(paths.DEMO_GUARDED)
    async def guarded() -> Response:
        return await _click(services, own, "guarded", Guard)

    @routes.post(paths.DEMO_CANCEL)
    async def cancel() -> Response:
        return await _click(services, own, "cancel", Replace)

    @routes.get(paths.DEMO_ERRANDS)
    async def errands_page() -> Response:
        told = await _told(services, own)
        return form_response(services.renderer.errands_page(_errands_page(services, own, told)))

    @routes.post(paths.DEMO_PANEL)
    async def ask(panel: str) -> Response:
        asking, origin = await read_command(Asking, "demos")
        state = current_request_state()
        asked = _asked(services, state, panel, asking.choice)
        stream = _shown_to(services, own, state, origin)
        own.quota.take(state.visitor.id, state.address)
        rows = await find(own.panels, panel, asked)
        show = Show(panel, state.request_id, partial(_rendered, services, panel, rows))
        # Told when the answer is out: what the request has led to is whole then.
        state.at_end.append(partial(own.desk_of(stream.key).tell, show))
        return _taken()

    @routes.get(paths.DEMO_PANEL)
    async def panel_page(panel: str) -> Response:
        state = current_request_state()
        choices = PANELS[panel].choices if panel in PANELS else ()
        asked = _asked(services, state, panel, request.args.get("choice", next(iter(choices), "")))
        own.quota.take(None if state.visitor.is_new else state.visitor.id, state.address)
        rows = await find(own.panels, panel, asked)
        page = PanelPage(
            shell=shell(services, state, PANELS[panel].title, PAGE_DEMO),
            panels=PANEL_VIEWS,
            title=PANELS[panel].title,
            result=_result(panel, rows, ()),
            back=local_path(paths.LAB_OPERATIONS),
        )
        return form_response(services.renderer.demo_page(page))

    return routes


# -- commands ------------------------------------------------------------------------------------


def _delta(given: int | str, origin: Origin) -> int:
    refused: type[Refused] = InvalidForm if origin.is_form else InvalidInput
    if isinstance(given, str):
        if not origin.is_form or given not in {"1", "-1"}:
            raise refused("a plain form counts one more or one less")
        given = int(given)
    if given == 0 or not -DELTA_MAX <= given <= DELTA_MAX:
        raise refused(f"a number is counted by 1 to {DELTA_MAX}, up or down")
    return given


async def _count(
    services: Services, own: DemoServices, command_id: str, delta: int, origin: Origin
) -> Response:
    state = current_request_state()

    async def decide() -> str:
        # A page without scripts has no stream; it is answered by the page.
        key = None if origin.is_form else _shown_to(services, own, state, origin).key
        counter = own.counter_of(state.visitor.text)
        if not await counter.ask(Add(delta, key), timeout=services.remaining(state)):
            raise NotAvailable("the tab cannot be told")
        return _DONE

    await own.decided.once(_key(state, "counter", command_id, origin), decide)
    return _see(paths.LAB_OPERATIONS) if origin.is_form else _taken()


async def _click(
    services: Services, own: DemoServices, route: str, kind: type[Guard | Replace]
) -> Response:
    command, origin = await read_command(Clicked, "demos")
    state = current_request_state()

    async def decide() -> str:
        if origin.is_form:
            # Nothing but this bounds how many desks one makes who has no stream.
            own.quota.take(state.visitor.id, state.address)
            key, run_s = _plain_key(state), PLAIN_RUN_S
        else:
            key, run_s = _shown_to(services, own, state, origin).key, RUN_S
        message = kind(state.request_id)
        taken = await own.desk_of(key).ask(message, timeout=services.remaining(state))
        if taken is None:
            raise NoLiveStream(origin.tab)
        if not taken:
            raise RateLimited(run_s)
        return _DONE

    await own.decided.once(_key(state, route, command.command_id, origin), decide)
    return _see(paths.DEMO_ERRANDS) if origin.is_form else _taken()


def _key(state: RequestState, route: str, command_id: str, origin: Origin) -> CommandKey:
    if not 1 <= len(command_id) <= COMMAND_ID_LENGTH_MAX:
        refused: type[Refused] = InvalidForm if origin.is_form else InvalidInput
        raise refused(f"a command has an id of 1 to {COMMAND_ID_LENGTH_MAX} characters")
    return CommandKey(state.visitor.id, route, command_id)


def _shown_to(services: Services, own: DemoServices, state: RequestState, origin: Origin) -> Stream:
    """The stream of the page that shows the demos; raises `NoLiveStream`."""
    stream = services.streams.maybe_stream(StreamKey(state.visitor.id, origin.tab))
    if stream is None or not own.counters.has(stream):
        raise NoLiveStream(origin.tab)
    return stream


def _taken() -> Response:
    return Response(b"", status=202, content_type=None)


def _see(path: str) -> Response:
    return Response(b"", status=303, headers={"location": path}, content_type=None)


# -- errands of pages without scripts ------------------------------------------------------------


def _plain_key(state: RequestState) -> StreamKey:
    return StreamKey(state.visitor.id, PLAIN)


async def _told(services: Services, own: DemoServices) -> Told:
    """What the visitor's errands have come to; who only looks makes no desk."""
    state = current_request_state()
    # It may leave in this very moment, or its supervisor may be restarting: then nothing runs.
    with suppress(NoProc):
        desk = own.maybe_desk(_plain_key(state))
        if desk is not None:
            return await desk.ask(Look(), timeout=services.remaining(state))
    return NOTHING


def _errands_page(services: Services, own: DemoServices, told: Told) -> ErrandsPage:
    state = current_request_state()
    return ErrandsPage(
        shell=shell(services, state, "Errands", PAGE_DEMO),
        at=own.panels.now(),
        message=told.message,
        status=told.status,
        counts=told.counts,
        run_s=round(PLAIN_RUN_S),
        tab_id=element_id(str(uuid4())),
        command_id=element_id(str(uuid4())),
        csrf=services.csrf_of(state),
        back=local_path(paths.LAB_OPERATIONS),
    )


# -- panels --------------------------------------------------------------------------------------


def _asked(services: Services, state: RequestState, panel: str, choice: str) -> Asked:
    if panel not in PANELS:
        raise NoSuchThing(panel)
    choices = PANELS[panel].choices
    if choices and choice not in choices:
        raise InvalidInput("this cannot be asked")
    return Asked(
        state=state,
        member=member_of(request.scope),
        choice=choice,
        method=request.method,
        user_agent=request.headers.get("user-agent", ""),
        tabs=tuple(services.streams.tabs(state.visitor.id)),
    )


def _result(panel: str, rows: Rows, trace: Iterable[Shown]) -> ResultView:
    pairs = tuple(PairView(name, value) for name, value in rows)
    return ResultView(element_id(panel), pairs, tuple(map(event_view, trace)))


def _rendered(services: Services, panel: str, rows: Rows, trace: tuple[Shown, ...]) -> str:
    return services.renderer.demo_panel(_result(panel, rows, trace))
